//! The worker threads: pinned, each over its AF_XDP port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::base::Duration;
use crate::forward::{Forwarder, Shared};
use crate::host::clock::Clock;
use crate::port::xsk::{Waker, XskPort};
use crate::worker::Worker;

/// Empty batches after which a worker waits in the kernel instead of looking again.
const SPINS: u32 = 200;
/// The longest wait: the sweep goes on, and a stop is noticed.
const WAIT: Duration = Duration::from_millis(10);

/// Running workers. Dropping them stops and joins them.
pub struct Workers {
    stop: Arc<AtomicBool>,
    threads: Vec<(JoinHandle<()>, Waker)>,
}

impl Workers {
    /// Starts one thread for each port; `cpus` are where they run, in order (a missing one is not pinned).
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn start(ports: Vec<XskPort>, cpus: &[usize], shared: &Arc<Shared>, clock: Clock) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = Self { stop: Arc::clone(&stop), threads: Vec::new() };
        for (number, port) in ports.into_iter().enumerate() {
            let waker = port.waker();
            let cpu = cpus.get(number).copied();
            let (shared, stop) = (Arc::clone(shared), Arc::clone(&stop));
            let thread = std::thread::Builder::new().name(format!("lvx-worker-{number}")).spawn(move || {
                if let Some(id) = cpu
                    && !core_affinity::set_for_current(core_affinity::CoreId { id })
                {
                    tracing::warn!("worker {number} cannot run on processor {id}; it is not pinned");
                }
                let forwarder = Forwarder::new(shared, number);
                run(Worker::new(port, forwarder, clock.now()), &stop, clock);
            })?;
            workers.threads.push((thread, waker));
        }
        Ok(workers)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for (thread, waker) in self.threads.drain(..) {
            waker.wake();
            // A worker that panicked has ended the process in release builds; here there is nothing left to say.
            let _ = thread.join();
        }
    }
}

fn run(mut worker: Worker<XskPort>, stop: &AtomicBool, clock: Clock) {
    let mut idle = 0;
    while !stop.load(Ordering::Relaxed) {
        if worker.step_timed(|| clock.now()) > 0 {
            idle = 0;
            continue;
        }
        idle += 1;
        if idle > SPINS {
            worker.sleep();
            worker.port_mut().wait(WAIT);
        } else {
            std::hint::spin_loop();
        }
    }
    worker.sleep();
}
