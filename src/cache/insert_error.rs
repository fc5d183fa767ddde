//! The reasons why a write is refused.

/// The reason why a write was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// The encoded key is larger than `max_key_bytes`, which should be the same on every node.
    #[error(
        "the key takes {size} bytes, and max_key_bytes is {limit}: shorten it (hash it, for instance) or raise the limit on every node"
    )]
    KeyTooLarge {
        /// The encoded size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The encoded value is larger than `max_value_bytes`, which should be the same on every node.
    #[error("the value takes {size} bytes, and max_value_bytes is {limit}: split it, or raise the limit on every node")]
    ValueTooLarge {
        /// The encoded size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Serialisation failed, so no other node could receive the entry.
    #[error("the entry cannot be serialised, so it cannot be sent to other nodes: {0}")]
    Unserializable(String),
    /// The key or value encodes but does not decode again, so no other node could read it. The first entries of each
    /// replica are read back, then some later ones, and all of them after one that could not be read.
    #[error(
        "cache `{cache}`: the {part}, a `{type_name}`, is encoded but cannot be read back, so other nodes could not \
         read it: {reason}. Deserialize must accept what Serialize writes: see \"Types that do not come back\" in \
         driftless::docs::questions"
    )]
    Unreadable {
        /// The name of the cache.
        cache: String,
        /// `"key"` or `"value"`.
        part: &'static str,
        /// The name of the type, from [`std::any::type_name`].
        type_name: &'static str,
        /// The error of `Deserialize`, or a note that it panicked.
        reason: String,
    },
    /// The time to live is zero.
    #[error("an entry with a time to live of zero would expire at once: use remove, or a positive time")]
    ZeroTimeToLive,
}
