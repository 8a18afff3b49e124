"""An event as a line for people."""

from __future__ import annotations

from typing import Any

from spawnd.cli.style import duration, plural
from spawnd.wire.events import EventRow

#: What a person who follows along need not see; `spawnd events` has them all.
QUIET = frozenset(
    {
        "step_entered",
        "artifact_stored",
        "source_resolved",
        "workspace_ready",
        "tool_returned",
        "setup_ended",
        "runtime_ended",
        "check_ended",
    }
)


def words(event: EventRow) -> str:
    """What happened, in one line without a line end."""
    text = " ".join(_words(event.type, event.data).split())
    return text if len(text) <= 300 else f"{text[:299]}…"


def _words(kind: str, data: dict[str, Any]) -> str:
    match kind:
        case "run_created":
            return f"submitted: {plural(data.get('agents', 0), 'agent')}"
        case "agent_claimed":
            return f"running on {data.get('worker_id')}"
        case "step_entered":
            return str(data.get("state"))
        case "session_opened":
            model = f" with {data['model']}" if data.get("model") else ""
            return f"session {data.get('session_id')}{' resumed' if data.get('resumed') else ''}{model}"
        case "message":
            return f"“{data.get('text')}”" if data.get("role") == "assistant" else f"{data['role']}: {data.get('text')}"
        case "tool_called":
            return f"→ {data.get('name')} {_input(data.get('input'))}"
        case "tool_returned":
            return f"← {'failed: ' if data.get('is_error') else ''}{data.get('text', '')}"
        case "check_passed" | "check_failed":
            passed = "passed" if kind == "check_passed" else f"failed (exit {data.get('exit_code')})"
            name = "check" if data.get("name") == "check" else f"check {data.get('name')}"
            return f"{name} {passed} in {duration(data.get('seconds', 0))}: {data.get('command')}"
        case "work_delivered" | "work_kept":
            if not data.get("files"):
                return "no file changed"
            kept = "" if kind == "work_delivered" else "kept, not accepted: "
            return (
                f"{kept}{plural(data.get('files', 0), 'file')} changed,"
                f" +{data.get('insertions', 0)} -{data.get('deletions', 0)}, on {data.get('branch')}"
            )
        case "setup_ended" | "runtime_ended" | "check_ended":
            return f"{kind.removesuffix('_ended')} ended in {duration(data.get('seconds', 0))}"
        case "dependencies_merged":
            return f"starts from {', '.join(data.get('dependencies', []))}"
        case "sandbox_warning":
            return f"warning: {data.get('message')}"
        case _ if kind.startswith("agent_"):
            return _ended(kind.removeprefix("agent_").replace("_", " "), data)
        case _:
            return _ended(kind.replace("_", " "), data)


def _ended(state: str, data: dict[str, Any]) -> str:
    reason = data.get("message") or data.get("reason") or data.get("text") or ""
    until = data.get("due_at") or data.get("until")
    when = f" until {str(until)[:19].replace('T', ' ')} UTC" if until else ""
    return f"{state}{when}{f': {reason}' if reason else ''}"


def _input(value: Any) -> str:
    if isinstance(value, dict):
        return str(next((value[key] for key in ("command", "file_path", "path", "query") if key in value), value))
    return "" if value is None else str(value)
