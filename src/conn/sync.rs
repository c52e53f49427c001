//! Connections and their synchronisation: which packet makes a record for the backups, and what a record from a
//! master makes of the table.
//!
//! Source: `ip_vs_sync_conn_needed`, `ip_vs_sync_conn`, `ip_vs_proc_conn` of `net/netfilter/ipvs/ip_vs_sync.c` and
//! `ip_vs_bind_dest` of `ip_vs_conn.c`, Linux 6.1.
//!
//! Of a connection the kernel keeps its last synchronised state and the moment until which the backups have it. Here
//! the state stands in free bits beside the destination's port, and the moment in a table beside the entries'
//! cells, which is not touched unless `sync_refresh_period` asks for it.
//!
//! **Deviation**: moved sequence numbers (of FTP through NAT) are neither sent nor taken over; nor does the kernel's
//! helper, which leaves them to netfilter, set the flags that announce them.

use crate::base::{Endpoint, Instant};
use crate::conn::engine_data::EngineOctets;
use crate::conn::entry::{Entry, EntryId, Flags, TICKS_PER_SECOND, ticks};
use crate::conn::state::State;
use crate::conn::table::{Found, Inserted, Key, New, Table};
use crate::conn::{sctp, tcp};
use crate::service::sysctl::{Knob, Sysctls};
use crate::service::{DestinationId, Method, Protocol};

mod whole;

pub use whole::Part;

/// Controllers above a connection that are looked at; the kernel makes two at most.
const CONTROLLERS_MAX: usize = 4;
/// What `sync_refresh_period` cannot go below a connection's half timeout for, ticks.
const REFRESH_BOUND_TICKS: u32 = 10 * TICKS_PER_SECOND;
/// Records of the moment of synchronisation count repetitions in their low bits.
const RETRIES_MASK: u32 = 0x3;
/// Milliseconds of a tick.
const TICK_MS: u32 = 1000 / TICKS_PER_SECOND;
/// Timeout of a template from a datagram that tells none, seconds.
const TEMPLATE_TIMEOUT_S: u32 = 180;

/// The sync knobs as of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// The packet of each period that makes a record.
    pub threshold: u32,
    /// Packets from one record to the next; 0 for the threshold alone.
    pub period: u32,
    /// Time from one record to the next, ticks; 0 for none.
    pub refresh_ticks: u32,
    /// Repetitions of a record, 0..=3.
    pub retries: u32,
    /// Connections with a template make no records.
    pub templates_only: bool,
    /// Connections are told to be tracked by netfilter, as the kernel does under `conntrack`.
    pub tracked: bool,
    /// Records are for the old format: of IPv4 alone, and controllers only with their connections.
    pub version_0: bool,
}

impl Policy {
    /// The knobs as they are.
    pub fn of(sysctls: &Sysctls) -> Self {
        let (threshold, period) = sysctls.sync_threshold();
        let positive = |knob| sysctls.get(knob).clamp(0, i64::from(i32::MAX)) as u32;
        Self {
            threshold: threshold as u32,
            period: period as u32,
            refresh_ticks: positive(Knob::SyncRefreshPeriod).saturating_mul(TICKS_PER_SECOND),
            retries: positive(Knob::SyncRetries),
            templates_only: sysctls.is_on(Knob::SyncPersistMode),
            tracked: sysctls.is_on(Knob::Conntrack),
            version_0: sysctls.get(Knob::SyncVersion) == 0,
        }
    }
}

/// A connection as backups are told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SyncRecord {
    /// Protocol, client and virtual service.
    pub key: Key,
    /// Real server.
    pub destination: Endpoint,
    /// Flags, those that travel.
    pub flags: Flags,
    /// State.
    pub state: State,
    /// Firewall mark.
    pub mark: u32,
    /// Its timeout, seconds.
    pub timeout_s: u32,
    /// Spreads connections over sync ports; always the same for one client's address and port.
    pub spread: u32,
    /// Data of a persistence engine go with it.
    pub has_engine_data: bool,
}

/// A connection as a master told of it.
#[derive(Clone, Copy, Debug)]
pub struct Synced<'a> {
    /// Protocol, client and virtual service.
    pub key: Key,
    /// Real server.
    pub destination: Endpoint,
    /// Flags, those that a backup takes over.
    pub flags: Flags,
    /// State, one of its protocol.
    pub state: State,
    /// Firewall mark.
    pub mark: u32,
    /// Timeout, seconds; 0 for that of the state.
    pub timeout_s: u32,
    /// Data of a persistence engine; empty for none.
    pub engine_data: &'a [u8],
    /// Packets that the entry counts from now on.
    pub packets: u32,
    /// What is left of the timeout, milliseconds; `None` for all of it.
    pub left_ms: Option<u32>,
    /// An entry that was brought up to date at this moment or later knows better.
    pub unless_since: Option<Instant>,
}

