"""A scripted agent of the demo: builds `ledger import` on the mended parts, until the whole suite passes."""

import sys

from craft import Create, Edit, Repair, work

CLI = "ledger/cli.py"
IMPORTS = "ledger/imports.py"
REPORT = "ledger/report.py"

MODULE = '''\
"""Bank lines that enter a book."""

from ledger.book import Transaction


def new_transactions(book, lines, account, against="unsorted"):
    """The transactions that ``lines`` of a bank export add to ``account`` in ``book``."""
    found = []
    for line in lines:
        found.append(Transaction(line.date, line.text, [(account, line.cents), (against, -line.cents)]))
    return found
'''

COMMAND = """\
    importing = commands.add_parser("import", help="post a bank export to a book, each line once")
    importing.add_argument("book", type=Path)
    importing.add_argument("bank", type=Path)
    importing.add_argument("--account", required=True, help="the account that the export is of")
"""

BRANCH = """\
        if args.command == "import":
            lines = bank_csv.read(args.bank.read_text(encoding="utf-8"))
            new = imports.new_transactions(current, lines, args.account)
            with args.book.open("a", encoding="utf-8") as file:
                file.writelines(f"\\n{transaction.text()}\\n" for transaction in new)
            print(f"{len(new)} posted, {len(lines) - len(new)} known")
            current = book.Book([*current.transactions, *new])
            print(report.statement(current, args.account))
"""

REPAIRS = [
    Repair(
        "test_a_statement_has_a_running_balance",
        "add the balance after each move",
        [
            Edit(
                REPORT,
                '    """Every move of one account, oldest first."""\n    lines = []\n',
                '    """Every move of one account, oldest first, with the balance after it."""\n'
                "    lines, total = [], 0\n",
            ),
            Edit(
                REPORT,
                '        lines.append(f"{transaction.date.isoformat()}  {transaction.description:<28.28}'
                '  {money.show(cents):>12}")\n',
                "        total += cents\n"
                '        what = f"{transaction.date.isoformat()}  {transaction.description:<28.28}"\n'
                '        lines.append(f"{what}  {money.show(cents):>12}  {money.show(total):>12}")\n',
            ),
        ],
    ),
    Repair(
        "test_bank_lines_are_posted_against_unsorted",
        "build the command on bank_csv, money and book",
        [
            Create(IMPORTS, MODULE),
            Edit(CLI, "from ledger import book, report\n", "from ledger import bank_csv, book, imports, report\n"),
            Edit(CLI, '    statement.add_argument("account")\n', '    statement.add_argument("account")\n' + COMMAND),
            Edit(
                CLI,
                "    except (OSError, book.BookError)",
                BRANCH + "    except (OSError, bank_csv.BankError, book.BookError)",
            ),
        ],
    ),
    Repair(
        "test_importing_again_posts_nothing_twice",
        "leave out what the book knows already",
        [
            Edit(
                IMPORTS,
                '    """The transactions that ``lines`` of a bank export add to ``account`` in ``book``."""\n',
                '    """The transactions that ``lines`` of a bank export add to ``account`` in ``book``,'
                ' which may know some."""\n'
                "    known = {(transaction.date, transaction.description, cents)"
                " for transaction, cents in book.moves(account)}\n",
            ),
            Edit(
                IMPORTS,
                "    for line in lines:\n",
                "    for line in lines:\n        if line in known:\n            continue\n",
            ),
        ],
    ),
    Repair(
        "test_a_second_equal_payment_is_posted_too",
        "count equal lines, since a payment can happen twice on a day",
        [
            Edit(
                IMPORTS,
                '"""Bank lines that enter a book."""\n\nfrom',
                '"""Bank lines that enter a book."""\n\nfrom collections import Counter\n\nfrom',
            ),
            Edit(
                IMPORTS,
                "{(transaction.date, transaction.description, cents) for transaction, cents in book.moves(account)}",
                "Counter((transaction.date, transaction.description, cents)"
                " for transaction, cents in book.moves(account))",
            ),
            Edit(
                IMPORTS,
                "        if line in known:\n",
                "        if known[line]:\n            known[line] -= 1\n",
            ),
        ],
    ),
]

if __name__ == "__main__":
    sys.exit(work([], REPAIRS))
