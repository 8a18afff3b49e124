"""A disk or directory of ours that takes no more, said by the variable that moves it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from spawnd.domain.failures import Failure, FailureClass
from spawnd.errors import GitFailed
from spawnd.settings import Settings

_FULL = 1024 * 1024


def trouble(error: Exception, settings: Settings) -> Failure | None:
    """What ``error`` comes to if one of our places is the cause; None if it is something else."""
    if not isinstance(error, OSError | GitFailed):
        return None
    if isinstance(error, OSError) and isinstance(error.filename, str):
        for variable, root in _places(settings):
            if Path(error.filename).is_relative_to(root) or root.is_relative_to(error.filename):
                return _failure(f"{error.filename} cannot be used: {error.strerror}.", variable)
    for variable, root in _places(settings):
        there = next(folder for folder in (root, *root.parents) if folder.exists())
        if shutil.disk_usage(there).free < _FULL:
            return _failure(f"The disk of {root} is full.", variable)
    return None


def _places(settings: Settings) -> Iterator[tuple[str, Path]]:
    yield "SPAWND_SCRATCH_ROOT", settings.scratch_root or settings.workspaces
    yield "SPAWND_SETUP_CACHE_ROOT", settings.setup_caches
    yield "SPAWND_SOURCE_CACHE_ROOT", settings.mirrors


def _failure(message: str, variable: str) -> Failure:
    return Failure(FailureClass.SETUP_FAILED, f"{message} Free space, or set {variable} to another directory.")
