-- The record. Lock order, everywhere: the run's row first, then anything of that run; a statement that needs
-- only a lease (renewal) takes only the lease. Whoever holds the run's row may therefore count on every
-- counter in it, and the numbers of its events are gapless.

-- The one clock for leases and due times. Tests replace it to move time.
CREATE FUNCTION clock() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT clock_timestamp()';

CREATE SEQUENCE fencing_tokens;

CREATE TABLE runs (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id            text NOT NULL UNIQUE,
    name              text NOT NULL,
    state             text NOT NULL DEFAULT 'queued' CHECK (state IN
                          ('queued','running','paused','completed','failed','cancelled','timed_out','cost_exceeded')),
    state_reason      text,
    -- Set while it is being ended: nothing new starts, and it enters this state when the last agent has stopped.
    ending            text CHECK (ending IN ('failed','cancelled','cost_exceeded')),
    plan              jsonb NOT NULL,            -- the compiled plan without its agents (they have rows)
    plan_sha256       text NOT NULL,
    notices           jsonb NOT NULL DEFAULT '[]',
    source_repo       text NOT NULL,
    source_ref        text,
    source_sha        text,                      -- fixed by the first attempt: all agents build on one commit
    submitted_via     text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT clock(),
    started_at        timestamptz,
    finished_at       timestamptz,
    concurrency_limit integer CHECK (concurrency_limit > 0),
    cost_budget_usd   numeric(14,6) NOT NULL,
    on_exceed         text NOT NULL CHECK (on_exceed IN ('pause','cancel','warn')),
    spent_usd         numeric(14,6) NOT NULL DEFAULT 0,
    budget_warned     boolean NOT NULL DEFAULT false,
    breaker_threshold integer,                   -- null: no circuit breaker
    breaker_action    text CHECK (breaker_action IN ('cancel_all','pause','notify_only')),
    breaker_failures  integer NOT NULL DEFAULT 0,
    agents_total      integer NOT NULL,
    agents_open       integer NOT NULL CHECK (agents_open >= 0),
    agents_ready      integer NOT NULL CHECK (agents_ready >= 0),
    agents_running    integer NOT NULL DEFAULT 0 CHECK (agents_running >= 0),
    last_seq          bigint NOT NULL DEFAULT 0,
    last_claimed_at   timestamptz,
    -- Whether a claim may take something from it. Decided here so that no worker can see it differently.
    claimable         boolean NOT NULL GENERATED ALWAYS AS (
                          state IN ('queued','running') AND ending IS NULL AND agents_ready > 0
                          AND (concurrency_limit IS NULL OR agents_running < concurrency_limit)
                          AND (on_exceed = 'warn' OR spent_usd < cost_budget_usd)) STORED,
    -- The limit holds whatever the code does.
    CONSTRAINT runs_within_concurrency_limit
        CHECK (concurrency_limit IS NULL OR agents_running <= concurrency_limit)
) WITH (fillfactor = 70);
CREATE INDEX runs_claimable ON runs (id) WHERE claimable;
CREATE INDEX runs_recent ON runs (created_at DESC, id DESC);
CREATE INDEX runs_open ON runs (id) WHERE state IN ('queued','running','paused');

CREATE TABLE agents (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run                 bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    name                text NOT NULL,
    position            integer NOT NULL,        -- its place in the plan
    spec                jsonb NOT NULL,          -- compiled, immutable
    state               text NOT NULL CHECK (state IN ('blocked','ready','running','waiting','completed','failed',
                            'cancelled','timed_out','cost_exceeded','skipped')),
    since               timestamptz NOT NULL DEFAULT clock(),
    runtime             text NOT NULL,
    labels              text[] NOT NULL DEFAULT '{}',
    priority            integer NOT NULL DEFAULT 0,
    credential          text,                    -- the name under which provider limits are shared
    unmet               integer NOT NULL CHECK (unmet >= 0),
    on_failure          text NOT NULL CHECK (on_failure IN ('continue','stop','retry')),
    retry_count         integer NOT NULL,
    max_cost_usd        numeric(14,6),
    retries_used        integer NOT NULL DEFAULT 0,
    free_used           integer NOT NULL DEFAULT 0,
    losses              integer NOT NULL DEFAULT 0,
    quota_parks         integer NOT NULL DEFAULT 0,
    attempts            integer NOT NULL DEFAULT 0,
    wait_reason         text CHECK (wait_reason IN ('quota','backoff','human')),
    due_at              timestamptz,
    failure_class       text,
    failure_message     text,
    last_event          text,
    final_message       text,
    input_tokens        bigint NOT NULL DEFAULT 0,
    cached_input_tokens bigint NOT NULL DEFAULT 0,
    cache_write_tokens  bigint NOT NULL DEFAULT 0,
    output_tokens       bigint NOT NULL DEFAULT 0,
    reasoning_tokens    bigint NOT NULL DEFAULT 0,
    cost_usd            numeric(14,6) NOT NULL DEFAULT 0,
    cost_unknown        boolean NOT NULL DEFAULT false,  -- tokens were used for which no price is known
    started_at          timestamptz,
    finished_at         timestamptz,
    UNIQUE (run, name),
    CHECK ((state = 'waiting') = (wait_reason IS NOT NULL))
) WITH (fillfactor = 70);
-- The claim walks this and nothing else; finished, waiting and blocked agents are not in it.
CREATE INDEX agents_ready ON agents (run, priority DESC, id) WHERE state = 'ready';
CREATE INDEX agents_cost_unknown ON agents (run) WHERE cost_unknown;
CREATE INDEX agents_due ON agents (due_at) WHERE state = 'waiting' AND due_at IS NOT NULL;

