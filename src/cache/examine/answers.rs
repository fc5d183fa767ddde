//! Answers what inspectors ask of an open cache.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::scribe::ms;
use super::{Examine, marking, summary};
use crate::cache::shared::Shared;
use crate::cache::{CacheKey, CacheValue, tick};
use crate::crdt::Dot;
use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;
use crate::report::{self, CacheReport, Marks};
use crate::store::{Position, Snapshot};
use crate::wire;

impl<K: CacheKey, V: CacheValue> Examine for Shared<K, V> {
    fn cache_report(&self) -> CacheReport {
        summary::report(self)
    }

    fn key_of(&self, text: &str) -> Option<Vec<u8>> {
        let typed = |bytes: Vec<u8>| match wire::decode_key::<K>(&bytes) {
            Ok(key) => wire::encode_key(&key).ok(),
            Err(_) => None,
        };
        let candidates = report::candidates(text);
        let known = catch_unwind(AssertUnwindSafe(|| candidates.iter().cloned().find_map(typed))).ok().flatten();
        // A key that does not decode here may still be held, as it came.
        known.or_else(|| report::encoding(text))
    }

    fn marks(&self, keys: &[Vec<u8>], hash: bool) -> Marks {
        let found: Vec<_> = keys.iter().map(|key| marking::find(self, key)).collect();
        marking::mark_all(self, &found, hash)
    }

    fn marks_page(&self, cursor: u64, limit: usize) -> (Marks, Option<u64>) {
        let (page, next) = self.reader.store().page(Position::from_cursor(cursor), limit);
        let found: Vec<_> = page.into_iter().map(Some).collect();
        (marking::mark_all(self, &found, false), next.map(Position::to_cursor))
    }

    fn audit_keys(&self, with: ReplicaId, keys: &[Vec<u8>]) -> usize {
        let found = keys.iter().filter_map(|key| marking::find(self, key));
        let slots: Vec<_> = found.map(|found| found.slot).collect();
        let sent = self.writer.adjust(|engine| engine.replica.audit_registers(with, &slots));
        tick::after_write(self);
        sent
    }

    fn value_text(&self, key: &[u8]) -> Option<String> {
        let show = || {
            let found = marking::find(self, key).filter(|found| self.reader.is_visible(found))?;
            Some(report::show_value(&marking::encoded_value(&found.item)?))
        };
        catch_unwind(AssertUnwindSafe(show)).ok().flatten()
    }

    fn recent_keys(&self, limit: usize) -> Vec<String> {
        let slots: Vec<_> = self.writer.look(|engine| engine.by_recency().take(limit).collect());
        let found = slots.into_iter().filter_map(|slot| self.reader.store().resolve(slot));
        let text = |found: Snapshot<K, V>| {
            let encoded = catch_unwind(AssertUnwindSafe(|| marking::encoded_key(&found.item)));
            Some(report::show(&encoded.ok().flatten()?))
        };
        found.filter_map(text).collect()
    }

    fn who_lacks(&self, origin: ReplicaId, dot: HlcTime) -> Vec<(ReplicaId, String, u64)> {
        let mono = self.around.time.now().mono;
        let lacking = self.writer.look(|engine| engine.replica.view().who_lacks(Dot::new(origin, dot)));
        let names = self.around.host.names(&self.name);
        let called = |id: ReplicaId| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
        lacking.into_iter().map(|(id, heard)| (id, called(id), ms(mono.saturating_sub(heard)))).collect()
    }

    fn node_of(&self, replica: &ReplicaId) -> Option<String> {
        if *replica == self.around.id() {
            Some(self.around.host.node_name())
        } else {
            self.around.host.names(&self.name).remove(replica)
        }
    }
}
