"""Plans from the command line: ``-p "name: prompt"``, one agent each."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from spawnd.errors import UsageError
from spawnd.plan.load import Loaded, load_value
from spawnd.plan.rules import bad_name

_NAMED = re.compile(r"^([A-Za-z0-9_.-]{1,60}):\s*(?!//)(\S.*)$", re.DOTALL)
_WORDS_THAT_SAY_LITTLE = frozenset(
    """the a an and or of to in on for with this that it its our my your please can you we should all any some from
    into so as by be is are make sure""".split()  # noqa: SIM905  # a list of words reads as one
)


def inline_plan(
    prompts: Sequence[str],
    *,
    check: str | None = None,
    sequential: bool = False,
    runtime: str | None = None,
    model: str | None = None,
    max_cost_usd: float | None = None,
    files: Sequence[str] | None = None,
    env_refs: Mapping[str, str] | None = None,
) -> Loaded:
    """A plan with an agent per prompt, or, with ``files``, per prompt and file (``{file}`` in the prompt).

    ``sequential`` makes each depend on the one before. Raises ``UsageError`` for blank prompts and
    ``PlanError`` for values that a plan file could not have either.
    """
    if not prompts:
        raise UsageError("There is nothing to do.", hint='Give a plan with -f, or a prompt with -p "…".')
    agents: list[dict[str, Any]] = []
    taken: set[str] = set()
    for prompt in prompts:
        name, text = split(prompt)
        if files is None:
            if "{file}" in text:
                raise UsageError("The prompt has {file} but no --pattern names files.")
            agents.append({"name": _unique(name, taken), "prompt": text})
            continue
        if "{file}" not in text:
            raise UsageError("--pattern needs {file} in the prompt.", hint='As in -p "Document {file}".')
        for file in files:
            stem = re.sub(r"[^A-Za-z0-9]+", "-", file).strip("-").lower()[-60:].strip("-")
            agents.append({"name": _unique(f"{name}-{stem}"[:90], taken), "prompt": text.replace("{file}", file)})
    if sequential:
        for before, after in pairwise(agents):
            after["depends_on"] = [before["name"]]
    for agent in agents:
        agent |= {
            key: value
            for key, value in (
                ("check", check),
                ("runtime", runtime),
                ("model", model),
                ("max_cost_usd", max_cost_usd),
                ("env_refs", dict(env_refs) if env_refs else None),
            )
            if value is not None
        }
    title = agents[0]["name"] if len(agents) == 1 else f"{agents[0]['name']} and {len(agents) - 1} more"
    # Through the same door as a file, so that the same rules hold; never as text, so that nothing is escaped.
    plan: dict[str, Any] = {"name": title, "agents": agents}
    if check is not None:
        # The policy is there for commands that come with a plan; this one was typed by the person who runs it.
        plan["orchestration"] = {"command_policy": {"mode": "unrestricted"}}
    return load_value(plan, {}, origin="the command line")


def split(prompt: str) -> tuple[str, str]:
    """The agent's name and its prompt: given as ``name: prompt``, or made from the prompt's own words."""
    text = prompt.strip()
    if not text:
        raise UsageError("A prompt is blank.")
    named = _NAMED.match(text)
    if named and bad_name(named[1]) is None and not named[1].lower().startswith("http"):
        return named[1], named[2].strip()
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = [word for word in re.findall(r"[a-z0-9]+", plain) if word not in _WORDS_THAT_SAY_LITTLE]
    return "-".join(words[:3])[:40].strip("-") or "task", text


def _unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 1
    while candidate.lower() in taken:
        number += 1
        candidate = f"{name}-{number}"
    taken.add(candidate.lower())
    return candidate
