"""Agent programs on this machine: where one is, which version, what of a login it is given, how to read its records.

Adapters read a record as if it had the shape that they know. ``understood`` is the one place that provides for another:
from a newer program, or from one that misbehaves. Numbers are checked, because they are added up.
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from spawnd.contracts.runtime import Notice, RuntimeEvent

_VERSION_SECONDS = 20
#: Shorter values of a login are names, modes and addresses.
_SECRET_MIN = 20
#: What a tool call or its answer may hold in a row; the transcript has the rest.
BOUND = 64 * 1024
#: More than one attempt can use or cost; such a number is a misreading.
_MOST_TOKENS = 10**11
_MOST_DOLLARS = 10**7

#: What reading a record of an unexpected shape raises: other types, missing fields, numbers and times out of range
#: (OSError is that of a timestamp), brackets in brackets.
MISREAD: Final = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


def find(name: str, env: Mapping[str, str], package: str, inside: str) -> Path | None:
    """The program: on the PATH of ``env``, else in the installed Python package that brings it."""
    if found := shutil.which(name, path=env.get("PATH")):
        return Path(found)
    # find_spec of a top-level package imports nothing.
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        program = Path(folder, inside)
        if program.is_file():
            return program
    return None


@functools.lru_cache(maxsize=32)
def version(program: Path, stamp: float) -> str | None:
    """The first word with a digit of what ``--version`` prints. Asked once per program file (``stamp``: its mtime)."""
    try:
        asked = subprocess.run(
            [program, "--version"],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = asked.stdout.decode(errors="replace").split()
    return next((word for word in words if any(letter.isdigit() for letter in word)), None)


def version_of(program: Path) -> str | None:
    try:
        return version(program, program.stat().st_mtime)
    except OSError:
        return None


def places(program: Path) -> tuple[Path, ...]:
    """What a sandbox must show so that ``program`` runs, wherever it is installed; never a whole home folder."""
    real = program.resolve()
    found = {program}
    modules = next((parent for parent in real.parents if parent.name == "node_modules"), None)
    if modules is not None:
        # A script of npm: all of its modules, and the node that stands beside it.
        found |= {modules, *(path for path in [program.parent / "node"] if path.exists())}
    elif real.parent not in (Path.home(), Path("/")):
        found.add(real.parent)
    return tuple(sorted(found))


def seed(source: Path, target: Path, names: Sequence[str]) -> None:
    """Copy ``names`` from a login into an agent's own folder, readable by nobody else. The login is never changed.

    A file that is there already stays, so that a refreshed token is kept, unless the login is newer.
    """
    target.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in names:
        origin, copy = source / name, target / name
        if not origin.is_file():
            continue
        if copy.exists() and copy.stat().st_mtime >= origin.stat().st_mtime:
            continue
        fresh = copy.with_name(f"{name}.new")
        fresh.touch(mode=0o600)
        fresh.write_bytes(origin.read_bytes())
        fresh.replace(copy)


def secrets_in(path: Path) -> tuple[str, ...]:
    """Every value of a login's JSON file that is long enough to be a secret; none if it cannot be read."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return ()
    found, todo = [], [value]
    while todo:
        match todo.pop():
            case dict() as mapping:
                todo += mapping.values()
            case list() as items:
                todo += items
            case str() as text if len(text) >= _SECRET_MIN and not any(letter.isspace() for letter in text):
                found.append(text)
            case _:
                pass
    return tuple(found)


def record(line: bytes) -> dict[str, Any] | None:
    """A line of JSON as an object; None for anything else that a program prints."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def understood(record: dict[str, Any], read: Callable[[dict[str, Any]], list[RuntimeEvent]]) -> list[RuntimeEvent]:
    """What ``read`` makes of a record; one that it cannot read is noticed and harms nothing."""
    try:
        return read(record)
    except MISREAD as error:
        kind = record.get("type")
        shown = repr(kind[:80]) if isinstance(kind, str) else "no known type"
        return [Notice(f"a record of {shown} is not understood ({type(error).__name__})")]


def tokens(value: Any) -> int:
    """A number of tokens. Raises one of ``MISREAD`` for what is none."""
    count = int(value)
    if not 0 <= count <= _MOST_TOKENS:
        raise ValueError("no number of tokens")
    return count


def dollars(value: Any) -> Decimal:
    """A cost. Raises one of ``MISREAD`` for what is none; NaN, for one, would exceed no budget."""
    cost = Decimal(str(value))
    if not (cost.is_finite() and 0 <= cost <= _MOST_DOLLARS):
        raise ValueError("no cost")
    return cost


def bounded(value: Any) -> Any:
    """A tool's input as it may stand in a row: as it is if it is small, else the start of its JSON."""
    text = json.dumps(value, default=str)
    return value if len(text) <= BOUND else {"cut": text[:BOUND]}


def text_of(content: Any) -> str:
    """The text of a message's content, which is a string or a list of typed blocks."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(block.get("text", "")) for block in content if isinstance(block, dict) and "text" in block)
    return "" if content is None else json.dumps(content, default=str)
