"""What Claude Code prints, read from a program that plays it: events, usage, and how it ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
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
from spawnd.runtimes.claude import ClaudeRuntime

INIT = {"type": "system", "subtype": "init", "session_id": "s-1", "model": "claude-sonnet-4-5"}
USAGE = {"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 9}
RESULT = {"type": "result", "subtype": "success", "is_error": False, "result": "done", "usage": USAGE}
COSTED = {**RESULT, "total_cost_usd": 0.125}


async def run(path: Path, *lines: Any, code: int = 0, script: str = "", **fields: Any) -> list[RuntimeEvent]:
    return await play(ClaudeRuntime(), brief(path, program=program(path, lines, code=code, script=script), **fields))


def assistant(*content: Any, id_: str = "m1", **usage: int) -> dict[str, Any]:
    return {"type": "assistant", "message": {"id": id_, "content": list(content), "usage": usage}}


async def test_a_run_that_ends_well(tmp_path: Path) -> None:
    events = await run(tmp_path, INIT, assistant({"type": "text", "text": "hm"}, output_tokens=1), COSTED)

    assert of(SessionStarted, events) == [SessionStarted("s-1", False, None, "claude-sonnet-4-5")]
    assert of(Message, events) == [Message("assistant", "hm")]
    assert (ended(events).failure, ended(events).final_message, ended(events).exit_code) == (None, "done", 0)
    assert (tmp_path / "stdin").read_text() == "do it"
    usage = used(events)
    assert (usage.input_tokens, usage.cached_input_tokens, usage.cache_write_tokens, usage.output_tokens) == (
        5,
        100,
        20,
        9,
    )
    assert (usage.cost_usd, usage.cost_source) == (Decimal("0.125"), "provider")


async def test_without_a_figure_of_its_own_the_table_counts(tmp_path: Path) -> None:
    usage = used(await run(tmp_path, INIT, RESULT))

    assert (usage.cost_usd, usage.cost_source.startswith("prices:")) == (Decimal("0.000255"), True)


async def test_usage_of_messages_is_summed_and_of_repeated_blocks_is_not(tmp_path: Path) -> None:
    text = {"type": "text", "text": "x"}
    events = await run(
        tmp_path,
        INIT,
        assistant(text, id_="m1", input_tokens=10, output_tokens=1),
        assistant(text, id_="m1", input_tokens=10, output_tokens=3),
        assistant(text, id_="m2", input_tokens=20, output_tokens=4),
        code=1,
    )

    totals = [(event.usage.input_tokens, event.usage.output_tokens) for event in of(UsageReported, events)]
    assert totals == [(10, 1), (10, 3), (30, 7)]


async def test_tool_calls_and_their_answers(tmp_path: Path) -> None:
    events = await run(
        tmp_path,
        INIT,
        assistant(
            {"type": "thinking", "thinking": "hm"},
            {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}},
            {"type": "hologram"},
        ),
        {"type": "user", "message": {"content": "just text"}},
        {
            "type": "user",
            "message": {
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a"}]},
                    {"type": "tool_result", "tool_use_id": "t2", "content": "b" * 70_000, "is_error": True},
                ]
            },
        },
        RESULT,
    )

    assert of(Message, events) == [Message("reasoning", "hm")]
    assert of(ToolStarted, events) == [ToolStarted("t1", "Bash", {"command": "ls"})]
    assert of(ToolEnded, events) == [ToolEnded("t1", "a"), ToolEnded("t2", "b" * 65536, True)]


@pytest.mark.parametrize(
    ("result", "class_", "words"),
    [
        ({"is_error": True, "api_error_status": 429, "result": "slow"}, FailureClass.QUOTA, "slow"),
        ({"is_error": True, "api_error_status": 529, "result": "Overloaded"}, FailureClass.OVERLOAD, "Overloaded"),
        ({"is_error": True, "api_error_status": 500, "result": "oops"}, FailureClass.NETWORK, "oops"),
        ({"is_error": True, "result": "Invalid API key"}, FailureClass.AUTHENTICATION, "Invalid"),
        ({"subtype": "error_max_turns", "num_turns": 7, "result": None}, FailureClass.AGENT_ERROR, "7 turns"),
        ({"subtype": "error_during_execution", "errors": ["a", "b"], "result": None}, FailureClass.AGENT_ERROR, "a; b"),
        ({"subtype": "error_new", "result": None}, FailureClass.AGENT_ERROR, "error_new"),
        ({"usage": {}}, FailureClass.NETWORK, "broke off"),
        ({"usage": None}, FailureClass.NETWORK, "broke off"),
    ],
)
async def test_how_a_result_fails_though_it_says_success(
    tmp_path: Path, result: dict[str, Any], class_: FailureClass, words: str
) -> None:
    failure = ended(await run(tmp_path, INIT, {**RESULT, **result}, code=1)).failure

    assert failure is not None
    assert (failure.failure_class, words in failure.message) == (class_, True), failure.message


@pytest.mark.parametrize(
    ("code", "class_", "words"),
    [(0, FailureClass.NETWORK, "without a result: why"), (2, FailureClass.AGENT_ERROR, "exit code 2: why")],
)
async def test_an_end_without_a_result_is_a_failure(
    tmp_path: Path, code: int, class_: FailureClass, words: str
) -> None:
    failure = ended(await run(tmp_path, INIT, code=code, script="echo why >&2")).failure

    assert failure is not None
    assert (failure.failure_class, words in failure.message) == (class_, True), failure.message


async def test_a_rejected_limit_names_the_reset_of_the_failure(tmp_path: Path) -> None:
    info = {"status": "rejected", "resetsAt": 1795276800, "rateLimitType": "five_hour"}
    allowed = {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed", "resetsAt": 1}}
    failed = {**RESULT, "is_error": True, "api_error_status": 429, "result": "You've hit your session limit"}

    events = await run(tmp_path, INIT, {"type": "rate_limit_event", "rate_limit_info": info}, allowed, failed, code=1)

    assert [event.message for event in of(Notice, events)] == ["the provider's limit is reached (five_hour)"]
    failure = ended(events).failure
    assert failure is not None
    assert (failure.failure_class, failure.reset_at) == (FailureClass.QUOTA, datetime.fromtimestamp(1795276800, UTC))


@pytest.mark.parametrize(("delay", "known"), [(600_000, True), (900, False)])
async def test_a_long_delay_of_its_own_retry_is_the_servers_retry_after(
    tmp_path: Path, delay: int, known: bool
) -> None:
    retry = {"type": "system", "subtype": "api_retry", "attempt": 1, "error_status": 429, "retry_delay_ms": delay}
    failed = {**RESULT, "is_error": True, "api_error_status": 429, "result": "rate limited"}
    before = datetime.now(UTC)

    failure = ended(await run(tmp_path, INIT, retry, failed, code=1)).failure

    assert failure is not None
    assert (failure.reset_at is not None) is known
    if failure.reset_at is not None:
        assert abs(failure.reset_at - before - timedelta(seconds=600)) < timedelta(seconds=30)


async def test_a_session_is_resumed_only_if_its_files_are_here(tmp_path: Path) -> None:
    cold = await run(tmp_path, INIT, RESULT, resume_session="s-1")
    (tmp_path / "state/claude/projects/x").mkdir(parents=True)
    (tmp_path / "state/claude/projects/x/s-1.jsonl").touch()
    warm = await run(tmp_path, INIT, RESULT, resume_session="s-1")

    assert [of(SessionStarted, events)[0].resumed for events in (cold, warm)] == [False, True]
    assert "starts anew" in of(Notice, cold)[0].message


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"type": "hologram"}',
        b'{"type": 5}',
        b'{"type": "system", "subtype": "moon"}',
        b'{"type": "system", "subtype": "api_retry", "retry_delay_ms": "long"}',
        b'{"type": "system", "subtype": "api_retry", "retry_delay_ms": 1e300, "error_status": 429}',
        b'{"type": "assistant"}',
        b'{"type": "assistant", "message": "x"}',
        b'{"type": "assistant", "message": {"content": "x"}}',
        b'{"type": "assistant", "message": {"content": ["x", null]}}',
        b'{"type": "assistant", "message": {"id": "m", "content": [], "usage": {"input_tokens": "many"}}}',
        b'{"type": "user", "message": "x"}',
        b'{"type": "user", "message": {"content": ["x", null]}}',
        b'{"type": "rate_limit_event", "rate_limit_info": "x"}',
        b'{"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": 1e300}}',
        b"[" * 100_000,
    ],
    ids=lambda line: line[:90].decode(errors="replace") or "empty",
)
async def test_a_line_that_makes_no_sense_is_kept_and_harms_nothing(tmp_path: Path, line: bytes) -> None:
    events = await run(tmp_path, INIT, line, COSTED)

    assert Raw(line) in events
    assert (ended(events).failure, ended(events).final_message) == (None, "done")
    assert used(events).cost_usd == Decimal("0.125")


@pytest.mark.parametrize("cost", ["free", "NaN", [], -1])
async def test_a_cost_that_is_no_number_is_not_believed(tmp_path: Path, cost: Any) -> None:
    events = await run(tmp_path, INIT, {**RESULT, "total_cost_usd": cost})

    assert ended(events).failure is None
    assert used(events).cost_source != "provider"
