//! The order in which nodes fill a missed key: optional single flight for the whole cluster.
//!
//! Rendezvous hashing (Thaler and Ravishankar 1998) puts the live members in an order. The order differs from key to
//! key, and is the same on every node that knows the same members. If the first node misses the key, it fills at
//! once. If the second node misses it, that node waits for a value for one *patience* (the setting
//! `cluster_single_flight`). The third waits two patiences, and every later node three. A node runs its own filler when
//! its wait ends without a value. The order needs no message, no distributed lock and no coordinator.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::flight::Flight;
use super::shared::Shared;
use super::{CacheKey, CacheValue, race};
use crate::item::ItemRef;
use crate::replica_id::ReplicaId;
use crate::sync::{Arc, Listening, Weak};
use crate::wire;

/// The longest wait of a node, in multiples of the patience.
const MAX_PATIENCES: u32 = 3;

/// Returns the score of a member for a key, given the hash of the encoded key. Every node computes the same score. The
/// member with the greatest score fills first. Mixes with the finisher of splitmix64 (Steele et al. 2014).
fn score(key_hash: u64, member: ReplicaId) -> u64 {
    let (high, low) = member.as_uuid().as_u64_pair();
    mix(mix(key_hash ^ high) ^ low)
}

fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

/// Returns the number of `others` that come before `own` for a key.
fn rank(key_hash: u64, own: ReplicaId, others: &[ReplicaId]) -> u32 {
    let mine = (score(key_hash, own), own);
    let before = others.iter().filter(|other| (score(key_hash, **other), **other) > mine).count();
    u32::try_from(before).unwrap_or(u32::MAX)
}

/// Returns the time that a fill waits for another node's value before its filler begins. Zero means that the filler
/// begins at once.
pub(super) fn wait_before<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    flight: &Flight<K, V>,
    patience: Option<Duration>,
) -> Duration {
    let (Some(patience), Some(key)) = (patience, flight.item.key.known()) else { return Duration::ZERO };
    // Encoding the key runs user code. If it panics or fails, the filler begins at once.
    let encoded = catch_unwind(AssertUnwindSafe(|| wire::encode_key(key).ok()));
    let Ok(Some(encoded)) = encoded else { return Duration::ZERO };
    let members = shared.writer.look(|engine| engine.replica.view().live_members());
    patience.saturating_mul(rank(wire::key_hash(&encoded), shared.services.id(), &members).min(MAX_PATIENCES))
}

/// Returns the value of a fill's key, if there is one now, written here or by another node.
fn present_value<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, flight: &Flight<K, V>) -> Option<ItemRef<K, V>> {
    let found = shared.reader.store().get(flight.hash, flight.item.key.known()?)?;
    shared.reader.is_readable(&found).then_some(found.item)
}

/// Blocks this thread until the key has a value. Returns `None` once this node's turn has come.
pub(super) fn await_arrival_blocking<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    flight: &Flight<K, V>,
    wait: Duration,
) -> Option<ItemRef<K, V>> {
    if wait.is_zero() {
        return None;
    }
    let started = shared.services.time.now().mono;
    loop {
        // Listens before it checks, so that a value which arrives in between is not missed.
        let touched = flight.touched.listen();
        if let Some(item) = present_value(shared, flight) {
            return Some(item);
        }
        let waited = Duration::from_nanos(shared.services.time.now().mono.saturating_sub(started));
        let left = wait.checked_sub(waited).filter(|left| !left.is_zero())?;
        touched.wait_timeout(left)?;
    }
}

/// Waits until the key has a value. Returns `None` once this node's turn has come, or if the cache was closed. Does not
/// keep the cache open meanwhile.
pub(super) async fn await_arrival<K: CacheKey, V: CacheValue>(
    shared: Weak<Shared<K, V>>,
    flight: Arc<Flight<K, V>>,
    wait: Duration,
) -> Option<ItemRef<K, V>> {
    let mut limit = shared.upgrade()?.services.tasks.sleep(wait);
    loop {
        // Listens before it checks, so that a value which arrives in between is not missed.
        let touched = flight.touched.listen();
        if let Some(item) = present_value(&*shared.upgrade()?, &flight) {
            return Some(item);
        }
        if !race::before(touched, &mut limit).await {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(n: u8) -> ReplicaId {
        ReplicaId::from_bytes([n; 16])
    }

    #[test]
    fn every_node_sees_the_same_order_and_keys_spread() {
        let members: Vec<_> = (1..=5).map(member).collect();
        let mut first = [0; 5];
        for key in 0..5_000u64 {
            let others = |own: usize| -> Vec<_> { members.iter().copied().filter(|id| *id != members[own]).collect() };
            let ranks: Vec<_> = (0..5).map(|own| rank(mix(key), members[own], &others(own))).collect();
            let mut sorted = ranks.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4], "each place is taken once");
            first[ranks.iter().position(|rank| *rank == 0).unwrap()] += 1;
        }
        assert!(first.iter().all(|count| (800..1_200).contains(count)), "{first:?}");
    }

    #[test]
    fn a_departure_moves_a_node_up_by_at_most_one_place() {
        let members: Vec<_> = (1..=5).map(member).collect();
        for key in 0..1_000u64 {
            let all = rank(mix(key), members[0], &members[1..]);
            let fewer = rank(mix(key), members[0], &members[1..4]);
            assert!(fewer == all || fewer + 1 == all);
        }
    }
}
