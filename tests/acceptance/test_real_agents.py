"""The real Codex and Claude Code programs, through spawnd, against a scripted provider on loopback."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from provider.scripted import ScriptedProvider, Turn, cut, fail, hang, say, shell
from spawnd import assembly
from systems import System, agent, git, processes_of

RUNTIMES = ("codex", "claude")
#: A model that the price table knows, so that codex has a cost too.
MODELS = {"codex": "gpt-5-codex", "claude": "claude-sonnet-4-5"}


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if not assembly.runtimes()[name].probe({"PATH": os.environ["PATH"]}).installed:
        pytest.skip(f"{name} is not installed: pip install 'spawnd[{name}]'")
    return name


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedProvider]:
    """Give it its script with ``play``; the worker's environment points to it."""
    with ScriptedProvider() as opened:
        monkeypatch.setenv("TEST_KEY", "sk-test-0123456789abcdefghij")
        monkeypatch.setenv("TEST_URL", opened.url)
        monkeypatch.setenv("TEST_OPENAI_URL", f"{opened.url}/v1")
        yield opened


@pytest.fixture
def system_with_provider(provider: ScriptedProvider, system: System) -> System:
    return system


def plan(runtime: str, *, check: str = "true", **fields: object) -> str:
    refs = {
        "claude": "{ANTHROPIC_API_KEY: TEST_KEY, ANTHROPIC_BASE_URL: TEST_URL}",
        "codex": "{OPENAI_API_KEY: TEST_KEY, OPENAI_BASE_URL: TEST_OPENAI_URL}",
    }[runtime]
    more = "".join(f"\n    {name}: {value}" for name, value in fields.items())
    return f"""
name: real {runtime}
orchestration: {{command_policy: {{mode: unrestricted}}}}
agents:
  - name: worker
    runtime: {runtime}
    model: {MODELS[runtime]}
    prompt: Write a.txt.
    env_refs: {refs}
    check: {check!r}{more}
"""


async def test_it_edits_a_repository_and_everything_is_on_record(
    system_with_provider: System, provider: ScriptedProvider, runtime: str, tmp_path: Path
) -> None:
    system = system_with_provider
    provider.play([shell("echo hello > a.txt"), say("a.txt is written")])

    document = await system.finish(plan(runtime, check="grep hello a.txt"))

    row = agent(document, "worker")
    assert (document.run.status, row.status, row.final_message) == ("completed", "completed", "a.txt is written")
    assert (row.checks_passed, row.files_changed, row.insertions) == (1, 1, 1)
    # Two calls of the model, with 1000 input tokens each, 400 of them cached.
    assert (row.input_tokens, row.cached_input_tokens, row.output_tokens) == (1200, 800, 100)
    assert row.cost_usd > Decimal("0.001") and not row.cost_unknown
    assert row.session_id
    trace = await system.client.trace(document.run.run_id)
    call = trace.tool_calls[0]
    assert "echo hello > a.txt" in str(call.input) and call.ended_at is not None and not call.is_error
    assert "a.txt is written" in [message.text for message in trace.messages]
    kinds = {one.kind for one in (await system.client.artifacts(document.run.run_id)).artifacts}
    assert {"transcript", "patch", "final-message", "check-output"} <= kinds

    result = await system.client.result(document.run.run_id)
    git(tmp_path, "clone", "-q", str(system.repo), "fresh")
    (tmp_path / "patch").write_bytes(result.patch)
    git(tmp_path / "fresh", "apply", str(tmp_path / "patch"))
    assert (tmp_path / "fresh" / "a.txt").read_text() == "hello\n"


async def test_a_failing_check_goes_back_to_the_same_session(
    system_with_provider: System, provider: ScriptedProvider, runtime: str
) -> None:
    system = system_with_provider
    provider.play([shell("echo wrong > a.txt"), say("done"), shell("echo right > a.txt"), say("mended")])

    document = await system.finish(
        plan(runtime, check="cat a.txt && grep -q right a.txt", on_failure="retry", retry_count=2)
    )

    row = agent(document, "worker")
    assert (row.status, row.attempts, row.retries_used) == ("completed", 2, 1)
    first, second = document.attempts
    assert (first.failure_class, second.status) == ("check_failed", "succeeded")
    assert first.session_id == second.session_id and second.session_resumed
    # The second attempt was told what failed, with its output, in the conversation of the first.
    asked = str(provider.requests[2])
    assert "did not pass the check" in asked and "wrong" in asked and "Write a.txt." in asked
    # The tokens of the first attempt are not counted again.
    assert row.input_tokens + row.cached_input_tokens == 4000


async def test_a_429_parks_at_no_cost_in_retries_and_then_finishes(
    system_with_provider: System, provider: ScriptedProvider, runtime: str
) -> None:
    system = system_with_provider
    provider.play([], forever=fail(429, "Rate limited", kind="rate_limit_error", retry_after="2"))
    run_id = await system.submit(plan(runtime, on_failure="retry", retry_count=1))

    async with system.worker():
        await system.when(run_id, lambda event: event.type == "agent_waiting")
        parked = agent(await system.client.run(run_id), "worker")
        provider.play([shell("echo hello > a.txt"), say("done")])
        await system.client.resume(run_id, now=True)
        document = await system.ended(run_id)

    assert parked.waiting is not None and parked.waiting.code == "quota" and parked.waiting.until is not None
    row = agent(document, "worker")
    assert (row.status, row.retries_used) == ("completed", 0)
    assert document.attempts[0].failure_class == "quota"
    windows = [event for event in await system.events(run_id) if event.type == "quota_closed"]
    assert windows[0].data["credential"] == f"{runtime}:TEST_KEY"


