-- Which database this is, and since when. A store that had lost records and was adopted begins another epoch: tokens
-- issued until `began` are refused in it. `instead_of` is the id of the epoch whose records were given up.
CREATE TABLE epochs (
    number BIGINT PRIMARY KEY,
    id BYTEA NOT NULL UNIQUE CHECK (length(id) = 16),
    began BIGINT NOT NULL,
    instead_of BYTEA CHECK (length(instead_of) = 16)
);
INSERT INTO epochs VALUES (1, uuid_send(gen_random_uuid()), 0, NULL);

-- The tree over the records in the order of `position`: the roots of its complete subtrees of 256 leaves (level 1), of 256
-- of those (level 2), and so on, and the position of the last leaf of each.
CREATE TABLE tree (
    level BIGINT NOT NULL,
    number BIGINT NOT NULL,
    last BIGINT NOT NULL,
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, number)
);

-- The newest signed checkpoint of each epoch.
CREATE TABLE checkpoints (epoch BIGINT PRIMARY KEY, size BIGINT NOT NULL, note TEXT NOT NULL);
