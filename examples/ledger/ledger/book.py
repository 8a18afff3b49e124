"""Books: transactions of postings which add up to zero, and the accounts that they move."""

import datetime
from collections import defaultdict

from ledger import money


class BookError(Exception):
    """A book, or something about to enter it, that cannot stand as it is."""


class Transaction:
    """Something that happened on a day. ``postings`` are pairs of account and cents which add up to zero."""

    def __init__(self, date, description, postings):
        total = sum(cents for _, cents in postings)
        if total:
            raise BookError(f"{date} {description}: the postings are off by {money.show(total)}")
        if len(postings) < 2:
            raise BookError(f"{date} {description}: it needs at least two postings")
        self.date = date
        self.description = description
        self.postings = postings

    def text(self):
        """The transaction as it stands in a book."""
        width = max(len(account) for account, _ in self.postings)
        lines = [f"    {account:<{width}}  {money.show(cents):>12}" for account, cents in self.postings]
        return "\n".join([f"{self.date.isoformat()} {self.description}", *lines])


class Book:
    """Transactions in the order of their dates."""

    def __init__(self, transactions=()):
        self.transactions = sorted(transactions, key=lambda transaction: transaction.date)

    def balances(self):
        """Cents by account, of every account that was ever moved."""
        totals = defaultdict(int)
        for transaction in self.transactions:
            for account, cents in transaction.postings:
                totals[account] += cents
        return dict(totals)

    def moves(self, account):
        """Pairs of transaction and cents for everything that moved ``account``, oldest first."""
        return [
            (transaction, cents)
            for transaction in self.transactions
            for name, cents in transaction.postings
            if name == account
        ]


def read(text):
    """A book from its text. Raises BookError which names the line."""
    transactions, head, postings = [], None, []

    def close():
        if head is not None:
            transactions.append(Transaction(*head, postings))

    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            if line[0].isspace():
                account, amount = line.split()
                postings.append((account, money.parse(amount)))
            else:
                close()
                day, description = line.split(" ", 1)
                head, postings = (datetime.date.fromisoformat(day), description.strip()), []
        except ValueError as error:
            raise BookError(f"line {number}: {error}") from None
    close()
    return Book(transactions)
