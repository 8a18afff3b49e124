"""A terminal of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import terminal
from terminal import Shell


@pytest.fixture
def shell(server: str, schema: str, tmp_path: Path, repo: Path) -> Iterator[Shell]:
    """`spawnd` on a database, data directory and repository of the test's own."""
    with terminal.shell(tmp_path, repo, database_url=server, schema_name=schema) as opened:
        yield opened
