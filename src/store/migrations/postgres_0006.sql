-- People who signed in as operators. `session` is the SHA-256 of what they present; `may` are words with spaces between
-- them; `binding` hashes the configuration that let them in. A row whose time is over means nothing and is removed.
CREATE TABLE sessions (
    session BYTEA PRIMARY KEY CHECK (length(session) = 32),
    operator TEXT NOT NULL,
    sign_in TEXT NOT NULL,
    may TEXT NOT NULL,
    binding BYTEA NOT NULL CHECK (length(binding) = 32),
    expires BIGINT NOT NULL
);
CREATE INDEX sessions_by_end ON sessions (expires);
