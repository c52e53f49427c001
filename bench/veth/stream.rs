//! A thread that sends the frames of a profile, at a rate or as fast as the ring takes them.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lvx::base::InterfaceId;
use lvx::port::xsk::{RING_SLOTS, XskConfig, XskMonitor, XskPort, XskQueue};
use lvx::port::{BATCH_FRAMES, Port};

use crate::net::Namespace;
use crate::profile::{self, Maker};
use crate::samples;
use crate::subject::{Proof, check_chunks};

/// Frames that a stream may be behind its rate. What it is more, because the processor was taken from it, it does not
/// make up for: a burst that nobody asked for would be lost and counted against the subject.
const BEHIND_MAX: f64 = 2.0 * BATCH_FRAMES as f64;

/// Stamped frames a second, at most.
const STAMPS_PER_SECOND: f64 = 1000.0;

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Frames a second; `None` for as many as the ring takes.
    pub rate: Option<f64>,
    /// When it ends.
    pub seconds: f64,
    /// When it ends before that, frames.
    pub limit: u64,
    /// Whether some frames carry the moment at which they were made.
    pub stamps: bool,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Frames that have left.
    pub frames: u64,
    /// For how long, seconds.
    pub seconds: f64,
}

/// A running stream.
pub struct Stream {
    thread: JoinHandle<f64>,
    monitor: XskMonitor,
}

impl Stream {
    /// Starts in `namespace`, by its interface `e`.
    pub fn start(namespace: &Namespace, maker: Maker, load: Load, cpu: Option<usize>) -> Result<Self, String> {
        let (ready, started) = mpsc::channel();
        let thread = namespace.within(move || {
            crate::pin(cpu);
            let queue = XskQueue { interface: InterfaceId(0), name: "e".to_string(), queue: 0 };
            let port = XskPort::open(&XskConfig::new(vec![queue]), None).map_err(|error| error.to_string());
            let monitor = port.as_ref().map(XskPort::monitor).map_err(String::clone);
            // Whoever waits has gone only when the benchmark has failed already.
            let _ = ready.send(monitor);
            port.map_or(0.0, |port| send(port, maker, load))
        });
        let monitor = started.recv().map_err(|error| error.to_string())??;
        Ok(Self { thread, monitor })
    }

    /// Waits for its end and says what was sent.
    pub fn finish(self) -> Sent {
        let seconds = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Sent { frames: self.monitor.counters().transmitted.get(), seconds }
    }
}

fn send(mut port: XskPort, mut maker: Maker, load: Load) -> f64 {
    // One ring's worth of chunks goes round. The rest is kept, so that the transmit ring never overflows.
    let mut kept: Vec<_> = std::iter::from_fn(|| port.allocate(1, InterfaceId(0))).collect();
    let mut usable = kept.split_off(kept.len() - RING_SLOTS as usize);
    usable.drain(..).for_each(|frame| port.release(frame));
    let begin = Instant::now();
    let mut stamps = Stamps { interval: stamp_interval(load), next: begin };
    // Frames made, and those that the rate lost to what was not made up for.
    let (mut made, mut forgone) = (0u64, 0.0f64);
    while made < load.limit {
        let now = Instant::now();
        let elapsed = (now - begin).as_secs_f64();
        if elapsed >= load.seconds {
            break;
        }
        let mut due = load.limit - made;
        if let Some(rate) = load.rate {
            let behind = elapsed * rate - forgone - made as f64;
            forgone += (behind - BEHIND_MAX).max(0.0);
            due = due.min(behind.clamp(0.0, BEHIND_MAX) as u64);
        }
        let before = made;
        for _ in 0..due.min(BATCH_FRAMES as u64) {
            let Some(frame) = port.allocate(maker.octets(), InterfaceId(0)) else { break };
            let bytes = port.bytes_mut(&frame);
            maker.write(bytes);
            if load.stamps && stamps.is_due(now) {
                profile::stamp(bytes, samples::wall_clock_ns());
            }
            port.transmit(frame, InterfaceId(0));
            made += 1;
        }
        port.flush();
        if made == before {
            // The kernel's own thread may have to run on this processor before there is room again.
            std::thread::yield_now();
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    kept.drain(..).for_each(|frame| port.release(frame));
    check_chunks(&mut port, 1, Proof::Still, |port| {
        port.flush();
        port
    });
    assert_eq!(port.monitor().counters().transmit_full.get(), 0, "the generator's ring never overflows");
    seconds
}

/// When frames are stamped.
struct Stamps {
    interval: Duration,
    next: Instant,
}

impl Stamps {
    fn is_due(&mut self, now: Instant) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now + self.interval;
        }
        is_due
    }
}

/// At most one frame in ten is stamped: to compute checksums anew takes its time.
fn stamp_interval(load: Load) -> Duration {
    let rate = load.rate.map_or(STAMPS_PER_SECOND, |rate| (rate / 10.0).min(STAMPS_PER_SECOND));
    Duration::from_secs_f64(1.0 / rate.max(0.1))
}
