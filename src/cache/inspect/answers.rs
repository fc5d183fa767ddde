//! Answers the questions of operators to an open cache.

use super::Inspect;
use crate::cache::shared::Shared;
use crate::cache::{CacheKey, CacheValue, explain, report, tick};
use crate::crdt::Dot;
use crate::hlc::HlcTime;
use crate::recency::HotPlace;
use crate::replica_id::ReplicaId;
use crate::report::{CacheReport, HotKey, HotKeys, Marks, TombstoneLine, candidates, encoding, show, show_value};
use crate::store::{Position, Snapshot};
use crate::wire;

/// The most registers that a search for a prefix takes from the table at once.
const PER_STEP: usize = 256;

impl<K: CacheKey, V: CacheValue> Inspect for Shared<K, V> {
    fn report(&self) -> CacheReport {
        report::report(self)
    }

    fn key_of(&self, text: &str) -> Option<Vec<u8>> {
        let typed = |bytes: Vec<u8>| match wire::decode_key::<K>(&bytes) {
            Ok(key) => wire::encode_key(&key).ok(),
            Err(_) => None,
        };
        let known = explain::contain(|| candidates(text).iter().cloned().find_map(typed));
        // A key that does not decode here may still be held, as the bytes in which it arrived.
        known.or_else(|| encoding(text))
    }

    fn marks(&self, keys: &[Vec<u8>], hash: bool) -> Marks {
        let found: Vec<_> = keys.iter().map(|key| explain::find(self, key)).collect();
        explain::marks(self, &found, hash)
    }

    fn marks_page(&self, cursor: u64, limit: usize) -> (Marks, Option<u64>) {
        let (page, next) = self.reader.store().page(Position::from_cursor(cursor), limit);
        let found: Vec<_> = page.into_iter().map(Some).collect();
        (explain::marks(self, &found, false), next.map(Position::to_cursor))
    }

    fn audit_keys(&self, with: ReplicaId, keys: &[Vec<u8>]) -> usize {
        let slots: Vec<_> = keys.iter().filter_map(|key| explain::find(self, key)).map(|found| found.slot).collect();
        let sent = self.writer.adjust(|engine| engine.replica.audit_registers(with, &slots));
        tick::after_write(self);
        sent
    }

    fn value_text(&self, key: &[u8]) -> Option<String> {
        let found = explain::find(self, key)?;
        explain::contain(|| {
            let value = self.reader.is_visible(&found).then(|| explain::encoded_value(&found.item)).flatten()?;
            Some(show_value(&value))
        })
    }

    fn recent_keys(&self, limit: usize) -> Vec<String> {
        let slots: Vec<_> = self.writer.look(|engine| engine.by_recency(&self.writer.reads).take(limit).collect());
        let found = slots.into_iter().filter_map(|slot| self.reader.store().resolve(slot));
        let keys = found.filter_map(|found| explain::contain(|| explain::encoded_key(&found.item)));
        keys.map(|key| show(&key)).collect()
    }

    fn hot_keys(&self, limit: usize) -> HotKeys {
        let found = self.writer.look(|engine| engine.hot());
        let (noted, (sampled, places)) = (found.is_some(), found.unwrap_or_default());
        let line = |hot: &HotPlace| {
            let found = self.reader.store().resolve(hot.place)?;
            let key = explain::contain(|| explain::encoded_key(&found.item))?;
            Some(HotKey { key: show(&key), reads: hot.reads, error: hot.error })
        };
        let keys = places.iter().filter_map(line).take(limit).collect();
        let (cache, node) = (self.name.to_string(), self.services.node_name.to_string());
        HotKeys { cache, node, noted, sampled, keys }
    }

    fn oldest_tombstones(&self, limit: usize) -> Vec<TombstoneLine> {
        report::oldest_tombstones(self, limit)
    }

    fn marks_with_prefix(&self, prefix: &str, cursor: u64, limit: usize, examine: usize) -> (Marks, Option<u64>, u64) {
        let (mut at, mut examined, mut found) = (Some(Position::from_cursor(cursor)), 0, Vec::new());
        let begins = |key: &[u8]| show(key).starts_with(prefix);
        while let Some(from) = at.filter(|_| examined < examine && found.len() < limit) {
            // Each step may find as many as it examines.
            let (page, next) =
                self.reader.store().page(from, (limit - found.len()).min(examine - examined).min(PER_STEP));
            examined += page.len();
            let keeps = |one: &Snapshot<K, V>| {
                explain::contain(|| explain::encoded_key(&one.item)).is_some_and(|key| begins(&key))
            };
            found.extend(page.into_iter().filter(keeps).map(Some));
            at = next;
        }
        (explain::marks(self, &found, false), at.map(Position::to_cursor), examined as u64)
    }

    fn who_lacks(&self, origin: ReplicaId, dot: HlcTime) -> Vec<(ReplicaId, String, u64)> {
        let mono = self.services.time.now().mono;
        let lacking = self.writer.look(|engine| engine.replica.view().who_lacks(Dot::new(origin, dot)));
        let names = self.services.host.names(&self.name);
        let called = |id: ReplicaId| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
        lacking.into_iter().map(|(id, heard)| (id, called(id), mono.saturating_sub(heard) / 1_000_000)).collect()
    }

    fn node_of(&self, replica: &ReplicaId) -> Option<String> {
        if *replica == self.services.id() {
            Some(self.services.node_name.to_string())
        } else {
            self.services.host.names(&self.name).remove(replica)
        }
    }
}
