//! Compares the map with a naive oracle, which keeps every entry and selects the maximum by the order of registers.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Replica, ReplicaConfig, Write};
use crate::crdt::register::join;
use crate::crdt::{Cause, Dot, Kind, Marker, VersionVector};
use crate::hlc::{GRAIN, Now, Stamp};
use crate::item::{Body, Item, ItemRef, Key};
use crate::message::{Digest, Entry, Frame, Interval, Last, Message, Push};
use crate::replica_id::ReplicaId;

const NOW: Now = Now { wall: 1_000_000, mono: 0 };

fn id(n: u8) -> ReplicaId {
    ReplicaId::from_bytes([n; 16])
}

fn replica(n: u8) -> Replica<u8, u32> {
    Replica::new(id(n), ReplicaConfig::default(), 0, NOW).unwrap()
}

/// One write of one origin: the key, true if it is a value, and the ticks by which its stamp lies below its dot
/// (fills).
type Draft = (u8, bool, u64);

fn entry(origin: u8, dot: u64, (key, live, below): Draft) -> Entry<u8, u32> {
    let kind = if live { Kind::Live } else { Kind::Tombstone(Cause::Deleted) };
    let body = if live { Body::Known((u32::from(origin) << 16) | dot as u32) } else { Body::ABSENT };
    Entry {
        hash: u64::from(key % 2), // Keys share hashes on purpose.
        item: ItemRef::new(Item { key: Key::Known(key), body }),
        marker: Marker {
            stamp: Stamp::new(dot.saturating_sub(below * GRAIN) + u64::from(below > 0), id(origin)),
            kind,
            dot: Dot::new(id(origin), dot),
        },
        expires: 0,
        size: 8,
        weight: 1,
    }
}

/// Returns the writes of an origin. Dots are ten ticks apart, so that fills reach below the writes of other origins.
fn history(origin: u8, drafts: &[Draft]) -> Vec<Entry<u8, u32>> {
    let dots = (1u64..).map(|n| (n * 10 + u64::from(origin)) * GRAIN);
    drafts.iter().zip(dots).map(|(draft, dot)| entry(origin, dot, *draft)).collect()
}

/// Returns a push of a run of a history. Its entries are only what its origin would still hold, but it covers the whole
/// interval.
fn push(history: &[Entry<u8, u32>], from: usize, to: usize) -> Message<u8, u32> {
    let before = |n: usize| if n == 0 { 0 } else { history[n - 1].dot().counter };
    Message::Push(Push {
        origin: history[0].dot().actor,
        from: before(from),
        to: before(to),
        epoch: 0,
        entries: history[from..to].to_vec(),
        fills: Vec::new(),
        hops: 16,
        raw: Bytes::new(),
    })
}

fn visible(replica: &Replica<u8, u32>) -> BTreeMap<u8, (Marker, Option<u32>)> {
    let (page, _) = replica.view().store().page(Default::default(), usize::MAX);
    let of = |held: crate::store::Snapshot<u8, u32>| {
        let key = *held.item.key.known().unwrap();
        (key, (replica.view().marker_at(&held.meta), held.item.value().copied()))
    };
    page.into_iter().map(of).collect()
}

fn naive(histories: &[Vec<Entry<u8, u32>>]) -> BTreeMap<u8, (Marker, Option<u32>)> {
    let mut oracle: BTreeMap<u8, (Marker, Option<u32>)> = BTreeMap::new();
    for entry in histories.iter().flatten() {
        let key = *entry.item.key.known().unwrap();
        let offered = (entry.marker, entry.item.value().copied());
        let held = oracle.entry(key).or_insert(offered);
        if entry.marker > held.0 {
            *held = offered;
        }
    }
    oracle
}

fn drain(replica: &mut Replica<u8, u32>) {
    while replica.poll_change().is_some() {}
    replica.take_garbage();
}

fn histories() -> impl Strategy<Value = Vec<Vec<Entry<u8, u32>>>> {
    let drafts = || proptest::collection::vec((0u8..4, any::<bool>(), 0u64..25), 1..12);
    (drafts(), drafts(), drafts()).prop_map(|(a, b, c)| vec![history(1, &a), history(2, &b), history(3, &c)])
}

