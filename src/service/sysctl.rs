//! The knobs of `net.ipv4.vs.*`: names, defaults and ranges of the kernel, values that workers read.
//!
//! Source: `net/netfilter/ipvs/ip_vs_ctl.c`, `vs_vars`, Linux 6.1.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

macro_rules! knobs {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $default:expr, $range:expr;)*) => {
        /// A knob of `net.ipv4.vs`.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Knob { $($(#[$doc])* $variant),* }

        const KNOBS: &[(Knob, &str, i64, Range)] = &[$((Knob::$variant, $name, $default, $range)),*];
    };
}

impl Knob {
    /// Its name, without the prefix.
    pub fn name(self) -> &'static str {
        KNOBS[self as usize].1
    }
}

/// Which values a knob takes.
#[derive(Clone, Copy, Debug)]
enum Range {
    /// Any 32-bit signed integer.
    Int,
    /// Seconds that fit a 32-bit signed integer as ticks.
    Seconds,
    /// From the first to the second, both included.
    Between(i64, i64),
    /// A power of two from 1 on.
    PowerOfTwo,
    /// Two integers, `threshold` and `period`; both at least 0 and threshold below period unless period is 0.
    Threshold,
    /// Any value that fits an unsigned long.
    Long,
}

const INT_MAX: i64 = i32::MAX as i64;
/// Ticks a second of the reference; its knobs that are kept in ticks have a range by it.
const TICKS_PER_SECOND: i64 = 100;

knobs! {
    /// One of so many new connections is dropped by `drop_packet` 3.
    AmDropRate = "am_droprate", 10, Range::Int;
    /// Pages; the automatic defence modes act when less is free.
    AmemThresh = "amemthresh", 1024, Range::Int;
    /// Non-zero: a backup does not balance.
    BackupOnly = "backup_only", 0, Range::Int;
    /// Non-zero: fwmark services without usable server route packets to their own address.
    CacheBypass = "cache_bypass", 0, Range::Int;
    /// When a SYN re-uses a closing connection's ports.
    ConnReuseMode = "conn_reuse_mode", 1, Range::Int;
    /// Kept for compatibility; lvx tracks no connections in netfilter.
    Conntrack = "conntrack", 0, Range::Int;
    /// Log verbosity.
    DebugLevel = "debug_level", 0, Range::Int;
    /// Defence: drop entries.
    DropEntry = "drop_entry", 0, Range::Between(0, 3);
    /// Defence: drop packets of new connections.
    DropPacket = "drop_packet", 0, Range::Between(0, 3);
    /// Non-zero: connections of a removed server expire at their next packet.
    ExpireNodestConn = "expire_nodest_conn", 0, Range::Int;
    /// Non-zero: templates of quiesced servers are not used.
    ExpireQuiescentTemplate = "expire_quiescent_template", 0, Range::Int;
    /// Non-zero: tunnelled packets are not balanced after decapsulation.
    IgnoreTunneled = "ignore_tunneled", 0, Range::Int;
    /// Seconds after which an unused entry of lblc is dropped.
    LblcExpiration = "lblc_expiration", 86400, Range::Seconds;
    /// Seconds after which an unused entry of lblcr is dropped.
    LblcrExpiration = "lblcr_expiration", 86400, Range::Seconds;
    /// Non-zero: port unreachable to masqueraded servers for unknown replies.
    NatIcmpSend = "nat_icmp_send", 0, Range::Int;
    /// 0: tunnel packets larger than the MTU are fragmented.
    PmtuDisc = "pmtu_disc", 1, Range::Int;
    /// 0: rates and printed counters freeze.
    RunEstimation = "run_estimation", 1, Range::Int;
    /// Non-zero: ICMP errors create connections.
    ScheduleIcmp = "schedule_icmp", 0, Range::Int;
    /// Defence: the shorter TCP state table.
    SecureTcp = "secure_tcp", 0, Range::Between(0, 3);
    /// Non-zero: any SCTP packet but ABORT creates a connection.
    SloppySctp = "sloppy_sctp", 0, Range::Int;
    /// Non-zero: any TCP packet but RST creates a connection.
    SloppyTcp = "sloppy_tcp", 0, Range::Int;
    /// Non-zero: replies are routed by their new source address.
    SnatReroute = "snat_reroute", 1, Range::Int;
    /// Non-zero: only templates of persistent connections are synchronised.
    SyncPersistMode = "sync_persist_mode", 0, Range::Int;
    /// Sync threads and UDP ports.
    SyncPorts = "sync_ports", 1, Range::PowerOfTwo;
    /// Sync datagrams that may wait.
    SyncQlenMax = "sync_qlen_max", 4096, Range::Long;
    /// Seconds between refreshes of a connection.
    SyncRefreshPeriod = "sync_refresh_period", 0, Range::Seconds;
    /// Repetitions of a sync record.
    SyncRetries = "sync_retries", 0, Range::Between(0, 3);
    /// Socket buffer of the sync sockets, octets.
    SyncSockSize = "sync_sock_size", 0, Range::Int;
    /// Packets before the first record and between records.
    SyncThreshold = "sync_threshold", 3, Range::Threshold;
    /// Format of sent sync messages.
    SyncVersion = "sync_version", 1, Range::Between(0, 1);
}

