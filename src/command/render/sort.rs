//! ipvsadm's order of services and servers.
//!
//! It compares numbers by the sign of their 32-bit difference, which is no consistent order: 200.0.0.9 comes before
//! 1.0.0.9, and what comes out depends on the algorithm. So the algorithm is part of the format: a stable merge sort
//! from the top down.

use crate::base::{Address, Endpoint, Family};
use crate::service::{Protocol, ServiceKey};

/// Sorts as glibc's `qsort` does: halves of n/2 and n - n/2, the left one first when `compare` is not above 0.
pub fn merge_sort<T: Copy>(items: &mut [T], compare: &dyn Fn(T, T) -> i32) {
    if items.len() < 2 {
        return;
    }
    let middle = items.len() / 2;
    merge_sort(&mut items[..middle], compare);
    merge_sort(&mut items[middle..], compare);
    let left = items[..middle].to_vec();
    let (mut from_left, mut from_right) = (0, middle);
    // Places before `from_right` are free again: their items are in `left` or were taken.
    for place in 0..items.len() {
        let take_left = match (left.get(from_left), items.get(from_right)) {
            (Some(&a), Some(&b)) => compare(a, b) <= 0,
            (Some(_), None) => true,
            (None, _) => break,
        };
        if take_left {
            items[place] = left[from_left];
            from_left += 1;
        } else {
            items[place] = items[from_right];
            from_right += 1;
        }
    }
}

/// The sign of the difference as ipvsadm takes it.
fn difference(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

/// The first difference that is not 0.
fn first_difference(pairs: impl IntoIterator<Item = (u32, u32)>) -> i32 {
    pairs.into_iter().map(|(a, b)| difference(a, b)).find(|&difference| difference != 0).unwrap_or(0)
}

/// Services by mark, family (IPv4 first), protocol, address and port.
pub fn compare_services(a: &ServiceKey, b: &ServiceKey) -> i32 {
    let head = |key: &ServiceKey| match *key {
        ServiceKey::Address { protocol, endpoint } => [0, endpoint.address.family() as u32, number(protocol)],
        ServiceKey::Mark { family, mark } => [mark, family as u32, 0],
    };
    let difference = first_difference(head(a).into_iter().zip(head(b)));
    match (a, b) {
        (ServiceKey::Address { endpoint: a, .. }, ServiceKey::Address { endpoint: b, .. }) if difference == 0 => {
            compare_servers(*a, *b)
        }
        _ => difference,
    }
}

fn number(protocol: Protocol) -> u32 {
    protocol.number().into()
}

/// Servers by address and port. Families are not compared: that of the first says how much of the addresses is.
pub fn compare_servers(a: Endpoint, b: Endpoint) -> i32 {
    let compared = if a.address.family() == Family::V4 { 1 } else { 4 };
    let addresses = kernel_words(a.address).into_iter().zip(kernel_words(b.address)).take(compared);
    first_difference(addresses.chain([(a.port.into(), b.port.into())]))
}

/// The kernel's union of both families, in words: an IPv4 address stands in the first.
fn kernel_words(address: Address) -> [u32; 4] {
    match address.family() {
        Family::V4 => [address.low_u32(), 0, 0, 0],
        Family::V6 => address.words(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(endpoints: &[&str]) -> Vec<String> {
        let parse = |text: &&str| {
            let (address, port) = text.rsplit_once(':').unwrap();
            Endpoint::new(address.trim_matches(['[', ']']).parse().unwrap(), port.parse().unwrap())
        };
        let mut items: Vec<Endpoint> = endpoints.iter().map(parse).collect();
        items.reverse(); // newest first
        merge_sort(&mut items, &compare_servers);
        items.iter().map(Endpoint::to_string).collect()
    }

    fn of_ipv4(firsts: &[u32], tail: &str) -> Vec<String> {
        firsts.iter().map(|first| format!("{first}.{tail}:80")).collect()
    }

    /// Recorded from ipvsadm 1.31: orders that no consistent comparison gives.
    #[test]
    fn inconsistent_orders_come_out_as_recorded() {
        let mut added = of_ipv4(&[200, 1, 127, 10, 128], "0.0.9");
        let texts = |added: &[String]| sorted(&added.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(texts(&added), of_ipv4(&[10, 127, 128, 200, 1], "0.0.9"));
        added.extend(of_ipv4(&[200, 1, 128, 127, 10, 60, 190, 250], "0.0.7"));
        let expected = "190.0.0.7 200.0.0.9 250.0.0.7 1.0.0.7 1.0.0.9 10.0.0.7 10.0.0.9 60.0.0.7 127.0.0.7 127.0.0.9 \
                        128.0.0.7 128.0.0.9 200.0.0.7";
        let expected: Vec<String> = expected.split(' ').map(|address| format!("{address}:80")).collect();
        assert_eq!(texts(&added), expected);
    }

    /// Recorded from ipvsadm 1.31.
    #[test]
    fn mixed_families_come_out_as_recorded() {
        let added =
            ["[a000::1]:1", "[2000::1]:1", "10.0.0.1:1", "[7000::1]:1", "200.0.0.1:1", "[fd00::1]:1", "[fd00::1:0:0:1]:1"];
        let expected =
            ["200.0.0.1:1", "[fd00::1]:1", "[fd00::1:0:0:1]:1", "10.0.0.1:1", "[2000::1]:1", "[7000::1]:1", "[a000::1]:1"];
        assert_eq!(sorted(&added), expected);
    }

    #[test]
    fn high_marks_come_before_addresses() {
        let mark = |mark, family| ServiceKey::Mark { family, mark };
        let address = ServiceKey::Address {
            protocol: Protocol::Tcp,
            endpoint: Endpoint::new("10.0.0.1".parse().unwrap(), 80),
        };
        assert!(compare_services(&mark(u32::MAX, Family::V4), &address) < 0);
        assert!(compare_services(&mark(1, Family::V4), &address) > 0);
        assert!(compare_services(&mark(1, Family::V4), &mark(1, Family::V6)) < 0);
        assert_eq!(compare_services(&address, &address), 0);
    }
}
