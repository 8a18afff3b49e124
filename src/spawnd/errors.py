"""The error tree: every failure that a user of spawnd may be shown.

    SpawndError
    ├── UsageError              the request itself is wrong                exit 2
    │   └── PlanError           a plan has problems, each with its place   exit 2
    ├── NotFound                no such run, agent, artifact …             exit 3
    ├── Conflict                it exists already, or moved meanwhile      exit 1
    ├── Unavailable             a backend or program is missing or down    exit 4
    │   ├── Closed              this process has left what it asks         exit 4
    │   ├── Unwritable          a disk is full or read-only                exit 4
    │   └── SchemaOutdated      the database needs `spawnd db upgrade`     exit 4
    ├── Refused                 a policy says no                           exit 2
    ├── SourceError             the repository or revision cannot be used  exit 2
    ├── GitFailed               a git command failed                       exit 1
    │   └── MergeConflict       two sides changed the same lines           exit 1
    └── StaleLease              a worker wrote with a lease it lost        exit 1

Messages say what happened to whom; ``hint`` says the next step. Nobody decides by searching a message:
decisions read the class, ``code`` and typed fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class SpawndError(Exception):
    """The root. ``hint`` is the user's next step, a whole sentence or a command."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(SpawndError):
    """The request is wrong as it stands; sending it again changes nothing."""

    code = "usage"
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a plan.

    ``path`` is dotted with indices, as ``agents[2].check``; ``line`` counts from 1 in the file, or is None
    for a plan that has no file; ``suggestion`` is the nearest known name.
    """

    path: str
    message: str
    line: int | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        nearest = f" (did you mean {self.suggestion!r}?)" if self.suggestion else ""
        return f"{where}{self.path or 'plan'}: {self.message}{nearest}"


class PlanError(UsageError):
    """A plan cannot be used. ``problems`` has every problem found, in the order of the file."""

    code = "plan_invalid"

    def __init__(self, problems: Sequence[Problem], *, origin: str = "plan", hint: str | None = None) -> None:
        self.problems = tuple(problems)
        self.origin = origin
        count = len(self.problems)
        head = f"{origin}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]), hint=hint)


class NotFound(SpawndError):
    """Nothing of that name is on record."""

    code = "not_found"
    exit_code = 3


class Conflict(SpawndError):
    """What was asked contradicts what is on record."""

    code = "conflict"


class Unavailable(SpawndError):
    """A backend or a program that the request needs is missing, down or unreachable."""

    code = "unavailable"
    exit_code = 4
    retryable = True


class Unwritable(Unavailable):
    """A disk or directory of ours takes no more: full, or read-only. Waiting does not mend it."""

    code = "unwritable"
    retryable = False


class Closed(Unavailable):
    """This process has left what it asks: waiting would never end."""

    code = "closed"
    retryable = False


class SchemaOutdated(Unavailable):
    """The database's schema is not the one this version works with."""

    code = "schema_outdated"
    retryable = False


class Refused(SpawndError):
    """A policy forbids it."""

    code = "refused"
    exit_code = 2


class SourceError(SpawndError):
    """The source repository or revision cannot be used."""

    code = "source"
    exit_code = 2


class GitFailed(SpawndError):
    """A git command ended badly. ``stderr`` holds the end of what it said."""

    code = "git"

    def __init__(self, message: str, *, stderr: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.stderr = stderr


class MergeConflict(GitFailed):
    """Two sides changed the same lines. ``files`` are the conflicted paths; ``sides`` name both commits."""

    code = "merge_conflict"

    def __init__(self, message: str, *, files: Sequence[str], sides: tuple[str, str]) -> None:
        super().__init__(message)
        self.files = tuple(files)
        self.sides = sides


class StaleLease(SpawndError):
    """The lease under which a write was made is no longer held; nothing was written."""

    code = "stale_lease"
