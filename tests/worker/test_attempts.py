"""The paths of one attempt: how it succeeds, fails, is tried again, and what the next one is told."""

from __future__ import annotations

import asyncio
import json

import pytest

from systems import System, one, plan, processes_of

SESSION = "echo '" + '::spawnd {"type": "session", "id": "s-1"}' + "'"


async def test_work_that_passes_its_check_is_on_a_branch_with_everything_on_record(system: System) -> None:
    command = "echo working; echo A > a.txt; echo done"
    document = await system.finish(plan(one("a", command=command, check="test -f a.txt")))
    run_id = document.run.run_id

    assert document.run.status == "completed"
    (agent,) = document.agents
    assert (agent.status, agent.final_message, agent.files_changed, agent.insertions) == ("completed", "done", 1, 1)
    assert (await system.files(run_id, "a"))["a.txt"] == "A\n"
    kinds = {row.kind for row in (await system.client.artifacts(run_id)).artifacts}
    assert kinds == {"prompt", "transcript", "final-message", "check-output", "patch", "bundle"}
    assert await system.artifact(run_id, "prompt") == "do a"
    assert await system.artifact(run_id, "transcript") == "working\ndone\n"
    steps = [event.data["state"] for event in await system.events(run_id) if event.type == "step_entered"]
    assert steps == ["preparing", "executing", "checking", "delivering"]
    assert not system.workspace(run_id, "a").exists()
    await system.check_books(run_id)


async def test_defect_07_a_failed_check_is_retried_in_the_same_work_state_and_told_what_failed(system: System) -> None:
    again = "if test -f tried; then cp $SPAWND_PROMPT_FILE seen; echo $SPAWND_RESUME_SESSION > session; touch good"
    text = plan(
        one(
            "a",
            on_failure="retry",
            check="echo the reason is XYZ; test -f good",
            command=f"{again}; else {SESSION}; echo half > tried; fi",
        )
    )
    run_id = await system.submit(text)
    async with system.worker():
        waiting = await system.event(run_id, "agent_waiting", reason="backoff")
        await system.advance(61)
        document = await system.ended(run_id)

    assert waiting.data["class"] == "check_failed"
    assert document.run.status == "completed"
    assert [attempt.status for attempt in document.attempts] == ["failed", "succeeded"]
    assert document.agents[0].retries_used == 1
    files = await system.files(run_id, "a")
    assert (files["tried"], files["session"]) == ("half\n", "s-1\n")
    assert "'check'" in files["seen"] and "the reason is XYZ" in files["seen"]
    kept, accepted = (await system.client.provenance(run_id)).provenance
    assert (kept.accepted, accepted.accepted) == (False, True)
    assert kept.patch_sha256 is not None
    await system.check_books(run_id)


async def test_on_failure_stop_ends_the_run_and_keeps_what_the_others_did(system: System) -> None:
    text = plan(
        one("bad", command="while ! test -f go; do sleep 0.05; done; exit 3", on_failure="stop"),
        one("long", command="echo half > half; echo begun; sleep 1000"),
        one("later", command="true", depends_on=["long"]),
    )
    run_id = await system.submit(text)
    async with system.worker():
        await system.event(run_id, "message", agent="long", text="begun")
        (system.workspace(run_id, "bad") / "go").touch()
        document = await system.ended(run_id)

    assert document.run.status == "failed"
    assert {row.name: row.status for row in document.agents} == {
        "bad": "failed",
        "long": "cancelled",
        "later": "cancelled",
    }
    assert (await system.files(run_id, "long"))["half"] == "half\n"
    await system.check_books(run_id)


async def test_on_failure_continue_runs_what_does_not_depend_on_it(system: System) -> None:
    text = plan(
        one("bad", command="echo it broke >&2; exit 3"),
        one("below", command="true", depends_on=["bad"]),
        one("other", command="true"),
    )
    document = await system.finish(text)

    assert document.run.status == "failed"
    bad, below, other = document.agents
    assert (bad.status, below.status, other.status) == ("failed", "skipped", "completed")
    assert (bad.failure_class, below.failure_class) == ("agent_error", "dependency")
    assert bad.reason is not None and "exit code 3: it broke" in bad.reason
    assert bad.next_step and below.next_step


async def test_the_circuit_breaker_ends_a_run_in_which_too_much_fails(system: System) -> None:
    breaker = {"circuit_breaker": {"threshold": 2, "action": "cancel_all"}, "concurrency_limit": 1}
    agents = [one(f"a{number}", command="exit 1") for number in range(4)]
    document = await system.finish(plan(*agents, orchestration=breaker))

    assert document.run.status == "failed"
    assert [row.status for row in document.agents] == ["failed", "failed", "cancelled", "cancelled"]
    await system.check_books(document.run.run_id)


async def test_defect_09_a_run_paused_by_the_breaker_resumes_and_ends(system: System) -> None:
    breaker = {"circuit_breaker": {"threshold": 1, "action": "pause"}, "concurrency_limit": 1}
    bad = one("bad", command="test -f $HOME/mended && echo good")
    run_id = await system.submit(plan(bad, one("good", command="true"), orchestration=breaker))
    async with system.worker():
        await system.event(run_id, "run_paused")
        assert (await system.agent(run_id, "good")).waiting.code == "paused"  # type: ignore[union-attr]
        (system.settings.states / run_id / "bad" / "mended").touch()
        await system.client.resume(run_id)
        document = await system.ended(run_id)

    assert {row.name: row.status for row in document.agents} == {"bad": "completed", "good": "completed"}
    assert document.run.status == "completed"


