//! The VRRP thread before all others: scheduling, processors, memory.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Pid, setpriority_process};
use rustix::thread::{CpuSet, gettid, sched_setaffinity};

use crate::config::model::ProcessSettings;
use crate::host::sys;
use crate::host::vrrp::REALTIME_PRIORITY_DEFAULT;
use crate::vrrp::Level;

/// Does what the settings ask of the calling thread; lines for the log.
///
/// Without a wish the thread is real-time where that is permitted: a busy host that delays advertisements loses its
/// addresses. `vrrp_priority` alone is a wish to be an ordinary thread with that niceness.
pub(super) fn prepare(settings: &ProcessSettings) -> Vec<(Level, String)> {
    let mut lines = Vec::new();
    if !settings.processors.is_empty() {
        let mut set = CpuSet::new();
        settings.processors.iter().filter(|&&it| (it as usize) < CpuSet::MAX_CPU).for_each(|&it| set.set(it as usize));
        if let Err(error) = sched_setaffinity(None, &set) {
            lines.push((Level::Warning, format!("vrrp_cpu_affinity: {error}")));
        }
    }
    match (settings.realtime_priority, settings.priority) {
        (None, Some(niceness)) => {
            let own: Pid = gettid();
            if let Err(error) = setpriority_process(Some(own), niceness.into()) {
                lines.push((Level::Warning, format!("vrrp_priority {niceness}: {error}")));
            }
        }
        (wish, _) => {
            let priority = wish.unwrap_or(REALTIME_PRIORITY_DEFAULT);
            lines.push(match sys::set_realtime(priority) {
                Ok(()) => (Level::Information, format!("VRRP runs with real-time priority {priority}")),
                Err(error) => {
                    let text = format!("VRRP runs without real-time priority, a busy host may delay it: {error}");
                    (Level::Warning, text)
                }
            });
        }
    }
    // Pages are locked as they are touched: locking at once all that tables have reserved would be more than is used.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if settings.is_locked
        && let Err(error) = mlockall(flags)
    {
        lines.push((Level::Warning, format!("vrrp_no_swap: {error}")));
    }
    lines
}
