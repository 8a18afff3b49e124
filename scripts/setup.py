"""Set up .venv in this checkout: the locked packages of the named sets, and the project itself. Standard library only.

    python3 scripts/setup.py base|dev|agents …

It does nothing when the stamp in .venv says that everything is as the files ask. Packages are installed as wheels,
by hash, from the locked files in requirements/; nothing that is not locked is downloaded. Two that run at once wait
for each other. As root on Debian and Ubuntu it installs missing system packages; elsewhere it says what to install.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".setup.json"
CACHE = ROOT / ".cache"
LOG = CACHE / "setup.log"
SETS = ("base", "dev", "agents")
_TAIL = 20


class SetupError(Exception):
    """It cannot go on; the message says what to do."""


def main(sets: list[str]) -> int:
    if unknown := [name for name in sets if name not in SETS]:
        say(f"setup: there is no set {unknown[0]!r}; the sets are {', '.join(SETS)}")
        return 2
    try:
        need_git()
        with locked():
            set_up(sets or ["base"])
        return 0
    except SetupError as error:
        say(f"setup: {error}")
        return 1
    except PermissionError as error:
        say(f"setup: {error.filename} cannot be written: the checkout must be writable, .venv and .cache are put there")
        return 1


def say(text: str) -> None:
    """Everything goes to standard error: the scripts' own output is the demo's and the tests'."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Wait until no other setup of this checkout runs."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "setup.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another setup of this checkout is running; waiting for it …")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def set_up(sets: list[str]) -> None:
    root, had = read_stamp()
    # A virtual environment holds its own path: after a move its programs point to the old place.
    usable = venv_works() and root in (None, str(ROOT))
    digests = {name: digest(name) for name in sets}
    if usable and all(had.get(name) == digests[name] or covers(had, name) for name in sets):
        return
    need_bubblewrap()
    LOG.write_text("")
    if not usable:
        make_venv()
    install(sets)
    known = {name: value for name, value in had.items() if usable and value == digest(name)}
    STAMP.write_text(json.dumps({"root": str(ROOT), "sets": {**known, **digests}}))


def covers(had: dict[str, str], name: str) -> bool:
    """dev holds everything of base."""
    return name == "base" and had.get("dev") == digest("dev")


def digest(name: str) -> str:
    """Of everything that decides what is installed for a set."""
    whole = hashlib.sha256()
    for path in (Path(__file__), ROOT / "pyproject.toml", requirements("build"), requirements(name)):
        whole.update(path.read_bytes())
    return whole.hexdigest()


def requirements(name: str) -> Path:
    return ROOT / "requirements" / f"{name}.txt"


def read_stamp() -> tuple[str | None, dict[str, str]]:
    """Where the checkout was when .venv was made, and the digest of each set that it holds."""
    try:
        stamp = json.loads(STAMP.read_text())
        return str(stamp["root"]), dict(stamp["sets"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, {}


def venv_works() -> bool:
    """Whether .venv has a Python that runs and is new enough: the one that it was made from may be gone."""
    if not PYTHON.exists():
        return False
    test = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    return run([PYTHON, "-I", "-c", test]).returncode == 0


def make_venv() -> None:
    if importlib.util.find_spec("ensurepip") is None:
        need_venv_module()
    say(f"Making .venv with Python {sys.version.split()[0]} ({sys.executable}) …")
    done = run([sys.executable, "-m", "venv", "--clear", VENV], log=True)
    if done.returncode != 0:
        raise SetupError(f"python -m venv failed:\n{tail()}")


def install(sets: list[str]) -> None:
    files = [requirements(name) for name in ("build", *sets)]
    count = sum(line[:1].isalnum() for path in files for line in path.read_text().splitlines())
    say(f"Installing {count} locked packages ({', '.join(sets)}) into .venv …")
    began = time.monotonic()
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--root-user-action=ignore", "--disable-pip-version-check"]
    # Wheels only: building a source distribution would download its build tools, and those are not locked.
    locked_files = [word for path in files for word in ("--requirement", path)]
    steps = (
        [*pip, "--require-hashes", "--only-binary=:all:", *locked_files],
        [*pip, "--no-deps", "--no-build-isolation", "--no-index", "--editable", ROOT],
    )
    for step in steps:
        if run(step, log=True).returncode != 0:
            raise SetupError(f"pip failed; its whole output is in {LOG}, and the end of it is:\n{tail()}")
    say(f"… installed in {time.monotonic() - began:.0f} s")


def run(command: Sequence[str | Path], *, log: bool = False) -> subprocess.CompletedProcess[bytes]:
    """Run without the user's Python and pip settings that would lead outside .venv; ``log`` appends the output."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH", "PIP_TARGET")}
    env |= {"PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_REQUIRE_VIRTUALENV": "0"}
    with (LOG if log else Path(os.devnull)).open("ab") as output:
        return subprocess.run(
            [os.fspath(word) for word in command],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )


def tail() -> str:
    lines = LOG.read_text(errors="replace").strip().splitlines()
    return "\n".join(f"  {line}" for line in lines[-_TAIL:])


# -- system packages ----------------------------------------------------------------------------------------------


def need_git() -> None:
    if shutil.which("git") is None and not apt_install("git"):
        raise SetupError(
            "git is missing. Install it (Debian, Ubuntu: apt-get install git; macOS: xcode-select --install)"
        )


def need_venv_module() -> None:
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    if not (sys.executable.startswith("/usr/bin/") and apt_install(package)):
        raise SetupError(
            f"this Python ({sys.executable}) has no venv module. On Debian and Ubuntu: apt-get install {package}"
        )


def need_bubblewrap() -> None:
    """The sandbox. Without it spawnd still runs trusted commands, as the demo's, and warns."""
    if sys.platform == "linux" and shutil.which("bwrap") is None and not apt_install("bubblewrap"):
        say(
            "bubblewrap is not installed, so agents will run without a sandbox (spawnd warns, and refuses to run models"
            " like that).\n  Debian, Ubuntu: apt-get install bubblewrap    Fedora: dnf install bubblewrap"
        )


def apt_install(package: str) -> bool:
    """Install a Debian package as root; False if that is not possible here."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return False
    say(f"Installing the system package {package} …")
    CACHE.mkdir(exist_ok=True)
    command = ["apt-get", "install", "--yes", "--no-install-recommends", package]
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    # A fresh machine or image has no package lists yet.
    if run(command, log=True).returncode == 0:
        return True
    if run(["apt-get", "update"], log=True).returncode == 0 and run(command, log=True).returncode == 0:
        return True
    say(f"… which failed:\n{tail()}")
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
