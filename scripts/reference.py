"""Write the reference pages from what they describe: the plan's schema, the command line, the settings.

.venv/bin/python scripts/reference.py            write docs/reference/
.venv/bin/python scripts/reference.py --check    exit 1 if a page is not what would be written
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

PAGES = Path(__file__).resolve().parent.parent / "docs" / "reference"
MADE = "<!-- Made by scripts/reference.py; change the source that it describes, not this page. -->\n"


def main(arguments: list[str]) -> int:
    # The help must not depend on the terminal or the environment that this runs in.
    os.environ |= {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}
    pages = {"plan.md": plan_page(), "cli.md": cli_page(), "settings.md": settings_page()}
    stale = [name for name, text in pages.items() if not same(PAGES / name, text)]
    if "--check" in arguments:
        for name in stale:
            print(f"docs/reference/{name} is stale: run scripts/reference.py", file=sys.stderr)
        return 1 if stale else 0
    PAGES.mkdir(parents=True, exist_ok=True)
    for name in stale:
        (PAGES / name).write_text(pages[name])
        print(f"wrote docs/reference/{name}")
    return 0


def same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


# -- the plan ------------------------------------------------------------------------------------------------------

_PLAN = """\
# The plan

A plan is a YAML or JSON file: agents, what they depend on, and the limits they run under. `spawnd init` writes one to
start from, `spawnd plan validate -f plan.yaml` names every mistake with its path and line, `spawnd plan schema` prints
the JSON Schema for your editor, and `spawnd plan compile -f plan.yaml` prints what your plan comes to after merging.

An agent's own fields win over its role's, those over `defaults`, those over the defaults below. A field that this
version accepts but does not act on yet is marked *later*; submitting a plan that sets one says so.
"""


def plan_page() -> str:
    from spawnd.plan import notices, spec

    out = io.StringIO()
    out.write(f"{MADE}{_PLAN}")
    seen: set[type[BaseModel]] = set()
    queue: list[tuple[str, str, type[BaseModel]]] = [("", "Top level", spec.Plan)]
    while queue:
        shape, title, model = queue.pop(0)
        if model in seen:
            continue
        seen.add(model)
        doc = (model.__doc__ or "").strip().splitlines()[0]
        out.write(f"\n## {title}\n\n{doc}\n\n| Field | Type | Default | Meaning |\n|---|---|---|---|\n")
        for name, field in model.model_fields.items():
            path = f"{shape}.{name}" if shape else name
            later = f" *Later: {notices.LATER[path]}.*" if path in notices.LATER else ""
            out.write(
                f"| `{name}` | {cell(type_words(field))} | {cell(default_words(field))} |"
                f" {cell(field.description or '')}{cell(later)} |\n"
            )
            for nested, many in blocks(field.annotation):
                queue.append((f"{path}[]" if many else path, f"`{path}[]`" if many else f"`{path}`", nested))
    return out.getvalue()


def blocks(annotation: object) -> Iterator[tuple[type[BaseModel], bool]]:
    """The models that a field holds, and whether it holds a list of them."""
    for part in flat(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part, False
        elif typing.get_origin(part) is list:
            for item, _ in blocks(typing.get_args(part)[0]):
                yield item, True


def flat(annotation: object) -> list[object]:
    """The members of a union, without None and without what is only annotated."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return flat(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [part for member in typing.get_args(annotation) for part in flat(member)]
    return [] if annotation is type(None) else [annotation]


def type_words(field: FieldInfo) -> str:
    return " or ".join(dict.fromkeys(word(part) for part in flat(field.annotation))) + bounds(field)


def word(part: object) -> str:
    origin, arguments = typing.get_origin(part), typing.get_args(part)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is list:
        return f"list of {' or '.join(word(item) for item in flat(arguments[0]))}"
    if origin is dict:
        return "mapping"
    if isinstance(part, type) and issubclass(part, BaseModel):
        return "block"
    return {str: "text", int: "whole number", float: "number", bool: "true, false"}.get(part, str(part))  # type: ignore[call-overload]  # any object may be asked for


def bounds(field: FieldInfo) -> str:
    found: dict[str, object] = {}
    for part in [*field.metadata, *inner_metadata(field.annotation)]:
        for name, sign in (("gt", ">"), ("ge", "≥"), ("le", "≤")):
            value = getattr(part, name, None)
            if value is not None:
                found.setdefault(sign, value)
    return "".join(f", {sign} {value:,}" for sign, value in found.items())


def inner_metadata(annotation: object) -> list[object]:
    found: list[object] = []
    for member in [annotation, *typing.get_args(annotation)]:
        if typing.get_origin(member) is typing.Annotated:
            for part in typing.get_args(member)[1:]:
                found += part.metadata if isinstance(part, FieldInfo) else [part]
    return found


def default_words(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel) or value in ([], {}, ""):
        return ""
    return f"`{json.dumps(to_jsonable_python(value))}`"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


# -- the command line ----------------------------------------------------------------------------------------------

_CLI = """\
# The command line

`RUN` is a run's id, a unique beginning of it, or `latest`. Every command that reads takes `--json` and then prints one
document on standard output; progress and warnings go to standard error.

| Exit code | Meaning |
|---|---|
| 0 | done; the run completed |
| 1 | the run, or an agent of it, did not complete |
| 2 | the command line, the plan or the environment is wrong: nothing was begun |
| 3 | what was named does not exist |
| 4 | a backend (database, sandbox, storage) cannot be reached |
| 130 | interrupted: work was handed back, `spawnd resume` goes on |
"""


def cli_page() -> str:
    from spawnd.cli.commands import SECTIONS

    out = io.StringIO()
    out.write(f"{MADE}{_CLI}")
    for title, section in SECTIONS.items():
        out.write(f"\n## {title}\n")
        for name in section:
            for words in [name, *subcommands(name)]:
                out.write(f"\n### spawnd {words}\n\n```text\n{help_of(words).rstrip()}\n```\n")
    return out.getvalue()


def subcommands(name: str) -> list[str]:
    from spawnd.cli.commands import COMMANDS, load

    command = load(name, COMMANDS[name])
    return [f"{name} {sub}" for sub in getattr(command, "commands", {})]


def help_of(words: str) -> str:
    from spawnd.cli import main as spawnd

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        spawnd([*words.split(), "--help"])
    return said.getvalue()


# -- the settings --------------------------------------------------------------------------------------------------

_SETTINGS = """\
# Settings

Everything has a default that works on a laptop. `spawnd doctor` shows what holds and what is wrong.

| Variable | Default | Meaning |
|---|---|---|
"""


def settings_page() -> str:
    from spawnd.settings import Settings

    out = io.StringIO()
    out.write(f"{MADE}{_SETTINGS}")
    for name, field in Settings.model_fields.items():
        default = "`~/.local/share/spawnd`" if name == "home" else default_words(field)
        out.write(f"| `SPAWND_{name.upper()}` | {default} | {cell(field.description or '')} |\n")
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
