"""The earlier project's defects, each a scenario that must be impossible here. Others stand with what they are of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spawnd.errors import PlanError
from spawnd.plan.compile import compile_plan
from spawnd.plan.load import load
from systems import System, git, one, plan

pytestmark = pytest.mark.acceptance


async def test_defect_08_a_retry_with_cleanup_finds_neither_its_branch_nor_its_directory_in_the_way(
    system: System,
) -> None:
    text = plan(
        one("a", on_failure="retry", command="echo x >> tries", check="test $(wc -l < tries) = 3"),
        orchestration={"cleanup": {"worktree": True}},
    )
    run_id = await system.submit(text)
    async with system.worker():
        after = 0
        for _ in range(2):
            waiting = await system.event(run_id, "agent_waiting", after=after)
            after = waiting.seq
            await system.advance(600)
        document = await system.ended(run_id)

    assert document.run.status == "completed"
    assert [attempt.status for attempt in document.attempts] == ["failed", "failed", "succeeded"]
    assert (await system.files(run_id, "a"))["tries"] == "x\nx\nx\n"
    assert not system.workspace(run_id, "a").exists()


async def test_defect_10_shared_context_comes_from_the_source_revision_not_from_the_submitters_disk(
    system: System,
) -> None:
    (system.repo / "NOTES.md").write_text("as committed\n")
    git(system.repo, "add", "-A")
    git(system.repo, "commit", "-qm", "notes")
    (system.repo / "NOTES.md").write_text("as it lies on the disk\n")
    (system.repo / "private.md").write_text("never committed\n")

    document = await system.finish(plan(one("a", command="true"), shared_context=["NOTES.md", "private.md"]))

    prompt = await system.artifact(document.run.run_id, "prompt")
    assert "as committed" in prompt
    assert "as it lies" not in prompt
    assert "never committed" not in prompt
    events = await system.events(document.run.run_id)
    assert [event.data["name"] for event in events if event.type == "shared_context_missing"] == ["private.md"]


async def test_defect_12_an_agents_env_reaches_its_program_setup_and_checks(system: System) -> None:
    document = await system.finish(
        plan(
            one(
                "a",
                env={"COLOUR": "green"},
                setup='test "$COLOUR" = green',
                command='echo "$COLOUR" > colour',
                check='test "$COLOUR" = green',
            )
        )
    )
    assert document.run.status == "completed"
    assert (await system.files(document.run.run_id, "a"))["colour"] == "green\n"


async def test_defect_13_secrets_go_and_source_long_output_and_numbers_stay(system: System) -> None:
    source = "token = parse(line)\npassword: str = field()\nsecret_count = 12345678901234567890\n"
    pem = "-----BEGIN PRIVATE KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\\n-----END PRIVATE KEY-----"
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jK5l"
    pat = "github_pat_11ABCDEFG0123456789abcdefghij"
    script = (
        f"open('kept.py', 'w').write({source!r})\n"
        f"print('{pem}')\nprint('{jwt}')\nprint('{'github_pat_'}' + '11ABCDEFG0123456789abcdefghij')\n"
        "print('long ' + 'x' * 60000 + ' end')\n"
        'print(\'::spawnd {"type": "usage", "input_tokens": 123456, "output_tokens": 7, "cost_usd": 0.5}\')\n'
    )
    # The plan itself must not hold them either: the script is in the repository.
    (system.repo / "print.py").write_text(script)
    git(system.repo, "add", "-A")
    git(system.repo, "commit", "-qm", "script")
    document = await system.finish(plan(one("a", command=["python3", "print.py"])))
    run_id = document.run.run_id

    transcript = await system.artifact(run_id, "transcript")
    dump = json.dumps(await everything(system))
    for secret in ("MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", jwt, pat):
        assert secret not in transcript
        assert secret not in dump
    assert "x" * 60000 + " end" in transcript
    assert (await system.files(run_id, "a"))["kept.py"] == source
    assert document.agents[0].input_tokens == 123456


async def everything(system: System) -> list[str]:
    """Every row of every table, as text."""
    tables = await system.rows(
        "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = current_schema()"
    )
    return [
        str(row["t"]) for table in tables for row in await system.rows(f"SELECT t::text AS t FROM {table['name']} t")
    ]


async def test_defect_13_a_plan_that_holds_a_secret_is_refused_with_its_place(system: System) -> None:
    text = "name: t\nagents:\n  - name: a\n    prompt: push with ghp_abcdefghijklmnopqrstuvwxyz0123456789\n"
    with pytest.raises(PlanError) as refused:
        compile_plan(load(text))
    (problem,) = refused.value.problems
    assert (problem.path, problem.line) == ("agents[0].prompt", 4)
    assert "abcdefghijklmnop" not in str(refused.value)


@pytest.mark.parametrize("rest", [" & rm -rf x", "; rm x", " | sh", " > x", " < x", " `rm x`", " $(rm x)", "\nrm x"])
async def test_defect_14_an_allowed_first_word_allows_nothing_else(rest: str) -> None:
    agent = {"name": "a", "prompt": "x", "runtime": "mock", "check": f"pytest{rest}"}
    text = json.dumps({"name": "t", "agents": [agent]})
    with pytest.raises(PlanError) as refused:
        compile_plan(load(text))
    assert [problem.path for problem in refused.value.problems] == ["agents[0].check"]


async def test_defect_18_a_name_with_spaces_makes_a_branch_and_names_that_are_none_are_refused(
    system: System,
) -> None:
    document = await system.finish(plan(one("a", command="echo x > x"), name="Two words & an ümlaut"))
    row = (await system.client.provenance(document.run.run_id)).provenance[-1]
    git(system.mirror, "check-ref-format", f"refs/heads/{row.branch}")
    assert document.run.status == "completed"
    for name in (".", "..", "-x", "a/b", "a b", ".hidden", "x.lock"):
        with pytest.raises(PlanError):
            compile_plan(load(json.dumps({"name": "t", "agents": [{"name": name, "prompt": "x"}]})))


async def test_defect_19_what_an_agent_does_is_on_record_while_it_does_it(system: System) -> None:
    report = '::spawnd {"type": "tool", "name": "search", "input": {"q": "x"}, "output": "found"}'
    command = f"echo first; echo '{report}'; while ! test -f go; do sleep 0.05; done; echo last"
    run_id = await system.submit(plan(one("a", command=command)))
    async with system.worker():
        await system.event(run_id, "message", text="first")
        await system.event(run_id, "tool_returned")
        trace = await system.client.trace(run_id)
        assert [message.text for message in trace.messages] == ["first"]
        assert [call.name for call in trace.tool_calls] == ["search"]
        assert (await system.agent(run_id, "a")).status == "running"
        (system.workspace(run_id, "a") / "go").touch()
        await system.ended(run_id)


def test_defect_20_a_runtime_that_cannot_be_imported_takes_no_other_with_it(tmp_path: Path) -> None:
    package = tmp_path / "broken-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[spawnd.runtimes]\nbroken = broken_runtime:Runtime\n")
    (tmp_path / "broken_runtime.py").write_text("import a_vendors_sdk_that_is_not_installed\n")
    script = "from spawnd import assembly; print(sorted(assembly.runtimes()), assembly.runtime_problems())"
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert said.startswith("['claude', 'codex', 'command', 'mock']")
    assert "a_vendors_sdk_that_is_not_installed" in said


async def test_defect_22_a_submission_and_its_wakeup_are_committed_together_or_not_at_all(system: System) -> None:
    await system.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room in the outbox'; END $$"
    )
    await system.execute("CREATE TRIGGER refuse BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION refuse()")
    with pytest.raises(Exception, match="no room in the outbox"):
        await system.submit(plan(one("a", command="true")))
    (counts,) = await system.rows(
        "SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM agents) AS agents,"
        " (SELECT count(*) FROM events) AS events"
    )
    assert counts == {"runs": 0, "agents": 0, "events": 0}
