//! Incoming messages: decoded without a lock, then handed to the replica.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use crate::cache::shared::Shared;
use crate::cache::{CacheKey, CacheValue};
use crate::garbage::drop_quietly;
use crate::item::Key;
use crate::message::Message;
use crate::replica_id::ReplicaId;
use crate::wire;

impl<K: CacheKey, V: CacheValue> wire::Intake<K, V> for Shared<K, V> {
    fn hash(&self, key: &Key<K>) -> u64 {
        self.reader.hash_of(key)
    }

    #[inline]
    fn weigh(&self, key: &K, value: &V) -> u32 {
        self.weigher.as_ref().map_or(1, |weigh| weigh(key, value))
    }
}

/// Decodes a message and merges it. Returns false if it did not decode, is of an unknown kind, or made a user type
/// panic.
pub(super) fn deliver<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, bytes: Bytes) -> bool {
    let size = bytes.len();
    let Some((from, message)) = decode(shared, bytes) else { return false };
    shared.counts.bytes_in.of(&message).add(size as u64);
    let now = shared.services.time.now();
    let handled = catch_unwind(AssertUnwindSafe(|| {
        let remains = shared.writer.change(now, |engine| {
            let replica = &mut engine.replica;
            replica.handle_message(now, from, message);
            replica.needs_new_id(now).then(|| shared.services.renew(now, replica)).flatten()
        });
        // The former state holds user types, so it is dropped after the replica's lock is released.
        drop_quietly(remains);
    }));
    shared.progress.notify(usize::MAX);
    if handled.is_err() {
        note_malformed(shared, "a user type panicked while it was merged");
    }
    handled.is_ok()
}

fn decode<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, bytes: Bytes) -> Option<(ReplicaId, Message<K, V>)> {
    let decoded = catch_unwind(AssertUnwindSafe(|| wire::decode::<K, V>(&bytes, shared, &shared.wire_limits)));
    match decoded {
        Ok(Ok(decoded)) => {
            shared.counts.intake.undecodable_values.add(u64::from(decoded.undecodable_values));
            shared.counts.intake.undecodable_keys.add(u64::from(decoded.undecodable_keys));
            decoded.message.map(|message| (decoded.envelope.from, message))
        }
        Ok(Err(error)) => {
            note_malformed(shared, &error.to_string());
            None
        }
        Err(_) => {
            note_malformed(shared, "a user type panicked while it was decoded");
            None
        }
    }
}

fn note_malformed<K, V>(shared: &Shared<K, V>, error: &str) {
    if let Some(count) = shared.counts.intake.malformed.one_to_log() {
        tracing::warn!(cache = %shared.name, count, error, "a message could not be decoded and is ignored");
    }
}
