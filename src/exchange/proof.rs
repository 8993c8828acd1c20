//! Three doors (tokens, poll, refresh), one [`Proven`].

use crate::store::Spend;
use claimbound_core::workload::Case;

/// Three ways in, one way through: they differ in how a case is proven and in what is spent for it.
pub enum Proof<'r> {
    /// RFC 8693 token exchange.
    Tokens { subject: &'r str, actor: Option<&'r str> },
    /// CIBA-style polling of a claim ceremony.
    Poll { auth_req_id: &'r str },
    /// Renewal where the issuer cannot mint again.
    Refresh { token: &'r str },
}

/// A case that the broker believes.
pub struct Proven<'t> {
    pub case: Case<'t>,
    pub spend: Option<Spend>,
}
