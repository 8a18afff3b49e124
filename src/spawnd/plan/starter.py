"""The plan that `spawnd init` writes: commented, valid, and small enough to read at once."""

from __future__ import annotations

STARTER = """\
# A plan for spawnd. Run it with `spawnd run -f plan.yaml`; check it with `spawnd plan validate -f plan.yaml`.
# Every field: docs/reference/plan.md, or `spawnd plan schema` for your editor.
name: first plan

defaults:
  runtime: {runtime}            # claude, codex, command or mock
  check: {check}          # decides whether an agent's work is accepted
  on_failure: retry          # a failed check goes back to the same session …
  retry_count: 2             # … at most twice
  max_cost_usd: 5.0          # per agent, over all its attempts

cost_budget:
  total_usd: 20.0            # for the whole run
  on_exceed: pause           # or cancel, warn

orchestration:
  concurrency_limit: 4       # agents at once

agents:
  # These two run side by side, each in its own checkout.
  - name: parser
    prompt: |
      Improve the error messages of the parser: each names the line and what was expected.
  - name: docs
    prompt: |
      Bring README.md up to date with the command line's real options.

  # This one starts from the merged work of both.
  - name: release-notes
    depends_on: [parser, docs]
    prompt: |
      Summarise what changed since the last tag in CHANGELOG.md.

  # A reviewer reads and reports; it cannot write.
  - name: review
    use_role: reviewer
    depends_on: [release-notes]
    prompt: |
      Review the whole change against the last tag.
"""


def starter(*, runtime: str = "claude", check: str = '"true"') -> str:
    """The text, for a runtime and a check (as YAML) that fit the repository."""
    return STARTER.replace("{runtime}", runtime).replace("{check}", check)
