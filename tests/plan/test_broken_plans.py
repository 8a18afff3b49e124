"""Every broken plan is refused with all its problems, each at its place, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from broken_plans import BROKEN, TOGETHER, TOKEN, Broken
from spawnd.errors import PlanError
from spawnd.plan.compile import compile_plan
from spawnd.plan.load import load
from systems import System


@pytest.mark.parametrize("plan", [pytest.param(one, id=one.id) for one in BROKEN])
def test_every_problem_and_no_other_is_told_at_its_place(plan: Broken) -> None:
    with pytest.raises(PlanError) as refused:
        compile_plan(load(plan.text))

    found = refused.value.problems
    told = "\n".join(map(str, found))
    assert TOKEN not in told
    assert sorted((one.path, one.line or 0) for one in found) == sorted(
        (one.path, one.line or 0) for one in plan.problems
    ), told
    by_place = {(one.path, one.line): one for one in found}
    for expected in plan.problems:
        problem = by_place[expected.path, expected.line]
        assert expected.words in problem.message, told
        assert expected.nearest in (problem.suggestion, None), told


def test_the_table_is_long_and_its_names_are_unique() -> None:
    assert len(BROKEN) >= 65
    assert len({one.id for one in BROKEN}) == len(BROKEN)


def test_all_problems_of_a_plan_are_told_at_once_in_the_order_of_the_file() -> None:
    plan = TOGETHER[0]

    with pytest.raises(PlanError) as refused:
        compile_plan(load(plan.text, origin="plan.yaml"))

    lines = [problem.line for problem in refused.value.problems]
    assert len(lines) == len(plan.problems) > 8
    assert lines == sorted(lines)
    assert str(refused.value).startswith(f"plan.yaml: {len(lines)} problems\n")
    assert "line 6: agents[3].use_role: there is no role 'testr' (did you mean 'tester'?)" in str(refused.value)


async def test_no_broken_plan_leaves_a_row(system: System) -> None:
    let_through = {}
    for plan in BROKEN:
        try:
            let_through[plan.id] = await system.submit(plan.text)
        except PlanError:
            continue
        except (ArithmeticError, AttributeError, LookupError, RecursionError, ValueError, psycopg.Error) as error:
            let_through[plan.id] = repr(error)[:100]

    counts = {}
    for table in ("runs", "agents", "edges", "events", "outbox"):
        (row,) = await system.rows(f"SELECT count(*) AS n FROM {table}")
        counts[table] = row["n"]
    assert (let_through, set(counts.values())) == ({}, {0}), counts


def _run(plan: str, *words: str, server: str, repo: Path, home: Path) -> subprocess.CompletedProcess[str]:
    (repo / "broken.yaml").write_text(plan)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "SPAWND_HOME": str(home / "spawnd"),
        "SPAWND_DATABASE_URL": server,
    }
    command = [sys.executable, "-m", "spawnd", "run", "-f", "broken.yaml", *words]
    return subprocess.run(command, cwd=repo, env=environ, capture_output=True, text=True, timeout=60)


def test_the_command_line_says_path_and_line_and_exits_2(server: str, repo: Path, tmp_path: Path) -> None:
    plan = "name: p\nagents:\n  - name: a\n    promt: do\n"

    ended = _run(plan, server=server, repo=repo, home=tmp_path)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "broken.yaml: 2 problems" in ended.stderr
    assert "line 4: agents[0].promt: no such field (did you mean 'prompt'?)" in ended.stderr
    assert "line 3: agents[0].prompt: it is required" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "spawnd").exists()


def test_the_command_line_says_the_same_as_json_on_stderr(server: str, repo: Path, tmp_path: Path) -> None:
    plan = "name: p\nagents:\n  - {name: a, prompt: do, depends_on: [b]}\n  - {name: bb, prompt: do}\n"

    ended = _run(plan, "--json", server=server, repo=repo, home=tmp_path)

    assert (ended.returncode, ended.stdout) == (2, "")
    error = json.loads(ended.stderr)["error"]
    assert error["code"] == "plan_invalid"
    assert error["problems"] == [
        {"path": "agents[0].depends_on[0]", "line": 3, "message": "there is no agent 'b'", "suggestion": "bb"}
    ]
