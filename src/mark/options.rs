//! The words of one rule to the rule.

use std::net::IpAddr;

use crate::base::{Address, Family};
use crate::mark::protocols;
use crate::mark::rule::{AddressRange, Bits, InterfaceName, Match, Network, PortRange, PortSide, Rule, Target, Term};
use crate::mark::words;

/// Ports that `-m multiport` takes; a range counts as two (`XT_MULTI_PORTS`).
pub(super) const MULTIPORT_MAX: usize = 15;
/// Octets of an interface's name (`IFNAMSIZ` less one).
const INTERFACE_OCTETS_MAX: usize = 15;
/// Octets of a comment (`XT_MAX_COMMENT_LEN` less one).
const COMMENT_OCTETS_MAX: usize = 255;

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// Protocols that `-m multiport` goes with: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [TCP, UDP, 33, SCTP, 136];

/// Reads what follows the chain's name in a rule of a family.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn parse(words: Vec<String>, family: Family) -> Result<Rule, String> {
    let mut draft = Draft { family, rule: Rule::default(), waiting: Vec::new(), target: None, negated: false };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "!" {
            if std::mem::replace(&mut draft.negated, true) {
                return Err("`!' stands twice".into());
            }
            continue;
        }
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        if !draft.knows(option) {
            return Err(format!("`{option}' is not supported"));
        }
        let value = value.or_else(|| words.next()).ok_or_else(|| format!("`{option}' needs a value"))?;
        draft.take(option, &value).map_err(|text| format!("{option} {value}: {text}"))?;
        if draft.negated {
            return Err(format!("`!' does not go with `{option}'"));
        }
    }
    draft.finish()
}

const OPTIONS: [&str; 36] = [
    "-s",
    "--source",
    "--src",
    "-d",
    "--destination",
    "--dst",
    "-i",
    "--in-interface",
    "-p",
    "--protocol",
    "--proto",
    "-m",
    "--match",
    "-j",
    "--jump",
    "--sport",
    "--source-port",
    "--dport",
    "--destination-port",
    "--sports",
    "--source-ports",
    "--dports",
    "--destination-ports",
    "--ports",
    "--port",
    "--mark",
    "--src-range",
    "--dst-range",
    "--comment",
    "--set-mark",
    "--set-xmark",
    "--and-mark",
    "--or-mark",
    "--xor-mark",
    "-g",
    "--goto",
];

/// A rule in the making.
struct Draft {
    family: Family,
    rule: Rule,
    /// Matches loaded by `-m` whose option has not come yet.
    waiting: Vec<&'static str>,
    /// The word after `-j`.
    target: Option<String>,
    /// A `!` that nobody has taken yet.
    negated: bool,
}

impl Draft {
    fn knows(&self, option: &str) -> bool {
        OPTIONS.contains(&option)
    }

    fn take(&mut self, option: &str, value: &str) -> Result<(), String> {
        match option {
            "-s" | "--source" | "--src" => {
                let term = self.network(value)?;
                put(&mut self.rule.source, term)
            }
            "-d" | "--destination" | "--dst" => {
                let term = self.network(value)?;
                put(&mut self.rule.destination, term)
            }
            "-i" | "--in-interface" => self.interface(value),
            "-p" | "--protocol" | "--proto" => self.protocol(value),
            "-m" | "--match" => self.load(value),
            "-j" | "--jump" => self.jump(value),
            "-g" | "--goto" => Err("chains of one's own are not supported".into()),
            "--sport" | "--source-port" => self.port(value, PortSide::Source),
            "--dport" | "--destination-port" => self.port(value, PortSide::Destination),
            "--sports" | "--source-ports" => self.multiport(value, PortSide::Source),
            "--dports" | "--destination-ports" => self.multiport(value, PortSide::Destination),
            "--ports" | "--port" => self.multiport(value, PortSide::Either),
            "--mark" => self.mark(value),
            "--src-range" => self.range(value, PortSide::Source),
            "--dst-range" => self.range(value, PortSide::Destination),
            "--comment" => self.comment(value),
            _ => self.set_mark(option, value),
        }
    }

    fn term<T>(&mut self, value: T) -> Term<T> {
        Term { negated: std::mem::take(&mut self.negated), value }
    }

    fn address(&self, text: &str) -> Result<Address, String> {
        let address: IpAddr = text.parse().map_err(|_| format!("`{text}' is no address"))?;
        match (address, self.family) {
            (IpAddr::V4(v4), Family::V4) => Ok(v4.into()),
            (IpAddr::V6(v6), Family::V6) => Ok(v6.into()),
            _ => Err("the address is of the other family".into()),
        }
    }

