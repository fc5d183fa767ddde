//! What can be wrong with a message, on its way out and on its way in.

use thiserror::Error;

/// Why something was not encoded. Nothing of it leaves.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The `Serialize` of a key or value failed.
    #[error("the type's Serialize failed: {0}")]
    Serialize(String),
    /// A key or value nests deeper than any replica decodes.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The deepest nesting allowed.
        limit: usize,
    },
    /// A map inside a key lists one key twice.
    #[error("a map inside a cache key has the same key twice")]
    DuplicateMapKey,
    /// What `Serialize` wrote for a key is no single well-formed CBOR item.
    #[error("the encoded key is not well-formed: {0}")]
    Key(DecodeError),
    /// An entry is said to be live but carries no value.
    #[error("a live entry has no value to send")]
    BodyMissing,
    /// An entry's dot is of another origin than the interval it is in.
    #[error("an entry's dot is not of its interval's origin")]
    ForeignDot,
    /// The entries of an interval are not in rising order of dot time within `(from, to]`.
    #[error("entries are not in rising dot order within their interval")]
    EntryOrder,
    /// A replica id is missing from the message's own table.
    #[error("a replica id is missing from the message's table")]
    ReplicaTable,
    /// The bytes to be passed on are not a push of this version.
    #[error("only a push can be passed on")]
    NotAPush,
    /// The bytes to be passed on do not parse.
    #[error("the bytes to be passed on do not parse: {0}")]
    Forward(DecodeError),
}

/// Why a message was refused. Nothing of it has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first byte names a version that this build does not speak. Use
    /// [`peek`](super::peek) first, which reports it as an outcome.
    #[error("wire version {0} is not spoken here")]
    Version(u8),
    /// A register kind from a newer release. The message is refused whole, so that nothing of it
    /// is half applied or claimed.
    #[error("{what} {code} comes from a newer release")]
    Newer {
        /// What is new.
        what: &'static str,
        /// Its number.
        code: u64,
    },
    /// The bytes end inside an item.
    #[error("the bytes end inside {0}")]
    Truncated(&'static str),
    /// The bytes are not CBOR.
    #[error("not CBOR in {0}")]
    Syntax(&'static str),
    /// An item of another type was expected.
    #[error("{0} has the wrong type")]
    Type(&'static str),
    /// A number does not fit its field.
    #[error("{0} is out of range")]
    Range(&'static str),
    /// A length or number is not written in its shortest form.
    #[error("{0} is not in its shortest form")]
    NotShortest(&'static str),
    /// Indefinite lengths are never used.
    #[error("{0} has an indefinite length")]
    Indefinite(&'static str),
    /// A string is not UTF-8.
    #[error("{0} is not UTF-8")]
    Utf8(&'static str),
    /// Nested too deeply.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The deepest nesting allowed.
        limit: usize,
    },
    /// Larger than a limit.
    #[error("{what} is {size}, over the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Bytes follow where the item should end.
    #[error("bytes follow the end of {0}")]
    Trailing(&'static str),
    /// The fields of a map are not in strictly rising order: out of order, or twice.
    #[error("{0} lists a field twice or out of order")]
    FieldOrder(&'static str),
    /// A field that every version writes is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The replicas of a table or vector are not in strictly rising order.
    #[error("{0} lists a replica twice or out of order")]
    ReplicaOrder(&'static str),
    /// A replica number beyond the message's table.
    #[error("a replica number points outside the message's table")]
    ReplicaTable,
    /// An interval ends before it starts.
    #[error("an interval ends before it starts")]
    Interval,
    /// Entries are not in rising order of dot time, or lie outside their interval.
    #[error("entries are out of order or outside their interval")]
    EntryOrder,
    /// A live entry without a value, or a tombstone with one.
    #[error("an entry's kind and value do not go together")]
    BodyMismatch,
    /// A key is well-formed, but not in its one canonical encoding.
    #[error("a key is not in canonical form")]
    NotCanonical,
}
