-- What somebody comes back with and is told of again (`store::note`): a first answer, who a session's keys are.
CREATE TABLE notes (
    key BYTEA PRIMARY KEY CHECK (length(key) = 32),
    text TEXT NOT NULL,
    until BIGINT NOT NULL
);
CREATE INDEX notes_ending ON notes (until);
