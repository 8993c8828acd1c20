-- What somebody comes back with and is told of again (`store::note`): a first answer, who a session's keys are.
CREATE TABLE notes (
    key BLOB PRIMARY KEY CHECK (length(key) = 32),
    text TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX notes_ending ON notes (until);
