//! An open cache without its types, for people who look inside.

use super::{Cache, CacheKey, CacheValue, Shared, explain, report};
use crate::crdt::Dot;
use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;
use crate::report::{CacheReport, Marks};
use crate::store::Position;
use crate::wire;

/// An open cache of any types, for people who look inside.
pub trait Inspect {
    /// Reports everything but the registers.
    fn report(&self) -> CacheReport;
    /// Returns the encoding of the key that a text stands for.
    fn key_of(&self, text: &str) -> Option<Vec<u8>>;
    /// Returns what is held for keys. Hashes values only if asked for: that costs what values cost.
    fn marks(&self, keys: &[Vec<u8>], hash: bool) -> Marks;
    /// Returns a page of what is held, and where to go on.
    fn marks_page(&self, cursor: u64, limit: usize) -> (Marks, Option<u64>);
    /// Has the protocol compare these keys with a member's. Returns how many it will.
    fn audit_keys(&self, with: ReplicaId, keys: &[Vec<u8>]) -> usize;
    /// Returns the value of a key as text. Does not count as a use.
    fn value_text(&self, key: &[u8]) -> Option<String>;
    /// Returns keys, the most recently used first; nothing without a capacity.
    fn recent_keys(&self, limit: usize) -> Vec<String>;
    /// Returns the replicas that are not known to have seen an event, the nodes they live on, and for how many
    /// milliseconds each has been silent.
    fn who_lacks(&self, origin: ReplicaId, dot: HlcTime) -> Vec<(ReplicaId, String, u64)>;
    /// Returns the node that a replica of this cache lives on.
    fn node_of(&self, replica: &ReplicaId) -> Option<String>;
}

impl<K: CacheKey, V: CacheValue> Cache<K, V> {
    /// This cache at one moment: clocks, members and their lag, tombstones, repairs, warnings. Holds
    /// the replica's lock for microseconds, and never for longer with more keys.
    #[must_use]
    pub fn inspect(&self) -> CacheReport {
        report::report(&self.shared)
    }
}

impl<K: CacheKey, V: CacheValue> Inspect for Shared<K, V> {
    fn report(&self) -> CacheReport {
        report::report(self)
    }

    fn key_of(&self, text: &str) -> Option<Vec<u8>> {
        let typed = |bytes: Vec<u8>| match wire::decode_key::<K>(&bytes) {
            Ok(key) => wire::encode_key(&key).ok(),
            Err(_) => None,
        };
        let candidates = crate::report::candidates(text);
        let known = explain::contain(|| candidates.iter().cloned().find_map(typed));
        // A key that does not decode here may still be held, as it came.
        known.or_else(|| crate::report::encoding(text))
    }

    fn marks(&self, keys: &[Vec<u8>], hash: bool) -> Marks {
        let found: Vec<_> = keys.iter().map(|key| explain::find(self, key)).collect();
        explain::marks(self, &found, hash)
    }

    fn marks_page(&self, cursor: u64, limit: usize) -> (Marks, Option<u64>) {
        let (page, next) = self.store.page(Position::from_cursor(cursor), limit);
        let found: Vec<_> = page.into_iter().map(Some).collect();
        (explain::marks(self, &found, false), next.map(Position::to_cursor))
    }

    fn audit_keys(&self, with: ReplicaId, keys: &[Vec<u8>]) -> usize {
        let slots: Vec<_> = keys.iter().filter_map(|key| explain::find(self, key)).map(|found| found.slot).collect();
        let sent = self.engine.lock().replica.audit_registers(with, &slots);
        self.wake_driver();
        sent
    }

    fn value_text(&self, key: &[u8]) -> Option<String> {
        let found = explain::find(self, key)?;
        explain::contain(|| {
            let value = self.is_visible(&found).then(|| explain::encoded_value(&found.item)).flatten()?;
            Some(crate::report::show_value(&value))
        })
    }

    fn recent_keys(&self, limit: usize) -> Vec<String> {
        let slots: Vec<_> = self.engine.lock().by_recency().take(limit).collect();
        let found = slots.into_iter().filter_map(|slot| self.store.resolve(slot));
        let keys = found.filter_map(|found| explain::contain(|| explain::encoded_key(&found.item)));
        keys.map(|key| crate::report::show(&key)).collect()
    }

    fn who_lacks(&self, origin: ReplicaId, dot: HlcTime) -> Vec<(ReplicaId, String, u64)> {
        let mono = self.around.time.now().mono;
        let lacking = self.engine.lock().replica.view().who_lacks(Dot::new(origin, dot));
        let names = self.around.host.names(&self.name);
        let called = |id: ReplicaId| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
        lacking.into_iter().map(|(id, heard)| (id, called(id), mono.saturating_sub(heard) / 1_000_000)).collect()
    }

    fn node_of(&self, replica: &ReplicaId) -> Option<String> {
        if *replica == self.id() {
            Some(self.around.host.node_name())
        } else {
            self.around.host.names(&self.name).remove(replica)
        }
    }
}
