"""Run git, hardened: no hooks, no configuration but ours, no prompts, no filters, no helper programs.

What an agent left behind is untrusted, its ``.git`` most of all; so is the repository. Nothing here ever runs
with a workspace's own configuration. The one exception is the user's own repository, onto which the user asks for
work to be applied: there git is what it is in the user's own terminal (``trusted``).
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
    "core.sshCommand": "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=15",
    "core.untrackedCache": "false",
    "core.quotePath": "false",
    # What is acknowledged must outlive a power cut; the index and the work tree need not.
    "core.fsync": "objects,reference",
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
    # A server that sends nothing for a minute is gone.
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
}
#: What git itself counts as belonging to one repository: the caller's must not reach another (a git hook sets them).
_OF_A_REPOSITORY = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
#: For ``--upload-pack`` of another repository of this machine: any commit may be asked for, whoever owns it.
UPLOAD_PACK = "git -c uploadpack.allowAnySHA1InWant=true -c safe.directory=* upload-pack"
_CHUNK = 65536
_STDERR_TAIL = 4000


async def git(
    *args: str,
    git_dir: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    timeout_seconds: float = 120,
    local: bool = False,
    trusted: bool = False,
    accept: tuple[int, ...] = (0,),
) -> bytes:
    """Run git and return what it printed, whole. ``local`` admits other repositories of this machine as remotes;
    ``trusted`` is for the user's own repository only: their configuration, identity and filters.

    Raises ``GitFailed`` with the end of its standard error for any exit code outside ``accept``,
    ``Unavailable`` if there is no git. Cancelling it kills its whole group.
    """
    code, out, err = await git_code(
        *args,
        git_dir=git_dir,
        cwd=cwd,
        env=env,
        stdin=stdin,
        timeout_seconds=timeout_seconds,
        local=local,
        trusted=trusted,
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
    trusted: bool = False,
) -> tuple[int, bytes, bytes]:
    """As ``git``, for callers to whom the exit code is an answer: (code, output, the end of the errors)."""
    program = shutil.which("git")
    if program is None:
        raise Unavailable("git is not installed.", hint="Debian: apt-get install git")
    command = [program]
    if not trusted:
        for key, value in {**_SAFE, **({"protocol.file.allow": "always"} if local else {})}.items():
            command += ["-c", f"{key}={value}"]
    if git_dir is not None:
        command.append(f"--git-dir={git_dir}")
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            *args,
            cwd=cwd,
            env={**(_users_environment() if trusted else environment()), **(env or {})},
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise GitFailed(f"git {_verb(args)} cannot be started: {error.strerror}.", stderr=str(error)) from error
    try:
        async with asyncio.timeout(timeout_seconds):
            out, err = await _communicate(process, stdin)
    except TimeoutError:
        raise GitFailed(f"git {_verb(args)} took longer than {timeout_seconds:g} s.") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out, err


async def _communicate(process: asyncio.subprocess.Process, stdin: bytes | None) -> tuple[bytes, bytes]:
    """All of the output, the end of the errors: a server may say any amount of them."""
    assert process.stdout is not None and process.stderr is not None
    async with asyncio.TaskGroup() as group:
        out = group.create_task(process.stdout.read())
        err = group.create_task(_tail(process.stderr))
        if stdin is not None:
            group.create_task(_feed(process, stdin))
    await process.wait()
    return out.result(), err.result()


async def _feed(process: asyncio.subprocess.Process, data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have ended: its exit code tells
        process.stdin.write(data)
        await process.stdin.drain()
    process.stdin.close()


async def _tail(stream: asyncio.StreamReader) -> bytes:
    kept = bytearray()
    while chunk := await stream.read(_CHUNK):
        kept += chunk
        del kept[:-_CHUNK]
    return bytes(kept)


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


def _users_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _OF_A_REPOSITORY}
    return {**kept, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_EDITOR": "true"}


def borrowing(*objects: Path) -> dict[str, str]:
    """The environment that lets a command read further object folders."""
    return {"GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(quoted(path) for path in objects)}


def quoted(path: Path) -> str:
    """A path as git takes it in lists of object folders and in their files, whatever it is called."""
    text = str(path)
    if not any(character in text for character in ':"\\\n'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


async def version() -> tuple[int, ...]:
    """git's version as numbers. Raises ``Unavailable`` if there is none."""
    words = (await git("version")).decode().split()
    return tuple(int(part) for part in words[2].split(".")[:3] if part.isdigit())


def _verb(args: tuple[str, ...]) -> str:
    words = iter(args)
    for word in words:
        if word == "-c":
            next(words)  # its value
        elif not word.startswith("-"):
            return word
    return ""
