"""Bank exports: CSV files with the columns date, text and amount, in the shapes that banks give them."""

import datetime
from collections import namedtuple

from ledger import money

BankLine = namedtuple("BankLine", ["date", "text", "cents"])


class BankError(Exception):
    """An export that cannot be read; the message names the line."""


def read(text):
    """The lines of an export, in its order. Raises BankError."""
    lines = text.splitlines()
    if not lines or lines[0] != "date,text,amount":
        raise BankError("line 1: the columns must be date,text,amount")
    found = []
    for number, line in enumerate(lines[1:], start=2):
        try:
            date, description, amount = line.split(",")
            found.append(BankLine(_date(date), description, money.parse(amount)))
        except ValueError as error:
            raise BankError(f"line {number}: {error}") from None
    return found


def _date(text):
    return datetime.date.fromisoformat(text)
