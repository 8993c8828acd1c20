-- Sweeping goes around `spent` in the order of its key: rows that go stand side by side then, and a row that comes need not
-- stand in a second tree.
DROP INDEX spent_by_end;
