"""A Django application in one file. Each request takes the next number and stores it."""

import os

import django
from django.conf import settings

from pen import write_lock

DATABASE = os.environ["TICKETS_DATABASE"]
# Without this usual advice the transaction begins with the read and becomes a writing one
# later, which fails if another process wrote in between; and each request opens the
# database again.
USUAL_ADVICE = {
    "CONN_MAX_AGE": None,
    "OPTIONS": {
        "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
        "transaction_mode": "IMMEDIATE",
    },
}

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATABASE,
            **(USUAL_ADVICE if "TICKETS_ADVICE" in os.environ else {}),
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    LOGGING_CONFIG=None,
    MIDDLEWARE=["tickets.lock_writes"] if "TICKETS_LOCK" in os.environ else [],
    ROOT_URLCONF="tickets",
)
django.setup()

from django.db import models, transaction  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


class Ticket(models.Model):
    number = models.IntegerField(unique=True)
    owner = models.TextField()

    class Meta:
        app_label = "tickets"


@transaction.atomic
def take_ticket(request, owner):
    last = Ticket.objects.aggregate(last=models.Max("number"))["last"] or 0
    Ticket.objects.create(number=last + 1, owner=owner)
    return HttpResponse(str(last + 1))


urlpatterns = [path("take/<owner>", take_ticket)]


def lock_writes(get_response):
    """Middleware: a request that may write holds the lock until its transaction ended."""
    path = os.path.join(os.path.dirname(os.path.abspath(DATABASE)), "db.lock")

    def respond(request):
        if request.method in ("GET", "HEAD"):
            return get_response(request)
        with write_lock(path):
            return get_response(request)

    return respond