    /// `None` for every address.
    fn network(&mut self, text: &str) -> Result<Option<Term<Network>>, String> {
        if text.contains(',') {
            return Err("one address a rule, as iptables-save prints them".into());
        }
        let (address, mask) = text.split_once('/').map_or((text, None), |(address, mask)| (address, Some(mask)));
        let address = self.address(address)?;
        let width: u32 = if self.family == Family::V4 { 32 } else { 128 };
        let full = u128::MAX >> (128 - width);
        let mask = match mask {
            None => full,
            Some(mask) => match mask.parse::<u32>() {
                Ok(bits) if bits <= width => full & full.checked_shl(width - bits).unwrap_or(0),
                _ => self.address(mask).map_err(|_| format!("`{mask}' is no mask"))?.0 & full,
            },
        };
        let term = self.term(Network::new(address, mask));
        Ok((term.negated || mask != 0).then_some(term))
    }

    fn interface(&mut self, name: &str) -> Result<(), String> {
        if name.is_empty() || name.len() > INTERFACE_OCTETS_MAX {
            return Err(format!("a name has 1 to {INTERFACE_OCTETS_MAX} octets"));
        }
        let term = self.term(InterfaceName(name.to_owned()));
        match (name, term.negated) {
            ("+", true) => Err("this matches no interface".into()),
            ("+", false) => put(&mut self.rule.interface, None),
            _ => put(&mut self.rule.interface, Some(term)),
        }
    }

    fn protocol(&mut self, text: &str) -> Result<(), String> {
        let number = match text {
            "all" => Some(0),
            _ => protocols::number(text).or_else(|| words::number(text).and_then(|number| u8::try_from(number).ok())),
        };
        let term = self.term(number.ok_or("unknown protocol")?);
        match (term.value, term.negated) {
            (0, true) => Err("this matches no protocol".into()),
            (0, false) => put(&mut self.rule.protocol, None),
            _ => put(&mut self.rule.protocol, Some(term)),
        }
    }

    /// The protocol that the rule asks for, if it asks for one.
    fn asked_protocol(&self) -> Option<u8> {
        self.rule.protocol.filter(|term| !term.negated).map(|term| term.value)
    }

    fn load(&mut self, name: &str) -> Result<(), String> {
        let known = ["multiport", "mark", "iprange", "comment"];
        match name {
            "tcp" => self.load_ports(TCP),
            "udp" => self.load_ports(UDP),
            "sctp" => self.load_ports(SCTP),
            _ => match known.into_iter().find(|known| *known == name) {
                Some(known) => {
                    self.waiting.push(known);
                    Ok(())
                }
                None => Err("this match is not supported".into()),
            },
        }
    }

    fn load_ports(&mut self, protocol: u8) -> Result<(), String> {
        self.rule.matches.push(Match::Ports { protocol, source: None, destination: None });
        Ok(())
    }

    /// A match loaded before gets its option.
    fn wanted(&mut self, name: &str) -> Result<(), String> {
        let position = self.waiting.iter().position(|waiting| *waiting == name);
        self.waiting.remove(position.ok_or_else(|| format!("there is no `-m {name}' for it"))?);
        Ok(())
    }

    fn port(&mut self, text: &str, side: PortSide) -> Result<(), String> {
        let range = port_range(text, true)?;
        let term = self.term(range);
        let is_loaded = self.rule.matches.iter().any(|known| matches!(known, Match::Ports { .. }));
        if !is_loaded {
            // As iptables does, the protocol brings its match along.
            match self.asked_protocol() {
                Some(protocol @ (TCP | UDP | SCTP)) => self.load_ports(protocol)?,
                _ => return Err("needs `-p tcp', `-p udp' or `-p sctp' before it".into()),
            }
        }
        let last = self.rule.matches.iter_mut().rev().find_map(|known| match known {
            Match::Ports { source, destination, .. } => Some((source, destination)),
            _ => None,
        });
        let (source, destination) = last.ok_or("needs `-m tcp', `-m udp' or `-m sctp'")?;
        let place = if side == PortSide::Source { source } else { destination };
        let is_every_port = (range.first, range.last) == (0, u16::MAX) && !term.negated;
        put(place, (!is_every_port).then_some(term))
    }

    fn multiport(&mut self, text: &str, side: PortSide) -> Result<(), String> {
        self.wanted("multiport")?;
        let ranges: Vec<PortRange> = text.split(',').map(|item| port_range(item, false)).collect::<Result<_, _>>()?;
        let numbers = text.split(',').flat_map(|item| item.split(':')).count();
        if numbers > MULTIPORT_MAX {
            return Err(format!("more than {MULTIPORT_MAX} ports, of which a range counts as two"));
        }
        let ports = self.term(ranges);
        self.rule.matches.push(Match::Multiport { side, ports });
        Ok(())
    }

    fn mark(&mut self, text: &str) -> Result<(), String> {
        self.wanted("mark")?;
        let (value, mask) = bits(text)?;
        let term = self.term(Bits { value, mask: mask.unwrap_or(u32::MAX) });
        self.rule.matches.push(Match::Mark(term));
        Ok(())
    }

