"""What one attempt needs and gathers on its way through the steps."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spawnd.contracts.control_plane import Assignment, ControlPlane
from spawnd.contracts.runtime import Runtime
from spawnd.contracts.sandbox import Boundary, Limits, Network, Sandbox
from spawnd.git.mirrors import Mirrors
from spawnd.git.workspace import Snapshot, Workspace
from spawnd.process.orphans import MARK
from spawnd.settings import Settings
from spawnd.worker.recorder import Recorder


@dataclass(frozen=True, slots=True)
class Tools:
    """What all attempts of a worker share."""

    plane: ControlPlane
    runtimes: Mapping[str, Runtime]
    sandbox: Sandbox
    mirrors: Mirrors
    settings: Settings
    worker_id: str


@dataclass(slots=True)
class Job:
    """One attempt on its way."""

    tools: Tools
    assignment: Assignment
    recorder: Recorder
    mirror: Path | None = None
    source_sha: str | None = None
    base_sha: str | None = None
    workspace: Workspace | None = None
    snapshot: Snapshot | None = None
    env: dict[str, str] = field(default_factory=dict)
    resume_session: str | None = None
    continued: bool = False  #: the workspace holds what the last attempt left
    patch_sha256: str | None = None
    bundle_sha256: str | None = None
    unpriced: bool = False  #: it was said that no price is known for its model
    #: The value of ``MARK`` in everything started for this attempt. By chance, not by number: what carries it may be
    #: killed, and another installation on this machine counts its attempts from 1 too.
    mark: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def state_dir(self) -> Path:
        """Session state of the agent, kept between its attempts."""
        return self.tools.settings.states / self.assignment.run_id / self.assignment.agent

    def variables(self) -> dict[str, str]:
        """What every program of the attempt is told."""
        assignment = self.assignment
        return {
            **self.env,
            "SPAWND_RUN_ID": assignment.run_id,
            "SPAWND_AGENT_NAME": assignment.agent,
            "SPAWND_AGENT_TYPE": assignment.spec.type,
            "SPAWND_ATTEMPT": str(assignment.attempt),
            MARK: self.mark,
        }

    def boundary(self, *, state_dir: Path | None = None, network: str | None = None, **more: object) -> Boundary:
        """What a room of this attempt may touch. ``more`` are further fields of ``Boundary``."""
        assert self.workspace is not None
        spec, settings = self.assignment.spec, self.tools.settings
        fields: dict[str, object] = {
            "workspace": self.workspace.path,
            "read_only": not spec.write_allowed,
            "state_dir": state_dir,
            "network": Network(network or spec.network),
            "limits": Limits(memory_mb=spec.resources.memory_mb, pids=spec.resources.pids, cpus=spec.resources.cpus),
            "readable": (self.workspace.mirror / "objects",),
            "hidden": (settings.home, settings.workspaces, settings.states, settings.mirrors, settings.setup_caches),
        }
        readable = more.pop("readable", ())
        fields["readable"] = (*fields["readable"], *readable)  # type: ignore[misc]  # tuples of paths
        return Boundary(**{**fields, **more})  # type: ignore[arg-type]  # the fields of Boundary
