-- Evidence, as in SQLite. `position` orders records as they were written, whoever wrote them; rolled-back transactions
-- leave gaps in it. `incarnation` and `sequence` place a record in the chain of the broker that wrote it.
CREATE TABLE records (
    position BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incarnation BYTEA NOT NULL CHECK (length(incarnation) = 16),
    sequence BIGINT NOT NULL,
    link BYTEA NOT NULL CHECK (length(link) = 32),
    leaf BYTEA NOT NULL CHECK (length(leaf) = 32),
    body BYTEA NOT NULL,
    details BYTEA NOT NULL,
    -- Copied from the body, to find records by it.
    decision BYTEA,
    UNIQUE (incarnation, sequence)
);
CREATE INDEX records_by_decision ON records (decision) WHERE decision IS NOT NULL;

-- One row for each start of a broker, numbered without a gap. Its chain goes on from `previous`, the last link in the
-- store when it opened. `batch` counts its transactions; `sequence` and `head` are where its chain ends. The row is
-- locked by each of its transactions: who holds the lock knows how the one before came out.
CREATE TABLE incarnations (
    number BIGINT PRIMARY KEY,
    id BYTEA NOT NULL UNIQUE CHECK (length(id) = 16),
    opened BIGINT NOT NULL,
    previous BYTEA NOT NULL CHECK (length(previous) = 32),
    batch BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    head BYTEA NOT NULL CHECK (length(head) = 32)
) WITH (fillfactor = 50);

-- Tokens that were used. `attempts` counts how often the same request went again after a failure.
CREATE TABLE spent (
    token BYTEA PRIMARY KEY CHECK (length(token) = 32),
    keep_until BIGINT NOT NULL,
    request BYTEA NOT NULL CHECK (length(request) = 32),
    state TEXT NOT NULL CHECK (state IN ('issuing', 'issued', 'failed', 'unknown', 'ended')),
    attempts BIGINT NOT NULL
);
CREATE INDEX spent_by_end ON spent (keep_until);

CREATE TABLE leases (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    role TEXT NOT NULL,
    mapping TEXT NOT NULL,
    team TEXT NOT NULL,
    principal_issuer TEXT NOT NULL,
    principal_id TEXT NOT NULL,
    opened BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    handle TEXT,
    state TEXT NOT NULL CHECK (state IN ('issuing', 'issued', 'failed', 'unknown', 'ended')),
    -- The token that it cost, and until when that token's row in `spent` is kept.
    token BYTEA CHECK (length(token) = 32),
    token_keep_until BIGINT,
    -- SHA-256 of the lease handle that ends it, where its credential is no token of ours.
    possession BYTEA CHECK (length(possession) = 32)
);
CREATE UNIQUE INDEX leases_by_possession ON leases (possession) WHERE possession IS NOT NULL;
CREATE INDEX leases_unsettled ON leases (opened) WHERE state = 'issuing';

CREATE TABLE folders (version BYTEA PRIMARY KEY CHECK (length(version) = 32), archive BYTEA NOT NULL);
CREATE TABLE fixed (name TEXT PRIMARY KEY, value TEXT NOT NULL);

-- How often something limited was done since its window began (`[mapping.limit]`). A row whose window is over means
-- nothing and is removed.
CREATE TABLE uses (
    counter BYTEA PRIMARY KEY CHECK (length(counter) = 32),
    until BIGINT NOT NULL,
    used BIGINT NOT NULL
);
CREATE INDEX uses_by_end ON uses (until);

-- `swept`: when `spent` was last swept. `forgotten`: tokens to be kept until before this time may have lost their row,
-- hence are refused as used.
CREATE TABLE sweeps (id BIGINT PRIMARY KEY CHECK (id = 1), swept BIGINT NOT NULL, forgotten BIGINT NOT NULL);
INSERT INTO sweeps VALUES (1, 0, 0);
