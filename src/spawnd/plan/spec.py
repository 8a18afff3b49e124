"""The schema of a plan as people write it. Unknown fields are errors; every field says what it means.

Only shape and ranges are checked here; what needs more than one field is in ``rules``. The JSON Schema for
editors and the plan reference in the docs are made from these models.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")]
EnvName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=255)]
Text = Annotated[str, StringConstraints(min_length=1)]
Seconds = Annotated[float, Field(gt=0, le=30 * 86400, allow_inf_nan=False)]
Usd = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
Runtime = Literal["claude", "openai", "codex", "command", "acp", "mock"]

DEFAULT_CACHE_PATHS = [
    "pnpm-lock.yaml",
    "package-lock.json",
    "yarn.lock",
    "bun.lock",
    "uv.lock",
    "poetry.lock",
    "requirements.txt",
]
DEFAULT_COMMANDS = [
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
]


class Part(BaseModel):
    """The base of every block: unknown fields are errors, values are not silently converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RunConfig(Part):
    """Which run this is."""

    id: str | None = Field(None, description="The run's id; generated from the plan's name if absent.")
    resume: bool = Field(False, description="Resume the run of this id if it exists, instead of returning it.")


class CostBudget(Part):
    """What the whole run may cost."""

    total_usd: Usd = Field(25.0, description="US dollars for all agents and attempts together.")
    on_exceed: Literal["pause", "cancel", "warn"] = Field("pause", description="What happens when it is used up.")


class CodexOptions(Part):
    """How Codex is run."""

    engine: Literal["auto", "sdk", "cli"] = Field("auto", description="Which engine drives Codex.")
    sandbox: Literal["read-only", "workspace-write", "danger-full-access"] = Field(
        "workspace-write", description="Codex's own sandbox; spawnd's sandbox lies around it."
    )
    approval_mode: Literal["deny_all", "auto_review"] = Field(
        "deny_all", description="What Codex does when it would ask."
    )
    ephemeral: bool = Field(True, description="Keep no session beyond the agent's attempts.")
    dangerous_bypass: bool = Field(False, description="Switch off Codex's approvals and sandbox.")


class McpServer(Part):
    """A server of the Model Context Protocol that the agent may use."""

    name: Name = Field(description="Its name; `spawnd` is reserved.")
    type: Literal["stdio", "http", "sse"] = Field("stdio", description="How it is reached.")
    command: str | None = Field(None, description="Program to start (stdio).")
    args: list[str] = Field([], description="Its arguments (stdio).")
    url: str | None = Field(None, description="Its address (http, sse).")
    env_refs: dict[EnvName, EnvName] = Field({}, description="Variable → name of the secret on the worker.")
    headers: dict[str, str] = Field({}, description="Literal headers (http, sse).")
    header_refs: dict[str, EnvName] = Field({}, description="Header → name of the secret on the worker.")
    tools: list[str] = Field([], description="Only these tools; empty means all.")


class AcpOptions(Part):
    """Which agent of the Agent Client Protocol is run."""

    agent: str | None = Field(None, description="Its id in a registry.")
    command: str | None = Field(None, description="Or the program to start.")
    args: list[str] = Field([], description="Its arguments.")
    env_refs: dict[EnvName, EnvName] = Field({}, description="Variable → name of the secret on the worker.")


class MockOptions(Part):
    """What the mock runtime plays, for tests and trials."""

    seconds: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = Field(
        0.05, description="How long an attempt takes."
    )
    outcomes: list[
        Literal["completed", "failed", "quota", "payment", "auth", "overload", "network", "timeout", "crash"]
    ] = Field(["completed"], description="How each attempt ends; the last repeats.")
    write: dict[str, str] = Field({}, description="Files to write: path → content.")
    message: str = Field("done", description="The final message.")
    cost_usd: Usd = Field(0.0, description="What an attempt costs.")
    input_tokens: Annotated[int, Field(ge=0)] = Field(0, description="Input tokens of an attempt.")
    output_tokens: Annotated[int, Field(ge=0)] = Field(0, description="Output tokens of an attempt.")
    reset_after_seconds: Seconds | None = Field(None, description="When a quota resets; absent: not stated.")
    hang: bool = Field(False, description="Never end by itself.")


class Milestone(Part):
    """A step that the agent reports."""

    name: Text = Field(description="Its name.")
    description: str = Field("", description="What it means.")


class Manager(Part):
    """Limits of a manager agent."""

    max_subagents: Annotated[int, Field(ge=0, le=1000)] = Field(5, description="How many workers it may spawn.")
    event_poll_interval: Seconds = Field(10, description="How often it looks at its workers, in seconds.")
    guidance_enabled: bool = Field(True, description="Whether it may answer its workers' questions.")


class Resources(Part):
    """Bounds for everything that the agent runs, together."""

    cpus: Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)] | None = Field(
        None, description="Processor cores, rounded up to whole ones (Linux)."
    )
    memory_mb: Annotated[int, Field(ge=16)] | None = Field(None, description="Memory in MiB.")
    pids: Annotated[int, Field(ge=4)] | None = Field(None, description="Processes.")