@pytest.mark.parametrize(
    ("broken", "classes"),
    [
        pytest.param(fail(500, "Internal server error", kind="api_error"), {"network", "overload"}, id="500s"),
        pytest.param(cut(), {"network"}, id="cut stream"),
    ],
)
async def test_a_broken_provider_is_tried_again_by_itself(
    system_with_provider: System, provider: ScriptedProvider, runtime: str, broken: Turn, classes: set[str]
) -> None:
    system = system_with_provider
    provider.play([], forever=broken)
    run_id = await system.submit(plan(runtime))

    async with system.worker():
        waiting = await system.when(run_id, lambda event: event.type == "agent_waiting")
        provider.play([shell("echo hello > a.txt"), say("done")])
        await system.client.resume(run_id, now=True)
        document = await system.ended(run_id)

    assert waiting.data["class"] in classes, waiting.data
    row = agent(document, "worker")
    assert (row.status, row.retries_used, row.files_changed) == ("completed", 0, 1)


async def test_a_hang_is_ended_by_the_time_limit(
    system_with_provider: System, provider: ScriptedProvider, runtime: str
) -> None:
    system = system_with_provider
    provider.play([], forever=hang())

    document = await system.finish(plan(runtime, runtime_timeout_seconds=3))

    assert agent(document, "worker").status == "timed_out", agent(document, "worker").reason
    assert provider.hanging.is_set()


async def test_cancel_in_the_middle_of_a_tool_leaves_no_process(
    system_with_provider: System, provider: ScriptedProvider, runtime: str
) -> None:
    system = system_with_provider
    provider.play([shell("echo begun > a.txt; sleep 600"), say("never")])
    run_id = await system.submit(plan(runtime))

    async with system.worker():
        await system.when(run_id, lambda event: event.type == "tool_called")
        async with asyncio.timeout(10):
            while not (system.workspace(run_id, "worker") / "a.txt").exists():
                await asyncio.sleep(0.05)
        assert processes_of(run_id)
        began = time.monotonic()
        await system.client.cancel(run_id)
        document = await system.ended(run_id)
        seconds = time.monotonic() - began

    assert agent(document, "worker").status == "cancelled"
    assert not processes_of(run_id)
    assert seconds < 4  # 2 s until nothing runs, and the work is put on record
    # What it had done is kept.
    result = await system.client.result(run_id, agent="worker")
    assert not result.accepted and b"begun" in result.patch


async def test_defect_11_a_reader_cannot_write(
    system_with_provider: System, provider: ScriptedProvider, runtime: str
) -> None:
    system = system_with_provider
    provider.play([shell("echo no > README.md; cat README.md"), say("reviewed")])

    document = await system.finish(plan(runtime, write_allowed="false", check="git diff --exit-code"))

    row = agent(document, "worker")
    assert (row.status, row.files_changed, row.checks_passed) == ("completed", 0, 1)
    trace = await system.client.trace(document.run.run_id)
    assert "Read-only file system" in str(trace.tool_calls[0].output)


async def test_no_secret_is_in_the_record(
    system_with_provider: System, provider: ScriptedProvider, runtime: str
) -> None:
    system = system_with_provider
    name = "OPENAI_API_KEY" if runtime == "codex" else "ANTHROPIC_API_KEY"
    provider.play([shell(f"echo key: ${name}; env > env.txt"), say("done")])

    await system.finish(plan(runtime))

    secret = os.environ["TEST_KEY"]
    tables = await system.rows(
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = current_schema()"
    )
    for table in tables:
        for row in await system.rows(f"SELECT t::text AS words FROM {table['name']} t"):
            assert secret not in row["words"], table["name"]
    for path in await asyncio.to_thread(lambda: list(system.settings.artifacts.rglob("*"))):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("runtime", ["codex"], indirect=True)
async def test_a_lent_login_works_and_is_not_on_record_whatever_the_agent_prints(
    system_with_provider: System,
    provider: ScriptedProvider,
    runtime: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system, key = system_with_provider, "login-0123456789-of-the-user"
    login = tmp_path / "login"
    login.mkdir()
    (login / "auth.json").write_text(f'{{"OPENAI_API_KEY": "{key}"}}')
    for variable in ("OPENAI_API_KEY", "CODEX_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("SPAWND_CODEX_AUTH_DIR", str(login))
    provider.play([shell("cat $CODEX_HOME/auth.json > a.txt; cat $CODEX_HOME/auth.json"), say(f"the key is {key}")])

    document = await system.finish(plan(runtime).replace("OPENAI_API_KEY: TEST_KEY, ", ""))

    assert document.run.status == "completed", document.agents[0].reason
    assert provider.headers[0]["authorization"] == f"Bearer {key}"
    trace = await system.client.trace(document.run.run_id)
    assert "[redacted]" in str(trace.tool_calls[0].output) and key not in str(trace)
    assert key not in await system.artifact(document.run.run_id, "patch")
    assert (login / "auth.json").read_text() == f'{{"OPENAI_API_KEY": "{key}"}}'
