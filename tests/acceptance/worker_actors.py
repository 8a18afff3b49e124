"""Workers as processes of their own, which can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spawnd.settings import Settings

_SERVE = """
import asyncio, logging, signal, sys
from spawnd import assembly
from spawnd.settings import Settings

async def serve(slots):
    async with assembly.open_worker(Settings.load(), slots=slots) as worker:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        print(worker.worker_id, flush=True)
        await worker.run()

logging.basicConfig(level=logging.WARNING)
asyncio.run(serve(int(sys.argv[1])))
"""


class Fleet:
    """Worker processes over one installation."""

    def __init__(self, settings: Settings, log: Path) -> None:
        assert settings.database_url is not None
        self._env = {
            **os.environ,
            "SPAWND_DATABASE_URL": settings.database_url.get_secret_value(),
            "SPAWND_SCHEMA_NAME": settings.schema_name,
            "SPAWND_HOME": str(settings.home),
            "SPAWND_POLL_SECONDS": str(settings.poll_seconds),
        }
        self._log = log
        self._workers: list[subprocess.Popen[str]] = []

    @property
    def said(self) -> str:
        """What the workers warned of."""
        return self._log.read_text() if self._log.exists() else ""

    def start(self, *, slots: int = 4) -> subprocess.Popen[str]:
        with self._log.open("a") as log:
            worker = subprocess.Popen(
                [sys.executable, "-c", _SERVE, str(slots)],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._workers.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[str]) -> None:
        """SIGKILL, and wait until it is gone."""
        worker.kill()
        self._discard(worker)

    def stop(self) -> list[int]:
        """SIGTERM to all that live; their exit codes."""
        workers, codes = list(self._workers), []
        for worker in workers:
            worker.terminate()
        for worker in workers:
            codes.append(worker.wait(timeout=60))
            self._discard(worker)
        return codes

    def discard(self) -> None:
        for worker in list(self._workers):
            self.kill(worker)

    def _discard(self, worker: subprocess.Popen[str]) -> None:
        with worker:  # closes its pipe
            worker.wait(timeout=60)
        self._workers.remove(worker)


@contextmanager
def fleet(settings: Settings, log: Path) -> Iterator[Fleet]:
    """A fleet of which nothing is left afterwards."""
    workers = Fleet(settings, log)
    try:
        yield workers
    finally:
        workers.discard()
