-- Claim ceremonies (`store::ceremony`). `bound` is what one is opened with, `state` where it stands, both JSON; `open`
-- whether anything can become of it; `version` counts its changes.
CREATE TABLE ceremonies (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    key BYTEA NOT NULL CHECK (length(key) = 32),
    rule BYTEA NOT NULL CHECK (length(rule) = 32),
    repository BYTEA NOT NULL CHECK (length(repository) = 32),
    bound TEXT NOT NULL,
    opened BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    state TEXT NOT NULL,
    open BOOLEAN NOT NULL,
    version BIGINT NOT NULL
);
CREATE INDEX ceremonies_open ON ceremonies (key) WHERE open;
CREATE INDEX ceremonies_open_of ON ceremonies (repository) WHERE open;
CREATE INDEX ceremonies_ending ON ceremonies (expires);

-- Jobs that wait for one. `request` is the SHA-256 of the `auth_req_id`, `code` of the ceremony's id and the job's code.
CREATE TABLE waiting (
    request BYTEA PRIMARY KEY CHECK (length(request) = 32),
    ceremony BYTEA NOT NULL CHECK (length(ceremony) = 16),
    code BYTEA NOT NULL CHECK (length(code) = 32),
    job BYTEA NOT NULL CHECK (length(job) = 32),
    token BYTEA NOT NULL CHECK (length(token) = 32),
    starter TEXT NOT NULL,
    asked TEXT NOT NULL,
    joined BIGINT NOT NULL,
    withdrawn BOOLEAN NOT NULL
);
CREATE INDEX waiting_for ON waiting (ceremony);

-- First uses that were claimed. `subjects` are the keys of what a suspension of makes one void, one behind the other.
CREATE TABLE standing (
    key BYTEA PRIMARY KEY CHECK (length(key) = 32),
    ceremony BYTEA NOT NULL CHECK (length(ceremony) = 16),
    rule BYTEA NOT NULL CHECK (length(rule) = 32),
    since BIGINT NOT NULL,
    until BIGINT NOT NULL,
    told TEXT NOT NULL,
    subjects BYTEA NOT NULL
);
CREATE INDEX standing_ending ON standing (until);

-- Of a session by which a person claims: who they were when they signed in, JSON.
ALTER TABLE sessions ADD COLUMN person TEXT;
