"""Real servers in directories of their own, and processes that use them and can be killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from embedded_actors import Actor, end_server
from spawnd.store.embedded import EmbeddedPostgres
from spawnd.store.embedded.layout import Layout

# Tests that become another user can only be asked of root.
collect_ignore = [] if os.geteuid() == 0 else ["test_embedded_users.py"]


@pytest.fixture
def actor() -> Iterator[Callable[..., Actor]]:
    made: list[Actor] = []

    def make(home: Path, body: str, **options: Any) -> Actor:
        made.append(Actor(home, body, **options))
        return made[-1]

    yield make
    for one in made:
        one.discard()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can enter (pytest's own are closed to all others)."""
    path = Path(tempfile.mkdtemp(prefix="spawnd-test-"))
    path.chmod(0o755)
    yield path
    for data in path.rglob("data/postmaster.pid"):
        end_server(data.parent)
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def cluster_home() -> Iterator[Path]:
    """A data directory whose cluster has been made."""
    path = Path(tempfile.mkdtemp(prefix="spawnd-test-"))
    path.chmod(0o755)
    with EmbeddedPostgres(path / "home", environ=dict(os.environ)):
        pass
    yield path / "home"
    shutil.rmtree(path)


@pytest.fixture
def home(cluster_home: Path) -> Iterator[Path]:
    """A data directory whose server is not running, for tests that leave it whole: the others use it too."""
    yield cluster_home
    end_server(Layout(cluster_home).data)


@pytest.fixture
def own_home(place: Path, cluster_home: Path) -> Path:
    """The same, for tests that break it."""
    subprocess.run(["cp", "-a", cluster_home, place / "home"], check=True)
    return place / "home"


@pytest.fixture
def new_home(place: Path) -> Path:
    """A data directory that does not exist yet."""
    return place / "new"


@pytest.fixture
def postgres(home: Path) -> Iterator[EmbeddedPostgres]:
    """A started server."""
    with EmbeddedPostgres(home, environ=dict(os.environ)) as started:
        yield started
