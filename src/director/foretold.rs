//! Packets whose way is told before they go it (`lvx replay --trace`): what was told must come true.

use crate::base::InterfaceId;
use crate::director::Director;
use crate::forward::Verdict;
use crate::forward::trace::{Step, Trace, Unknown, trace};

/// A packet that went its way.
pub struct Gone {
    /// What became of it.
    pub verdict: Verdict,
    /// What left.
    pub sent: Vec<(InterfaceId, Vec<u8>)>,
    /// What was told before.
    pub steps: Vec<Step>,
}

impl Director {
    /// What would become of a frame; `None` when there is no such interface.
    pub fn trace(&self, interface: InterfaceId, frame: &[u8]) -> Option<Trace> {
        trace(&self.shared, interface, frame, self.now)
    }

    /// Tells what would become of a frame, then gives it to the worker; `None` when there is no such interface or the
    /// frame is larger than a chunk.
    ///
    /// # Errors
    /// A sentence when something else came of it than was told, or when the telling changed something.
    pub fn receive_foretold(&mut self, interface: InterfaceId, frame: &[u8]) -> Option<Result<Gone, String>> {
        let before = self.fingerprint();
        let trace = self.trace(interface, frame)?;
        let after = self.fingerprint();
        if before != after {
            return Some(Err(format!("telling of it changed {before} to {after}")));
        }
        let verdict = self.receive(interface, frame)?;
        let server = self.worker.server_of(0);
        let sent = self.take_transmitted();
        let fault = difference(&trace, verdict, server.map(|id| id.0), &sent);
        let gone = Gone { verdict, sent, steps: trace.steps };
        Some(fault.map_or(Ok(gone), Err))
    }

    /// What would move if something had happened to a packet.
    fn fingerprint(&self) -> String {
        use std::sync::atomic::Ordering::Relaxed;
        let connections = &self.shared.connections;
        let counters = connections.counters();
        let worker = &self.shared.workers[0].counters;
        let losses = self.control.losses();
        let mut rows = Vec::new();
        (0..connections.bucket_count().min(1 << 12))
            .for_each(|bucket| self.control.connections_of(bucket, self.now, &mut rows));
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {losses:?} {rows:?}",
            connections.used(),
            connections.inserted(),
            connections.removed(),
            counters.full.load(Relaxed),
            (worker.received.get(), worker.transmitted.get(), worker.passed.get()),
            self.shared.neighbour_requests.len(),
        )
    }
}

/// Where what was told differs from what came of it, as far as it could be told.
fn difference(told: &Trace, verdict: Verdict, server: Option<u32>, sent: &[(InterfaceId, Vec<u8>)]) -> Option<String> {
    if told.unknown == Unknown::Fragments {
        return None;
    }
    if told.verdict != verdict {
        return Some(format!("{} was told, {verdict} came of it", told.verdict));
    }
    let told_server = told.server.map(|id| id.0);
    if told_server != server {
        return Some(format!("server {told_server:?} was told, {server:?} got it"));
    }
    // What is dropped on its way to a server was told of all the same.
    let foretold = told.foretold.map(|id| id.0);
    let is_cut_off = server.is_none() && matches!(verdict, Verdict::Drop(_));
    if foretold != server && !is_cut_off {
        return Some(format!("the steps name server {foretold:?}, {server:?} got it"));
    }
    if told.unknown == Unknown::TunnelMtu {
        return None;
    }
    let is_alike = |one: &(InterfaceId, Vec<u8>), other: &(InterfaceId, Vec<u8>)| {
        one.0 == other.0 && without_identification(&one.1) == without_identification(&other.1)
    };
    let is_same = told.sent.len() == sent.len() && told.sent.iter().zip(sent).all(|(one, other)| is_alike(one, other));
    (!is_same).then(|| format!("{:02x?} was told, {sent:02x?} left", told.sent))
}

/// A frame without the number that a worker gives to the packets and fragments that it makes itself.
fn without_identification(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame.get(12..14) == Some(&[8, 0]) && frame.len() >= 34 {
        frame[18..20].fill(0);
        frame[24..26].fill(0);
    }
    let is_fragment = frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(20) == Some(&44);
    if is_fragment && frame.len() >= 62 {
        frame[58..62].fill(0);
    }
    frame
}
