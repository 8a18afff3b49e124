"""The command policy: which setup and check commands a plan may name.

This keeps accidents and one-line escapes out of plans. It is no sandbox: python and make run arbitrary code, and
what they can reach is for the sandbox to bound.
"""

from __future__ import annotations

import re
import shlex

from spawnd.plan.spec import CommandPolicy

_ASSIGNMENT = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)=(.*)$", re.DOTALL)
#: Variables that change which program runs or what it loads.
_DANGEROUS = re.compile(
    r"^(PATH|LD_.*|DYLD_.*|PYTHON.*|GIT_.*|BASH_ENV|ENV|SHELLOPTS|BASHOPTS|IFS|CDPATH|NODE_OPTIONS|NODE_PATH|PERL5.*"
    r"|RUBY.*|JAVA_TOOL_OPTIONS|HOME|SHELL|EDITOR|PAGER|PROMPT_COMMAND|npm_config_.*|UV_.*|PIP_.*)$",
    re.IGNORECASE,
)
_FORBIDDEN = {
    "\n": "a newline",
    "\r": "a carriage return",
    ";": "';'",
    "|": "'|'",
    "<": "'<'",
    ">": "'>'",
    "`": "a backtick",
    "$(": "'$('",
    "\x00": "a NUL",
}


def refusal(command: str, policy: CommandPolicy) -> str | None:
    """Why the policy refuses ``command``, in words for the plan's author; None if it allows it.

    ``&&`` joins commands, each judged by itself; leading ``VAR=value`` is allowed but for variables that would
    change what runs.
    """
    if not command.strip():
        return "a command is missing"
    if policy.mode == "unrestricted":
        return None
    for token, words in _FORBIDDEN.items():
        if token in command:
            return f"the command policy does not allow {words}"
    if "&" in command.replace("&&", ""):
        return "the command policy does not allow '&' (only '&&')"
    for segment in command.split("&&"):
        if problem := _segment(segment, policy):
            return problem
    return None


def _segment(segment: str, policy: CommandPolicy) -> str | None:
    try:
        words = shlex.split(segment)
    except ValueError as error:
        return f"it is not a command line: {error}"
    while words and (assignment := _ASSIGNMENT.match(words[0])):
        if _DANGEROUS.match(assignment[1]):
            return f"the command policy does not allow to set {assignment[1]}"
        words.pop(0)
    if not words:
        return "a command is missing"
    if words[0] not in policy.allowed_commands:
        return (
            f"the command policy does not allow {words[0]!r};"
            " add it to orchestration.command_policy.allowed_commands, or set mode: unrestricted"
        )
    return None
