"""Dependencies: cycles, in time linear in the number of edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def find_cycle(parents: Mapping[str, Sequence[str]]) -> list[str] | None:
    """A cycle as the names along it (first repeated at the end), or None. Unknown parents are ignored."""
    done: set[str] = set()
    for root in parents:
        if root in done:
            continue
        path: list[str] = []
        on_path: set[str] = set()
        stack: list[tuple[str, int]] = [(root, 0)]
        while stack:
            name, position = stack.pop()
            if position == 0:
                path.append(name)
                on_path.add(name)
            known = [parent for parent in parents[name] if parent in parents]
            if position < len(known):
                stack.append((name, position + 1))
                parent = known[position]
                if parent in on_path:
                    return [*path[path.index(parent) :], parent]
                if parent not in done:
                    stack.append((parent, 0))
            else:
                done.add(name)
                on_path.discard(name)
                path.pop()
    return None


def leaves(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """The agents that nobody depends on, in the order given."""
    needed = {parent for names in parents.values() for parent in names}
    return [name for name in parents if name not in needed]
