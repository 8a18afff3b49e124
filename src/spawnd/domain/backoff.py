"""How long to wait before trying again."""

from __future__ import annotations

from datetime import timedelta


def delay(tries: int, *, spread: float, first_seconds: float, cap_seconds: float) -> timedelta:
    """Exponential backoff with jitter: between half and all of ``first × 2^tries``, at most ``cap``.

    ``spread`` in [0, 1) places it in that span; callers draw it, so that a fleet does not wake at once.
    """
    whole = min(cap_seconds, first_seconds * 2.0 ** min(tries, 30))
    return timedelta(seconds=whole * (0.5 + 0.5 * spread))
