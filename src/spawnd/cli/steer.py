"""``spawnd cancel``, ``pause``, ``resume``, ``retry`` and ``answer``."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Protocol

import typer

from spawnd.cli import door, foreground, options, output
from spawnd.cli.style import plural
from spawnd.contracts.client import Client
from spawnd.settings import Settings
from spawnd.wire.runs import ResumePlan


class _Reopen(Protocol):
    async def __call__(self, client: Client, *, dry_run: bool) -> ResumePlan: ...


PlanOnly = Annotated[bool, typer.Option("--plan", help="Only list what is kept, what runs again and why.")]
Detach = Annotated[bool, typer.Option("--detach", help="Only reopen it; a worker does it.")]


def cancel(run: options.Run, agent: options.Agent = None, json: options.Json = False) -> None:
    """Stop a run, or one agent. Running programs are stopped within seconds; the work so far is kept.

    `spawnd resume` can open it again.
    """

    async def stop(client: Client) -> tuple[str, int]:
        run_id = await client.resolve(run)
        return run_id, await client.cancel(run_id, agent=agent)

    run_id, count = door.ask(stop)
    if json:
        output.document({"run_id": run_id, "agents": count})
    elif count:
        output.line(f"{run_id}: {plural(count, 'agent')} cancelled or told to stop")
    else:
        output.line(f"{run_id}: nothing was left to cancel")


def pause(run: options.Run, json: options.Json = False) -> None:
    """Start nothing new in a run; agents that run go on. `spawnd resume` ends the pause."""

    async def hold(client: Client) -> str:
        run_id = await client.resolve(run)
        await client.pause(run_id)
        return run_id

    run_id = door.ask(hold)
    if json:
        output.document({"run_id": run_id, "status": "paused"})
    else:
        output.line(f"{run_id}: paused; `spawnd resume {run_id}` goes on")


def resume(
    run: options.Run,
    agent: options.Agent = None,
    plan: PlanOnly = False,
    now: Annotated[
        bool, typer.Option("--now", help="Also wake what waits for a provider's limit or a backoff.")
    ] = False,
    budget: Annotated[
        float | None, typer.Option("--budget", min=0, metavar="USD", help="A new cost budget of the run.")
    ] = None,
    detach: Detach = False,
    concurrency: options.Concurrency = None,
    json: options.Json = False,
) -> None:
    """Go on with a run: what completed is kept, what did not runs again from the work that it left.

    Ends a pause, wakes agents that wait for a person, and does the work here with progress, as `run` does;
    with --detach a worker does it.

    \b
    spawnd resume latest --plan
    spawnd resume latest
    spawnd resume latest --budget 40 --detach
    """
    settings = Settings.load()
    budget_usd = Decimal(str(budget)) if budget is not None else None

    async def reopen(client: Client, *, dry_run: bool) -> ResumePlan:
        return await client.resume(run, agent=agent, now=now, budget_usd=budget_usd, dry_run=dry_run)

    _reopen(settings, run, reopen, plan=plan, detach=detach, concurrency=concurrency, json=json)


def retry(
    run: options.Run,
    agent: options.Agent = None,
    plan: PlanOnly = False,
    detach: Detach = False,
    concurrency: options.Concurrency = None,
    json: options.Json = False,
) -> None:
    """Run again the agents that did not complete, or with -a that agent, whatever its end, and what builds on it."""
    settings = Settings.load()

    async def reopen(client: Client, *, dry_run: bool) -> ResumePlan:
        return await client.retry(run, agent=agent, dry_run=dry_run)

    _reopen(settings, run, reopen, plan=plan, detach=detach, concurrency=concurrency, json=json)


def answer(
    run: options.Run,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent that waits.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to tell it.")],
) -> None:
    """Answer an agent that waits for a person, and wake it: it goes on in its session with your words."""
    door.ask(lambda client: client.answer(run, agent, text))
    output.line(f"{agent} goes on with your answer")


def _reopen(
    settings: Settings, run: str, reopen: _Reopen, *, plan: bool, detach: bool, concurrency: int | None, json: bool
) -> None:
    if plan or detach:
        found = door.ask(lambda client: reopen(client, dry_run=plan))
        if json:
            output.document(found)
        else:
            _print(found)
        return

    async def begin(client: Client) -> foreground.Opened:
        before = (await client.run(await client.resolve(run))).run.last_seq
        done = await reopen(client, dry_run=False)
        if not json:
            _print(done, brief=True)
        return foreground.Opened(done.run_id, before)

    slots = concurrency or door.default_slots()
    raise typer.Exit(foreground.work_on(settings, begin, slots=slots, json=json))


def _print(plan: ResumePlan, *, brief: bool = False) -> None:
    words = {"keep": "kept", "run_again": "runs again", "start": "starts", "wake": "wakes", "none": "as it is"}
    if brief:
        counts = {action: sum(item.action == action for item in plan.items) for action in words}
        said = ", ".join(f"{count} {words[action]}" for action, count in counts.items() if count)
        output.note(f"run {plan.run_id}: {said}")
        return
    output.show(
        "AGENT",
        "WHAT HAPPENS" if not plan.applied else "WHAT IS DONE",
        "WHY",
        rows=((item.agent, words.get(item.action, item.action), item.reason) for item in plan.items),
    )
