//! SCTP states of a connection as the director sees it.
//!
//! Source: `net/netfilter/ipvs/ip_vs_proto_sctp.c`, Linux 6.1: `sctp_states`, `sctp_timeouts`; RFC 9260 for the
//! chunks.

use crate::conn::state::State;
use crate::conn::tcp::Side;
use crate::wire::sctp::chunk;

/// States, in the kernel's numbering.
pub const NONE: State = State(0);
/// The client's INIT was seen.
pub const INIT1: State = State(1);
/// The client sent another INIT.
pub const INIT: State = State(2);
/// The real server's cookie was seen.
pub const COOKIE_SENT: State = State(3);
/// The client replied to a cookie.
pub const COOKIE_REPLIED: State = State(4);
/// The client's INIT ACK was seen: the real server opened.
pub const COOKIE_WAIT: State = State(5);
/// A cookie of either side.
pub const COOKIE: State = State(6);
/// The real server echoed a cookie.
pub const COOKIE_ECHOED: State = State(7);
/// Open.
pub const ESTABLISHED: State = State(8);
/// The real server shuts down.
pub const SHUTDOWN_SENT: State = State(9);
/// The client shuts down.
pub const SHUTDOWN_RECEIVED: State = State(10);
/// The real server acknowledged the shutdown.
pub const SHUTDOWN_ACK_SENT: State = State(11);
/// The real server refused.
pub const REJECTED: State = State(12);
/// Over.
pub const CLOSED: State = State(13);

/// Number of states.
pub const STATES: usize = 14;

/// Name and timeout in seconds, by state.
const PROPERTIES: [(&str, u32); STATES] = [
    ("NONE", 2),
    ("INIT1", 4),
    ("INIT", 61),
    ("C-SENT", 61),
    ("C-REPLIED", 61),
    ("C-WAIT", 61),
    ("COOKIE", 61),
    ("C-ECHOED", 61),
    ("ESTABLISHED", 15 * 60),
    ("S-SENT", 61),
    ("S-RECEIVED", 61),
    ("S-ACK-SENT", 61),
    ("REJECTED", 4),
    ("CLOSED", 61),
];

/// The name that listings print; `ERR!` for a number that is no state.
pub fn name(state: State) -> &'static str {
    PROPERTIES.get(usize::from(state.0)).map_or("ERR!", |(name, _)| name)
}

/// True for the state that counts as active.
#[inline]
pub fn is_active(state: State) -> bool {
    state == ESTABLISHED
}

/// True for the states of a handshake.
#[inline]
pub fn is_opening(state: State) -> bool {
    (INIT1.0..=COOKIE_ECHOED.0).contains(&state.0)
}

/// Timeout of a state, seconds.
pub fn timeout_s(state: State) -> u32 {
    PROPERTIES.get(usize::from(state.0)).map_or(2, |(_, timeout)| *timeout)
}

/// What a packet's first chunk says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Event {
    /// DATA, and all that has no meaning of its own here.
    Data = 0,
    /// INIT.
    Init = 1,
    /// INIT ACK.
    InitAck = 2,
    /// COOKIE ECHO.
    CookieEcho = 3,
    /// COOKIE ACK.
    CookieAck = 4,
    /// SHUTDOWN.
    Shutdown = 5,
    /// SHUTDOWN ACK.
    ShutdownAck = 6,
    /// SHUTDOWN COMPLETE.
    ShutdownComplete = 7,
    /// ERROR.
    Error = 8,
    /// ABORT, first or right behind a cookie.
    Abort = 9,
}

impl Event {
    /// The event of a packet by the types of its first chunk and of the one behind it.
    pub fn from_chunks(first: u8, second: Option<u8>) -> Self {
        match first {
            chunk::COOKIE_ECHO | chunk::COOKIE_ACK if second == Some(chunk::ABORT) => Event::Abort,
            chunk::INIT => Event::Init,
            chunk::INIT_ACK => Event::InitAck,
            chunk::COOKIE_ECHO => Event::CookieEcho,
            chunk::COOKIE_ACK => Event::CookieAck,
            chunk::SHUTDOWN => Event::Shutdown,
            chunk::SHUTDOWN_ACK => Event::ShutdownAck,
            chunk::SHUTDOWN_COMPLETE => Event::ShutdownComplete,
            chunk::ERROR => Event::Error,
            chunk::ABORT => Event::Abort,
            _ => Event::Data,
        }
    }
}

