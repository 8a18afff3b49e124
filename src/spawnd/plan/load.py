"""From text to a ``spec.Plan``: every problem at once, each with its path, its line and the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from spawnd.errors import PlanError, Problem, UsageError
from spawnd.plan import spec

MAX_BYTES = 4 * 1024 * 1024
#: Aliases may repeat a node; a document that unfolds beyond this is refused.
_MAX_NODES = 500_000
#: A mended plan may show problems that the wrong fields hid; it is looked at this often.
_MENDING_ROUNDS = 4

Path_ = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plan, the line of each of its fields, and what is wrong with its shape.

    With ``problems``, ``plan`` is what remains without the wrong fields: enough for ``compile.validate`` to find the
    other problems too, never to be run.
    """

    plan: spec.Plan
    origin: str
    lines: Mapping[Path_, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def line(self, path: Path_) -> int | None:
        """The line of ``path``, or of the nearest field around it."""
        return line_of(self.lines, path)


def load_file(path: Path) -> Loaded:
    """Read and parse a plan file. Raises ``UsageError`` if it cannot be read, ``PlanError`` for its content."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"There is no file {path}.", hint="`spawnd init` writes a plan to begin with.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from None
    return load(data, origin=str(path))


def load(data: bytes | str, *, origin: str = "plan") -> Loaded:
    """Parse YAML or JSON. Raises ``PlanError`` if it is no plan at all; see ``Loaded.problems`` for the rest."""
    value, lines = parse(data, origin=origin)
    return load_value(value, lines, origin=origin)


def load_value(value: Any, lines: Mapping[Path_, int], *, origin: str) -> Loaded:
    """The same for values that are parsed already, as those of the command line, which have no lines."""
    if not isinstance(value, dict):
        found = "nothing" if value is None else _article(_kind(value))
        raise PlanError([Problem("", f"a plan is a mapping of fields; this is {found}", 1)], origin=origin)
    problems: list[Problem] = []
    for _ in range(_MENDING_ROUNDS):
        try:
            return Loaded(spec.Plan.model_validate(value), origin, lines, tuple(problems))
        except ValidationError as error:
            told = {problem.path for problem in problems}
            details = _distinct(error.errors())
            # What was taken out below is missing now: that has been told.
            problems += [one for detail in details if (one := _problem(detail, lines)).path not in told]
            mended = [_mend(value, _place(detail), detail["type"]) for detail in details]
            if not all(mended):
                break
    raise PlanError(sorted(problems, key=lambda problem: problem.line or 0), origin=origin)


def line_of(lines: Mapping[Path_, int], path: Path_) -> int | None:
    """The line of ``path``, or of the nearest field around it."""
    for length in range(len(path), -1, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def parse(data: bytes | str, *, origin: str) -> tuple[Any, dict[Path_, int]]:
    """YAML as plain values with the line of each. Duplicate keys, unsafe tags and unfolding bombs are errors."""
    if isinstance(data, str):
        data = data.encode()
    if len(data) > MAX_BYTES:
        raise PlanError([Problem("", f"it is larger than {MAX_BYTES // 1024 // 1024} MiB")], origin=origin)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise PlanError([Problem("", f"it is not UTF-8: byte {error.start}", line)], origin=origin) from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        builder = _Builder(origin)
        value = None if node is None else builder.build(node, ())
    except RecursionError:
        raise PlanError([Problem("", "it is nested too deeply")], origin=origin) from None
    except yaml.YAMLError as error:
        raise PlanError([_syntax(error)], origin=origin) from None
    if node is None:
        return None, {}
    if builder.problems:
        raise PlanError(builder.problems, origin=origin)
    return value, builder.lines


def dotted(path: Sequence[str | int]) -> str:
    """``("agents", 2, "check")`` as ``agents[2].check``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else str(part))
    return text


