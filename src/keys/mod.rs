//! Keys: the issuers' (fetched, cached) and our own (made, rotated, published).

pub mod issuers;
pub mod signing;
