//! The clients that have read a key since it last changed. Bounded: at the limit another key leaves for a new one.

use crate::serve::sync::lock;
use bytes::Bytes;
use indexmap::IndexMap;
use smallvec::SmallVec;
use std::{
    hash::{BuildHasher, RandomState},
    sync::Mutex,
};

/// The number of parts, each with a lock of its own.
const PARTS: usize = 16;

pub type Readers = SmallVec<[u64; 4]>;

/// The readers of keys.
#[derive(Debug)]
pub struct Table {
    parts: [Mutex<IndexMap<Bytes, Readers>>; PARTS],
    hasher: RandomState,
    most: usize,
}

impl Table {
    /// Returns a table of at most about `most` keys.
    pub fn new(most: usize) -> Self {
        let parts = std::array::from_fn(|_| Mutex::default());
        Self { parts, hasher: RandomState::new(), most: most.div_ceil(PARTS).max(1) }
    }

    fn part(&self, key: &[u8]) -> &Mutex<IndexMap<Bytes, Readers>> {
        &self.parts[self.hasher.hash_one(key) as usize % PARTS]
    }

    /// Adds a reader of a key. Returns the key, with its readers, that had to leave for it.
    pub fn add(&self, key: &[u8], client: u64) -> Option<(Bytes, Readers)> {
        let mut part = lock(self.part(key));
        if let Some(readers) = part.get_mut(key) {
            if !readers.contains(&client) {
                readers.push(client);
            }
            return None;
        }
        let held = part.len();
        let leaving = if held < self.most { None } else { part.swap_remove_index(fastrand::usize(..held)) };
        part.insert(Bytes::copy_from_slice(key), Readers::from_slice(&[client]));
        leaving
    }

    /// Removes a key and returns its readers.
    pub fn take(&self, key: &[u8]) -> Readers {
        lock(self.part(key)).swap_remove(key).unwrap_or_default()
    }

    /// Removes all keys, and frees their memory.
    pub fn clear(&self) {
        for part in &self.parts {
            let keys = std::mem::take(&mut *lock(part));
            drop(keys);
        }
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_returned_once() {
        let table = Table::new(100);
        for client in [1, 2, 1] {
            assert_eq!(table.add(b"k", client), None);
        }
        assert_eq!(table.take(b"k").as_slice(), [1, 2]);
        assert!(table.take(b"k").is_empty());
    }

    #[test]
    fn a_full_table_gives_up_another_key_and_names_its_readers() {
        let table = Table::new(PARTS * 3);
        let mut left = std::collections::BTreeSet::new();
        for key in 0..1000u32 {
            let key = key.to_string();
            if let Some((gone, readers)) = table.add(key.as_bytes(), 7) {
                assert_eq!(readers.as_slice(), [7]);
                assert_ne!(gone, key.as_bytes(), "the new key stays");
                assert!(left.insert(gone), "a key leaves once");
            }
            assert!(table.len() <= PARTS * 3);
        }
        assert_eq!(left.len() + table.len(), 1000, "each key is here, or its readers were named");
        table.clear();
        assert_eq!(table.len(), 0);
    }
}
