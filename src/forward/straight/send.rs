//! The last stage of the straight way: the packet changed as its method asks, and out.

use crate::base::{Endpoint, Family, Frame, InterfaceId};
use crate::forward::egress::write_link;
use crate::forward::nat;
use crate::forward::parse::ETHERNET_OCTETS;
use crate::forward::pipeline::Forwarder;
use crate::forward::straight::read::{self, NETWORK, TRANSPORT_V4, TRANSPORT_V6};
use crate::forward::straight::{Course, Straight};
use crate::forward::tunnel::Cutting;
use crate::forward::verdict::Verdict;
use crate::port::Port;
use crate::service::{Method, Protocol};
use crate::wire::checksum::{self, Update};
use crate::wire::udp;

/// Offsets of IPv4 fields in a frame.
const FLAGS_V4: usize = NETWORK + 6;
const TTL_V4: usize = NETWORK + 8;
const CHECKSUM_V4: usize = NETWORK + 10;
const SOURCE_V4: usize = NETWORK + 12;
/// Offsets of IPv6 fields.
const TTL_V6: usize = NETWORK + 7;
const SOURCE_V6: usize = NETWORK + 8;

const DONT_FRAGMENT: u8 = 0x40;

/// Octets of a frame up to and with UDP's checksum and TCP's: the shortest that was read has the former.
const REWRITTEN_V4: usize = TRANSPORT_V4 + udp::HEADER_OCTETS;
const REWRITTEN_V6: usize = TRANSPORT_V6 + udp::HEADER_OCTETS;

/// Where a frame goes.
#[derive(Clone, Copy)]
struct Leaving {
    interface: InterfaceId,
    /// The neighbour's and the station's link address.
    link: [u8; 12],
}

impl Forwarder {
    /// Rewrites and sends a packet that was followed. Gives the frame back, as it came, when that needs care after all.
    #[inline(always)]
    pub(in crate::forward) fn send_straight<P: Port>(
        &mut self,
        port: &mut P,
        frame: Frame,
        one: &Straight,
    ) -> Result<Verdict, Frame> {
        let leaving = match one.course {
            Course::Outbound => {
                self.lanes.exit(one.exit).map(|exit| Leaving { interface: exit.interface, link: exit.link })
            }
            _ => {
                let lane = self.lanes.get(self.counters(), one.destination);
                lane.map(|lane| Leaving { interface: lane.interface, link: lane.link })
            }
        };
        let Some(leaving) = leaving else { return Err(frame) };
        if one.method == Method::Tunnelling {
            return self.send_through_tunnel(port, frame, one, leaving);
        }
        let bytes = port.bytes_mut(&frame);
        match one.method {
            Method::Masquerading => masquerade(bytes, one),
            _ => nat::lower_ttl(&mut bytes[NETWORK..], one.family),
        }
        write_link(bytes, one.family, &leaving.link);
        port.transmit(frame, leaving.interface);
        Ok(Verdict::Transmit(leaving.interface))
    }

    /// On its own: what it needs of registers would burden the other methods.
    #[inline(always)]
    fn send_through_tunnel<P: Port>(
        &mut self,
        port: &mut P,
        mut frame: Frame,
        one: &Straight,
        leaving: Leaving,
    ) -> Result<Verdict, Frame> {
        let Some(outer) = self.outers.get(one.destination.0 as usize) else { return Err(frame) };
        let octets = usize::from(outer.plain_octets());
        if !port.push_front(&mut frame, octets) {
            return Err(frame);
        }
        self.identification = self.identification.wrapping_add(1);
        // The frame ends with the packet, whatever padding the link gave it.
        port.resize(&mut frame, ETHERNET_OCTETS + octets + usize::from(one.length));
        let bytes = port.bytes_mut(&frame);
        let inner = &mut bytes[octets..];
        nat::lower_ttl(&mut inner[NETWORK..], one.family);
        let (source, destination) = read::endpoints(inner, one);
        let is_v4 = one.family == Family::V4;
        let dont_fragment = is_v4 && self.road.discovers_mtu && inner[FLAGS_V4] & DONT_FRAGMENT != 0;
        let cutting = Cutting { dont_fragment, identification: self.identification };
        outer.emit(bytes, &outer.plain_inner(one.family, one.protocol, source, destination), cutting);
        write_link(bytes, outer.family(), &leaving.link);
        port.transmit(frame, leaving.interface);
        Ok(Verdict::Transmit(leaving.interface))
    }
}

