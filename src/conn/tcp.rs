//! TCP states of a connection as the director sees it: both directions, or the client's alone.
//!
//! Source: `net/netfilter/ipvs/ip_vs_proto_tcp.c`, Linux 6.1: `tcp_states` and `tcp_states_dos`.

use crate::conn::entry::Flags;
use crate::conn::state::{Direction, State};
use crate::wire::tcp::{FLAG_ACK, FLAG_FIN, FLAG_RST, FLAG_SYN};

/// States, in the kernel's numbering.
pub const NONE: State = State(0);
/// See RFC 9293 section 3.3.2, as are the others.
pub const ESTABLISHED: State = State(1);
/// The real server opened.
pub const SYN_SENT: State = State(2);
/// The client opened.
pub const SYN_RECV: State = State(3);
/// One side closed.
pub const FIN_WAIT: State = State(4);
/// Both sides closed.
pub const TIME_WAIT: State = State(5);
/// Reset, or closed out of order.
pub const CLOSE: State = State(6);
/// The client closed.
pub const CLOSE_WAIT: State = State(7);
/// Waits for the last acknowledgement.
pub const LAST_ACK: State = State(8);
/// Expected by a helper.
pub const LISTEN: State = State(9);
/// The defence's half-open state.
pub const SYNACK: State = State(10);

/// Number of states.
pub const STATES: usize = 11;

/// Name, fixed timeout in seconds and whether it counts as active, by state.
const PROPERTIES: [(&str, u32, bool); STATES] = [
    ("NONE", 2, false),
    ("ESTABLISHED", 15 * 60, true),
    ("SYN_SENT", 2 * 60, true),
    ("SYN_RECV", 60, true),
    ("FIN_WAIT", 2 * 60, false),
    ("TIME_WAIT", 2 * 60, false),
    ("CLOSE", 10, false),
    ("CLOSE_WAIT", 60, false),
    ("LAST_ACK", 30, false),
    ("LISTEN", 2 * 60, false),
    ("SYNACK", 120, true),
];

/// The name that listings print; `ERR!` for a number that is no state.
pub fn name(state: State) -> &'static str {
    PROPERTIES.get(usize::from(state.0)).map_or("ERR!", |(name, ..)| name)
}

/// True for states that count as active connections.
#[inline]
pub fn is_active(state: State) -> bool {
    PROPERTIES.get(usize::from(state.0)).is_some_and(|(_, _, active)| *active)
}

/// Default timeout of a state, seconds.
pub fn fixed_timeout_s(state: State) -> u32 {
    PROPERTIES.get(usize::from(state.0)).map_or(2, |(_, timeout, _)| *timeout)
}

/// What a segment's flags say, in order of precedence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Event {
    /// SYN, with or without ACK.
    Syn = 0,
    /// FIN.
    Fin = 1,
    /// ACK alone.
    Ack = 2,
    /// RST.
    Rst = 3,
    /// None of them.
    Nothing = 4,
}

impl Event {
    /// The event of a segment with these flag bits (octet 13 of the TCP header).
    #[inline]
    pub fn from_flags(flags: u8) -> Self {
        EVENTS[(flags & (FLAG_FIN | FLAG_SYN | FLAG_RST | FLAG_ACK)) as usize]
    }

    const fn by_precedence(flags: u8) -> Self {
        if flags & FLAG_RST != 0 {
            Event::Rst
        } else if flags & FLAG_SYN != 0 {
            Event::Syn
        } else if flags & FLAG_FIN != 0 {
            Event::Fin
        } else if flags & FLAG_ACK != 0 {
            Event::Ack
        } else {
            Event::Nothing
        }
    }
}

/// The event of each combination of the flags that count.
static EVENTS: [Event; 32] = {
    let mut events = [Event::Nothing; 32];
    let mut flags = 0;
    while flags < 32 {
        events[flags as usize] = Event::by_precedence(flags);
        flags += 1;
    }
    events
};

/// Which rows of the table apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Side {
    /// The client's packet, answers seen.
    Input = 0,
    /// The real server's packet.
    Output = 1,
    /// The client's packet, no answer seen so far (direct routing, tunnelling).
    InputOnly = 2,
}

