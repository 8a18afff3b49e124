"""Submit: a compiled plan becomes a run, in one transaction, or nothing does."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from decimal import Decimal
from urllib.parse import urlsplit

from spawnd.errors import Conflict, UsageError
from spawnd.plan.compiled import CompiledAgent, CompiledPlan
from spawnd.plan.rules import valid_run_id
from spawnd.store import runs as store
from spawnd.store.database import Database
from spawnd.wire.runs import Submitted


async def submit(
    database: Database,
    plan: CompiledPlan,
    *,
    source_repo: str,
    source_ref: str | None,
    run_id: str | None,
    notices: Sequence[str],
    via: str,
    credential_of: Callable[[CompiledAgent], str | None],
) -> Submitted:
    """Commit the run. Asking again with the same run id, plan and source returns the same run.

    Raises ``UsageError`` for a run id that cannot be one, ``Conflict`` if it is taken by another plan.
    """
    run_id = run_id or f"{plan.slug}-{secrets.token_hex(4)}"
    if not valid_run_id(run_id):
        raise UsageError(
            f"{run_id!r} cannot be a run id.",
            hint="Use letters, digits, '-', '_' and '.', at most 120, beginning with a letter or digit.",
        )
    _refuse_credentials(source_repo)
    new = _new_run(plan, run_id, source_repo, source_ref, notices, via, credential_of)
    async with database.connection() as connection:
        if await store.insert(connection, new) is not None:
            return Submitted(run_id=run_id, created=True, notices=tuple(notices))
        there = await store.find(connection, run_id)
    assert there is not None
    same = (new.plan_sha256, source_repo, source_ref)
    if same != (there["plan_sha256"], there["source_repo"], there["source_ref"]):
        raise Conflict(
            f"The run id {run_id} is taken by another plan or source.",
            hint="Choose another --run-id, or leave it out.",
        )
    return Submitted(run_id=run_id, created=False, notices=tuple(notices))


def _refuse_credentials(source_repo: str) -> None:
    """The source is stored and shown: an address with a password or a token in it must not get there."""
    parts = urlsplit(source_repo) if "://" in source_repo else None
    if parts is not None and (parts.password or (parts.username and parts.scheme != "ssh")):
        raise UsageError(
            f"The address of {parts.hostname} holds a credential, and would be on record with it.",
            hint="Leave it out; give it by worktree_source.env_refs or SPAWND_GIT_ASKPASS.",
        )


def _new_run(
    plan: CompiledPlan,
    run_id: str,
    source_repo: str,
    source_ref: str | None,
    notices: Sequence[str],
    via: str,
    credential_of: Callable[[CompiledAgent], str | None],
) -> store.NewRun:
    positions = {agent.name: position for position, agent in enumerate(plan.agents)}
    breaker = plan.orchestration.circuit_breaker
    return store.NewRun(
        run_id=run_id,
        name=plan.name,
        plan=plan.model_dump(mode="json", exclude={"agents"}),
        plan_sha256=plan.digest(),
        notices=notices,
        source_repo=source_repo,
        source_ref=source_ref,
        via=via,
        concurrency_limit=plan.orchestration.concurrency_limit,
        cost_budget_usd=_usd(plan.cost_budget.total_usd),
        on_exceed=plan.cost_budget.on_exceed,
        breaker_threshold=breaker.threshold if breaker and breaker.threshold > 0 else None,
        breaker_action=breaker.action if breaker else None,
        agents=[
            store.NewAgent(
                name=agent.name,
                spec=agent.model_dump(mode="json"),
                runtime=agent.runtime,
                labels=agent.labels,
                priority=agent.priority,
                credential=credential_of(agent),
                on_failure=agent.on_failure,
                retry_count=agent.retry_count,
                max_cost_usd=None if agent.max_cost_usd is None else _usd(agent.max_cost_usd),
                parents=sorted({positions[parent] for parent in agent.depends_on}),
            )
            for agent in plan.agents
        ],
    )


def _usd(amount: float) -> Decimal:
    return Decimal(str(amount))
