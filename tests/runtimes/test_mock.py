"""The runtime that plays a script ends the way it is told."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from briefs import brief, ended, of, play, used

from spawnd.contracts.runtime import Finished, RuntimeEvent, SessionStarted
from spawnd.contracts.sandbox import Boundary
from spawnd.domain.failures import FailureClass
from spawnd.runtimes.mock import MockRuntime
from spawnd.sandboxes.none import NoSandbox


async def run(path: Path, *, attempt: int = 1, resume_session: str | None = None, **options: Any) -> list[RuntimeEvent]:
    told = brief(path, attempt=attempt, resume_session=resume_session, model="m", options={"seconds": 0, **options})
    return await play(MockRuntime(), told)


async def test_success_writes_its_files_and_says_its_message(tmp_path: Path) -> None:
    events = await run(tmp_path, write={"a/b.txt": "B"}, message="made b")

    assert (ended(events).failure, ended(events).final_message) == (None, "made b")
    assert (tmp_path / "workspace/a/b.txt").read_text() == "B"


@pytest.mark.parametrize(
    ("outcome", "class_"),
    [
        ("failed", FailureClass.AGENT_ERROR),
        ("quota", FailureClass.QUOTA),
        ("payment", FailureClass.PAYMENT),
        ("auth", FailureClass.AUTHENTICATION),
        ("overload", FailureClass.OVERLOAD),
        ("network", FailureClass.NETWORK),
        ("timeout", FailureClass.TIMEOUT),
    ],
)
async def test_each_failure_is_of_its_class_and_writes_nothing(
    tmp_path: Path, outcome: str, class_: FailureClass
) -> None:
    failure = ended(await run(tmp_path, outcomes=[outcome], write={"a": "A"})).failure

    assert failure is not None
    assert (failure.failure_class, failure.reset_at) == (class_, None)
    assert not (tmp_path / "workspace/a").exists()


async def test_a_quota_knows_its_reset_if_it_is_told(tmp_path: Path) -> None:
    before = datetime.now(UTC)

    failure = ended(await run(tmp_path, outcomes=["quota"], reset_after_seconds=90)).failure

    assert failure is not None
    assert failure.reset_at is not None
    assert timedelta(0) <= failure.reset_at - before - timedelta(seconds=90) < timedelta(seconds=30)


async def test_each_attempt_takes_the_next_outcome_and_the_last_stays(tmp_path: Path) -> None:
    outcomes = ["failed", "network", "completed"]

    failures = [ended(await run(tmp_path, attempt=number, outcomes=outcomes)).failure for number in (1, 2, 3, 4)]

    assert [failure and failure.failure_class for failure in failures] == [
        FailureClass.AGENT_ERROR,
        FailureClass.NETWORK,
        None,
        None,
    ]


async def test_a_crash_is_a_crash(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="told to crash"):
        await run(tmp_path, outcomes=["crash"])


async def test_a_hang_lasts_until_it_is_cancelled(tmp_path: Path) -> None:
    events: list[RuntimeEvent] = []
    told = brief(tmp_path, options={"hang": True})
    with pytest.raises(TimeoutError):
        async with NoSandbox().open(Boundary(told.workspace)) as room, asyncio.timeout(0.2):
            async for event in MockRuntime().run(told, room):
                events.append(event)

    assert events
    assert not of(Finished, events)


async def test_usage_is_as_told(tmp_path: Path) -> None:
    usage = used(await run(tmp_path, input_tokens=3, output_tokens=4, cost_usd="0.25"))

    assert (usage.input_tokens, usage.output_tokens, usage.cost_usd, usage.model) == (3, 4, Decimal("0.25"), "m")


async def test_a_session_is_resumed_if_there_is_one(tmp_path: Path) -> None:
    (first,) = of(SessionStarted, await run(tmp_path))
    (second,) = of(SessionStarted, await run(tmp_path, resume_session=first.session_id))

    assert (first.resumed, second.resumed, second.session_id) == (False, True, first.session_id)


async def test_it_writes_nowhere_else(tmp_path: Path) -> None:
    with pytest.raises(PermissionError):
        await run(tmp_path, write={"../outside": "x"})

    assert not (tmp_path / "outside").exists()