proptest! {
    #![proptest_config(crate::testing::proptest_config())]

    /// scenario 1, scenario 7, scenario 81: checks that pushes of any runs lead to the oracle's result. The runs
    /// overlap, repeat, come from several origins, and arrive in any order.
    #[test]
    fn any_delivery_of_everything_is_the_maximum(
        histories in histories(),
        order in proptest::collection::vec((0usize..3, 0usize..12, 1usize..12), 0..40),
    ) {
        let mut replica = replica(9);
        for (origin, from, len) in order {
            let history = &histories[origin];
            let from = from % history.len();
            let to = (from + len).min(history.len());
            replica.handle_message(NOW, id(origin as u8 + 1), push(history, from, to));
            drain(&mut replica);
            prop_assert_eq!(replica.validate(), Ok(()));
        }
        for (n, history) in histories.iter().enumerate() {
            replica.handle_message(NOW, id(n as u8 + 1), push(history, 0, history.len()));
            drain(&mut replica);
        }
        prop_assert_eq!(replica.validate(), Ok(()));
        prop_assert_eq!(visible(&replica), naive(&histories));
        for history in &histories {
            let last = history[history.len() - 1].dot();
            prop_assert!(replica.view().vector().covers(&last));
        }
    }

    /// scenario 6, scenario 32: checks that a push above a gap changes nothing and claims nothing, and that an empty
    /// push raises the vector.
    #[test]
    fn a_gap_is_not_jumped(drafts in proptest::collection::vec((0u8..4, any::<bool>(), 0u64..25), 3..12)) {
        let history = history(1, &drafts);
        let mut replica = replica(9);
        replica.handle_message(NOW, id(1), push(&history, 1, history.len()));
        prop_assert_eq!(replica.view().vector().get(&id(1)), 0);
        prop_assert_eq!(replica.view().live_len() + replica.view().tombstone_len() as u64, 0);
        prop_assert_eq!(replica.view().counters().gaps, 1);
        let empty = Push { origin: id(2), from: 0, to: 77, epoch: 0, entries: Vec::new(), fills: Vec::new(), hops: 16, raw: Bytes::new() };
        replica.handle_message(NOW, id(2), Message::Push(empty));
        prop_assert_eq!(replica.view().vector().get(&id(2)), 77);
    }

    /// scenario 8: checks that joins are associative, which deltas rely on. Joining markers one at a time equals
    /// joining the joins of two parts.
    #[test]
    fn joins_may_be_grouped(histories in histories()) {
        let all: Vec<_> = histories.iter().flatten().map(|entry| entry.marker).collect();
        let whole = all.iter().copied().reduce(|a, b| join(a, b).marker);
        let (left, right) = all.split_at(all.len() / 2);
        let of = |part: &[Marker]| part.iter().copied().reduce(|a, b| join(a, b).marker);
        let parts = [of(left), of(right)].into_iter().flatten().reduce(|a, b| join(a, b).marker);
        prop_assert_eq!(whole, parts);
    }
}

/// scenario 11: checks that a stamp of the far future is not applied and does not move the local clock. Its member is
/// named as an offender, and other origins are not affected.
#[test]
fn the_far_future_is_deferred() {
    let mut replica = replica(9);
    let far = entry(1, u64::MAX - 1, (0, true, 0));
    let push = Push {
        origin: id(1),
        from: 0,
        to: u64::MAX - 1,
        epoch: 0,
        entries: vec![far],
        fills: Vec::new(),
        hops: 16,
        raw: Bytes::new(),
    };
    replica.handle_message(NOW, id(1), Message::Push(push));
    assert_eq!(replica.view().live_len(), 0);
    assert!(replica.view().clock().last() < NOW.wall * 2);
    assert_eq!(replica.view().offenders().map(|(who, _)| who).collect::<Vec<_>>(), [id(1)]);
    let fine = history(2, &[(1, true, 0)]);
    replica.handle_message(NOW, id(2), self::push(&fine, 0, 1));
    assert_eq!(replica.view().live_len(), 1);
}

/// scenario 25: checks that a late message does not bring back a dot that was seen and is no longer held.
#[test]
fn a_seen_dot_is_never_taken_again() {
    let history = history(1, &[(0, true, 0), (0, false, 0)]);
    let mut replica = replica(9);
    replica.handle_message(NOW, id(1), push(&history, 0, 2));
    replica.handle_message(NOW, id(1), push(&history, 0, 1));
    assert_eq!((replica.view().live_len(), replica.view().tombstone_len()), (0, 1));
}

/// scenario 34 (detection): checks that a message under the replica's own id is counted as a duplicate id and not
/// merged.
#[test]
fn a_clone_of_our_id_is_counted() {
    let mut replica = replica(9);
    let history = history(9, &[(0, true, 0)]);
    replica.handle_message(NOW, id(9), push(&history, 0, 1));
    assert_eq!((replica.view().counters().duplicate_id, replica.view().live_len()), (1, 0));
}