class _Builder:
    """Turns nodes into values and keeps their lines."""

    def __init__(self, origin: str) -> None:
        self.lines: dict[Path_, int] = {}
        self.problems: list[Problem] = []
        self._origin = origin
        self._scalars = yaml.SafeLoader("")
        self._nodes = 0
        self._open: set[int] = set()

    def build(self, node: Node, path: Path_) -> Any:
        self._nodes += 1
        line = node.start_mark.line + 1
        if self._nodes > _MAX_NODES or id(node) in self._open:
            raise PlanError([Problem(dotted(path), "its aliases unfold without end", line)], origin=self._origin)
        self.lines.setdefault(path, line)
        plain = "map" if isinstance(node, MappingNode) else "seq"
        if not isinstance(node, ScalarNode) and node.tag != f"tag:yaml.org,2002:{plain}":
            self.problems.append(Problem(dotted(path), f"{node.tag} is not allowed in a plan", line))
        self._open.add(id(node))
        try:
            match node:
                case MappingNode():
                    return self._mapping(node, path)
                case SequenceNode():
                    return [self.build(item, (*path, number)) for number, item in enumerate(node.value)]
                case _:
                    return self._scalar(node, path)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode, path: Path_) -> dict[str, Any]:
        # `<<: *anchor` first, then the mapping's own keys over it, as YAML 1.1 says.
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                sources = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                for source in reversed(sources):
                    if isinstance(source, MappingNode):
                        merged |= self.build(source, path)
                    else:
                        self.problems.append(Problem(dotted(path), "`<<` needs a mapping", line))
                continue
            key = key_node.value if isinstance(key_node, ScalarNode) else None
            if key is None:
                self.problems.append(Problem(dotted(path), "a key must be a name", line))
                continue
            if key in own:
                self.problems.append(Problem(dotted((*path, key)), "it is given twice", line))
                continue
            self.lines[*path, key] = line
            own[key] = self.build(value_node, (*path, key))
        return merged | own

    def _scalar(self, node: Node, path: Path_) -> Any:
        try:
            value = self._scalars.construct_object(node)
        except yaml.YAMLError:
            self.problems.append(
                Problem(dotted(path), f"{node.tag} is not allowed in a plan", node.start_mark.line + 1)
            )
            return None
        except (AttributeError, LookupError):
            self.problems.append(
                Problem(dotted(path), f"{node.value!r} is no {node.tag.rpartition(':')[2]}", node.start_mark.line + 1)
            )
            return None
        except ValueError as error:
            self.problems.append(Problem(dotted(path), str(error), node.start_mark.line + 1))
            return None
        if isinstance(value, str):
            # JSON writes what lies beyond the first plane as two escapes; YAML reads them as two halves.
            value = value.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if _halves(value) else value
            if "\0" in value:
                self.problems.append(Problem(dotted(path), "a NUL is not allowed", node.start_mark.line + 1))
        # Dates and the like are texts here: no field of a plan is one.
        return value if value is None or isinstance(value, str | int | float | bool) else node.value


def _halves(text: str) -> bool:
    return any("\ud800" <= letter <= "\udbff" for letter in text) and any(
        "\udc00" <= letter <= "\udfff" for letter in text
    )


