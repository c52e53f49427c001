//! Which part of something that is kept in parts belongs to the running thread.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Parts that such things have; beyond so many threads, some share one.
pub const SHARDS: usize = 16;

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// The running thread's part, below [`SHARDS`]. What follows from it must not show outside: threads get theirs in the
/// order in which they ask first.
#[inline]
pub fn own() -> usize {
    let own = OWN.get();
    if own < SHARDS { own } else { assign() }
}

#[cold]
fn assign() -> usize {
    let own = NEXT.fetch_add(1, Relaxed) % SHARDS;
    OWN.set(own);
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods)] // Threads are what is tested.
    fn a_thread_keeps_its_part_and_the_next_has_another() {
        let parts: Vec<usize> = (0..2)
            .map(|_| {
                std::thread::spawn(|| {
                    assert_eq!(own(), own());
                    own()
                })
                .join()
                .unwrap()
            })
            .collect();
        assert!(parts.iter().all(|part| *part < SHARDS));
        assert_eq!(own(), own());
    }
}
