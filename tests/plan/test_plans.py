"""What a plan means: its defaults, what wins over what, what is kept, what is said not to work yet."""

from __future__ import annotations

import ast
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import spawnd
from spawnd.errors import PlanError, UsageError
from spawnd.plan import spec
from spawnd.plan.compile import compile_plan, require_runnable, slug
from spawnd.plan.compiled import CompiledAgent, CompiledPlan
from spawnd.plan.inline import inline_plan, split
from spawnd.plan.load import load, load_file
from spawnd.plan.notices import LATER, notices
from spawnd.plan.roles import BUILT_IN, Role, known_roles
from spawnd.plan.starter import starter

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

REQUIRED = "(required)"
EXAMPLES = Path(__file__).parents[2] / "examples"

#: As users know them; a change here breaks plans that exist.
DEFAULTS: dict[str, Any] = {
    "name": REQUIRED,
    "description": "",
    "run": None,
    "run.id": None,
    "run.resume": False,
    "defaults.max_iterations": 30,
    "defaults.runtime_timeout_seconds": None,
    "defaults.check_timeout_seconds": 300,
    "defaults.check": "true",
    "defaults.on_failure": "continue",
    "defaults.retry_count": 3,
    "defaults.model": None,
    "defaults.max_cost_usd": 5.0,
    "defaults.runtime": "claude",
    "defaults.codex": None,
    "defaults.mcp_servers": [],
    "cost_budget.total_usd": 25.0,
    "cost_budget.on_exceed": "pause",
    "shared_context": [],
    "agents": REQUIRED,
    "agents[].name": REQUIRED,
    "agents[].type": "worker",
    "agents[].use_role": None,
    "agents[].prompt": REQUIRED,
    "agents[].depends_on": [],
    "agents[].check": None,
    "agents[].checks": [],
    "agents[].checks[].name": REQUIRED,
    "agents[].checks[].command": REQUIRED,
    "agents[].checks[].timeout_seconds": None,
    "agents[].on_failure": None,
    "agents[].retry_count": None,
    "agents[].model": None,
    "agents[].max_cost_usd": None,
    "agents[].runtime": None,
    "agents[].codex": None,
    "agents[].codex.engine": "auto",
    "agents[].codex.sandbox": "workspace-write",
    "agents[].codex.approval_mode": "deny_all",
    "agents[].codex.ephemeral": True,
    "agents[].codex.dangerous_bypass": False,
    "agents[].acp": None,
    "agents[].acp.agent": None,
    "agents[].acp.command": None,
    "agents[].acp.args": [],
    "agents[].acp.env_refs": {},
    "agents[].command": None,
    "agents[].mock": None,
    "agents[].mock.seconds": 0.05,
    "agents[].mock.outcomes": ["completed"],
    "agents[].mock.write": {},
    "agents[].mock.message": "done",
    "agents[].mock.cost_usd": 0.0,
    "agents[].mock.input_tokens": 0,
    "agents[].mock.output_tokens": 0,
    "agents[].mock.reset_after_seconds": None,
    "agents[].mock.hang": False,
    "agents[].mcp_servers": [],
    "agents[].mcp_servers[].name": REQUIRED,
    "agents[].mcp_servers[].type": "stdio",
    "agents[].mcp_servers[].command": None,
    "agents[].mcp_servers[].args": [],
    "agents[].mcp_servers[].url": None,
    "agents[].mcp_servers[].env_refs": {},
    "agents[].mcp_servers[].headers": {},
    "agents[].mcp_servers[].header_refs": {},
    "agents[].mcp_servers[].tools": [],
    "agents[].write_allowed": None,
    "agents[].env": {},
    "agents[].env_refs": {},
    "agents[].max_iterations": None,
    "agents[].runtime_timeout_seconds": None,
    "agents[].check_timeout_seconds": None,
    "agents[].milestones": [],
    "agents[].milestones[].name": REQUIRED,
    "agents[].milestones[].description": "",
    "agents[].manager": None,
    "agents[].manager.max_subagents": 5,
    "agents[].manager.event_poll_interval": 10,
    "agents[].manager.guidance_enabled": True,
    "agents[].labels": [],
    "agents[].priority": 0,
    "agents[].resources.cpus": None,
    "agents[].resources.memory_mb": None,
    "agents[].resources.pids": None,
    "agents[].network": None,
    "agents[].network_allow": [],
    "agents[].setup": None,
    "agents[].inputs": [],
    "agents[].outputs": [],
    "orchestration.event_injection": True,
    "orchestration.circuit_breaker": None,
    "orchestration.circuit_breaker.threshold": 3,
    "orchestration.circuit_breaker.action": "cancel_all",
    "orchestration.dependency_context.mode": "full",
    "orchestration.dependency_context.include_paths": [],
    "orchestration.dependency_context.exclude_paths": [],
    "orchestration.worktree_source.base_ref": None,
    "orchestration.worktree_source.fetch": False,
    "orchestration.worktree_source.env_refs": {},
    "orchestration.worktree_setup": None,
    "orchestration.worktree_setup.command": REQUIRED,
    "orchestration.worktree_setup.timeout_seconds": None,
    "orchestration.worktree_setup.env": {},
    "orchestration.worktree_setup.cache": False,
    "orchestration.worktree_setup.cache_paths": [
        "pnpm-lock.yaml",
        "package-lock.json",
        "yarn.lock",
        "bun.lock",
        "uv.lock",
        "poetry.lock",
        "requirements.txt",
    ],
    "orchestration.telemetry.enabled": False,
    "orchestration.telemetry.exporter": "none",
    "orchestration.telemetry.capture": "full",
    "orchestration.telemetry.failure_policy": "degrade",
    "orchestration.artifacts.capture_raw": False,
    "orchestration.git.commit": True,
    "orchestration.git.push": False,
    "orchestration.git.remote": "origin",
    "orchestration.git.push_timeout_seconds": 60,
    "orchestration.git.env_refs": {},
    "orchestration.command_policy.mode": "allowlist",
    "orchestration.command_policy.allowed_commands": [
        "true",
        "pytest",
        "python",
        "python3",
        "uv",
        "ruff",
        "mypy",
        "pyright",
        "pnpm",
        "npm",
        "bun",
        "yarn",
        "make",
        "git",
    ],
    "orchestration.cleanup.worktree": False,
    "orchestration.runtime_isolation.accepted": ["container", "jail", "vm"],
    "orchestration.concurrency_limit": None,
    "orchestration.stuck_threshold": None,
    "on_complete": "none",
}


