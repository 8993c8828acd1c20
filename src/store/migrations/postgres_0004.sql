-- What operators have suspended. `subject` is the hash by which a case is looked up; a suspension whose `until` is over
-- suspends nothing and stays until it is replaced or taken back.
CREATE TABLE suspensions (
    subject BYTEA PRIMARY KEY CHECK (length(subject) = 32),
    id BYTEA NOT NULL UNIQUE CHECK (length(id) = 16),
    scope TEXT NOT NULL,
    issuer TEXT NOT NULL,
    name TEXT NOT NULL,
    since BIGINT NOT NULL,
    until BIGINT,
    operator TEXT NOT NULL,
    reason TEXT NOT NULL
);

-- What targets are to refuse although it was issued. A row whose `until` is over denies nothing that is left.
CREATE TABLE denials (
    denial BYTEA PRIMARY KEY CHECK (length(denial) = 32),
    backend TEXT NOT NULL,
    scope TEXT NOT NULL CHECK (scope IN ('lease', 'role', 'principal')),
    value TEXT NOT NULL,
    -- Of `role` and `principal`: what was issued before it.
    before BIGINT NOT NULL,
    until BIGINT NOT NULL
);
CREATE INDEX denials_by_end ON denials (until);

-- For whom. `person` is a hash, and is forgotten once the lease is over: it is only there to end leases by it.
ALTER TABLE leases ADD COLUMN principal_name TEXT NOT NULL DEFAULT '';
ALTER TABLE leases ADD COLUMN repository_id TEXT;
ALTER TABLE leases ADD COLUMN owner_id TEXT;
ALTER TABLE leases ADD COLUMN run_id TEXT;
ALTER TABLE leases ADD COLUMN person BYTEA CHECK (length(person) = 32);
CREATE INDEX leases_by_expiry ON leases (expires, id);
CREATE INDEX leases_by_repository ON leases (repository_id, id) WHERE repository_id IS NOT NULL;
CREATE INDEX leases_of_persons ON leases (expires) WHERE person IS NOT NULL;
