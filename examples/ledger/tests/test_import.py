import contextlib
import io
import tempfile
import unittest
from pathlib import Path

from ledger import book
from ledger.cli import main

BOOK = """\
2025-12-01 Opening balance
    assets:bank        1,000.00
    equity:opening    -1,000.00
"""
BANK = """\
\ufeffdate,text,amount
2025-12-05,"Grocer, main street",-45.90

06.12.2025,Refund,"1,012.5"
"""


class Import(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.book = Path(folder.name) / "book.txt"
        self.bank = Path(folder.name) / "bank.csv"
        self.book.write_text(BOOK, encoding="utf-8")
        self.bank.write_text(BANK, encoding="utf-8")

    def run_import(self):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(["import", str(self.book), str(self.bank), "--account", "assets:bank"])
            except SystemExit as stop:
                code = stop.code
        self.assertEqual((code, err.getvalue()), (0, ""))
        return out.getvalue()

    def balances(self):
        return book.read(self.book.read_text(encoding="utf-8")).balances()

    def test_bank_lines_are_posted_against_unsorted(self):
        self.assertEqual(self.run_import().splitlines()[0], "2 posted, 0 known")
        expected = {"assets:bank": 196660, "equity:opening": -100000, "unsorted": -96660}
        self.assertEqual(self.balances(), expected)

    def test_importing_again_posts_nothing_twice(self):
        self.run_import()
        before = self.balances()

        self.assertEqual(self.run_import().splitlines()[0], "0 posted, 2 known")
        self.assertEqual(self.balances(), before)

    def test_a_second_equal_payment_is_posted_too(self):
        self.bank.write_text("date,text,amount\n" + "2025-12-07,Coffee,-3.20\n", encoding="utf-8")
        self.run_import()
        self.bank.write_text("date,text,amount\n" + "2025-12-07,Coffee,-3.20\n" * 2, encoding="utf-8")

        self.assertEqual(self.run_import().splitlines()[0], "1 posted, 1 known")
        self.assertEqual(self.balances()["unsorted"], 640)

    def test_the_statement_is_shown_with_its_new_balance(self):
        self.assertTrue(self.run_import().splitlines()[-1].endswith("1,966.60"))