def _block(annotation: Any) -> tuple[type[BaseModel], str] | None:
    """The block that a field holds, and ``[]`` if it holds a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    for inner in typing.get_args(annotation):
        if (found := _block(inner)) is not None:
            return found[0], "[]" if typing.get_origin(annotation) is list else found[1]
    return None


def _fields(model: type[BaseModel] = spec.Plan, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field of the schema: its path, and its default."""
    for name, field in model.model_fields.items():
        default = REQUIRED if field.is_required() else field.get_default(call_default_factory=True)
        if not isinstance(default, BaseModel):
            yield prefix + name, default
        if (block := _block(field.annotation)) is not None:
            yield from _fields(block[0], f"{prefix}{name}{block[1]}.")


def compiled(text: str, roles: dict[str, Role] | None = None) -> CompiledPlan:
    return compile_plan(load(text), roles={**BUILT_IN, **(roles or {})})


def only(agent: str = "", defaults: str = "", roles: dict[str, Role] | None = None) -> CompiledAgent:
    """The one agent of a plan, with these fields of its own and these defaults (both in flow style)."""
    text = f"name: p\ndefaults: {{{defaults}}}\nagents: [{{name: a, prompt: do, {agent}}}]\n"
    (found,) = compiled(text, roles).agents
    return found


