"""What tokens cost: by the table, by the operator's own, or unknown; never free by accident."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from spawnd.domain.usage import Usage
from spawnd.errors import UsageError
from spawnd.runtimes.prices import DATED, TABLE, priced

MILLION = 1_000_000
OWN = "[my-model]\ninput = 2\ncached_input = 0.5\noutput = 10\n"


def cost(model: str | None, *, file: Path | None = None, **tokens: int) -> Decimal | None:
    return priced(Usage(model=model, **tokens), file=file).cost_usd


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "prices.toml"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("gpt-5", "1.25"),
        ("gpt-5-2025-08-07", "1.25"),
        ("GPT-5", "1.25"),
        ("openai/gpt-5-mini", "0.25"),
        ("gpt-5-codex", "1.25"),
        ("gpt-5-nano-2025-08-07", "0.05"),
        ("gpt-5.1-codex", "1.25"),
        ("gpt-5.1-codex-mini", "0.25"),
        ("o3", "2"),
        ("claude-sonnet-4-5-20250929", "3"),
        ("anthropic/claude-opus-4-5-20251101", "5"),
        ("claude-haiku-4-5", "1"),
    ],
)
def test_a_known_model_costs_its_list_price(model: str, price: str) -> None:
    usage = priced(Usage(model=model, input_tokens=MILLION))

    assert (usage.cost_usd, usage.cost_source) == (Decimal(price), f"prices:{DATED}")


@pytest.mark.parametrize("model", ["gpt-5.7", "gpt-50", "gpt-4o", "o3x", "llama", "claude", "", None])
def test_an_unknown_model_has_an_unknown_cost_and_not_none_at_all(model: str | None) -> None:
    usage = priced(Usage(model=model, input_tokens=MILLION, cost_usd=Decimal(7), cost_source="x"))

    assert (usage.cost_usd, usage.cost_source, usage.input_tokens) == (None, "none", MILLION)


def test_each_kind_of_token_has_its_price_and_reasoning_is_not_paid_twice() -> None:
    tokens = {
        "input_tokens": 1000,
        "cached_input_tokens": 2000,
        "cache_write_tokens": 4000,
        "output_tokens": 500,
        "reasoning_tokens": 400,
    }

    assert cost("claude-sonnet-4-5", **tokens) == Decimal("0.0261")
    assert cost("claude-sonnet-4-5") == 0
    assert cost("gpt-5", cached_input_tokens=MILLION) == Decimal("0.125")


def test_the_table_makes_sense() -> None:
    for name, price in TABLE.items():
        assert 0 < price.cached_input <= price.input < price.output, name


def test_the_operators_prices_go_first_and_the_table_stays(own: Path) -> None:
    own.write_text(f"{OWN}\n[GPT-5]\ninput = 100\ncached_input = 1\ncache_write = 3\noutput = 200\n")

    mine = priced(Usage(model="my-model-v2", input_tokens=MILLION), file=own)

    assert (mine.cost_usd, mine.cost_source) == (2, "prices:prices.toml")
    assert cost("gpt-5", file=own, input_tokens=MILLION) == 100
    assert cost("gpt-5-codex", file=own, cache_write_tokens=MILLION) == 3
    assert cost("o3", file=own, input_tokens=MILLION) == 2
    assert cost("other", file=own, input_tokens=MILLION) is None


def test_an_edit_of_the_file_is_seen(own: Path) -> None:
    assert cost("my-model", file=own, input_tokens=MILLION) == 2
    own.write_text(OWN.replace("input = 2", "input = 4", 1))
    os.utime(own, (1, 1))

    assert cost("my-model", file=own, input_tokens=MILLION) == 4


@pytest.mark.parametrize(
    "content",
    [
        b"not toml",
        b"[m]\ninput = 1\n",
        b"[m]\ninput = 'much'\ncached_input = 1\noutput = 1\n",
        b"[m]\ninput = true\ncached_input = 1\noutput = 1\n",
        b"[m]\ninput = nan\ncached_input = 1\noutput = 1\n",
        b"[m]\ninput = inf\ncached_input = 1\noutput = 1\n",
        b"[m]\ninput = -1\ncached_input = 1\noutput = 1\n",
        b"input = 1\n",
        b"[[m]]\ninput = 1\n",
        b"[m]\ninput = 1\ncached_input = 1\noutput = 1\n# \xff\n",
        None,
    ],
)
def test_a_wrong_price_file_is_said_plainly(own: Path, content: bytes | None) -> None:
    if content is None:
        own.unlink()
    else:
        own.write_bytes(content)

    with pytest.raises(UsageError, match="SPAWND_PRICES_FILE") as caught:
        cost("m", file=own, input_tokens=MILLION)

    assert str(own) in caught.value.message
    assert caught.value.hint
