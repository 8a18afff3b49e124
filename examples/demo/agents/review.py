"""A scripted agent of the demo: reads the whole change and reports. It changes nothing, and could not.

Exit code 0 if it found nothing that must be mended, 1 otherwise.
"""

import ast
import subprocess
import sys
import time
from pathlib import Path

from craft import PACE_SECONDS, run_tests, say

LONGEST_LINE = 120


def main():
    say("I am a script, not a model: I check what can be checked by rule.")
    base = git("rev-list", "--max-parents=0", "HEAD").split()[-1]
    say("The change since the source:")
    for line in git("diff", "--stat", base, "HEAD").splitlines():
        say(f"  {line.strip()}")
    time.sleep(PACE_SECONDS)
    findings = [*weakened_tests(base), *unsound_modules()]
    time.sleep(PACE_SECONDS)
    findings += [f"{test} fails" for test in run_tests([])]
    for finding in findings:
        say(f"must be mended: {finding}")
    say(f"{len(findings)} findings" if findings else "Nothing to mend: accepted.")
    return 1 if findings else 0


def weakened_tests(base):
    """Agents that are judged by tests must not change them."""
    return [f"{path} was changed" for path in git("diff", "--name-only", base, "HEAD", "--", "tests").splitlines()]


def unsound_modules():
    """Modules that do not compile, functions without a docstring, lines that are too long."""
    for path in sorted(Path("ledger").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        try:
            tree = ast.parse(text, str(path))
        except SyntaxError as error:
            yield f"{path} does not compile: {error}"
            continue
        for node in tree.body:
            public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
            if public and ast.get_docstring(node) is None:
                yield f"{path}:{node.lineno}: {node.name} has no docstring"
        for number, line in enumerate(text.splitlines(), start=1):
            if len(line) > LONGEST_LINE:
                yield f"{path}:{number}: the line is longer than {LONGEST_LINE}"
        say(f"  {path} reads well")


def git(*arguments):
    """What git prints. An error of git ends the review."""
    return subprocess.run(
        ["git", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


if __name__ == "__main__":
    sys.exit(main())
