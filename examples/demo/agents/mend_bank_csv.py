"""A scripted agent of the demo: makes ledger/bank_csv.py read the exports that banks really give."""

import sys

from craft import Edit, Repair, work

BANK = "ledger/bank_csv.py"

REPAIRS = [
    Repair(
        "test_a_byte_order_mark_is_no_part_of_the_columns",
        "drop the mark before looking at the columns",
        [Edit(BANK, "text.splitlines()", 'text.lstrip("\\ufeff").splitlines()')],
    ),
    Repair(
        "test_blank_lines_are_left_out",
        "leave blank lines out",
        [
            Edit(
                BANK,
                "enumerate(lines[1:], start=2):\n",
                "enumerate(lines[1:], start=2):\n        if not line.strip():\n            continue\n",
            )
        ],
    ),
    Repair(
        "test_quoted_commas_belong_to_the_text",
        "let the csv module split the line",
        [
            Edit(BANK, "import datetime\n", "import csv\nimport datetime\n"),
            Edit(BANK, 'line.split(",")', "next(csv.reader([line]))"),
        ],
    ),
    Repair(
        "test_day_first_dates",
        "read day-first dates too",
        [
            Edit(
                BANK,
                "    return datetime.date.fromisoformat(text)\n",
                '    if "." in text:\n'
                '        return datetime.datetime.strptime(text, "%d.%m.%Y").date()\n'
                "    return datetime.date.fromisoformat(text)\n",
            )
        ],
    ),
]

if __name__ == "__main__":
    sys.exit(work(["tests.test_bank_csv"], REPAIRS))
