import datetime
import unittest

from ledger import book

TEXT = """\
# comments and blank lines are left out
2025-12-03 Rent
    expenses:rent   650.00
    assets:bank    -650.00

2025-12-01 Opening balance
    assets:bank     900.00
    equity:opening -900.00
"""


class Books(unittest.TestCase):
    def test_transactions_are_in_the_order_of_their_dates(self):
        found = [transaction.description for transaction in book.read(TEXT).transactions]
        self.assertEqual(found, ["Opening balance", "Rent"])

    def test_balances_add_up_by_account(self):
        expected = {"assets:bank": 25000, "equity:opening": -90000, "expenses:rent": 65000}
        self.assertEqual(book.read(TEXT).balances(), expected)

    def test_postings_which_do_not_add_up_are_refused(self):
        with self.assertRaisesRegex(book.BookError, "Lunch: the postings are off by 5.00"):
            book.Transaction(datetime.date(2025, 12, 4), "Lunch", [("expenses:food", 1500), ("assets:bank", -1000)])

    def test_an_error_names_its_line(self):
        with self.assertRaisesRegex(book.BookError, "line 2: "):
            book.read("2025-12-03 Rent\n    expenses:rent lots\n")