# Defaults


def test_every_field_has_the_default_that_users_know() -> None:
    # What agents and defaults share is listed once.
    found = {path: value for path, value in _fields() if not path.startswith(("defaults.codex.", "defaults.mcp_serve"))}
    found["defaults.mcp_servers"] = spec.Defaults().mcp_servers

    assert found == DEFAULTS


def test_the_smallest_plan_compiles_to_the_built_in_values() -> None:
    plan = compiled("name: p\nagents: [{name: a, prompt: do}]\n")
    (agent,) = plan.agents

    assert (plan.slug, plan.run_id, plan.resume, plan.on_complete) == ("p", None, False, "none")
    assert (agent.runtime, agent.model, agent.network, agent.write_allowed) == ("claude", "sonnet", "full", True)
    assert [(one.name, one.command, one.timeout_seconds) for one in agent.checks] == [("check", "true", 300)]
    assert (agent.on_failure, agent.retry_count, agent.max_cost_usd, agent.max_iterations) == ("continue", 3, 5.0, 30)


@pytest.mark.parametrize(
    ("runtime", "model", "network"),
    [
        ("claude", "sonnet", "full"),
        ("codex", None, "full"),
        ("command", None, "none"),
        ("mock", None, "none"),
    ],
)
def test_a_runtime_decides_on_model_and_network_when_nobody_else_does(
    runtime: str, model: str | None, network: str
) -> None:
    command = ", command: 'true'" if runtime == "command" else ""
    agent = only(f"runtime: {runtime}{command}")

    assert (agent.model, agent.network) == (model, network)


# Agent over role over defaults over built-in

ROLE = {"mason": Role("mason", "", "You are the mason.", check="make walls", model="stone", write_allowed=False)}


@pytest.mark.parametrize(
    ("field", "built_in", "default", "own"),
    [
        ("model", "sonnet", "opus", "haiku"),
        ("on_failure", "continue", "stop", "retry"),
        ("retry_count", 3, 7, 0),
        ("max_cost_usd", 5.0, 9.5, 0.0),
        ("max_iterations", 30, 90, 1),
        ("runtime", "claude", "codex", "mock"),
        ("runtime_timeout_seconds", None, 60.0, 5.0),
    ],
)
def test_the_agent_wins_over_the_defaults_and_they_over_what_is_built_in(
    field: str, built_in: Any, default: Any, own: Any
) -> None:
    assert getattr(only(), field) == built_in
    assert getattr(only(defaults=f"{field}: {default}"), field) == default
    assert getattr(only(f"{field}: {own}", defaults=f"{field}: {default}"), field) == own


def test_a_role_wins_over_the_defaults_and_the_agent_over_its_role() -> None:
    defaults = "check: pytest, model: opus"

    by_default = only(defaults=defaults)
    by_role = only("use_role: mason", defaults, ROLE)
    own = only("use_role: mason, check: 'true', model: haiku, write_allowed: true", defaults, ROLE)

    def facts(agent: CompiledAgent) -> tuple[Any, ...]:
        return agent.checks[0].command, agent.model, agent.write_allowed, agent.system_prompt

    assert facts(by_default) == ("pytest", "opus", True, "")
    assert facts(by_role) == ("make walls", "stone", False, "You are the mason.")
    assert facts(own) == ("true", "haiku", True, "You are the mason.")


def test_a_role_leaves_alone_what_it_does_not_say() -> None:
    agent = only("use_role: architect", "check: pytest, model: opus")

    assert (agent.checks[0].command, agent.model, agent.write_allowed) == ("pytest", "opus", True)


def test_named_checks_stand_in_for_every_other_check_and_share_the_time_limit() -> None:
    agent = only(
        "use_role: tester, check_timeout_seconds: 20,"
        " checks: [{name: t, command: pytest}, {name: m, command: mypy, timeout_seconds: 5}]",
        "check: make",
    )

    assert [(one.name, one.command, one.timeout_seconds) for one in agent.checks] == [
        ("t", "pytest", 20),
        ("m", "mypy", 5),
    ]


