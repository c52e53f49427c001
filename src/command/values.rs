//! Values of options: numbers, addresses and ports in the forms that the C library and ipvsadm accept.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::base::{Address, Endpoint};
use crate::command::names::Names;
use crate::service::Protocol;

/// A decimal number within `least..=most`; leading blanks and a sign are accepted (`strtol`), nothing after the
/// digits is.
pub fn number(text: &str, least: i64, most: i64) -> Option<i64> {
    let text = text.trim_start_matches(is_blank);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = text.parse::<i64>().ok()?;
    (least..=most).contains(&value).then_some(value)
}

/// What `atoi` makes of a text: the number that it begins with, else 0.
pub fn leading_number(text: &str) -> i64 {
    let text = text.trim_start_matches(is_blank);
    let sign = usize::from(text.starts_with(['+', '-']));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    text[..sign + digits].parse().unwrap_or(0)
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// An IPv4 address in the forms of inet_aton(3): one to four parts, decimal, octal (`010`) or hexadecimal (`0xa`),
/// the last part filling the remaining octets; what follows a blank is ignored.
pub fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let text = text.split(is_blank).next().unwrap_or_default();
    let parts = text.split('.').map(inet_part).collect::<Option<Vec<u32>>>()?;
    let (&last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|&part| part > 0xff) {
        return None;
    }
    let last_bits = 32 - 8 * first.len() as u32;
    if u64::from(last) >> last_bits != 0 {
        return None;
    }
    let high = first.iter().fold(0u64, |bits, &part| bits << 8 | u64::from(part));
    Some(Ipv4Addr::from_bits((high << last_bits) as u32 | last))
}

fn inet_part(part: &str) -> Option<u32> {
    let (digits, radix) = match part.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (&part[2..], 16),
        [b'0', _, ..] => (&part[1..], 8),
        _ => (part, 10),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if plain { u32::from_str_radix(digits, radix).ok() } else { None }
}

/// An IPv4 address or the name of a host that has one.
pub fn ipv4_or_host(text: &str, names: &dyn Names) -> Option<Ipv4Addr> {
    inet_aton(text).or_else(|| names.address_of_host(text))
}

/// `address[:port]` with the port that was given, if any. `protocol` is whose services may be named.
///
/// ipvsadm's reading, bugs included: a word of digits alone is no address, `[2001:db8::1]` without a port is none,
/// and `[10.0.0.1]:80` is 10.0.0.1 without a port.
pub fn endpoint(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<(Address, Option<u16>)> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (host, bracket_port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, Some(port.strip_prefix(':')?))
        }
        None => (text, None),
    };
    let (address, port) = if let Ok(address) = host.parse::<Ipv6Addr>() {
        (Address::from(address), bracket_port)
    } else {
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host, None),
        };
        (Address::from(ipv4_or_host(host, names)?), port)
    };
    match port {
        None => Some((address, None)),
        Some(port) => Some((address, Some(port_number(port, protocol, names)?))),
    }
}

fn port_number(text: &str, protocol: Option<Protocol>, names: &dyn Names) -> Option<u16> {
    match number(text, 0, i64::from(u16::MAX)) {
        Some(port) => u16::try_from(port).ok(),
        None => names.port_of_service(text, protocol?),
    }
}

/// The multicast group of a sync daemon; a text with a colon is read as IPv6. The error is ipvsadm's.
pub fn multicast_group(text: &str) -> Result<Address, String> {
    let (address, family) = if text.contains(':') {
        (text.parse::<Ipv6Addr>().ok().map(Address::from), "IPv6")
    } else {
        (text.parse::<Ipv4Addr>().ok().map(Address::from), "IPv4")
    };
    address.filter(|address| address.is_multicast()).ok_or_else(|| format!("invalid {family} mcast-group `{text}'"))
}