/// What became of a connection that a master told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// There is an entry for it now.
    New,
    /// Its entry was brought up to date.
    Updated,
    /// Its entry knows better already.
    Newer,
    /// It tells of the end of a connection that was replaced.
    Late,
    /// The table is full.
    Full,
}

impl Table {
    /// How many states a protocol has; numbers from there on are none.
    pub const fn states(protocol: Protocol) -> u16 {
        match protocol {
            Protocol::Tcp => tcp::STATES as u16,
            Protocol::Udp => 1,
            Protocol::Sctp => sctp::STATES as u16,
        }
    }

    /// Calls `send` for each record that an inbound packet makes: of the connection (its `packets`th), of what
    /// controls it. The connection's bucket is held.
    #[inline(never)]
    fn synchronise(
        &self,
        entry: Entry<'_>,
        policy: &Policy,
        packets: u32,
        now_ticks: u32,
        mut send: impl FnMut(SyncRecord, Option<&EngineOctets>),
    ) {
        if policy.version_0 && !entry.client().address.is_v4() {
            return;
        }
        // Of a local port a backup cannot be told.
        let is_local = entry.flags().has(Flags::ONE_PACKET) || entry.flags().has(Flags::FULL_NAT);
        let is_sent = !is_local && self.send_if_due(entry, policy, packets, now_ticks, &mut send);
        if policy.version_0 && !is_sent {
            return;
        }
        self.synchronise_controllers(entry.controller(), policy, now_ticks, send);
    }

    /// Likewise for the controllers of a connection that still counts with the first of them.
    fn synchronise_controllers(
        &self,
        mut controller: EntryId,
        policy: &Policy,
        now_ticks: u32,
        mut send: impl FnMut(SyncRecord, Option<&EngineOctets>),
    ) {
        for _ in 0..CONTROLLERS_MAX {
            if controller.is_none() {
                return;
            }
            // Without its bucket: it cannot go while it controls, and what is read is one moment's or the next's.
            let entry = self.entry(controller);
            let packets = if entry.flags().has(Flags::TEMPLATE) { entry.count_packet() } else { policy.threshold };
            let is_sent = self.send_if_due(entry, policy, packets, now_ticks, &mut send);
            if policy.version_0 && !is_sent {
                return;
            }
            controller = entry.controller();
        }
    }

    fn send_if_due(
        &self,
        entry: Entry<'_>,
        policy: &Policy,
        packets: u32,
        now_ticks: u32,
        send: &mut impl FnMut(SyncRecord, Option<&EngineOctets>),
    ) -> bool {
        if !self.is_due(entry, policy, packets, now_ticks) {
            return false;
        }
        let (record, engine_data) = self.record_of(entry, policy);
        send(record, engine_data.as_ref());
        true
    }

    /// An entry as backups are told of it.
    fn record_of(&self, entry: Entry<'_>, policy: &Policy) -> (SyncRecord, Option<EngineOctets>) {
        let engine_data = match Self::engine_record(entry) {
            0 => None,
            record => Some(self.engine_records().octets(record)),
        };
        let (protocol, client) = (entry.protocol(), entry.client());
        let flags = Flags(entry.flags().0 & Flags::TRAVELLING.0);
        let record = SyncRecord {
            key: Key { protocol, client, other: entry.virtual_service() },
            destination: entry.destination_endpoint(),
            flags: if policy.tracked { flags.with(Flags::TRACKED) } else { flags },
            state: entry.state(),
            mark: entry.mark(),
            timeout_s: entry.timeout_s(),
            spread: self.hash(protocol, client) as u32,
            has_engine_data: engine_data.is_some(),
        };
        (record, engine_data)
    }

