//! Answers the questions of operators to an open cache.

use super::Inspect;
use crate::cache::shared::Shared;
use crate::cache::{CacheKey, CacheValue, explain, report, tick};
use crate::crdt::Dot;
use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;
use crate::report::{CacheReport, Marks, candidates, encoding, show, show_value};
use crate::store::Position;
use crate::wire;

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
