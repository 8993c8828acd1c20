//! Offline verification; names the first bad record.
