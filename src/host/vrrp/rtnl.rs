//! Routing netlink without a runtime (rtnetlink(7)): requests with their answers, and news.
//!
//! A request is carried out by the kernel while it is sent, so that its answer is there when the sending returns: nobody
//! waits for it beyond [`ANSWER_TIMEOUT`]. News that the socket could not hold are told as [`Overrun`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

use crate::base::Duration;

/// Receive buffer asked for, octets.
const RECEIVE_OCTETS: usize = 4 << 20;
/// Octets of the longest datagram; the kernel makes none longer than 32 KiB.
const DATAGRAM_OCTETS: usize = 1 << 16;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

const GROUP_LINK: u32 = 1 << 0;
const GROUP_ADDRESS_V4: u32 = 1 << 4;
const GROUP_ADDRESS_V6: u32 = 1 << 8;

/// The kernel had more news than the socket could hold: everything is to be asked for anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Overrun;

/// A socket for requests.
pub struct Requests {
    socket: OwnedFd,
    sequence: u32,
    port: u32,
    buffer: Vec<u8>,
}

impl Requests {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let socket = open(0)?;
        sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        let own = SocketAddrNetlink::try_from(rustix::net::getsockname(&socket)?)?;
        Ok(Self { socket, sequence: 0, port: own.pid(), buffer: vec![0; DATAGRAM_OCTETS] })
    }

    /// What news have that these requests made.
    pub const fn port(&self) -> u32 {
        self.port
    }

    /// Asks for something to be done; `flags` beside those of every request.
    ///
    /// # Errors
    /// The kernel's.
    pub fn execute(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let sequence = self.send(message, NLM_F_ACK | flags)?;
        let mut result = Err(io::ErrorKind::TimedOut.into());
        while result.as_ref().is_err_and(|error: &io::Error| error.kind() == io::ErrorKind::TimedOut) {
            self.receive(|header_sequence, _, payload| {
                if let (true, NetlinkPayload::Error(error)) = (header_sequence == sequence, payload) {
                    result = match error.code {
                        None => Ok(()),
                        Some(code) => Err(io::Error::from_raw_os_error(code.get().abs())),
                    };
                }
            })?;
        }
        result
    }

    /// Asks for all of a kind; begins anew while changes disturb it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dump(&mut self, message: &RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        /// How often it is begun before it is taken as it is.
        const ATTEMPTS: u32 = 8;
        let mut found = Vec::new();
        for _ in 0..ATTEMPTS {
            found.clear();
            let sequence = self.send(message.clone(), NLM_F_DUMP)?;
            let (mut is_done, mut is_disturbed, mut failure) = (false, false, None);
            while !is_done {
                self.receive(|header_sequence, flags, payload| {
                    if header_sequence != sequence {
                        return;
                    }
                    is_disturbed |= flags & NLM_F_DUMP_INTR != 0;
                    match payload {
                        NetlinkPayload::InnerMessage(message) => found.push(message),
                        NetlinkPayload::Done(_) => is_done = true,
                        NetlinkPayload::Error(error) => {
                            is_done = true;
                            failure = error.code.map(|code| io::Error::from_raw_os_error(code.get().abs()));
                        }
                        _ => {}
                    }
                })?;
            }
            if let Some(error) = failure {
                return Err(error);
            }
            if !is_disturbed {
                break;
            }
        }
        Ok(found)
    }

    /// Asks for one thing.
    ///
    /// # Errors
    /// The kernel's.
    pub fn get(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let sequence = self.send(message, NLM_F_ACK)?;
        let (mut found, mut result) = (Vec::new(), None);
        while result.is_none() {
            self.receive(|header_sequence, _, payload| match payload {
                _ if header_sequence != sequence => {}
                NetlinkPayload::InnerMessage(message) => found.push(message),
                NetlinkPayload::Error(error) => {
                    let failed = |code: std::num::NonZeroI32| io::Error::from_raw_os_error(code.get().abs());
                    result = Some(error.code.map_or(Ok(()), |code| Err(failed(code))));
                }
                _ => {}
            })?;
        }
        result.unwrap_or(Ok(())).map(|()| found)
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut octets = vec![0; request.buffer_len()];
        request.serialize(&mut octets);
        send(&self.socket, &octets, SendFlags::empty())?;
        Ok(self.sequence)
    }

    fn receive(&mut self, take: impl FnMut(u32, u16, NetlinkPayload<RouteNetlinkMessage>)) -> io::Result<()> {
        let (_, octets) = recv(&self.socket, &mut self.buffer[..], RecvFlags::empty())?;
        let mut take = take;
        each(&self.buffer[..octets.min(DATAGRAM_OCTETS)], |message| {
            take(message.header.sequence_number, message.header.flags, message.payload);
        });
        Ok(())
    }
}

/// A socket for news of links and addresses.
pub struct News {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl News {
    /// Opens it in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        let socket = open(GROUP_LINK | GROUP_ADDRESS_V4 | GROUP_ADDRESS_V6)?;
        // Beyond net.core.rmem_max where that is allowed; less only means an overrun sooner.
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_OCTETS).is_err() {
            let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_OCTETS);
        }
        Ok(Self { socket, buffer: vec![0; DATAGRAM_OCTETS] })
    }

    /// Hands over what has come, with the port of whoever caused it; never waits.
    ///
    /// # Errors
    /// News are missing, or the socket fails.
    pub fn take(&mut self, mut take: impl FnMut(u32, RouteNetlinkMessage)) -> Result<(), Overrun> {
        loop {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((_, octets)) => each(&self.buffer[..octets.min(DATAGRAM_OCTETS)], |message| {
                    if let NetlinkPayload::InnerMessage(inner) = message.payload {
                        take(message.header.port_number, inner);
                    }
                }),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(Overrun),
            }
        }
    }
}

impl AsFd for News {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn open(groups: u32) -> io::Result<OwnedFd> {
    // NETLINK_ROUTE is 0, which a socket has without a protocol.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, groups))?;
    Ok(socket)
}

/// The messages of a datagram. One that cannot be read is left out: the next one begins where its length says.
fn each(datagram: &[u8], mut take: impl FnMut(NetlinkMessage<RouteNetlinkMessage>)) {
    let mut rest = datagram;
    while let Ok(buffer) = NetlinkBuffer::new_checked(rest) {
        let length = buffer.length() as usize;
        if let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&rest[..length.min(rest.len())]) {
            take(message);
        }
        let aligned = length.next_multiple_of(4);
        if length == 0 || aligned >= rest.len() {
            return;
        }
        rest = &rest[aligned..];
    }
}
