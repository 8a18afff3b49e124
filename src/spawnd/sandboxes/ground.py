"""What every room gives its processes, whatever else they are given."""

from __future__ import annotations

import sys
from pathlib import Path

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def base_environment(home: Path, tmp: Path) -> dict[str, str]:
    """PATH, HOME, TMPDIR, LANG and USER: nothing of the worker's own environment but the place of its Python."""
    # The interpreter that runs spawnd comes last: plans say `python3` and mean some python3, on any machine.
    own = str(Path(sys.executable).parent)
    return {
        "PATH": f"{_SYSTEM_PATH}:{own}",
        "HOME": str(home),
        "TMPDIR": str(tmp),
        "LANG": "C.UTF-8",
        "USER": "agent",
        "LOGNAME": "agent",
        "TERM": "dumb",
    }
