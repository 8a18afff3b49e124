"""Hints between processes: that something may have changed, never what.

A bus may lose, repeat, delay or merge hints; everything that waits for one also polls slowly. Nothing is decided
from a hint. Hints are sent only after the commit that made them true.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Topic(StrEnum):
    """What a hint is about; ``key`` narrows it."""

    WORK = "work"  #: an agent became ready; no key
    RUN = "run"  #: events were appended to the run; key: its run id
    STOP = "stop"  #: an attempt shall stop; key: the attempt's id


@dataclass(frozen=True, slots=True)
class Hint:
    topic: Topic
    key: str = ""


class Ear(Protocol):
    """A subscription."""

    async def wait(self, *, timeout_seconds: float) -> frozenset[Hint]:
        """The hints since the last call; waits for the first, at most the timeout (then empty).

        A broken connection is mended by itself; after a gap, one hint of each subscribed topic is
        returned, since some may have been lost.
        """
        ...


class Bus(Protocol):
    """Publish and listen."""

    async def publish(self, hints: Collection[Hint]) -> None:
        """Send. Failures are swallowed after being logged: a hint is not worth failing for."""
        ...

    def listen(self, topics: Collection[Topic]) -> AbstractAsyncContextManager[Ear]: ...
