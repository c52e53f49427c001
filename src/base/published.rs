//! Snapshots: one writer publishes, many readers adopt at a time of their choosing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A value behind an `Arc` with a generation. Whether there is a newer one costs a reader one atomic load.
///
/// A replaced value is freed by a later [`Published::publish`], once no reader has it: what ten thousand services take
/// is never given back between two packets. At most one value a reader, and one more, wait for that.
pub struct Published<T> {
    generation: AtomicU64,
    value: Mutex<Arc<T>>,
    /// Values that were replaced and that readers may still have.
    replaced: Mutex<Vec<Arc<T>>>,
}

impl<T> Published<T> {
    /// Publishes `value` as generation 1.
    pub fn new(value: T) -> Self {
        Self { generation: AtomicU64::new(1), value: Mutex::new(Arc::new(value)), replaced: Mutex::default() }
    }

    /// Replaces the value and returns its generation.
    pub fn publish(&self, value: T) -> u64 {
        let value = Arc::new(value);
        let (before, generation) = {
            let mut slot = self.value.lock().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::replace(&mut *slot, value);
            // Under the mutex, so that a reader who sees the generation finds at least this value.
            (before, self.generation.fetch_add(1, Ordering::Release) + 1)
        };
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody can take one that has no reader any more.
        replaced.retain(|value| Arc::strong_count(value) > 1);
        replaced.push(before);
        generation
    }

    /// The newest value for readers of its own: what is published later reaches them not.
    #[must_use]
    pub fn copy(&self) -> Self {
        let (_, value) = self.load();
        Self { generation: AtomicU64::new(1), value: Mutex::new(value), replaced: Mutex::default() }
    }

    /// The newest generation.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The newest value and its generation.
    pub fn load(&self) -> (u64, Arc<T>) {
        let slot = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        (self.generation.load(Ordering::Relaxed), Arc::clone(&slot))
    }
}

/// A reader's own copy of the newest snapshot.
pub struct Adopted<T> {
    generation: u64,
    value: Arc<T>,
}

impl<T> Adopted<T> {
    /// Adopts the newest value.
    pub fn new(published: &Published<T>) -> Self {
        let (generation, value) = published.load();
        Self { generation, value }
    }

    /// Takes the newest value if there is a newer one; true when it did. One atomic load when not.
    #[inline]
    pub fn refresh(&mut self, published: &Published<T>) -> bool {
        if published.generation() == self.generation {
            return false;
        }
        (self.generation, self.value) = published.load();
        true
    }

    /// The generation adopted.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The value adopted.
    #[inline]
    pub fn value(&self) -> &T {
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_adopt_when_told() {
        let published = Published::new(1);
        let mut reader = Adopted::new(&published);
        assert!(!reader.refresh(&published));
        assert_eq!(published.publish(2), 2);
        assert_eq!(*reader.value(), 1);
        assert!(reader.refresh(&published));
        assert_eq!((*reader.value(), reader.generation()), (2, 2));
    }

    #[test]
    fn readers_free_nothing() {
        let value = Arc::new(());
        let published = Published::new(Arc::clone(&value));
        let mut reader = Adopted::new(&published);
        for _ in 0..5 {
            published.publish(Arc::clone(&value));
        }
        // The reader's, the newest, the one before, and this one.
        assert_eq!(Arc::strong_count(&value), 4);
        reader.refresh(&published);
        assert_eq!(Arc::strong_count(&value), 4);
        published.publish(Arc::clone(&value));
        assert_eq!(Arc::strong_count(&value), 3, "the reader's is the one before");
        reader.refresh(&published);
        published.publish(Arc::clone(&value));
        assert_eq!(Arc::strong_count(&value), 3);
    }
}
