//! What an FTP control connection says of data connections to come: commands of the client, replies of the server.
//!
//! Source: RFC 959 section 4.1.2, RFC 2428; `net/netfilter/ipvs/ip_vs_ftp.c`, Linux 6.1. Numbers that do not fit their
//! octet or port are refused, as since 6.1.188.
//!
//! **Deviation**: the extended commands work over IPv6 too; the kernel's helper breaks such connections.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::base::{Address, Endpoint, Family};

/// Digits that a number may have; more are no number of ours, whatever their value.
const DIGITS_MAX: usize = 5;
/// Octets of the longest text of an IPv6 address.
const ADDRESS_OCTETS_MAX: usize = 45;

/// What a client's segment says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    /// PASV: the server shall listen, and say where in reply 227.
    Passive,
    /// EPSV: likewise in reply 229.
    ExtendedPassive,
    /// PORT or EPRT: the client listens here.
    Active(Endpoint),
}

/// Where a server listens, by its reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reply {
    /// Its address; `None` for that of the control connection.
    pub address: Option<Address>,
    /// Its port.
    pub port: u16,
    /// What says so in the segment.
    pub place: Range<usize>,
}

/// The command in a client's segment.
pub(super) fn command(segment: &[u8], family: Family) -> Option<Command> {
    let lines = segment.iter().enumerate();
    let mut passive = lines.filter_map(|(at, octet)| match octet {
        b'P' | b'p' if family == Family::V4 => after(&segment[at..], b"PASV\r\n").is_some().then_some(Command::Passive),
        b'E' | b'e' => is_extended_passive(&segment[at..], family).then_some(Command::ExtendedPassive),
        _ => None,
    });
    if let Some(passive) = passive.next() {
        return Some(passive);
    }
    if let Some(rest) = after(segment, b"PORT ").filter(|_| family == Family::V4) {
        let start = rest.iter().position(|&octet| octet != b' ')?;
        let (endpoint, _) = six_numbers(&rest[start..])?;
        return Some(Command::Active(endpoint));
    }
    let rest = after(segment, b"EPRT ")?;
    let start = rest.iter().position(|&octet| octet != b' ')?;
    let (address, port, _) = extended(&rest[start..], family)?;
    Some(Command::Active(Endpoint::new(address?, port)))
}

fn is_extended_passive(line: &[u8], family: Family) -> bool {
    let wanted = family_digit(family);
    matches!(after(line, b"EPSV"), Some([b'\r', ..]))
        || matches!(after(line, b"EPSV "), Some([digit, b'\r', ..]) if *digit == wanted)
}

/// Reply 227 to PASV: six numbers, in parentheses or not.
pub(super) fn passive_reply(segment: &[u8]) -> Option<Reply> {
    let rest = after(segment, b"227 ")?;
    let start = segment.len() - rest.len() + rest.iter().position(u8::is_ascii_digit)?;
    let (endpoint, octets) = six_numbers(&segment[start..])?;
    Some(Reply { address: Some(endpoint.address), port: endpoint.port, place: start..start + octets })
}

/// Reply 229 to EPSV: `(|||port|)`; some servers name their address too.
pub(super) fn extended_passive_reply(segment: &[u8], family: Family) -> Option<Reply> {
    let rest = after(segment, b"229 ")?;
    let start = segment.len() - rest.len() + rest.iter().position(|&octet| octet == b'(')? + 1;
    let (address, port, octets) = extended(&segment[start..], family)?;
    Some(Reply { address, port, place: start..start + octets })
}

/// What follows `word`, in whichever case, at the start of `text`.
fn after<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word).then_some(rest)
}

/// The decimal number that `text` begins with, and its digits. It must end within the text: the rest of what the
/// segment's end cuts off is not known.
fn number(text: &[u8], largest: u32) -> Option<(u32, usize)> {
    let digits = text.iter().take_while(|octet| octet.is_ascii_digit()).count();
    if digits == 0 || digits > DIGITS_MAX || digits == text.len() {
        return None;
    }
    let value = text[..digits].iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    (value <= largest).then_some((value, digits))
}

/// `h1,h2,h3,h4,p1,p2`, and its octets.
fn six_numbers(text: &[u8]) -> Option<(Endpoint, usize)> {
    let mut octets = [0; 6];
    let mut at = 0;
    for (position, octet) in octets.iter_mut().enumerate() {
        if position > 0 {
            if text.get(at) != Some(&b',') {
                return None;
            }
            at += 1;
        }
        let (value, digits) = number(&text[at..], 255)?;
        *octet = value as u8;
        at += digits;
    }
    let [a, b, c, d, high, low] = octets;
    let port = u16::from_be_bytes([high, low]);
    (port != 0).then(|| (Endpoint::new(Address::v4(u32::from_be_bytes([a, b, c, d])), port), at))
}

const fn family_digit(family: Family) -> u8 {
    match family {
        Family::V4 => b'1',
        Family::V6 => b'2',
    }
}

