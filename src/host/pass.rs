//! Frames that user space found not to be ours, back to the kernel's stack as if it had received them.
//!
//! BPF_PROG_TEST_RUN with live frames (Documentation/bpf/bpf_prog_run.rst, kernel 5.18) runs a program that passes
//! everything over the frame; the kernel then builds a socket buffer whose device is the interface named in the
//! context, and receives it. No other device appears, so that reverse path filters, firewall rules and the counters
//! of the stack see what they would have seen.
//!
//! One thread, owned here and fed by a bounded queue from each worker: the system call costs about 20
//! microseconds, which a worker does not have. In generic mode the frame meets our XDP program once more; it gets a source address that
//! only we know, by which the program lets it pass. The link source address is of no use to an IP stack.
//!
//! Limit: [`LIVE_OCTETS_MAX`]; longer frames are dropped and counted.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp as Program};
use aya::{Ebpf, include_bytes_aligned};
use rustix::event::{PollFd, PollFlags, poll};

use super::xdp::{XdpError, of_load};
use crate::base::{InterfaceId, MacAddress};
use crate::port::xsk::{PASS_FRAMES_MAX, PassQueue, PassedFrame, wake_descriptor};

mod checksum;

/// Longest frame that the kernel takes as a live frame on pages of 4 KiB, octets: a page less headroom, the kernel's
/// bookkeeping of test runs and of socket buffers. Kernel 6.18 takes 3408; the bookkeeping differs between versions.
pub const LIVE_OCTETS_MAX: usize = 3392;

/// Octets of an Ethernet header; the kernel takes nothing shorter.
const ETHERNET_OCTETS: usize = 14;

/// An interface that frames may be given back to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PassInterface {
    /// The director's number.
    pub id: InterfaceId,
    /// The kernel's index in this network namespace.
    pub index: u32,
    /// True when the XDP program runs in the driver; false in generic mode.
    pub native: bool,
}

/// Frames by what became of them.
#[derive(Default, Debug)]
pub struct PassCounters {
    /// Received by the kernel's stack.
    pub injected: AtomicU64,
    /// Dropped: the kernel refused the frame (the interface is gone or down).
    pub refused: AtomicU64,
    /// Dropped: longer than [`LIVE_OCTETS_MAX`] or shorter than an Ethernet header.
    pub length: AtomicU64,
}

/// The program that passes, and where to.
pub struct Injector {
    ebpf: Ebpf,
    interfaces: Vec<PassInterface>,
    source: MacAddress,
    counters: Arc<PassCounters>,
}

impl Injector {
    /// Loads the program. `source` is what [`super::xdp::Xdp::set_reinjected_source`] was told.
    pub fn new(interfaces: Vec<PassInterface>, source: MacAddress) -> Result<Self, XdpError> {
        let object = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/pass.bpf.o"));
        let mut ebpf = Ebpf::load(object).map_err(|error| of_load(&error))?;
        let program: &mut Program = ebpf
            .program_mut("lvx_pass")
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| XdpError::Load("no program lvx_pass".to_string()))?;
        program.load().map_err(|error| of_load(&error))?;
        Ok(Self { ebpf, interfaces, source, counters: Arc::default() })
    }

    /// What became of the frames.
    pub fn counters(&self) -> Arc<PassCounters> {
        Arc::clone(&self.counters)
    }

    /// Gives one frame to the stack. Its checksum is completed where it is partial, because the kernel's note that it
    /// is did not reach us.
    pub fn inject(&self, frame: &mut PassedFrame) {
        let interface = self.interfaces.iter().find(|known| known.id == frame.interface);
        let program: Option<&Program> = self.ebpf.program("lvx_pass").and_then(|program| program.try_into().ok());
        let (Some(interface), Some(program)) = (interface, program) else {
            self.counters.refused.fetch_add(1, Relaxed);
            return;
        };
        let bytes = frame.bytes_mut();
        if !(ETHERNET_OCTETS..=LIVE_OCTETS_MAX).contains(&bytes.len()) {
            self.counters.length.fetch_add(1, Relaxed);
            return;
        }
        checksum::complete(bytes);
        if !interface.native {
            bytes[6..12].copy_from_slice(&self.source.0);
        }
        let context = context(bytes.len() as u32, interface.index);
        let run = program.test_run(TestRunOptions {
            data_in: Some(bytes),
            ctx_in: Some(&context),
            repeat: 1,
            attrs: TestRunAttrs::new().xdp_live_frames(1),
            ..TestRunOptions::new()
        });
        let counter = if run.is_ok() { &self.counters.injected } else { &self.counters.refused };
        counter.fetch_add(1, Relaxed);
    }
}

/// `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
fn context(length: u32, index: u32) -> [u8; 24] {
    let mut context = [0; 24];
    context[4..8].copy_from_slice(&length.to_ne_bytes());
    context[12..16].copy_from_slice(&index.to_ne_bytes());
    context
}

/// The thread that gives frames to the stack. Dropping it ends the thread.
pub struct PassThread {
    queues: Vec<Arc<PassQueue>>,
    wake: Arc<OwnedFd>,
    stop: Arc<AtomicBool>,
    counters: Arc<PassCounters>,
    thread: Option<JoinHandle<()>>,
}

impl PassThread {
    /// Starts the thread in the caller's network namespace, with a queue for each of `workers`.
    ///
    /// Call after the XDP program is attached (the interfaces know their mode) and before the ports are opened (they
    /// are given the queues).
    pub fn start(injector: Injector, workers: usize) -> Result<Self, XdpError> {
        let fail = |error: std::io::Error| XdpError::Load(error.to_string());
        let wake = wake_descriptor().map_err(|errno| fail(errno.into()))?;
        let queues: Vec<_> =
            (0..workers).map(|_| Arc::new(PassQueue::new(PASS_FRAMES_MAX, Arc::clone(&wake)))).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let counters = injector.counters();
        let (for_queues, for_wake, for_stop) = (queues.clone(), Arc::clone(&wake), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("lvx-pass".to_string())
            .spawn(move || run(&injector, &for_queues, &for_wake, &for_stop))
            .map_err(fail)?;
        Ok(Self { queues, wake, stop, counters, thread: Some(thread) })
    }

    /// The queue of a worker, counted from 0.
    pub fn queue(&self, worker: usize) -> Option<Arc<PassQueue>> {
        self.queues.get(worker).cloned()
    }

    /// What became of the frames.
    pub fn counters(&self) -> &PassCounters {
        &self.counters
    }

    /// The same, for another thread.
    pub fn counters_shared(&self) -> Arc<PassCounters> {
        Arc::clone(&self.counters)
    }
}

impl Drop for PassThread {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // Written to an eventfd: only a full counter refuses, and that has woken the thread.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(injector: &Injector, queues: &[Arc<PassQueue>], wake: &OwnedFd, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let _ = poll(&mut [PollFd::new(wake, PollFlags::IN)], None);
        let _ = rustix::io::read(wake, &mut [0u8; 8]);
        for queue in queues {
            while let Some(mut frame) = queue.pop() {
                injector.inject(&mut frame);
                queue.recycle(frame);
            }
        }
    }
}
