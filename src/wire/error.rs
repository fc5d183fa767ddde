//! The errors of encoding and of decoding.

use thiserror::Error;

/// An error of encoding. Nothing of the message is sent.
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
    /// The output of a key's `Serialize` is not one well-formed CBOR item.
    #[error("the encoded key is not well-formed: {0}")]
    Key(DecodeError),
    /// An entry is marked live but has no value.
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
    /// The bytes to be relayed are not a push of this version.
    #[error("only a push can be relayed")]
    NotAPush,
    /// The bytes to be relayed do not parse.
    #[error("the bytes of the push to relay do not parse: {0}")]
    Forward(DecodeError),
}

/// An error of decoding. Nothing of the message has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The first byte names a version that this build does not support. Use [`peek`](super::peek) first, which reports
    /// it as an outcome.
    #[error("wire version {0} is not supported")]
    Version(u8),
    /// A register kind of a newer release. The whole message is refused, so that no part of it is applied or claimed.
    #[error("{what} {code} comes from a newer release")]
    Newer {
        /// The part of the message that is new.
        what: &'static str,
        /// The number of the unknown kind.
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
    /// A length is indefinite. The format has none.
    #[error("{0} has an indefinite length")]
    Indefinite(&'static str),
    /// A string is not UTF-8.
    #[error("{0} is not UTF-8")]
    Utf8(&'static str),
    /// An item nests too deeply.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The deepest nesting allowed.
        limit: usize,
    },
    /// A size is above a limit.
    #[error("{what} is {size}, over the limit of {limit}")]
    TooLarge {
        /// The part of the message that is too large.
        what: &'static str,
        /// The size found.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Bytes follow where the item should end.
    #[error("bytes follow the end of {0}")]
    Trailing(&'static str),
    /// The fields of a map are not in strictly rising order: a field is out of order, or present twice.
    #[error("{0} lists a field twice or out of order")]
    FieldOrder(&'static str),
    /// A field that every version writes is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The replicas of a table or vector are not in strictly rising order.
    #[error("{0} lists a replica twice or out of order")]
    ReplicaOrder(&'static str),
    /// A replica number is beyond the end of the message's table.
    #[error("a replica number points outside the message's table")]
    ReplicaTable,
    /// An interval ends before it starts.
    #[error("an interval ends before it starts")]
    Interval,
    /// Entries are not in rising order of dot time, or lie outside their interval.
    #[error("entries are out of order or outside their interval")]
    EntryOrder,
    /// A live entry has no value, or a tombstone has one.
    #[error("an entry's kind and value do not go together")]
    BodyMismatch,
    /// A key is well-formed, but not in its one canonical encoding.
    #[error("a key is not in canonical form")]
    NotCanonical,
}