/// Lowers the TTL and puts the new destination (of a client's packet) or source (of a real server's) in place. The header's
/// checksum is mended once for both: [`nat::lower_ttl`] and [`nat::rewrite`] one after the other took 4 % more
/// instructions a packet.
#[inline(always)]
fn masquerade(bytes: &mut [u8], one: &Straight) {
    let is_answer = one.course == Course::Outbound;
    match one.family {
        Family::V4 => masquerade_v4(bytes, one, is_answer),
        Family::V6 => masquerade_v6(bytes, one, is_answer),
    }
}

#[inline(always)]
fn masquerade_v4(bytes: &mut [u8], one: &Straight, is_answer: bool) {
    let new = one.new_endpoint();
    let (address_at, port_at, old, old_port) = match is_answer {
        true => (SOURCE_V4, TRANSPORT_V4, (one.addresses >> 32) as u32, (one.ports >> 16) as u16),
        false => (SOURCE_V4 + 4, TRANSPORT_V4 + 2, one.addresses as u32, one.ports as u16),
    };
    let address = new.address.low_u32();
    if let Some(header) = bytes.first_chunk_mut::<REWRITTEN_V4>() {
        header[TTL_V4] -= 1;
        let sum = u16::from_be_bytes([header[CHECKSUM_V4], header[CHECKSUM_V4 + 1]]);
        let sum = Update::new(sum).remove_u16(0x0100).remove_u32(old).add_u32(address).finish();
        [header[CHECKSUM_V4], header[CHECKSUM_V4 + 1]] = sum.to_be_bytes();
        header[address_at..address_at + 4].copy_from_slice(&address.to_be_bytes());
        header[port_at..port_at + 2].copy_from_slice(&new.port.to_be_bytes());
    }
    update_transport(bytes, one, TRANSPORT_V4, |update| {
        update.remove_u32(old).add_u32(address).remove_u16(old_port).add_u16(new.port)
    });
}

#[inline(always)]
fn masquerade_v6(bytes: &mut [u8], one: &Straight, is_answer: bool) {
    let Endpoint { address, port } = one.new_endpoint();
    let (source, destination) = read::endpoints(bytes, one);
    let (address_at, port_at, old) = match is_answer {
        true => (SOURCE_V6, TRANSPORT_V6, source),
        false => (SOURCE_V6 + 16, TRANSPORT_V6 + 2, destination),
    };
    if let Some(header) = bytes.first_chunk_mut::<REWRITTEN_V6>() {
        header[TTL_V6] -= 1;
        header[address_at..address_at + 16].copy_from_slice(&address.0.to_be_bytes());
        header[port_at..port_at + 2].copy_from_slice(&port.to_be_bytes());
    }
    update_transport(bytes, one, TRANSPORT_V6, |update| {
        let words = old.address.words().iter().fold(update, |update, &word| update.remove_u32(word));
        let words = address.words().iter().fold(words, |update, &word| update.add_u32(word));
        words.remove_u16(old.port).add_u16(port)
    });
}

/// Mends the transport checksum.
#[inline(always)]
fn update_transport(bytes: &mut [u8], one: &Straight, transport: usize, change: impl FnOnce(Update) -> Update) {
    let at = transport + nat::checksum_offset(one.protocol);
    if let Some(field) = bytes.get_mut(at..at + 2) {
        let sum = change(Update::new(u16::from_be_bytes([field[0], field[1]]))).finish();
        let sum = if one.protocol == Protocol::Udp { checksum::not_zero(sum) } else { sum };
        field.copy_from_slice(&sum.to_be_bytes());
    }
}
