"""The first thing that a user does: a prompt, a check, a key in the environment; then the patch on their branch.

With the real agent programs and the embedded database; only the provider is scripted.
"""

from __future__ import annotations

import os

import pytest

from provider.scripted import ScriptedProvider, say, shell
from spawnd import assembly
from systems import git
from terminal import Shell

KEY = "sk-test-0123456789abcdefghij"


@pytest.mark.acceptance
@pytest.mark.parametrize("runtime", ["codex", "claude"])
def test_a_prompt_becomes_a_checked_patch_on_the_users_branch(request: pytest.FixtureRequest, runtime: str) -> None:
    if not assembly.runtimes()[runtime].probe({"PATH": os.environ["PATH"]}).installed:
        pytest.skip(f"{runtime} is not installed: pip install 'spawnd[{runtime}]'")
    terminal: Shell = request.getfixturevalue("shell")
    with ScriptedProvider([shell("sed -i s/two/TWO/ README.md"), say("I wrote it in capitals.")]) as provider:
        login = {
            "codex": {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{provider.url}/v1"},
            "claude": {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": provider.url},
        }[runtime]
        env = {**login, "SPAWND_DATABASE_URL": None}

        ran = terminal("run", "-p", "Write the second line in capitals", "--check", "grep -q TWO README.md", env=env)

        assert ran.code == 0, ran.stderr
        # It says which program it chose, and why; the other is not logged in here.
        assert (
            f"{runtime} " in ran.stderr and f"{'OPENAI' if runtime == 'codex' else 'ANTHROPIC'}_API_KEY" in ran.stderr
        )
        assert "I wrote it in capitals." in ran.stdout
        assert (terminal.repo / "README.md").read_text() == "one\ntwo\nthree\n"

        patch = terminal("diff", "latest", env=env)
        assert "+TWO" in patch.stdout
        assert terminal("apply", "latest", "-m", "In capitals", env=env).code == 0

    assert (terminal.repo / "README.md").read_text() == "one\nTWO\nthree\n"
    assert git(terminal.repo, "log", "-1", "--format=%s").strip() == "In capitals"
    document = terminal("status", "latest", "--json", env=env).document
    (agent,) = document["agents"]
    assert (agent["status"], agent["runtime"], agent["input_tokens"] > 0) == ("completed", runtime, True)
    assert KEY not in ran.stdout + ran.stderr
