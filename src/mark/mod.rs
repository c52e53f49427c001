//! Firewall marks without netfilter: the rules that mark packets, read from what `iptables-save` prints.
//!
//! A service by mark (`-f`) takes the packets that rules of the table `mangle` mark. The packets of a director in user
//! space never meet netfilter, so the same rules are read as text ([`parse`]), kept ([`Marks`]) and applied to a
//! packet that needs a service ([`Marks::of`]); [`regions`] says which packets they can concern.
//!
//! The chains that IPVS' packets have passed are honoured: `PREROUTING`, and `INPUT`, whose hook comes before IPVS' at
//! `LOCAL_IN` (`include/uapi/linux/netfilter_ipv4.h`: -150 before 98). `FORWARD`, `OUTPUT` and `POSTROUTING` do not
//! matter.
//!
//! **Invariants**
//! - What is read is honoured or refused; a text is taken whole or not at all.
//! - Nothing here knows which services or connections there are.
//!
//! **Deviation**: the tables `nat`, `raw`, `filter` and `security` are not looked at, nor are policy rules (`ip rule`).
//!
//! Source: iptables 1.8.9 (`iptables-save(8)`, `iptables-extensions(8)`); `net/netfilter/xt_mark.c`, `xt_tcpudp.c`,
//! `xt_multiport.c`, `xt_iprange.c`, Linux 6.1.

mod options;
mod protocols;
pub mod regions;
pub mod rule;
pub mod text;
mod words;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::base::{Endpoint, Family};
use crate::service::Protocol;

pub use rule::{Chain, Rule, Rules};
pub use text::{MarkError, Table, parse};

/// Rules of one family, of both chains together.
pub const RULES_MAX: usize = 4096;
/// Octets of a text with rules.
pub const TEXT_OCTETS_MAX: usize = 1 << 20;

/// What rules can ask of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Name of the interface that received it.
    pub interface: &'a str,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Source address and port.
    pub source: Endpoint,
    /// Destination address and port.
    pub destination: Endpoint,
    /// True when the destination is an address of the host.
    pub is_local: bool,
}

/// The rules of both families.
#[derive(Clone, Default, Debug)]
pub struct Marks {
    v4: Arc<Rules>,
    v6: Arc<Rules>,
}

impl Marks {
    /// The rules of a family.
    pub fn rules(&self, family: Family) -> &Rules {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// These rules with those of `tables` in place of the ones of their families.
    #[must_use]
    pub fn with(&self, tables: Vec<Table>) -> Self {
        let mut marks = self.clone();
        for table in tables {
            let rules = Arc::new(table.rules);
            match table.family {
                Family::V4 => marks.v4 = rules,
                Family::V6 => marks.v6 = rules,
            }
        }
        marks
    }

    /// The mark that a packet has when it comes to IPVS; 0 for none. The cost is that of a walk over the family's
    /// rules.
    ///
    /// **Deviation**: a packet whose destination is not the host's reaches IPVS in the kernel when a policy rule for
    /// its mark makes it local. Here it needs no such rule: a mark from `PREROUTING` is enough.
    #[inline]
    pub fn of(&self, facts: &Facts<'_>) -> u32 {
        self.walk(facts, |_, _| {})
    }

    /// The same, with the rules that decided it, in iptables-save's words.
    pub fn explain(&self, facts: &Facts<'_>) -> (u32, Vec<String>) {
        let mut met = Vec::new();
        let mark = self.walk(facts, |chain, rule| met.push(format!("-A {}{rule}", chain.name())));
        (mark, met)
    }

    #[inline]
    fn walk(&self, facts: &Facts<'_>, mut told: impl FnMut(Chain, &Rule)) -> u32 {
        let rules = self.rules(facts.source.address.family());
        let mark = rule::walk(&rules.prerouting, facts, 0, |rule| told(Chain::Prerouting, rule));
        if mark == 0 && !facts.is_local {
            return 0;
        }
        rule::walk(&rules.input, facts, mark, |rule| told(Chain::Input, rule))
    }
}
