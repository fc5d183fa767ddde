//! Why a write was refused.

/// A write that was refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// The encoded key is larger than every node is told to accept.
    #[error(
        "the key takes {size} bytes, and max_key_bytes is {limit}: shorten it (hash it, for instance) or raise the limit on every node"
    )]
    KeyTooLarge {
        /// Its encoded size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The encoded value is larger than every node is told to accept.
    #[error("the value takes {size} bytes, and max_value_bytes is {limit}: split it, or raise the limit on every node")]
    ValueTooLarge {
        /// Its encoded size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Serialisation failed, so no other node could have it.
    #[error("the entry cannot be serialised, so no other node could have it: {0}")]
    Unserializable(String),
    /// The key or value was encoded and does not decode again, so no other node could read it. The first entries of each opening
    /// are read back, some later ones, and all after one that could not be.
    #[error(
        "cache `{cache}`: the {part}, a `{type_name}`, is encoded but cannot be read back, so no other node could have it: {reason}. \
         Deserialize must accept what Serialize writes: see \"Types that do not come back\" in driftless::docs::questions"
    )]
    Unreadable {
        /// The name of the cache.
        cache: String,
        /// `"key"` or `"value"`.
        part: &'static str,
        /// The type, as [`std::any::type_name`] calls it.
        type_name: &'static str,
        /// What `Deserialize` says, or that it panicked.
        reason: String,
    },
    /// A time to live of zero.
    #[error("a time to live of zero would be expired at once: use remove, or a positive time")]
    ZeroTimeToLive,
}
