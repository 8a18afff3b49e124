"""Colours and units, for people. Colours only on a terminal, and never with NO_COLOR."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from decimal import Decimal

#: How each state looks, wherever it is shown.
STATE_STYLE = {
    "completed": "green",
    "running": "cyan",
    "ready": "blue",
    "queued": "blue",
    "blocked": "bright_black",
    "waiting": "yellow",
    "paused": "yellow",
    "failed": "red",
    "timed_out": "red",
    "cost_exceeded": "red",
    "cancelled": "magenta",
    "skipped": "bright_black",
}


def red(text: str) -> str:
    return _coloured(text, "31;1")


def dim(text: str) -> str:
    return _coloured(text, "2")


def _coloured(text: str, code: str) -> str:
    if os.environ.get("NO_COLOR") or not sys.stderr.isatty():
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3m 05s``, ``2h 07m``, ``3d 4h``."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h {whole % 3600 // 60:02}m"
    return f"{whole // 86400}d {whole % 86400 // 3600}h"


def elapsed(start: datetime | None, end: datetime | None) -> str:
    """From ``start`` to ``end``, or to now."""
    if start is None:
        return ""
    return duration(((end or datetime.now(UTC)) - start).total_seconds())


def money(amount: Decimal, *, unknown: bool = False) -> str:
    """US dollars; ``?`` where a part of the cost is not known."""
    if unknown and not amount:
        return "?"
    text = f"${amount:.2f}" if amount >= 1 or not amount else f"${amount:.4f}".rstrip("0")
    return f"{text}+?" if unknown else text


def size(count: int) -> str:
    """Bytes: ``812 B``, ``14.2 kB``, ``3.0 MB``."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
