//! The stills of all caches of a node, in one message for each process and interval. A state machine without IO, driven
//! by a node's driver and by the simulator. `protocol/stills.rs` says what one still states.
//!
//! The message does not list the caches. Sender and receiver divide the caches that both have open into buckets, by a
//! hash of the name. For each bucket the sender states the sum of the hashes of its stills. The receiver computes the
//! same sum from the digests that it has received. If both are equal, the receiver has the very digests that the sender
//! repeats. The receiver then believes all stills of the bucket, and says so in its next message. Caches without a still
//! are left out of the sums, and listed by a short hash.
//!
//! If a message is lost or a bucket is refused, nothing is said about its caches: they go on sending digests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::hlc::HlcTime;
use crate::replica_id::ReplicaId;
use crate::wire::key_hash;

/// The most buckets. A set of accepted buckets has one bit for each.
const MAX_BUCKETS: usize = 64;
/// The number of caches from which a further bucket is made.
const CACHES_PER_BUCKET: usize = 16;
/// The most answers that wait to be sent to one process, and the most that one message may carry.
const MAX_ANSWERS: usize = 16;
/// The bytes of a message before its answers and records, of an answer, and of a record without its list.
const HEAD_BYTES: usize = 10;
const ANSWER_BYTES: usize = 16;
const RECORD_BYTES: usize = 11;
/// The number of past intervals whose messages may still be answered.
const ANSWERABLE: usize = 2;

/// A cache that is open on the sender and on the receiver of a message with stills.
#[derive(Clone, Debug)]
pub(crate) struct SharedCache {
    pub(crate) cache: Arc<str>,
    /// The replica on the sender.
    pub(crate) from: ReplicaId,
    /// The replica on the receiver.
    pub(crate) to: ReplicaId,
    /// The clock of the digest that a still of this cache repeats. `None` if there is no still.
    pub(crate) since: Option<HlcTime>,
}

impl SharedCache {
    fn hash_of_name(&self) -> u64 {
        key_hash(self.cache.as_bytes())
    }

    /// Returns the hash of a still: which replica repeats which digest to which replica.
    fn hash_of_still(&self, since: HlcTime) -> u64 {
        let mut bytes = [0; 48];
        bytes[..8].copy_from_slice(&self.hash_of_name().to_le_bytes());
        bytes[8..24].copy_from_slice(&self.from.to_bytes());
        bytes[24..40].copy_from_slice(&self.to.to_bytes());
        bytes[40..].copy_from_slice(&since.to_le_bytes());
        key_hash(&bytes)
    }
}

/// The part of a message about one bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    bucket: u8,
    /// The sum of the hashes of all stills in the bucket.
    sum: u64,
    /// The short hashes of the caches that are left out of the sum.
    left_out: Vec<u32>,
}

/// The buckets that the receiver of a message has believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    /// The hash of the message.
    message: u64,
    /// One bit for each bucket.
    believed: u64,
}

/// A message with stills.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StillMessage {
    /// The sender's wall clock. No still in the message speaks of a later time.
    pub(crate) wall: HlcTime,
    /// The number of buckets into which the sender has divided the caches.
    buckets: u8,
    answers: Vec<Answer>,
    records: Vec<Record>,
    /// The hash of the message, by which it is answered. Zero in a message that is being made.
    hash: u64,
}

