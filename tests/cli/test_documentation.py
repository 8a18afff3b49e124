"""What the pages show is true: their plans are valid, their commands exist, their links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from spawnd.cli.commands import COMMANDS
from spawnd.cli.commands import load as command_of
from spawnd.plan.compile import compile_plan
from spawnd.plan.load import load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text()) if language in languages]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_whole_plan_on_a_page_is_valid(page: Path) -> None:
    for text in blocks(page, "yaml"):
        if text.startswith("name:"):
            compile_plan(load(text, origin=str(page)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_on_a_page_exists(page: Path) -> None:
    for text in [*blocks(page, "sh", "console"), *re.findall(r"`(spawnd [^`]+)`", page.read_text())]:
        for line in re.findall(r"\bspawnd ([a-z][a-z-]*[^\n#|>]*)", text):
            words = line.split()
            assert words[0] in COMMANDS, line
            command = command_of(words[0], COMMANDS[words[0]])
            subcommands = getattr(command, "commands", None)
            if subcommands and len(words) > 1:
                command = subcommands[words[1]]
            options = {option for param in command.params for option in param.opts} | {"--help"}
            used = {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            assert used <= options, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_on_a_page_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_reference_pages_are_what_the_source_says() -> None:
    made = subprocess.run([sys.executable, "scripts/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