/// `d[af]d[address]d port d` with any printing delimiter `d`; address, port and octets. Family and address are both
/// there or neither is.
fn extended(text: &[u8], family: Family) -> Option<(Option<Address>, u16, usize)> {
    let delimiter = *text.first().filter(|octet| (33..=126).contains(*octet) && !octet.is_ascii_digit())?;
    let mut at = 1;
    let address = match text.get(at..at + 2)? {
        [first, second] if *first == delimiter && *second == delimiter => {
            at += 2;
            None
        }
        [digit, second] if *digit == family_digit(family) && *second == delimiter => {
            at += 2;
            let rest = &text[at..];
            let octets = rest.iter().take(ADDRESS_OCTETS_MAX + 1).position(|&octet| octet == delimiter)?;
            at += octets + 1;
            Some(address(&rest[..octets], family)?)
        }
        _ => return None,
    };
    let (port, digits) = number(&text[at..], u32::from(u16::MAX))?;
    at += digits;
    (text.get(at) == Some(&delimiter) && port != 0).then_some((address, port as u16, at + 1))
}

fn address(text: &[u8], family: Family) -> Option<Address> {
    let text = std::str::from_utf8(text).ok()?;
    match family {
        Family::V4 => text.parse::<Ipv4Addr>().ok().map(|address| Address::v4(address.to_bits())),
        Family::V6 => {
            let address = Address::v6(text.parse::<Ipv6Addr>().ok()?.to_bits());
            // It would read as IPv4.
            (!address.is_v4()).then_some(address)
        }
    }
}

/// Octets of the longest text that is put into a reply: six numbers of three digits.
pub(super) const TEXT_OCTETS_MAX: usize = 23;

/// The text of where a server listens, as it is put into a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Text {
    octets: [u8; TEXT_OCTETS_MAX],
    length: u8,
}

impl Text {
    /// For reply 227.
    pub(super) fn six_numbers(endpoint: Endpoint) -> Self {
        let mut text = Self::empty();
        for (position, octet) in
            endpoint.address.low_u32().to_be_bytes().into_iter().chain(endpoint.port.to_be_bytes()).enumerate()
        {
            if position > 0 {
                text.push(b',');
            }
            text.push_number(u16::from(octet));
        }
        text
    }

    /// For reply 229.
    pub(super) fn extended(port: u16) -> Self {
        let mut text = Self::empty();
        b"|||".iter().for_each(|octet| text.push(*octet));
        text.push_number(port);
        text.push(b'|');
        text
    }

    const fn empty() -> Self {
        Self { octets: [0; TEXT_OCTETS_MAX], length: 0 }
    }

    fn push(&mut self, octet: u8) {
        self.octets[usize::from(self.length)] = octet;
        self.length += 1;
    }

    fn push_number(&mut self, number: u16) {
        let mut divisor = 10_000;
        while divisor > 1 && number < divisor {
            divisor /= 10;
        }
        while divisor > 0 {
            self.push(b'0' + (number / divisor % 10) as u8);
            divisor /= 10;
        }
    }

