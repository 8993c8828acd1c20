-- How often something limited was done since its window began (`[mapping.limit]`). A row whose window is over means
-- nothing and is removed.
CREATE TABLE uses (
    counter BLOB PRIMARY KEY CHECK (length(counter) = 32),
    until INTEGER NOT NULL,
    used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX uses_by_end ON uses (until);
