"""Real repositories, made with plain git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def sh(*args: str, cwd: Path, stdin: bytes | None = None) -> str:
    """Run a program the way a user would; its output."""
    env = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "u",
        "GIT_AUTHOR_EMAIL": "u@example.invalid",
        "GIT_COMMITTER_NAME": "u",
        "GIT_COMMITTER_EMAIL": "u@example.invalid",
    }
    return subprocess.run(args, cwd=cwd, env=env, input=stdin, check=True, capture_output=True).stdout.decode(
        errors="replace"
    )


class Source:
    """A user's repository."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        sh("git", "init", "-q", "-b", "main", cwd=path)

    def git(self, *args: str) -> str:
        return sh("git", *args, cwd=self.path)

    def commit(self, files: dict[str, str | bytes], message: str = "change") -> str:
        for name, content in files.items():
            target = self.path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD").strip()


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """A repository with a few files and one commit."""
    made = Source(tmp_path / "a source")
    made.commit({"README.md": "one\ntwo\nthree\n", "src/app.py": "print(1)\n", "bin/run": "#!/bin/sh\n"})
    return made
