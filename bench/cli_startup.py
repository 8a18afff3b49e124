"""How long ``spawnd --help`` takes to start, beside a bare interpreter, in the same run.

    .venv/bin/python bench/cli_startup.py [--rounds 15] [--limit-seconds 0.25]

Prints the median and the fastest of each and the ratio to the bare interpreter. With --limit-seconds it exits 1 if the
median of `spawnd --help` is above it. The rounds alternate, so that a busy machine slows all alike.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

_SPAWND = Path(sys.executable).with_name("spawnd")
_COMMANDS: dict[str, list[str]] = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "python -c 'import typer'": [sys.executable, "-c", "import typer"],
    "spawnd --version": [str(_SPAWND), "--version"],
    "spawnd --help": [str(_SPAWND), "--help"],
}
_BASELINE = "python -c pass"
_SUBJECT = "spawnd --help"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the start of the command line.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--limit-seconds", type=float, default=None)
    arguments = parser.parse_args()

    for command in _COMMANDS.values():  # the first run compiles bytecode and fills caches
        _seconds(command)
    times: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    for _ in range(arguments.rounds):
        for name, command in _COMMANDS.items():
            times[name].append(_seconds(command))

    base = statistics.median(times[_BASELINE])
    print(f"{'command':<26} {'median':>8} {'fastest':>8} {'ratio':>6}")
    for name, taken in times.items():
        median = statistics.median(taken)
        print(f"{name:<26} {median * 1000:>5.0f} ms {min(taken) * 1000:>5.0f} ms {median / base:>6.1f}")

    median = statistics.median(times[_SUBJECT])
    if arguments.limit_seconds is not None and median > arguments.limit_seconds:
        print(f"{_SUBJECT} takes {median:.3f} s: more than {arguments.limit_seconds} s")
        return 1
    return 0


def _seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
