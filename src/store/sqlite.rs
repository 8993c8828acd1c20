//! The SQLite engine and its reads: the only SQL.
