"""Any program as an agent: what it prints, reports and ends with."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from briefs import brief, ended, of, play, used

from spawnd.contracts.runtime import Message, Notice, Raw, RuntimeEvent, SessionStarted, ToolEnded, ToolStarted
from spawnd.contracts.sandbox import Boundary
from spawnd.domain.failures import FailureClass
from spawnd.process.orphans import marked
from spawnd.runtimes.command import CommandRuntime
from spawnd.sandboxes.none import NoSandbox


async def run(path: Path, command: str | list[str], **fields: Any) -> list[RuntimeEvent]:
    return await play(CommandRuntime(), brief(path, options={"command": command}, **fields))


async def reported(path: Path, *reports: Any, code: int = 0) -> list[RuntimeEvent]:
    """A program that prints these ``::spawnd`` lines: objects, or the words as they stand."""
    lines = [f"::spawnd {one if isinstance(one, str) else json.dumps(one)}" for one in reports]
    (path / "lines").write_text("\n".join([*lines, "said", ""]))
    return await run(path, f"cat '{path}/lines'; exit {code}")


async def test_what_it_prints_is_its_transcript_and_the_last_line_its_message(tmp_path: Path) -> None:
    events = await run(tmp_path, "echo one; echo; echo two; echo err >&2; echo; printf three")

    assert [event.text for event in of(Message, events)] == ["one", "two", "three"]
    assert of(Raw, events)[-1] == Raw(b"err", "stderr")
    assert [event.line for event in of(Raw, events)[:-1]] == [b"one", b"", b"two", b"", b"three"]
    assert (ended(events).failure, ended(events).final_message, ended(events).exit_code) == (None, "three", 0)


async def test_a_list_is_run_as_it_is_and_a_string_by_the_shell(tmp_path: Path) -> None:
    assert ended(await run(tmp_path, ["echo", "$HOME;", "a  b"])).final_message == "$HOME;  a  b".replace(";  ", "; ")
    assert ended(await run(tmp_path, "x=1; echo $((x + 1))")).final_message == "2"


async def test_it_finds_its_prompt_and_what_it_may_do(tmp_path: Path) -> None:
    command = 'cat "$SPAWND_PROMPT_FILE"; stat -c %a "$SPAWND_PROMPT_FILE"; echo "$SPAWND_WRITE_ALLOWED $GIVEN"; pwd'
    events = await run(tmp_path, command, system_prompt="be good", write_allowed=False, env={"GIVEN": "x"})

    said = [event.text for event in of(Message, events)]
    assert said == ["be good", "do it", "600", "0 x", str(tmp_path / "workspace")]


async def test_a_session_is_handed_back(tmp_path: Path) -> None:
    assert of(SessionStarted, await reported(tmp_path, {"type": "session", "id": "s-1"})) == [SessionStarted("s-1")]
    resumed = await run(tmp_path, 'echo "$SPAWND_RESUME_SESSION"', resume_session="s-1")
    assert ended(resumed).final_message == "s-1"
    assert ended(await run(tmp_path, 'echo "${SPAWND_RESUME_SESSION-none}"')).final_message == "none"


@pytest.mark.parametrize(
    ("script", "class_", "words"),
    [
        ("exit 1", FailureClass.AGENT_ERROR, "ended with exit code 1"),
        ("echo why >&2; echo not; exit 2", FailureClass.AGENT_ERROR, "exit code 2: why"),
        ("echo said; exit 3", FailureClass.AGENT_ERROR, "exit code 3: said"),
        ("exit 75", FailureClass.NETWORK, "exit code 75"),
        ("exec spawnd-nope", FailureClass.AGENT_ERROR, "exit code 127"),
        ("kill -9 $$", FailureClass.AGENT_ERROR, "killed by signal 9"),
    ],
)
async def test_how_it_ends_is_told(tmp_path: Path, script: str, class_: FailureClass, words: str) -> None:
    failure = ended(await run(tmp_path, script)).failure

    assert failure is not None
    assert (failure.failure_class, words in failure.message) == (class_, True), failure.message


async def test_usage_and_tools_are_reported(tmp_path: Path) -> None:
    usage = {"input_tokens": 10, "cached_input_tokens": 5, "output_tokens": 3, "cost_usd": 0.1, "model": "m"}
    tool = {"type": "tool", "name": "ls", "input": {"path": "."}, "output": "x" * 70_000, "is_error": True}

    events = await reported(tmp_path, {"type": "usage", **usage}, tool, {"type": "tool", "name": "cat"})

    assert used(events).cost_usd == Decimal("0.1")
    assert (used(events).input_tokens, used(events).cached_input_tokens, used(events).model) == (10, 5, "m")
    started, other = of(ToolStarted, events)
    assert (started.name, started.input) == ("ls", {"path": "."})
    assert started.call_id != other.call_id
    assert of(ToolEnded, events)[0] == ToolEnded(started.call_id, "x" * 65536, True)


async def test_usage_without_a_cost_is_of_unknown_cost_and_not_free(tmp_path: Path) -> None:
    events = await reported(tmp_path, {"type": "usage", "input_tokens": 1})

    assert (used(events).cost_usd, used(events).cost_source) == (None, "none")


async def test_a_quota_parks_only_what_also_fails(tmp_path: Path) -> None:
    quota = {"type": "quota", "message": "no more", "reset_at": "2026-11-24T15:00:00+00:00"}

    failure = ended(await reported(tmp_path, quota, code=1)).failure

    assert failure is not None
    assert (failure.failure_class, failure.message) == (FailureClass.QUOTA, "no more")
    assert failure.reset_at == datetime(2026, 11, 24, 15, tzinfo=UTC)
    assert ended(await reported(tmp_path, quota)).failure is None
    unknown = ended(await reported(tmp_path, {"type": "quota"}, code=1)).failure
    assert unknown is not None
    assert (unknown.failure_class, unknown.reset_at) == (FailureClass.QUOTA, None)


@pytest.mark.parametrize(
    "report",
    [
        "not json",
        "",
        "[]",
        "5",
        "null",
        '"usage"',
        "{}",
        '{"type": "moon"}',
        '{"type": ["usage"]}',
        '{"type": "session"}',
        '{"type": "tool"}',
        '{"type": "notice"}',
        '{"type": "usage", "input_tokens": "many"}',
        '{"type": "usage", "input_tokens": null}',
        '{"type": "usage", "input_tokens": 1e999}',
        '{"type": "usage", "input_tokens": -5}',
        '{"type": "usage", "cost_usd": "lots"}',
        '{"type": "usage", "cost_usd": "NaN"}',
        '{"type": "usage", "cost_usd": "Infinity"}',
        '{"type": "usage", "cost_usd": -1}',
        '{"type": "quota", "reset_at": "soon"}',
        '{"type": "quota", "reset_at": 5}',
        '{"type": "quota", "reset_at": "2026-11-24T15:00:00"}',
        "[" * 100_000,
    ],
    ids=lambda report: report[:60] or "empty",
)
async def test_a_report_that_makes_no_sense_is_noticed_and_harms_nothing(tmp_path: Path, report: str) -> None:
    events = await reported(tmp_path, report)

    assert len(of(Notice, events)) == 1
    assert not of(SessionStarted, events) + of(ToolStarted, events)
    assert (ended(events).failure, ended(events).final_message) == (None, "said")
    with pytest.raises(IndexError):
        used(events)


async def test_of_very_many_messages_the_transcript_has_them_all(tmp_path: Path) -> None:
    events = await run(tmp_path, "seq 1 1000")

    assert len(of(Message, events)) == 200
    assert len(of(Raw, events)) == 1000
    assert ended(events).final_message == "1000"


async def test_bytes_that_are_no_text_are_kept_raw_and_shown_replaced(tmp_path: Path) -> None:
    events = await run(tmp_path, "printf 'a\\377b\\n'")

    assert of(Raw, events)[0].line == b"a\xffb"
    assert ended(events).final_message == "a\ufffdb"


async def test_cancelling_ends_the_program_and_says_nothing_more(tmp_path: Path) -> None:
    told = brief(tmp_path, options={"command": "sleep 300 & echo up; wait"}, env={"SPAWND_ATTEMPT_MARK": str(tmp_path)})
    events: list[RuntimeEvent] = []
    up = asyncio.Event()

    async def work() -> None:
        async with NoSandbox().open(Boundary(told.workspace)) as room:
            async for event in CommandRuntime().run(told, room):
                events.append(event)
                up.set()

    task = asyncio.create_task(work())
    await up.wait()
    await asyncio.sleep(0)
    assert marked(str(tmp_path))
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert time.monotonic() - started < 5
    assert not marked(str(tmp_path))
    assert all(isinstance(event, Raw | Message) for event in events)
