//! Refusals of strangers: recorded singly up to a rate, summed beyond it.

use std::net::IpAddr;

/// A network prefix: IPv4 whole, IPv6 cut to /48.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Network(pub IpAddr);

/// The bounded counter.
pub struct Strangers {}
