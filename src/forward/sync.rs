//! Records for the sync daemon: a worker puts them into its queue, control makes datagrams of them.
//!
//! Without a master a worker pays one load a batch.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use crossbeam::queue::ArrayQueue;

use crate::base::Instant;
use crate::conn::engine_data::EngineOctets;
use crate::conn::sync::{Policy, SyncRecord};
use crate::conn::{EntryId, Found};
use crate::forward::pipeline::Forwarder;

/// Records of one worker that may wait for control; more are counted and lost.
pub const SYNC_RECORDS_MAX: usize = 1 << 13;
/// Records of one worker with data of a persistence engine that may wait for control.
pub const SYNC_ENGINE_DATA_MAX: usize = 1 << 10;

/// Which sync daemons run, as far as workers care.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SyncRoles {
    /// Connections make records.
    pub is_master: bool,
    /// Nothing inbound is balanced: a backup runs and `backup_only` is set.
    pub is_passive: bool,
}

const MASTER: u8 = 1;
const PASSIVE: u8 = 2;

/// The roles, set by control and read by workers.
#[derive(Default, Debug)]
pub struct SharedRoles(AtomicU8);

impl SharedRoles {
    /// The roles now.
    #[inline]
    pub fn load(&self) -> SyncRoles {
        let bits = self.0.load(Relaxed);
        SyncRoles { is_master: bits & MASTER != 0, is_passive: bits & PASSIVE != 0 }
    }

    /// Other roles from now on.
    pub fn store(&self, roles: SyncRoles) {
        self.0.store((u8::from(roles.is_master) * MASTER) | (u8::from(roles.is_passive) * PASSIVE), Relaxed);
    }
}

/// The records of one worker on their way to control: one thread puts, one takes. The queues are made when the first
/// master starts.
#[derive(Default)]
pub struct SyncQueue {
    queues: OnceLock<Queues>,
    lost: AtomicU64,
}

struct Queues {
    records: ArrayQueue<SyncRecord>,
    /// One for each record that says so, in their order.
    engine_data: ArrayQueue<EngineOctets>,
}

impl SyncQueue {
    /// Makes the queues, empty. To be called before the worker learns of the master.
    pub fn prepare(&self) {
        self.queues.get_or_init(|| Queues {
            records: ArrayQueue::new(SYNC_RECORDS_MAX),
            engine_data: ArrayQueue::new(SYNC_ENGINE_DATA_MAX),
        });
        while self.take().is_some() {}
    }

    /// Puts a record; when there is no room it is counted and lost.
    pub fn put(&self, record: SyncRecord, engine_data: Option<&EngineOctets>) {
        debug_assert_eq!(record.has_engine_data, engine_data.is_some());
        // Nobody else puts: what has room now has room until then.
        let Some(queues) = self.queues.get().filter(|queues| !queues.records.is_full()) else {
            self.lost.fetch_add(1, Relaxed);
            return;
        };
        let has_room = engine_data.is_none_or(|data| queues.engine_data.push(*data).is_ok());
        if !has_room || queues.records.push(record).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Takes the oldest record, and the data of its persistence engine.
    pub fn take(&self) -> Option<(SyncRecord, Option<EngineOctets>)> {
        let queues = self.queues.get()?;
        let record = queues.records.pop()?;
        let engine_data = if record.has_engine_data { queues.engine_data.pop() } else { None };
        Some((record, engine_data))
    }

    /// Records that wait.
    pub fn waiting(&self) -> usize {
        self.queues.get().map_or(0, |queues| queues.records.len())
    }

    /// Records that found no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }
}

impl Forwarder {
    /// Makes the records of an inbound packet that was just followed.
    #[cold]
    #[inline(never)]
    pub(super) fn synchronise(&self, found: &Found<'_>) {
        let queue = self.sync_queue();
        found.synchronise(&Policy::of(&self.shared.sysctls), |record, data| queue.put(record, data));
    }

    /// Settles a datagram of one-packet scheduling with what controls it, and makes the records of that.
    pub(super) fn end_one_packet(&self, controller: EntryId, now: Instant) {
        let connections = &self.shared.connections;
        let policy = Policy::of(&self.shared.sysctls);
        if !self.roles().is_master || policy.version_0 || controller.is_none() {
            return connections.end_one_packet(controller);
        }
        let queue = self.sync_queue();
        connections.synchronise_one_packet(controller, &policy, now, |record, data| queue.put(record, data));
        connections.release_controller(controller);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Address, Endpoint};
    use crate::conn::{Flags, Key, State};

    fn record(port: u16, has_engine_data: bool) -> SyncRecord {
        let endpoint = Endpoint::new(Address::v4(1), port);
        SyncRecord {
            key: Key { protocol: None, client: endpoint, other: endpoint },
            destination: endpoint,
            flags: Flags(0),
            state: State::NONE,
            mark: 0,
            timeout_s: 60,
            spread: 0,
            has_engine_data,
        }
    }

    #[test]
    fn engine_data_stay_with_their_records_when_some_are_lost() {
        let queue = SyncQueue::default();
        queue.put(record(1, false), None);
        assert_eq!((queue.lost(), queue.take()), (1, None));
        queue.prepare();
        let data = |port: u16| [port as u8; 256];
        for port in 0..SYNC_RECORDS_MAX as u16 {
            let has_engine_data = port % 4 == 0;
            queue.put(record(port, has_engine_data), has_engine_data.then(|| data(port)).as_ref());
        }
        let lost = SYNC_RECORDS_MAX / 4 - SYNC_ENGINE_DATA_MAX;
        assert_eq!(queue.lost(), 1 + lost as u64);
        let mut taken = 0;
        while let Some((record, engine_data)) = queue.take() {
            assert_eq!(engine_data, record.has_engine_data.then(|| data(record.key.client.port)));
            taken += 1;
        }
        assert_eq!(taken, SYNC_RECORDS_MAX - lost);
        for port in 0..=SYNC_RECORDS_MAX as u16 {
            queue.put(record(port, false), None);
        }
        assert_eq!(queue.lost(), 2 + lost as u64);
        queue.prepare();
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn roles_are_what_was_stored() {
        let shared = SharedRoles::default();
        for (is_master, is_passive) in [(false, false), (true, false), (false, true), (true, true)] {
            let roles = SyncRoles { is_master, is_passive };
            shared.store(roles);
            assert_eq!(shared.load(), roles);
        }
    }
}