    /// Whether the `packets`th packet of an entry makes a record. Notes that it does.
    fn is_due(&self, entry: Entry<'_>, policy: &Policy, packets: u32, now_ticks: u32) -> bool {
        let (flags, state) = (entry.flags(), entry.state());
        let is_template = flags.has(Flags::TEMPLATE);
        let mut is_forced = false;
        if !is_template {
            if policy.templates_only && self.has_template(entry) {
                return false;
            }
            if !is_told(entry.protocol(), state) {
                return false;
            }
            is_forced = match entry.protocol() {
                Some(Protocol::Tcp) => state != entry.synced_state() && state != tcp::ESTABLISHED,
                Some(Protocol::Sctp) => state != entry.synced_state() && state != sctp::ESTABLISHED,
                Some(Protocol::Udp) | None => false,
            };
        }
        let timeout_ticks = entry.timeout_s() * TICKS_PER_SECOND;
        let mut end = now_ticks.wrapping_add(timeout_ticks) & !RETRIES_MASK;
        if !is_forced {
            if policy.refresh_ticks > 0
                && let Some(before) = self.sync_end(entry)
                && end.wrapping_sub(before).cast_signed().unsigned_abs()
                    < policy.refresh_ticks.min((timeout_ticks / 2).max(REFRESH_BOUND_TICKS))
            {
                let retries = before & RETRIES_MASK;
                let next = before.wrapping_sub(timeout_ticks).wrapping_add(policy.refresh_ticks / 8);
                if retries >= policy.retries || now_ticks.wrapping_sub(next).cast_signed() < 0 {
                    return false;
                }
                end |= retries + 1;
            }
            let is_turn = match policy.period {
                0 => policy.refresh_ticks > 0 || packets == policy.threshold,
                period => is_template || packets % period == policy.threshold,
            };
            if !is_turn {
                return false;
            }
        }
        entry.set_synced_state(state);
        if policy.refresh_ticks > 0 {
            self.set_sync_end(entry, end);
        }
        true
    }

    fn has_template(&self, entry: Entry<'_>) -> bool {
        let mut controller = entry.controller();
        for _ in 0..CONTROLLERS_MAX {
            if controller.is_none() {
                return false;
            }
            let entry = self.entry(controller);
            if entry.flags().has(Flags::TEMPLATE) {
                return true;
            }
            controller = entry.controller();
        }
        false
    }

    /// Calls `send` for the records that an inbound datagram of one-packet scheduling makes: it makes none itself. Its
    /// controller still counts it, and gets its packet counted.
    pub fn synchronise_one_packet(
        &self,
        controller: EntryId,
        policy: &Policy,
        now: Instant,
        send: impl FnMut(SyncRecord, Option<&EngineOctets>),
    ) {
        self.synchronise_controllers(controller, policy, ticks(now), send);
    }

    /// Calls `send` for the records that entries make whose end was put off because they control others; see
    /// [`Table::note_postponed`].
    pub fn synchronise_postponed(
        &self,
        policy: &Policy,
        now: Instant,
        mut send: impl FnMut(SyncRecord, Option<&EngineOctets>),
    ) {
        let now_ticks = ticks(now);
        for _ in 0..self.postponed().len() {
            let Some(id) = self.postponed().pop() else { return };
            self.with_entry(id, |entry| {
                if !entry.is_expired(now_ticks) {
                    self.synchronise(entry, policy, policy.threshold, now_ticks, &mut send);
                }
            });
        }
    }

    /// Brings the table up to date with what a master told. `find_destination` says which real server of this director
    /// that is; it is called at most once, the entry's bucket held.
    pub fn apply(
        &self,
        synced: &Synced<'_>,
        now: Instant,
        find_destination: impl Fn() -> Option<DestinationId>,
    ) -> Applied {
        let is_template = synced.flags.has(Flags::TEMPLATE);
        let data = if is_template { synced.engine_data } else { &[] };
        let hash = match data {
            [] => self.hash(synced.key.protocol, synced.key.client),
            data => self.hash_of_data(data),
        };
        let found = match is_template {
            true => self.find_template(hash, &synced.key, data, now),
            false => self.find_inbound(hash, &synced.key, now),
        };
        if let Some(found) = found {
            if synced.unless_since.is_some_and(|since| found.is_restarted_since(since)) {
                return Applied::Newer;
            }
            if is_template || found.entry().destination_endpoint() == synced.destination {
                self.update(&found, synced, find_destination);
                return Applied::Updated;
            }
            // The master has replaced it, or this is the late end of one that it replaced. An entry that controls
            // others stays, and the news are lost on it.
            if synced.flags.has(Flags::INACTIVE) || !found.expire_now() {
                return Applied::Late;
            }
        }
        let destination_id = find_destination();
        let flags = match destination_id {
            Some(id) => self.bound_flags(synced.flags, id),
            None => synced.flags.with(Flags::NO_DESTINATION),
        };
        let new = New {
            key: synced.key,
            destination: synced.destination,
            destination_id: destination_id.unwrap_or(DestinationId::NONE),
            flags: flags.with(Flags::SYNC),
            mark: synced.mark,
            controller: EntryId::NONE,
            timeout_s: 0,
        };
        let inserted = match is_template {
            true => self.insert_template(hash, &new, data, now),
            false => self.insert(hash, &new, now),
        };
        match inserted {
            Inserted::New(found) => {
                if !is_template
                    && !flags.has(Flags::INACTIVE)
                    && let Some(id) = destination_id
                {
                    self.destinations().count_active(id, true);
                }
                self.settle(&found, synced);
                Applied::New
            }
            // A worker was faster.
            Inserted::Existing(found) => {
                self.update(&found, synced, || destination_id);
                Applied::Updated
            }
            Inserted::Full => Applied::Full,
        }
    }

