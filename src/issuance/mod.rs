//! Role + case → credential. A backend plans (pure, may refuse), then the plan mints.

pub mod backend;
pub mod catalogue;
mod jwt;
mod template;

pub use backend::{Credential, Ended, Later, MintError, Minted, Minter, Order, Plan, Unfit};
