//! Counters as listings show them: published every two seconds, with rates.
//!
//! Source: `net/netfilter/ipvs/ip_vs_est.c`, Linux 6.1.

use crate::command::request::Stats;
use crate::control::Control;
use crate::forward::{DestinationCounters, Shared};
use crate::service::DestinationId;
use crate::service::sysctl::Knob;

/// Connections, inbound packets, outbound packets, inbound octets, outbound octets.
const COUNTERS: usize = 5;
/// Scale of each rate, bits: small numbers carry more.
const SCALES: [u32; COUNTERS] = [10, 10, 10, 5, 5];

pub(super) type Counts = [u64; COUNTERS];

/// The published counters of a destination, a service or the whole.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Tally {
    /// What the workers' counters said when they were last read (destinations only).
    raw: Counts,
    published: Counts,
    /// What servers counted that have left since the last tick.
    pending: Counts,
    zero: Counts,
    last: Counts,
    average: Counts,
}

impl Tally {
    /// The tally of a destination whose number may have counted for another one before.
    pub(super) fn starting_at(raw: Counts) -> Self {
        Self { raw, ..Self::default() }
    }

    /// A server leaves: what it counted last is published with the next tick, for its service, for the whole, and
    /// for itself should it come back.
    pub(super) fn collect(&mut self, growth: &Counts) {
        for (pending, growth) in self.pending.iter_mut().zip(growth) {
            *pending = pending.wrapping_add(*growth);
        }
    }

    /// By how much the workers' counters have grown since they were last read; they count as read now.
    pub(super) fn take_growth(&mut self, raw: Counts) -> Counts {
        let growth = std::array::from_fn(|i| raw[i].wrapping_sub(self.raw[i]));
        self.raw = raw;
        growth
    }

    /// Publishes what servers that have left counted.
    fn publish_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.add(&pending);
    }

    /// Takes the workers' counters over; returns by how much they grew.
    fn publish(&mut self, raw: Counts) -> Counts {
        let growth = self.take_growth(raw);
        self.add(&growth);
        growth
    }

    fn add(&mut self, growth: &Counts) {
        for (published, growth) in self.published.iter_mut().zip(growth) {
            *published = published.wrapping_add(*growth);
        }
    }

    /// One step of the moving average: a quarter of the way to what the last two seconds brought.
    fn estimate(&mut self) {
        for (i, scale) in SCALES.into_iter().enumerate() {
            let rate = self.published[i].wrapping_sub(self.last[i]) << (scale - 1);
            self.last[i] = self.published[i];
            let step = (rate.wrapping_sub(self.average[i]) as i64) >> 2;
            self.average[i] = self.average[i].wrapping_add(step as u64);
        }
    }

    /// Makes the counters start from 0 (`ip_vs_zero_stats`).
    pub(super) fn zero(&mut self) {
        self.zero = self.published;
        self.last = self.published;
        self.average = [0; COUNTERS];
    }

    /// What listings show.
    pub(super) fn stats(&self) -> Stats {
        let count = |i: usize| self.published[i].wrapping_sub(self.zero[i]);
        let rate = |i: usize| (self.average[i] + (1 << (SCALES[i] - 1)) - 1) >> SCALES[i];
        Stats {
            connections: count(0),
            in_packets: count(1),
            out_packets: count(2),
            in_octets: count(3),
            out_octets: count(4),
            connection_rate: rate(0),
            in_packet_rate: rate(1),
            out_packet_rate: rate(2),
            in_octet_rate: rate(3),
            out_octet_rate: rate(4),
        }
    }
}

/// What one worker counted for a destination.
pub(super) fn counts(counters: DestinationCounters<'_>) -> Counts {
    [
        counters.connections.get(),
        counters.in_packets.get(),
        counters.out_packets.get(),
        counters.in_octets.get(),
        counters.out_octets.get(),
    ]
}

/// What all workers counted for a destination since the director's start.
pub(super) fn raw_counts(shared: &Shared, id: DestinationId) -> Counts {
    let mut sum = Counts::default();
    for worker in &shared.workers {
        for (sum, count) in sum.iter_mut().zip(counts(worker.counters.destination(id))) {
            *sum = sum.wrapping_add(count);
        }
    }
    sum
}

impl Control {
    /// The estimator's tick: workers' counters are published, rates move.
    pub(super) fn estimate(&mut self) {
        if !self.shared.sysctls.is_on(Knob::RunEstimation) {
            return;
        }
        for service in &mut self.services {
            for server in &mut service.servers {
                let growth = server.tally.publish(raw_counts(&self.shared, server.id));
                service.tally.add(&growth);
                self.total.add(&growth);
                server.tally.publish_pending();
                server.tally.estimate();
            }
            service.tally.publish_pending();
            service.tally.estimate();
        }
        self.total.publish_pending();
        self.total.estimate();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1000 packets in the first two seconds, then nothing: 125, 94, 70, 53, 40, 30 packets a second.
    #[test]
    fn rates_decay_as_the_kernels_do() {
        let mut tally = Tally::default();
        tally.publish([0, 1000, 0, 0, 0]);
        let shown: Vec<u64> = (0..6)
            .map(|_| {
                tally.estimate();
                tally.stats().in_packet_rate
            })
            .collect();
        assert_eq!(shown, [125, 94, 70, 53, 40, 30]);
    }

    /// A constant 100 connections a second: 25, 44, 58, 68.
    #[test]
    fn rates_rise_as_the_kernels_do() {
        let mut tally = Tally::default();
        let shown: Vec<u64> = (1..=4)
            .map(|tick| {
                tally.publish([200 * tick, 0, 0, 0, 0]);
                tally.estimate();
                tally.stats().connection_rate
            })
            .collect();
        assert_eq!(shown, [25, 44, 58, 68]);
    }

    #[test]
    fn zero_hides_what_was_published_and_nothing_else() {
        let mut tally = Tally::default();
        tally.publish([5, 50, 0, 500, 0]);
        tally.zero();
        assert_eq!(tally.stats(), Stats::default());
        tally.publish([6, 50, 0, 500, 0]);
        assert_eq!(tally.stats().connections, 1);
    }
}