CREATE TABLE edges (
    run    bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    parent bigint NOT NULL REFERENCES agents ON DELETE CASCADE,
    child  bigint NOT NULL REFERENCES agents ON DELETE CASCADE,
    PRIMARY KEY (parent, child)
);
CREATE INDEX edges_child ON edges (child);

CREATE TABLE attempts (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run             bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    agent           bigint NOT NULL REFERENCES agents ON DELETE CASCADE,
    number          integer NOT NULL,
    state           text NOT NULL CHECK (state IN ('claimed','preparing','executing','checking','delivering',
                        'succeeded','failed','timed_out','cancelled','lost')),
    worker_id       text NOT NULL,
    token           bigint NOT NULL,
    claimed_at      timestamptz NOT NULL DEFAULT clock(),
    ended_at        timestamptz,
    failure_class   text,
    failure_message text,
    reset_at        timestamptz,
    detail          jsonb,
    last_fact       bigint NOT NULL DEFAULT 0,   -- facts up to this number are written
    UNIQUE (agent, number)
) WITH (fillfactor = 80);
CREATE INDEX attempts_run ON attempts (run, id);

-- The right to write. Small and hot: renewed every few seconds, gone at the end.
CREATE TABLE leases (
    attempt    bigint PRIMARY KEY REFERENCES attempts ON DELETE CASCADE,
    agent      bigint NOT NULL UNIQUE REFERENCES agents ON DELETE CASCADE,  -- at most one live lease per agent
    run        bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    token      bigint NOT NULL,
    worker_id  text NOT NULL,
    expires_at timestamptz NOT NULL,
    stop       text                              -- why the worker shall stop, for its next renewal
) WITH (fillfactor = 50);
CREATE INDEX leases_run ON leases (run);
CREATE INDEX leases_expires ON leases (expires_at);

CREATE TABLE events (
    run     bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    seq     bigint NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock(),
    type    text NOT NULL,
    agent   bigint,
    attempt integer,
    data    jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (run, seq)
);

CREATE TABLE artifacts (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run          bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    agent        bigint NOT NULL REFERENCES agents ON DELETE CASCADE,
    attempt      bigint NOT NULL REFERENCES attempts ON DELETE CASCADE,
    kind         text NOT NULL,
    name         text NOT NULL DEFAULT '',
    sha256       text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    size_bytes   bigint NOT NULL,
    content_type text NOT NULL,
    truncated    boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT clock()
);
CREATE INDEX artifacts_run ON artifacts (run, id);
CREATE INDEX artifacts_sha ON artifacts (sha256);

CREATE TABLE checks (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run              bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    agent            bigint NOT NULL REFERENCES agents ON DELETE CASCADE,
    attempt          bigint NOT NULL REFERENCES attempts ON DELETE CASCADE,
    name             text NOT NULL,
    command          text NOT NULL,
    passed           boolean NOT NULL,
    exit_code        integer,
    duration_seconds double precision NOT NULL,
    output_tail      text NOT NULL,
    output_sha256    text,
    at               timestamptz NOT NULL DEFAULT clock()
);
CREATE INDEX checks_run ON checks (run, id);
CREATE INDEX checks_attempt ON checks (attempt);

CREATE TABLE usage (
    attempt             bigint PRIMARY KEY REFERENCES attempts ON DELETE CASCADE,
    run                 bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    agent               bigint NOT NULL REFERENCES agents ON DELETE CASCADE,
    model               text,
    input_tokens        bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    cache_write_tokens  bigint NOT NULL,
    output_tokens       bigint NOT NULL,
    reasoning_tokens    bigint NOT NULL,
    cost_usd            numeric(14,6),           -- null: no price is known
    cost_source         text NOT NULL,
    at                  timestamptz NOT NULL DEFAULT clock()
);
CREATE INDEX usage_run ON usage (run);

