"""Why work ends badly: the classes, and what each one means for retries and for the user.

The class alone decides. Nothing else in spawnd looks at a message to choose between parking, retrying,
asking and failing; adapters translate their vendor's words into a class at the edge, once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final


class FailureClass(StrEnum):
    """What kind of bad ending it was."""

    QUOTA = "quota"  #: a rate or usage limit; ``reset_at`` is set only when the provider said when
    PAYMENT = "payment"  #: no credit, billing problem
    AUTHENTICATION = "authentication"  #: missing, wrong or expired credential
    OVERLOAD = "overload"  #: the provider is overloaded (529, 503)
    NETWORK = "network"  #: transient: reset connection, 5xx, cut stream
    TIMEOUT = "timeout"  #: the plan's own time limit was hit
    CHECK_FAILED = "check_failed"  #: the agent ended well, its check did not
    CONFLICT = "conflict"  #: its dependencies' results do not merge
    POLICY = "policy"  #: refused by command policy, isolation or permissions
    BUDGET = "budget"  #: max_cost_usd or cost_budget was exceeded
    AGENT_ERROR = "agent_error"  #: the agent program failed by itself
    SETUP_FAILED = "setup_failed"  #: source, workspace or worktree_setup failed
    WORKER_LOST = "worker_lost"  #: the worker died or was partitioned; says nothing about the work
    DEPENDENCY = "dependency"  #: something that it depends on did not complete
    CANCELLED = "cancelled"  #: somebody asked for it


class Reaction(StrEnum):
    """What spawnd does about a failure."""

    PARK = "park"  #: wait for the reset (or back off when none is known); costs no retry
    BACKOFF = "backoff"  #: try again by itself, a bounded number of times, at no cost in the plan's retries
    RETRY = "retry"  #: try again if the plan's ``on_failure: retry`` has retries left, else fail
    ASK = "ask"  #: only a person can mend it; wait for them
    FAIL = "fail"  #: end


@dataclass(frozen=True, slots=True)
class Rule:
    """How a class is treated. ``free_tries`` bounds BACKOFF; ``next_step`` is shown to the user, with names for
    RUN and AGENT."""

    reaction: Reaction
    next_step: str
    free_tries: int = 0


RULES: Final[dict[FailureClass, Rule]] = {
    FailureClass.QUOTA: Rule(Reaction.PARK, "It resumes by itself; `spawnd resume RUN -a AGENT --now` does not wait."),
    FailureClass.PAYMENT: Rule(Reaction.ASK, "Add credit with the provider, then `spawnd resume RUN -a AGENT`."),
    FailureClass.AUTHENTICATION: Rule(
        Reaction.ASK, "Log in or correct the key (see `spawnd doctor`), then `spawnd resume RUN -a AGENT`."
    ),
    FailureClass.OVERLOAD: Rule(Reaction.BACKOFF, "`spawnd retry RUN -a AGENT` when it is back.", 8),
    FailureClass.NETWORK: Rule(Reaction.BACKOFF, "Check the network, then `spawnd retry RUN -a AGENT`.", 5),
    FailureClass.TIMEOUT: Rule(
        Reaction.RETRY, "Raise runtime_timeout_seconds, or split the task; then `spawnd retry RUN -a AGENT`."
    ),
    FailureClass.CHECK_FAILED: Rule(
        Reaction.RETRY, "`spawnd checks RUN -a AGENT` shows its output; `spawnd retry RUN -a AGENT`."
    ),
    FailureClass.CONFLICT: Rule(
        Reaction.FAIL,
        "`spawnd events RUN -a AGENT` names the files; retry one side on top of the other, then this.",
    ),
    FailureClass.POLICY: Rule(
        Reaction.FAIL,
        "Mend what it names: in the plan, then submit again; on the worker, then `spawnd retry RUN -a AGENT`.",
    ),
    FailureClass.BUDGET: Rule(Reaction.FAIL, "Raise the limit: `spawnd resume RUN --budget USD`."),
    FailureClass.AGENT_ERROR: Rule(
        Reaction.RETRY, "`spawnd logs RUN -a AGENT` shows what it said; `spawnd retry RUN -a AGENT`."
    ),
    FailureClass.SETUP_FAILED: Rule(
        Reaction.RETRY,
        "`spawnd logs RUN -a AGENT` shows the setup; mend it, then `spawnd retry RUN -a AGENT`.",
    ),
    FailureClass.WORKER_LOST: Rule(
        Reaction.BACKOFF,
        "Workers died under it repeatedly: see `spawnd workers`; `spawnd retry RUN -a AGENT`.",
        5,
    ),
    FailureClass.DEPENDENCY: Rule(
        Reaction.FAIL, "Mend the dependency: `spawnd retry RUN -a DEPENDENCY` runs this one again after it."
    ),
    FailureClass.CANCELLED: Rule(Reaction.FAIL, "`spawnd resume RUN` takes it up again."),
}


def next_step(failure_class: FailureClass, *, run_id: str, agent: str) -> str:
    """What the user can do about it, with the names filled in."""
    names = {"RUN": run_id, "AGENT": agent}
    return re.sub(r"\b(RUN|AGENT)\b", lambda found: names[found[1]], RULES[failure_class].next_step)


@dataclass(frozen=True, slots=True)
class Failure:
    """A classed failure as the worker or a runtime reports it.

    ``message`` is for people, already redacted and at most a few hundred characters. ``reset_at`` (aware, UTC)
    is set only for QUOTA and only when the provider named a time; it is never invented. ``detail`` holds
    facts to show, as exit codes or conflicted files.
    """

    failure_class: FailureClass
    message: str
    reset_at: datetime | None = None
    detail: dict[str, object] | None = None
