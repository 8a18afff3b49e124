"""Events, as lines of JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from spawnd.wire.runs import Document


class EventRow(Document):
    """A fact about a run. ``seq`` counts 1, 2, 3 … without gaps within the run."""

    seq: int
    at: datetime
    type: str
    agent: str | None
    attempt: int | None
    data: dict[str, Any]
