from django.db import models, transaction


class Ticket(models.Model):
    number = models.IntegerField(unique=True)
    owner = models.TextField()


@transaction.atomic
def take(owner: str) -> int:
    """Reads the last number and stores the next one: it must not be lost in between."""
    last = Ticket.objects.aggregate(last=models.Max("number"))["last"] or 0
    Ticket.objects.create(number=last + 1, owner=owner)
    return int(last) + 1
