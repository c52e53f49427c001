//! Synchronised connections whose real server this director does not have: packets go to the server's address all the
//! same, as in the kernel.
//!
//! **Deviation**: not through a tunnel, whose type the server's configuration would tell; such packets are dropped. And
//! answers of a masqueraded server that is not configured reach a worker only where something else steers them there.

use crate::base::{Address, Frame};
use crate::forward::egress::Path;
use crate::forward::parse::Packet;
use crate::forward::pipeline::Forwarder;
use crate::forward::verdict::Verdict;
use crate::port::Port;
use crate::service::DestinationId;

impl Forwarder {
    /// The way to a real server by its address alone.
    #[cold]
    pub(super) fn unbound_path(&self, server: Address) -> Path {
        self.find_path(server, DestinationId::NONE)
    }

    /// Sends a packet to a real server by its address alone, the packet unchanged.
    #[cold]
    pub(super) fn forward_unbound<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        packet: &Packet,
        server: Address,
    ) -> Verdict {
        match self.unbound_path(server) {
            Path::Next(next) if packet.ttl > 1 => self.route_directly(port, frame, packet, &next),
            path => self.stay(port, frame, packet, None, path),
        }
    }
}
