//! Handles two processes under one replica id: a cloned machine, or a machine restored from an older snapshot.
//!
//! Members believe that a replica has seen what only its duplicate has seen, and will not send it again. So nothing
//! that the replica holds can be relied on. A replica with a duplicate begins anew, as after a restart: empty, under a
//! fresh id, to be filled by the other members. It writes its own recent values and all its own tombstones again, under
//! the old stamps, because no other replica may hold them. A write that overruled one of them meanwhile has a greater
//! stamp, or has left its stamp in the floor of some replica.
//!
//! A duplicate id is detected in two ways:
//!
//! - The process with the older clock receives a timestamp under its own id that it has not reached. From then on it
//!   sends nothing under that id. So at most one of the two processes detects the duplicate in this way, and the second
//!   process still holds what both held. The first process asks the second to begin anew as well, because the second
//!   lacks what the first has written. It asks once it has caught up with some member and holds all that the second has
//!   reported, or after a minute.
//! - Any other member receives a digest whose *quiet since* lies before a write of its sender that is known. The member
//!   then asks every replica with that id to take a new one.

use super::Context;
use crate::crdt::{Cause, Dot, Kind};
use crate::env::Env;
use crate::hlc::nanos;
use crate::item::CoreKey;
use crate::ledger::Ledger;
use crate::ledger::local::Kept;
use crate::members::Members;
use crate::message::{Entry, Message};
use crate::replica_id::ReplicaId;

/// Records a message that arrived under this replica's own id.
pub(crate) fn note_own_name<K: CoreKey, V>(cx: &mut Context<'_, K, V>, message: &Message<K, V>) {
    let time = match message {
        Message::Digest(digest) => digest.clock,
        Message::Push(push) => push.to,
        Message::Ack(_) | Message::Frame(_) | Message::Audit(_) => 0,
    };
    cx.ledger.note_duplicate_id(cx.env, time);
}

/// Returns true if a message claims to cover an interval of this replica's former id and must be ignored. The claim is
/// false: the process that still uses the former id does not know what this replica wrote under it. A third member may
/// know it. So such messages are ignored while there is a third member, for at most a minute.
pub(crate) fn is_from_duplicate<K, V>(members: &Members, from: ReplicaId, message: &Message<K, V>) -> bool {
    let Some(left) = members.former().unbelieved_id() else { return false };
    let says_everything = match message {
        Message::Push(push) => push.origin == left,
        Message::Frame(_) => from == left,
        Message::Digest(_) | Message::Ack(_) | Message::Audit(_) => false,
    };
    says_everything && members.live().chain(members.greeted()).any(|member| member != left)
}

/// Returns the own writes to write again: tombstones, which make nothing stale, except `Evicted` ones, and values
/// younger than half of `gc_grace`. No write that overrules such a value has been collected yet.
pub(crate) fn writes_to_keep<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &Env) -> Vec<Kept<K, V>> {
    let since = env.clock.last().max(env.judging()).saturating_sub(nanos(env.config.gc_grace) / 2);
    let own = env.id;
    let places = ledger.logs_mut().after(&own, 0);
    let kept = places.into_iter().filter_map(|(time, slot)| {
        // The entry is as it goes on the wire: a retained value, evicted before all members had it, is a value.
        let (Entry { marker, item, expires, size, weight, hash }, _) =
            ledger.registers().entry_at(Dot::new(own, time), slot)?;
        let young = marker.stamp.replica == own && marker.stamp.time > since;
        let told = match marker.kind {
            Kind::Live => young,
            Kind::Tombstone(cause) => cause != Cause::Evicted,
        };
        told.then_some(Kept { stamp: marker.stamp, kind: marker.kind, hash, expires, size, weight, item })
    });
    kept.collect()
}
