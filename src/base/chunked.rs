//! An array that grows by chunks and never moves: readers hold no lock, addresses stay valid.

use std::sync::OnceLock;

/// Values per chunk.
pub const CHUNK: usize = 256;

/// A table of values by index, made in chunks when a chunk is first asked for.
pub struct Chunked<T> {
    chunks: Box<[OnceLock<Box<[T; CHUNK]>>]>,
}

impl<T: Default> Chunked<T> {
    /// A table for indexes below `capacity`, rounded up to whole chunks; no chunk is made yet.
    pub fn new(capacity: usize) -> Self {
        Self { chunks: (0..capacity.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect() }
    }

    /// Indexes that the table can hold.
    pub fn capacity(&self) -> usize {
        self.chunks.len() * CHUNK
    }

    /// The value at `index`, made with its chunk where this is the first use.
    ///
    /// # Panics
    /// When `index` is not below the capacity: indexes are handed out by the table's owner.
    pub fn get_or_make(&self, index: usize) -> &T {
        let make = || Box::new(std::array::from_fn(|_| T::default()));
        &self.chunks[index / CHUNK].get_or_init(make)[index % CHUNK]
    }

    /// The chunk that holds `index`, if it has been made. It starts at a multiple of its length.
    #[inline]
    pub fn chunk(&self, index: usize) -> Option<&[T; CHUNK]> {
        Some(self.chunks.get(index / CHUNK)?.get()?)
    }

    /// The value at `index`, if its chunk has been made.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        Some(&self.chunk(index)?[index % CHUNK])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn makes_chunks_on_demand() {
        let table: Chunked<AtomicU32> = Chunked::new(300);
        assert_eq!(table.capacity(), 512);
        assert!(table.get(299).is_none());
        table.get_or_make(299).store(5, Ordering::Relaxed);
        assert_eq!(table.get(299).map(|v| v.load(Ordering::Relaxed)), Some(5));
        assert!(table.get(0).is_none());
        assert!(table.chunk(255).is_none());
        assert_eq!(table.chunk(256).map(|chunk| chunk[299 % CHUNK].load(Ordering::Relaxed)), Some(5));
        assert!(table.get(512).is_none());
    }
}