class NamedCheck(Part):
    """A command whose exit code decides whether the work is accepted."""

    name: Name = Field(description="Its name in the record.")
    command: Text = Field(description="What is run.")
    timeout_seconds: Seconds | None = Field(None, description="Its time limit; default check_timeout_seconds.")


OnFailure = Literal["continue", "stop", "retry"]
Retries = Annotated[int, Field(ge=0, le=100)]
Iterations = Annotated[int, Field(ge=1, le=100_000)]


class Defaults(Part):
    """What holds for every agent that does not say otherwise."""

    max_iterations: Iterations = Field(30, description="Model turns per attempt.")
    runtime_timeout_seconds: Seconds | None = Field(None, description="Time limit of the agent program, in seconds.")
    check_timeout_seconds: Seconds = Field(300, description="Time limit of a check, in seconds.")
    check: Text = Field("true", description="The check of agents that name none.")
    on_failure: OnFailure = Field("continue", description="What a failure means for the run.")
    retry_count: Retries = Field(3, description="Retries with on_failure: retry.")
    model: str | None = Field(None, description="The model; by default the runtime's own (sonnet with claude).")
    max_cost_usd: Usd = Field(5.0, description="What one agent may cost, over all its attempts.")
    runtime: Runtime = Field("claude", description="The agent program.")
    codex: CodexOptions | None = Field(None, description="Options of Codex.")
    mcp_servers: list[McpServer] = Field([], description="MCP servers for every agent.")


class Agent(Part):
    """One agent of the plan."""

    name: Name = Field(description="Its name: letters, digits, `_`, `.`, `-`; unique in the plan.")
    type: Literal["worker", "manager"] = Field("worker", description="A manager spawns workers.")
    use_role: str | None = Field(None, description="A role: architect, implementer, tester, reviewer, …")
    prompt: Text = Field(description="What it shall do.")
    depends_on: list[str] = Field([], description="Agents whose results it starts from.")
    check: Text | None = Field(None, description="The short form of one check.")
    checks: list[NamedCheck] = Field([], description="Several named checks, run in order.")
    on_failure: OnFailure | None = Field(None, description="continue, stop or retry.")
    retry_count: Retries | None = Field(None, description="Retries with on_failure: retry.")
    model: str | None = Field(None, description="The model.")
    max_cost_usd: Usd | None = Field(None, description="What it may cost, over all its attempts.")
    runtime: Runtime | None = Field(None, description="The agent program.")
    codex: CodexOptions | None = Field(None, description="Options of Codex.")
    acp: AcpOptions | None = Field(None, description="Which ACP agent.")
    command: list[str] | str | None = Field(
        None, description="With runtime command: an argument list, or a line for the shell."
    )
    mock: MockOptions | None = Field(None, description="With runtime mock: what it plays.")
    mcp_servers: list[McpServer] = Field([], description="MCP servers, beside the defaults'.")
    write_allowed: bool | None = Field(None, description="Whether it may change files; reviewers may not.")
    env: dict[EnvName, str] = Field({}, description="Variables with literal values. Never secrets.")
    env_refs: dict[EnvName, EnvName] = Field({}, description="Variable → name of the secret on the worker.")
    max_iterations: Iterations | None = Field(None, description="Model turns per attempt.")
    runtime_timeout_seconds: Seconds | None = Field(None, description="Time limit of the program, in seconds.")
    check_timeout_seconds: Seconds | None = Field(None, description="Time limit of its checks, in seconds.")
    milestones: list[Milestone] = Field([], description="Steps that it reports.")
    manager: Manager | None = Field(None, description="Limits, for type manager.")
    labels: list[Name] = Field([], description="Labels that its worker must have.")
    priority: Annotated[int, Field(ge=-1000, le=1000)] = Field(0, description="Higher starts first.")
    resources: Resources = Field(Resources(), description="Bounds on processor, memory and processes.")
    network: Literal["none", "allowlist", "full"] | None = Field(
        None, description="none or full; by default full for programs that call a provider."
    )
    network_allow: list[str] = Field([], description="Hosts for network: allowlist.")
    setup: Text | None = Field(None, description="A command run before it, after worktree_setup.")
    inputs: list[str] = Field([], description="Files that it needs, from its dependencies' outputs.")
    outputs: list[str] = Field([], description="Files that it hands on, even if git ignores them.")


class CircuitBreaker(Part):
    """Stops a run in which too much fails."""

    threshold: Annotated[int, Field(ge=0, le=1_000_000)] = Field(
        3, description="How many agents may fail; 0 switches it off."
    )
    action: Literal["cancel_all", "pause", "notify_only"] = Field("cancel_all", description="What happens then.")


