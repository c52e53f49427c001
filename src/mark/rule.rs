//! A rule: what it asks of a packet and what it then does.

use crate::base::{Address, Family};
use crate::mark::Facts;

/// The chains that packets pass on their way to IPVS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chain {
    /// All packets received.
    Prerouting,
    /// Packets for the host.
    Input,
}

impl Chain {
    /// The chain of this name.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "PREROUTING" => Some(Chain::Prerouting),
            "INPUT" => Some(Chain::Input),
            _ => None,
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Chain::Prerouting => "PREROUTING",
            Chain::Input => "INPUT",
        }
    }
}

/// The rules of one family, each chain in order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rules {
    /// Of `PREROUTING`.
    pub prerouting: Vec<Rule>,
    /// Of `INPUT`.
    pub input: Vec<Rule>,
}

impl Rules {
    /// True when nothing is ever marked.
    pub fn is_empty(&self) -> bool {
        self.prerouting.is_empty() && self.input.is_empty()
    }

    /// Rules of both chains.
    pub fn len(&self) -> usize {
        self.prerouting.len() + self.input.len()
    }

    /// The rules of a chain.
    pub(super) fn chain_mut(&mut self, chain: Chain) -> &mut Vec<Rule> {
        match chain {
            Chain::Prerouting => &mut self.prerouting,
            Chain::Input => &mut self.input,
        }
    }
}

/// Something asked of a packet, or its opposite (`!`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Term<T> {
    /// True when the packet must not be so.
    pub negated: bool,
    /// What is asked.
    pub value: T,
}

impl<T> Term<T> {
    fn holds(&self, is: impl FnOnce(&T) -> bool) -> bool {
        is(&self.value) != self.negated
    }
}

/// Addresses that agree with one in the bits of a mask, which need not be contiguous.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// The address, zero outside the mask.
    pub address: Address,
    /// The mask in host order; that of IPv4 in the low 32 bits.
    pub mask: u128,
}

impl Network {
    /// The addresses of `address`'s family that agree with it in `mask`.
    pub fn new(address: Address, mask: u128) -> Self {
        let address = match address.family() {
            Family::V4 => Address::v4(address.low_u32() & mask as u32),
            Family::V6 => Address::v6(address.0 & mask),
        };
        Self { address, mask }
    }

    fn has(&self, address: Address) -> bool {
        (address.0 ^ self.address.0) & self.mask == 0
    }

    /// How many leading bits of the mask are set.
    pub fn leading_bits(&self) -> u8 {
        match self.address.family() {
            Family::V4 => (self.mask as u32).leading_ones() as u8,
            Family::V6 => self.mask.leading_ones() as u8,
        }
    }

    /// True when the mask is a prefix.
    pub fn is_prefix(&self) -> bool {
        self.mask.count_ones() == u32::from(self.leading_bits())
    }
}

/// An interface name; with `+` at its end, all names that begin so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InterfaceName(pub String);

impl InterfaceName {
    fn has(&self, name: &str) -> bool {
        match self.0.strip_suffix('+') {
            Some(beginning) => name.starts_with(beginning),
            None => self.0 == name,
        }
    }
}

/// Ports from the first to the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    /// First.
    pub first: u16,
    /// Last, not below the first.
    pub last: u16,
}

impl PortRange {
    fn has(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// Addresses from the first to the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressRange {
    /// First.
    pub first: Address,
    /// Last, not below the first.
    pub last: Address,
}

impl AddressRange {
    fn has(&self, address: Address) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

/// Bits with a mask: of a mark that is asked for, or of one that is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bits {
    /// The bits.
    pub value: u32,
    /// Which of them count; of a mark that is set, those that are cleared before `value` is put in by exclusive or.
    pub mask: u32,
}

/// Which ports `-m multiport` means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortSide {
    /// `--sports`
    Source,
    /// `--dports`
    Destination,
    /// `--ports`: either.
    Either,
}