/// The prefix that `sysctl` prints before each name.
pub const PREFIX: &str = "net.ipv4.vs.";
const SYNC_PERIOD_DEFAULT: i64 = 50;

/// Why a knob was not set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SysctlError {
    /// There is no such knob.
    Unknown,
    /// The kernel would answer `Invalid argument`.
    Invalid,
}

impl fmt::Display for SysctlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SysctlError::Unknown => "No such file or directory",
            SysctlError::Invalid => "Invalid argument",
        })
    }
}

impl std::error::Error for SysctlError {}

/// The values of all knobs, shared by control (which writes) and workers (which read, relaxed).
pub struct Sysctls {
    values: [AtomicI64; KNOBS.len()],
    sync_period: AtomicI64,
}

impl Default for Sysctls {
    fn default() -> Self {
        let mut index = 0;
        let values = std::array::from_fn(|_| {
            index += 1;
            AtomicI64::new(KNOBS[index - 1].2)
        });
        Self { values, sync_period: AtomicI64::new(SYNC_PERIOD_DEFAULT) }
    }
}

impl Sysctls {
    /// The value of a knob.
    #[inline]
    pub fn get(&self, knob: Knob) -> i64 {
        self.values[knob as usize].load(Relaxed)
    }

    /// True when the knob is not 0.
    #[inline]
    pub fn is_on(&self, knob: Knob) -> bool {
        self.get(knob) != 0
    }

    /// True when the defence that the knob steers is on: by itself (2), or for good (3).
    #[inline]
    pub fn is_defending(&self, knob: Knob) -> bool {
        self.get(knob) >= 2
    }

    /// Sets a knob that the director itself moves (the automatic defence modes).
    pub fn store(&self, knob: Knob, value: i64) {
        self.values[knob as usize].store(value, Relaxed);
    }

    /// Threshold and period of `sync_threshold`.
    pub fn sync_threshold(&self) -> (i64, i64) {
        (self.get(Knob::SyncThreshold), self.sync_period.load(Relaxed))
    }

    /// What a read of the file gives, without the newline. `name` with or without `net.ipv4.vs.`; `/` may stand
    /// for the dots.
    pub fn read(&self, name: &str) -> Result<String, SysctlError> {
        let (knob, ..) = lookup(name)?;
        Ok(self.text(knob))
    }

    /// Sets a knob from text, as a write to the file does.
    pub fn write(&self, name: &str, value: &str) -> Result<Knob, SysctlError> {
        let (knob, first, period) = self.check(name, value)?;
        self.sync_period.store(period, Relaxed);
        self.values[knob as usize].store(first, Relaxed);
        Ok(knob)
    }

    /// Sets all knobs or none: what is wrong with one leaves the others alone.
    ///
    /// # Errors
    /// The position of the first that is refused, and why.
    pub fn write_all(&self, settings: &[(String, String)]) -> Result<Vec<Knob>, (usize, SysctlError)> {
        for (position, (name, value)) in settings.iter().enumerate() {
            self.check(name, value).map_err(|error| (position, error))?;
        }
        let write = |(position, (name, value)): (usize, &(String, String))| {
            self.write(name, value).map_err(|error| (position, error))
        };
        settings.iter().enumerate().map(write).collect()
    }

