//! What operators do over HTTP, on a listener of its own.
//!
//! Who is an operator is asked in one place, [`gate`], before any handler: a row of the table says what its endpoint
//! needs. A handler takes the [`Operator`] that was let in from the request (`ReqData<Operator>`) and acts in their name.

pub mod deeds;
mod evidence;
pub(in crate::http) mod gate;
pub mod keys;
mod openapi;
pub(in crate::http) mod say;
pub(in crate::http) mod session;
mod state;

pub use evidence::{decision, decisions, history, history_of};
pub use gate::{Needs, gate};
pub use openapi::openapi;
pub use session::{finish, sign_in, sign_out, whoami};
pub use state::{health, metrics};

use super::{answer::Reply, front::Shared};
use crate::broker::Broker;
use actix_web::HttpResponse;
use std::sync::Arc;

/// An answer, whichever way it came about.
pub(in crate::http) fn respond(answer: Result<Reply, Reply>) -> HttpResponse {
    answer.unwrap_or_else(|reply| reply).respond()
}

/// The broker behind an operator's request; in its place an answer, where there is none.
pub(in crate::http) fn broker(shared: &Shared) -> Result<&Arc<Broker>, Reply> {
    shared.front.broker().ok_or_else(say::unavailable)
}
