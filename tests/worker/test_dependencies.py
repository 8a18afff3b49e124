"""What agents start from: the source, merged results, conflicts, parts of the work, results of other machines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from spawnd import assembly
from systems import System, agent, git, one, plan


def pair(first: str, second: str, **orchestration: Any) -> str:
    """Two agents side by side, and one on the work of both."""
    return plan(
        one("left", command=first),
        one("right", command=second),
        one("both", command="cat README.md > seen; ls > files", depends_on=["left", "right"]),
        orchestration=orchestration,
    )


async def test_work_on_different_lines_is_merged_for_whoever_depends_on_both(system: System) -> None:
    document = await system.finish(pair("sed -i s/one/ONE/ README.md", "sed -i s/three/THREE/ README.md"))

    assert document.run.status == "completed"
    files = await system.files(document.run.run_id, "both")
    assert files["seen"] == files["README.md"] == "ONE\ntwo\nTHREE\n"


async def test_work_on_the_same_line_is_a_conflict_with_its_files_and_both_sides_on_record(system: System) -> None:
    document = await system.finish(pair("sed -i s/two/LEFT/ README.md", "sed -i s/two/RIGHT/ README.md"))
    run_id = document.run.run_id

    both = agent(document, "both")
    assert (document.run.status, both.status, both.failure_class) == ("failed", "failed", "conflict")
    assert both.next_step
    (failed,) = [event for event in await system.events(run_id) if event.type == "agent_failed"]
    assert failed.data["detail"]["files"] == ["README.md"]
    heads = [(await system.client.provenance(run_id, agent=name)).provenance[-1].head_sha for name in ("left", "right")]
    assert failed.data["detail"]["sides"] == heads
    assert "left" in (both.reason or "") and "right" in (both.reason or "")
    # Nothing of either side is lost, and neither has failed.
    assert [agent(document, name).status for name in ("left", "right")] == ["completed", "completed"]
    assert (await system.files(run_id, "left"))["README.md"] == "one\nLEFT\nthree\n"
    assert (await system.files(run_id, "right"))["README.md"] == "one\nRIGHT\nthree\n"


@pytest.mark.parametrize(
    ("context", "seen"),
    [
        ({"mode": "full"}, {"a.txt", "b.txt"}),
        ({"mode": "diff_only"}, {"a.txt", "b.txt"}),
        ({"mode": "paths", "include_paths": ["a.txt"]}, {"a.txt"}),
        ({"mode": "paths", "exclude_paths": ["a.txt"]}, {"b.txt"}),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)
async def test_dependents_get_as_much_as_the_plan_says(system: System, context: dict[str, Any], seen: set[str]) -> None:
    document = await system.finish(pair("echo a > a.txt", "echo b > b.txt", dependency_context=context))

    files = set((await system.files(document.run.run_id, "both"))["files"].split())
    assert files & {"a.txt", "b.txt"} == seen
    row = (await system.client.provenance(document.run.run_id, agent="both")).provenance[-1]
    authors = git(system.mirror, "log", "--format=%an", f"{row.source_sha}..{row.base_sha}").splitlines()
    assert ({"left", "right"} <= set(authors)) == (context["mode"] == "full")


async def test_defect_10_a_dependent_on_another_machine_gets_merges_that_were_made_elsewhere(
    system: System, tmp_path: Path
) -> None:
    here, there = [{"labels": [label]} for label in ("here", "there")]
    run_id = await system.submit(
        plan(
            one("left", command="echo a > a.txt", **here),
            one("right", command="echo b > b.txt", **here),
            # Both begin from a merge that only this machine has made; one of them adds nothing to it.
            one("both", command="echo c > c.txt", depends_on=["left", "right"], **here),
            one("reader", command="true", use_role="reviewer", depends_on=["left", "right"], **here),
            one("far", command="ls > files", depends_on=["both"], **there),
            one("farther", command="ls > files", depends_on=["reader"], **there),
        )
    )
    elsewhere = system.settings.model_copy(
        update={"source_cache_root": tmp_path / "mirrors", "scratch_root": tmp_path / "scratch"}
    )
    async with (
        system.worker(labels=frozenset({"here"})),
        assembly.open_worker(elsewhere, slots=2, labels=frozenset({"there"}), backends=system.backends) as far,
    ):
        serving = asyncio.create_task(far.run())
        document = await system.ended(run_id)
        far.stop()
        await serving

    assert {row.name: (row.status, row.reason) for row in document.agents if row.status != "completed"} == {}
    mirror = assembly.mirrors(elsewhere).path(str(system.repo))
    for name, expected in (("far", {"a.txt", "b.txt", "c.txt"}), ("farther", {"a.txt", "b.txt"})):
        row = (await system.client.provenance(run_id, agent=name)).provenance[-1]
        listed = set(git(mirror, "show", f"{row.head_sha}:files").split())
        assert listed >= expected


async def test_a_run_builds_on_one_commit_although_its_source_moves_on(system: System) -> None:
    run_id = await system.submit(
        plan(
            one("first", command="while ! test -f go; do sleep 0.05; done; rm go; cat README.md > first"),
            one("second", command="cat README.md > second", depends_on=["first"]),
        )
    )
    async with system.worker():
        await system.event(run_id, "step_entered", agent="first", state="executing")
        (system.repo / "README.md").write_text("moved on\n")
        git(system.repo, "commit", "-qam", "later")
        (system.workspace(run_id, "first") / "go").touch()
        await system.ended(run_id)

    assert (await system.files(run_id, "second"))["second"] == "one\ntwo\nthree\n"


async def test_base_ref_wins_over_the_source_ref(system: System) -> None:
    git(system.repo, "checkout", "-qb", "release")
    (system.repo / "README.md").write_text("release\n")
    git(system.repo, "commit", "-qam", "release")
    git(system.repo, "checkout", "-q", "main")
    document = await system.finish(
        plan(one("a", command="cat README.md > seen"), orchestration={"worktree_source": {"base_ref": "release"}})
    )

    assert (await system.files(document.run.run_id, "a"))["seen"] == "release\n"


async def test_a_setup_cache_is_shared_by_those_with_the_same_lock_files_and_by_nobody_else(system: System) -> None:
    setup = {
        "command": 'echo x >> "$SPAWND_SETUP_CACHE_DIR/count"; cp "$SPAWND_SETUP_CACHE_DIR/count" .count',
        "cache": True,
        "cache_paths": ["lock"],
    }

    async def counted() -> str:
        document = await system.finish(
            plan(one("a", command="cat .count > seen"), orchestration={"worktree_setup": setup})
        )
        return (await system.files(document.run.run_id, "a"))["seen"]

    assert [await counted(), await counted()] == ["x\n", "x\nx\n"]
    (system.repo / "lock").write_text("changed\n")
    git(system.repo, "add", "-A")
    git(system.repo, "commit", "-qm", "lock")
    assert await counted() == "x\n"


async def test_a_setup_that_fails_ends_the_attempt_with_the_end_of_its_output(system: System) -> None:
    document = await system.finish(plan(one("a", command="true", setup="echo the reason; exit 7")))

    (row,) = document.agents
    assert (row.status, row.failure_class) == ("failed", "setup_failed")
    assert "exit code 7" in (row.reason or "") and "the reason" in (row.reason or "")
    assert "the reason" in await system.artifact(document.run.run_id, "setup-output")