def test_codex_options_are_merged_one_by_one() -> None:
    agent = only("codex: {ephemeral: false}", "runtime: codex, codex: {sandbox: danger-full-access, ephemeral: true}")
    same = only("codex: {sandbox: workspace-write}", "runtime: codex, codex: {sandbox: read-only}")

    assert (agent.codex.sandbox, agent.codex.ephemeral, agent.codex.engine) == ("danger-full-access", False, "auto")
    assert (same.codex.sandbox, same.write_allowed) == ("workspace-write", True)


def test_a_codex_agent_in_a_read_only_sandbox_may_not_write() -> None:
    assert only("runtime: codex, codex: {sandbox: read-only}").write_allowed is False


def test_an_agents_mcp_server_takes_the_place_of_the_defaults_server_of_that_name() -> None:
    agent = only(
        "mcp_servers: [{name: m, command: mine}, {name: n, command: new}]",
        "mcp_servers: [{name: k, command: kept}, {name: m, command: theirs}]",
    )

    assert [(one.name, one.command) for one in agent.mcp_servers] == [("k", "kept"), ("m", "mine"), ("n", "new")]


def test_shared_context_and_everything_of_the_run_is_kept() -> None:
    plan = compiled(
        "name: Ünder the bridge!\n"
        "description: why\n"
        "run: {id: nightly, resume: true}\n"
        "shared_context: [docs/b.md, docs/a.md]\n"
        "cost_budget: {total_usd: 3, on_exceed: warn}\n"
        "orchestration: {concurrency_limit: 2, circuit_breaker: {threshold: 1}}\n"
        "agents: [{name: a, prompt: do, labels: [gpu, big, gpu], priority: 3, outputs: [out]}]\n"
    )

    assert (plan.slug, plan.description, plan.run_id, plan.resume) == ("under-the-bridge", "why", "nightly", True)
    assert plan.shared_context == ("docs/b.md", "docs/a.md")
    assert (plan.cost_budget.total_usd, plan.cost_budget.on_exceed) == (3.0, "warn")
    breaker = plan.orchestration.circuit_breaker
    assert (plan.orchestration.concurrency_limit, breaker and breaker.threshold) == (2, 1)
    assert (plan.agents[0].labels, plan.agents[0].priority, plan.agents[0].outputs) == (("big", "gpu"), 3, ("out",))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Fix the Tests", "fix-the-tests"),
        ("  --x--  ", "x"),
        ("a/../b", "a-b"),
        ("日本 1", "1"),
        ("é" * 100, "e" * 60),
        ("日本", "run"),
    ],
)
def test_the_slug_of_a_name_may_stand_in_branches_and_paths(name: str, expected: str) -> None:
    assert slug(name) == expected


# Reading


def test_a_plan_in_json_is_a_plan_in_yaml() -> None:
    plan = {"name": "p", "agents": [{"name": "a", "prompt": "say: “é” \n\tand {not} #this", "env": {"A": "no"}}]}

    assert compiled(json.dumps(plan, ensure_ascii=False)).digest() == compiled(yaml.safe_dump(plan)).digest()


def test_json_that_escapes_what_lies_beyond_the_first_plane_is_read() -> None:
    text = json.dumps({"name": "p", "agents": [{"name": "a", "prompt": "ship it 🚀"}]})

    assert compiled(text).agents[0].prompt == "ship it 🚀"


def test_anchors_and_merge_keys_work_and_the_own_key_wins() -> None:
    plan = compiled(
        "name: p\n"
        "agents:\n"
        "  - &first {name: a, prompt: one, retry_count: 7}\n"
        "  - <<: *first\n"
        "    name: b\n"
        "    prompt: two\n"
    )

    assert [(one.name, one.prompt, one.retry_count) for one in plan.agents] == [("a", "one", 7), ("b", "two", 7)]


