"""Artifacts as files: ``<root>/<first two digits>/<sha256>``, through obstore, and on the disk before we say so.

obstore's local store writes to a temporary name and renames, so a reader never sees half an object; it does not
fsync, so a row could outlive its bytes after a power loss. We fsync the file and its folder.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import obstore
from obstore.store import LocalStore

from spawnd.errors import Conflict, NotFound, Unwritable


class LocalArtifacts:
    """A folder of content-addressed files, shared by all processes of a user."""

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Unwritable(
                f"Artifacts cannot be stored in {root}: {error.strerror}.",
                hint="Set SPAWND_HOME to a writable directory.",
            ) from error
        self._store = LocalStore(prefix=root)

    async def put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        if not await self.exists(sha256):
            try:
                await obstore.put_async(self._store, _key(sha256), data)
                await asyncio.to_thread(self._sync, sha256)
            except OSError as error:
                raise Unwritable(
                    f"An artifact of {len(data):,} bytes cannot be stored: {error.strerror or error}.",
                    hint=f"Free space in {self._root}.",
                ) from error
        return sha256

    async def get(self, sha256: str) -> bytes:
        try:
            data = bytes(await (await obstore.get_async(self._store, _key(sha256))).bytes_async())
        except FileNotFoundError:
            raise NotFound(f"No artifact {sha256} is stored.") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Conflict(f"The stored bytes of artifact {sha256} are damaged.")
        return data

    async def exists(self, sha256: str) -> bool:
        try:
            await obstore.head_async(self._store, _key(sha256))
        except FileNotFoundError:
            return False
        return True

    async def delete(self, sha256: str) -> None:
        if await self.exists(sha256):
            await obstore.delete_async(self._store, _key(sha256))

    def _sync(self, sha256: str) -> None:
        path = self._root / _key(sha256)
        for target in (path, path.parent, self._root):
            descriptor = os.open(target, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"