const I1: State = INIT1;
const IN: State = INIT;
const CS: State = COOKIE_SENT;
const CR: State = COOKIE_REPLIED;
const CW: State = COOKIE_WAIT;
const CO: State = COOKIE;
const CE: State = COOKIE_ECHOED;
const ES: State = ESTABLISHED;
const SS: State = SHUTDOWN_SENT;
const SR: State = SHUTDOWN_RECEIVED;
const SA: State = SHUTDOWN_ACK_SENT;
const RJ: State = REJECTED;
const CL: State = CLOSED;

/// Next state by side, event and old state (columns NO I1 IN CS CR CW CO CE ES SS SR SA RJ CL).
#[rustfmt::skip]
const TABLE: [[[State; STATES]; 10]; 3] = [
    [
        [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // input data
        [I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN], // input INIT
        [CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL], // input INIT ACK
        [CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // input COOKIE ECHO
        [ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL], // input COOKIE ACK
        [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL], // input SHUTDOWN
        [CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL], // input SHUTDOWN ACK
        [CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL], // input SHUTDOWN COMPLETE
        [CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL], // input ERROR
        [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL], // input ABORT
    ],
    [
        [ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // output data
        [CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW], // output INIT
        [CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // output INIT ACK
        [CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL], // output COOKIE ECHO
        [ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL], // output COOKIE ACK
        [SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL], // output SHUTDOWN
        [SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL], // output SHUTDOWN ACK
        [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // output SHUTDOWN COMPLETE
        [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // output ERROR
        [CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL], // output ABORT
    ],
    [
        [ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL], // input only data
        [I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN], // input only INIT
        [CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL], // input only INIT ACK
        [ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL], // input only COOKIE ECHO
        [ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL], // input only COOKIE ACK
        [SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL], // input only SHUTDOWN
        [CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL], // input only SHUTDOWN ACK
        [CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL], // input only SHUTDOWN COMPLETE
        [CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL], // input only ERROR
        [CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL], // input only ABORT
    ],
];

/// The state after `event` from `side`; CLOSED from a number that is no state.
#[inline]
pub fn next(side: Side, event: Event, old: State) -> State {
    let row = &TABLE[side as usize][event as usize];
    row.get(usize::from(old.0)).copied().unwrap_or(CLOSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_bundled_with_an_abort_is_an_abort() {
        for (first, second, event) in [
            (chunk::COOKIE_ECHO, Some(chunk::ABORT), Event::Abort),
            (chunk::COOKIE_ACK, Some(chunk::ABORT), Event::Abort),
            (chunk::COOKIE_ECHO, Some(chunk::DATA), Event::CookieEcho),
            (chunk::DATA, Some(chunk::ABORT), Event::Data),
            (chunk::ABORT, None, Event::Abort),
            (chunk::HEARTBEAT, None, Event::Data),
            (0xc1, None, Event::Data),
        ] {
            assert_eq!(Event::from_chunks(first, second), event, "{first} {second:?}");
        }
    }

    #[test]
    fn a_life_through_nat_and_one_by_direct_routing() {
        let mut state = NONE;
        for (side, event, expected) in [
            (Side::Input, Event::Init, "INIT1"),
            (Side::Output, Event::InitAck, "C-SENT"),
            (Side::Input, Event::CookieEcho, "C-REPLIED"),
            (Side::Output, Event::CookieAck, "ESTABLISHED"),
            (Side::Input, Event::Shutdown, "S-RECEIVED"),
            (Side::Output, Event::ShutdownAck, "S-ACK-SENT"),
            (Side::Input, Event::ShutdownComplete, "CLOSED"),
        ] {
            state = next(side, event, state);
            assert_eq!(name(state), expected, "{event:?}");
        }
        let mut state = NONE;
        for (event, expected) in [(Event::Init, "INIT1"), (Event::CookieEcho, "ESTABLISHED"), (Event::Abort, "CLOSED")]
        {
            state = next(Side::InputOnly, event, state);
            assert_eq!(name(state), expected, "{event:?}");
        }
    }

    #[test]
    fn numbers_that_are_no_state() {
        assert_eq!(next(Side::Input, Event::Data, State(15)), CLOSED);
        assert_eq!((name(State(14)), timeout_s(State(14))), ("ERR!", 2));
    }
}