def _syntax(error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    words = getattr(error, "problem", None) or str(error).splitlines()[0]
    context = getattr(error, "context", None)
    return Problem(
        "",
        f"it is not valid YAML: {words}" + (f" ({context})" if context else ""),
        mark.line + 1 if mark is not None else None,
    )


def _distinct(details: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """One error per place: a union reports every member that did not match."""
    seen: set[tuple[str | int, ...]] = set()
    kept = []
    places = [_place(detail) for detail in details]
    for detail, place in zip(details, places, strict=True):
        deeper = any(other[: len(place)] == place and len(other) > len(place) for other in places)
        if place not in seen and not deeper:
            seen.add(place)
            kept.append(detail)
    return kept


def _place(detail: ErrorDetails) -> Path_:
    # Pydantic names the members of a union in the path; a plan has no such fields.
    place = detail["loc"]
    if detail["type"] == "extra_forbidden":
        return place
    if place[-1:] == ("[key]",):
        place = place[:-1]
    at = 3 if len(place) > 2 and place[2] == "command" and place[0] == "agents" else len(place)
    return place[:at] + tuple(part for part in place[at:] if part not in ("list[str]", "str"))


def _mend(value: Any, path: Path_, kind: str) -> bool:
    """Take the wrong field out, or fill a required one, so that the rest can be judged; False if it can't be."""
    if not path:
        return False
    holder = value
    try:
        for part in path[:-1]:
            holder = holder[part]
        last = path[-1]
        if path[-1] in ("name", "prompt") and kind != "extra_forbidden":
            stand_in = "-".join(["unnamed", *(str(part) for part in path if isinstance(part, int))])
            if path[0] == "agents" and len(path) == 3 and last == "name":
                _rename(value, holder.get(last), stand_in)
            holder[last] = stand_in
        elif kind == "missing":
            return _drop(value, path[:-1])
        elif isinstance(holder, list):
            return _drop(value, path)  # taking an item out would shift the lines of those behind it
        else:
            del holder[last]
    except (KeyError, IndexError, TypeError):
        return True  # it went with another wrong field
    return True


def _drop(value: Any, path: Path_) -> bool:
    """Take out the field that holds ``path``, list and all; False if that is a whole agent."""
    while path and isinstance(path[-1], int):
        path = path[:-1]
    if len(path) < 2:
        return False
    for part in path[:-1]:
        value = value[part]
    value.pop(path[-1], None)
    return True


def _rename(value: Any, old: object, new: str) -> None:
    """Others may depend on a badly named agent: that is no second problem."""
    for one in value["agents"]:
        if isinstance(one, dict) and isinstance(one.get("depends_on"), list):
            one["depends_on"] = [new if parent == old else parent for parent in one["depends_on"]]


def _problem(detail: ErrorDetails, lines: Mapping[Path_, int]) -> Problem:
    path = _place(detail)
    line = line_of(lines, path)
    kind = detail["type"]
    given = detail.get("input")
    context = detail.get("ctx", {})
    match kind:
        case "extra_forbidden":
            nearest = _nearest(str(path[-1]), _known_fields(path[:-1]))
            return Problem(dotted(path), "no such field", line, nearest)
        case "missing":
            return Problem(dotted(path), "it is required", line)
        case "literal_error":
            known = context.get("expected", "")
            options = [word.strip("'") for word in known.replace(" or ", ", ").split(", ")]
            nearest = _nearest(str(given), options)
            return Problem(dotted(path), f"{given!r} is not one of {', '.join(options)}", line, nearest)
        case "string_pattern_mismatch":
            return Problem(dotted(path), f"{given!r} does not match {context.get('pattern')}", line)
        case "string_type" | "bool_type" | "int_type" | "float_type" | "list_type" | "dict_type" | "model_type":
            wanted = {
                "dict_type": "mapping",
                "model_type": "mapping",
                "string_type": "text",
                "bool_type": "true or false",
            }
            word = wanted.get(kind, kind.removesuffix("_type"))
            quote = "; put it in quotes" if kind == "string_type" and isinstance(given, bool | int | float) else ""
            return Problem(dotted(path), f"it must be {_article(word)}, not {_shown(given)}{quote}", line)
        case _:
            message = detail["msg"]
            return Problem(dotted(path), f"{message[:1].lower()}{message[1:]}, not {_shown(given)}", line)


def _known_fields(path: Sequence[str | int]) -> list[str]:
    """The fields of the block at ``path``."""
    model: Any = spec.Plan
    for part in path:
        if isinstance(part, int):
            continue
        model = _model_of(model.model_fields[part].annotation) if part in getattr(model, "model_fields", {}) else None
        if model is None:
            return []
    return list(getattr(model, "model_fields", {}))


def _model_of(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, spec.Part):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        if (found := _model_of(inner)) is not None:
            return found
    return None


def _nearest(word: str, known: Sequence[str]) -> str | None:
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return found[0] if found else None


def _kind(value: object) -> str:
    return {list: "list", dict: "mapping", str: "text", bool: "true or false", int: "number", float: "number"}.get(
        type(value), type(value).__name__
    )


def _article(word: str) -> str:
    return word if word in ("text", "true or false") else f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _shown(value: object) -> str:
    if isinstance(value, str | int | float | bool):
        return repr(value)[:60]
    return "nothing" if value is None else _article(_kind(value))
