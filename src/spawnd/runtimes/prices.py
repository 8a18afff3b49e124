"""What tokens cost, as dated data: list prices in US dollars per million tokens.

A model that is not in the table has no known cost: it is shown as unknown and never counted as free. A provider's own
figure, where a program reports one, always wins. SPAWND_PRICES_FILE names a TOML file with further models, or others'
prices for these; it is looked at first:

    [gpt-7]
    input = 2.0
    cached_input = 0.2
    cache_write = 0      # may be left out
    output = 12.0
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from spawnd.domain.usage import Usage
from spawnd.errors import UsageError

#: When the table was last compared with the providers' price pages.
DATED: Final = "2025-11"

_MILLION = Decimal(1_000_000)
#: A dollar a token; more is a slip.
_DEAREST = _MILLION


@dataclass(frozen=True, slots=True)
class Price:
    """Per million tokens."""

    input: Decimal
    cached_input: Decimal
    cache_write: Decimal
    output: Decimal


def _price(input_: str, cached: str, write: str, output: str) -> Price:
    return Price(Decimal(input_), Decimal(cached), Decimal(write), Decimal(output))


#: Beginning of a model's name → price; the longest beginning that fits counts.
TABLE: Final[dict[str, Price]] = {
    "gpt-5": _price("1.25", "0.125", "0", "10"),
    "gpt-5-mini": _price("0.25", "0.025", "0", "2"),
    "gpt-5-nano": _price("0.05", "0.005", "0", "0.4"),
    "gpt-5-pro": _price("15", "15", "0", "120"),
    "gpt-5-codex": _price("1.25", "0.125", "0", "10"),
    "gpt-5.1": _price("1.25", "0.125", "0", "10"),
    "gpt-5.1-codex-mini": _price("0.25", "0.025", "0", "2"),
    "gpt-4.1": _price("2", "0.5", "0", "8"),
    "gpt-4.1-mini": _price("0.4", "0.1", "0", "1.6"),
    "o3": _price("2", "0.5", "0", "8"),
    "o4-mini": _price("1.1", "0.275", "0", "4.4"),
    "codex-mini": _price("1.5", "0.375", "0", "6"),
    "claude-opus-4-1": _price("15", "1.5", "18.75", "75"),
    "claude-opus-4-5": _price("5", "0.5", "6.25", "25"),
    "claude-sonnet-4": _price("3", "0.3", "3.75", "15"),
    "claude-haiku-4-5": _price("1", "0.1", "1.25", "5"),
    "claude-3-5-haiku": _price("0.8", "0.08", "1", "4"),
}


def priced(usage: Usage, *, file: Path | None = None) -> Usage:
    """The same usage with its cost, if the model's price is known. Raises ``UsageError`` for a wrong price file."""
    if file is not None and (price := _find(usage.model, _read(file, file.stat().st_mtime if file.exists() else 0.0))):
        return _with_cost(usage, price, f"prices:{file.name}")
    if price := _find(usage.model, TABLE):
        return _with_cost(usage, price, f"prices:{DATED}")
    return replace(usage, cost_usd=None, cost_source="none")


def _with_cost(usage: Usage, price: Price, source: str) -> Usage:
    cost = (
        usage.input_tokens * price.input
        + usage.cached_input_tokens * price.cached_input
        + usage.cache_write_tokens * price.cache_write
        + usage.output_tokens * price.output
    ) / _MILLION
    return replace(usage, cost_usd=cost.quantize(Decimal("0.000001")), cost_source=source)


def _find(model: str | None, table: Mapping[str, Price]) -> Price | None:
    """The longest beginning that fits. ``gpt-5`` says nothing about ``gpt-5.7``: it must end at a dash or the end."""
    if not model:
        return None
    name = model.lower().removeprefix("openai/").removeprefix("anthropic/")
    fitting = [start for start in table if name == start or name.startswith(f"{start}-")]
    return table[max(fitting, key=len)] if fitting else None


@functools.lru_cache(maxsize=4)
def _read(file: Path, stamp: float) -> Mapping[str, Price]:
    """The operator's own prices. ``stamp`` is the file's mtime, so that an edit is seen."""
    try:
        tables = tomllib.loads(file.read_text())
        return {
            model.lower(): _checked(
                _price(str(row["input"]), str(row["cached_input"]), str(row.get("cache_write", 0)), str(row["output"]))
            )
            for model, row in tables.items()
        }
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError, InvalidOperation) as error:
        raise UsageError(
            f"SPAWND_PRICES_FILE {file} cannot be used: {type(error).__name__}: {error}",
            hint="Each table is a model with input, cached_input and output in US dollars per million tokens.",
        ) from None


def _checked(price: Price) -> Price:
    if not all(amount.is_finite() and 0 <= amount <= _DEAREST for amount in astuple(price)):
        raise ValueError(f"a price is a number from 0 to {_DEAREST}")
    return price
