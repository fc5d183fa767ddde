//! The safety net: replicas compare registers whose dots both have seen.
//!
//! A slice is a run of one origin's log. It is found by the same index that deltas use. So the cost of an audit is that
//! of its slice, and no scan is needed. An audit carries keys but no values.

use std::collections::VecDeque;

use super::Context;
use crate::crdt::{Cause, Dot, Kind, Marker};
use crate::env::Env;
use crate::hlc::nanos;
use crate::item::CoreKey;
use crate::ledger::Ledger;
use crate::message::{Audit, Entry, Message};
use crate::outbox::Transmit;
use crate::replica_id::ReplicaId;
use crate::store::{SlotRef, Snapshot};

/// The time of the next audit, and the registers that an operator asked to compare.
#[derive(Debug)]
pub(crate) struct Audits {
    due: u64,
    /// Registers that an operator asked to compare, each with the member that compares them.
    suspects: VecDeque<(ReplicaId, SlotRef)>,
}

impl Audits {
    pub(crate) fn new(env: &mut Env) -> Self {
        let wait = env.jittered(nanos(env.config.audit_interval));
        Self { due: env.later(wait), suspects: VecDeque::new() }
    }

    /// Returns the monotonic time of the next audit. `None` if the configuration turns audits off.
    pub(crate) fn due(&self, env: &Env) -> Option<u64> {
        (!env.config.audit_interval.is_zero()).then_some(self.due)
    }

    #[cfg(test)]
    pub(crate) fn make_due(&mut self) {
        self.due = 0;
    }

    pub(crate) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Sends a random slice to a random live member, if an audit is due.
    pub(crate) fn handle_timeout<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) {
        if self.due(cx.env).is_none_or(|due| due > cx.env.now.mono) {
            return;
        }
        let wait = cx.env.jittered(nanos(cx.env.config.audit_interval));
        self.due = cx.env.later(wait);
        let live: Vec<_> = cx.members.live().collect();
        let Some(to) = cx.env.random.choice(live) else { return };
        let origins: Vec<_> = cx.ledger.logs().iter().map(|(origin, _)| *origin).collect();
        let Some(origin) = cx.env.random.choice(origins) else { return };
        let entries_of_origin = cx.ledger.logs().get(&origin).map_or(0, crate::ledger::log::OriginLog::len);
        let first = cx.env.random.usize(0..entries_of_origin.max(1));
        let entries = slice(cx.ledger, origin, first, cx.env.config.audit_slice);
        if !entries.is_empty() {
            let vector = cx.ledger.vector().clone();
            cx.queue(to, Message::Audit(Audit { vector, entries, reply: false }));
        }
    }

    /// Queues these registers for comparison with a member, as an operator asked. Returns how many will be sent.
    pub(crate) fn suspect<K: CoreKey, V>(
        &mut self,
        (ledger, env): (&Ledger<K, V>, &Env),
        with: ReplicaId,
        slots: &[SlotRef],
    ) -> usize {
        let suspects: Vec<_> = slots.iter().copied().filter(|slot| suspect_at(ledger, *slot).is_some()).collect();
        let mut first = 0;
        if env.bugs().last_audit_slice_only {
            self.suspects.clear();
            first = suspects.len().saturating_sub(1) / env.config.audit_slice * env.config.audit_slice;
        }
        self.suspects.extend(suspects[first..].iter().map(|slot| (with, *slot)));
        suspects.len()
    }

    /// Returns the next audit of queued registers, for the member that compares them. A register is looked up only now:
    /// a queue of entries would hold the keys for as long as the member is slow.
    pub(crate) fn poll<K: CoreKey, V>(&mut self, cx: &mut Context<'_, K, V>) -> Option<Transmit<K, V>> {
        while let Some((with, _)) = self.suspects.front().copied() {
            let mut entries = Vec::new();
            while entries.len() < cx.env.config.audit_slice
                && let Some((_, slot)) = self.suspects.front().copied().filter(|(other, _)| *other == with)
            {
                self.suspects.pop_front();
                entries.extend(suspect_at(cx.ledger, slot));
            }
            if !entries.is_empty() && cx.members.is_live(&with) {
                let audit = Audit { vector: cx.ledger.vector().clone(), entries, reply: false };
                return Some(Transmit { to: vec![with], message: Message::Audit(audit), bulk: false });
            }
        }
        None
    }
}

