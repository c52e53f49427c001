//! What becomes of a packet.

use std::fmt;

use crate::base::InterfaceId;

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// It leaves by this interface (as itself, rewritten, or as the ICMP error that answers it).
    Transmit(InterfaceId),
    /// It is the host's: the kernel gets it as if the director were not there.
    Pass,
    /// It waits for more fragments.
    Hold,
    /// It ends here, for a reason that is counted.
    Drop(DropReason),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Transmit(_) => f.write_str("transmit"),
            Verdict::Pass => f.write_str("pass"),
            Verdict::Hold => f.write_str("hold"),
            Verdict::Drop(reason) => write!(f, "drop:{}", reason.name()),
        }
    }
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal;)*) => {
        /// Why a packet was dropped. Each has a counter per worker.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum DropReason { $($(#[doc = $doc])+ $variant),* }

        impl DropReason {
            /// All reasons, in order of their counters.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant),*];

            /// The word for output and counters.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name),* }
            }

            /// One line for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(DropReason::$variant => concat!($($doc),+)),* }
            }
        }
    };
}

drop_reasons! {
    /// The packet's headers are cut short or contradict each other.
    Malformed = "malformed";
    /// The IPv4 header's checksum is wrong.
    HeaderChecksum = "header-checksum";
    /// An ICMP error whose checksum is wrong.
    IcmpChecksum = "icmp-checksum";
    /// The source address is one that no sender may have.
    Martian = "martian";
    /// The connection's real server has been removed from its service.
    ServerRemoved = "server-removed";
    /// The connection table is full.
    TableFull = "table-full";
    /// There is no route to the real server or the client.
    NoRoute = "no-route";
    /// The next hop's link address is not known yet; the kernel has been asked.
    NoNeighbour = "no-neighbour";
    /// The route leads to an interface that the director does not serve.
    OtherInterface = "other-interface";
    /// TTL or hop limit ran out; the sender was told.
    TimeExceeded = "time-exceeded";
    /// Too big for the next hop and not to be fragmented; the sender was told.
    TooBig = "too-big";
    /// The tunnel's path is too narrow for any packet.
    PathTooNarrow = "path-too-narrow";
    /// No real server is available; the client was told.
    NoServer = "no-server";
    /// Refused by the drop_packet defence.
    Defence = "defence";
    /// An ICMP error about a packet of one of our tunnels; the client was told where it can do something about it.
    TunnelError = "tunnel-error";
    /// A packet to a service by a route that its sender chose.
    SourceRoute = "source-route";
    /// A packet of a SIP service that has no Call-ID.
    NoCallId = "no-call-id";
    /// An answer of a real server to nobody; the server was told (nat_icmp_send).
    UnknownAnswer = "unknown-answer";
    /// Full NAT has found no free local port towards the real server.
    NoLocalPort = "no-local-port";
    /// No free frame for an answer or a fragment.
    NoFrame = "no-frame";
    /// Fragments that overlap or do not agree on where their datagram ends: all of it is dropped (RFC 5722).
    FragmentOverlap = "fragment-overlap";
    /// A fragment that came before.
    FragmentDuplicate = "fragment-duplicate";
    /// The rest of the fragments did not come in time.
    FragmentTimeout = "fragment-timeout";
    /// More fragments than may wait; those that waited longest went.
    FragmentsFull = "fragments-full";
    /// A datagram whose fragments make more than a packet can hold, or disagree on congestion (RFC 3168).
    FragmentsMismatch = "fragments-mismatch";
    /// The forwarding method is not supported yet.
    Method = "method";
    /// An answer was not sent because answers are rate-limited.
    RateLimited = "rate-limited";
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_in_order_of_their_counters_and_have_distinct_names() {
        let names: std::collections::BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        for (position, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, position);
        }
    }
}
