"""The command line: parse, call, print. One file per noun; each is imported only when its command is used."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from spawnd.cli.commands import program
from spawnd.cli.failing import reported


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 0 done, 1 the run or agent failed, 2 usage, 3 not found,
    4 a backend is unavailable, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with reported(words) as ended:
        ended.code = program().main(args=words, prog_name="spawnd", standalone_mode=False) or 0
    return ended.code
