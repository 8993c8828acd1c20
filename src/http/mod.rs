//! Speaks HTTP for the broker, and decides nothing.
//!
//! A request's way: [`routes`] (one table of endpoints; head size, connection's fate and access log around them) →
//! [`limit`] (rate, size, content type, time: all before a byte of a token is read) → [`form`] (strict parameters →
//! [`crate::broker::Asked`]) → the broker behind [`front`] → [`answer`] (status and words). [`serve`] binds, runs and
//! drains; [`claim`] has the pages
//! for people, [`sts`] the exchange in AWS's words; [`tls`] holds the certificate, and reads it again when its files change.

mod answer;
pub mod claim;
mod closed;
mod form;
pub mod front;
mod introspect;
mod limit;
pub mod operator;
mod routes;
mod serve;
mod sts;
mod tls;
mod token;
mod wellknown;

pub use form::TYPE_HANDOFF;
pub use serve::{Bound, Listeners, bind, check, serve};
