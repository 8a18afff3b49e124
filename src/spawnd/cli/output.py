"""What commands print: JSON for programs, tables for people. Nothing else writes to standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

#: Wide enough that nothing is cut when nobody's screen sets the width.
_PIPED_WIDTH = 220
_GAP = 2
#: The last column is never cut below this, however narrow the screen.
_LEAST = 10


def line(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")


def note(text: str) -> None:
    """For the person, not for the pipe."""
    sys.stderr.write(f"{text}\n")


def document(value: BaseModel | dict[str, Any]) -> None:
    """One JSON document."""
    if isinstance(value, BaseModel):
        line(value.model_dump_json(indent=2))
    else:
        line(json.dumps(value, indent=2, default=str))


def json_line(value: BaseModel) -> None:
    """One JSON document on a line of its own, and out at once."""
    line(value.model_dump_json())
    sys.stdout.flush()


def console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPED_WIDTH
    return Console(stderr=stderr, width=width, highlight=False, emoji=False, markup=False)


def grid(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = (), width: int) -> Table:
    """A table whose last column gives way when the screen is narrow. Cells are text or rich's ``Text``."""
    from rich.table import Table

    cells = [[cell if hasattr(cell, "plain") else str(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    taken = 0
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if name in right else "left", no_wrap=True, overflow="fold")
        if number < len(columns) - 1:
            taken += max([len(name), *(len(row[number]) for row in cells)]) + _GAP
    # rich would shrink every column alike.
    room = max(_LEAST, width - taken - _GAP)
    for row in cells:
        last = row[-1]
        if isinstance(last, str) and len(last) > room:
            row[-1] = f"{last[: room - 1]}…"
        table.add_row(*row)
    return table


def show(*columns: str, rows: Iterable[Sequence[Any]], right: Sequence[str] = ()) -> None:
    """A table of plain values on standard output."""
    out = console()
    out.print(grid(columns, rows, right=right, width=out.width))