async def test_a_runtime_that_hits_its_limit_is_timed_out_and_its_work_is_kept(system: System) -> None:
    command = "echo half > half; sleep 1000"
    document = await system.finish(plan(one("a", command=command, runtime_timeout_seconds=0.5)))

    assert (document.run.status, document.agents[0].status) == ("timed_out", "timed_out"), document.agents[0].reason
    assert document.attempts[0].failure_class == "timeout"
    assert (await system.files(document.run.run_id, "a"))["half"] == "half\n"
    assert processes_of(document.run.run_id) == set()


async def test_a_check_that_hits_its_limit_has_failed_and_what_it_printed_is_kept(system: System) -> None:
    check = "echo so far; sleep 1000"
    document = await system.finish(plan(one("a", command="true", check=check, check_timeout_seconds=0.5)))
    run_id = document.run.run_id

    (row,) = (await system.client.checks(run_id)).checks
    assert (document.agents[0].failure_class, row.passed, row.exit_code) == ("check_failed", False, None)
    assert "hit its limit of 0.5 s" in (document.agents[0].reason or "")
    assert "so far" in await system.artifact(run_id, "check-output")
    assert processes_of(run_id) == set()


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
async def test_a_cancelled_agent_leaves_no_process_after_two_seconds(system: System, sandbox: str) -> None:
    # One child ignores SIGTERM in a session of its own: neither its group nor politeness reaches it.
    stubborn = "trap '' TERM; setsid sh -c \"trap '' TERM; while :; do sleep 1000; done\" & echo begun; wait; wait"
    settings = system.settings.model_copy(update={"sandbox": sandbox})
    run_id = await system.submit(plan(one("a", command=stubborn)))
    system.settings = settings
    async with system.worker():
        await system.event(run_id, "message", text="begun")
        assert len(processes_of(run_id)) >= 3
        before = asyncio.get_running_loop().time()
        await system.client.cancel(run_id)
        document = await system.ended(run_id)
        took = asyncio.get_running_loop().time() - before

    assert document.run.status == "cancelled"
    assert took < 2
    assert processes_of(run_id) == set()


async def test_what_a_check_changes_is_no_part_of_the_work(system: System) -> None:
    document = await system.finish(plan(one("a", command="echo A > a", check="echo dirt > dirt && echo B > a")))

    files = await system.files(document.run.run_id, "a")
    assert (files["a"], "dirt" in files) == ("A\n", False)


async def test_several_checks_run_in_order_until_one_fails(system: System) -> None:
    checks = [
        {"name": "first", "command": "true"},
        {"name": "second", "command": "false"},
        {"name": "third", "command": "true"},
    ]
    document = await system.finish(plan(one("a", command="true", checks=checks)))

    rows = (await system.client.checks(document.run.run_id)).checks
    assert [(row.name, row.passed) for row in rows] == [("first", True), ("second", False)]
    assert (document.agents[0].checks_passed, document.agents[0].checks_failed) == (1, 1)


async def test_a_surprise_in_an_adapter_fails_the_attempt_with_its_trace_on_record(system: System) -> None:
    text = plan(one("a", runtime="mock", mock={"outcomes": ["crash"]}), one("b", command="true"))
    document = await system.finish(text)

    assert [row.status for row in document.agents] == ["failed", "completed"]
    assert "the mock was told to crash" in await system.artifact(document.run.run_id, "runtime-error")


async def test_a_read_only_agent_changes_nothing_whatever_it_tries(system: System) -> None:
    command = "touch x 2>/dev/null || echo refused"
    document = await system.finish(plan(one("a", command=command, use_role="reviewer")))

    assert (document.agents[0].final_message, document.agents[0].files_changed) == ("refused", 0)
    assert await system.artifact(document.run.run_id, "prompt", agent="a")


async def test_network_none_reaches_nothing_and_full_does(system: System) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    script = (
        "import socket\n"
        f"try: print(socket.create_connection(('127.0.0.1', {port}), 5).recv(9).decode().strip())\n"
        "except OSError: print('nothing there')"
    )
    async with server:
        document = await system.finish(
            plan(
                one("none", command=["python3", "-c", script]),
                one("full", command=["python3", "-c", script], network="full"),
            )
        )

    assert {row.name: row.final_message for row in document.agents} == {"none": "nothing there", "full": "hello"}


async def test_session_state_is_removed_when_an_agent_completed_and_kept_to_resume_one_that_failed(
    system: System,
) -> None:
    document = await system.finish(
        plan(
            one("good", command="echo state > $HOME/session"),
            one("bad", command="echo state > $HOME/session; exit 1"),
        )
    )

    states = system.settings.states / document.run.run_id
    assert not (states / "good").exists()
    assert (states / "bad" / "session").read_text() == "state\n"


async def test_text_that_no_encoding_holds_is_recorded_all_the_same(system: System) -> None:
    report = json.dumps({"type": "tool", "name": "t", "input": "half \ud83d", "output": "nul \u0000 half \ud83d"})
    document = await system.finish(plan(one("a", command=["printf", "%s\n", "\\377 \\000", f"::spawnd {report}"])))

    assert document.run.status == "completed"
    (call,) = (await system.client.trace(document.run.run_id)).tool_calls
    assert call.input.startswith("half ") and "half " in (call.output or "")
