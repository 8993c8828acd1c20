-- Which database this is, and since when. A store that had lost records and was adopted begins another epoch: tokens
-- issued until `began` are refused in it. `instead_of` is the id of the epoch whose records were given up.
CREATE TABLE epochs (
    number INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    began INTEGER NOT NULL,
    instead_of BLOB CHECK (length(instead_of) = 16)
) STRICT;
INSERT INTO epochs VALUES (1, randomblob(16), 0, NULL);

-- The tree over the records in the order of `position`: the roots of its complete subtrees of 256 leaves (level 1), of 256
-- of those (level 2), and so on, and the position of the last leaf of each.
CREATE TABLE tree (
    level INTEGER NOT NULL,
    number INTEGER NOT NULL,
    last INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (level, number)
) STRICT, WITHOUT ROWID;

-- The newest signed checkpoint of each epoch.
CREATE TABLE checkpoints (epoch INTEGER PRIMARY KEY, size INTEGER NOT NULL, note TEXT NOT NULL) STRICT;
