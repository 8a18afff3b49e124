import unittest

from ledger import book, report

BOOK = book.read("""\
2025-12-01 Opening balance
    assets:bank        900
    equity:opening    -900

2025-12-03 Rent
    expenses:rent      650
    assets:bank       -650
""")


class Reports(unittest.TestCase):
    def test_the_balance_lists_accounts_and_a_total_of_zero(self):
        lines = [line.split() for line in report.balance(BOOK).splitlines()]
        expected = [["assets:bank", "250.00"], ["equity:opening", "-900.00"], ["expenses:rent", "650.00"]]
        self.assertEqual(lines, [*expected, ["total", "0.00"]])

    def test_a_statement_has_a_running_balance(self):
        lines = [line.split()[-2:] for line in report.statement(BOOK, "assets:bank").splitlines()]
        self.assertEqual(lines, [["900.00", "900.00"], ["-650.00", "250.00"]])
