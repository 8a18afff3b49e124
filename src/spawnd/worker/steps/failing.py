"""How a step says that the attempt has failed, and how surprises become classes."""

from __future__ import annotations

from spawnd.domain.failures import Failure, FailureClass
from spawnd.errors import GitFailed, MergeConflict, Refused, SourceError, SpawndError, Unavailable


class StepFailed(Exception):
    """The attempt ends here. ``source`` is the step."""

    def __init__(self, source: str, failure: Failure) -> None:
        super().__init__(failure.message)
        self.source = source
        self.failure = failure


def failure_of(error: Exception, step: str) -> Failure:
    """An error of ours as a class; anything unknown is the agent's step failing, with its type in the words."""
    hint = f" {error.hint}" if isinstance(error, SpawndError) and error.hint else ""
    match error:
        case StepFailed():
            return error.failure
        case MergeConflict():
            detail: dict[str, object] = {"files": list(error.files), "sides": list(error.sides)}
            return Failure(FailureClass.CONFLICT, error.message, detail=detail)
        case Refused():
            return Failure(FailureClass.POLICY, f"{error.message}{hint}")
        case SourceError() | GitFailed() | Unavailable():
            return Failure(FailureClass.SETUP_FAILED, f"{error.message}{hint}")
        case SpawndError():
            return Failure(FailureClass.AGENT_ERROR, f"{error.message}{hint}")
        case _:
            return Failure(FailureClass.AGENT_ERROR, f"{step}: {type(error).__name__}: {error}"[:500])
