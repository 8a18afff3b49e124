"""What Codex prints, read from a program that plays it: events, usage, and how it ended."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from briefs import brief, ended, of, play, program, used

from spawnd.contracts.runtime import (
    Message,
    Notice,
    Raw,
    RuntimeEvent,
    SessionStarted,
    ToolEnded,
    ToolStarted,
    UsageReported,
)
from spawnd.domain.failures import FailureClass
from spawnd.runtimes.codex import CodexRuntime

STARTED = {"type": "thread.started", "thread_id": "t-1"}
SAID = {"type": "item.completed", "item": {"id": "i9", "type": "agent_message", "text": "done"}}
USAGE = {"input_tokens": 100, "cached_input_tokens": 40, "output_tokens": 7, "reasoning_output_tokens": 3}
COMPLETED = {"type": "turn.completed", "usage": USAGE}


async def run(path: Path, *lines: Any, code: int = 0, script: str = "", **fields: Any) -> list[RuntimeEvent]:
    told = brief(path, program=program(path, lines, code=code, script=script), **{"model": "gpt-5", **fields})
    return await play(CodexRuntime(), told)


def rollout(path: Path, *records: dict[str, Any], name: str = "t-1") -> str:
    """A script that writes the thread's file as codex does."""
    source = path / f"rollout-{name}"
    source.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    folder = '"$CODEX_HOME/sessions/2026/11/21"'
    return f'mkdir -p {folder}; cat "{source}" >> {folder}/rollout-2026-11-21T07-12-43-{name}.jsonl'


def counted(limits: dict[str, Any] | None = None, **totals: int) -> dict[str, Any]:
    payload = {"type": "token_count", "info": {"total_token_usage": totals}, "rate_limits": limits}
    return {"type": "event_msg", "payload": payload}


async def test_a_turn_that_completes(tmp_path: Path) -> None:
    events = await run(tmp_path, STARTED, {"type": "turn.started"}, SAID, COMPLETED)

    assert of(SessionStarted, events) == [SessionStarted("t-1", False, "1.2.3", "gpt-5")]
    assert of(Message, events) == [Message("assistant", "done")]
    assert (ended(events).failure, ended(events).final_message, ended(events).exit_code) == (None, "done", 0)
    assert (tmp_path / "stdin").read_text() == "do it"
    usage = used(events)
    assert (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens, usage.reasoning_tokens) == (
        60,
        40,
        7,
        3,
    )
    assert usage.cost_usd == Decimal("0.00015")


async def test_a_model_without_a_price_has_an_unknown_cost(tmp_path: Path) -> None:
    events = await run(tmp_path, STARTED, COMPLETED, model="gpt-unheard-of")

    assert (used(events).cost_usd, used(events).input_tokens) == (None, 60)


async def test_tool_calls_begin_and_end_once(tmp_path: Path) -> None:
    command = {"id": "i1", "type": "command_execution", "command": "ls"}
    mcp = {"id": "i2", "type": "mcp_tool_call", "tool": "find", "arguments": {"q": 1}}
    edit = {"id": "i3", "type": "file_change", "changes": [{"path": "a"}], "status": "completed"}
    ran = {"aggregated_output": "x" * 70_000, "exit_code": 2, "status": "failed"}

    events = await run(
        tmp_path,
        {"type": "item.started", "item": command},
        {"type": "item.updated", "item": command},
        {"type": "item.completed", "item": {**command, **ran}},
        {"type": "item.started", "item": mcp},
        {"type": "item.completed", "item": {**mcp, "error": {"message": "no"}}},
        {"type": "item.completed", "item": edit},
        COMPLETED,
    )

    assert [(one.call_id, one.name, one.input) for one in of(ToolStarted, events)] == [
        ("i1", "command_execution", {"command": "ls"}),
        ("i2", "find", {"q": 1}),
        ("i3", "file_change", {"changes": [{"path": "a"}]}),
    ]
    first, second, third = of(ToolEnded, events)
    assert first == ToolEnded("i1", "x" * 65536, True, 2)
    assert (second.call_id, second.is_error, third.is_error) == ("i2", True, False)


async def test_usage_is_read_along_in_the_threads_file(tmp_path: Path) -> None:
    model = {"type": "turn_context", "payload": {"model": "gpt-5-mini"}}
    file = rollout(
        tmp_path, model, counted(input_tokens=10, output_tokens=1), counted(input_tokens=1000, output_tokens=2)
    )

    events = await run(tmp_path, STARTED, SAID, code=1, script=file)

    assert (used(events).model, used(events).input_tokens, used(events).output_tokens) == ("gpt-5-mini", 1000, 2)


async def test_of_a_thread_that_is_resumed_only_what_is_new_is_this_attempts(tmp_path: Path) -> None:
    sessions = tmp_path / "state/codex/sessions/2026"
    sessions.mkdir(parents=True)
    before = counted(input_tokens=500, output_tokens=50)
    (sessions / "rollout-2026-11-20T00-00-00-t-1.jsonl").write_text(f"{json.dumps(before)}\n")
    total = {"type": "turn.completed", "usage": {"input_tokens": 800, "output_tokens": 60}}

    events = await run(tmp_path, STARTED, SAID, total, resume_session="t-1")

    assert of(SessionStarted, events)[0].resumed
    assert (used(events).input_tokens, used(events).output_tokens) == (300, 10)