/// Returns live registers of one origin, without values, from a numbered entry of its log onwards.
fn slice<K: CoreKey, V>(ledger: &mut Ledger<K, V>, origin: ReplicaId, first: usize, most: usize) -> Vec<Entry<K, V>> {
    let log = ledger.logs_mut().get_mut(&origin);
    let places: Vec<_> = log.map_or_else(Vec::new, |log| log.starting_at(first).take(most).collect());
    let entries = places.into_iter().filter_map(|(time, slot)| {
        let (entry, held) = ledger.registers().entry_at(Dot::new(origin, time), slot)?;
        let covered = ledger.vector().covers(&entry.dot());
        (held.meta.kind.is_live() && covered).then(|| entry.without_body())
    });
    entries.collect()
}

fn suspect_at<K: CoreKey, V>(ledger: &Ledger<K, V>, slot: SlotRef) -> Option<Entry<K, V>> {
    let held = ledger.table().meta(slot).filter(|meta| meta.kind.is_live())?;
    let (entry, _) = ledger.registers().entry_at(ledger.registers().dot_of(&held), slot)?;
    ledger.vector().covers(&entry.dot()).then(|| entry.without_body())
}

/// Compares the registers in a member's audit with the registers held here.
pub(crate) fn handle<K: CoreKey, V>(cx: &mut Context<'_, K, V>, from: ReplicaId, audit: Audit<K, V>) {
    cx.env.counters.audits += 1;
    let mut answer = Vec::new();
    for theirs in audit.entries {
        // A difference is an error only if both replicas have seen the dots that are compared. Otherwise the newer
        // register may still be on its way to one of them.
        if theirs.stamp().time <= cx.ledger.epoch() || !cx.ledger.vector().covers(&theirs.dot()) {
            continue;
        }
        match cx.ledger.find(theirs.hash, &theirs.item.key) {
            Some(held) => {
                let ours = cx.ledger.registers().marker_of(&held.meta);
                let both_seen = audit.vector.covers(&ours.dot);
                if held.meta.kind.is_live() && both_seen && ours.stamp != theirs.stamp() {
                    note_conflict(cx, &held, ours, &theirs.marker);
                    let entry = cx.ledger.registers().entry_at(ours.dot, held.slot).filter(|_| !audit.reply);
                    answer.extend(entry.map(|(entry, _)| entry.without_body()));
                }
            }
            // A lossy replica has evicted or dropped values: a missing value has a reason.
            None if !cx.ledger.is_lossy() && may_be_missing(cx, &theirs) => {
                cx.env.counters.audit_missing += 1;
                tracing::warn!(
                    replica = %cx.env.id, peer = %from, marker = ?theirs.marker,
                    "audit: a value that is live on another replica is missing here"
                );
            }
            None => {}
        }
    }
    if !answer.is_empty() {
        let vector = cx.ledger.vector().clone();
        cx.queue(from, Message::Audit(Audit { vector, entries: answer, reply: true }));
    }
}

/// Returns true if the absence of a value here is unexplained. It is explained if the time to live is over. It is also
/// explained if the stamp is at or below a floor: the value may have been removed without a trace.
fn may_be_missing<K: CoreKey, V>(cx: &Context<'_, K, V>, theirs: &Entry<K, V>) -> bool {
    let expired = theirs.expires != 0 && theirs.expires <= cx.env.now.wall;
    !expired && theirs.stamp() > cx.ledger.highest_floor()
}

/// Repairs a conflict, which must not happen: two live values for one key, although both sides have seen both dots. The
/// replica that holds the winner gives it a new dot, because a merge would skip a dot that is already covered.
fn note_conflict<K: CoreKey, V>(cx: &mut Context<'_, K, V>, held: &Snapshot<K, V>, ours: Marker, theirs: &Marker) {
    cx.env.counters.audit_conflicts += 1;
    tracing::error!(replica = %cx.env.id, ?ours, ?theirs, "audit: two live values for one key");
    debug_assert!(ours.kind == Kind::Live || ours.kind == Kind::Tombstone(Cause::Evicted));
    if ours > *theirs {
        cx.ledger.reissue(cx.env, held);
    }
}
