"""Tokens and cost of model calls, in one canonical form for every provider.

Providers disagree on whether cached input is part of ``input_tokens`` (OpenAI: yes; Anthropic: no). Here the
three input kinds are disjoint: a prompt costs ``input + cached_input + cache_write``. ``output_tokens`` is
everything generated; ``reasoning_tokens`` says how much of it was reasoning and is never added again.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Usage:
    """Cumulative usage of one attempt. Counts are tokens; ``cost_usd`` is None when no price is known."""

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: Decimal | None = None
    #: where the cost comes from: "provider" (its own figure), "prices:<date>" (tokens × our table), "none"
    cost_source: str = "none"
    model: str | None = None

    @property
    def total_input_tokens(self) -> int:
        return self.input_tokens + self.cached_input_tokens + self.cache_write_tokens