impl Side {
    /// The rows for a packet in `direction` of a connection with these flags.
    #[inline(always)]
    pub(super) fn of(direction: Direction, flags: Flags) -> Self {
        match direction {
            Direction::Outbound => Side::Output,
            Direction::Inbound if flags.has(Flags::NO_OUTPUT) => Side::InputOnly,
            Direction::Inbound => Side::Input,
        }
    }
}

type Row = [State; STATES];
type Rows = [[Row; 4]; 3];

const ES: State = ESTABLISHED;
const SS: State = SYN_SENT;
const SR: State = SYN_RECV;
const FW: State = FIN_WAIT;
const TW: State = TIME_WAIT;
const CL: State = CLOSE;
const CW: State = CLOSE_WAIT;
const LA: State = LAST_ACK;
const LI: State = LISTEN;
const SA: State = SYNACK;

/// Next state by side, event and old state (columns NO ES SS SR FW TW CL CW LA LI SA).
#[rustfmt::skip]
const NORMAL: Rows = [
    [
        [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR], // input SYN
        [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW], // input FIN
        [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES], // input ACK
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR], // input RST
    ],
    [
        [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR], // output SYN
        [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW], // output FIN
        [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES], // output ACK
        [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL], // output RST
    ],
    [
        [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR], // input only SYN
        [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW], // input only FIN
        [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES], // input only ACK
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL], // input only RST
    ],
];

/// The table while the secure_tcp defence is on.
#[rustfmt::skip]
const SECURE: Rows = [
    [
        [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SA],
        [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, SA],
        [ES, ES, SS, SR, FW, TW, CL, CW, CL, LI, SA],
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
    [
        [SS, ES, SS, SA, SS, SS, SS, SS, SS, LI, SA],
        [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    ],
    [
        [SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA],
        [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        [ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
];

/// The tables as they are asked: every number of a state that four bits can hold, and every event, in powers of two,
/// so that a cell's number is its parts' bits. What the kernel's tables do not have leads to CLOSE.
type Complete = [[[State; 16]; 8]; 4];

const NORMAL_COMPLETE: Complete = complete(&NORMAL);
const SECURE_COMPLETE: Complete = complete(&SECURE);

const fn complete(rows: &Rows) -> Complete {
    let mut complete = [[[CLOSE; 16]; 8]; 4];
    let mut cell = 0;
    while cell < 3 * 4 * STATES {
        let (side, event, state) = (cell / (4 * STATES), cell / STATES % 4, cell % STATES);
        complete[side][event][state] = rows[side][event][state];
        cell += 1;
    }
    complete
}

/// The state after `event` from `side`.
#[inline]
pub fn next(secure: bool, side: Side, event: Event, old: State) -> State {
    static TABLES: [Complete; 2] = [NORMAL_COMPLETE, SECURE_COMPLETE];
    TABLES[usize::from(secure)][side as usize][event as usize][usize::from(old.0 & 0xf)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_precedence() {
        for (flags, event) in [
            (0x00, Event::Nothing),
            (0x08, Event::Nothing),
            (0x10, Event::Ack),
            (0x18, Event::Ack),
            (0x11, Event::Fin),
            (0x02, Event::Syn),
            (0x13, Event::Syn),
            (0xc2, Event::Syn),
            (0x04, Event::Rst),
            (0x17, Event::Rst),
            (0xff, Event::Rst),
        ] {
            assert_eq!(Event::from_flags(flags), event, "{flags:#x}");
        }
    }

    #[test]
    fn what_the_tables_do_not_have_closes() {
        for (secure, rows) in [(false, &NORMAL), (true, &SECURE)] {
            for side in [Side::Input, Side::Output, Side::InputOnly] {
                for old in 0..16 {
                    assert_eq!(next(secure, side, Event::Nothing, State(old)), CLOSE);
                    for event in [Event::Syn, Event::Fin, Event::Ack, Event::Rst] {
                        let row = &rows[side as usize][event as usize];
                        let expected = row.get(usize::from(old)).copied().unwrap_or(CLOSE);
                        assert_eq!(
                            next(secure, side, event, State(old)),
                            expected,
                            "{secure} {side:?} {event:?} {old}"
                        );
                    }
                }
            }
        }
    }
}
