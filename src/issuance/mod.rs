//! Role + case → credential. A backend plans (pure, may refuse), then the plan mints.

pub mod backend;
pub mod catalogue;
pub mod jwt;

pub use backend::{Credential, Ended, Later, MintError, Minted, Minter, Order, Plan, Unfit};
