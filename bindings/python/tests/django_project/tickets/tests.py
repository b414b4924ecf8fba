"""Tests as a Django project has them; ``test_django.py`` runs them."""

from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, TransactionTestCase

from tickets.models import Ticket, take


class Tickets(TestCase):
    @classmethod
    def setUpTestData(cls):
        User.objects.create_user("someone")

    def test_numbers_follow(self):
        self.assertEqual([take("a"), take("b")], [1, 2])

    def test_each_test_begins_anew(self):
        self.assertEqual(Ticket.objects.count(), 0)
        self.assertEqual(User.objects.count(), 1)

    def test_a_savepoint_is_rolled_back(self):
        take("a")
        with self.assertRaises(IntegrityError), transaction.atomic():
            Ticket.objects.create(number=1, owner="b")
        self.assertEqual(Ticket.objects.count(), 1)

    def test_on_commit(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            transaction.on_commit(lambda: None)
        self.assertEqual(len(callbacks), 1)


class Transactions(TransactionTestCase):
    def test_a_transaction_is_rolled_back(self):
        with self.assertRaises(ZeroDivisionError), transaction.atomic():
            take("a")
            raise ZeroDivisionError
        self.assertEqual(Ticket.objects.count(), 0)

    def test_vendor(self):
        self.assertEqual(connection.vendor, "sqlite")
