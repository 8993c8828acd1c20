//! What runs on a laptop: the local issuer.

pub mod issuer;
