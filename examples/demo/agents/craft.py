"""The loop that the demo's scripted agents share: run the tests, read what fails, mend one thing, again.

No model is asked. A script knows a handful of repairs, each with the failing test that calls for it, and stops when
the tests pass or when something fails that it has no repair for. The edits, the test runs and the exit code are real.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

#: Pause after a step, so that a person can follow the progress. Set to 0 for tests.
PACE_SECONDS = float(os.environ.get("DEMO_PACE_SECONDS", "0.15"))

#: ``symptom`` is the test that calls for it, ``says`` what it does, ``edits`` are Edit and Create.
Repair = namedtuple("Repair", ["symptom", "says", "edits"])
Edit = namedtuple("Edit", ["path", "old", "new"])
Create = namedtuple("Create", ["path", "text"])

_FAILED = re.compile(r"^(?:FAIL|ERROR): (\w+)", re.MULTILINE)
_RAN = re.compile(r"^Ran (\d+) tests?", re.MULTILINE)


class Stuck(Exception):
    """The project is not as this script expects it."""


def say(text):
    """A line of progress, at once."""
    print(text, flush=True)


def work(tests, repairs):
    """Mend until the named test modules pass (all of them if none is named). Returns the exit code."""
    say(f"I am a script, not a model: I know {len(repairs)} repairs and apply them as tests call for them.")
    pending = list(repairs)
    while True:
        failing = run_tests(tests)
        if not failing:
            say(f"Done with {len(repairs) - len(pending)} repairs: every test passes.")
            return 0
        repair = next((one for one in pending if one.symptom in failing), None)
        if repair is None:
            say(f"I know no repair for: {', '.join(failing)}")
            return 1
        pending.remove(repair)
        say(f"{repair.symptom}: {repair.says}")
        try:
            for edit in repair.edits:
                apply(edit)
        except Stuck as problem:
            say(f"I cannot go on: {problem}")
            return 1
        time.sleep(PACE_SECONDS)


def run_tests(tests):
    """The names of the tests that fail, in the order of the report, each once."""
    # Without bytecode: two edits within a second could otherwise be served from a stale file.
    command = [sys.executable, "-B", "-m", "unittest", *tests]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    failing = list(dict.fromkeys(_FAILED.findall(done.stdout)))
    ran = _RAN.search(done.stdout)
    if ran is None or (done.returncode != 0 and not failing):
        raise SystemExit(f"the tests do not run:\n{done.stdout}")
    say(f"{ran.group(1)} tests ran, {len(failing)} fail")
    report_tool("unittest", command[3:], done.stdout[-4000:], done.returncode != 0)
    return failing


def report_tool(name, arguments, output, is_error):
    """Put a tool call on spawnd's record; nothing is printed when a person runs the script."""
    if "SPAWND_PROMPT_FILE" in os.environ:
        call = {"type": "tool", "name": name, "input": arguments, "output": output, "is_error": is_error}
        say(f"::spawnd {json.dumps(call)}")


def apply(edit):
    """Change or create one file. Raises Stuck if the text to change is not there exactly once."""
    path = Path(edit.path)
    if isinstance(edit, Create):
        if path.exists():
            raise Stuck(f"{path} exists already")
        path.write_text(edit.text, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if text.count(edit.old) != 1:
        raise Stuck(f"{path} does not have this once: {edit.old!r}")
    path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