class DependencyContext(Part):
    """What a dependent gets of its dependencies' work."""

    mode: Literal["full", "diff_only", "paths"] = Field(
        "full", description="full: their commits merged; diff_only: their changes as one commit; paths: only some."
    )
    include_paths: list[str] = Field([], description="With paths: what is taken.")
    exclude_paths: list[str] = Field([], description="With paths: what is left out.")


class WorktreeSource(Part):
    """Where workspaces come from."""

    base_ref: str | None = Field(None, description="The revision to start from; overrides the run's source ref.")
    fetch: bool = Field(False, description="Fetch the remote before resolving.")
    env_refs: dict[EnvName, EnvName] = Field({}, description="Variables for fetching → names on the worker.")


class WorktreeSetup(Part):
    """A command that prepares each workspace."""

    command: Text = Field(description="What is run.")
    timeout_seconds: Seconds | None = Field(None, description="Its time limit, in seconds.")
    env: dict[EnvName, str] = Field({}, description="Variables with literal values.")
    cache: bool = Field(False, description="Offer a cache directory that lasts between attempts.")
    cache_paths: list[str] = Field(DEFAULT_CACHE_PATHS, description="Files whose content keys the cache.")


class TelemetryOptions(Part):
    """What is exported about the run."""

    enabled: bool = Field(False, description="Whether anything is.")
    exporter: Literal["none", "otlp"] = Field("none", description="How.")
    capture: Literal["orchestrator", "full"] = Field("full", description="How much.")
    failure_policy: Literal["degrade", "fail"] = Field("degrade", description="What an exporter's failure means.")


class ArtifactOptions(Part):
    """What is stored."""

    capture_raw: bool = Field(False, description="Store artifacts without redaction: the plan's explicit exception.")


class GitOptions(Part):
    """How work is delivered."""

    commit: bool = Field(True, description="Commit the work on its branch.")
    push: bool = Field(False, description="Push the branch.")
    remote: str = Field("origin", description="Where to.")
    push_timeout_seconds: Seconds | None = Field(60, description="Time limit of a push, in seconds.")
    env_refs: dict[EnvName, EnvName] = Field({}, description="Variables for pushing → names on the worker.")


class CommandPolicy(Part):
    """Which commands setup and checks may run."""

    mode: Literal["allowlist", "unrestricted"] = Field("allowlist", description="Whether commands are judged.")
    allowed_commands: list[str] = Field(DEFAULT_COMMANDS, description="First words that are allowed.")


class Cleanup(Part):
    """What is removed afterwards."""

    worktree: bool = Field(
        False,
        description="Checkouts are removed in any case once their work is on record; `spawnd salvage` brings one back.",
    )


class RuntimeIsolation(Part):
    """Which isolation of the worker itself is good enough to run without a sandbox."""

    accepted: list[Literal["container", "jail", "vm"]] = Field(
        ["container", "jail", "vm"], description="Values of SPAWND_RUNTIME_ISOLATION that are accepted."
    )


class Orchestration(Part):
    """How the run is run."""

    event_injection: bool = Field(True, description="Tell running agents what their siblings finished.")
    circuit_breaker: CircuitBreaker | None = Field(None, description="Stop a run in which too much fails.")
    dependency_context: DependencyContext = Field(DependencyContext(), description="What dependents start from.")
    worktree_source: WorktreeSource = Field(WorktreeSource(), description="Where workspaces come from.")
    worktree_setup: WorktreeSetup | None = Field(None, description="A command that prepares each workspace.")
    telemetry: TelemetryOptions = Field(TelemetryOptions(), description="What is exported.")
    artifacts: ArtifactOptions = Field(ArtifactOptions(), description="What is stored.")
    git: GitOptions = Field(GitOptions(), description="How work is delivered.")
    command_policy: CommandPolicy = Field(CommandPolicy(), description="Which commands setup and checks may run.")
    cleanup: Cleanup = Field(Cleanup(), description="What is removed afterwards.")
    runtime_isolation: RuntimeIsolation = Field(RuntimeIsolation(), description="When the sandbox `none` will do.")
    concurrency_limit: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Agents of this run at once."
    )
    stuck_threshold: Annotated[int, Field(ge=1)] | None = Field(None, description="Seconds without an event.")


class Plan(Part):
    """A plan: agents, what they depend on, and under which limits they run."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(description="What the run is called.")
    description: str = Field("", description="What it is for.")
    run: RunConfig | None = Field(None, description="Which run this is.")
    defaults: Defaults = Field(Defaults(), description="What holds for every agent that does not say otherwise.")
    cost_budget: CostBudget = Field(CostBudget(), description="What the whole run may cost.")
    shared_context: list[str] = Field([], description="Files of the source that every agent is given to read.")
    orchestration: Orchestration = Field(Orchestration(), description="How the run is run.")
    agents: list[Agent] = Field(description="The agents, in any order.")
    on_complete: Literal["none", "notify"] = Field("none", description="Whether to notify at the end.")


def plan_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of a plan, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Plan.model_json_schema()}
