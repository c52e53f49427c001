//! Addresses whose packets are not for this host (Accept_Mode false: `no_accept`, `vrrp_strict`): a table of nf_tables drops
//! what is addressed to them, but for neighbour solicitations and advertisements. ARP does not come by.
//!
//! ```text
//! table ip lvx_vrrp { set addresses; chain input { hook input; ip daddr @addresses drop } }
//! table ip6 lvx_vrrp { …; icmpv6 type 135-136 accept; ip6 daddr @addresses drop }
//! ```
//!
//! Both tables are ours as long as the socket is open (`NFT_TABLE_F_OWNER`): they go with the process, whatever ends it.
//! Source: `linux/netfilter/nf_tables.h`. Packets of virtual services that workers take never come here.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use crate::base::{Address, Family};
use crate::vrrp::Name;

const TABLE: &str = "lvx_vrrp";
const SET: &str = "addresses";
const CHAIN: &str = "input";

/// `NFNL_SUBSYS_NFTABLES`, the upper octet of a message's type.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = 0;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DELETE_ELEMENT: u16 = 14;
/// `NFT_TABLE_F_OWNER`.
const TABLE_OWNED: u32 = 2;
/// `NLM_F_REQUEST`, `NLM_F_CREATE`.
const REQUEST: u16 = 1;
const CREATE: u16 = 0x400;
/// `NF_INET_LOCAL_IN`.
const HOOK_INPUT: u32 = 1;
/// The registers that verdicts and data go to.
const REGISTER_VERDICT: u32 = 0;
const REGISTER: u32 = 1;
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const ICMPV6: u8 = 58;

/// The addresses that are guarded.
#[derive(Default)]
pub struct Firewall {
    /// Opened, and the tables made, with the first address.
    socket: Option<OwnedFd>,
    /// Who has them guarded.
    guarded: BTreeMap<Address, Vec<Name>>,
}

impl Firewall {
    /// Drops packets to an address from now on.
    ///
    /// # Errors
    /// The kernel's, as without nf_tables.
    pub fn guard(&mut self, instance: &Name, address: Address) -> io::Result<()> {
        let owners = self.guarded.entry(address).or_default();
        if owners.contains(instance) {
            return Ok(());
        }
        owners.push(instance.clone());
        if owners.len() > 1 {
            return Ok(());
        }
        let result = self.open().and_then(|socket| execute(socket, &[element(NEW_ELEMENT, address)]));
        if result.is_err() {
            self.guarded.remove(&address);
        }
        result
    }

    /// Lets packets through again, unless another instance wants none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn release(&mut self, instance: &Name, address: Address) -> io::Result<()> {
        let Some(owners) = self.guarded.get_mut(&address) else { return Ok(()) };
        owners.retain(|owner| owner != instance);
        if !owners.is_empty() {
            return Ok(());
        }
        self.guarded.remove(&address);
        match &self.socket {
            Some(socket) => execute(socket, &[element(DELETE_ELEMENT, address)]),
            None => Ok(()),
        }
    }

    fn open(&mut self) -> io::Result<&OwnedFd> {
        match &mut self.socket {
            Some(socket) => Ok(socket),
            empty => {
                let flags = SocketFlags::CLOEXEC;
                let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
                bind(&socket, &SocketAddrNetlink::new(0, 0))?;
                execute(&socket, &[tables(Family::V4), tables(Family::V6)].concat())?;
                Ok(empty.insert(socket))
            }
        }
    }
}

/// Attributes one after the other, aligned.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn octets(mut self, kind: u16, value: &[u8]) -> Self {
        let length = (4 + value.len()) as u16;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    fn number(self, kind: u16, value: u32) -> Self {
        self.octets(kind, &value.to_be_bytes())
    }

    fn text(self, kind: u16, value: &str) -> Self {
        self.octets(kind, &[value.as_bytes(), &[0]].concat())
    }

    fn nested(self, kind: u16, value: Attributes) -> Self {
        const NESTED: u16 = 0x8000;
        self.octets(kind | NESTED, &value.0)
    }
}

/// A message to be sent: type, flags, family, attributes.
#[derive(Clone)]
struct Message(u16, u16, Family, Vec<u8>);

fn tables(family: Family) -> Vec<Message> {
    let (key_kind, key_octets, at) = match family {
        Family::V4 => (7, 4, 16),
        Family::V6 => (8, 16, 24),
    };
    let message = |kind, attributes: Attributes| Message(kind, CREATE, family, attributes.0);
    let hook = Attributes::default().number(1, HOOK_INPUT).number(2, 0);
    let mut messages = vec![
        message(NEW_TABLE, Attributes::default().text(1, TABLE).number(2, TABLE_OWNED)),
        message(NEW_CHAIN, Attributes::default().text(1, TABLE).text(3, CHAIN).nested(4, hook).text(7, "filter")),
        message(
            NEW_SET,
            Attributes::default()
                .text(1, TABLE)
                .text(2, SET)
                .number(3, 0)
                .number(4, key_kind)
                .number(5, key_octets)
                .number(10, 1),
        ),
    ];
    if family == Family::V6 {
        // meta l4proto 58, the first octet of the message between 135 and 136
        let expressions = [
            expression("meta", Attributes::default().number(1, REGISTER).number(2, 16)),
            expression("cmp", compare(0, ICMPV6)),
            expression("payload", payload(2, 0, 1)),
            expression("cmp", compare(5, 135)),
            expression("cmp", compare(3, 136)),
            verdict(ACCEPT),
        ];
        messages.push(rule(family, expressions));
    }
    let lookup = Attributes::default().text(1, SET).number(2, REGISTER).number(4, 1);
    messages.push(rule(
        family,
        [expression("payload", payload(1, at, key_octets)), expression("lookup", lookup), verdict(DROP)],
    ));
    messages
}

