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
from urllib.parse import quote, quote_plus

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
  | (?P<name>\b(?i:(?:[A-Za-z0-9]+[_-])*(?:password|passwd|secret|api[_-]?key|access[_-]?key|private[_-]?key
        |auth[_-]?token|access[_-]?token|client[_-]?secret))["']?\ ?[=:]\ ?["']?)
    (?=[A-Za-z0-9+/_=-]*[0-9])(?=[A-Za-z0-9+/_=-]*[A-Za-z])[A-Za-z0-9+/_=-]{16,}(?![A-Za-z0-9+/_=.(\[-])
"""
)
_KEPT = ("scheme", "url", "name")
_LINE_MAX = 1024 * 1024
_PEM_MAX = 64 * 1024
_PEM_BEGIN = re.compile(KEY_BEGIN.encode())
_PEM_END = re.compile(rb"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")
_KEY_BEGIN, _KEY_END = (re.compile(pattern.pattern.decode()) for pattern in (_PEM_BEGIN, _PEM_END))


_SHAPE = re.compile(_SHAPES, re.VERBOSE | re.DOTALL)

#: From, to.
_Span = tuple[int, int]


class Redactor:
    """Knows the secrets of one attempt."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = tuple(secrets)
        values = sorted(_forms(self._secrets), key=len, reverse=True)
        self._known = re.compile(b"|".join(re.escape(value) for value in values)) if values else None
        self._several_lines = [value for value in values if b"\n" in value]
        self.longest = max(map(len, values), default=0)

    def knowing(self, secrets: Iterable[str]) -> Redactor:
        """One that knows these too."""
        return Redactor([*self._secrets, *secrets])

    def bytes_(self, data: bytes) -> bytes:
        """``data`` without secrets."""
        parts, at = [], 0
        for start, end in self.spans(data):
            parts += [data[at:start], _REPLACEMENT]
            at = end
        return b"".join([*parts, data[at:]]) if at else data

    def spans(self, data: bytes) -> list[_Span]:
        """Where secrets stand, in order; those that overlap are one."""
        found = [_span(match) for match in _SHAPE.finditer(data)]
        at = 0
        while self._known is not None and (match := self._known.search(data, at)):
            found.append(match.span())
            at = match.start() + 1  # another may begin inside of this one
        merged: list[_Span] = []
        for start, end in sorted(found):
            if merged and start < merged[-1][1]:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((start, end))
        return merged

    def unfinished(self, data: bytes) -> int:
        """Where a secret begins that goes on after ``data``, which is whole lines; ``len(data)`` if none does."""
        begins = [len(data)]
        for key in _PEM_BEGIN.finditer(data):
            if not _PEM_END.search(data, key.end()) and len(data) - key.start() < _PEM_MAX:
                begins.append(key.start())
                break
        for value in self._several_lines:
            begins += [
                len(data) - length
                for length in _line_ends(value)
                if length < len(value) and data.endswith(value[:length])
            ]
        return min(begins)

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

    Whole lines leave at once, but for those of a private key (at most 64 KiB) or of a known value that goes on in the
    next line.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._pending = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take a chunk; returns what is safe to keep."""
        self._pending += chunk
        cut = self._pending.rfind(b"\n") + 1
        if cut:
            cut = self._line_start(self._redactor.unfinished(self._pending[:cut]))
        if cut == 0 and len(self._pending) > _LINE_MAX:
            cut = self._safe_length()
        safe, self._pending = self._pending[:cut], self._pending[cut:]
        return self._redactor.bytes_(safe) if safe else b""

    def _line_start(self, at: int) -> int:
        return self._pending.rfind(b"\n", 0, at) + 1

    def _safe_length(self) -> int:
        """How much of a line without end may go: nothing that is part of a secret, or could be the beginning of one."""
        cut = len(self._pending) - max(self._redactor.longest, _PEM_MAX)
        for start, end in self._redactor.spans(self._pending):
            if start < cut < end:
                cut = start
        # One that began with the line and does not end: it goes as a whole, so that memory stays bounded.
        return cut or len(self._pending)

    def flush(self) -> bytes:
        """The rest."""
        rest, self._pending = self._pending, b""
        return self._redactor.bytes_(rest) if rest else b""


def _span(match: re.Match[bytes]) -> _Span:
    """What of a shape is the secret: not the name or the scheme before it."""
    kept = match.lastgroup
    return (match.end(kept) if kept in _KEPT else match.start()), match.end()


def _line_ends(value: bytes) -> list[int]:
    """Lengths of the beginnings of ``value`` that end with a line."""
    return [at + 1 for at, byte in enumerate(value) if byte == 0x0A]


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
            forms |= {raw, json.dumps(part)[1:-1].encode(), json.dumps(part, ensure_ascii=False)[1:-1].encode()}
            forms |= {quote(part, safe=safe).encode() for safe in ("", "/", "!'()*")} | {quote_plus(part).encode()}
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
