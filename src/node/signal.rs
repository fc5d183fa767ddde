//! What nodes say to each other about caches, as opposed to what replicas say within one.

use bytes::Bytes;
use uuid::Uuid;

/// The first byte of a cache's messages is a wire version; this one is none.
const NOT_OPEN: u8 = 0xD0;

/// A message between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal<'a> {
    /// "This cache is not open on that node": the answer to a digest, normal while a release is
    /// rolled out, and the end of a replica whose cache was closed.
    NotOpen {
        /// Who says so.
        node: Uuid,
        /// The cache's name.
        cache: &'a str,
    },
}

impl<'a> Signal<'a> {
    pub(crate) fn write(self) -> Bytes {
        let Self::NotOpen { node, cache } = self;
        let mut bytes = Vec::with_capacity(17 + cache.len());
        bytes.push(NOT_OPEN);
        bytes.extend_from_slice(node.as_bytes());
        bytes.extend_from_slice(cache.as_bytes());
        bytes.into()
    }

    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (node, cache) = rest.split_at_checked(16)?;
        let cache = std::str::from_utf8(cache).ok().filter(|cache| (1..=255).contains(&cache.len()))?;
        (*kind == NOT_OPEN).then(|| Self::NotOpen { node: Uuid::from_slice(node).unwrap_or_default(), cache })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses_the_rest() {
        let signal = Signal::NotOpen { node: Uuid::from_u128(7), cache: "products" };
        let bytes = signal.write();
        assert_eq!(Signal::read(&bytes), Some(signal));
        for cut in 0..18 {
            assert_eq!(Signal::read(&bytes[..cut.min(17)]), None);
        }
        assert_eq!(Signal::read(&[1; 40]), None);
        assert_eq!(Signal::read(&[NOT_OPEN; 40]), None, "not UTF-8");
    }
}
