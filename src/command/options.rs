//! The options of ipvsadm 1.31, and those that lvx adds to them: one table of spellings and effects, one of what goes with which command.
//!
//! A new option is a row of [`OPTIONS`], with its effect beside the others in `draft`, and a row of [`NAMES`] if it
//! may stand only with some commands.

use crate::command::draft::{self, Effect};

/// The commands, in the order of the columns of [`NAMES`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// `-A`
    AddService,
    /// `-E`
    EditService,
    /// `-D`
    DeleteService,
    /// `-C`
    Clear,
    /// `-L`
    List,
    /// `-a`
    AddServer,
    /// `-e`
    EditServer,
    /// `-d`
    DeleteServer,
    /// `--set`
    SetTimeouts,
    /// `--start-daemon`
    StartDaemon,
    /// `--stop-daemon`
    StopDaemon,
    /// `-R`
    Restore,
    /// `-S`
    Save,
    /// `-Z`
    Zero,
}

impl Command {
    /// Its name in error texts.
    pub const fn name(self) -> &'static str {
        match self {
            Command::AddService => "add-service",
            Command::EditService => "edit-service",
            Command::DeleteService => "delete-service",
            Command::Clear => "flush",
            Command::List => "list",
            Command::AddServer => "add-server",
            Command::EditServer => "edit-server",
            Command::DeleteServer => "delete-server",
            Command::SetTimeouts => "set",
            Command::StartDaemon => "start-daemon",
            Command::StopDaemon => "stop-daemon",
            Command::Restore => "restore",
            Command::Save => "save",
            Command::Zero => "zero",
        }
    }
}

/// What an option is known as when it stands where it may not: several spellings can share a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "each variant is a row of NAMES and named like it")]
#[repr(u8)]
pub enum Name {
    Numeric,
    Connection,
    ServiceAddress,
    Scheduler,
    Persistent,
    Netmask,
    RealServer,
    ForwardingMethod,
    Weight,
    UpperThreshold,
    LowerThreshold,
    McastInterface,
    Timeout,
    Daemon,
    Stats,
    Rate,
    Thresholds,
    PersistentConn,
    NoSort,
    SyncId,
    Exact,
    Ops,
    Engine,
    SchedulerFlags,
    McastGroup,
    McastPort,
    McastTtl,
    SyncMaxlen,
    TunInfo,
    TunType,
    TunPort,
    TunNoChecksum,
    TunChecksum,
    TunRemoteChecksum,
    FullNat,
    ClientAddress,
    MssClamp,
}

impl Name {
    /// Its word in error texts.
    pub fn word(self) -> &'static str {
        NAMES[self as usize].1
    }

    /// What it is to a command: `+` required, `1` one of a group at most, `x` not allowed, a blank optional.
    pub fn with(self, command: Command) -> u8 {
        NAMES[self as usize].2.as_bytes()[command as usize]
    }
}

