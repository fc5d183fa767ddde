//! Messages between nodes about caches, as opposed to the messages between the replicas of one cache.

use bytes::Bytes;
use uuid::Uuid;

use crate::membership::NotOpen;
use crate::replica_id::ReplicaId;

/// The first byte of a "not open" message. A cache's message begins with a wire version; no version has this value.
const NOT_OPEN: u8 = 0xD0;

/// A message between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal<'a> {
    /// "This cache is not open on that node": the answer to a digest. It is normal while a release is rolled out. The
    /// receiver treats a replica of that node whose cache was closed as departed.
    NotOpen {
        /// The node that answers.
        node: Uuid,
        /// The replica that asked, and the greatest replica that the node had opened by then.
        answer: NotOpen,
        /// The cache's name.
        cache: &'a str,
    },
}

impl<'a> Signal<'a> {
    pub(crate) fn write(self) -> Bytes {
        let Self::NotOpen { node, answer, cache } = self;
        let mut bytes = Vec::with_capacity(49 + cache.len());
        bytes.push(NOT_OPEN);
        bytes.extend_from_slice(node.as_bytes());
        bytes.extend_from_slice(&answer.asked.to_bytes());
        bytes.extend_from_slice(&answer.last.to_bytes());
        bytes.extend_from_slice(cache.as_bytes());
        bytes.into()
    }

    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (node, rest) = rest.split_first_chunk::<16>()?;
        let (asked, rest) = rest.split_first_chunk::<16>()?;
        let (last, cache) = rest.split_first_chunk::<16>()?;
        let answer = NotOpen { asked: ReplicaId::from_bytes(*asked), last: ReplicaId::from_bytes(*last) };
        let cache = std::str::from_utf8(cache).ok().filter(|cache| (1..=255).contains(&cache.len()))?;
        (*kind == NOT_OPEN).then(|| Self::NotOpen { node: Uuid::from_bytes(*node), answer, cache })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_the_rest() {
        let answer = NotOpen { asked: ReplicaId::from_bytes([1; 16]), last: ReplicaId::from_bytes([2; 16]) };
        let signal = Signal::NotOpen { node: Uuid::from_u128(7), answer, cache: "products" };
        let bytes = signal.write();
        assert_eq!(Signal::read(&bytes), Some(signal));
        for cut in 0..50 {
            assert_eq!(Signal::read(&bytes[..cut.min(49)]), None);
        }
        assert_eq!(Signal::read(&[1; 70]), None);
        assert_eq!(Signal::read(&[NOT_OPEN; 70]), None, "not UTF-8");
    }
}
