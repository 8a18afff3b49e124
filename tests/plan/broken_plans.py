"""Plans that must be refused, each with every problem that its author is to be told, and no other."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Expected:
    """A problem: where it is, some of its words, and the nearest known name."""

    path: str
    line: int | None
    words: str
    nearest: str | None = None


@dataclass(frozen=True)
class Broken:
    id: str
    text: str | bytes
    problems: tuple[Expected, ...]


def broken(id: str, text: str | bytes, *problems: tuple[str, int | None, str] | tuple[str, int, str, str]) -> Broken:
    return Broken(id, text, tuple(Expected(*problem) for problem in problems))


def top(*lines: str) -> str:
    """A plan that is valid but for its lines 2, 3, …"""
    return "\n".join(["name: p", *lines, "agents: [{name: z, prompt: do}]", ""])


def agent(*lines: str, runtime: str = "claude") -> str:
    """A plan that is valid but for lines 6, 7, … in its agent ``a``."""
    head = ["name: p", "agents:", "  - name: a", "    prompt: do", f"    runtime: {runtime}"]
    return "\n".join([*head, *(f"    {line}" for line in lines), ""])


def agents(*lines: str) -> str:
    """A plan whose agents are written in lines 3, 4, …"""
    return "\n".join(["name: p", "agents:", *(f"  - {line}" for line in lines), ""])


NO_YAML = [
    broken("empty-file", "", ("", 1, "this is nothing")),
    broken("only-a-comment", "# later\n", ("", 1, "this is nothing")),
    broken("a-list", "- name: a\n", ("", 1, "this is a list")),
    broken("a-text", "fix the tests\n", ("", 1, "this is text")),
    broken("a-number", "5\n", ("", 1, "this is a number")),
    broken("tab-as-indent", "name: p\nagents:\n\t- name: a\n", ("", 3, "found character '\\t'")),
    broken("quote-left-open", 'name: p\nagents: []\ndescription: "abc\n', ("", 4, "not valid YAML")),
    broken("bracket-left-open", "name: p\nagents: [\n", ("", 3, "not valid YAML")),
    broken("colon-in-a-prompt", agents("name: a\n    prompt: fix: it"), ("", 4, "mapping values are not allowed")),
    broken("indent-is-off", "name: p\nagents:\n  - name: a\n   prompt: do\n", ("", 4, "not valid YAML")),
    broken("several-documents", top() + "---\nname: q\n", ("", 3, "another document")),
    broken("unknown-alias", top("description: *other"), ("", 2, "undefined alias 'other'")),
    broken("key-twice", top("description: one", "description: two"), ("description", 3, "given twice")),
    broken("key-twice-in-an-agent", agent("check: 'true'", "prompt: x"), ("agents[0].prompt", 7, "given twice")),
    broken("key-is-a-list", top("? [a, b]", ": c"), ("", 2, "a key must be a name")),
    broken("python-tag", top("description: !!python/name:os.system x"), ("description", 2, "not allowed")),
    broken("own-tag", top("description: !secret x"), ("description", 2, "!secret is not allowed")),
    broken("tag-on-a-mapping", top("defaults: !!python/dict {}"), ("defaults", 2, "not allowed")),
    broken("bool-tag-on-text", top("description: !!bool maybe"), ("description", 2, "")),
    broken("int-tag-on-nothing", top('description: !!int ""'), ("description", 2, "")),
    broken("timestamp-tag-on-text", top("description: !!timestamp x"), ("description", 2, "")),
    broken("merge-of-a-number", top("<<: 5"), ("", 2, "mapping")),
    broken("alias-in-itself", top("description: &a [*a]"), ("description[0]", 2, "unfold without end")),
    broken(
        "alias-bomb",
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{name}: &{name} [{','.join([f'*{one}'] * 10)}]\n" for one, name in pairwise("abcdefg")),
        ("f[3][3][8][8][8][8]", 1, "unfold without end"),
    ),
    broken("nested-too-deeply", top("description: " + "[" * 3000), ("", None, "nested")),
    broken("latin-1", b"name: p\ndescription: caf\xe9\n", ("", 2, "not UTF-8")),
    broken("utf-16", top().encode("utf-16"), ("", 1, "not UTF-8")),
    broken("raw-nul", "name: p\x00\n", ("", None, "unacceptable character")),
    broken("too-large", "name: p\ndescription: " + "x" * (4 << 20), ("", None, "larger than 4 MiB")),
]

SHAPE = [
    broken("no-name", "agents: [{name: a, prompt: do}]\n", ("name", 1, "required")),
    broken("no-agents", "name: p\n", ("agents", 1, "required")),
    broken("agents-empty", "name: p\nagents: []\n", ("agents", 2, "at least one agent")),
    broken("agents-null", "name: p\nagents:\n", ("agents", 2, "it must be a list, not nothing")),
    broken("agents-by-name", "name: p\nagents:\n  a: {prompt: do}\n", ("agents", 2, "a list, not a mapping")),
    broken("agent-is-a-number", "name: p\nagents: [5]\n", ("agents[0]", 2, "a mapping, not 5")),
    broken("agent-is-nothing", "name: p\nagents:\n  -\n", ("agents[0]", 3, "a mapping, not nothing")),
    broken("agent-without-name", agents("prompt: do"), ("agents[0].name", 3, "required")),
    broken("agent-without-prompt", agents("name: a"), ("agents[0].prompt", 3, "required")),
    broken("prompt-empty", agents("name: a\n    prompt: ''"), ("agents[0].prompt", 4, "at least 1 character")),
    broken("prompt-blank", agents("name: a\n    prompt: '  '"), ("agents[0].prompt", 4, "blank")),
    broken("prompt-is-a-list", agents("name: a\n    prompt: [do]"), ("agents[0].prompt", 4, "text, not a list")),
    broken("name-is-yes", "name: yes\nagents: [{name: a, prompt: do}]\n", ("name", 1, "put it in quotes")),
    broken("name-is-empty", "name: ''\nagents: [{name: a, prompt: do}]\n", ("name", 1, "at least 1 character")),
    broken("name-is-punctuation", "name: '--'\nagents: [{name: a, prompt: do}]\n", ("name", 1, "a letter or a digit")),
    broken("name-too-long", f"name: {'n' * 201}\nagents: [{{name: a, prompt: do}}]\n", ("name", 1, "at most 200")),
    broken("unknown-top-level", top("defualts: {}"), ("defualts", 2, "no such field", "defaults")),
    broken("unknown-like-nothing", top("zzz: 1"), ("zzz", 2, "no such field")),
    broken("unknown-called-str", top("str: 1"), ("str", 2, "no such field")),
    broken("unknown-called-key", top('"[key]": 1'), ("[key]", 2, "no such field")),
    broken("unknown-in-agent", agent("depend_on: [b]"), ("agents[0].depend_on", 6, "no such field", "depends_on")),
    broken("unknown-in-agent-called-str", agent("str: 1"), ("agents[0].str", 6, "no such field")),
    broken(
        "unknown-in-defaults",
        top("defaults:", "  max_iteration: 3"),
        ("defaults.max_iteration", 3, "no such field", "max_iterations"),
    ),
    broken(
        "unknown-deep",
        top("orchestration:", "  circuit_breaker:", "    treshold: 3"),
        ("orchestration.circuit_breaker.treshold", 4, "no such field", "threshold"),
    ),
    broken(
        "unknown-in-a-check",
        agent("checks:", "  - name: t", "    command: pytest", "    timeout_second: 3"),
        ("agents[0].checks[0].timeout_second", 9, "no such field", "timeout_seconds"),
    ),
    broken(
        "unknown-in-codex",
        agent("codex: {sandbx: read-only}", runtime="codex"),
        ("agents[0].codex.sandbx", 6, "no such field", "sandbox"),
    ),
    broken(
        "agent-field-in-defaults",
        top("defaults:", "  use_role: tester"),
        ("defaults.use_role", 3, "no such field"),
    ),
    broken("defaults-is-nothing", top("defaults:"), ("defaults", 2, "a mapping, not nothing")),
    broken("defaults-is-a-list", top("defaults: []"), ("defaults", 2, "a mapping, not a list")),
    broken("shared-context-is-text", top("shared_context: README.md"), ("shared_context", 2, "a list, not 'README")),
    broken("depends-on-is-text", agent("depends_on: b"), ("agents[0].depends_on", 6, "a list, not 'b'")),
    broken("depends-on-a-number", agent("depends_on: [1]"), ("agents[0].depends_on[0]", 6, "put it in quotes")),
    broken("text-for-number", agent('retry_count: "3"'), ("agents[0].retry_count", 6, "not '3'")),
    broken("bool-for-number", agent("retry_count: true"), ("agents[0].retry_count", 6, "not True")),
    broken("fraction-for-count", agent("retry_count: 1.5"), ("agents[0].retry_count", 6, "not 1.5")),
    broken("number-for-bool", agent("write_allowed: 1"), ("agents[0].write_allowed", 6, "true or false, not 1")),
    broken("text-for-bool", agent('write_allowed: "no"'), ("agents[0].write_allowed", 6, "true or false, not 'no'")),
    broken("bool-for-money", agent("max_cost_usd: true"), ("agents[0].max_cost_usd", 6, "not True")),
    broken("dollars-as-text", agent("max_cost_usd: $5"), ("agents[0].max_cost_usd", 6, "not '$5'")),
    broken("negative-retries", agent("retry_count: -1"), ("agents[0].retry_count", 6, "greater than or equal to 0")),
    broken("too-many-retries", agent("retry_count: 101"), ("agents[0].retry_count", 6, "less than or equal to 100")),
    broken("no-iterations", agent("max_iterations: 0"), ("agents[0].max_iterations", 6, "or equal to 1")),
    broken("no-time", agent("runtime_timeout_seconds: 0"), ("agents[0].runtime_timeout_seconds", 6, "greater than 0")),
    broken("endless-time", agent("check_timeout_seconds: .inf"), ("agents[0].check_timeout_seconds", 6, "finite")),
    broken("priority-too-high", agent("priority: 1001"), ("agents[0].priority", 6, "less than or equal to 1000")),
    broken("budget-nan", top("cost_budget: {total_usd: .nan}"), ("cost_budget.total_usd", 2, "finite")),
    broken("budget-negative", top("cost_budget: {total_usd: -1}"), ("cost_budget.total_usd", 2, "or equal to 0")),
    broken("budget-too-large", top("cost_budget: {total_usd: 1000001}"), ("cost_budget.total_usd", 2, "1000000")),
    broken("budget-in-exponents", top("cost_budget: {total_usd: 1e2}"), ("cost_budget.total_usd", 2, "not '1e2'")),
    broken("no-cpus", agent("resources: {cpus: 0}"), ("agents[0].resources.cpus", 6, "greater than 0")),
    broken("little-memory", agent("resources: {memory_mb: 1}"), ("agents[0].resources.memory_mb", 6, "or equal to 16")),
    broken("few-pids", agent("resources: {pids: 1}"), ("agents[0].resources.pids", 6, "or equal to 4")),
    broken(
        "no-concurrency",
        top("orchestration: {concurrency_limit: 0}"),
        ("orchestration.concurrency_limit", 2, "greater than or equal to 1"),
    ),
    broken(
        "concurrency-that-postgres-cannot-hold",
        top("orchestration: {concurrency_limit: 3000000000}"),
        ("orchestration.concurrency_limit", 2, "less than or equal to"),
    ),
    broken(
        "threshold-that-postgres-cannot-hold",
        top("orchestration: {circuit_breaker: {threshold: 3000000000}}"),
        ("orchestration.circuit_breaker.threshold", 2, "less than or equal to"),
    ),
    broken(
        "negative-threshold",
        top("orchestration: {circuit_breaker: {threshold: -1}}"),
        ("orchestration.circuit_breaker.threshold", 2, "or equal to 0"),
    ),
    broken("env-value-is-a-number", agent("env: {PORT: 80}"), ("agents[0].env.PORT", 6, "put it in quotes")),
    broken("env-called-str", agent("env: {str: 80}"), ("agents[0].env.str", 6, "put it in quotes")),
    broken("env-name-with-dash", agent("env: {BAD-NAME: x}"), ("agents[0].env.BAD-NAME", 6, "does not match")),
    broken(
        "env-ref-is-a-literal",
        agent("env_refs: {TOKEN: ghp-1234}"),
        ("agents[0].env_refs.TOKEN", 6, "does not match"),
    ),
    broken("label-with-space", agent("labels: [big gpu]"), ("agents[0].labels[0]", 6, "does not match")),
    broken("milestone-without-name", agent("milestones: [{}]"), ("agents[0].milestones[0].name", 6, "required")),
    broken(
        "check-without-command",
        agent("checks: [{name: t}]"),
        ("agents[0].checks[0].command", 6, "required"),
    ),
    broken(
        "setup-without-command",
        top("orchestration:", "  worktree_setup: {cache: true}"),
        ("orchestration.worktree_setup.command", 3, "required"),
    ),
    broken(
        "command-is-a-number",
        agent("command: 5", runtime="command"),
        ("agents[0].command", 6, "not 5"),
    ),
    broken(
        "command-with-a-number",
        agent("command: [sleep, 5]", runtime="command"),
        ("agents[0].command[1]", 6, "text, not 5; put it in quotes"),
    ),
    broken(
        "lone-surrogate",
        agents('name: a\n    prompt: "half \\ud83d"'),
        ("agents[0].prompt", 4, "unicode"),
    ),
    broken("nul-in-the-name", 'name: "p\\0"\nagents: [{name: a, prompt: do}]\n', ("name", 1, "NUL")),
    broken("nul-in-env", agent('env: {A: "x\\0"}'), ("agents[0].env.A", 6, "NUL")),
]

CHOICES = [
    broken("runtime", agent(runtime="cluade"), ("agents[0].runtime", 5, "not one of", "claude")),
    broken("runtime-in-defaults", top("defaults: {runtime: Codex}"), ("defaults.runtime", 2, "not one of", "codex")),
    broken(
        "runtime-that-has-a-command",
        agent("command: make", runtime="comand"),
        ("agents[0].runtime", 5, "not one of", "command"),
    ),
    broken("on-failure", agent("on_failure: contniue"), ("agents[0].on_failure", 6, "not one of", "continue")),
    broken("on-failure-is-no", agent("on_failure: no"), ("agents[0].on_failure", 6, "False is not one of")),
    broken("type", agent("type: manger"), ("agents[0].type", 6, "not one of", "manager")),
    broken("network", agent("network: ful"), ("agents[0].network", 6, "not one of", "full")),
    broken("role", agent("use_role: reviwer"), ("agents[0].use_role", 6, "no role 'reviwer'", "reviewer")),
    broken("on-complete", top("on_complete: notfy"), ("on_complete", 2, "not one of", "notify")),
    broken("on-exceed", top("cost_budget: {on_exceed: paus}"), ("cost_budget.on_exceed", 2, "not one of", "pause")),
    broken(
        "codex-sandbox",
        agent("codex: {sandbox: readonly}", runtime="codex"),
        ("agents[0].codex.sandbox", 6, "not one of", "read-only"),
    ),
    broken(
        "codex-approvals",
        agent("codex: {approval_mode: deny-all}", runtime="codex"),
        ("agents[0].codex.approval_mode", 6, "not one of", "deny_all"),
    ),
    broken(
        "codex-engine-in-defaults",
        top("defaults: {codex: {engine: CLI}}"),
        ("defaults.codex.engine", 2, "not one of"),
    ),
    broken(
        "breaker-action",
        top("orchestration: {circuit_breaker: {action: cancel}}"),
        ("orchestration.circuit_breaker.action", 2, "not one of", "cancel_all"),
    ),
    broken(
        "dependency-mode",
        top("orchestration: {dependency_context: {mode: diff}}"),
        ("orchestration.dependency_context.mode", 2, "not one of"),
    ),
    broken(
        "policy-mode",
        top("orchestration: {command_policy: {mode: allow_list}}"),
        ("orchestration.command_policy.mode", 2, "not one of", "allowlist"),
    ),
    broken(
        "isolation",
        top("orchestration: {runtime_isolation: {accepted: [containers]}}"),
        ("orchestration.runtime_isolation.accepted[0]", 2, "not one of", "container"),
    ),
    broken(
        "mcp-type",
        agent("mcp_servers: [{name: m, type: htp, url: 'http://x'}]"),
        ("agents[0].mcp_servers[0].type", 6, "not one of", "http"),
    ),
    broken(
        "mock-outcome",
        agent("mock: {outcomes: [complete]}", runtime="mock"),
        ("agents[0].mock.outcomes[0]", 6, "not one of", "completed"),
    ),
]

NAMES = [
    broken("name-with-space", agents("{name: my agent, prompt: x}"), ("agents[0].name", 3, "does not match")),
    broken(
        "name-with-space-that-others-depend-on",
        agents("{name: my agent, prompt: x}", "{name: b, prompt: x, depends_on: [my agent]}"),
        ("agents[0].name", 3, "does not match"),
    ),
    broken("name-is-a-path", agents("{name: ../a, prompt: x}"), ("agents[0].name", 3, "does not match")),
    broken("name-is-hidden", agents("{name: .git, prompt: x}"), ("agents[0].name", 3, "must not begin with '.'")),
    broken("name-is-an-option", agents("{name: -a, prompt: x}"), ("agents[0].name", 3, "must not begin with '-'")),
    broken("name-ends-in-lock", agents("{name: a.lock, prompt: x}"), ("agents[0].name", 3, "'.lock'")),
    broken("name-with-two-dots", agents("{name: a..b, prompt: x}"), ("agents[0].name", 3, "'..'")),
    broken("name-is-long", agents(f"{{name: {'a' * 101}, prompt: x}}"), ("agents[0].name", 3, "at most 100")),
    broken(
        "same-name",
        agents("{name: a, prompt: x}", "{name: a, prompt: y}"),
        ("agents[1].name", 4, "the name of agents[0] too"),
    ),
    broken(
        "same-name-in-capitals",
        agents("{name: a, prompt: x}", "{name: A, prompt: y}"),
        ("agents[1].name", 4, "differs only in case from 'a'"),
    ),
    broken("run-id-with-slash", top("run: {id: a/b}"), ("run.id", 2, "cannot be a run id")),
    broken("run-id-ends-in-a-newline", top("run:", "  id: |", "    nightly"), ("run.id", 3, "cannot be a run id")),
    broken("run-id-is-long", top(f"run: {{id: {'a' * 121}}}"), ("run.id", 2, "at most 120")),
    broken(
        "two-bad-check-names",
        agent("checks: [{name: a b, command: pytest}, {name: c d, command: pytest}]"),
        ("agents[0].checks[0].name", 6, "does not match"),
        ("agents[0].checks[1].name", 6, "does not match"),
    ),
]

GRAPH = [
    broken("itself", agent("depends_on: [a]"), ("agents[0].depends_on[0]", 6, "depends on itself")),
    broken(
        "unknown-dependency",
        agents("{name: parser, prompt: x}", "{name: b, prompt: x, depends_on: [parser, praser]}"),
        ("agents[1].depends_on[1]", 4, "no agent 'praser'", "parser"),
    ),
    broken(
        "unknown-dependency-like-nothing",
        agents("{name: a, prompt: x, depends_on: [zzz]}"),
        ("agents[0].depends_on[0]", 3, "no agent 'zzz'"),
    ),
    broken(
        "dependency-twice",
        agents("{name: a, prompt: x}", "{name: b, prompt: x, depends_on: [a, a]}"),
        ("agents[1].depends_on[1]", 4, "'a' is named twice"),
    ),
    broken(
        "cycle-of-two",
        agents("{name: a, prompt: x, depends_on: [b]}", "{name: b, prompt: x, depends_on: [a]}"),
        ("agents[0].depends_on", 3, "a → b → a"),
    ),
    broken(
        "cycle-of-three-behind-another",
        agents(
            "{name: first, prompt: x, depends_on: [a]}",
            "{name: a, prompt: x, depends_on: [c]}",
            "{name: b, prompt: x, depends_on: [a]}",
            "{name: c, prompt: x, depends_on: [b]}",
        ),
        ("agents[1].depends_on", 4, "a → c → b → a"),
    ),
    broken(
        "two-cycles",
        agents(
            "{name: a, prompt: x, depends_on: [b]}",
            "{name: b, prompt: x, depends_on: [a]}",
            "{name: c, prompt: x, depends_on: [d]}",
            "{name: d, prompt: x, depends_on: [c]}",
        ),
        ("agents[0].depends_on", 3, "a → b → a"),
        ("agents[2].depends_on", 5, "c → d → c"),
    ),
]

PATHS = [
    broken("context-absolute", top("shared_context: [/etc/passwd]"), ("shared_context[0]", 2, "inside the repository")),
    broken("context-above", top("shared_context:", "  - a", "  - ../b"), ("shared_context[1]", 4, "inside the rep")),
    broken("context-above-later", top("shared_context: [a/../../b]"), ("shared_context[0]", 2, "inside the rep")),
    broken("context-at-home", top("shared_context: [~/.ssh/id]"), ("shared_context[0]", 2, "inside the repository")),
    broken("context-blank", top("shared_context: [' ']"), ("shared_context[0]", 2, "inside the repository")),
    broken("output-absolute", agent("outputs: [/tmp/x]"), ("agents[0].outputs[0]", 6, "inside the repository")),
    broken("input-above", agent("inputs: [../x]"), ("agents[0].inputs[0]", 6, "inside the repository")),
    broken(
        "dependency-paths-absolute",
        top("orchestration: {dependency_context: {mode: paths, include_paths: [/src]}}"),
        ("orchestration.dependency_context.include_paths[0]", 2, "inside the repository"),
    ),
    broken(
        "dependency-paths-missing",
        top("orchestration: {dependency_context: {mode: paths}}"),
        ("orchestration.dependency_context", 2, "needs include_paths or exclude_paths"),
    ),
    broken(
        "dependency-paths-without-their-mode",
        top("orchestration: {dependency_context: {include_paths: [src]}}"),
        ("orchestration.dependency_context.include_paths", 2, "mode"),
    ),
]

COMMANDS = [
    *(
        broken(f"check-with-{name}", agent(f"check: {text!r}"), ("agents[0].check", 6, words))
        for name, text, words in [
            ("semicolon", "pytest; rm -rf .", "';'"),
            ("pipe", "pytest | tee log", "'|'"),
            ("input", "python < x", "'<'"),
            ("output", "pytest > log", "'>'"),
            ("backtick", "pytest `id`", "a backtick"),
            ("substitution", "pytest $(id)", "'$('"),
            ("ampersand", "pytest & true", "'&'"),
            ("open-quote", 'pytest "a', "not a command line"),
            ("nothing", "  ", "a command is missing"),
            ("nothing-after-and", "pytest &&", "a command is missing"),
            ("unlisted-program", "cargo test", "'cargo'"),
            ("unlisted-program-after-and", "true && curl x", "'curl'"),
            ("unlisted-program-after-variable", "CI=1 bash x", "'bash'"),
            ("dangerous-variable", "LD_PRELOAD=x pytest", "to set LD_PRELOAD"),
        ]
    ),
    broken("check-of-two-lines", agent("check: |", "  pytest", "  mypy"), ("agents[0].check", 6, "a newline")),
    broken("default-check", top("defaults:", "  check: cargo test"), ("defaults.check", 3, "'cargo'")),
    broken("named-check", agent("checks: [{name: t, command: tox}]"), ("agents[0].checks[0].command", 6, "'tox'")),
    broken("agent-setup", agent("setup: apt install x"), ("agents[0].setup", 6, "'apt'")),
    broken(
        "worktree-setup",
        top("orchestration:", "  worktree_setup:", "    command: curl x"),
        ("orchestration.worktree_setup.command", 4, "'curl'"),
    ),
    broken(
        "own-list-without-true",
        top("orchestration: {command_policy: {allowed_commands: [make]}}"),
        ("defaults.check", 1, "'true'"),
    ),
    broken(
        "role-check-that-the-policy-refuses",
        "name: p\n"
        "orchestration: {command_policy: {allowed_commands: ['true']}}\n"
        "agents:\n"
        "  - name: a\n"
        "    prompt: do\n"
        "    use_role: tester\n",
        ("agents[0].use_role", 6, "'pytest'"),
    ),
    broken(
        "blank-check-that-would-always-pass",
        "name: p\n"
        "orchestration: {command_policy: {mode: unrestricted}}\n"
        "agents:\n"
        "  - name: a\n"
        "    prompt: do\n"
        "    check: ' '\n",
        ("agents[0].check", 6, ""),
    ),
    broken(
        "check-and-checks",
        agent("check: pytest", "checks: [{name: t, command: pytest}]"),
        ("agents[0].checks", 7, "not both"),
    ),
    broken(
        "checks-of-one-name",
        agent("checks: [{name: t, command: pytest}, {name: t, command: mypy}]"),
        ("agents[0].checks", 6, "2 checks are called 't'"),
    ),
]

RUNTIMES = [
    broken("command-missing", agent(runtime="command"), ("agents[0].command", 3, "needs a command")),
    broken("command-empty", agent("command: []", runtime="command"), ("agents[0].command", 6, "needs a command")),
    broken("command-blank", agent("command: ' '", runtime="command"), ("agents[0].command", 6, "needs a command")),
    broken("command-of-no-program", agent("command: ['']", runtime="command"), ("agents[0].command", 6, "")),
    broken("command-elsewhere", agent("command: make"), ("agents[0].command", 6, "goes with runtime command")),
    broken("codex-elsewhere", agent("codex: {ephemeral: true}"), ("agents[0].codex", 6, "goes with runtime codex")),
    broken("mock-elsewhere", agent("mock: {}"), ("agents[0].mock", 6, "goes with runtime mock")),
    broken("mock-outcomes-empty", agent("mock: {outcomes: []}", runtime="mock"), ("agents[0].mock.outcomes", 6, "one")),
    broken("acp-missing", agent(runtime="acp"), ("agents[0].acp", 3, "either acp.agent or acp.command")),
    broken("acp-both", agent("acp: {agent: x, command: y}", runtime="acp"), ("agents[0].acp", 6, "either")),
    broken("acp-neither", agent("acp: {args: [x]}", runtime="acp"), ("agents[0].acp", 6, "either")),
    broken("acp-elsewhere", agent("acp: {agent: x}"), ("agents[0].acp", 6, "goes with runtime acp")),
    broken("manager-of-a-worker", agent("manager: {}"), ("agents[0].manager", 6, "goes with type: manager")),
    broken("network-allowlist", agent("network: allowlist"), ("agents[0].network", 6, "not built yet")),
    broken("network-allow", agent("network_allow: [example.org]"), ("agents[0].network_allow", 6, "not built yet")),
    broken(
        "bypass-for-a-reader",
        agent("write_allowed: false", "codex: {dangerous_bypass: true}", runtime="codex"),
        ("agents[0].codex.dangerous_bypass", 7, "contradicts"),
    ),
    broken(
        "bypass-for-a-reader-by-role",
        agent("use_role: reviewer", "codex: {dangerous_bypass: true}", runtime="codex"),
        ("agents[0].codex.dangerous_bypass", 7, "contradicts"),
    ),
]

#: A token in the form of its issuer, of a key that nobody has.
TOKEN = "ghp_" + "a1" * 18

SECRETS = [
    *(
        broken(f"secret-in-{name}", agent(text), (f"agents[0].{path}", 6, "looks like a secret"))
        for name, text, path in [
            ("env", f"env: {{T: {TOKEN}}}", "env.T"),
            ("env-behind-a-word", f"env: {{T: 'token {TOKEN}'}}", "env.T"),
            ("env-refs", f"env_refs: {{T: {TOKEN}}}", "env_refs.T"),
            ("a-check", f"check: pytest --token {TOKEN}", "check"),
            (
                "a-header",
                f"mcp_servers: [{{name: m, type: http, url: 'http://x', headers: {{A: Bearer {TOKEN}}}}}]",
                "mcp_servers[0].headers.A",
            ),
            ("arguments", f"mcp_servers: [{{name: m, command: x, args: [-t, {TOKEN}]}}]", "mcp_servers[0].args[1]"),
        ]
    ),
    broken("secret-in-a-prompt", agents(f"name: a\n    prompt: use {TOKEN}"), ("agents[0].prompt", 4, "a secret")),
    broken(
        "private-key-in-env",
        agent("env:", "  KEY: |", "    -----BEGIN OPENSSH PRIVATE KEY-----", "    b3Bl"),
        ("agents[0].env.KEY", 7, "looks like a secret"),
    ),
    broken(
        "secret-in-setup-env",
        top("orchestration:", "  worktree_setup:", "    command: make", f"    env: {{T: {TOKEN}}}"),
        ("orchestration.worktree_setup.env.T", 5, "looks like a secret"),
    ),
    broken("env-and-env-refs", agent("env: {A: x}", "env_refs: {A: B}"), ("agents[0].env_refs.A", 7, "in env too")),
]


def _mcp(id: str, server: str, path: str, words: str, *, runtime: str = "claude") -> Broken:
    where = f"agents[0].mcp_servers[0]{path}"
    return broken(f"mcp-{id}", agent("mcp_servers:", f"  - {{{server}}}", runtime=runtime), (where, 7, words))


MCP = [
    _mcp("without-name", "command: x", ".name", "required"),
    _mcp("called-spawnd", "name: spawnd, command: x", ".name", "reserved"),
    _mcp("stdio-without-command", "name: m", ".command", "needs a command"),
    _mcp("stdio-with-url", "name: m, command: x, url: 'http://x'", "", "go with http and sse"),
    _mcp("stdio-with-headers", "name: m, command: x, headers: {A: b}", "", "go with http and sse"),
    _mcp("http-without-url", "name: m, type: http", ".url", "needs a url"),
    _mcp("sse-without-url", "name: m, type: sse", ".url", "needs a url"),
    _mcp("http-with-command", "name: m, type: http, url: 'http://x', command: x", "", "go with stdio"),
    _mcp("url-that-is-none", "name: m, type: http, url: nonsense", ".url", "http"),
    _mcp("codex-sse", "name: m, type: sse, url: 'http://x'", ".type", "codex cannot use sse", runtime="codex"),
    _mcp(
        "codex-headers",
        "name: m, type: http, url: 'http://x', headers: {A: b}",
        ".headers",
        "no literal headers",
        runtime="codex",
    ),
    _mcp(
        "codex-header-refs",
        "name: m, type: http, url: 'http://x', header_refs: {X-Key: KEY}",
        ".header_refs.X-Key",
        "only Authorization",
        runtime="codex",
    ),
    broken(
        "mcp-twice",
        agent("mcp_servers: [{name: m, command: x}, {name: m, command: y}]"),
        ("agents[0].mcp_servers", 6, "2 servers are called 'm'"),
    ),
    broken(
        "mcp-in-defaults",
        top("defaults:", "  mcp_servers:", "    - {name: m}"),
        ("defaults.mcp_servers[0].command", 4, "needs a command"),
    ),
    broken(
        "mcp-sse-in-defaults-of-codex",
        top("defaults:", "  runtime: codex", "  mcp_servers: [{name: m, type: sse, url: 'http://x'}]"),
        ("defaults.mcp_servers[0].type", 4, "codex cannot use sse"),
    ),
    broken(
        "mcp-sse-in-defaults-for-one-codex-agent",
        "name: p\n"
        "defaults:\n"
        "  mcp_servers: [{name: m, type: sse, url: 'http://x'}]\n"
        "agents: [{name: a, prompt: do, runtime: codex}]\n",
        ("defaults.mcp_servers[0].type", 3, "codex cannot use sse"),
    ),
]

#: Problems of several kinds in one plan: none hides another.
TOGETHER = [
    broken(
        "shape-and-rules",
        agents(
            "{name: a, prompt: x, check: cargo test}",
            "{name: b, promt: x, depends_on: [c]}",
            "{name: a b, prompt: x, retry_count: many}",
            "{name: d, prompt: x, use_role: testr}",
        )
        + "cost_budget: {total_usd: -1}\nnothing: 1\n",
        ("agents[0].check", 3, "'cargo'"),
        ("agents[1].promt", 4, "no such field", "prompt"),
        ("agents[1].prompt", 4, "required"),
        ("agents[1].depends_on[0]", 4, "no agent 'c'"),
        ("agents[2].name", 5, "does not match"),
        ("agents[2].retry_count", 5, "not 'many'"),
        ("agents[3].use_role", 6, "no role 'testr'", "tester"),
        ("cost_budget.total_usd", 7, "or equal to 0"),
        ("nothing", 8, "no such field"),
    ),
    broken(
        "a-wrong-item-hides-nothing",
        agents("{name: a, prompt: x, labels: [1]}", "{name: b, prompt: x, depends_on: [zzz]}"),
        ("agents[0].labels[0]", 3, "put it in quotes"),
        ("agents[1].depends_on[0]", 4, "no agent 'zzz'"),
    ),
    broken(
        "a-missing-field-hides-nothing",
        "name: p\norchestration:\n  worktree_setup: {cache: true}\nagents: [{name: b, prompt: x, depends_on: [zzz]}]\n",
        ("orchestration.worktree_setup.command", 3, "required"),
        ("agents[0].depends_on[0]", 4, "no agent 'zzz'"),
    ),
]

BROKEN = [
    *NO_YAML,
    *SHAPE,
    *CHOICES,
    *NAMES,
    *GRAPH,
    *PATHS,
    *COMMANDS,
    *RUNTIMES,
    *SECRETS,
    *MCP,
    *TOGETHER,
]