impl StillMessage {
    fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend_from_slice(&self.wall.to_le_bytes());
        bytes.push(self.buckets);
        bytes.push(u8::try_from(self.answers.len()).unwrap_or(u8::MAX));
        for Answer { message, believed } in &self.answers {
            bytes.extend_from_slice(&message.to_le_bytes());
            bytes.extend_from_slice(&believed.to_le_bytes());
        }
        for Record { bucket, sum, left_out } in &self.records {
            bytes.push(*bucket);
            bytes.extend_from_slice(&sum.to_le_bytes());
            bytes.extend_from_slice(&u16::try_from(left_out.len()).unwrap_or(u16::MAX).to_le_bytes());
            left_out.iter().for_each(|short| bytes.extend_from_slice(&short.to_le_bytes()));
        }
        bytes
    }

    fn len(&self) -> usize {
        let records = self.records.iter().map(|record| RECORD_BYTES + 4 * record.left_out.len());
        HEAD_BYTES + ANSWER_BYTES * self.answers.len() + records.sum::<usize>()
    }

    /// Reads a message. Returns `None` if it is malformed.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (wall, rest) = bytes.split_first_chunk()?;
        let ([buckets, answers], mut rest) = rest.split_first_chunk()?;
        let is_number_of_buckets = buckets.is_power_of_two() && usize::from(*buckets) <= MAX_BUCKETS;
        let mut read = Self {
            wall: u64::from_le_bytes(*wall),
            buckets: Some(*buckets).filter(|_| is_number_of_buckets)?,
            answers: Vec::new(),
            records: Vec::new(),
            hash: key_hash(bytes),
        };
        for _ in 0..*answers {
            let (message, after) = rest.split_first_chunk()?;
            let (believed, after) = after.split_first_chunk()?;
            read.answers
                .push(Answer { message: u64::from_le_bytes(*message), believed: u64::from_le_bytes(*believed) });
            rest = after;
        }
        while let Some(([bucket], after)) = rest.split_first_chunk() {
            let (sum, after) = after.split_first_chunk()?;
            let (count, after) = after.split_first_chunk()?;
            let (left_out, after) = after.split_at_checked(4 * usize::from(u16::from_le_bytes(*count)))?;
            let left_out = left_out.as_chunks().0.iter().map(|short| u32::from_le_bytes(*short)).collect();
            let bucket = Some(*bucket).filter(|bucket| bucket < buckets)?;
            read.records.push(Record { bucket, sum: u64::from_le_bytes(*sum), left_out });
            rest = after;
        }
        Some(read)
    }

    /// Returns the buckets whose stills repeat digests that the receiver has, each with its caches. `shared` lists the
    /// caches that the receiver shares with the sender, with the digests that the receiver has.
    pub(crate) fn agreeing<'a>(&self, shared: &'a [SharedCache]) -> Vec<(u8, Vec<&'a SharedCache>)> {
        let by_bucket = divide(shared, self.buckets);
        let agreeing = self.records.iter().filter_map(|record| {
            let left_out: BTreeSet<_> = record.left_out.iter().copied().collect();
            let caches = by_bucket.get(&record.bucket)?;
            let (caches, sum) = stills_in(caches, &left_out)?;
            (sum == record.sum).then_some((record.bucket, caches))
        });
        agreeing.collect()
    }
}

/// Returns the caches of each bucket.
fn divide(shared: &[SharedCache], buckets: u8) -> BTreeMap<u8, Vec<&SharedCache>> {
    let mut by_bucket: BTreeMap<u8, Vec<_>> = BTreeMap::new();
    for cache in shared {
        let bucket = (cache.hash_of_name() >> 32) % u64::from(buckets.max(1));
        by_bucket.entry(u8::try_from(bucket).unwrap_or_default()).or_default().push(cache);
    }
    by_bucket
}

/// Returns the caches of a bucket that are not left out, and the sum of the hashes of their stills. Returns `None` if
/// one of them has no still, or if there are none.
fn stills_in<'a>(caches: &[&'a SharedCache], left_out: &BTreeSet<u32>) -> Option<(Vec<&'a SharedCache>, u64)> {
    let caches: Vec<_> = caches.iter().copied().filter(|cache| !left_out.contains(&short_hash(cache))).collect();
    let mut hashes = caches.iter().map(|cache| cache.since.map(|since| cache.hash_of_still(since)));
    let sum = hashes.try_fold(0_u64, |sum, hash| Some(sum.wrapping_add(hash?)))?;
    (!caches.is_empty()).then_some((caches, sum))
}

/// Returns the hash by which a cache is left out. Two caches with one hash are left out together.
fn short_hash(cache: &SharedCache) -> u32 {
    cache.hash_of_name() as u32
}

/// A still that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SentStill {
    pub(crate) cache: Arc<str>,
    pub(crate) to: ReplicaId,
    pub(crate) since: HlcTime,
}