/// Returns a session of one frame, with one interval for each entry.
fn session(entries: &[&Entry<u8, u32>]) -> Message<u8, u32> {
    let interval = |entry: &&Entry<u8, u32>| {
        let Dot { actor, counter } = entry.dot();
        Interval { origin: actor, from: 0, to: counter, entries: vec![(*entry).clone()], fills: Vec::new() }
    };
    let mut claim = VersionVector::new();
    for entry in entries {
        claim.raise(entry.dot().actor, entry.dot().counter);
    }
    Message::Frame(Frame {
        to: id(9),
        session: 1,
        index: 0,
        base: VersionVector::new(),
        reconcile: false,
        clock: 1,
        epoch: 0,
        intervals: entries.iter().map(interval).collect(),
        dropped: VersionVector::new(),
        last: Some(Last {
            frames: 1,
            claim,
            beyond: VersionVector::new(),
            floor: Stamp::new(0, id(0)),
            eviction_floor: Stamp::ZERO,
            evicted: VersionVector::new(),
        }),
    })
}

fn digest(clock: u64, vector: VersionVector) -> Message<u8, u32> {
    Message::Digest(Digest { clock, quiet_since: clock, vector, full: true, reply: true, ..Digest::default() })
}

/// scenario 34, by way of other members: checks that writes of a duplicate under this replica's id are not merged, not
/// claimed, and not believed when a member reports them. Otherwise this replica would claim its own writes up to there
/// and never send them.
#[test]
fn what_others_say_we_wrote_is_not_ours() {
    let mut replica = replica(9);
    replica.greet(NOW, id(1));
    let (forged, theirs) = (entry(9, NOW.wall + 500, (0, true, 0)), entry(1, 11, (1, true, 0)));
    replica.handle_message(NOW, id(1), session(&[&forged, &theirs]));
    assert_eq!((replica.view().counters().duplicate_id, replica.view().counters().sessions_completed), (1, 1));
    assert_eq!(visible(&replica).into_keys().collect::<Vec<_>>(), [1], "the rest of the session is taken");
    assert!(replica.view().vector().covers(&theirs.dot()));
    assert!(!replica.view().vector().covers(&forged.dot()));

    let far = [(id(9), NOW.wall + 1_000)].into_iter().collect();
    replica.handle_message(NOW, id(1), digest(5_000, far));
    assert_eq!(replica.view().counters().duplicate_id, 2);
    let fresh = entry(9, 0, (2, true, 0));
    replica.write(NOW, Write { hash: fresh.hash, item: fresh.item, expires: 0, size: 8, weight: 1 });
    let sent = std::iter::from_fn(|| replica.poll_transmit(NOW));
    let pushed = sent.filter(|sent| matches!(&sent.message, Message::Push(push) if !push.entries.is_empty()));
    assert_eq!(pushed.count(), 1, "no member has the new own write");
}

/// Checks that two keys under one dot, from a faulty origin, are both sent. They cannot be encoded in one interval, and
/// without a new dot for one of them no session could ever serve a member that needs them.
#[test]
fn two_keys_under_one_dot_are_both_reported() {
    let mut replica = replica(9);
    let (one, other) = (entry(1, 11, (0, true, 0)), entry(1, 11, (1, true, 0)));
    replica.handle_message(NOW, id(1), session(&[&one, &other]));
    assert_eq!(replica.view().live_len(), 2);
    assert_eq!(replica.validate(), Ok(()));
    replica.handle_message(NOW, id(2), digest(5_000, VersionVector::new()));
    let mut told = Vec::new();
    while let Some(sent) = replica.poll_transmit(NOW) {
        let Message::Frame(frame) = &sent.message else { continue };
        for interval in &frame.intervals {
            assert!(interval.entries.is_sorted_by(|a, b| a.dot().counter < b.dot().counter), "{interval:?}");
            told.extend(interval.entries.iter().map(|entry| *entry.item.key.known().unwrap()));
        }
        let claim = &frame.last.as_ref().unwrap().claim;
        assert!(frame.intervals.iter().all(|interval| interval.to <= claim.get(&interval.origin)));
    }
    told.sort_unstable();
    assert_eq!((told.as_slice(), replica.view().counters().conflicts), (&[0, 1][..], 1));
    assert_eq!(replica.validate(), Ok(()));
}
