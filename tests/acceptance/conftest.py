"""Workers that can be killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from systems import System
from worker_actors import Fleet, fleet


@pytest.fixture
def workers(system: System, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(system.settings, tmp_path / "workers.log") as opened:
        yield opened
