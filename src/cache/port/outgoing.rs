//! Outgoing messages: taken from the replica, then encoded without its lock.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use super::Parcel;
use crate::cache::shared::Shared;
use crate::cache::{CacheKey, CacheValue};
use crate::hlc::Now;
use crate::item::ItemRef;
use crate::message::Message;
use crate::replica::Transmit;
use crate::wire;

/// Returns the next parcel to send. Skips messages that cannot be encoded.
pub(super) fn poll<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> Option<Parcel> {
    let now = shared.services.time.now();
    loop {
        let transmit = shared.writer.change(now, |engine| engine.replica.poll_transmit(now))?;
        if let Some(parcel) = parcel(shared, now, transmit) {
            return Some(parcel);
        }
    }
}

/// Returns an encoded digest for a node that has just appeared.
pub(super) fn greeting<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>) -> Option<Bytes> {
    let now = shared.services.time.now();
    let digest = shared.writer.change(now, |engine| engine.replica.greeting(now));
    encode(shared, &Message::Digest(digest)).ok()
}

fn encode<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    message: &Message<K, V>,
) -> Result<Bytes, wire::EncodeError> {
    let envelope = wire::Envelope { cache: &shared.name, from: shared.services.id(), node: shared.services.node };
    match message {
        // A relayed push is sent in the bytes in which it arrived.
        Message::Push(push) if !push.raw.is_empty() => wire::forward(&envelope, &push.raw),
        other => wire::encode(&envelope, other),
    }
}

fn parcel<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, now: Now, transmit: Transmit<K, V>) -> Option<Parcel> {
    let Transmit { to, message, bulk } = transmit;
    match catch_unwind(AssertUnwindSafe(|| encode(shared, &message))) {
        Ok(Ok(bytes)) => {
            shared.counts.bytes_out.of(&message).add((bytes.len() * to.len()) as u64);
            return Some(Parcel { to, bytes, bulk });
        }
        Ok(Err(error)) => tracing::error!(cache = %shared.name, %error, "a message could not be encoded"),
        Err(_) => tracing::error!(cache = %shared.name, "a user type panicked while it was encoded"),
    }
    remove_unencodable(shared, now, &message);
    if bulk {
        // The replica waits for a report on each bulk parcel.
        to.iter().for_each(|id| shared.writer.change(now, |engine| engine.replica.handle_sent(now, *id, false)));
    }
    None
}

/// Removes entries that could be serialised when they were written and no longer can. Such an entry would hold up
/// everything behind it for ever.
fn remove_unencodable<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, now: Now, message: &Message<K, V>) {
    let bad = message.entries().filter_map(|entry| {
        let what = wire::unencodable(&entry.item)?;
        Some((entry.hash, ItemRef::clone(&entry.item), entry.dot(), what))
    });
    let mut given_up = 0;
    for (hash, item, dot, what) in bad.collect::<Vec<_>>() {
        let found =
            shared.writer.change(now, |engine| engine.replica.void_unencodable(now, hash, &item.key, dot, what));
        given_up += u64::from(found);
    }
    if given_up > 0 {
        tracing::error!(cache = %shared.name, entries = given_up, "entries that no longer serialise were removed");
    }
    // A message was lost even if none of its entries was found here any more.
    shared.counts.intake.unencodable.add(given_up.max(1));
}