/// Names of options in the order in which they are checked, with a column for each of
/// add-service, edit-service, delete-service, flush, list, add-server, edit-server, delete-server, set, start-daemon,
/// stop-daemon, restore, save, zero.
pub const NAMES: [(Name, &str, &str); 37] = [
    //                                                  AEDCLaedsSSRSZ
    (Name::Numeric, "numeric", /*                   */ "xxxx xxxxxxx x"),
    (Name::Connection, "connection", /*             */ "xxxx1xxxxxxxxx"),
    (Name::ServiceAddress, "service-address", /*    */ "+++x1+++xxxxx "),
    (Name::Scheduler, "scheduler", /*               */ "  xxxxxxxxxxxx"),
    (Name::Persistent, "persistent", /*             */ "  xxxxxxxxxxxx"),
    (Name::Netmask, "netmask", /*                   */ "  xxxxxxxxxxxx"),
    (Name::RealServer, "real-server", /*            */ "xxxxx+++xxxxxx"),
    (Name::ForwardingMethod, "forwarding-method", /**/ "xxxxx  xxxxxxx"),
    (Name::Weight, "weight", /*                     */ "xxxxx  xxxxxxx"),
    (Name::UpperThreshold, "u-threshold", /*        */ "xxxxx  xxxxxxx"),
    (Name::LowerThreshold, "l-threshold", /*        */ "xxxxx  xxxxxxx"),
    (Name::McastInterface, "mcast-interface", /*    */ "xxxxxxxxx xxxx"),
    (Name::Timeout, "timeout", /*                   */ "xxxx1xxxxxxxxx"),
    (Name::Daemon, "daemon", /*                     */ "xxxx1xxxxxxxxx"),
    (Name::Stats, "stats", /*                       */ "xxxx xxxxxxxxx"),
    (Name::Rate, "rate", /*                         */ "xxxx xxxxxxxxx"),
    (Name::Thresholds, "thresholds", /*             */ "xxxx xxxxxxxxx"),
    (Name::PersistentConn, "persistent-conn", /*    */ "xxxx xxxxxxxxx"),
    (Name::NoSort, "nosort", /*                     */ "xxxx xxxxxxxxx"),
    (Name::SyncId, "syncid", /*                     */ "xxxx xxxx  xxx"),
    (Name::Exact, "exact", /*                       */ "xxxx xxxxxxxxx"),
    (Name::Ops, "ops", /*                           */ "  xxxxxxxxxxxx"),
    (Name::Engine, "pe", /*                         */ "  xxxxxxxxxxxx"),
    (Name::SchedulerFlags, "sched-flags", /*        */ "  xxxxxxxxxxxx"),
    (Name::McastGroup, "mcast-group", /*            */ "xxxxxxxxx xxxx"),
    (Name::McastPort, "mcast-port", /*              */ "xxxxxxxxx xxxx"),
    (Name::McastTtl, "mcast-ttl", /*                */ "xxxxxxxxx xxxx"),
    (Name::SyncMaxlen, "sync-maxlen", /*            */ "xxxxxxxxx xxxx"),
    (Name::TunInfo, "tun-info", /*                  */ "xxxx xxxxxxxxx"),
    (Name::TunType, "tun-type", /*                  */ "xxxxx  xxxxxxx"),
    (Name::TunPort, "tun-port", /*                  */ "xxxxx  xxxxxxx"),
    (Name::TunNoChecksum, "tun-nocsum", /*          */ "xxxxx  xxxxxxx"),
    (Name::TunChecksum, "tun-csum", /*              */ "xxxxx  xxxxxxx"),
    (Name::TunRemoteChecksum, "tun-remcsum", /*     */ "xxxxx  xxxxxxx"),
    (Name::FullNat, "fullnat", /*                   */ "xxxxx  xxxxxxx"),
    (Name::ClientAddress, "client-address", /*      */ "xxxxx  xxxxxxx"),
    (Name::MssClamp, "mss-clamp", /*                */ "  xxxxxxxxxxxx"),
];

/// Whether an option takes a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// No.
    None,
    /// Always.
    Required,
    /// The next word, unless it begins with `-`.
    Optional,
}

/// What an option is.
#[derive(Clone, Copy)]
pub enum Kind {
    /// The first option: what to do.
    Command(Command),
    /// `-h`
    Help,
    /// `-v`
    Version,
    /// Anything else: its name, by which it may stand once, and what it does to the command being read.
    Modifier(Option<Name>, Effect),
}

/// An option.
pub struct OptionRow {
    /// Long spelling, without dashes.
    pub long: &'static str,
    /// Short spelling.
    pub short: Option<char>,
    /// Whether it takes a value.
    pub value: Value,
    /// What it is.
    pub kind: Kind,
}

const fn command(long: &'static str, short: Option<char>, value: Value, command: Command) -> OptionRow {
    OptionRow { long, short, value, kind: Kind::Command(command) }
}

const fn flag(long: &'static str, short: Option<char>, name: Name, effect: Effect) -> OptionRow {
    OptionRow { long, short, value: Value::None, kind: Kind::Modifier(Some(name), effect) }
}

const fn with(long: &'static str, short: Option<char>, name: Name, effect: Effect) -> OptionRow {
    OptionRow { long, short, value: Value::Required, kind: Kind::Modifier(Some(name), effect) }
}

