import datetime
import unittest

from ledger import bank_csv

DAY = datetime.date(2025, 12, 5)


class Exports(unittest.TestCase):
    def read(self, *lines):
        return bank_csv.read("\n".join(["date,text,amount", *lines]) + "\n")

    def test_plain_lines(self):
        self.assertEqual(self.read("2025-12-05,Grocer,45.90"), [bank_csv.BankLine(DAY, "Grocer", 4590)])

    def test_quoted_commas_belong_to_the_text(self):
        self.assertEqual(self.read('2025-12-05,"Grocer, main street",45.90')[0].text, "Grocer, main street")

    def test_blank_lines_are_left_out(self):
        self.assertEqual(len(self.read("2025-12-05,Grocer,45.90", "", "2025-12-06,Baker,3.20", "")), 2)

    def test_day_first_dates(self):
        self.assertEqual(self.read("05.12.2025,Grocer,45.90")[0].date, DAY)

    def test_a_byte_order_mark_is_no_part_of_the_columns(self):
        self.assertEqual(len(bank_csv.read("\ufeffdate,text,amount\n2025-12-05,Grocer,45.90\n")), 1)

    def test_other_columns_are_refused(self):
        with self.assertRaisesRegex(bank_csv.BankError, "line 1: the columns must be date,text,amount"):
            bank_csv.read("when,what,how much\n")

    def test_an_error_names_its_line(self):
        with self.assertRaisesRegex(bank_csv.BankError, "line 3: "):
            self.read("2025-12-05,Grocer,45.90", "someday,Baker,3.20")