    fn range(&mut self, text: &str, side: PortSide) -> Result<(), String> {
        if self.waiting.contains(&"iprange") {
            self.wanted("iprange")?;
            self.rule.matches.push(Match::Range { source: None, destination: None });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = AddressRange { first: self.address(first)?, last: self.address(last)? };
        if range.first > range.last {
            return Err("the first address is above the last".into());
        }
        let term = self.term(range);
        let Some(Match::Range { source, destination }) = self.rule.matches.last_mut() else {
            return Err("there is no `-m iprange' for it".into());
        };
        put(if side == PortSide::Source { source } else { destination }, Some(term))
    }

    fn comment(&mut self, text: &str) -> Result<(), String> {
        self.wanted("comment")?;
        if text.len() > COMMENT_OCTETS_MAX {
            return Err(format!("a comment has at most {COMMENT_OCTETS_MAX} octets"));
        }
        self.rule.matches.push(Match::Comment(text.to_owned()));
        Ok(())
    }

    fn jump(&mut self, name: &str) -> Result<(), String> {
        if self.target.replace(name.to_owned()).is_some() {
            return Err("a rule has one target".into());
        }
        match name {
            "MARK" => Ok(()),
            "ACCEPT" => {
                self.rule.target = Target::Accept;
                Ok(())
            }
            "RETURN" => {
                self.rule.target = Target::Return;
                Ok(())
            }
            name if name.bytes().all(|octet| octet.is_ascii_uppercase()) => {
                Err("this target is not supported: only MARK, ACCEPT and RETURN are".into())
            }
            _ => Err("chains of one's own are not supported".into()),
        }
    }

    fn set_mark(&mut self, option: &str, text: &str) -> Result<(), String> {
        if self.target.as_deref() != Some("MARK") {
            return Err("needs `-j MARK' before it".into());
        }
        if self.rule.target != Target::None {
            return Err("a mark is set once a rule".into());
        }
        let (value, mask) = bits(text)?;
        let bits = match (option, mask) {
            ("--set-xmark", mask) => Bits { value, mask: mask.unwrap_or(u32::MAX) },
            ("--set-mark", None) => Bits { value, mask: u32::MAX },
            ("--set-mark", Some(mask)) => Bits { value, mask: mask | value },
            (_, Some(_)) => return Err("takes no mask".into()),
            ("--and-mark", None) => Bits { value: 0, mask: !value },
            ("--or-mark", None) => Bits { value, mask: value },
            (_, None) => Bits { value, mask: 0 },
        };
        self.rule.target = Target::Mark(bits);
        Ok(())
    }

    fn finish(self) -> Result<Rule, String> {
        if self.negated {
            return Err("`!' stands before nothing".into());
        }
        if let Some(name) = self.waiting.first() {
            return Err(format!("-m {name}: its option is missing"));
        }
        if self.target.as_deref() == Some("MARK") && self.rule.target == Target::None {
            return Err("-j MARK: its option is missing".into());
        }
        let asked = self.asked_protocol();
        for known in &self.rule.matches {
            match known {
                Match::Ports { protocol, .. } if asked != Some(*protocol) => {
                    let name = protocols::name(*protocol).unwrap_or_default();
                    return Err(format!("-m {name}: needs `-p {name}'"));
                }
                Match::Multiport { .. } if !asked.is_some_and(|number| WITH_PORTS.contains(&number)) => {
                    return Err("-m multiport: needs a protocol with ports, by `-p'".into());
                }
                _ => {}
            }
        }
        Ok(self.rule)
    }
}

/// Puts an option's value where none is yet.
fn put<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), String> {
    if place.is_some() {
        return Err("the option stands twice".into());
    }
    *place = value;
    Ok(())
}

/// `80` or `80:90`; where a side `may_be_open`, also `:90` and `80:`.
fn port_range(text: &str, may_be_open: bool) -> Result<PortRange, String> {
    let port = |text: &str, open: u16| match text {
        "" if may_be_open => Ok(open),
        _ => words::port(text).ok_or_else(|| format!("`{text}' is no port number")),
    };
    let range = match text.split_once(':') {
        Some((first, last)) => PortRange { first: port(first, 0)?, last: port(last, u16::MAX)? },
        None => {
            let port = words::port(text).ok_or_else(|| format!("`{text}' is no port number"))?;
            PortRange { first: port, last: port }
        }
    };
    if range.first > range.last { Err("the first port is above the last".into()) } else { Ok(range) }
}

/// `VALUE` or `VALUE/MASK`.
fn bits(text: &str) -> Result<(u32, Option<u32>), String> {
    let number = |text: &str| words::number(text).ok_or_else(|| format!("`{text}' is no number of 32 bits"));
    match text.split_once('/') {
        Some((value, mask)) => Ok((number(value)?, Some(number(mask)?))),
        None => Ok((number(text)?, None)),
    }
}
