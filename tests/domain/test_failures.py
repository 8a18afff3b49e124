"""Every class of failure has a rule, and words that help."""

from __future__ import annotations

import re

import pytest

from spawnd.cli.commands import COMMANDS, load
from spawnd.domain.failures import RULES, FailureClass, Reaction, next_step

CLASSES = list(FailureClass)


def test_every_class_has_a_rule() -> None:
    assert set(RULES) == set(FailureClass)


@pytest.mark.parametrize("failure_class", CLASSES)
def test_every_class_has_a_next_step_with_the_names_filled_in(failure_class: FailureClass) -> None:
    words = next_step(failure_class, run_id="nightly-1", agent="parser")

    assert words.endswith(".")
    assert not re.search(r"\b(RUN|AGENT)\b", words)
    assert words.count("`") % 2 == 0


@pytest.mark.parametrize("failure_class", CLASSES)
def test_every_command_in_a_next_step_can_be_typed(failure_class: FailureClass) -> None:
    for command in re.findall(r"`spawnd ([^`]+)`", RULES[failure_class].next_step):
        name, *rest = command.split()
        assert name in COMMANDS, command
        options = {option for param in load(name, COMMANDS[name]).params for option in param.opts}
        assert {word for word in rest if word.startswith("-")} <= options, command


def test_names_that_look_like_placeholders_are_filled_in_as_they_are() -> None:
    words = next_step(FailureClass.CHECK_FAILED, run_id="AGENT-7", agent="RUN")

    assert "`spawnd retry AGENT-7 -a RUN`" in words


@pytest.mark.parametrize("failure_class", CLASSES)
def test_free_tries_are_bounded_and_only_where_it_backs_off(failure_class: FailureClass) -> None:
    rule = RULES[failure_class]

    assert (rule.free_tries > 0) == (rule.reaction is Reaction.BACKOFF)
    assert rule.free_tries <= 10
