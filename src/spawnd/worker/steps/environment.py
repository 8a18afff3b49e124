"""Environment: from nothing, only what the plan refers to; and the gate in front of real programs."""

from __future__ import annotations

from spawnd.contracts.runtime import Runtime
from spawnd.domain.facts import Noted
from spawnd.domain.failures import Failure, FailureClass
from spawnd.telemetry.redact import Redactor
from spawnd.worker.job import Job
from spawnd.worker.steps.failing import StepFailed

#: What programs of providers read their login from, passed on when the plan names no reference of its own.
LOGIN_VARIABLES = {
    "claude": ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_OAUTH_TOKEN"),
    "codex": ("CODEX_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"),
}


async def resolve(job: Job) -> None:
    """Resolve ``env`` and ``env_refs``; from here on the values are known to the redactor."""
    spec, environ = job.assignment.spec, job.tools.settings.environ
    missing = sorted(name for name in spec.env_refs.values() if name not in environ)
    if missing:
        raise StepFailed(
            "environment",
            Failure(
                FailureClass.SETUP_FAILED,
                f"env_refs names {', '.join(missing)}, which this worker's environment does not have.",
            ),
        )
    secrets = {variable: environ[name] for variable, name in spec.env_refs.items()}
    for variable in LOGIN_VARIABLES.get(spec.runtime, ()):
        if variable in environ and variable not in secrets and variable not in spec.env:
            secrets[variable] = environ[variable]
    for server in spec.mcp_servers:
        for name in (*server.env_refs.values(), *server.header_refs.values()):
            if name not in environ:
                raise StepFailed(
                    "environment",
                    Failure(FailureClass.SETUP_FAILED, f"The MCP server {server.name} needs {name}."),
                )
    hidden = [value for variable, value in secrets.items() if not variable.endswith("_BASE_URL")]
    # Known to the redactor, but never in the agent's environment.
    elsewhere = [name for one in spec.mcp_servers for name in (*one.env_refs.values(), *one.header_refs.values())]
    elsewhere += job.assignment.orchestration.worktree_source.env_refs.values()
    hidden += [environ[name] for name in elsewhere if name in environ]
    job.recorder.redactor = Redactor(hidden)
    job.recorder.capture_raw = job.assignment.orchestration.artifacts.capture_raw
    job.env = {**spec.env, **secrets}


async def gate(job: Job, runtime: Runtime) -> None:
    """A program that writes by its own choice runs in a sandbox, or on a worker that is declared isolated."""
    sandbox, settings, spec = job.tools.sandbox, job.tools.settings, job.assignment.spec
    if sandbox.isolates:
        return
    accepted = job.assignment.orchestration.runtime_isolation.accepted
    if runtime.autonomous and spec.write_allowed and settings.runtime_isolation not in accepted:
        raise StepFailed(
            "isolation",
            Failure(
                FailureClass.POLICY,
                f"{spec.runtime} can write, and this worker has no sandbox. Install bubblewrap, or, if the worker"
                f" itself is isolated, say so with SPAWND_RUNTIME_ISOLATION={'|'.join(accepted)}.",
            ),
        )
    words = f"{spec.runtime} runs without a sandbox: it can read and change what this user can."
    await job.recorder.add(Noted("sandbox_warning", {"message": words, "network_enforced": False}))