    fn update(&self, found: &Found<'_>, synced: &Synced<'_>, find_destination: impl Fn() -> Option<DestinationId>) {
        let entry = found.entry();
        let (old, id) = (entry.flags(), entry.destination());
        let is_inactive = synced.flags.has(Flags::INACTIVE);
        let is_counted = id != DestinationId::NONE && !synced.flags.has(Flags::TEMPLATE);
        if is_counted && old.has(Flags::INACTIVE) != is_inactive {
            self.destinations().count_active(id, !is_inactive);
        }
        entry.set_flags(if is_inactive { old.with(Flags::INACTIVE) } else { old.without(Flags::INACTIVE) });
        if id == DestinationId::NONE
            && let Some(id) = find_destination()
        {
            self.bind(entry, id);
        }
        self.settle(found, synced);
    }

    /// Gives an entry without a destination one.
    fn bind(&self, entry: Entry<'_>, id: DestinationId) {
        let flags = self.bound_flags(entry.flags(), id);
        let is_template = flags.has(Flags::TEMPLATE);
        self.destinations().bind(id, is_template);
        if !is_template && !flags.has(Flags::INACTIVE) {
            self.destinations().count_active(id, true);
        }
        entry.set_flags(flags);
        entry.set_destination(id);
    }

    /// Flags of a synchronised entry that gets a destination: how it is reached this director says.
    fn bound_flags(&self, flags: Flags, id: DestinationId) -> Flags {
        let method = self.destinations().get(id).method();
        let ours = Flags(Flags::METHOD).with(Flags::NO_OUTPUT).with(Flags::NO_DESTINATION);
        let kept = flags.without(ours).with(Flags(method as u32));
        let kept = if method == Method::Masquerading { kept } else { kept.with(Flags::NO_OUTPUT) };
        if kept.has(Flags::TEMPLATE) { kept.with(Flags::INACTIVE) } else { kept }
    }

    /// State, timer and packet count of an entry, as told.
    fn settle(&self, found: &Found<'_>, synced: &Synced<'_>) {
        let timeouts = self.timeouts();
        let timeout_s = match (synced.timeout_s, synced.key.protocol) {
            (0, _) if synced.flags.has(Flags::TEMPLATE) => TEMPLATE_TIMEOUT_S,
            (0, Some(Protocol::Tcp)) => timeouts.tcp_s(synced.state),
            (0, Some(Protocol::Udp)) => timeouts.udp_s(),
            (0, Some(Protocol::Sctp)) => sctp::timeout_s(synced.state),
            (0, None) => TEMPLATE_TIMEOUT_S,
            (timeout_s, _) => timeout_s,
        };
        let entry = found.entry();
        entry.set_state(synced.state, timeout_s);
        entry.set_in_packets(synced.packets);
        entry.set_synced_state(synced.state);
        match synced.left_ms {
            Some(left_ms) => found.restart_with(left_ms.div_ceil(TICK_MS)),
            None => found.restart(),
        }
    }
}

/// Whether backups are told of connections of this protocol in this state.
fn is_told(protocol: Option<Protocol>, state: State) -> bool {
    match protocol {
        Some(Protocol::Tcp) => {
            [tcp::ESTABLISHED, tcp::FIN_WAIT, tcp::CLOSE, tcp::CLOSE_WAIT, tcp::TIME_WAIT].contains(&state)
        }
        Some(Protocol::Sctp) => {
            let ends = [sctp::SHUTDOWN_SENT, sctp::SHUTDOWN_RECEIVED, sctp::SHUTDOWN_ACK_SENT, sctp::CLOSED];
            state == sctp::ESTABLISHED || ends.contains(&state)
        }
        Some(Protocol::Udp) | None => true,
    }
}

impl Found<'_> {
    /// Calls `send` for each record that the inbound packet just followed makes: of the connection and of what controls
    /// it.
    pub fn synchronise(&self, policy: &Policy, send: impl FnMut(SyncRecord, Option<&EngineOctets>)) {
        let entry = self.entry();
        self.table().synchronise(entry, policy, entry.in_packets(), self.now_ticks(), send);
    }
}

#[cfg(test)]
mod tests;