fn rule<const N: usize>(family: Family, expressions: [Attributes; N]) -> Message {
    let list = expressions.into_iter().fold(Attributes::default(), |list, one| list.nested(1, one));
    let attributes = Attributes::default().text(1, TABLE).text(2, CHAIN).nested(4, list);
    // NLM_F_APPEND
    Message(NEW_RULE, CREATE | 0x800, family, attributes.0)
}

fn expression(name: &str, data: Attributes) -> Attributes {
    Attributes::default().text(1, name).nested(2, data)
}

/// Octets of the network header (1) or the transport header (2) into the register.
fn payload(base: u32, offset: u32, octets: u32) -> Attributes {
    Attributes::default().number(1, REGISTER).number(2, base).number(3, offset).number(4, octets)
}

/// Goes on when the register is equal (0), at most (3) or at least (5) this octet.
fn compare(operation: u32, octet: u8) -> Attributes {
    let value = Attributes::default().octets(1, &[octet]);
    Attributes::default().number(1, REGISTER).number(2, operation).nested(3, value)
}

fn verdict(code: u32) -> Attributes {
    let verdict = Attributes::default().number(1, code);
    let data = Attributes::default().nested(2, verdict);
    expression("immediate", Attributes::default().number(1, REGISTER_VERDICT).nested(2, data))
}

fn element(kind: u16, address: Address) -> Message {
    let octets = match address.to_ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let key = Attributes::default().octets(1, &octets);
    let one = Attributes::default().nested(1, key);
    let list = Attributes::default().nested(1, one);
    let attributes = Attributes::default().text(1, TABLE).text(2, SET).nested(3, list);
    Message(kind, if kind == NEW_ELEMENT { CREATE } else { 0 }, address.family(), attributes.0)
}

/// One batch: all of it or nothing.
fn batch(messages: &[Message]) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut add = |kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]| {
        let length = (20 + attributes.len()) as u32;
        octets.extend_from_slice(&length.to_ne_bytes());
        octets.extend_from_slice(&kind.to_ne_bytes());
        octets.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        octets.extend_from_slice(&[0; 8]);
        octets.extend_from_slice(&[family, 0]);
        octets.extend_from_slice(&resource.to_be_bytes());
        octets.extend_from_slice(attributes);
    };
    add(BATCH_BEGIN, 0, 0, SUBSYSTEM, &[]);
    for Message(kind, flags, family, attributes) in messages {
        let family = if *family == Family::V4 { libc::AF_INET } else { libc::AF_INET6 } as u8;
        add(SUBSYSTEM << 8 | kind, *flags, family, 0, attributes);
    }
    add(BATCH_END, 0, 0, SUBSYSTEM, &[]);
    octets
}

/// Sends a batch. The kernel carries it out meanwhile, and what it refuses is there to be read at once.
fn execute(socket: &OwnedFd, messages: &[Message]) -> io::Result<()> {
    send(socket, &batch(messages), SendFlags::empty())?;
    let mut result = Ok(());
    let mut buffer = [0; 8192];
    while let Ok((_, octets)) = recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
        // NLMSG_ERROR, whose first number is the error's, negative.
        let answer = &buffer[..octets.min(buffer.len())];
        if let (Some([2, 0]), Some(Ok(code))) = (answer.get(4..6), answer.get(16..20).map(TryInto::try_into)) {
            let code = i32::from_ne_bytes(code);
            if code != 0 {
                result = Err(io::Error::from_raw_os_error(code.abs()));
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_and_aligned() {
        let octets = batch(&tables(Family::V6));
        let mut at = 0;
        let mut kinds = Vec::new();
        while at < octets.len() {
            let length = u32::from_ne_bytes(octets[at..at + 4].try_into().unwrap()) as usize;
            kinds.push(u16::from_ne_bytes(octets[at + 4..at + 6].try_into().unwrap()));
            assert_eq!(length % 4, 0);
            at += length;
        }
        assert_eq!(at, octets.len());
        let of = |kind| SUBSYSTEM << 8 | kind;
        let expected = [BATCH_BEGIN, of(NEW_TABLE), of(NEW_CHAIN), of(NEW_SET), of(NEW_RULE), of(NEW_RULE), BATCH_END];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn attributes_are_padded() {
        let octets = Attributes::default().text(1, "abcd").number(2, 7).0;
        assert_eq!(octets.len(), 12 + 8);
        assert_eq!(octets[..4], [9u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat());
        assert_eq!(octets[4..12], *b"abcd\0\0\0\0");
    }
}
