import unittest

from ledger import money


class Parsing(unittest.TestCase):
    def test_whole_amounts(self):
        self.assertEqual(money.parse("12"), 1200)
        self.assertEqual(money.parse(" -7 "), -700)

    def test_two_decimals(self):
        self.assertEqual(money.parse("12.34"), 1234)

    def test_one_decimal_means_tens_of_cents(self):
        self.assertEqual(money.parse("12.5"), 1250)

    def test_cents_below_zero_keep_their_sign(self):
        self.assertEqual(money.parse("-1.50"), -150)
        self.assertEqual(money.parse("-0.05"), -5)

    def test_thousands_separators(self):
        self.assertEqual(money.parse("1,234.50"), 123450)
        self.assertEqual(money.parse("-1,234,567.00"), -123456700)

    def test_nonsense_is_refused(self):
        for text in ("", "ten", "1.2.3", "1.234", "12.-5", "1,23.00"):
            with self.subTest(text=text), self.assertRaises(ValueError):
                money.parse(text)


class Showing(unittest.TestCase):
    def test_amounts_above_zero(self):
        self.assertEqual(money.show(123450), "1,234.50")

    def test_amounts_below_zero(self):
        self.assertEqual(money.show(-5), "-0.05")
        self.assertEqual(money.show(-123450), "-1,234.50")

    def test_what_is_shown_can_be_read_again(self):
        for cents in (0, 5, -5, 150, -150, 123456789, -123456789):
            with self.subTest(cents=cents):
                self.assertEqual(money.parse(money.show(cents)), cents)
