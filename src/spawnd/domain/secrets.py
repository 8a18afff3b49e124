"""What secrets look like: forms that issuers give their tokens, in which nothing else comes."""

from __future__ import annotations

import re
from typing import Final

#: Tokens of well-known issuers, for a verbose pattern over bytes or text.
TOKENS: Final = r"""
    (?<![A-Za-z0-9_-])(?:
        sk-[A-Za-z0-9_-]{16,}
      | gh[pousr]_[A-Za-z0-9]{20,}
      | github_pat_[A-Za-z0-9_]{20,}
      | glpat-[A-Za-z0-9_-]{16,}
      | xox[abeoprs]-[A-Za-z0-9-]{10,}
      | (?:AKIA|ASIA)[0-9A-Z]{16}
      | AIza[A-Za-z0-9_-]{30,}
      | npm_[A-Za-z0-9]{30,}
      | pypi-[A-Za-z0-9_-]{30,}
      | eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}
    )
"""

#: The first line of a private key.
KEY_BEGIN: Final = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"

_PATTERNS = (re.compile(TOKENS, re.VERBOSE), re.compile(KEY_BEGIN))
_SHOWN = 6


def secret_in(text: str) -> str | None:
    """The beginning of a secret in ``text``, as much as may be shown; None if there is none."""
    found = next(filter(None, (pattern.search(text) for pattern in _PATTERNS)), None)
    return None if found is None else f"{found[0][:_SHOWN]}…"
