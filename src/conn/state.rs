//! Protocol states: what a packet does to a connection, and how long it then lives.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::conn::{sctp, tcp};
use crate::service::Protocol;

/// The number of a state, per protocol as in the kernel; it travels in sync messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct State(pub u8);

impl State {
    /// The state of a new entry, of every protocol, and of templates.
    pub const NONE: State = State(0);
    /// A template whose connection was confirmed.
    pub const TEMPLATE_ASSURED: State = State(1);

    /// The name that listings print.
    pub fn name(self, protocol: Option<Protocol>, is_template: bool) -> &'static str {
        match (protocol, is_template) {
            (_, true) => match self {
                State::NONE => "NONE",
                State::TEMPLATE_ASSURED => "ASSURED",
                _ => "ERR!",
            },
            (Some(Protocol::Tcp), false) => tcp::name(self),
            (Some(Protocol::Udp), false) => "UDP",
            (Some(Protocol::Sctp), false) => sctp::name(self),
            (None, false) => "NONE",
        }
    }
}

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the client.
    Inbound,
    /// From the real server.
    Outbound,
}

/// What of a packet moves a state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// TCP, by its flags in order of precedence: RST, SYN, FIN, ACK.
    Tcp(tcp::Event),
    /// Any UDP datagram.
    Udp,
    /// SCTP, by the first chunk.
    Sctp(sctp::Event),
    /// Nothing: the state stays, and with it the timeout (AH and ESP, SCTP without a chunk).
    Nothing,
}

/// Timeouts that `--set` changes, seconds; read at every transition.
pub struct Timeouts {
    tcp_established: AtomicU32,
    tcp_fin_wait: AtomicU32,
    udp: AtomicU32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_established: AtomicU32::new(15 * 60),
            tcp_fin_wait: AtomicU32::new(2 * 60),
            udp: AtomicU32::new(5 * 60),
        }
    }
}

impl Timeouts {
    /// Established TCP, TCP FIN_WAIT, UDP; seconds.
    pub fn get(&self) -> (u32, u32, u32) {
        (self.tcp_established.load(Relaxed), self.tcp_fin_wait.load(Relaxed), self.udp.load(Relaxed))
    }

    /// Sets those that are not 0.
    pub fn set(&self, tcp_established_s: u32, tcp_fin_wait_s: u32, udp_s: u32) {
        for (cell, value) in
            [(&self.tcp_established, tcp_established_s), (&self.tcp_fin_wait, tcp_fin_wait_s), (&self.udp, udp_s)]
        {
            if value != 0 {
                cell.store(value, Relaxed);
            }
        }
    }

    /// Timeout of a TCP state, seconds.
    #[inline]
    pub fn tcp_s(&self, state: State) -> u32 {
        match state {
            tcp::ESTABLISHED => self.tcp_established.load(Relaxed),
            tcp::FIN_WAIT => self.tcp_fin_wait.load(Relaxed),
            other => tcp::fixed_timeout_s(other),
        }
    }

    /// Timeout of UDP, seconds.
    #[inline]
    pub fn udp_s(&self) -> u32 {
        self.udp.load(Relaxed)
    }
}