/// The text cut to `octets`, as `strncpy` into a field would, but never inside a character.
pub fn cut(text: &str, octets: usize) -> &str {
    let mut end = text.len().min(octets);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// An endpoint whose port is 0 where none was given.
pub fn with_port((address, port): (Address, Option<u16>)) -> Endpoint {
    Endpoint::new(address, port.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::names::{FileNames, NoNames};

    #[test]
    fn numbers_are_those_of_strtol_without_a_tail() {
        for (text, value) in [("80", 80), ("+80", 80), (" 82", 82), ("00083", 83), ("-0", 0)] {
            assert_eq!(number(text, 0, 65535), Some(value), "{text:?}");
        }
        for text in ["", " ", "+", "-1", "65536", "1x", "1.5", "0x10", "8 ", "99999999999999999999", "٣"] {
            assert_eq!(number(text, 0, 65535), None, "{text:?}");
        }
        for (text, value) in [("24", 24), (" 64/x", 64), ("-3", -3), ("x", 0), ("", 0), ("+", 0)] {
            assert_eq!(leading_number(text), value, "{text:?}");
        }
    }

    #[test]
    fn ipv4_has_the_forms_of_inet_aton() {
        let forms = [
            ("10.9.0.1", "10.9.0.1"),
            ("1", "0.0.0.1"),
            ("10.9", "10.0.0.9"),
            ("10.9.1", "10.9.0.1"),
            ("010.0x10.0.1", "8.16.0.1"),
            ("4294967295", "255.255.255.255"),
            ("10.16777215", "10.255.255.255"),
            ("1.2.3.4 and more", "1.2.3.4"),
        ];
        for (text, address) in forms {
            assert_eq!(inet_aton(text).map(|address| address.to_string()).as_deref(), Some(address), "{text}");
        }
        for text in ["", ".", "1.", "1.2.3.4.5", "256.1.1.1", "10.2.0.256", "10.16777216", "08", "0x", "+1", "1.-2.3.4"] {
            assert_eq!(inet_aton(text), None, "{text}");
        }
    }

    #[test]
    fn endpoints_are_read_as_ipvsadm_reads_them() {
        let names = FileNames::new("http 80/tcp\n", "192.0.2.7 web\n");
        let read = |text: &str| {
            endpoint(text, Some(Protocol::Tcp), &names).map(|(address, port)| (address.to_string(), port))
        };
        let is = |address: &str, port| Some((address.to_owned(), port));
        assert_eq!(read("1.2.3.4:80"), is("1.2.3.4", Some(80)));
        assert_eq!(read("1.2.3.4"), is("1.2.3.4", None));
        assert_eq!(read("web:http"), is("192.0.2.7", Some(80)));
        assert_eq!(read("web"), is("192.0.2.7", None));
        assert_eq!(read("[2001:db8::1]:0"), is("2001:db8::1", Some(0)));
        assert_eq!(read("2001:db8::1"), is("2001:db8::1", None));
        assert_eq!(read("[1.2.3.4]:80"), is("1.2.3.4", None));
        assert_eq!(read("[::ffff:1.2.3.4]:80"), is("::ffff:1.2.3.4", Some(80)));
        for text in ["", "10", ":80", "1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:ftp", "[::1]", "[::1", "[::1]:", "[::1]80"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(endpoint("1.2.3.4:http", None, &names), None, "no protocol, no names of services");
        assert_eq!(endpoint("web:80", Some(Protocol::Tcp), &NoNames), None);
    }

    #[test]
    fn groups_are_multicast_or_refused_in_words() {
        assert_eq!(multicast_group("239.1.1.1").unwrap().to_string(), "239.1.1.1");
        assert_eq!(multicast_group("ff02::81").unwrap().to_string(), "ff02::81");
        assert_eq!(multicast_group("10.1.1.1").unwrap_err(), "invalid IPv4 mcast-group `10.1.1.1'");
        assert_eq!(multicast_group("fe80::1").unwrap_err(), "invalid IPv6 mcast-group `fe80::1'");
    }

    #[test]
    fn cuts_at_characters() {
        assert_eq!(cut("averyverylongname", 15), "averyverylongna");
        assert_eq!(cut("aé", 2), "a");
    }
}
