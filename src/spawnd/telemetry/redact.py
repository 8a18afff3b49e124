"""Redaction: no secret value reaches the record, whatever pieces it arrives in; everything else stays as it is.

Two kinds of secrets are known. Values that were resolved for the agent (``env_refs``, ``header_refs``) are replaced
wherever they stand, also in base64, URL and JSON form. Token shapes of well-known issuers are replaced by their form.
Source text must survive byte for byte, so nothing is guessed from a name alone: ``token = parse(line)`` is code, and
only a quoted or bare literal that looks random after a name that means a secret is taken for one.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from spawnd.domain.secrets import KEY_BEGIN, TOKENS

REPLACEMENT = "[redacted]"
_REPLACEMENT = REPLACEMENT.encode()

#: Shorter values would eat ordinary words: `true`, `main`, `8080`.
MIN_SECRET_CHARS = 6

_SHAPES = (
    rb"""
    (?P<pem>-----BEGIN\ [A-Z0-9 ]*PRIVATE\ KEY(?:\ BLOCK)?-----.*?
        (?:-----END\ [A-Z0-9 ]*PRIVATE\ KEY(?:\ BLOCK)?-----|\Z))
  | """
    + TOKENS.encode()
    + rb"""
  | (?P<scheme>\b(?:Bearer|Basic|token)\ )(?=[A-Za-z0-9+/_.=~-]*[0-9])[A-Za-z0-9+/_.=~-]{16,}
  | (?P<url>\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@'"<>]{0,100}:)[^\s/@'"<>]{3,200}(?=@)
  | (?P<name>\b(?:[A-Za-z0-9]+[_-])*(?:password|passwd|secret|api[_-]?key|access[_-]?key|private[_-]?key|auth[_-]?token
        |access[_-]?token|client[_-]?secret)["']?\ ?[=:]\ ?["']?)
    (?=[A-Za-z0-9+/_=-]*[0-9])(?=[A-Za-z0-9+/_=-]*[A-Za-z])[A-Za-z0-9+/_=-]{16,}(?![A-Za-z0-9+/_=.(\[-])
"""
)
_KEPT = ("scheme", "url", "name")
_LINE_MAX = 1024 * 1024
_PEM_MAX = 64 * 1024
_PEM_BEGIN = re.compile(KEY_BEGIN.encode())
_PEM_END = re.compile(rb"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")
_KEY_BEGIN, _KEY_END = (re.compile(pattern.pattern.decode()) for pattern in (_PEM_BEGIN, _PEM_END))


class Redactor:
    """Knows the secrets of one attempt."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        values = sorted(_forms(secrets), key=len, reverse=True)
        known = b"|".join(re.escape(value) for value in values)
        shapes = b"(?:" + known + b")|" + _SHAPES if known else _SHAPES
        # Known values are escaped for the verbose syntax too: re.escape quotes blanks and '#'.
        self._pattern = re.compile(shapes, re.VERBOSE | re.DOTALL)
        self.longest = max(map(len, values), default=0)

    def bytes_(self, data: bytes) -> bytes:
        """``data`` without secrets."""
        return self._pattern.sub(_replace, data)

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        try:
            data = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # half a character, as programs that cut JSON strings print it
            data = text.encode("utf-8", "surrogatepass")
        return self.bytes_(data).decode("utf-8", "replace")

    def value(self, value: Any) -> Any:
        """A JSON-like value without secrets in its strings and keys. Numbers are never touched."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(str(key)): self.value(item) for key, item in value.items()}
            case list() | tuple():
                return [self.value(item) for item in value]
            case bytes():
                return self.text(value.decode("utf-8", "replace"))
            case _:
                return value

    def speech(self) -> Speech:
        """For texts that come one after another."""
        return Speech(self)

    def stream(self) -> StreamRedactor:
        """For output that arrives in chunks."""
        return StreamRedactor(self)


class Speech:
    """Redacts messages in their order: a private key that is printed line by line begins in one and ends in another."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._inside = 0  # how much more may belong to a key that has begun
        self._last = ("", "")

    def text(self, text: str) -> str:
        """The next message, without secrets."""
        self._last = (text, self._next(text))
        return self._last[1]

    def repeat(self, text: str) -> str:
        """A message that may be the last one once more, as a final message is."""
        return self._last[1] if text == self._last[0] else self.text(text)

    def _next(self, text: str) -> str:
        before = ""
        if self._inside > 0:
            ending = _KEY_END.search(text)
            if ending is None:
                self._inside -= len(text)
                return REPLACEMENT
            self._inside, before, text = 0, REPLACEMENT, text[ending.end() :]
        begun = [key.end() for key in _KEY_BEGIN.finditer(text)]
        if begun and not _KEY_END.search(text, begun[-1]):
            self._inside = _PEM_MAX
        return before + self._redactor.text(text)


class StreamRedactor:
    """Redacts a stream line by line, holding back what may still become a secret.

    Whole lines leave at once; a private key's lines are held until its end (at most 64 KiB). A secret that holds
    line ends is known by each of its lines too (see ``_forms``), so a line is always enough.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._pending = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take a chunk; returns what is safe to keep."""
        self._pending += chunk
        cut = self._pending.rfind(b"\n") + 1
        for begin in _PEM_BEGIN.finditer(self._pending, 0, cut):
            if not _PEM_END.search(self._pending, begin.end(), cut):
                if len(self._pending) - begin.start() < _PEM_MAX:
                    cut = self._pending.rfind(b"\n", 0, begin.start()) + 1
                break
        if cut == 0 and len(self._pending) > _LINE_MAX:
            # A line without end: let its beginning go, but nothing that could be the beginning of a secret.
            cut = len(self._pending) - max(self._redactor.longest, _PEM_MAX)
            redacted = self._redactor.bytes_(self._pending)
            self._pending = redacted[cut:] if cut < len(redacted) else b""
            return redacted[:cut]
        safe, self._pending = self._pending[:cut], self._pending[cut:]
        return self._redactor.bytes_(safe) if safe else b""

    def flush(self) -> bytes:
        """The rest."""
        rest, self._pending = self._pending, b""
        return self._redactor.bytes_(rest) if rest else b""


def _replace(match: re.Match[bytes]) -> bytes:
    kept = match.lastgroup
    return (match[kept] if kept in _KEPT else b"") + _REPLACEMENT


def _forms(secrets: Iterable[str]) -> set[bytes]:
    """Each secret as it may appear: itself, its lines, JSON-escaped, URL-quoted, in base64 at any offset."""
    forms: set[bytes] = set()
    for secret in secrets:
        stripped = secret.strip()
        if len(stripped) < MIN_SECRET_CHARS or stripped.lower() in ("true", "false"):
            continue
        parts = {secret, stripped} | {line.strip() for line in secret.splitlines() if len(line.strip()) >= 12}
        for part in parts:
            raw = part.encode("utf-8", "surrogateescape")
            forms |= {raw, quote(part, safe="").encode(), json.dumps(part)[1:-1].encode()}
            if len(raw) >= 9:
                forms |= _base64_forms(raw)
    return {form for form in forms if len(form) >= MIN_SECRET_CHARS}


def _base64_forms(raw: bytes) -> set[bytes]:
    """The base64 digits that depend on the secret alone, at each of the three alignments, both alphabets."""
    forms = set()
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            encoded = encode(b"\0" * offset + raw).rstrip(b"=")
            # The first and last digits also hold bits of what stands beside the secret.
            forms.add(encoded[(0, 2, 3)[offset] : len(encoded) - (1 if (offset + len(raw)) % 3 else 0)])
    return forms
