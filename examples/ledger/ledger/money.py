"""Amounts of money, as whole cents. Floats never touch them."""


def parse(text):
    """Cents for an amount as people write it: ``12``, ``-0.05``, ``1,234.50``. Raises ValueError for anything else."""
    whole, _, fraction = text.strip().partition(".")
    return int(whole) * 100 + int(fraction or 0)


def show(cents):
    """The amount with two decimals and thousands separators: ``-1,234.50``."""
    return f"{cents // 100:,}.{cents % 100:02d}"