    /// What setting a knob to this text would store: the knob, its value, and the sync period.
    fn check(&self, name: &str, value: &str) -> Result<(Knob, i64, i64), SysctlError> {
        let (knob, range) = lookup(name)?;
        let mut new_period = self.sync_period.load(Relaxed);
        let mut numbers = value.split_ascii_whitespace().map(parse_number);
        let first = numbers.next().ok_or(SysctlError::Invalid)??;
        match range {
            Range::Threshold => {
                let period = numbers.next().transpose()?.unwrap_or(self.sync_period.load(Relaxed));
                let valid = first >= 0 && period >= 0 && (first < period || period == 0);
                if !valid || first > INT_MAX || period > INT_MAX {
                    return Err(SysctlError::Invalid);
                }
                new_period = period;
            }
            Range::Int if !(i64::from(i32::MIN)..=INT_MAX).contains(&first) => return Err(SysctlError::Invalid),
            Range::Seconds if first.unsigned_abs() > (INT_MAX / TICKS_PER_SECOND).unsigned_abs() => {
                return Err(SysctlError::Invalid);
            }
            Range::Between(low, high) if !(low..=high).contains(&first) => return Err(SysctlError::Invalid),
            Range::PowerOfTwo if !(1..=INT_MAX).contains(&first) || first & (first - 1) != 0 => {
                return Err(SysctlError::Invalid);
            }
            Range::Long if first < 0 => return Err(SysctlError::Invalid),
            _ => {}
        }
        Ok((knob, first, new_period))
    }

    /// Every knob's full name and value, in alphabetical order.
    pub fn list(&self) -> impl Iterator<Item = (String, String)> + '_ {
        KNOBS.iter().map(|&(knob, name, ..)| (format!("{PREFIX}{name}"), self.text(knob)))
    }

    /// The full names of knobs that are not at their default and that change nothing, and why they do not.
    pub fn without_effect(&self) -> impl Iterator<Item = (String, &'static str)> + '_ {
        let set = KNOBS.iter().filter(|&&(knob, _, default, _)| self.get(knob) != default);
        set.filter_map(|&(knob, name, ..)| Some((format!("{PREFIX}{name}"), without_effect(knob)?)))
    }

    fn text(&self, knob: Knob) -> String {
        match knob {
            Knob::SyncThreshold => format!("{}\t{}", self.get(knob), self.sync_period.load(Relaxed)),
            _ => self.get(knob).to_string(),
        }
    }
}

/// The settings of `net.ipv4.vs.*` in a file like `/etc/sysctl.conf`: `name = value` lines, comments after `#` or
/// `;`. Settings of other names are the kernel's and left out.
///
/// # Errors
/// The number of the first line that is no setting, from 1 on.
pub fn parse_file(text: &str) -> Result<Vec<(usize, String, String)>, usize> {
    let mut settings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        // A dash asks `sysctl` not to mind an error.
        let line = line.strip_prefix('-').unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(number)?;
        let (name, value) = (name.trim().replace('/', "."), value.trim().to_owned());
        if name.starts_with(PREFIX) {
            settings.push((number, name, value));
        }
    }
    Ok(settings)
}

/// Why a knob changes nothing here; `None` for those that act.
pub const fn without_effect(knob: Knob) -> Option<&'static str> {
    match knob {
        Knob::Conntrack => Some("there is no connection tracking beside the connection table"),
        Knob::DebugLevel => Some("log verbosity is set by the variable LVX_LOG"),
        Knob::IgnoreTunneled => Some("what the host decapsulates never comes back to the director"),
        Knob::SnatReroute => Some("answers are always routed anew"),
        _ => None,
    }
}

fn lookup(name: &str) -> Result<(Knob, Range), SysctlError> {
    let dotted = name.replace('/', ".");
    let short = dotted.strip_prefix(PREFIX).unwrap_or(&dotted);
    let found = KNOBS.iter().find(|(_, known, ..)| *known == short);
    found.map(|&(knob, _, _, range)| (knob, range)).ok_or(SysctlError::Unknown)
}

