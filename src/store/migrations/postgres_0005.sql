-- Families of renewals (`store::family`). `id` is the lease that began one; `secret` the SHA-256 of what all of its
-- refresh tokens share; `token` the single-use key of the subject token that began it. `current` is the SHA-256 of the
-- token whose turn is next, `previous` of the one that had the last turn at `since` and may come once more.
CREATE TABLE families (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    secret BYTEA NOT NULL UNIQUE CHECK (length(secret) = 32),
    token BYTEA NOT NULL CHECK (length(token) = 32),
    role TEXT NOT NULL,
    opened BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    current BYTEA NOT NULL CHECK (length(current) = 32),
    previous BYTEA CHECK (length(previous) = 32),
    since BIGINT NOT NULL,
    ended BOOLEAN NOT NULL
);
CREATE INDEX families_open ON families (expires) WHERE NOT ended;

ALTER TABLE leases ADD COLUMN family BYTEA CHECK (length(family) = 16);
CREATE INDEX leases_by_family ON leases (family) WHERE family IS NOT NULL;

-- Status lists: until when tokens that name one may be valid. `status_list` and `status_index` of a lease are the place
-- of its token; only ended ones are looked for by it.
CREATE TABLE status_lists (
    id BYTEA PRIMARY KEY CHECK (length(id) = 16),
    until BIGINT NOT NULL
);
ALTER TABLE leases ADD COLUMN status_list BYTEA CHECK (length(status_list) = 16);
ALTER TABLE leases ADD COLUMN status_index BIGINT;
CREATE INDEX leases_ended_by_list ON leases (status_list) WHERE state = 'ended' AND status_list IS NOT NULL;
