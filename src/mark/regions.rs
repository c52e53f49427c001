//! Which packets rules can mark, as a superset that is quick to look up: by destination prefix, protocol and port.

use crate::base::Family;
use crate::mark::rule::{Match, PortSide, Rule, Rules, Target, Term};
use crate::service::Protocol;
use crate::service::filter::{MarkedFlows, PortSpans, Prefix};

/// What the rules of a family can give a mark that counts; `counts` tells those.
///
/// As long as every rule sets the whole mark, a rule counts by its value. Rules that change bits of it work together, and
/// then all count.
pub fn regions(rules: &Rules, family: Family, counts: impl Fn(u32) -> bool) -> MarkedFlows {
    let marking = || {
        let all = rules.prerouting.iter().chain(&rules.input);
        all.filter_map(|rule| if let Target::Mark(bits) = rule.target { Some((rule, bits)) } else { None })
    };
    let all_whole = marking().all(|(_, bits)| bits.mask == u32::MAX);
    let mut flows = MarkedFlows::default();
    for (rule, bits) in marking() {
        if !all_whole || counts(bits.value) {
            flows.add(prefix(rule, family), spans(rule));
        }
    }
    flows
}

/// The destinations of a rule, or more.
fn prefix(rule: &Rule, family: Family) -> Prefix {
    let mut prefix = match rule.destination {
        Some(Term { negated: false, value }) => Prefix::new(value.address, value.leading_bits()),
        _ => Prefix::all(family),
    };
    for asked in &rule.matches {
        if let Match::Range { destination: Some(Term { negated: false, value }), .. } = asked {
            let common = (value.first.0 ^ value.last.0).leading_zeros() as u8;
            let bits = if family == Family::V4 { common.saturating_sub(96) } else { common };
            if bits > prefix.bits {
                prefix = Prefix::new(value.first, bits);
            }
        }
    }
    prefix
}

/// The destination ports of a rule, or more.
fn spans(rule: &Rule) -> PortSpans {
    let mut span = (0, u16::MAX);
    let mut narrow = |first: u16, last: u16| span = (span.0.max(first), span.1.min(last));
    for asked in &rule.matches {
        match asked {
            Match::Ports { destination: Some(Term { negated: false, value }), .. } => narrow(value.first, value.last),
            Match::Multiport { side: PortSide::Destination, ports: Term { negated: false, value } } => {
                let first = value.iter().map(|range| range.first).min().unwrap_or(0);
                let last = value.iter().map(|range| range.last).max().unwrap_or(u16::MAX);
                narrow(first, last);
            }
            _ => {}
        }
    }
    let asked = |protocol: Protocol| rule.protocol.is_none_or(|term| (term.value == protocol.number()) != term.negated);
    PortSpans::new(|protocol| asked(protocol).then_some(span))
}