def test_what_yaml_takes_for_a_date_is_text() -> None:
    assert compiled("name: 2026-01-02\nagents: [{name: a, prompt: do}]\n").name == "2026-01-02"


def test_windows_line_ends_and_a_byte_order_mark_are_no_matter() -> None:
    text = "name: p\nagents:\n  - name: a\n    prompt: do\n"

    assert compile_plan(load(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())).digest() == compiled(text).digest()


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no file"):
        load_file(tmp_path / "plan.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_file(tmp_path)


# Digest

TEXT = """
name: p
defaults: {max_cost_usd: 5}
agents:
  - name: a
    prompt: do
    env: {A: x, B: y}
  - {name: b, prompt: do, depends_on: [a]}
"""
SAME = [
    TEXT,
    "agents: [{prompt: do, env: {B: y, A: x}, name: a}, {name: b, depends_on: [a], prompt: do}]\nname: p\n",
    TEXT.replace("name: p", "# a comment\nname: 'p'"),
    TEXT.replace("5", "5.0"),
    TEXT.replace("defaults: {", "defaults: {on_failure: continue, "),
]
OTHER = [
    TEXT.replace("prompt: do\n", "prompt: did\n"),
    TEXT.replace("max_cost_usd: 5", "max_cost_usd: 6"),
    TEXT.replace(", depends_on: [a]", ""),
    TEXT.replace("name: p", "name: q"),
]


@pytest.mark.parametrize("text", SAME)
def test_plans_that_ask_for_the_same_have_one_digest(text: str) -> None:
    assert compiled(text).digest() == compiled(TEXT).digest()


@pytest.mark.parametrize("text", OTHER)
def test_plans_that_ask_for_something_else_have_another_digest(text: str) -> None:
    assert compiled(text).digest() != compiled(TEXT).digest()


def test_a_compiled_plan_comes_back_from_json_as_it_went() -> None:
    plan = compiled(TEXT)

    again = CompiledPlan.model_validate(json.loads(plan.model_dump_json()))

    assert (again, again.digest()) == (plan, plan.digest())


# Roles


def test_the_built_in_roles_are_those_that_users_know() -> None:
    assert list(BUILT_IN) == [
        "architect",
        "implementer",
        "tester",
        "reviewer",
        "debugger",
        "refactorer",
        "documenter",
    ]
    assert {role.name for role in BUILT_IN.values() if role.write_allowed is False} == {"reviewer"}
    assert all(role.prompt and role.description for role in BUILT_IN.values())


def test_a_users_role_is_read_from_its_file_and_can_replace_a_built_in_one(tmp_path: Path) -> None:
    (tmp_path / "tester.yaml").write_text("prompt: Break it.\ncheck: make break\n")
    (tmp_path / "notes.txt").write_text("no role")

    roles = known_roles(tmp_path)

    assert roles == {**BUILT_IN, "tester": Role("tester", "", "Break it.", check="make break")}
    assert only("use_role: tester", roles=roles).checks[0].command == "make break"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("description: x\n", "prompt: it is required"),
        ("prompt: ''\n", "prompt: it is required"),
        ("prompt: x\nchekc: y\n", "chekc: no such field"),
        ("prompt: 5\n", "prompt: it must be a str"),
        ("prompt: x\nwrite_allowed: 'no'\n", "write_allowed: it must be a bool"),
        ("- prompt\n", "a role is a mapping"),
        ("prompt: [\n", "it cannot be read"),
    ],
)
def test_a_broken_role_is_refused_by_the_name_of_its_file(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mason.yaml").write_text(text)

    with pytest.raises(PlanError, match=r"mason\.yaml") as refused:
        known_roles(tmp_path)

    assert words in str(refused.value)


# Runtimes of later versions


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("runtime: openai", r"agents\[0\]\.runtime: this version does not run openai"),
        ("runtime: acp, acp: {agent: x}", r"agents\[0\]\.runtime: this version does not run acp"),
        ("runtime: codex, codex: {engine: sdk}", r"agents\[0\]\.codex\.engine: .* use cli or auto"),
    ],
)
def test_what_a_later_version_runs_is_valid_but_not_run(fields: str, words: str) -> None:
    plan = compiled(f"name: p\nagents: [{{name: a, prompt: do, {fields}}}]\n")

    with pytest.raises(PlanError, match=words):
        require_runnable(plan)


