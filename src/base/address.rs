//! Addresses by value: one 128-bit form for both families, so that tables need one code path.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The address family of a packet, a service or a destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum Family {
    /// IPv4, RFC 791.
    V4 = 4,
    /// IPv6, RFC 8200.
    V6 = 6,
}

/// An IP address of either family as one number in host order; IPv4 is `::fffe:a.b.c.d`.
///
/// Not the IPv4-mapped `::ffff:a.b.c.d`: IPVS takes that as an address of IPv6, distinct from `a.b.c.d`. The prefix
/// here is one that nobody is assigned (RFC 4291 reserves ::/8). The wire can still carry an IPv6 packet with it, which
/// would read as IPv4 here: `forward` refuses such packets as martian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(pub u128);

/// What stands before the 32 bits of an IPv4 address.
const V4_PREFIX: u128 = 0xfffe_0000_0000;

impl Address {
    /// `0.0.0.0`.
    pub const UNSPECIFIED_V4: Address = Address(V4_PREFIX);
    /// `::`.
    pub const UNSPECIFIED_V6: Address = Address(0);

    /// The unspecified address of a family.
    pub const fn unspecified(family: Family) -> Self {
        match family {
            Family::V4 => Self::UNSPECIFIED_V4,
            Family::V6 => Self::UNSPECIFIED_V6,
        }
    }

    /// From an IPv4 address in host order.
    pub const fn v4(bits: u32) -> Self {
        Address(V4_PREFIX | bits as u128)
    }

    /// From an IPv6 address in host order.
    pub const fn v6(bits: u128) -> Self {
        Address(bits)
    }

    /// The family.
    pub const fn family(self) -> Family {
        if self.0 >> 32 == V4_PREFIX >> 32 { Family::V4 } else { Family::V6 }
    }

    /// True for IPv4.
    pub const fn is_v4(self) -> bool {
        self.0 >> 32 == V4_PREFIX >> 32
    }

    /// The low 32 bits: an IPv4 address in host order, or the last word of an IPv6 address.
    pub const fn low_u32(self) -> u32 {
        self.0 as u32
    }

    /// The four 32-bit words, most significant first; IPv4 stands in the last.
    pub const fn words(self) -> [u32; 4] {
        [(self.0 >> 96) as u32, (self.0 >> 64) as u32, (self.0 >> 32) as u32, self.0 as u32]
    }

    /// The inverse of [`Address::words`].
    pub const fn from_words(words: [u32; 4]) -> Self {
        Address((words[0] as u128) << 96 | (words[1] as u128) << 64 | (words[2] as u128) << 32 | words[3] as u128)
    }

    /// The standard library's form.
    pub fn to_ip(self) -> IpAddr {
        match self.family() {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(self.0 as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(self.0)),
        }
    }

    /// True for `0.0.0.0` and `::`.
    pub const fn is_unspecified(self) -> bool {
        self.0 == 0 || self.0 == V4_PREFIX
    }

    /// True for 127.0.0.0/8 and `::1`.
    pub fn is_loopback(self) -> bool {
        self.to_ip().is_loopback()
    }

    /// True for 224.0.0.0/4 and ff00::/8.
    pub fn is_multicast(self) -> bool {
        self.to_ip().is_multicast()
    }

    /// True for 255.255.255.255.
    pub const fn is_broadcast(self) -> bool {
        self.0 == V4_PREFIX | 0xffff_ffff
    }

    /// True for fe80::/10.
    pub const fn is_link_local_v6(self) -> bool {
        self.0 >> 118 == 0xfe80 >> 6
    }

    /// The address with all but the first `prefix` bits of its family's address cleared.
    ///
    /// `prefix` counts bits of the family (0..=32 or 0..=128); larger values change nothing.
    pub fn masked(self, prefix: u8) -> Self {
        match self.family() {
            Family::V4 => {
                let mask = if prefix == 0 { 0 } else { u32::MAX << (32 - prefix.min(32)) };
                Address::v4(self.0 as u32 & mask)
            }
            Family::V6 => {
                let mask = if prefix == 0 { 0 } else { u128::MAX << (128 - prefix.min(128)) };
                Address(self.0 & mask)
            }
        }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Address::v4(v4.to_bits()),
            IpAddr::V6(v6) => Address(v6.to_bits()),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(v4: Ipv4Addr) -> Self {
        Address::v4(v4.to_bits())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(v6: Ipv6Addr) -> Self {
        Address(v6.to_bits())
    }
}

impl FromStr for Address {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpAddr>().map(Address::from)
    }
}

/// As `inet_ntop` writes it: the standard library's form, but for the IPv4-compatible `::a.b.c.d`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 >> 32 == 0 && self.0 >> 16 != 0 {
            return f.pad(&format!("::{}", Ipv4Addr::from_bits(self.low_u32())));
        }
        fmt::Display::fmt(&self.to_ip(), f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An address and a port, both in host order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port; 0 where there is none.
    pub port: u16,
}

impl Endpoint {
    /// An address and a port.
    pub const fn new(address: Address, port: u16) -> Self {
        Self { address, port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.family() {
            Family::V4 => write!(f, "{}:{}", self.address, self.port),
            Family::V6 => write!(f, "[{}]:{}", self.address, self.port),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An Ethernet address, six octets in wire order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddress(pub [u8; 6]);

impl FromStr for MacAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || format!("illegal Ethernet address `{text}'");
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(bad)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(MacAddress(octets)) }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn both_families_round_trip() {
        for text in ["10.9.0.1", "0.0.0.0", "255.255.255.255", "::", "::1", "fd00:9::1", "2001:db8::ff"] {
            assert_eq!(address(text).to_string(), text);
            assert_eq!(Address::from_words(address(text).words()), address(text));
        }
        assert_eq!(address("10.0.0.1").family(), Family::V4);
        assert_eq!(address("::1").family(), Family::V6);
    }

    #[test]
    fn prints_embedded_ipv4_as_inet_ntop_does() {
        for text in ["::1.2.3.4", "::0.1.0.0", "::ffff:1.2.3.4", "::fffe", "::ff:fffe:102:304"] {
            assert_eq!(address(text).to_string(), text);
            assert_eq!(address(text).family(), Family::V6);
        }
        assert_ne!(address("::ffff:1.2.3.4"), address("1.2.3.4"));
    }

    #[test]
    fn masks_count_bits_of_the_family() {
        assert_eq!(address("10.1.2.3").masked(16), address("10.1.0.0"));
        assert_eq!(address("10.1.2.3").masked(0), address("0.0.0.0"));
        assert_eq!(address("10.1.2.3").masked(32), address("10.1.2.3"));
        assert_eq!(address("2001:db8:1:2::3").masked(32), address("2001:db8::"));
        assert_eq!(address("2001:db8::3").masked(0), address("::"));
    }

    #[test]
    fn classes() {
        assert!(address("fe80::1").is_link_local_v6());
        assert!(address("febf::1").is_link_local_v6());
        assert!(!address("fec0::1").is_link_local_v6());
        assert!(address("224.0.0.18").is_multicast());
        assert!(address("ff02::12").is_multicast());
        assert!(address("127.3.2.1").is_loopback());
        assert!(address("255.255.255.255").is_broadcast());
    }

    #[test]
    fn mac_addresses_parse_or_fail() {
        assert_eq!("02:00:00:00:00:fe".parse::<MacAddress>().unwrap().to_string(), "02:00:00:00:00:fe");
        for bad in ["", "02:00:00:00:00", "02:00:00:00:00:00:00", "02:00:00:00:00:xx"] {
            assert!(bad.parse::<MacAddress>().is_err(), "{bad}");
        }
    }
}
