//! Keys and values for a run.

use std::fmt::Debug;
use std::hash::{Hash, Hasher};

/// Makes the keys and values of a run, so that users can run their own types.
pub trait Workload {
    /// The key type.
    type Key: Eq + Ord + Hash + Clone + Debug;
    /// The value type.
    type Value: PartialEq + Debug;

    /// The `n`-th key. Different numbers give different keys.
    fn key(&self, n: u16) -> Self::Key;

    /// The value of the `n`-th write. Different numbers give different values.
    fn value(&self, n: u64) -> Self::Value;

    /// Bytes of the encoded key and value.
    fn size(&self, key: &Self::Key, value: Option<&Self::Value>) -> u32;
}

/// Numbers as keys and values; sizes vary so that frames are cut in many places.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers;

impl Workload for Numbers {
    type Key = u16;
    type Value = u64;

    fn key(&self, n: u16) -> u16 {
        n
    }

    fn value(&self, n: u64) -> u64 {
        n
    }

    fn size(&self, _: &u16, value: Option<&u64>) -> u32 {
        value.map_or(8, |n| 8 + (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 55) as u32)
    }
}

/// The hash of a key, the same in every run.
pub(super) fn hash_of<K: Hash>(key: &K) -> u64 {
    // SipHash with fixed keys.
    #[allow(deprecated)]
    let mut hasher = std::hash::SipHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