/// All options.
pub static OPTIONS: &[OptionRow] = &[
    command("add-service", Some('A'), Value::None, Command::AddService),
    command("edit-service", Some('E'), Value::None, Command::EditService),
    command("delete-service", Some('D'), Value::None, Command::DeleteService),
    command("clear", Some('C'), Value::None, Command::Clear),
    command("list", Some('L'), Value::None, Command::List),
    command("list", Some('l'), Value::None, Command::List),
    command("zero", Some('Z'), Value::None, Command::Zero),
    command("add-server", Some('a'), Value::None, Command::AddServer),
    command("edit-server", Some('e'), Value::None, Command::EditServer),
    command("delete-server", Some('d'), Value::None, Command::DeleteServer),
    command("set", None, Value::None, Command::SetTimeouts),
    command("start-daemon", None, Value::Required, Command::StartDaemon),
    command("stop-daemon", None, Value::Required, Command::StopDaemon),
    command("restore", Some('R'), Value::None, Command::Restore),
    command("save", Some('S'), Value::None, Command::Save),
    OptionRow { long: "help", short: Some('h'), value: Value::None, kind: Kind::Help },
    OptionRow { long: "version", short: Some('v'), value: Value::None, kind: Kind::Version },
    with("tcp-service", Some('t'), Name::ServiceAddress, draft::tcp_service),
    with("udp-service", Some('u'), Name::ServiceAddress, draft::udp_service),
    with("sctp-service", None, Name::ServiceAddress, draft::sctp_service),
    with("fwmark-service", Some('f'), Name::ServiceAddress, draft::mark_service),
    OptionRow { long: "ipv6", short: Some('6'), value: Value::None, kind: Kind::Modifier(None, draft::ipv6) },
    with("scheduler", Some('s'), Name::Scheduler, draft::scheduler),
    OptionRow {
        long: "persistent",
        short: Some('p'),
        value: Value::Optional,
        kind: Kind::Modifier(Some(Name::Persistent), draft::persistent),
    },
    with("netmask", Some('M'), Name::Netmask, draft::netmask),
    with("real-server", Some('r'), Name::RealServer, draft::real_server),
    flag("masquerading", Some('m'), Name::ForwardingMethod, draft::masquerading),
    flag("ipip", Some('i'), Name::ForwardingMethod, draft::tunnelling),
    flag("gatewaying", Some('g'), Name::ForwardingMethod, draft::direct_routing),
    with("weight", Some('w'), Name::Weight, draft::weight),
    with("u-threshold", Some('x'), Name::UpperThreshold, draft::upper_threshold),
    with("l-threshold", Some('y'), Name::LowerThreshold, draft::lower_threshold),
    flag("numeric", Some('n'), Name::Numeric, |draft, _, _| draft.show(|output| output.numeric = true)),
    flag("connection", Some('c'), Name::Connection, draft::nothing),
    with("mcast-interface", None, Name::McastInterface, draft::mcast_interface),
    flag("timeout", None, Name::Timeout, draft::nothing),
    flag("daemon", None, Name::Daemon, draft::nothing),
    flag("stats", None, Name::Stats, |draft, _, _| draft.show(|output| output.stats = true)),
    flag("rate", None, Name::Rate, |draft, _, _| draft.show(|output| output.rate = true)),
    flag("thresholds", None, Name::Thresholds, |draft, _, _| draft.show(|output| output.thresholds = true)),
    flag("persistent-conn", None, Name::PersistentConn, |draft, _, _| {
        draft.show(|output| output.persistent_conn = true)
    }),
    flag("nosort", None, Name::NoSort, |draft, _, _| draft.show(|output| output.nosort = true)),
    OptionRow { long: "sort", short: None, value: Value::None, kind: Kind::Modifier(None, draft::nothing) },
    flag("exact", Some('X'), Name::Exact, |draft, _, _| draft.show(|output| output.exact = true)),
    flag("ops", Some('o'), Name::Ops, draft::one_packet),
    with("pe", None, Name::Engine, draft::engine),
    with("sched-flags", Some('b'), Name::SchedulerFlags, draft::scheduler_flags),
    with("syncid", None, Name::SyncId, draft::syncid),
    with("mcast-group", None, Name::McastGroup, draft::mcast_group),
    with("mcast-port", None, Name::McastPort, draft::mcast_port),
    with("mcast-ttl", None, Name::McastTtl, draft::mcast_ttl),
    with("sync-maxlen", None, Name::SyncMaxlen, draft::sync_maxlen),
    flag("tun-info", None, Name::TunInfo, |draft, _, _| draft.show(|output| output.tun_info = true)),
    with("tun-type", None, Name::TunType, draft::tunnel_type),
    with("tun-port", None, Name::TunPort, draft::tunnel_port),
    flag("tun-nocsum", None, Name::TunNoChecksum, draft::nothing),
    flag("tun-csum", None, Name::TunChecksum, draft::nothing),
    flag("tun-remcsum", None, Name::TunRemoteChecksum, draft::nothing),
    // Additions: no option of ipvsadm.
    flag("fullnat", None, Name::FullNat, draft::nothing),
    with("client-address", None, Name::ClientAddress, draft::client_address),
    with("mss-clamp", None, Name::MssClamp, draft::mss_clamp),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_at_their_place_with_a_cell_for_each_command() {
        for (place, (name, word, cells)) in NAMES.iter().enumerate() {
            assert_eq!(*name as usize, place, "{word}");
            assert_eq!(cells.len(), Command::Zero as usize + 1, "{word}");
            assert!(cells.bytes().all(|cell| b"+1x ".contains(&cell)), "{word}");
        }
    }

    #[test]
    fn no_letter_has_two_meanings() {
        let mut letters: Vec<char> = OPTIONS.iter().filter_map(|row| row.short).collect();
        let count = letters.len();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), count);
    }
}
