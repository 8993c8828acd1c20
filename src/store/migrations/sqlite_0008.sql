-- Who acts on the principal's behalf, the outermost: JSON, and what leases are found by. `actor_person` is a hash, and is forgotten as
-- `person` is.
ALTER TABLE leases ADD COLUMN actor TEXT;
ALTER TABLE leases ADD COLUMN actor_repository TEXT;
ALTER TABLE leases ADD COLUMN actor_person BLOB CHECK (length(actor_person) = 32);
-- The lease whose token was exchanged for this one: it ends with it.
ALTER TABLE leases ADD COLUMN parent BLOB CHECK (length(parent) = 16);
ALTER TABLE leases ADD COLUMN handoff INTEGER NOT NULL DEFAULT 0 CHECK (handoff IN (0, 1));
CREATE INDEX leases_by_actor_repository ON leases (actor_repository, id) WHERE actor_repository IS NOT NULL;
CREATE INDEX leases_of_acting_persons ON leases (expires) WHERE actor_person IS NOT NULL;
CREATE INDEX leases_by_parent ON leases (parent) WHERE parent IS NOT NULL;
