//! Which addresses a request may connect to. An allow list of what is public would be the sum of all routes; so this
//! lists what is not (the special-purpose registries), and reads through every way of writing IPv4 as IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Which addresses a request may connect to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Reach {
    Public,
    /// Loopback alone, for development.
    Loopback,
    /// Besides public ones: every address of the inner network but metadata services.
    Private,
}

/// How an address is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Public,
    Loopback,
    Inner,
    /// Metadata services, multicast, "this host": never a place of keys.
    Never,
}

impl Reach {
    /// Whether a connection may go to `address`.
    pub(super) fn allows(self, address: IpAddr) -> bool {
        match place(address) {
            Place::Public => self != Reach::Loopback,
            Place::Loopback => self != Reach::Public,
            Place::Inner => self == Reach::Private,
            Place::Never => false,
        }
    }
}

fn place(address: IpAddr) -> Place {
    match address {
        IpAddr::V4(address) => place_v4(address),
        IpAddr::V6(address) => place_v6(address),
    }
}

/// By the special-purpose address registry (RFC 6890 and its updates), and the metadata addresses of clouds.
fn place_v4(address: Ipv4Addr) -> Place {
    match address.octets() {
        // AWS, GCP, Azure and others; Alibaba; Oracle; Azure's host agent, which has a public number
        [169, 254, 169, 254] | [169, 254, 170, 2] | [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => {
            Place::Never
        }
        [0, ..] | [224..=255, ..] => Place::Never,
        [127, ..] => Place::Loopback,
        [10, ..]
        | [100, 64..=127, ..]
        | [169, 254, ..]
        | [172, 16..=31, ..]
        | [192, 0, 0, _]
        | [192, 0, 2, _]
        | [192, 88, 99, _]
        | [192, 168, ..]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Place::Inner,
        _ => Place::Public,
    }
}

fn place_v6(address: Ipv6Addr) -> Place {
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        place_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Place::Loopback,
        [0, 0, 0, 0, 0, 0, 0, 0] | [0xff00..=0xffff, ..] => Place::Never,
        // metadata services: AWS, GCP, and 169.254.169.254 as link-local (OpenStack)
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] | [0xfe80, 0, 0, 0, .., 0xa9fe, 0xa9fe] => Place::Never,
        // IPv4 in other clothes: mapped, translated (RFC 2765), compatible, NAT64 (RFC 6052), 6to4
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0, 0, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => embedded(high, low),
        // unique local, link-local, site-local, local NAT64, discard, Teredo and ORCHID, documentation, segment routing
        [0xfc00..=0xfdff, ..]
        | [0xfe80..=0xfeff, ..]
        | [0x64, 0xff9b, 1, ..]
        | [0x100, 0, 0, 0, ..]
        | [0x2001, 0..=0x1ff, ..]
        | [0x2001, 0xdb8, ..]
        | [0x3fff, 0..=0xfff, ..]
        | [0x5f00, ..] => Place::Inner,
        _ => Place::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_has_its_place() {
        use Place::{Inner, Loopback, Never, Public};
        for (address, expected) in [
            ("140.82.112.3", Public),
            ("2606:50c0:8000::153", Public),
            ("127.8.8.8", Loopback),
            ("::1", Loopback),
            ("::ffff:127.0.0.1", Loopback),
            ("10.1.2.3", Inner),
            ("172.16.0.1", Inner),
            ("172.32.0.1", Public),
            ("192.168.1.1", Inner),
            ("100.64.0.1", Inner),
            ("100.128.0.1", Public),
            ("169.254.1.1", Inner),
            ("198.18.0.1", Inner),
            ("fd12:3456::1", Inner),
            ("fe80::1", Inner),
            ("::ffff:10.0.0.1", Inner),
            ("64:ff9b::a00:1", Inner),
            ("2002:a00:1::", Inner),
            ("2001::1", Inner),
            ("169.254.169.254", Never),
            ("::ffff:169.254.169.254", Never),
            ("64:ff9b::a9fe:a9fe", Never),
            ("::ffff:0:10.0.0.1", Inner),
            ("5f00::1", Inner),
            ("100.100.100.200", Never),
            ("fd00:ec2::254", Never),
            ("fd20:ce::254", Never),
            ("fe80::a9fe:a9fe", Never),
            ("::ffff:0:169.254.169.254", Never),
            ("2002:a9fe:a9fe::1", Never),
            ("168.63.129.16", Never),
            ("0.0.0.0", Never),
            ("255.255.255.255", Never),
            ("ff02::1", Never),
            ("::", Never),
        ] {
            assert_eq!(place(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn what_each_reach_allows() {
        for (reach, public, loopback, inner, metadata) in [
            (Reach::Public, true, false, false, false),
            (Reach::Loopback, false, true, false, false),
            (Reach::Private, true, true, true, false),
        ] {
            let allowed =
                ["1.1.1.1", "127.0.0.1", "10.0.0.1", "169.254.169.254"].map(|a| reach.allows(a.parse().unwrap()));
            assert_eq!(allowed, [public, loopback, inner, metadata], "{reach:?}");
        }
    }
}