CREATE TABLE sessions (
    attempt         bigint PRIMARY KEY REFERENCES attempts ON DELETE CASCADE,
    run             bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    agent           bigint NOT NULL REFERENCES agents ON DELETE CASCADE,
    runtime         text NOT NULL,
    session_id      text NOT NULL,
    resumed         boolean NOT NULL,
    program_version text,
    model           text,
    at              timestamptz NOT NULL DEFAULT clock()
);
CREATE INDEX sessions_agent ON sessions (agent, attempt DESC);

CREATE TABLE invocations (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run              bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    attempt          bigint NOT NULL REFERENCES attempts ON DELETE CASCADE,
    kind             text NOT NULL,
    started_at       timestamptz NOT NULL,
    duration_seconds double precision NOT NULL,
    exit_code        integer,
    detail           jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX invocations_attempt ON invocations (attempt, id);

CREATE TABLE messages (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run     bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    attempt bigint NOT NULL REFERENCES attempts ON DELETE CASCADE,
    role    text NOT NULL,
    body    text NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock()
);
CREATE INDEX messages_attempt ON messages (attempt, id);

CREATE TABLE tool_calls (
    attempt   bigint NOT NULL REFERENCES attempts ON DELETE CASCADE,
    call_id   text NOT NULL,
    run       bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    name      text NOT NULL,
    input     jsonb,
    output    text,
    is_error  boolean,
    exit_code integer,
    at        timestamptz NOT NULL DEFAULT clock(),
    ended_at  timestamptz,
    PRIMARY KEY (attempt, call_id)
);

CREATE TABLE failures (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run      bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    attempt  bigint NOT NULL REFERENCES attempts ON DELETE CASCADE,
    source   text NOT NULL,
    class    text NOT NULL,
    message  text NOT NULL,
    detail   jsonb NOT NULL DEFAULT '{}',
    at       timestamptz NOT NULL DEFAULT clock()
);
CREATE INDEX failures_attempt ON failures (attempt, id);

CREATE TABLE provenance (
    attempt       bigint PRIMARY KEY REFERENCES attempts ON DELETE CASCADE,
    run           bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    agent         bigint NOT NULL REFERENCES agents ON DELETE CASCADE,
    source_sha    text NOT NULL,
    base_sha      text NOT NULL,
    head_sha      text NOT NULL,
    ref           text NOT NULL,
    branch        text NOT NULL,
    accepted      boolean NOT NULL,
    patch_sha256  text,
    bundle_sha256 text,
    files         jsonb NOT NULL DEFAULT '[]',
    insertions    integer NOT NULL,
    deletions     integer NOT NULL,
    commits       integer NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock()
);
CREATE INDEX provenance_agent ON provenance (agent, attempt DESC);
CREATE INDEX provenance_run ON provenance (run);

-- What people say to an agent that waits for them; read by its next attempt.
CREATE TABLE responses (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run      bigint NOT NULL REFERENCES runs ON DELETE CASCADE,
    agent    bigint NOT NULL REFERENCES agents ON DELETE CASCADE,
    body     text NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock(),
    used_by  bigint REFERENCES attempts ON DELETE SET NULL
);
CREATE INDEX responses_unused ON responses (agent, id) WHERE used_by IS NULL;

CREATE TABLE workers (
    worker_id     text PRIMARY KEY,
    hostname      text NOT NULL,
    pid           integer NOT NULL,
    version       text NOT NULL,
    state         text NOT NULL CHECK (state IN ('active','draining')),
    labels        text[] NOT NULL DEFAULT '{}',
    runtimes      text[] NOT NULL DEFAULT '{}',
    slots         integer NOT NULL,
    detail        jsonb NOT NULL DEFAULT '{}',
    started_at    timestamptz NOT NULL DEFAULT clock(),
    heartbeat_at  timestamptz NOT NULL DEFAULT clock()
);

-- A provider's closed window. Every agent of that credential stays unclaimed until it opens.
CREATE TABLE quota_windows (
    credential text PRIMARY KEY,
    until      timestamptz NOT NULL,
    stated     boolean NOT NULL,                 -- the provider named the time; else it is our backoff
    message    text NOT NULL,
    hits       integer NOT NULL DEFAULT 1,
    at         timestamptz NOT NULL DEFAULT clock()
);

-- Hints to send after the commit that made them true.
CREATE TABLE outbox (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key   text NOT NULL DEFAULT '',
    at    timestamptz NOT NULL DEFAULT clock()
);