# Inline plans


@pytest.mark.parametrize(
    ("prompt", "name", "text"),
    [
        ("api: Document the API", "api", "Document the API"),
        ("Improve the parser error message", "improve-parser-error", "Improve the parser error message"),
        ("  fix it  ", "fix", "fix it"),
        ("http://example.org is down", "http-example-org", "http://example.org is down"),
        ("see https://x", "see-https-x", "see https://x"),
        ("../x: y", "x-y", "../x: y"),
        ("a.lock: y", "lock-y", "a.lock: y"),
        ("日本", "task", "日本"),
        ("a: b: c", "a", "b: c"),
    ],
)
def test_an_inline_prompt_names_its_agent_or_is_named_after_its_words(prompt: str, name: str, text: str) -> None:
    assert split(prompt) == (name, text)


def test_inline_agents_have_names_of_their_own_and_run_one_after_the_other_if_asked() -> None:
    plan = compile_plan(inline_plan(["fix it", "fix it", "Fix: it", "b: x"], sequential=True))

    assert [one.name for one in plan.agents] == ["fix", "fix-2", "Fix-3", "b"]
    assert [one.depends_on for one in plan.agents] == [(), ("fix",), ("fix-2",), ("Fix-3",)]
    assert [one.depends_on for one in compile_plan(inline_plan(["a: x", "b: y"])).agents] == [(), ()]


def test_inline_options_reach_every_agent_and_the_typed_check_is_not_judged() -> None:
    plan = compile_plan(
        inline_plan(
            ["a: x", "b: y"],
            check="cargo test | tee log; true",
            runtime="codex",
            model="m",
            max_cost_usd=0.5,
            env_refs={"KEY": "KEY"},
        )
    )

    for agent in plan.agents:
        assert (agent.checks[0].command, agent.runtime, agent.model) == ("cargo test | tee log; true", "codex", "m")
        assert (agent.max_cost_usd, agent.env_refs) == (0.5, {"KEY": "KEY"})


def test_a_pattern_makes_an_agent_of_each_file() -> None:
    files = ["src/a.py", "src/A.py", "docs/" + "long/" * 30 + "b.md", "odd {file} name.py"]
    plan = compile_plan(inline_plan(["doc: Document {file}, only {file}"], files=files))

    assert [one.prompt for one in plan.agents] == [f"Document {file}, only {file}" for file in files]
    assert [one.name for one in plan.agents][:2] == ["doc-src-a-py", "doc-src-a-py-2"]
    assert len({one.name.lower() for one in plan.agents}) == len(files)


