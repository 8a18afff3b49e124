"""Tokens in one form for every provider."""

from __future__ import annotations

from spawnd.domain.usage import Usage


def test_the_kinds_of_input_add_up_and_reasoning_is_part_of_the_output() -> None:
    usage = Usage(input_tokens=100, cached_input_tokens=20, cache_write_tokens=3, output_tokens=50, reasoning_tokens=40)

    assert usage.total_input_tokens == 123


def test_nothing_used_has_no_known_price() -> None:
    assert (Usage().total_input_tokens, Usage().cost_usd, Usage().cost_source) == (0, None, "none")
