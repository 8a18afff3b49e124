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


def grid(*columns: str, right: Sequence[str] = (), flexible: Sequence[str] = ()) -> Table:
    """An empty table. ``right`` columns are numbers; only ``flexible`` ones give way on a narrow screen."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=True,
            overflow="ellipsis" if name in flexible else "fold",
            min_width=8 if name in flexible else None,
            ratio=1 if name in flexible else None,
        )
    return table


def show(*columns: str, rows: Iterable[Sequence[Any]], right: Sequence[str] = (), flexible: Sequence[str] = ()) -> None:
    """A table of plain values."""
    table = grid(*columns, right=right, flexible=flexible)
    for row in rows:
        table.add_row(*(cell if hasattr(cell, "__rich__") or hasattr(cell, "plain") else str(cell) for cell in row))
    console().print(table)
