"""Every command on a finished run: for people, as JSON, and when it is asked for what is not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

import terminal
from spawnd.cli import main
from spawnd.cli.commands import COMMANDS
from systems import git, make_repository, one, plan
from terminal import Said, Shell

RUN = "night-1"
TWO = plan(
    one("good", command="echo hello; echo A > a.txt", check="test -f a.txt"),
    one("bad", command="echo B > b.txt", check="echo the reason is XYZ; exit 3"),
)
SUBCOMMANDS = [
    ["plan", "validate"],
    ["plan", "compile"],
    ["plan", "schema"],
    ["db", "upgrade"],
    ["db", "status"],
    ["salvage", "list"],
    ["salvage", "restore"],
]


@pytest.fixture(scope="module")
def finished(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A run that has ended, for tests that only look: `good` completed, `bad` failed its check."""
    folder = tmp_path_factory.mktemp("finished")
    repo = make_repository(folder / "repo")
    with (
        terminal.schema_of_a_module(server) as schema,
        terminal.shell(folder, repo, database_url=server, schema_name=schema) as shell,
    ):
        ended = shell("run", "-f", shell.write("two.json", TWO), "--run-id", RUN)
        assert ended.code == 1, ended
        assert shell.runs() == [RUN]
        yield shell


@pytest.fixture
def here(finished: Shell, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The same without a process of its own: quicker, where only words and exit codes matter."""
    for name, value in finished.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(finished.repo)

    def run(*words: str) -> Said:
        code = main(list(words))
        return Said(code, *capfd.readouterr())

    return run


LOOKS = {
    "status": ["night-1", "failed", "1/2"],
    "status RUN": ["good", "completed", "bad", "exit code 3", "spawnd diff night-1"],
    "status --status failed": ["night-1"],
    "events RUN": ["run_created", "check_failed", "run_failed"],
    "events RUN --newest --limit 1": ["run_failed"],
    "live-events RUN": ["run_created", "run_failed"],
    "logs RUN": ["==> good, attempt 1: transcript", "hello", "the reason is XYZ"],
    "checks RUN": ["passed", "exit 3", "the reason is XYZ"],
    "checks RUN --failed": ["bad", "exit 3"],
    "artifacts RUN": ["transcript", "patch", "check-output"],
    "trace RUN": ["good#1", "assistant: hello", "ran check"],
    "provenance RUN": ["good, attempt 1: accepted", "bad, attempt 1: kept, not accepted", "spawnd/night-1/good"],
    "diff RUN": ["+++ b/a.txt"],
    "diff RUN -a bad": ["+++ b/b.txt"],
    "diff RUN --stat": ["a.txt", "+1 -0", "1 file changed"],
    "workers": ["0 agents are ready"],
    "reconcile": [],
    "drain-outbox": ["wakeups sent"],
    "roles": ["architect", "reviewer", "cannot write"],
    "doctor": ["git", "database", "external", "The main job can run here"],
    "salvage list": ["night-1", "good", "bad"],
    "db status": ["at 0001"],
    "resume RUN --plan": ["good", "kept", "bad", "runs again"],
    "retry RUN --plan": ["bad", "runs again"],
}
LINES = ("events", "live-events")


@pytest.mark.parametrize("line", LOOKS)
def test_a_command_that_looks_prints_what_people_look_for(finished: Shell, line: str) -> None:
    said = finished(*line.replace("RUN", RUN).split())

    assert said.code == 0, said
    for word in LOOKS[line]:
        assert word in said.stdout
    assert "\x1b" not in said.stdout


@pytest.mark.parametrize("line", LOOKS)
def test_json_is_all_that_a_command_prints_when_it_is_asked_for_it(here: Callable[..., Said], line: str) -> None:
    said = here(*line.replace("RUN", RUN).split(), "--json")

    assert said.code == 0, said
    if line.split()[0] in LINES:
        assert all(event["seq"] for event in said.documents)
    else:
        assert isinstance(said.document, dict)
    assert said.stderr == "" or said.stderr.startswith("The work of bad was not accepted")


def test_watching_a_run_that_has_ended_tells_how(here: Callable[..., Said]) -> None:
    said = here("watch", RUN)

    assert said.code == 1
    assert "the reason" not in said.stdout and "exit code 3" in said.stdout
    assert here("watch", RUN, "--json").document["run"]["status"] == "failed"


def test_the_json_of_a_run_says_what_became_of_each_agent(here: Callable[..., Said]) -> None:
    document = here("status", RUN, "--json").document

    assert document["run"]["run_id"] == RUN
    good, bad = document["agents"]
    assert (good["status"], good["files_changed"], good["final_message"]) == ("completed", 1, "hello")
    assert (bad["status"], bad["failure_class"]) == ("failed", "check_failed")
    assert bad["next_step"]


def test_events_are_numbered_without_gaps_and_go_on_after_a_number(here: Callable[..., Said]) -> None:
    everything = here("events", RUN, "--json").documents
    rest = here("events", RUN, "--json", "--after", "5").documents

    assert [event["seq"] for event in everything] == list(range(1, len(everything) + 1))
    assert rest == everything[5:]


@pytest.mark.parametrize(
    ("command", "rows"),
    [("checks", "checks"), ("artifacts", "artifacts"), ("provenance", "provenance"), ("trace", "messages")],
)
def test_a_limit_is_kept(here: Callable[..., Said], command: str, rows: str) -> None:
    assert len(here(command, RUN, "--json", "--limit", "1").document[rows]) == 1


def test_the_last_lines_of_each_log_are_shown(here: Callable[..., Said]) -> None:
    logs = here("logs", RUN, "--json", "--limit", "1").document["logs"]

    assert logs
    assert all(len(log["text"].splitlines()) <= 1 for log in logs)


def test_an_artifact_comes_out_as_it_was_stored(finished: Shell, tmp_path: Path) -> None:
    rows = finished("artifacts", RUN, "--json").document["artifacts"]
    (patch,) = [row["id"] for row in rows if row["kind"] == "patch" and row["agent"] == "good"]

    printed = finished("artifacts", RUN, "--get", str(patch))
    written = finished("artifacts", RUN, "--get", str(patch), "-o", tmp_path / "good.patch")

    assert printed.stdout == finished("diff", RUN).stdout
    assert written.code == 0
    assert (tmp_path / "good.patch").read_text() == printed.stdout
    finished("artifacts", RUN, "--get", "123456").refused(3, "123456", f"spawnd artifacts {RUN}")


def test_logs_can_be_of_one_step(here: Callable[..., Said]) -> None:
    said = here("logs", RUN, "-a", "bad", "--step", "check")

    assert "the reason is XYZ" in said.stdout and "hello" not in said.stdout
    assert here("logs", RUN, "--step", "lunch").code == 2


def test_the_beginning_of_a_run_id_is_enough_if_only_one_begins_so(here: Callable[..., Said]) -> None:
    assert here("status", "nig", "--json").document["run"]["run_id"] == RUN
    assert here("status", "latest", "--json").document["run"]["run_id"] == RUN


def test_a_beginning_of_two_run_ids_is_refused_with_both(shell: Shell) -> None:
    file = shell.write("two.json", TWO)
    for number in (1, 2):
        assert shell("submit", "-f", file, "--run-id", f"night-{number}").code == 0

    shell("status", "night").refused(2, "night-1", "night-2")
    assert shell("status", "night-1").code == 0


@pytest.mark.parametrize(
    "line",
    [
        "status RUN", "events RUN", "live-events RUN", "logs RUN", "checks RUN", "artifacts RUN", "trace RUN",
        "provenance RUN", "diff RUN", "apply RUN", "watch RUN", "cancel RUN", "pause RUN", "resume RUN", "retry RUN",
        "answer RUN a text",
    ],
)  # fmt: skip
def test_an_unknown_run_is_not_found_and_the_next_step_is_named(here: Callable[..., Said], line: str) -> None:
    here(*line.replace("RUN", "day-9").split()).refused(3, "day-9", "spawnd status")


def test_what_is_not_found_is_json_on_standard_error_with_json(here: Callable[..., Said]) -> None:
    said = here("status", "day-9", "--json")

    assert (said.code, said.stdout) == (3, "")
    error = json.loads(said.stderr)["error"]
    assert error["code"] == "not_found"
    assert "day-9" in error["message"] and "spawnd status" in error["hint"]


@pytest.mark.parametrize("command", ["events", "logs", "checks", "artifacts", "trace", "provenance", "diff"])
def test_an_unknown_agent_is_not_found_and_the_known_ones_are_named(here: Callable[..., Said], command: str) -> None:
    here(command, RUN, "-a", "ugly").refused(3, "ugly", "good", "bad")


def test_no_run_at_all_is_said_with_how_to_begin_one(shell: Shell) -> None:
    listed = shell("status")

    assert (listed.code, listed.stdout) == (0, "")
    assert "spawnd run" in listed.stderr
    assert shell("status", "--json").document["runs"] == []
    shell("status", "latest").refused(3, "no run yet", "spawnd run")
    nothing = shell("salvage", "list")
    assert (nothing.code, nothing.stdout) == (0, "")
    assert shell("salvage", "list", "--json").document == {"kept": []}


def test_salvaged_work_is_restored_into_a_new_repository(finished: Shell, tmp_path: Path) -> None:
    there = tmp_path / "there"
    said = finished("salvage", "restore", RUN, "bad", there)

    assert said.code == 0, said
    assert (there / "b.txt").read_text() == "B\n"
    assert git(there, "status", "--porcelain") == ""
    finished("salvage", "restore", RUN, "ugly", tmp_path / "elsewhere").refused(3, "ugly", "spawnd salvage list")
    assert finished("salvage", "restore", RUN, "bad", there).code != 0


def test_a_full_reader_ends_a_command_quietly(finished: Shell) -> None:
    said = finished("events", RUN, inside=("sh", "-c", '"$@" | head -n 1', "sh"))

    assert "run_created" in said.stdout
    assert said.stderr == ""


# Help and usage


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS), *SUBCOMMANDS], ids=" ".join)
def test_help_says_how_a_command_is_used(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0

    text = capsys.readouterr().out
    assert f"Usage: spawnd {' '.join(words)}".rstrip() in text
    assert len(text.splitlines()) > 4


def test_the_help_of_spawnd_names_every_command_with_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    lines = capsys.readouterr().out.splitlines()
    for name, entry in COMMANDS.items():
        assert any(line.split()[:1] == [name] and entry.help in line for line in lines)
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("plan", "db", "salvage")])
def test_the_usage_of_a_command_does_not_bracket_twice(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([name, "--help"])

    assert "[[" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        (["stauts"], "status"),
        (["rnu", "-f", "plan.yaml"], "run"),
        (["status", "--jsno"], "--json"),
        (["plan", "valdate"], "validate"),
        (["db", "upgrad"], "upgrade"),
        (["salvage", "lsit"], "list"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_misspelt_word_is_refused_with_the_right_one(
    words: list[str], suggestion: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert suggestion in said.err.split("Error:")[-1]


@pytest.mark.parametrize(
    "line",
    [
        "run", "run -p", "run -f plan.json -p prompt", "run -f nowhere.yaml", "run -p x --runtime lunch",
        "submit", "submit -f nowhere.yaml", "status --limit 0", "status --status lunch", "events --after -1",
        "worker --once --poll", "worker --lease-seconds 1", "run -f plan.json --check true", "cancel", "answer x",
        "plan validate -f nowhere.yaml", "salvage restore x", "run -f . ",
    ],
)  # fmt: skip
def test_wrong_usage_ends_with_two_and_says_what_is_wrong(here: Callable[..., Said], line: str) -> None:
    said = here(*line.split())

    assert (said.code, said.stdout) == (2, ""), said
    assert "rror: " in said.stderr
    assert "Traceback" not in said.stderr and "did not expect" not in said.stderr


def test_the_version_is_printed(finished: Shell) -> None:
    said = finished("--version")

    assert said.code == 0
    assert said.stdout.startswith("spawnd ")


# Plans


def test_the_plan_that_init_writes_is_valid_and_never_overwrites(shell: Shell) -> None:
    assert shell("init").code == 0
    valid = shell("plan", "validate")

    assert valid.code == 0, valid
    assert "plan.yaml: valid, 4 agents" in valid.stdout
    written = (shell.repo / "plan.yaml").read_text()
    (shell.repo / "plan.yaml").write_text("mine")
    shell("init").refused(1, "plan.yaml", "--force")
    assert (shell.repo / "plan.yaml").read_text() == "mine"
    assert shell("init", "--force").code == 0
    assert (shell.repo / "plan.yaml").read_text() == written
    shell("init", "no/such/folder/plan.yaml").refused(4, "no/such/folder/plan.yaml")


def test_the_plan_that_init_writes_runs(shell: Shell) -> None:
    assert shell("init").code == 0
    ran = shell("run", "-f", "plan.yaml", "--mock")

    assert ran.code == 0, ran
    assert "4 of 4 done" in ran.stdout


def test_a_plan_is_validated_compiled_and_described(shell: Shell) -> None:
    file = shell.write("two.json", TWO)

    assert shell("plan", "validate", "-f", file, "--json").document["agents"] == 2
    compiled = shell("plan", "compile", "-f", file).document
    assert [agent["name"] for agent in compiled["agents"]] == ["good", "bad"]
    schema = shell("plan", "schema").document
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "agents" in schema["required"]
    assert shell("plan", "validate", "-f", "-", stdin=TWO).code == 0


def test_every_error_of_a_plan_is_named_at_once_with_its_place(shell: Shell) -> None:
    agents = [{"name": "a", "promt": "x"}, {"name": "a", "prompt": "y", "depends_on": ["z"]}]
    file = shell.write("plan.yaml", yaml.safe_dump({"name": "x", "agents": agents}, sort_keys=False))

    said = shell("plan", "validate", "-f", file)
    problems = json.loads(shell("plan", "validate", "-f", file, "--json").stderr)["error"]["problems"]

    assert said.code == 2
    assert "agents[0].promt" in said.stderr and "did you mean 'prompt'" in said.stderr
    assert [problem["line"] for problem in problems if problem["path"] == "agents[0].promt"] == [4]
    assert shell("run", "-f", file).code == 2
    assert shell.runs() == []


# Work


@pytest.fixture
def done(shell: Shell) -> Shell:
    """A run whose agent changed README.md and added a file."""
    command = "sed -i s/two/TWO/ README.md; mkdir sub; echo A > sub/a.txt"
    assert shell("run", "-f", shell.write("plan.json", plan(one("a", command=command))), "--run-id", RUN).code == 0
    return shell


def test_a_run_that_completes_ends_with_zero_and_names_the_next_commands(shell: Shell) -> None:
    said = shell("run", "-f", shell.write("plan.json", plan(one("a", command="echo A > a"))), "--run-id", RUN)

    assert said.code == 0, said
    assert "1 of 1 done" in said.stdout
    assert f"spawnd diff {RUN}" in said.stdout and f"spawnd apply {RUN}" in said.stdout
    assert "completed" in said.stderr
    assert git(shell.repo, "status", "--porcelain") == ""
    assert git(shell.repo, "branch", "--list").split() == ["*", "main"]


def test_run_with_json_prints_one_document_and_nothing_else(shell: Shell) -> None:
    said = shell("run", "-f", shell.write("plan.json", plan(one("a", command="true"))), "--json")

    assert (said.code, said.stderr) == (0, "")
    assert said.document["run"]["status"] == "completed"


def test_the_diff_applies_to_a_fresh_clone(done: Shell, tmp_path: Path) -> None:
    patch = tmp_path / "night.patch"
    patch.write_text(done("diff", RUN).stdout)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(done.repo), str(clone))

    git(clone, "apply", "--index", str(patch))

    assert (clone / "README.md").read_text() == "one\nTWO\nthree\n"
    assert (clone / "sub" / "a.txt").read_text() == "A\n"


def test_apply_stages_the_work_on_the_branch_that_is_checked_out(done: Shell) -> None:
    head = git(done.repo, "rev-parse", "HEAD")
    checked = done("apply", RUN, "--check")
    assert checked.code == 0 and "would apply" in checked.stdout
    assert git(done.repo, "status", "--porcelain") == ""

    applied = done("apply", RUN)

    assert applied.code == 0, applied
    assert "2 files, staged" in applied.stdout
    assert git(done.repo, "status", "--porcelain").split("\n")[:2] == ["M  README.md", "A  sub/a.txt"]
    assert git(done.repo, "rev-parse", "HEAD") == head


def test_apply_commits_with_a_message_and_the_users_name(done: Shell) -> None:
    applied = done("apply", RUN, "-m", "what the night brought", "--json")

    assert applied.document["commit"] == git(done.repo, "rev-parse", "HEAD").strip()
    assert git(done.repo, "log", "-1", "--format=%an %s").strip() == "t what the night brought"
    assert git(done.repo, "status", "--porcelain") == ""


def test_apply_works_from_a_folder_of_the_repository(done: Shell) -> None:
    (done.repo / "deep").mkdir()

    assert done("apply", RUN, cwd=done.repo / "deep").code == 0
    assert (done.repo / "sub" / "a.txt").exists()


def test_apply_merges_with_what_the_branch_has_meanwhile(done: Shell) -> None:
    (done.repo / "README.md").write_text("zero\none\ntwo\nthree\n")
    git(done.repo, "commit", "-qam", "mine")

    assert done("apply", RUN).code == 0
    assert (done.repo / "README.md").read_text() == "zero\none\nTWO\nthree\n"


def test_apply_refuses_a_tree_with_changes_and_leaves_it_as_it_was(done: Shell) -> None:
    (done.repo / "README.md").write_text("mine\n")
    before = git(done.repo, "status", "--porcelain")

    done("apply", RUN).refused(2, "uncommitted changes", "README.md", "stash")

    assert git(done.repo, "status", "--porcelain") == before
    assert (done.repo / "README.md").read_text() == "mine\n"


def test_apply_refuses_to_overwrite_an_untracked_file(done: Shell) -> None:
    (done.repo / "sub").mkdir()
    (done.repo / "sub" / "a.txt").write_text("mine\n")

    said = done("apply", RUN)

    said.refused(1, "sub/a.txt")
    assert (done.repo / "sub" / "a.txt").read_text() == "mine\n"
    assert (done.repo / "README.md").read_text() == "one\ntwo\nthree\n"


def test_a_conflict_names_the_files_and_changes_nothing(done: Shell) -> None:
    (done.repo / "README.md").write_text("one\nzwei\nthree\n")
    git(done.repo, "commit", "-qam", "mine")
    head = git(done.repo, "rev-parse", "HEAD")

    done("apply", RUN).refused(1, "README.md", "Nothing was changed")

    assert git(done.repo, "status", "--porcelain") == ""
    assert git(done.repo, "rev-parse", "HEAD") == head
    assert not (done.repo / "sub").exists()


def test_apply_outside_of_a_repository_says_so(done: Shell, tmp_path: Path) -> None:
    done("apply", RUN, cwd=tmp_path).refused(2, str(tmp_path), "not a git repository")


def test_work_that_was_not_accepted_is_applied_only_by_force(shell: Shell) -> None:
    assert shell("run", "-f", shell.write("two.json", TWO), "--run-id", RUN).code == 1

    shell("apply", RUN, "-a", "bad").refused(2, "bad", "not accepted", "--force")
    assert git(shell.repo, "status", "--porcelain") == ""
    assert shell("apply", RUN, "-a", "bad", "--force").code == 0
    assert (shell.repo / "b.txt").exists()


# Steering


def test_a_detached_run_waits_for_a_worker_and_is_done_by_it(shell: Shell) -> None:
    file = shell.write("plan.json", plan(one("a", command="echo A > a")))
    submitted = shell("run", "-f", file, "--run-id", RUN, "--detach")

    assert (submitted.code, submitted.stdout) == (0, f"{RUN}\n")
    assert "spawnd worker" in submitted.stderr and f"spawnd watch {RUN}" in submitted.stderr
    (waiting,) = shell("status", RUN, "--json").document["agents"]
    assert waiting["status"] == "ready"
    assert "1 agent is ready" in shell("workers").stdout
    assert shell("submit", "-f", file, "--run-id", RUN, "--json").document == {"run_id": RUN}
    served = shell("worker", "--once")
    assert served.code == 0, served
    assert shell("status", RUN, "--json").document["run"]["status"] == "completed"
    assert shell.runs() == [RUN]


def test_a_run_id_that_another_plan_has_is_refused(shell: Shell) -> None:
    first = shell.write("first.json", plan(one("a", command="true")))
    other = shell.write("other.json", plan(one("b", command="true")))
    assert shell("submit", "-f", first, "--run-id", RUN).code == 0

    shell("submit", "-f", other, "--run-id", RUN).refused(1, RUN, "another plan", "--run-id")
    shell("submit", "-f", first, "--run-id", "../x").refused(2, "../x", "letters")


def test_a_paused_run_starts_nothing_until_it_is_resumed(shell: Shell) -> None:
    assert shell("submit", "-f", shell.write("plan.json", plan(one("a", command="true"))), "--run-id", RUN).code == 0
    paused = shell("pause", RUN)
    assert paused.code == 0 and f"spawnd resume {RUN}" in paused.stdout

    assert shell("worker", "--once").code == 0
    document = shell("status", RUN, "--json").document
    assert (document["run"]["status"], document["agents"][0]["attempts"]) == ("paused", 0)
    assert document["agents"][0]["waiting"]["code"] == "paused"

    resumed = shell("resume", RUN)
    assert resumed.code == 0, resumed
    assert "1 of 1 done" in resumed.stdout


def test_a_cancelled_run_says_so_and_can_be_resumed(shell: Shell) -> None:
    assert shell("submit", "-f", shell.write("plan.json", plan(one("a", command="true"))), "--run-id", RUN).code == 0

    assert "1 agent cancelled" in shell("cancel", RUN).stdout
    assert shell("status", RUN, "--json").document["run"]["status"] == "cancelled"
    assert shell("watch", RUN).code == 1
    again = shell("cancel", RUN)
    assert again.code == 0 and "nothing was left" in again.stdout
    shell("pause", RUN).refused(1, RUN, "cancelled")
    assert shell("resume", RUN).code == 0


def test_a_running_run_is_cancelled_from_another_terminal(shell: Shell) -> None:
    file = shell.write("plan.json", plan(one("a", command="echo half > half; echo begun; sleep 1000")))
    program = shell.start("run", "-f", file, "--run-id", RUN)
    program.wait_for("“begun”")

    assert shell("cancel", RUN).code == 0

    ended = program.ended()
    assert ended.code == 1, ended
    assert "cancelled" in ended.stdout
    assert "+++ b/half" in shell("diff", RUN, "-a", "a").stdout


def test_retry_runs_again_what_failed_and_keeps_what_completed(shell: Shell) -> None:
    bad = one("bad", command="test -f $HOME/tried || { touch $HOME/tried; exit 1; }")
    file = shell.write("plan.json", plan(one("good", command="true"), bad))
    assert shell("run", "-f", file, "--run-id", RUN).code == 1

    reopened = shell("retry", RUN, "--detach", "--json").document
    assert {item["agent"]: item["action"] for item in reopened["items"]} == {"good": "keep", "bad": "run_again"}
    assert shell("worker").code == 0
    document = shell("status", RUN, "--json").document
    assert document["run"]["status"] == "completed"
    assert [agent["attempts"] for agent in document["agents"]] == [1, 2]
    shell("retry", RUN).refused(1, RUN, "nothing in it is left")


def test_an_answer_to_an_agent_that_did_not_ask_is_refused(here: Callable[..., Said]) -> None:
    here("answer", RUN, "good", "yes").refused(1, "good")


def test_a_worker_that_nobody_knows_has_no_heartbeat(here: Callable[..., Said]) -> None:
    here("worker-heartbeat", "--worker-id", "nobody").refused(3, "nobody", "spawnd workers")


def test_a_worker_that_serves_has_a_heartbeat_and_is_listed(shell: Shell) -> None:
    program = shell.start("worker", "--poll", "--worker-id", "w-1", "--label", "gpu")
    program.wait_for("worker w-1")
    assert shell("run", "-f", shell.write("plan.json", plan(one("a", command="true"))), "--detach").code == 0
    assert shell("watch", "latest").code == 0

    assert shell("worker-heartbeat", "--worker-id", "w-1").code == 0
    (row,) = shell("workers", "--json").document["workers"]
    assert (row["worker_id"], row["labels"]) == ("w-1", ["gpu"])
    assert "gpu" in shell("workers").stdout
