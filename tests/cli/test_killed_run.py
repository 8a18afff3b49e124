"""`spawnd run` cut off in the middle of an agent: the work goes on where it was, whoever takes it up."""

from __future__ import annotations

import os
import secrets
import signal

import pytest

from systems import one, plan, processes_of
from terminal import Program, Shell

#: Works until it is cut off; goes on from what that attempt left.
COMMAND = "if test -f half; then echo whole > whole; else echo half > half; echo begun; sleep 1000; fi"


@pytest.fixture
def run_id() -> str:
    return f"cut-{secrets.token_hex(4)}"


@pytest.fixture
def running(shell: Shell, run_id: str) -> Program:
    """`spawnd run` with an agent in the middle of its work."""
    file = shell.write("plan.json", plan(one("a", command=COMMAND, check="test -f whole")))
    program = shell.start("run", "-f", file, "--run-id", run_id)
    program.wait_for("“begun”")
    return program


def files_of(patch: str) -> list[str]:
    return [line.removeprefix("+++ b/") for line in patch.splitlines() if line.startswith("+++ b/")]


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
def test_a_run_killed_in_the_middle_of_an_agent_is_finished_by_resume(shell: Shell, run_id: str, sandbox: str) -> None:
    shell.env["SPAWND_SANDBOX"] = sandbox
    file = shell.write("plan.json", plan(one("a", command=COMMAND, check="test -f whole")))
    program = shell.start("run", "-f", file, "--run-id", run_id)
    program.wait_for("“begun”")

    program.kill()
    resumed = shell("resume", run_id)

    assert resumed.code == 0, resumed
    assert "completed" in resumed.stdout
    assert files_of(shell("diff", run_id).stdout) == ["half", "whole"]
    assert processes_of(run_id) == set()


def test_a_run_killed_in_the_middle_of_an_agent_is_finished_by_a_worker(
    shell: Shell, run_id: str, running: Program
) -> None:
    running.kill()
    served = shell("worker", "--once")

    assert served.code == 0, served
    assert shell("status", run_id, "--json").document["run"]["status"] == "completed", served
    assert files_of(shell("diff", run_id).stdout) == ["half", "whole"]
    assert processes_of(run_id) == set()


def test_watch_outlives_the_run_that_it_follows(shell: Shell, run_id: str, running: Program) -> None:
    watching = shell.start("watch", run_id)
    watching.wait_for("“begun”")

    running.kill()
    assert shell("resume", run_id).code == 0

    seen = watching.ended()
    assert seen.code == 0, seen
    assert "completed" in seen.stdout


def test_ctrl_c_hands_the_agents_back_and_says_how_to_go_on(shell: Shell, run_id: str, running: Program) -> None:
    running.send(signal.SIGINT)
    ended = running.ended()

    assert ended.code == 130, ended
    assert f"spawnd resume {run_id}" in ended.stderr
    assert "Traceback" not in ended.stderr, ended.stderr
    assert processes_of(run_id) == set()
    agent = shell("status", run_id, "--json").document["agents"][0]
    assert agent["status"] == "ready"
    assert shell("resume", run_id).code == 0
    assert files_of(shell("diff", run_id).stdout) == ["half", "whole"]
    assert shell("worker", "--once").code == 0


def test_a_terminated_run_hands_its_agents_back(shell: Shell, run_id: str, running: Program) -> None:
    running.send(signal.SIGTERM)
    ended = running.ended()

    assert ended.code == 130, ended
    assert processes_of(run_id) == set()
    assert shell("status", run_id, "--json").document["agents"][0]["status"] == "ready"


def test_ctrl_c_with_json_prints_the_run_as_it_was_left(shell: Shell, run_id: str) -> None:
    file = shell.write("plan.json", plan(one("a", command=COMMAND)))
    assert shell("submit", "-f", file, "--run-id", run_id).code == 0
    watching = shell.start("watch", run_id)
    program = shell.start("run", "-f", file, "--run-id", run_id, "--json")
    watching.wait_for("“begun”")

    program.send(signal.SIGINT)
    ended = program.ended()

    assert ended.code == 130, ended
    assert ended.document["agents"][0]["status"] == "ready"


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
def test_a_second_ctrl_c_ends_an_agent_that_does_not_want_to_stop(shell: Shell, run_id: str, sandbox: str) -> None:
    shell.env["SPAWND_SANDBOX"] = sandbox
    stubborn = "trap '' INT TERM; echo half > half; echo begun; while true; do sleep 1; done"
    file = shell.write("plan.json", plan(one("a", command=stubborn)))
    program = shell.start("run", "-f", file, "--run-id", run_id)
    program.wait_for("“begun”")

    program.send(signal.SIGINT)
    program.wait_for("stopping")
    program.send(signal.SIGINT)
    ended = program.ended()

    assert ended.code == 130, ended
    assert "Traceback" not in ended.stderr, ended.stderr
    assert processes_of(run_id) == set()


def test_a_run_goes_on_although_its_embedded_database_is_killed(shell: Shell) -> None:
    command = "for i in 1 2 3 4 5 6; do echo tick $i; sleep 0.5; done; echo done > out"
    file = shell.write("plan.json", plan(one("a", command=command)))
    env = {"SPAWND_DATABASE_URL": None}
    running = shell.start("run", "-f", file, env=env)
    running.wait_for("“tick 2”")
    os.kill(int((shell.data / "postgres/data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    said = running.ended()

    assert said.code == 0, said.stderr
    document = shell("status", "latest", "--json", env=env).document
    assert [attempt["status"] for attempt in document["attempts"]] == ["succeeded"]
