//! Messages between nodes about caches, as opposed to the messages between the replicas of one cache.

use bytes::Bytes;
use uuid::Uuid;

use crate::membership::NotOpen;
use crate::replica_id::ReplicaId;

/// The first byte of a "not open" message. A cache's message begins with a wire version; no version has this value.
const NOT_OPEN: u8 = 0xD0;

/// The first byte of a message with settings. Releases before it ignore the message, as any of an unknown kind.
const SETTINGS: u8 = 0xD3;

/// The first byte of a message with stills. Releases before it ignore the message, and so get digests.
const STILLS: u8 = 0xD4;

/// The number of bytes of a message with stills before its body.
pub(crate) const SIGNAL_HEAD: usize = 17;

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
    /// The settings of a cache that should be the same on all nodes. Sent with a greeting, and as the answer to such a
    /// message.
    Settings {
        /// The node that sends its settings.
        node: Uuid,
        /// True if this is an answer, which is not answered.
        is_answer: bool,
        /// The cache's name.
        cache: &'a str,
        /// The settings: a line `name=value` for each.
        text: &'a str,
    },
    /// The stills of all caches that both nodes have open.
    Stills {
        /// The node that sends them.
        node: Uuid,
        /// The encoded [`StillMessage`](crate::stills::StillMessage).
        body: &'a [u8],
    },
}

impl<'a> Signal<'a> {
    pub(crate) fn write(self) -> Bytes {
        let mut bytes = Vec::with_capacity(1_024);
        match self {
            Self::NotOpen { node, answer, cache } => {
                bytes.push(NOT_OPEN);
                bytes.extend_from_slice(node.as_bytes());
                bytes.extend_from_slice(&answer.asked.to_bytes());
                bytes.extend_from_slice(&answer.last.to_bytes());
                bytes.extend_from_slice(cache.as_bytes());
            }
            Self::Settings { node, is_answer, cache, text } => {
                bytes.push(SETTINGS);
                bytes.extend_from_slice(node.as_bytes());
                bytes.push(u8::from(is_answer));
                // A name has at most 255 bytes: `CacheBuilder::open` refuses longer ones.
                bytes.push(u8::try_from(cache.len()).unwrap_or(u8::MAX));
                bytes.extend_from_slice(cache.as_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
            Self::Stills { node, body } => {
                bytes.push(STILLS);
                bytes.extend_from_slice(node.as_bytes());
                bytes.extend_from_slice(body);
            }
        }
        bytes.into()
    }

    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (node, rest) = rest.split_first_chunk::<16>()?;
        let node = Uuid::from_bytes(*node);
        match *kind {
            NOT_OPEN => {
                let (asked, rest) = rest.split_first_chunk::<16>()?;
                let (last, cache) = rest.split_first_chunk::<16>()?;
                let answer = NotOpen { asked: ReplicaId::from_bytes(*asked), last: ReplicaId::from_bytes(*last) };
                Some(Self::NotOpen { node, answer, cache: name(cache)? })
            }
            SETTINGS => {
                let ([is_answer, length], rest) = rest.split_first_chunk::<2>()?;
                let (cache, text) = rest.split_at_checked(usize::from(*length))?;
                let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= MAX_SETTINGS)?;
                Some(Self::Settings { node, is_answer: *is_answer != 0, cache: name(cache)?, text })
            }
            STILLS => Some(Self::Stills { node, body: rest }),
            _ => None,
        }
    }
}

/// The longest text of settings that is read, in bytes.
const MAX_SETTINGS: usize = 4_096;

fn name(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|name| (1..=255).contains(&name.len()))
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

    #[test]
    fn settings_round_trip_and_are_bounded() {
        fn signal(text: &str) -> Signal<'_> {
            Signal::Settings { node: Uuid::from_u128(7), is_answer: true, cache: "products", text }
        }
        for text in ["", "max_key_bytes=1\n"] {
            let bytes = signal(text).write();
            assert_eq!(Signal::read(&bytes), Some(signal(text)));
            for cut in 0..19 + "products".len() {
                assert_eq!(Signal::read(&bytes[..cut]), None);
            }
        }
        assert_eq!(Signal::read(&signal(&"x".repeat(MAX_SETTINGS + 1)).write()), None);
        assert_eq!(Signal::read(&[SETTINGS; 600]), None, "not UTF-8");
        // Older releases read the first byte as a version that they do not know, and ignore the message.
        assert!(matches!(crate::wire::peek(&signal("a=1").write()), Ok(crate::wire::Peeked::UnknownVersion(_))));
    }
}
