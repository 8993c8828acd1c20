//! Role + case → credential. A backend plans (pure, may refuse), then the plan mints.

pub mod aws;
pub mod backend;
pub mod catalogue;
mod claims;
pub mod jwt;
pub mod own;
pub mod status;

pub use backend::{
    AwsSession, Credential, Ended, Later, MintError, Minted, Minter, Narrowing, Order, Plan, Room, Unfit,
};
