"""Run pytest with the given arguments, and fail if any test was skipped or expected to fail."""

from __future__ import annotations

import sys

import pytest

_KINDS = ("skipped", "xfailed", "xpassed")


class NoSkips:
    """Turns a green session with skips into a failed one, and says so in the summary."""

    def __init__(self) -> None:
        self.count = 0

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session):
        result = yield
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        self.count = sum(len(reporter.stats.get(kind, ())) for kind in _KINDS) if reporter else 0
        if self.count and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.count:
            terminalreporter.write_line(f"{self.count} tests were skipped: nothing may be skipped in CI", red=True)


if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:], plugins=[NoSkips()]))