/// A match extension and its options.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Match {
    /// `-m tcp`, `-m udp`, `-m sctp`: `--sport`, `--dport`.
    Ports {
        /// IP protocol number, which the rule asks for too.
        protocol: u8,
        /// Source port.
        source: Option<Term<PortRange>>,
        /// Destination port.
        destination: Option<Term<PortRange>>,
    },
    /// `-m multiport`
    Multiport {
        /// Which port.
        side: PortSide,
        /// One of them; at most 15 numbers, a range being two.
        ports: Term<Vec<PortRange>>,
    },
    /// `-m mark`
    Mark(Term<Bits>),
    /// `-m iprange`
    Range {
        /// `--src-range`
        source: Option<Term<AddressRange>>,
        /// `--dst-range`
        destination: Option<Term<AddressRange>>,
    },
    /// `-m comment`: always true.
    Comment(String),
}

impl Match {
    fn holds(&self, facts: &Facts<'_>, mark: u32) -> bool {
        let (source, destination) = (facts.source, facts.destination);
        match self {
            Match::Ports { source: from, destination: to, .. } => {
                from.is_none_or(|term| term.holds(|range| range.has(source.port)))
                    && to.is_none_or(|term| term.holds(|range| range.has(destination.port)))
            }
            Match::Multiport { side, ports } => ports.holds(|ranges| {
                let listed = |port| ranges.iter().any(|range| range.has(port));
                match side {
                    PortSide::Source => listed(source.port),
                    PortSide::Destination => listed(destination.port),
                    PortSide::Either => listed(source.port) || listed(destination.port),
                }
            }),
            Match::Mark(term) => term.holds(|bits| mark & bits.mask == bits.value),
            Match::Range { source: from, destination: to } => {
                from.is_none_or(|term| term.holds(|range| range.has(source.address)))
                    && to.is_none_or(|term| term.holds(|range| range.has(destination.address)))
            }
            Match::Comment(_) => true,
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Target {
    /// Nothing: it has no `-j`.
    #[default]
    None,
    /// `-j MARK --set-xmark VALUE/MASK`; the walk goes on.
    Mark(Bits),
    /// `-j ACCEPT`: the chain ends.
    Accept,
    /// `-j RETURN`: the chain ends, by its policy, which is to accept.
    Return,
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Rule {
    /// `-s`
    pub source: Option<Term<Network>>,
    /// `-d`
    pub destination: Option<Term<Network>>,
    /// `-i`
    pub interface: Option<Term<InterfaceName>>,
    /// `-p`: an IP protocol number.
    pub protocol: Option<Term<u8>>,
    /// The match extensions, in order.
    pub matches: Vec<Match>,
    /// `-j`
    pub target: Target,
}

impl Rule {
    /// Whether a packet whose mark is `mark` is what the rule asks for.
    fn holds(&self, facts: &Facts<'_>, mark: u32) -> bool {
        let protocol = facts.protocol.number();
        self.destination.is_none_or(|term| term.holds(|network| network.has(facts.destination.address)))
            && self.protocol.is_none_or(|term| term.holds(|number| *number == protocol))
            && self.source.is_none_or(|term| term.holds(|network| network.has(facts.source.address)))
            && self.interface.as_ref().is_none_or(|term| term.holds(|name| name.has(facts.interface)))
            && self.matches.iter().all(|asked| asked.holds(facts, mark))
    }
}

/// Takes a packet with `mark` through a chain; its mark at the end. `told` gets each rule that
/// the packet meets.
#[inline]
pub(super) fn walk(chain: &[Rule], facts: &Facts<'_>, mut mark: u32, mut told: impl FnMut(&Rule)) -> u32 {
    for rule in chain.iter().filter(|rule| rule.target != Target::None) {
        if !rule.holds(facts, mark) {
            continue;
        }
        told(rule);
        match rule.target {
            Target::Mark(bits) => mark = mark & !bits.mask ^ bits.value,
            Target::Accept | Target::Return => break,
            Target::None => {}
        }
    }
    mark
}