    /// Its octets.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(text: &str, port: u16) -> Endpoint {
        Endpoint::new(Address::v4(text.parse::<Ipv4Addr>().unwrap().to_bits()), port)
    }

    fn v6(text: &str, port: u16) -> Endpoint {
        Endpoint::new(Address::v6(text.parse::<Ipv6Addr>().unwrap().to_bits()), port)
    }

    #[test]
    fn commands_of_clients() {
        use Family::{V4, V6};
        let active = |endpoint| Some(Command::Active(endpoint));
        for (text, family, expected) in [
            ("PASV\r\n", V4, Some(Command::Passive)),
            ("TYPE I\r\npasv\r\n", V4, Some(Command::Passive)),
            ("PASV\r\n", V6, None),
            ("PASV\n", V4, None),
            ("EPSV\r\n", V4, Some(Command::ExtendedPassive)),
            ("Epsv 1\r\n", V4, Some(Command::ExtendedPassive)),
            ("EPSV 2\r\n", V6, Some(Command::ExtendedPassive)),
            ("EPSV 2\r\n", V4, None),
            ("EPSV ALL\r\n", V4, None),
            ("PORT 10,1,0,1,4,5\r\n", V4, active(v4("10.1.0.1", 1029))),
            ("port   10,1,0,1,4,5\r\n", V4, active(v4("10.1.0.1", 1029))),
            ("PORT 10,1,0,1,4,5\r\n", V6, None),
            ("PORT 10,1,0,1,4,5", V4, None),
            ("PORT 10,1,0,256,4,5\r\n", V4, None),
            ("PORT 10,1,0,1,4,256\r\n", V4, None),
            ("PORT 10,1,0,1,0,0\r\n", V4, None),
            ("PORT 10,1,0,,4,5\r\n", V4, None),
            ("PORT 10,1,0,1,4\r\n", V4, None),
            ("NOOP\r\nPORT 10,1,0,1,4,5\r\n", V4, None),
            ("EPRT |1|10.1.0.1|1029|\r\n", V4, active(v4("10.1.0.1", 1029))),
            ("eprt !1!10.1.0.1!65535!\r\n", V4, active(v4("10.1.0.1", 65535))),
            ("EPRT |1|10.1.0.1|65536|\r\n", V4, None),
            ("EPRT |1|10.1.0.1|0|\r\n", V4, None),
            ("EPRT |2|10.1.0.1|1029|\r\n", V4, None),
            ("EPRT |1|10.1.0.1|1029\r\n", V4, None),
            ("EPRT |||1029|\r\n", V4, None),
            ("EPRT |2|fd00:1::1|1029|\r\n", V6, active(v6("fd00:1::1", 1029))),
            ("EPRT |2|::1.2.3.4|1029|\r\n", V6, active(v6("::1.2.3.4", 1029))),
            ("EPRT |1|10.1.0.1|1029|\r\n", V6, None),
        ] {
            assert_eq!(command(text.as_bytes(), family), expected, "{text:?} {family:?}");
        }
    }

    #[test]
    fn replies_of_servers() {
        let found = |text: &str| passive_reply(text.as_bytes()).map(|reply| (reply.address, reply.port));
        let expected = Some((Some(v4("10.2.0.1", 0).address), 51210));
        assert_eq!(found("227 Entering Passive Mode (10,2,0,1,200,10).\r\n"), expected);
        assert_eq!(found("227 Entering Passive Mode 10,2,0,1,200,10\r\n"), expected);
        for text in
            ["227 Entering (10,2,0,1,200,10", "227 (10,2,0,1,200)\r\n", "228 (10,2,0,1,200,10)\r\n", "227 x\r\n", ""]
        {
            assert_eq!(found(text), None, "{text:?}");
        }
        let text = "227 Entering Passive Mode (10,2,0,1,200,10).\r\n";
        let reply = passive_reply(text.as_bytes()).unwrap();
        assert_eq!(&text[reply.place], "10,2,0,1,200,10");

        let found = |text: &str, family| extended_passive_reply(text.as_bytes(), family);
        let text = "229 Entering Extended Passive Mode (|||51210|)\r\n";
        let reply = found(text, Family::V6).unwrap();
        assert_eq!((reply.address, reply.port, &text[reply.place]), (None, 51210, "|||51210|"));
        let text = "229 Ok (!1!10.2.0.1!51210!)\r\n";
        let reply = found(text, Family::V4).unwrap();
        assert_eq!((reply.address, reply.port), (Some(v4("10.2.0.1", 0).address), 51210));
        assert_eq!(&text[reply.place], "!1!10.2.0.1!51210!");
        for text in ["229 Ok (|||65536|)\r\n", "229 Ok |||5|\r\n", "229 Ok (|||5)\r\n", "229 Ok (||5|)\r\n", "229 Ok ("]
        {
            assert_eq!(found(text, Family::V4), None, "{text:?}");
        }
    }

    #[test]
    fn texts_of_replies() {
        assert_eq!(Text::six_numbers(v4("10.9.100.200", 51210)).as_bytes(), b"10,9,100,200,200,10");
        assert_eq!(Text::six_numbers(v4("255.255.255.255", 65535)).as_bytes(), b"255,255,255,255,255,255");
        assert_eq!(Text::six_numbers(v4("0.0.0.0", 256)).as_bytes(), b"0,0,0,0,1,0");
        assert_eq!(Text::extended(65535).as_bytes(), b"|||65535|");
        assert_eq!(Text::extended(7).as_bytes(), b"|||7|");
    }

    #[test]
    fn no_segment_makes_it_panic() {
        let texts = [
            "PORT 10,1,0,1,4,5\r\nPASV\r\nEPSV 1\r\n",
            "EPRT |1|10.1.0.1|1029|\r\n",
            "EPRT |2|fd00:1::1|1029|\r\nEPSV 2\r\n",
            "227 Entering Passive Mode (10,2,0,1,200,10).\r\n",
            "229 Entering Extended Passive Mode (|||51210|)\r\n",
            "229 Ok (|2|fd00:1::1|51210|)\r\n",
        ];
        for text in texts {
            let mut octets = text.as_bytes().to_vec();
            for end in 0..=octets.len() {
                for changed in [0, b'|', b'9', b',', 0xff] {
                    for at in 0..end {
                        let old = std::mem::replace(&mut octets[at], changed);
                        for family in [Family::V4, Family::V6] {
                            let segment = &octets[..end];
                            let _ = command(segment, family);
                            for reply in [passive_reply(segment), extended_passive_reply(segment, family)] {
                                assert!(reply.is_none_or(|reply| reply.place.end <= end));
                            }
                        }
                        octets[at] = old;
                    }
                }
            }
        }
    }
}
