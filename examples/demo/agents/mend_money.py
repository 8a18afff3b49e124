"""A scripted agent of the demo: makes ledger/money.py read and show every amount rightly."""

import sys

from craft import Edit, Repair, work

MONEY = "ledger/money.py"

REPAIRS = [
    Repair(
        "test_nonsense_is_refused",
        "accept only the shape of an amount",
        [
            Edit(
                MONEY,
                'Floats never touch them."""\n',
                'Floats never touch them."""\n\nimport re\n\n_AMOUNT = re.compile(r"(-?)(\\d+)(?:\\.(\\d{1,2}))?")\n',
            ),
            Edit(
                MONEY,
                '    whole, _, fraction = text.strip().partition(".")\n'
                "    return int(whole) * 100 + int(fraction or 0)\n",
                "    match = _AMOUNT.fullmatch(text.strip())\n"
                "    if match is None:\n"
                '        raise ValueError(f"{text.strip()!r} is not an amount")\n'
                "    sign, whole, fraction = match.groups()\n"
                "    return int(sign + whole) * 100 + int(fraction or 0)\n",
            ),
        ],
    ),
    Repair(
        "test_one_decimal_means_tens_of_cents",
        "fill the decimals up to two",
        [Edit(MONEY, "int(fraction or 0)", 'int((fraction or "").ljust(2, "0"))')],
    ),
    Repair(
        "test_cents_below_zero_keep_their_sign",
        "apply the sign to the whole amount, not to the part before the point",
        [
            Edit(MONEY, "    return int(sign + whole) * 100", "    cents = int(whole) * 100"),
            Edit(MONEY, '.ljust(2, "0"))\n', '.ljust(2, "0"))\n    return -cents if sign else cents\n'),
        ],
    ),
    Repair(
        "test_thousands_separators",
        "accept separators between groups of three digits",
        [
            Edit(MONEY, r"(-?)(\d+)", r"(-?)(\d{1,3}(?:,\d{3})+|\d+)"),
            Edit(MONEY, "int(whole)", 'int(whole.replace(",", ""))'),
        ],
    ),
    Repair(
        "test_amounts_below_zero",
        "divide the size of the amount, then put the sign before it",
        [
            Edit(
                MONEY,
                '    return f"{cents // 100:,}.{cents % 100:02d}"\n',
                '    sign = "-" if cents < 0 else ""\n'
                '    return f"{sign}{abs(cents) // 100:,}.{abs(cents) % 100:02d}"\n',
            )
        ],
    ),
]

if __name__ == "__main__":
    sys.exit(work(["tests.test_money"], REPAIRS))
