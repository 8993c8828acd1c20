-- Families of renewals (`store::family`). `id` is the lease that began one; `secret` the SHA-256 of what all of its
-- refresh tokens share; `token` the single-use key of the subject token that began it. `current` is the SHA-256 of the
-- token whose turn is next, `previous` of the one that had the last turn at `since` and may come once more.
CREATE TABLE families (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    secret BLOB NOT NULL UNIQUE CHECK (length(secret) = 32),
    token BLOB NOT NULL CHECK (length(token) = 32),
    role TEXT NOT NULL,
    opened INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    current BLOB NOT NULL CHECK (length(current) = 32),
    previous BLOB CHECK (length(previous) = 32),
    since INTEGER NOT NULL,
    ended INTEGER NOT NULL CHECK (ended IN (0, 1))
) STRICT, WITHOUT ROWID;
CREATE INDEX families_open ON families (expires) WHERE ended = 0;

ALTER TABLE leases ADD COLUMN family BLOB CHECK (length(family) = 16);
CREATE INDEX leases_by_family ON leases (family) WHERE family IS NOT NULL;

-- Status lists: until when tokens that name one may be valid. `status_list` and `status_index` of a lease are the place
-- of its token; only ended ones are looked for by it.
CREATE TABLE status_lists (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE leases ADD COLUMN status_list BLOB CHECK (length(status_list) = 16);
ALTER TABLE leases ADD COLUMN status_index INTEGER;
CREATE INDEX leases_ended_by_list ON leases (status_list) WHERE state = 'ended' AND status_list IS NOT NULL;
