"""What a provider's words mean: the class of a failure and, where it says so, when a limit opens again.

Adapters hand over the status and the message of an error; nothing else in spawnd reads such messages. Seen with
Claude Code 2.1 and Codex 0.163 (November 2026):

    Claude AI usage limit reached|1763740800
    You've hit your limit · resets 3pm (America/New_York)
    You've hit your usage limit. Upgrade to Plus … or try again at 3:45 PM.
    You've hit your usage limit … try again at Nov 24th, 2026 9:00 AM.
    You've hit your usage limit … try again in 2 days 3 hours 5 minutes.
    Rate limit reached for gpt-5 … Please try again in 1.2s.
    exceeded retry limit, last status: 429 Too Many Requests

A reset is read or it is unknown: a span without a known unit, a zone that this machine does not know, a time too far
away give None, never a guess.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from spawnd.domain.failures import Failure, FailureClass

_SHOWN = 500
#: A reset further away than this is a misreading, not a limit.
_FURTHEST = timedelta(days=40)

#: Checked in this order: a message about credit may also speak of a limit.
_WORDS: Final[tuple[tuple[FailureClass, re.Pattern[str]], ...]] = (
    (
        FailureClass.PAYMENT,
        re.compile(
            r"credit balance|insufficient_quota|billing|payment required|exceeded your current quota|spend(ing)? limit",
            re.I,
        ),
    ),
    (
        FailureClass.QUOTA,
        re.compile(
            r"usage limit|hit your (\w+ )?limit|limit reached|rate.?limit|too many requests|quota",
            re.I,
        ),
    ),
    (FailureClass.OVERLOAD, re.compile(r"overloaded|at capacity|high demand|server is busy", re.I)),
    (
        FailureClass.AUTHENTICATION,
        re.compile(
            r"invalid (x-)?api.?key|incorrect api key|unauthorized|authentication|not logged in|/login|log ?in again"
            r"|oauth token|refresh token|token (has )?expired|missing (environment variable|bearer)|permission_error",
            re.I,
        ),
    ),
    (
        FailureClass.NETWORK,
        re.compile(
            r"stream (disconnected|closed|ended|error)|connection|network|timed? ?out|econn|socket hang up"
            r"|reset by peer|internal server error|bad gateway|service unavailable|gateway time|reconnecting"
            r"|error sending request|dns|unexpected status 5\d\d",
            re.I,
        ),
    ),
)
_STATUS = re.compile(r"(?:status(?: code)?:?|API Error:?|HTTP)\s*(\d{3})\b", re.I)

_EPOCH = re.compile(r"\|(\d{10})\b")
_IN = re.compile(r"\b(?:try again|retry|resets?) (?:in|after) ((?:\d+(?:\.\d+)?\s*[a-z]+[\s,]*(?:and )?)+)", re.I)
_PART = re.compile(
    r"(\d+(?:\.\d+)?)\s*(milliseconds?|ms|days?|d|hours?|hrs?|h|minutes?|mins?|m|seconds?|secs?|s)(?![a-z])", re.I
)
_AT = re.compile(
    r"\b(?:try again at|resets?(?: at| on)?)\s+"
    r"(?:(?P<month>[A-Z][a-z]{2})[a-z]*\.? (?P<day>\d{1,2})(?:st|nd|rd|th)?(?:,? (?P<year>\d{4}))?,?\s*(?:at )?)?"
    r"(?P<hour>\d{1,2})(?::(?P<minute>\d{2})(?::\d{2})?)?\s*(?P<half>[ap]\.?m\.?)?"
    # A zone is whatever stands in brackets; without them a name with a slash, capitals, or an offset.
    r"(?:\s*\((?P<zone>[^)]*)"
    r"|\s*(?P<bare>\w+/[\w/+-]+|(?:UTC|GMT|(?-i:Z|[A-Z]{2,5}))\b(?:[+-][\d:]+)?|[+-]\d[\d:]*))?",
    re.I,
)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]


def failure_of(
    message: str, *, status: int | None = None, reset_at: datetime | None = None, now: datetime | None = None
) -> Failure:
    """The failure that an error of the provider means. ``status`` is its HTTP status, if known; ``reset_at`` what a
    field or header said; ``now`` (aware) is when it was said."""
    text = " ".join(message.split()) or "The provider failed without a word."
    found = _STATUS.search(text)
    class_ = _class(text, status or (int(found[1]) if found else None))
    if class_ is not FailureClass.QUOTA:
        return Failure(class_, text[:_SHOWN])
    reset = reset_at or reset_time(text, now=now or datetime.now().astimezone())
    return Failure(class_, text[:_SHOWN], reset_at=reset)


def _class(text: str, status: int | None) -> FailureClass:
    by_words = next((class_ for class_, pattern in _WORDS if pattern.search(text)), None)
    match status:
        case None:
            return by_words or FailureClass.AGENT_ERROR
        case 402:
            return FailureClass.PAYMENT
        case 429:
            return FailureClass.PAYMENT if by_words is FailureClass.PAYMENT else FailureClass.QUOTA
        case 401 | 403:
            return FailureClass.AUTHENTICATION
        case 503 | 529:
            return FailureClass.OVERLOAD
        case 408 | 409:
            return FailureClass.NETWORK
        case _ if status >= 500:
            return FailureClass.OVERLOAD if by_words is FailureClass.OVERLOAD else FailureClass.NETWORK
        case _ if by_words in (FailureClass.PAYMENT, FailureClass.QUOTA):
            return by_words
        case _:
            return FailureClass.AGENT_ERROR


def reset_time(text: str, *, now: datetime) -> datetime | None:
    """When a limit opens again (UTC), if the text says so; times without a zone are in the zone of ``now``."""
    if epoch := _EPOCH.search(text):
        return _plausible(datetime.fromtimestamp(int(epoch[1]), UTC), now)
    if within := _IN.search(text):
        seconds = sum(float(number) * _seconds(unit) for number, unit in _PART.findall(within[1]))
        # Compared before it is added: a span may be longer than there is time.
        known = 0 < seconds <= _FURTHEST.total_seconds()
        return now.astimezone(UTC) + timedelta(seconds=seconds) if known else None
    if at := _AT.search(text):
        return _plausible(_clock_time(at, now), now)
    return None


def _seconds(unit: str) -> float:
    word = unit.lower()
    if word in ("ms", "millisecond", "milliseconds"):
        return 0.001
    return {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}[word[0]]


def _clock_time(at: re.Match[str], now: datetime) -> datetime | None:
    """A time of day, with or without a date, in the zone that is named or in ``now``'s."""
    name = at["zone"] if at["zone"] is not None else at["bare"]
    zone = now.tzinfo if name is None else _zone(name.strip())
    if zone is None:
        return None
    hour, minute = int(at["hour"]), int(at["minute"] or 0)
    if at["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if at["half"].lower().startswith("p") else 0)
    elif at["minute"] is None:
        return None  # a bare number may be anything
    here = now.astimezone(zone)
    try:
        when = here.replace(hour=hour, minute=minute, second=0, microsecond=0)
        if at["month"]:
            month = _MONTHS.index(at["month"].lower()) + 1
            when = when.replace(month=month, day=int(at["day"]), year=int(at["year"] or here.year))
            if at["year"] is None and when < here - timedelta(days=1):
                when = when.replace(year=here.year + 1)
        elif when <= here:
            when += timedelta(days=1)
        return when.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _plausible(when: datetime | None, now: datetime) -> datetime | None:
    if when is None or when - now > _FURTHEST:
        return None
    return when.astimezone(UTC)
