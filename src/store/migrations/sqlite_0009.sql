-- Claim ceremonies (`store::ceremony`). `bound` is what one is opened with, `state` where it stands, both JSON; `open`
-- whether anything can become of it; `version` counts its changes.
CREATE TABLE ceremonies (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    key BLOB NOT NULL CHECK (length(key) = 32),
    rule BLOB NOT NULL CHECK (length(rule) = 32),
    repository BLOB NOT NULL CHECK (length(repository) = 32),
    bound TEXT NOT NULL,
    opened INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    state TEXT NOT NULL,
    open INTEGER NOT NULL CHECK (open IN (0, 1)),
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX ceremonies_open ON ceremonies (key) WHERE open = 1;
CREATE INDEX ceremonies_open_of ON ceremonies (repository) WHERE open = 1;
CREATE INDEX ceremonies_ending ON ceremonies (expires);

-- Jobs that wait for one. `request` is the SHA-256 of the `auth_req_id`, `code` of the ceremony's id and the job's code.
CREATE TABLE waiting (
    request BLOB PRIMARY KEY CHECK (length(request) = 32),
    ceremony BLOB NOT NULL CHECK (length(ceremony) = 16),
    code BLOB NOT NULL CHECK (length(code) = 32),
    job BLOB NOT NULL CHECK (length(job) = 32),
    token BLOB NOT NULL CHECK (length(token) = 32),
    starter TEXT NOT NULL,
    asked TEXT NOT NULL,
    joined INTEGER NOT NULL,
    withdrawn INTEGER NOT NULL CHECK (withdrawn IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX waiting_for ON waiting (ceremony);

-- First uses that were claimed. `subjects` are the keys of what a suspension of makes one void, one behind the other.
CREATE TABLE standing (
    key BLOB PRIMARY KEY CHECK (length(key) = 32),
    ceremony BLOB NOT NULL CHECK (length(ceremony) = 16),
    rule BLOB NOT NULL CHECK (length(rule) = 32),
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    told TEXT NOT NULL,
    subjects BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX standing_ending ON standing (until);

-- Of a session by which a person claims: who they were when they signed in, JSON.
ALTER TABLE sessions ADD COLUMN person TEXT;