/// The kernel reads decimal, octal (0) and hexadecimal (0x) numbers.
fn parse_number(text: &str) -> Result<i64, SysctlError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let parsed = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        i64::from_str_radix(hex, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        i64::from_str_radix(&digits[1..], 8)
    } else if digits.bytes().all(|b| b.is_ascii_digit()) {
        digits.parse()
    } else {
        return Err(SysctlError::Invalid);
    };
    parsed.map(|number| if negative { -number } else { number }).map_err(|_| SysctlError::Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_of_its_enum_and_of_names() {
        for (position, (knob, ..)) in KNOBS.iter().enumerate() {
            assert_eq!(*knob as usize, position);
        }
        assert!(KNOBS.is_sorted_by_key(|(_, name, ..)| *name));
        assert_eq!(KNOBS.len(), 30);
    }

    #[test]
    fn reads_and_writes_like_the_files() {
        let sysctls = Sysctls::default();
        assert_eq!(sysctls.read("sync_threshold").unwrap(), "3\t50");
        assert_eq!(sysctls.read("net/ipv4/vs/conn_reuse_mode").unwrap(), "1");
        sysctls.write("net.ipv4.vs.conn_reuse_mode", "0").unwrap();
        assert!(!sysctls.is_on(Knob::ConnReuseMode));
        sysctls.write("sync_threshold", "5 100").unwrap();
        sysctls.write("sync_threshold", "7").unwrap();
        assert_eq!(sysctls.sync_threshold(), (7, 100));
        sysctls.write("am_droprate", "-0x10").unwrap();
        assert_eq!(sysctls.get(Knob::AmDropRate), -16);
        for seconds in [21_474_836, 0, -21_474_836] {
            sysctls.write("lblc_expiration", &seconds.to_string()).unwrap();
            assert_eq!(sysctls.get(Knob::LblcExpiration), seconds);
        }
    }

    #[test]
    fn all_are_set_or_none() {
        let sysctls = Sysctls::default();
        let set = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            sysctls.write_all(&pairs)
        };
        let wrong = [("drop_entry", "1"), ("drop_packet", "4"), ("nosuch", "1")];
        assert_eq!(set(&wrong), Err((1, SysctlError::Invalid)));
        assert_eq!(sysctls.get(Knob::DropEntry), 0);
        assert_eq!(set(&[("drop_entry", "1"), ("sync_threshold", "1 9")]).unwrap().len(), 2);
        assert_eq!((sysctls.get(Knob::DropEntry), sysctls.sync_threshold()), (1, (1, 9)));
    }

    #[test]
    fn files_like_sysctl_conf() {
        let text = "# comment\n; other\n\nnet.ipv4.ip_forward=1\n net/ipv4/vs/drop_entry = 2\n\
                    -net.ipv4.vs.sync_threshold = 1 9\n";
        let settings = parse_file(text).unwrap();
        let expected = [(5, "net.ipv4.vs.drop_entry", "2"), (6, "net.ipv4.vs.sync_threshold", "1 9")];
        assert_eq!(settings, expected.map(|(line, name, value)| (line, name.to_owned(), value.to_owned())));
        assert_eq!(parse_file("a=1\nbogus\n"), Err(2));
    }

    #[test]
    fn refuses_what_the_kernel_refuses() {
        let sysctls = Sysctls::default();
        for (name, value) in [
            ("drop_entry", "4"),
            ("drop_packet", "-1"),
            ("sync_ports", "3"),
            ("sync_ports", "0"),
            ("sync_threshold", "50 50"),
            ("sync_threshold", "-1 50"),
            ("sync_retries", "4"),
            ("sync_version", "2"),
            ("lblc_expiration", "21474837"),
            ("lblcr_expiration", "-21474837"),
            ("lblcr_expiration", "-9223372036854775807"),
            ("sync_refresh_period", "21474837"),
            ("sync_refresh_period", "-2147483648"),
            ("am_droprate", "2147483648"),
            ("am_droprate", "x"),
            ("am_droprate", ""),
            ("am_droprate", "99999999999999999999"),
        ] {
            assert_eq!(sysctls.write(name, value), Err(SysctlError::Invalid), "{name}={value}");
        }
        assert_eq!(sysctls.write("nosuch", "1"), Err(SysctlError::Unknown));
        assert_eq!(sysctls.read("am_droprate").unwrap(), "10");
    }
}
