"""Where artifact bytes live: content-addressed, written once, durable before ``put`` returns."""

from __future__ import annotations

from typing import Protocol


class ArtifactStore(Protocol):
    """Bytes by their sha-256 (64 lower-case hex digits)."""

    async def put(self, data: bytes) -> str:
        """Store and return the sha-256. Storing the same bytes again is free. Durable on return."""
        ...

    async def get(self, sha256: str) -> bytes:
        """The bytes. Raises ``errors.NotFound`` if absent, ``errors.Conflict`` if they do not match."""
        ...

    async def exists(self, sha256: str) -> bool: ...

    async def delete(self, sha256: str) -> None:
        """Forget the bytes. Absent is fine."""
        ...
