-- How far details were erased and bodies emptied, their time being over: positions.
CREATE TABLE forgotten (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    details BIGINT NOT NULL,
    records BIGINT NOT NULL
);
INSERT INTO forgotten VALUES (1, 0, 0);
