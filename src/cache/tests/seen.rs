//! Waits of one node for a write that another node made, by its token.

use std::time::Duration;

use crate::cache::port::{NodeEvent, Port};
use crate::cache::testing::{Cluster, RUNTIME, alone};
use crate::cache::{NotSeen, Token};
use crate::message::Message;
use crate::{Cache, ReplicaId, Stamp};

const SOON: Duration = Duration::from_millis(30);

fn wait(cache: &Cache<u32, u32>, token: Token) -> Result<(), NotSeen> {
    RUNTIME.block_on(cache.wait_seen(&token, SOON))
}

fn two() -> Cluster<u32, u32> {
    Cluster::new(2, |_, it| it)
}

#[test]
fn a_write_is_seen_on_its_own_node_at_once_and_on_others_when_it_has_arrived() {
    let cluster = two();
    let [a, b] = &cluster.caches[..] else { panic!("two") };
    let token = a.insert(1, 1).unwrap().token();
    assert_eq!(wait(a, token), Ok(()));
    let error = wait(b, token).unwrap_err();
    assert!(matches!(error, NotSeen::TimedOut { replica, waited: SOON, .. } if replica == a.replica_id()), "{error}");
    assert_eq!(b.get(&1), None);
    cluster.exchange();
    assert_eq!((wait(b, token), b.get(&1)), (Ok(()), Some(1)));
}

/// Checks that the message which brings the write wakes a caller that waits, long before the time limit.
#[test]
fn a_caller_is_woken_when_the_write_arrives() {
    let cluster = two();
    let [a, b] = &cluster.caches[..] else { panic!("two") };
    let token = a.insert(1, 1).unwrap().token();
    let waiting = {
        let b = b.clone();
        RUNTIME.spawn(async move { b.wait_seen(&token, Duration::from_secs(600)).await.map(|()| b.get(&1)) })
    };
    std::thread::sleep(Duration::from_millis(20));
    assert!(!waiting.is_finished());
    cluster.exchange();
    assert_eq!(RUNTIME.block_on(waiting).unwrap(), Ok(Some(1)));
}

/// Checks deletes, invalidations, and writes that were overwritten before they arrived.
#[test]
fn every_change_has_a_token_and_a_later_one_includes_those_before() {
    let cluster = two();
    let [a, b] = &cluster.caches[..] else { panic!("two") };
    let first = a.insert(1, 1).unwrap().token();
    cluster.exchange();
    a.insert(1, 2).unwrap();
    a.remove(&1);
    let deleted = a.last_written().unwrap().token();
    assert!(first.is_of_same_replica(&deleted) && first.time() < deleted.time());
    assert!(wait(b, deleted).is_err());
    cluster.exchange();
    assert_eq!((wait(b, deleted), wait(b, first), b.get(&1)), (Ok(()), Ok(()), None));
    a.invalidate_all();
    let epoch = a.last_written().unwrap().token();
    assert!(wait(b, epoch).is_err());
    cluster.exchange();
    assert_eq!(wait(b, epoch), Ok(()));
}

/// Checks that a write with a time that this node does not believe yet is not seen before it can be read.
#[test]
fn a_deferred_write_is_not_seen_until_its_time_has_come() {
    let cluster = two();
    let [a, b] = &cluster.caches[..] else { panic!("two") };
    cluster.clocks[0].skew(5_000);
    let token = a.insert(1, 1).unwrap().token();
    cluster.exchange();
    assert_eq!(b.get(&1), None);
    assert!(matches!(wait(b, token), Err(NotSeen::TimedOut { .. })));
    cluster.clocks[0].skew(-5_000);
    cluster.advance(Duration::from_secs(8));
    assert_eq!((wait(b, token), b.get(&1)), (Ok(()), Some(1)));
}

#[test]
fn a_token_of_an_unknown_replica_is_an_error_that_names_ready() {
    let (cache, _) = alone::<u32, u32>(|it| it);
    let stranger = ReplicaId::from_bytes([9; 16]);
    let token = Token::new(Stamp::new(1_704_067_200_000_000_000, stranger));
    let forever = Duration::from_secs(600);
    // Alone, and no member is expected: the error comes at once.
    let error = RUNTIME.block_on(cache.wait_seen(&token, forever)).unwrap_err();
    assert_eq!(error, NotSeen::Unknown { token });
    assert!(error.to_string().contains("wait for `ready`") && error.to_string().contains(&token.to_string()));

    // While a member is expected, the id may become known: the wait goes on until no member is expected any more.
    cache.shared.handle_event(NodeEvent::ExpectsMembers(true));
    let waiting = {
        let cache = cache.clone();
        RUNTIME.spawn(async move { cache.wait_seen(&token, forever).await })
    };
    std::thread::sleep(Duration::from_millis(20));
    assert!(!waiting.is_finished());
    cache.shared.handle_event(NodeEvent::ExpectsMembers(false));
    assert_eq!(RUNTIME.block_on(waiting).unwrap(), Err(NotSeen::Unknown { token }));
}

#[test]
fn a_write_that_this_replica_has_not_issued_is_refused_and_so_is_a_node_that_is_down() {
    let cluster = two();
    let [a, b] = &cluster.caches[..] else { panic!("two") };
    let written = a.insert(1, 1).unwrap();
    let made_up = Token::new(Stamp::new(u64::MAX, a.replica_id()));
    assert!(matches!(wait(a, made_up), Err(NotSeen::NotIssued { .. })));
    b.shared.handle_event(NodeEvent::Stopped);
    assert_eq!(wait(b, written.token()), Err(NotSeen::ShutDown { token: written.token() }));
    a.shared.handle_event(NodeEvent::Stopped);
    assert_eq!(wait(a, written.token()), Ok(()), "what is here is here");
}

/// Checks that ids of one hash are found out. The second id is computed: a drawn one has a probability of 2^-62.
#[test]
fn two_replicas_of_one_hash_are_an_error_and_not_a_wrong_answer() {
    let cluster = two();
    let [a, b] = &cluster.caches[..] else { panic!("two") };
    let token = a.insert(1, 1).unwrap().token();
    cluster.exchange();
    let (upper, lower) = (u64::from_be_bytes([7; 8]), u64::from_be_bytes([1; 8]));
    let factor = 0x9E37_79B9_7F4A_7C15_u64;
    let lower = lower.wrapping_add(lower.wrapping_mul(factor)).wrapping_sub(upper.wrapping_mul(factor));
    let double = ReplicaId::from_bytes(((u128::from(upper) << 64) | u128::from(lower)).to_be_bytes());
    assert_eq!(Token::new(Stamp::new(token.time(), double)), token);
    assert_eq!(wait(b, token), Ok(()));
    let now = crate::hlc::Now { wall: token.time(), mono: 2_000_000_000 };
    b.shared.writer.change(now, |engine| {
        let digest = engine.replica.greeting(now);
        engine.replica.handle_message(now, double, Message::Digest(digest));
    });
    let (first, second) = (a.replica_id().min(double), a.replica_id().max(double));
    assert_eq!(wait(b, token), Err(NotSeen::Ambiguous { token, first, second }));
}