@pytest.mark.parametrize(
    ("prompts", "files", "words"),
    [
        ([], None, "nothing to do"),
        (["  "], None, "blank"),
        (["Document {file}"], None, "no --pattern"),
        (["Document all"], ["a.py"], "needs {file}"),
    ],
)
def test_an_inline_plan_that_makes_no_sense_is_refused(prompts: list[str], files: list[str] | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        inline_plan(prompts, files=files)


def test_a_bad_inline_value_is_told_without_lines_of_a_file_that_nobody_wrote() -> None:
    with pytest.raises(PlanError) as refused:
        compile_plan(inline_plan(["a: x"], runtime="cluade", max_cost_usd=-1))

    assert refused.value.origin == "the command line"
    assert {(one.path, one.line) for one in refused.value.problems} == {
        ("agents[0].runtime", None),
        ("agents[0].max_cost_usd", None),
    }


@pytest.mark.parametrize(
    "text",
    [
        "quotes \" and ' and \\ and \\n",
        "a: b # c {d} [e] *f &g !h %i @j `k` | >",
        "two\nlines\n\n  and more\n--- \n... end",
        "a tab\tand\r\nWindows",
        "emoji 🚀 and é",
        "next \u0085 line",
        "line \u2028 separator",
        "delete \x7f it",
        "not a character \ufffe",
    ],
)
def test_an_inline_prompt_arrives_as_it_was_typed(text: str) -> None:
    assert compile_plan(inline_plan([f"a: {text}"])).agents[0].prompt == text


@unhurried
@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0{}"), max_size=80))
def test_any_inline_prompt_arrives_as_it_was_typed(text: str) -> None:
    prompt = f"a: x{text}x"

    assert compile_plan(inline_plan([prompt])).agents[0].prompt == prompt[3:]


def test_an_inline_prompt_that_is_no_text_is_refused() -> None:
    with pytest.raises(UsageError):
        compile_plan(inline_plan(["a: half \udcff"])).digest()


# What this version does not act on


#: Read under another name, or for people only.
_READ_AS = {
    "use_role": "role",
    "check_timeout_seconds": "timeout_seconds",
}


def _names_read() -> set[str]:
    """Every attribute and every key that spawnd reads, outside of where plans are written down and copied."""
    copies = ("spec.py", "compiled.py", "compile.py", "rules.py", "load.py", "inline.py", "starter.py", "notices.py")
    found = set()
    for path in Path(spawnd.__file__).parent.rglob("*.py"):
        if path.parent.name == "plan" and path.name in copies:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_every_field_is_acted_on_or_said_not_to_be() -> None:
    read = _names_read()
    known_by_rule = {"orchestration.cleanup.worktree"}
    forgotten = [
        path
        for path, _ in _fields()
        if not any(path == later or path.startswith((f"{later}.", f"{later}[")) for later in LATER)
        and path not in known_by_rule
        and _READ_AS.get(name := path.rpartition(".")[2], name) not in read
    ]

    assert forgotten == []


def test_only_fields_that_exist_are_said_not_to_be_acted_on() -> None:
    blocks = {path.rpartition(".")[0] for path, _ in _fields()}

    assert set(LATER) <= {path for path, _ in _fields()} | blocks


#: A plan for each field that is kept for later: what is written at its place, and the path of the notice.
KEPT = {
    "agents[].type": ("agent", "type: manager"),
    "agents[].manager": ("agent", "type: manager, manager: {max_subagents: 2}"),
    "agents[].milestones": ("agent", "milestones: [{name: half}]"),
    "agents[].acp": ("agent", "runtime: acp, acp: {agent: x}"),
    "agents[].inputs": ("agent", "inputs: [a.txt]"),
    "agents[].network_allow": ("agent", "network_allow: []"),
    "orchestration.event_injection": ("orchestration", "event_injection: true"),
    "orchestration.stuck_threshold": ("orchestration", "stuck_threshold: 60"),
    "orchestration.telemetry": ("orchestration", "telemetry: {enabled: true}"),
    "orchestration.git.push": ("orchestration", "git: {push: true}"),
    "orchestration.git.remote": ("orchestration", "git: {remote: upstream}"),
    "orchestration.git.push_timeout_seconds": ("orchestration", "git: {push_timeout_seconds: 5}"),
    "orchestration.git.env_refs": ("orchestration", "git: {env_refs: {T: T}}"),
    "on_complete": ("top", "on_complete: notify"),
}


def _noticed(agent: str = "", orchestration: str = "", top: str = "", defaults: str = "") -> list[str]:
    text = (
        f"name: p\ndefaults: {{{defaults}}}\norchestration: {{{orchestration}}}\n{top}\n"
        f"agents: [{{name: a, prompt: do, {agent}}}]\n"
    )
    loaded = load(text)
    compile_plan(loaded)
    return notices(loaded.plan)


@pytest.mark.parametrize("field", sorted(LATER))
def test_a_field_that_is_kept_for_later_is_said_so(field: str) -> None:
    where, text = KEPT[field]

    told = _noticed(**{where: text})

    assert f"{field.replace('[]', '[0]')}: {LATER[field]}" in told


@pytest.mark.parametrize("runtime", ["codex", "command"])
def test_a_limit_in_turns_is_said_not_to_hold_where_nobody_counts_them(runtime: str) -> None:
    command = ", command: 'true'" if runtime == "command" else ""

    assert _noticed(f"runtime: {runtime}{command}, max_iterations: 3") == [
        f"agents[0].max_iterations: {runtime} cannot be limited in turns; use runtime_timeout_seconds or max_cost_usd"
    ]
    assert _noticed("runtime: claude, max_iterations: 3") == []


def test_a_limit_in_turns_in_the_defaults_is_said_not_to_hold_too() -> None:
    (told,) = _noticed("runtime: codex", defaults="max_iterations: 3")

    assert "codex cannot be limited in turns" in told


def test_a_checkout_that_shall_stay_is_said_to_go() -> None:
    (told,) = _noticed(orchestration="cleanup: {worktree: false}")

    assert told.startswith("orchestration.cleanup.worktree: a checkout is removed")


def test_a_plan_that_asks_for_nothing_of_the_kind_is_told_nothing() -> None:
    assert (
        _noticed("type: worker", "git: {push: false, commit: true}, cleanup: {worktree: true}", "on_complete: none")
        == []
    )


def test_agents_that_share_a_notice_share_its_line() -> None:
    names = "".join(f"  - {{name: a{number}, prompt: do, milestones: [{{name: m}}]}}\n" for number in range(5))
    (told,) = notices(load(f"name: p\nagents:\n{names}").plan)

    assert told == f"agents[0].milestones, agents[1].milestones, agents[2].milestones …: {LATER['agents[].milestones']}"


# The schema for editors, the starter plan and the examples

SCHEMA = spec.plan_schema()
PLANS = [
    pytest.param(path.read_text(), id=str(path.relative_to(EXAMPLES))) for path in sorted(EXAMPLES.rglob("*.yaml"))
]
STARTERS = [
    pytest.param(starter(), id="starter"),
    pytest.param(starter(runtime="codex", check='"pytest -q"'), id="starter-codex"),
]


def test_the_schema_is_a_json_schema_and_describes_every_field() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    blocks = SCHEMA["$defs"]
    undescribed = [
        f"{block['title']}.{name}"
        for block in [SCHEMA, *blocks.values()]
        for name, field in block.get("properties", {}).items()
        if not (field.get("description") or blocks[field["$ref"].rpartition("/")[2]].get("description"))
    ]
    assert undescribed == []


@pytest.mark.parametrize("text", [*PLANS, *STARTERS])
def test_the_starter_and_every_example_are_valid_here_and_in_an_editor(text: str) -> None:
    plan = compiled(text)

    require_runnable(plan)
    jsonschema.validate(yaml.safe_load(text), SCHEMA, cls=jsonschema.Draft202012Validator)


def test_there_is_an_example() -> None:
    assert PLANS


@pytest.mark.parametrize(
    "text",
    [
        "name: p\nagents: [{name: a}]\n",
        "name: p\nagents: [{name: a, prompt: do, chekc: pytest}]\n",
        "name: p\nagents: [{name: a b, prompt: do}]\n",
        "name: p\nagents: [{name: a, prompt: do, runtime: cluade}]\n",
        "name: p\nagents: [{name: a, prompt: do, retry_count: -1}]\n",
        "agents: [{name: a, prompt: do}]\n",
        "name: p\nagents: [{name: a, prompt: do}]\ndefualts: {}\n",
    ],
)
def test_an_editor_refuses_what_spawnd_refuses(text: str) -> None:
    with pytest.raises(PlanError):
        compiled(text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), SCHEMA, cls=jsonschema.Draft202012Validator)
