//! What would become of a packet, step by step in words; nothing changes by it.
//!
//! All that the packet can meet is copied (`stage`), twice: one copy is asked the questions that the pipeline asks, in
//! their order, and the answers are told (`story`); through the other the packet goes by the pipeline itself, and what
//! comes out is the verdict (`ending`). So the verdict cannot differ from what the pipeline does; the agreement of the
//! story with it is a matter of tests (`director::tests::trace`).
//!
//! What the copies lack: what each worker keeps to itself (its limit of ICMP errors and fragments in reassembly count as
//! untouched), and what happens between this moment and the packet.
//!
//! The cost is a copy of all destinations, of the list of services and of one scheduler: for control, not for workers.
//! A worker may have to wait for the lock of one service or bucket as long as that is copied.

mod ending;
mod stage;
mod story;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::base::{Instant, InterfaceId};
use crate::forward::decide::Decision;
use crate::forward::pipeline::Forwarder;
use crate::forward::shared::Shared;
use crate::forward::trace::stage::Stage;
use crate::forward::trace::story::Story;
use crate::forward::verdict::Verdict;
use crate::service::DestinationId;

/// One step of a packet's way.
#[derive(Serialize, Debug)]
pub struct Step {
    /// What it is about, one word.
    pub step: &'static str,
    /// A sentence for people.
    pub text: String,
    /// The same for programs, where there is more than the text.
    #[serde(flatten)]
    pub details: BTreeMap<&'static str, Value>,
}

impl Step {
    /// A step without details.
    pub fn new(step: &'static str, text: impl Into<String>) -> Self {
        Self { step, text: text.into(), details: BTreeMap::new() }
    }

    /// With one more detail.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.details.insert(name, value.into());
        self
    }
}

/// What a worker keeps to itself and a trace therefore cannot know, where it matters for a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unknown {
    /// Nothing.
    Nothing,
    /// A fragment: what the worker holds of the rest of its packet.
    Fragments,
    /// An ICMP error about a tunnel's packet: whether the worker has used the tunnel since its path MTU changed, by which
    /// the client is told one MTU or another.
    TunnelMtu,
}

/// A packet's way.
#[derive(Debug)]
pub struct Trace {
    /// The steps in order; the last is the verdict.
    pub steps: Vec<Step>,
    /// What would become of the packet.
    pub verdict: Verdict,
    /// The real server that gets it.
    pub server: Option<DestinationId>,
    /// The real server that the steps name.
    pub foretold: Option<DestinationId>,
    /// The frames that would leave.
    pub sent: Vec<(InterfaceId, Vec<u8>)>,
    /// What of it is not certain.
    pub unknown: Unknown,
}

impl Forwarder {
    /// The real server to which packet number `position` of the last batch was sent, if it was meant for one.
    pub fn server_of(&self, position: usize) -> Option<DestinationId> {
        let (decision, target) = self.decision(position)?;
        ending::server(decision, &target)
    }
}

/// Follows `frame`, received by `interface`, through a copy of `shared`; `None` when there is no such interface.
pub fn trace(shared: &Arc<Shared>, interface: InterfaceId, frame: &[u8], now: Instant) -> Option<Trace> {
    shared.routes.load().1.link(interface)?;
    let stage = Stage::new(shared, interface, frame, now);
    let mut performance = Stage::new(&stage.shared, interface, frame, now);
    let mut story = Story::new(stage, interface, frame, now);
    story.tell();
    let outcome = performance.perform(interface, frame, now)?;
    let (foretold, mut steps, packet) = (story.foretold, std::mem::take(&mut story.steps), story.packet);
    let server = ending::server(outcome.decision, &outcome.target);
    if words::is_fragment(frame) {
        steps.push(Step::new("fragment", "what workers hold of the rest of its packet is not known here"));
    }
    ending::tell(&performance.forwarder, frame, &packet, &outcome, &mut steps);
    let unknown = match outcome.decision {
        Decision::RelayFromTunnel => Unknown::TunnelMtu,
        _ if words::is_fragment(frame) => Unknown::Fragments,
        _ => Unknown::Nothing,
    };
    Some(Trace { steps, verdict: outcome.verdict, server, foretold, sent: outcome.sent, unknown })
}