/// The stills of one message that was sent.
#[derive(Debug, Default)]
struct SentMessage {
    hash: u64,
    by_bucket: BTreeMap<u8, Vec<SentStill>>,
}

/// The state of the exchange with one process.
#[derive(Debug, Default)]
struct Exchange {
    /// The messages of the last intervals, the newest interval last.
    sent: Vec<Vec<SentMessage>>,
    /// The answers to the messages received since the last message to the process.
    owed: Vec<Answer>,
}

/// The state of the exchange with all processes.
#[derive(Debug, Default)]
pub(crate) struct StillExchange {
    processes: BTreeMap<Uuid, Exchange>,
    /// The process to which the last message went.
    last: Uuid,
}

impl StillExchange {
    /// Returns the processes that are sent stills in this interval, at most `most` of these.
    pub(crate) fn receivers(&mut self, live: &[Uuid], most: usize) -> Vec<Uuid> {
        let (mut next, before): (Vec<_>, Vec<_>) = live.iter().partition(|process| **process > self.last);
        next.extend(before);
        next.truncate(most);
        self.last = next.last().copied().unwrap_or_default();
        next
    }

    /// Forgets a process that is no longer live.
    pub(crate) fn forget(&mut self, process: Uuid) {
        self.processes.remove(&process);
    }

    /// Makes the messages to a process, each of at most `most` bytes. `shared` lists the caches that are open here and
    /// there, with the stills of this moment.
    pub(crate) fn messages(
        &mut self,
        process: Uuid,
        wall: HlcTime,
        shared: &[SharedCache],
        most: usize,
    ) -> Vec<Vec<u8>> {
        let exchange = self.processes.entry(process).or_default();
        let buckets = shared.len().div_ceil(CACHES_PER_BUCKET).next_power_of_two().min(MAX_BUCKETS) as u8;
        let empty = || StillMessage { wall, buckets, answers: Vec::new(), records: Vec::new(), hash: 0 };
        let mut message = StillMessage { answers: std::mem::take(&mut exchange.owed), ..empty() };
        let (mut made, mut sent, mut by_bucket) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut finish = |message: StillMessage, by_bucket: BTreeMap<u8, Vec<SentStill>>| {
            let bytes = message.write();
            sent.push(SentMessage { hash: key_hash(&bytes), by_bucket });
            made.push(bytes);
        };
        for (bucket, caches) in divide(shared, buckets) {
            let Some((record, stills)) = record_of(bucket, &caches) else { continue };
            let size = RECORD_BYTES + 4 * record.left_out.len();
            if HEAD_BYTES + size > most {
                continue;
            }
            if message.len() + size > most {
                finish(std::mem::replace(&mut message, empty()), std::mem::take(&mut by_bucket));
            }
            message.records.push(record);
            by_bucket.insert(bucket, stills);
        }
        if !message.records.is_empty() || !message.answers.is_empty() {
            finish(message, by_bucket);
        }
        exchange.sent.push(sent);
        if exchange.sent.len() > ANSWERABLE {
            exchange.sent.remove(0);
        }
        made
    }

    /// Notes that these buckets of a message were believed here. The next message to the process says so.
    pub(crate) fn note_believed(&mut self, process: Uuid, message: &StillMessage, buckets: &[u8]) {
        let believed = buckets.iter().fold(0, |bits, bucket| bits | 1_u64.checked_shl((*bucket).into()).unwrap_or(0));
        let owed = &mut self.processes.entry(process).or_default().owed;
        if believed != 0 && owed.len() < MAX_ANSWERS {
            owed.push(Answer { message: message.hash, believed });
        }
    }

