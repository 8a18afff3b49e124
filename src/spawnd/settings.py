"""Every ``SPAWND_`` variable: the only reader of the process environment.

``Settings.load()`` validates at start and names the variable that is wrong; ``spawnd doctor`` explains them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from spawnd.errors import UsageError

#: What a runtime declares when its worker runs inside an isolation of the operator's own.
ISOLATIONS = ("container", "jail", "vm")


def _default_home() -> Path:
    base = os.environ.get("XDG_DATA_HOME")
    if base and Path(base).is_absolute():
        return Path(base) / "spawnd"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "spawnd"
    return Path.home() / ".local" / "share" / "spawnd"


class Settings(BaseSettings):
    """What the operator configured. With nothing set, everything lives under ``home``."""

    model_config = SettingsConfigDict(env_prefix="SPAWND_", frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Field(
        default_factory=_default_home,
        description="Data directory: embedded database, artifacts, mirrors, workspaces.",
    )
    database_url: SecretStr | None = Field(
        None, description="PostgreSQL 15 or newer. Without it spawnd runs its own in SPAWND_HOME."
    )
    scratch_root: Path | None = Field(None, description="Where workspaces are checked out.")
    source_cache_root: Path | None = Field(None, description="Where bare mirrors of sources are kept.")
    setup_cache_root: Path | None = Field(None, description="Where worktree_setup caches are kept.")
    runtime_isolation: str | None = Field(
        None, description="container, jail or vm: the operator declares that this worker itself is isolated."
    )
    sandbox: str | None = Field(None, description="bubblewrap or none; by default the best that works.")
    codex_auth_dir: Path | None = Field(None, description="Seed for CODEX_HOME: auth.json and config.toml.")
    claude_auth_dir: Path | None = Field(None, description="Seed for CLAUDE_CONFIG_DIR: credentials.")
    prices_file: Path | None = Field(None, description="TOML file with prices of models, looked at first.")
    roles_dir: Path | None = Field(None, description="Your own roles, NAME.yaml each [default: SPAWND_HOME/roles].")
    git_askpass: Path | None = Field(None, description="Program that git asks for credentials of remotes.")
    pg_bindir: Path | None = Field(None, description="PostgreSQL binaries to use for the embedded database.")
    lease_seconds: float = Field(30.0, ge=5, le=3600, description="How long a lease lasts without renewal.")
    poll_seconds: float = Field(5.0, gt=0, le=300, description="The safety poll, when hints are lost.")
    schema_name: str = Field("spawnd", pattern="^[a-z_][a-z0-9_]{0,50}$", description="PostgreSQL schema.")

    @field_validator("runtime_isolation")
    @classmethod
    def _known_isolation(cls, value: str | None) -> str | None:
        if value is not None and value not in ISOLATIONS:
            raise ValueError(f"must be one of {', '.join(ISOLATIONS)}")
        return value

    @field_validator("home", "scratch_root", "source_cache_root", "setup_cache_root", mode="after")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value is not None else None

    @classmethod
    def load(cls, **overrides: Any) -> Settings:
        """Read the environment. Raises ``UsageError`` naming each variable that is wrong."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            wrong = [
                f"SPAWND_{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
                for problem in error.errors()
            ]
            raise UsageError(
                "The environment has wrong settings:\n  " + "\n  ".join(wrong),
                hint="Correct or unset them; `spawnd doctor` explains each.",
            ) from None

    @cached_property
    def environ(self) -> Mapping[str, str]:
        """The process environment as it was at start, for resolving ``env_refs`` and finding programs."""
        return dict(os.environ)

    @property
    def workspaces(self) -> Path:
        return (self.scratch_root or self.home / "scratch") / "workspaces"

    @property
    def states(self) -> Path:
        """Session state of agents (CODEX_HOME and the like), kept between attempts."""
        return (self.scratch_root or self.home / "scratch") / "states"

    @property
    def mirrors(self) -> Path:
        return self.source_cache_root or self.home / "mirrors"

    @property
    def roles(self) -> Path:
        """Where the user's own roles are."""
        return self.roles_dir or self.home / "roles"

    @property
    def setup_caches(self) -> Path:
        return self.setup_cache_root or self.home / "setup-cache"

    @property
    def artifacts(self) -> Path:
        return self.home / "artifacts"
