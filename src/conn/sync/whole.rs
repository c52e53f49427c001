//! All that backups are ever told of, bucket by bucket, for a backup that has nothing.
//!
//! Half-open connections are left out as in datagrams, and so is what a backup could not take: one-packet scheduling,
//! full NAT, templates that wait for a client's port. Nothing is noted in the entries: they are told of by datagrams as
//! before.

use crate::base::Instant;
use crate::conn::engine_data::EngineOctets;
use crate::conn::entry::{Flags, TICKS_PER_SECOND, ticks};
use crate::conn::sync::{Policy, SyncRecord, is_told};
use crate::conn::table::{CONTROLLING_TIMEOUT_S, Table};

/// Which half of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Persistence templates.
    Templates,
    /// Connections.
    Connections,
}

impl Table {
    /// Calls `send` for what backups are told of in bucket `index`, the bucket held: the record, milliseconds that it has
    /// left, and the data of its persistence engine.
    pub fn tell_bucket(
        &self,
        index: usize,
        part: Part,
        policy: &Policy,
        now: Instant,
        mut send: impl FnMut(SyncRecord, u32, Option<&EngineOctets>),
    ) {
        let now_ticks = ticks(now);
        self.visit_bucket(index, now, |entry| {
            let flags = entry.flags();
            let is_template = flags.has(Flags::TEMPLATE);
            if is_template != (part == Part::Templates) || flags.has(Flags::ONE_PACKET) || flags.has(Flags::FULL_NAT) {
                return;
            }
            let is_left_out = match part {
                Part::Templates => flags.has(Flags::NO_CLIENT_PORT),
                Part::Connections => {
                    !is_told(entry.protocol(), entry.state()) || policy.templates_only && self.has_template(entry)
                }
            };
            if is_left_out {
                return;
            }
            let (record, engine_data) = self.record_of(entry, policy);
            // What only goes on because it controls others would get another minute here.
            let left_ticks = match entry.is_expired(now_ticks) {
                true => CONTROLLING_TIMEOUT_S * TICKS_PER_SECOND,
                false => entry.deadline().wrapping_sub(now_ticks),
            };
            let left_ms = u64::from(left_ticks) * u64::from(1000 / TICKS_PER_SECOND);
            send(record, u32::try_from(left_ms).unwrap_or(u32::MAX), engine_data.as_ref());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Duration;
    use crate::conn::sync::Applied;
    use crate::conn::sync::tests::{POLICY, SERVER, endpoint, key, new, table, told};
    use crate::conn::{Inserted, New, tcp};
    use crate::service::Protocol;

    fn insert(table: &Table, new: &New, now: Instant) {
        let hash = table.hash(new.key.protocol, new.key.client);
        let inserted = match new.flags.has(Flags::TEMPLATE) {
            true => table.insert_template(hash, new, &[], now),
            false => table.insert(hash, new, now),
        };
        assert!(matches!(inserted, Inserted::New(_)));
    }

    fn all(table: &Table, part: Part, policy: &Policy, now: Instant) -> Vec<(SyncRecord, u32)> {
        let mut records = Vec::new();
        for bucket in 0..table.bucket_count() {
            table.tell_bucket(bucket, part, policy, now, |record, left_ms, _| records.push((record, left_ms)));
        }
        records
    }

    #[test]
    fn what_is_told_and_what_is_left_out() {
        let table = table();
        let now = Instant::from_seconds(5);
        let template = Flags(0x1000);
        insert(&table, &New { flags: template, timeout_s: 60, ..new(Protocol::Tcp, 0) }, now);
        insert(&table, &new(Protocol::Udp, 1), now);
        // Half-open.
        insert(&table, &new(Protocol::Tcp, 2), now);
        insert(&table, &New { flags: Flags::ONE_PACKET, ..new(Protocol::Udp, 3) }, now);
        table.apply(&told(Protocol::Tcp, 4, 0, tcp::ESTABLISHED), now, || Some(SERVER));
        let later = now + Duration::from_millis(1500);
        let templates = all(&table, Part::Templates, &POLICY, later);
        assert_eq!((templates.len(), templates[0].1, templates[0].0.flags), (1, 58_500, template));
        let mut connections = all(&table, Part::Connections, &POLICY, later);
        connections.sort_by_key(|(record, _)| record.key.client.port);
        let seen: Vec<_> = connections.iter().map(|(record, left)| (record.key.client.port, *left)).collect();
        assert_eq!(seen, [(1, 1500), (4, 898_500)]);
        assert_eq!((connections[1].0.state, connections[1].0.timeout_s), (tcp::ESTABLISHED, 900));
    }

    #[test]
    fn an_entry_gets_what_is_left_and_keeps_what_is_newer() {
        let table = table();
        let start = Instant::from_seconds(100);
        let whole = |state, left_ms| crate::conn::sync::Synced {
            left_ms: Some(left_ms),
            unless_since: Some(start),
            ..told(Protocol::Tcp, 1, 0, state)
        };
        let apply = |synced: &crate::conn::sync::Synced<'_>, now| table.apply(synced, now, || None);
        assert_eq!(apply(&whole(tcp::ESTABLISHED, 5_000), start), Applied::New);
        let entry = |now| {
            let key = key(Protocol::Tcp, 1);
            let found = table.find_inbound(table.hash(key.protocol, key.client), &key, now).expect("it is there");
            (found.entry().state(), found.entry().expires_s(ticks(now)), found.entry().timeout_s())
        };
        assert_eq!(entry(start), (tcp::ESTABLISHED, 5, 900));
        // What the resync itself brought is not newer than another's.
        assert_eq!(apply(&whole(tcp::ESTABLISHED, 900_001), start), Applied::Updated);
        assert_eq!(entry(start).1, 900, "no more than the whole timeout");
        let datagram = told(Protocol::Tcp, 1, 0x100, tcp::CLOSE_WAIT);
        let later = start + Duration::from_secs(1);
        assert_eq!(apply(&datagram, later), Applied::Updated);
        assert_eq!(apply(&whole(tcp::ESTABLISHED, 800_000), later), Applied::Newer);
        assert_eq!(entry(later).0, tcp::CLOSE_WAIT);
        let next =
            crate::conn::sync::Synced { unless_since: Some(later + Duration::from_millis(10)), ..whole(tcp::CLOSE, 9) };
        assert_eq!(apply(&next, later), Applied::Updated);
        let elsewhere = crate::conn::sync::Synced { destination: endpoint("10.2.0.9", 1), ..datagram };
        assert_eq!(apply(&crate::conn::sync::Synced { flags: Flags(0), ..elsewhere }, later), Applied::New);
    }
}
