//! What the benchmark sends: cases, endpoints, frames.

#![allow(dead_code)] // Each benchmark uses a part.

use lvx::base::{Address, Endpoint};
use lvx::service::{Method, Protocol, Tunnel, TunnelChecksum};
use lvx::wire::checksum;

/// Real servers of a service, unless there are many services.
pub const SERVERS: u32 = 100;

/// What arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// Segments or datagrams of known clients, in random order.
    Known,
    /// The same, every other packet an answer of its real server.
    BothWays,
    /// The answers of those real servers alone.
    Answers,
    /// SYNs of clients never seen before, and there is room for each.
    New,
    /// SYNs of clients never seen before that never come back; the table is full of such.
    Flood,
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub traffic: Traffic,
    pub protocol: Protocol,
    pub method: Method,
    pub tunnel: Tunnel,
    pub v6: bool,
    pub scheduler: &'static str,
    pub services: u32,
}

const DR: Case = Case {
    name: "dr-tcp4",
    traffic: Traffic::Known,
    protocol: Protocol::Tcp,
    method: Method::DirectRouting,
    tunnel: Tunnel::Ipip,
    v6: false,
    scheduler: "wlc",
    services: 1,
};

/// All cases, in the order in which they run.
pub const CASES: &[Case] = &[
    DR,
    Case { name: "ipip-tcp4", method: Method::Tunnelling, ..DR },
    Case { name: "gre-tcp4", method: Method::Tunnelling, tunnel: Tunnel::Gre { checksum: false }, ..DR },
    Case {
        name: "gue-tcp4",
        method: Method::Tunnelling,
        tunnel: Tunnel::Gue { port: 6080, checksum: TunnelChecksum::None },
        ..DR
    },
    Case { name: "nat-tcp4", traffic: Traffic::BothWays, method: Method::Masquerading, ..DR },
    Case { name: "dr-udp4", protocol: Protocol::Udp, ..DR },
    Case { name: "dr-tcp6", v6: true, ..DR },
    Case { name: "nat-tcp6", traffic: Traffic::BothWays, method: Method::Masquerading, v6: true, ..DR },
    Case { name: "dr-tcp4-10k-services", services: 10_000, ..DR },
    Case { name: "new-wlc-tcp4", traffic: Traffic::New, ..DR },
    Case { name: "new-mh-tcp4", traffic: Traffic::New, scheduler: "mh", ..DR },
    Case { name: "synflood-full", traffic: Traffic::Flood, ..DR },
];

impl Case {
    /// The case of this name.
    pub fn by_name(name: &str) -> Option<Case> {
        CASES.iter().find(|case| case.name == name).copied()
    }

    /// True when connections are there before the measurement.
    pub fn is_known(&self) -> bool {
        matches!(self.traffic, Traffic::Known | Traffic::BothWays | Traffic::Answers)
    }

    /// Address and port of a virtual service.
    pub fn vip(&self, service: u32) -> Endpoint {
        let address = match self.v6 {
            true => Address::v6(0xfd00_0009 << 96 | u128::from(service + 1)),
            false => Address::v4(0x0a09_0001 + service),
        };
        Endpoint::new(address, 80)
    }

    /// The client of a flow: sixteen flows an address.
    pub fn client(&self, flow: u32) -> Endpoint {
        let (host, port) = (flow >> 4, 1024 + (flow & 15) as u16);
        match self.v6 {
            true => Endpoint::new(Address::v6(0xfd00_0001 << 96 | u128::from(host)), port),
            false => Endpoint::new(Address::v4(0x1400_0000 + host), port),
        }
    }

    /// Address and port of a real server, which masquerading changes.
    pub fn server(&self, number: u32) -> Endpoint {
        let port = if self.method == Method::Masquerading { 8080 } else { 80 };
        match self.v6 {
            true => Endpoint::new(Address::v6(0xfd00_0002 << 96 | u128::from(number + 1)), port),
            false => Endpoint::new(Address::v4(0x0a02_0100 + number), port),
        }
    }

    /// All real servers: a hundred of one service, one each of many.
    pub fn servers(&self) -> u32 {
        if self.services == 1 { SERVERS } else { self.services }
    }

    /// The real server of a known flow.
    pub fn server_of(&self, flow: u32) -> u32 {
        flow % self.servers()
    }

    /// The service of a flow.
    pub fn service_of(&self, flow: u32) -> u32 {
        flow % self.services
    }

    /// The frame of a client (`answer` false) or of a real server, all but addresses and ports.
    pub fn template(&self, answer: bool) -> Vec<u8> {
        let mut frame = vec![0x02, 0, 0, 0, u8::from(answer), 0xfe, 0x02, 0, 0, 0, 0, 1];
        let tcp = self.protocol == Protocol::Tcp;
        // A datagram of 18 octets fills the shortest frame.
        let (protocol, octets) = if tcp { (6, 20) } else { (17, 26) };
        match self.v6 {
            true => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, octets, protocol, 64]);
                frame.extend([0; 32]);
            }
            false => {
                frame.extend([0x08, 0, 0x45, 0, 0, 20 + octets, 0, 1, 0x40, 0, 64, protocol, 0, 0]);
                frame.extend([0; 8]);
            }
        }
        frame.extend([0; 4]);
        match self.protocol {
            Protocol::Tcp => {
                let flags = if self.is_known() { 0x10 } else { 0x02 };
                frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0x12, 0x34, 0, 0]);
            }
            _ => frame.extend([0, octets, 0x12, 0x34]),
        }
        frame.resize(frame.len().max(60), 0);
        frame
    }

    /// Puts the packet of a flow into a frame made of the template.
    pub fn address(&self, frame: &mut [u8], flow: u32, answer: bool) {
        let (mut source, mut destination) = (self.client(flow), self.vip(self.service_of(flow)));
        if answer {
            (source, destination) = (self.server(self.server_of(flow)), source);
        }
        let ports = if self.v6 {
            frame[22..38].copy_from_slice(&source.address.0.to_be_bytes());
            frame[38..54].copy_from_slice(&destination.address.0.to_be_bytes());
            54
        } else {
            frame[26..30].copy_from_slice(&source.address.low_u32().to_be_bytes());
            frame[30..34].copy_from_slice(&destination.address.low_u32().to_be_bytes());
            frame[24..26].fill(0);
            let sum = checksum::of(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            34
        };
        frame[ports..ports + 2].copy_from_slice(&source.port.to_be_bytes());
        frame[ports + 2..ports + 4].copy_from_slice(&destination.port.to_be_bytes());
    }
}