    /// Returns the stills that a process has believed, by the answers in its message.
    pub(crate) fn accepted(&mut self, process: Uuid, message: &StillMessage) -> Vec<SentStill> {
        let Some(exchange) = self.processes.get_mut(&process) else { return Vec::new() };
        let mut accepted = Vec::new();
        for Answer { message, believed } in &message.answers {
            let all = exchange.sent.iter_mut().flatten();
            for sent in all.filter(|sent| sent.hash == *message) {
                // An answer counts once.
                let by_bucket = std::mem::take(&mut sent.by_bucket).into_iter();
                let is_believed = |bucket: u8| believed.checked_shr(bucket.into()).is_some_and(|bits| bits & 1 == 1);
                accepted.extend(by_bucket.filter(|(bucket, _)| is_believed(*bucket)).flat_map(|(_, stills)| stills));
            }
        }
        accepted
    }
}

/// Returns the record of a bucket and its stills. Returns `None` if no cache in the bucket has a still.
fn record_of(bucket: u8, caches: &[&SharedCache]) -> Option<(Record, Vec<SentStill>)> {
    let left_out: BTreeSet<_> =
        caches.iter().filter(|cache| cache.since.is_none()).map(|cache| short_hash(cache)).collect();
    let (caches, sum) = stills_in(caches, &left_out)?;
    let sent = caches.into_iter().filter_map(|shared| {
        let SharedCache { cache, to, since, .. } = shared.clone();
        Some(SentStill { cache, to, since: since? })
    });
    Some((Record { bucket, sum, left_out: left_out.into_iter().collect() }, sent.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: Uuid = Uuid::from_u128(7);

    fn id(n: u8) -> ReplicaId {
        ReplicaId::from_bytes([n; 16])
    }

    /// Returns `count` caches that two processes share. All digests have the clock 5.
    fn caches(count: usize) -> Vec<SharedCache> {
        let cache = |n: usize| format!("cache {n}").into();
        (0..count).map(|n| SharedCache { cache: cache(n), from: id(1), to: id(2), since: Some(5) }).collect()
    }

    /// Sends stills to a receiver and its answers back. Returns the names that are accepted on both sides.
    fn exchange(sender: &[SharedCache], receiver: &[SharedCache], most: usize) -> (BTreeSet<Arc<str>>, Vec<Vec<u8>>) {
        let (mut here, mut there) = (StillExchange::default(), StillExchange::default());
        let sent = here.messages(OTHER, 9, sender, most);
        let mut believed = BTreeSet::new();
        for bytes in &sent {
            let message = StillMessage::read(bytes).expect("it is well-formed");
            assert_eq!((message.write(), message.wall), (bytes.clone(), 9));
            let agreeing = message.agreeing(receiver);
            believed
                .extend(agreeing.iter().flat_map(|(_, caches)| caches.iter().map(|shared| Arc::clone(&shared.cache))));
            there.note_believed(OTHER, &message, &agreeing.iter().map(|(bucket, _)| *bucket).collect::<Vec<_>>());
        }
        let answers = there.messages(OTHER, 9, &[], most);
        let mut accepted = BTreeSet::new();
        for bytes in answers {
            let message = StillMessage::read(&bytes).expect("it is well-formed");
            accepted.extend(here.accepted(OTHER, &message).into_iter().map(|still| still.cache));
            assert!(here.accepted(OTHER, &message).is_empty(), "an answer counts once");
        }
        assert_eq!(accepted, believed, "the sender is told exactly what was believed");
        (believed, sent)
    }

    fn names<'a>(shared: impl IntoIterator<Item = &'a SharedCache>) -> BTreeSet<Arc<str>> {
        shared.into_iter().map(|shared| Arc::clone(&shared.cache)).collect()
    }

    #[test]
    fn all_caches_are_believed_in_one_small_message() {
        for count in [1, 16, 17, 1_000] {
            let (believed, sent) = exchange(&caches(count), &caches(count), 1_300);
            assert_eq!((believed.len(), sent.len()), (count, 1));
            assert!(sent[0].len() <= HEAD_BYTES + MAX_BUCKETS * RECORD_BYTES);
        }
        assert!(exchange(&caches(1), &caches(1), 1_300).1[0].len() < 25);
        assert!(exchange(&[], &[], 1_300).1.is_empty());
    }

    #[test]
    fn whatever_differs_is_refused_with_its_bucket_only() {
        let fine = caches(1_000);
        let differing: [fn(&mut SharedCache); 4] = [
            |shared| shared.since = Some(6),
            |shared| shared.since = None,
            |shared| shared.from = id(3),
            |shared| shared.to = id(3),
        ];
        for change in differing {
            let mut other = fine.clone();
            change(&mut other[500]);
            let (believed, _) = exchange(&fine, &other, 1_300);
            let refused: Vec<_> = fine.iter().filter(|shared| !believed.contains(&shared.cache)).collect();
            assert!((1..60).contains(&refused.len()) && refused.iter().any(|shared| shared.cache == fine[500].cache));
            assert!(divide(&fine, 64).into_values().any(|bucket| names(bucket) == names(refused.iter().copied())));
        }
        let (mut fewer, gone) = (fine.clone(), 500);
        fewer.remove(gone);
        for (sender, receiver) in [(&fine, &fewer), (&fewer, &fine)] {
            let (believed, _) = exchange(sender, receiver, 1_300);
            assert!((900..1_000).contains(&believed.len()) && !believed.contains(&fine[gone].cache));
        }
    }

    #[test]
    fn caches_without_a_still_are_left_out_and_the_rest_is_believed() {
        let receiver = caches(1_000);
        let mut sender = receiver.clone();
        sender.iter_mut().step_by(2).for_each(|shared| shared.since = None);
        let (believed, sent) = exchange(&sender, &receiver, 1_300);
        assert_eq!(believed, names(sender.iter().skip(1).step_by(2)));
        assert!(sent.len() > 1 && sent.iter().all(|bytes| bytes.len() <= 1_300));
        assert!(exchange(&sender, &receiver, 20).0.is_empty(), "a bucket that does not fit states nothing");
        sender.iter_mut().for_each(|shared| shared.since = None);
        assert!(exchange(&sender, &receiver, 1_300).1.is_empty());
    }

    #[test]
    fn answers_to_an_old_or_unknown_message_count_for_nothing() {
        let (mut here, mut there) = (StillExchange::default(), StillExchange::default());
        let old = here.messages(OTHER, 9, &caches(1), 1_300);
        let old = StillMessage::read(&old[0]).unwrap();
        here.messages(OTHER, 10, &caches(1), 1_300);
        here.messages(OTHER, 11, &caches(1), 1_300);
        there.note_believed(OTHER, &old, &[0]);
        let answer = StillMessage::read(&there.messages(OTHER, 9, &[], 1_300)[0]).unwrap();
        assert!(here.accepted(OTHER, &answer).is_empty() && here.accepted(Uuid::nil(), &answer).is_empty());
        assert!(there.messages(OTHER, 9, &[], 1_300).is_empty(), "an answer is sent once");
    }

    #[test]
    fn many_processes_take_turns() {
        let all: Vec<_> = (1..=5).map(Uuid::from_u128).collect();
        let mut exchange = StillExchange::default();
        let mut turn =
            |live: &[Uuid], most| exchange.receivers(live, most).iter().map(Uuid::as_u128).collect::<Vec<_>>();
        assert_eq!([turn(&all, 2), turn(&all, 2), turn(&all, 2)], [[1, 2], [3, 4], [5, 1]]);
        assert_eq!((turn(&all[..1], 2), turn(&[], 2), turn(&all, 9)), (vec![1], vec![], vec![1, 2, 3, 4, 5]));
    }

    #[test]
    fn malformed_messages_are_refused() {
        let bytes = exchange(&caches(20), &caches(20), 1_300).1.remove(0);
        for cut in 0..bytes.len() {
            let read = StillMessage::read(&bytes[..cut]);
            assert!(read.is_none() || (cut - HEAD_BYTES).is_multiple_of(RECORD_BYTES), "{cut}");
        }
        for buckets in [0, 3, 65, 128, 255] {
            let mut wrong = bytes.clone();
            wrong[8] = buckets;
            assert_eq!(StillMessage::read(&wrong), None, "{buckets}");
        }
        let mut beyond = bytes.clone();
        beyond[HEAD_BYTES] = 2;
        assert_eq!(StillMessage::read(&beyond), None, "there are two buckets");
    }
}
