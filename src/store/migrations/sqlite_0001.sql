-- Evidence. `position` orders all records; `incarnation` and `sequence` place them in the chain. Nothing but `details`
-- is ever changed, and that only to be emptied.
CREATE TABLE records (
    position INTEGER PRIMARY KEY,
    incarnation BLOB NOT NULL CHECK (length(incarnation) = 16),
    sequence INTEGER NOT NULL,
    link BLOB NOT NULL CHECK (length(link) = 32),
    leaf BLOB NOT NULL CHECK (length(leaf) = 32),
    body BLOB NOT NULL,
    details BLOB NOT NULL,
    -- Copied from the body, to find records by it.
    decision BLOB,
    UNIQUE (incarnation, sequence)
) STRICT;
CREATE INDEX records_by_decision ON records (decision) WHERE decision IS NOT NULL;

-- One row for each start of a broker.
CREATE TABLE incarnations (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    opened INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Tokens that were used. `attempts` counts how often the same request went again after a failure.
CREATE TABLE spent (
    token BLOB PRIMARY KEY CHECK (length(token) = 32),
    keep_until INTEGER NOT NULL,
    request BLOB NOT NULL CHECK (length(request) = 32),
    state TEXT NOT NULL CHECK (state IN ('issuing', 'issued', 'failed', 'unknown', 'ended')),
    attempts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX spent_by_end ON spent (keep_until);

CREATE TABLE leases (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    role TEXT NOT NULL,
    mapping TEXT NOT NULL,
    team TEXT NOT NULL,
    principal_issuer TEXT NOT NULL,
    principal_id TEXT NOT NULL,
    opened INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    handle TEXT,
    state TEXT NOT NULL CHECK (state IN ('issuing', 'issued', 'failed', 'unknown', 'ended')),
    -- The token that it cost, and until when that token's row in `spent` is kept.
    token BLOB CHECK (length(token) = 32),
    token_keep_until INTEGER,
    -- SHA-256 of the lease handle that ends it, where its credential is no token of ours.
    possession BLOB CHECK (length(possession) = 32)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX leases_by_possession ON leases (possession) WHERE possession IS NOT NULL;
CREATE INDEX leases_unsettled ON leases (opened) WHERE state = 'issuing';

CREATE TABLE folders (version BLOB PRIMARY KEY CHECK (length(version) = 32), archive BLOB NOT NULL) STRICT;
CREATE TABLE fixed (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- `swept`: when `spent` was last swept. `forgotten`: tokens to be kept until before this time may have lost their row,
-- hence are refused as used.
CREATE TABLE sweeps (id INTEGER PRIMARY KEY CHECK (id = 1), swept INTEGER NOT NULL, forgotten INTEGER NOT NULL) STRICT;
INSERT INTO sweeps VALUES (1, 0, 0);
