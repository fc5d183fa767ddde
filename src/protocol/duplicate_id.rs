//! Two processes under one replica id: a cloned machine, or one that was restored from a picture of its memory.
//!
//! Members believe that a replica has seen what only its twin has seen, and will not send it again; so nothing that is there
//! can be relied on. A replica with a twin begins anew, as after a restart: empty, under a fresh id, to be filled by the
//! others. What it wrote itself a moment ago it tells once more, under the old stamps, and what it deleted at any time: nobody
//! else may have that, and what was decided against it meanwhile wins, or has left its stamp in somebody's floor.
//!
//! Who finds out:
//!
//! - the twin that is *behind*: it is told of a time under its id that it has not reached. From then on it says nothing under
//!   that id, so at most one of two finds out by itself, and the other one still has what both held. As soon as the first has
//!   it from somebody, it tells the other to begin anew as well, for that lacks what the first has written.
//! - everybody else, by a digest that says "I wrote nothing after this" of a time before a write that is known. Its sender
//!   and whoever else goes by that id is told.

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

/// A message came under our own id.
pub(crate) fn note_own_name<K: CoreKey, V>(cx: &mut Context<'_, K, V>, message: &Message<K, V>) {
    let time = match message {
        Message::Digest(digest) => digest.clock,
        Message::Push(push) => push.to,
        Message::Ack(_) | Message::Frame(_) | Message::Audit(_) => 0,
    };
    cx.ledger.note_clone(cx.env, time);
}

/// Whether a message says "this is everything" of our former id, and is not to be believed: who still goes by it does not
/// know what we wrote. A third member does; as long as there is one, it is waited for, for a minute.
pub(crate) fn is_of_a_twin<K, V>(members: &Members, from: ReplicaId, message: &Message<K, V>) -> bool {
    let Some(left) = members.former().disputed() else { return false };
    let says_everything = match message {
        Message::Push(push) => push.origin == left,
        Message::Frame(_) => from == left,
        Message::Digest(_) | Message::Ack(_) | Message::Audit(_) => false,
    };
    says_everything && members.live().chain(members.greeted()).any(|member| member != left)
}

/// What is told again: own tombstones, which make nothing stale, and own values so young that nothing which overrules them
/// has been collected.
pub(crate) fn writes_to_keep<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &Env) -> Vec<Kept<K, V>> {
    let since = env.clock.last().max(env.judging()).saturating_sub(nanos(env.config.gc_grace) / 2);
    let own = env.id;
    let places = ledger.logs_mut().after(&own, 0);
    let kept = places.into_iter().filter_map(|(time, slot)| {
        // As it goes on the wire: what was evicted before anybody had it is a value.
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
