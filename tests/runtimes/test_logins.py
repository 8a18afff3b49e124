"""An agent works with a copy of the user's login in a home of its own; the original stays as it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from briefs import brief, play, program

from spawnd.contracts.runtime import Runtime
from spawnd.runtimes.claude import ClaudeRuntime
from spawnd.runtimes.codex import CodexRuntime

#: The runtime, the variable that names its home, the files of its login.
RUNTIMES = [
    pytest.param(CodexRuntime, "CODEX_HOME", ("auth.json", "config.toml"), id="codex"),
    pytest.param(ClaudeRuntime, "CLAUDE_CONFIG_DIR", (".credentials.json",), id="claude"),
]


@pytest.fixture
def login(tmp_path: Path) -> Path:
    folder = tmp_path / "login"
    folder.mkdir()
    for name in ("auth.json", ".credentials.json"):
        (folder / name).write_text('{"token": "original"}')
    (folder / "config.toml").write_text('model = "of-the-user"\n')
    (folder / "history.jsonl").write_text("what the user said elsewhere")
    return folder


async def run(runtime: Runtime, tmp_path: Path, login: Path, script: str, **fields: object) -> None:
    probe = dataclasses.replace(program(tmp_path, [], script=script), login=login)
    await play(runtime, brief(tmp_path, program=probe, **fields))


@pytest.mark.parametrize(("kind", "variable", "files"), RUNTIMES)
async def test_the_login_is_copied_and_what_the_program_does_to_it_stays_with_the_agent(
    tmp_path: Path, login: Path, kind: type[Runtime], variable: str, files: tuple[str, ...]
) -> None:
    before = {path.name: path.read_bytes() for path in login.iterdir()}
    listed = tmp_path / "listed"

    look = f'echo "${variable}" > {tmp_path}/home; ls -A "${variable}" > {listed}'
    await run(kind(), tmp_path, login, f'{look}; echo refreshed > "${variable}/{files[0]}"')

    home = Path((tmp_path / "home").read_text().strip())
    assert home.is_relative_to(tmp_path / "state")
    assert set(files) <= set(listed.read_text().split())
    assert "history.jsonl" not in listed.read_text()
    assert (home / files[0]).stat().st_mode & 0o077 == 0
    assert {path.name: path.read_bytes() for path in login.iterdir()} == before


@pytest.mark.parametrize(("kind", "variable", "files"), RUNTIMES)
async def test_a_token_that_the_program_refreshed_is_what_the_next_attempt_begins_with(
    tmp_path: Path, login: Path, kind: type[Runtime], variable: str, files: tuple[str, ...]
) -> None:
    await run(kind(), tmp_path, login, f'echo refreshed > "${variable}/{files[0]}"')

    await run(kind(), tmp_path, login, f'cp "${variable}/{files[0]}" {tmp_path}/seen')

    assert (tmp_path / "seen").read_text() == "refreshed\n"


@pytest.mark.parametrize(
    ("kind", "variable", "files", "key"),
    [(*RUNTIMES[0].values, "OPENAI_API_KEY"), (*RUNTIMES[1].values, "ANTHROPIC_API_KEY")],
    ids=["codex", "claude"],
)
async def test_with_a_key_of_the_plan_the_users_login_is_none_of_the_agents_business(
    tmp_path: Path, login: Path, kind: type[Runtime], variable: str, files: tuple[str, ...], key: str
) -> None:
    await run(kind(), tmp_path, login, f'ls -A "${variable}" > {tmp_path}/listed', env={key: "sk-of-the-plan"})

    assert files[0] not in (tmp_path / "listed").read_text().split()
