"""What providers' words mean: the class of a failure, and when a limit opens again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spawnd.domain.failures import FailureClass as Class
from spawnd.runtimes.limits import failure_of, reset_time

#: Saturday noon in New York: 17:00 UTC.
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=ZoneInfo("America/New_York"))
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def utc(day: int, hour: int, minute: int = 0, *, month: int = 11, year: int = 2026) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("Claude AI usage limit reached|1795276800", datetime.fromtimestamp(1795276800, UTC)),
        ("You've hit your limit · resets 3pm (America/New_York)", utc(21, 20)),
        ("You've hit your session limit · resets 3pm (Europe/London)", utc(22, 15)),
        ("5-hour limit reached ∙ resets 11am", utc(22, 16)),
        ("Your limit will reset at 3pm (America/Santiago).", utc(21, 18)),
        ("resets 10:30pm (America/Argentina/Buenos_Aires)", utc(22, 1, 30)),
        ("resets 5am (America/Port-au-Prince)", utc(22, 10)),
        ("resets 12am", utc(22, 5)),
        ("resets 12pm (UTC)", utc(22, 12)),
        ("resets at 9:00 a.m.", utc(22, 14)),
        ("resets at 00:00 (UTC)", utc(22, 0)),
        ("weekly limit reached ∙ resets Nov 24, 3pm (UTC)", utc(24, 15)),
        ("weekly limit reached ∙ resets Nov 24 at 3pm (UTC)", utc(24, 15)),
        ("You've hit your usage limit. Upgrade to Plus … or try again at 3:45 PM.", utc(21, 20, 45)),
        ("You've hit your usage limit … try again at Nov 24th, 2026 9:00 AM.", utc(24, 14)),
        ("You've hit your usage limit … try again at Dec 4, 2026 12:00 AM.", utc(4, 5, month=12)),
    ],
)
def test_a_time_that_is_stated_is_read(text: str, when: datetime) -> None:
    assert reset_time(text, now=NOW) == when


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("You've hit your usage limit … try again in 2 days 3 hours 5 minutes.", 2 * 86400 + 3 * 3600 + 5 * 60),
        ("Rate limit reached for gpt-5 … Please try again in 1.2s.", 1.2),
        ("Rate limit reached … Please try again in 20ms. Visit …", 0.02),
        ("Rate limit reached … Please try again in 6m0s. Visit …", 360),
        ("Rate limit reached … Please try again in 1m30.5s.", 90.5),
        ("Rate limit reached … Please try again in 1h12m0s.", 3600 + 12 * 60),
        ("try again in 1 hour and 5 minutes", 3900),
        ("You've hit your fast limit · resets in 3h", 3 * 3600),
        ("Please retry after 26 seconds.", 26),
    ],
)
def test_a_span_that_is_stated_is_added(text: str, seconds: float) -> None:
    assert reset_time(text, now=NOW) == (NOW + timedelta(seconds=seconds)).astimezone(UTC)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from("dhms")), min_size=1, max_size=4, unique_by=lambda x: x[1])
)
def test_a_span_is_the_sum_of_its_parts_written_together_or_apart(parts: list[tuple[int, str]]) -> None:
    when = (NOW + timedelta(seconds=sum(number * SECONDS[unit] for number, unit in parts))).astimezone(UTC)

    for between in (" ", ", ", ""):
        text = between.join(f"{number}{unit}" for number, unit in parts)
        assert reset_time(f"try again in {text}.", now=NOW) == when, text


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("resets at 15:00 UTC", utc(22, 15)),
        ("resets at 3pm UTC", utc(22, 15)),
        ("resets 3pm (Etc/GMT+5)", utc(21, 20)),
        ("resets 3pm (Mars/Olympus)", None),
        ("resets 3pm (PST)", None),
    ],
)
def test_a_zone_is_honoured_and_one_that_is_not_known_is_not_replaced_by_another(
    text: str, when: datetime | None
) -> None:
    assert reset_time(text, now=NOW.astimezone(ZoneInfo("Asia/Tokyo"))) == when


def test_a_date_without_a_year_is_the_next_of_its_name() -> None:
    newyear = datetime(2026, 12, 30, 12, tzinfo=UTC)

    assert reset_time("resets Jan 2, 3pm", now=newyear) == utc(2, 15, month=1, year=2027)


def test_tomorrow_is_by_the_clock_on_the_wall() -> None:
    # Clocks go back in the night of the first of November 2026.
    now = datetime(2026, 10, 31, 16, tzinfo=ZoneInfo("America/New_York"))

    assert reset_time("resets 3pm (America/New_York)", now=now) == utc(1, 20)


@pytest.mark.parametrize(
    "text",
    [
        "try again later",
        "try again in a few minutes",
        "resets at 3",
        "resets at 25:00",
        "resets at 13pm",
        "resets at 0am",
        "resets Feb 30 at 3pm",
        "resets Mon 10:30am",
        "resets soon",
        "try again in 50 days",
        "try again in 99999999999999999999 days",
        f"try again in {'9' * 400} days",
        "try again at Nov 24th, 2031 9:00 AM.",
        "Claude AI usage limit reached|9999999999",
        "limit reached|12345",
        "resets at 3:99pm",
        "",
    ],
    ids=lambda text: text[:50] or "empty",
)
def test_what_states_no_time_that_can_be_true_states_none(text: str) -> None:
    assert reset_time(text, now=NOW) is None


@given(st.text(max_size=300) | st.from_regex(r"(try again in|resets|try again at) [0-9a-zA-Z:,. ()/|]{0,60}"))
def test_no_words_break_the_reader(text: str) -> None:
    failure = failure_of(text, now=NOW)

    assert failure.message
    assert failure.reset_at is None or failure.reset_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("message", "status", "class_"),
    [
        ("Claude AI usage limit reached|1795276800", None, Class.QUOTA),
        ("You've hit your limit · resets 3pm", None, Class.QUOTA),
        ("You've hit your weekly limit · resets Nov 24, 3pm", None, Class.QUOTA),
        ("You've hit your Opus limit · resets 3pm", None, Class.QUOTA),
        ("You've hit your Sonnet limit · resets 3pm", None, Class.QUOTA),
        ("You've hit your usage limit. Upgrade to Plus", None, Class.QUOTA),
        ("exceeded retry limit, last status: 429 Too Many Requests", None, Class.QUOTA),
        ("API Error: 429 {}", None, Class.QUOTA),
        ("anything", 429, Class.QUOTA),
        ("rate_limit_error", 400, Class.QUOTA),
        ("Your credit balance is too low to access the Anthropic API", 400, Class.PAYMENT),
        ("You exceeded your current quota, please check your plan and billing details", 429, Class.PAYMENT),
        ("insufficient_quota", 429, Class.PAYMENT),
        ("Payment Required", 402, Class.PAYMENT),
        ("You've hit your monthly spend limit · resets Dec 1", 429, Class.PAYMENT),
        ("overloaded_error", 529, Class.OVERLOAD),
        ("API Error: 529 overloaded_error", None, Class.OVERLOAD),
        ("Overloaded", 500, Class.OVERLOAD),
        ("unexpected status 503 Service Unavailable", None, Class.OVERLOAD),
        ("We're currently experiencing high demand", None, Class.OVERLOAD),
        ("Invalid API key · Please run /login", None, Class.AUTHENTICATION),
        ("unexpected status 401 Unauthorized: Missing bearer", None, Class.AUTHENTICATION),
        ("OAuth token has expired", 401, Class.AUTHENTICATION),
        ("permission_error", 403, Class.AUTHENTICATION),
        ("stream disconnected before completion: error sending request", None, Class.NETWORK),
        ("Internal server error", 500, Class.NETWORK),
        ("Request timed out", 408, Class.NETWORK),
        ("ECONNRESET", None, Class.NETWORK),
        ("prompt is too long: 210000 tokens > 200000 maximum", 400, Class.AGENT_ERROR),
        ("model: no-such-model", 404, Class.AGENT_ERROR),
        ("something else", None, Class.AGENT_ERROR),
        ("", None, Class.AGENT_ERROR),
    ],
)
def test_the_class_of_a_failure(message: str, status: int | None, class_: Class) -> None:
    assert failure_of(message, status=status, now=NOW).failure_class is class_


def test_what_a_field_said_goes_before_the_words() -> None:
    said = utc(22, 1)

    assert failure_of("usage limit, resets 3pm", reset_at=said, now=NOW).reset_at == said
    assert failure_of("usage limit, resets 3pm", now=NOW).reset_at == utc(21, 20)


def test_only_a_quota_has_a_reset() -> None:
    for message, status in (("Overloaded, try again in 5 minutes", 529), ("credit balance; resets 3pm", 402)):
        assert failure_of(message, status=status, reset_at=utc(22, 1), now=NOW).reset_at is None


def test_a_long_message_is_shown_short_and_read_whole() -> None:
    failure = failure_of(f"usage limit {'x' * 600} try again in 5 minutes", now=NOW)

    assert len(failure.message) <= 500
    assert failure.reset_at == (NOW + timedelta(minutes=5)).astimezone(UTC)
