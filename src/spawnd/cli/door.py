"""From a command's function into the system and back: settings, the event loop, the client."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

from spawnd import assembly
from spawnd.contracts.client import Client
from spawnd.settings import Settings

_T = TypeVar("_T")


def ask(question: Callable[[Client], Awaitable[_T]]) -> _T:
    """Open the client, ask, close."""
    settings = Settings.load()

    async def work() -> _T:
        async with assembly.open_client(settings) as client:
            return await question(client)

    return asyncio.run(work())


def log_to_stderr(*, verbose: bool = False) -> None:
    """Warnings of a worker as lines on standard error; with ``verbose`` what it does, too."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    logger = logging.getLogger("spawnd")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    # The driver tells each lost connection in several lines; what comes of it we tell ourselves, in one.
    logging.getLogger("psycopg").setLevel(logging.WARNING if verbose else logging.ERROR)


def default_slots() -> int:
    """How many agents at once when nobody says: agents mostly wait for a model, so more than there are cores."""
    return max(4, min(16, 2 * (os.cpu_count() or 2)))


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Lines(logging.Formatter):
    """``12:34:56 warning the message agent=x error=y``."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        words = " ".join(f"{name}={value}" for name, value in facts.items() if name != "trace")
        at = self.formatTime(record, "%H:%M:%S")
        line = f"{at} {record.levelname.lower()} {record.getMessage()} {words}".rstrip()
        trace = facts.get("trace") or (self.formatException(record.exc_info) if record.exc_info else "")
        return f"{line}\n{trace}".rstrip() if trace else line
