"""Run git, hardened: no hooks, no configuration but ours, no prompts, no filters, no helper programs.

What an agent left behind is untrusted, its ``.git`` most of all; so is the repository. Nothing here ever runs
with a workspace's own configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from spawnd.errors import GitFailed, Unavailable

#: git merge-tree --write-tree, which merges without a work tree.
OLDEST = (2, 38)

_SAFE = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.sshCommand": "ssh -o BatchMode=yes",
    "core.untrackedCache": "false",
    "core.quotePath": "false",
    "credential.helper": "",
    "diff.external": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "init.defaultBranch": "main",
    "protocol.allow": "never",
    "protocol.https.allow": "always",
    "protocol.http.allow": "always",
    "protocol.ssh.allow": "always",
    "protocol.git.allow": "always",
    "safe.directory": "*",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "advice.detachedHead": "false",
    "commit.gpgSign": "false",
    "checkout.workers": "0",
}
_STDERR_TAIL = 4000


async def git(
    *args: str,
    git_dir: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout_seconds: float = 120,
    local: bool = False,
    accept: tuple[int, ...] = (0,),
) -> bytes:
    """Run git and return what it printed. ``local`` admits other repositories of this machine as remotes.

    Raises ``GitFailed`` with the end of its standard error for any exit code outside ``accept``,
    ``Unavailable`` if there is no git. Cancelling it kills its whole group.
    """
    code, out, err = await git_code(
        *args, git_dir=git_dir, cwd=cwd, env=env, stdin=stdin, timeout_seconds=timeout_seconds, local=local
    )
    if code not in accept:
        tail = err[-_STDERR_TAIL:].decode("utf-8", "replace").strip()
        said = tail.splitlines()[-1] if tail else f"exit code {code}"
        raise GitFailed(f"git {_verb(args)} failed: {said}", stderr=tail)
    return out


async def git_code(
    *args: str,
    git_dir: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout_seconds: float = 120,
    local: bool = False,
) -> tuple[int, bytes, bytes]:
    """As ``git``, for callers to whom the exit code is an answer: (code, output, errors)."""
    program = shutil.which("git")
    if program is None:
        raise Unavailable("git is not installed.", hint="Debian: apt-get install git")
    config = {**_SAFE, **({"protocol.file.allow": "always"} if local else {})}
    command = [program]
    for key, value in config.items():
        command += ["-c", f"{key}={value}"]
    if git_dir is not None:
        command.append(f"--git-dir={git_dir}")
    process = await asyncio.create_subprocess_exec(
        *command,
        *args,
        cwd=cwd,
        env={**environment(), **(env or {})},
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_seconds):
            out, err = await process.communicate(stdin)
    except TimeoutError:
        raise GitFailed(f"git {_verb(args)} took longer than {timeout_seconds:g} s.") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out, err


def environment() -> dict[str, str]:
    """git's environment: nothing of ours but the PATH."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS": "/bin/false",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_AUTHOR_NAME": "spawnd",
        "GIT_AUTHOR_EMAIL": "spawnd@localhost",
        "GIT_COMMITTER_NAME": "spawnd",
        "GIT_COMMITTER_EMAIL": "spawnd@localhost",
    }


async def version() -> tuple[int, ...]:
    """git's version as numbers. Raises ``Unavailable`` if there is none."""
    words = (await git("version")).decode().split()
    return tuple(int(part) for part in words[2].split(".")[:3] if part.isdigit())


def _verb(args: tuple[str, ...]) -> str:
    return next((word for word in args if not word.startswith("-")), "")