async def test_a_thread_whose_files_are_gone_starts_anew_and_says_so(tmp_path: Path) -> None:
    events = await run(tmp_path, STARTED, COMPLETED, resume_session="t-0")

    assert "starts anew" in of(Notice, events)[0].message
    assert not of(SessionStarted, events)[0].resumed


@pytest.mark.parametrize(
    ("lines", "code", "class_", "words"),
    [
        ([{"type": "turn.failed", "error": {"message": "last status: 429 Too Many"}}], 1, FailureClass.QUOTA, "429"),
        ([{"type": "turn.failed", "error": {"message": "stream disconnected"}}], 1, FailureClass.NETWORK, "stream"),
        ([{"type": "turn.failed"}], 1, FailureClass.AGENT_ERROR, "the turn failed"),
        ([{"type": "error", "message": "401 Unauthorized"}], 1, FailureClass.AUTHENTICATION, "exit code 1"),
        ([SAID], 0, FailureClass.NETWORK, "before its turn was complete"),
        ([], 0, FailureClass.NETWORK, "it said nothing"),
        ([], 3, FailureClass.AGENT_ERROR, "exit code 3: it said nothing"),
        ([COMPLETED], 1, FailureClass.AGENT_ERROR, "exit code 1"),
    ],
)
async def test_how_a_turn_fails(tmp_path: Path, lines: list[Any], code: int, class_: FailureClass, words: str) -> None:
    failure = ended(await run(tmp_path, STARTED, *lines, code=code)).failure

    assert failure is not None
    assert (failure.failure_class, words in failure.message) == (class_, True), failure.message


async def test_what_it_says_on_standard_error_explains_an_early_end(tmp_path: Path) -> None:
    events = await run(tmp_path, code=1, script="echo 'Missing environment variable: X' >&2")

    failure = ended(events).failure
    assert failure is not None
    assert failure.failure_class is FailureClass.AUTHENTICATION
    assert Raw(b"Missing environment variable: X", "stderr") in events


async def test_the_reset_of_a_used_up_window_stands_in_the_threads_file(tmp_path: Path) -> None:
    limits = {
        "primary": {"used_percent": 40.0, "resets_at": 1795000000},
        "secondary": {"used_percent": 100.0, "resets_at": 1795276800},
    }
    failed = {"type": "turn.failed", "error": {"message": "You've hit your usage limit."}}

    events = await run(tmp_path, STARTED, failed, code=1, script=rollout(tmp_path, counted(limits, input_tokens=1)))

    failure = ended(events).failure
    assert failure is not None
    assert (failure.failure_class, failure.reset_at) == (FailureClass.QUOTA, datetime.fromtimestamp(1795276800, UTC))


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"",
        b"\xff\xfe",
        b"[]",
        b"5",
        b"null",
        b"{}",
        b'{"type": "thread.moved"}',
        b'{"type": 5}',
        b'{"type": {"a": 1}}',
        b'{"type": "item.completed"}',
        b'{"type": "item.completed", "item": {"id": "x", "type": "hologram"}}',
        b'{"type": "item.completed", "item": []}',
        b'{"type": "item.completed", "item": "x"}',
        b'{"type": "item.completed", "item": ["x"]}',
        b'{"type": "turn.completed", "usage": "x"}',
        b'{"type": "turn.completed", "usage": {"input_tokens": "many"}}',
        b'{"type": "turn.completed", "usage": {"input_tokens": null}}',
        b"[" * 100_000,
    ],
    ids=lambda line: line[:70].decode(errors="replace") or "empty",
)
async def test_a_line_that_makes_no_sense_is_kept_and_harms_nothing(tmp_path: Path, line: bytes) -> None:
    events = await run(tmp_path, STARTED, line, SAID, COMPLETED)

    assert Raw(line) in events
    assert (ended(events).failure, ended(events).final_message) == (None, "done")
    assert used(events).input_tokens == 60


@pytest.mark.parametrize(
    "line",
    ['{"type": "turn.failed", "error": "boom"}', '{"type": "turn.failed", "error": ["boom"]}'],
)
async def test_a_failure_of_an_unknown_shape_is_still_a_failure(tmp_path: Path, line: str) -> None:
    assert ended(await run(tmp_path, STARTED, line.encode(), code=1)).failure is not None


@pytest.mark.parametrize(
    "record",
    [
        {"payload": "token_count"},
        {"payload": {"type": "token_count", "info": "x"}},
        {"payload": {"type": "token_count", "info": {"total_token_usage": "x"}}},
        {"payload": {"type": "token_count", "rate_limits": "x"}},
        {"payload": {"type": "token_count", "rate_limits": {"primary": {"used_percent": 100, "resets_at": "soon"}}}},
        {"payload": {"type": "token_count", "rate_limits": {"primary": {"used_percent": "x"}}}},
        {"payload": {"type": "token_count", "rate_limits": {"primary": {"used_percent": 100, "resets_at": 1e300}}}},
    ],
    ids=json.dumps,
)
async def test_a_record_of_the_threads_file_that_makes_no_sense_harms_nothing(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    events = await run(tmp_path, STARTED, SAID, COMPLETED, script=rollout(tmp_path, record))

    assert (ended(events).failure, ended(events).final_message) == (None, "done")


async def test_a_program_that_is_not_there_is_a_failure_of_the_setup(tmp_path: Path) -> None:
    (event,) = await play(CodexRuntime(), brief(tmp_path))

    failure = ended([event]).failure
    assert failure is not None
    assert failure.failure_class is FailureClass.SETUP_FAILED
    assert not of(UsageReported, [event])
