"""The command line: ``python3 -m ledger COMMAND``."""

import argparse
import sys
from pathlib import Path

from ledger import book, report


def main(argv):
    """Run one command; returns the exit code: 0 done, 1 the file cannot be used, 2 the command is wrong."""
    parser = argparse.ArgumentParser(prog="ledger", description="Double-entry bookkeeping in plain text.")
    commands = parser.add_subparsers(dest="command", required=True)

    balance = commands.add_parser("balance", help="what each account holds")
    balance.add_argument("book", type=Path)
    statement = commands.add_parser("statement", help="every move of one account")
    statement.add_argument("book", type=Path)
    statement.add_argument("account")

    args = parser.parse_args(argv)
    try:
        current = book.read(args.book.read_text(encoding="utf-8"))
        if args.command == "balance":
            print(report.balance(current))
        if args.command == "statement":
            print(report.statement(current, args.account))
    except (OSError, book.BookError) as error:
        print(f"ledger: {error}", file=sys.stderr)
        return 1
    return 0
