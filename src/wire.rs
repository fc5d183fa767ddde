//! Messages to bytes and back, outside every lock.
//!
//! CBOR (RFC 8949) throughout: keys and values through `serde` and `ciborium`, the structure around
//! them by hand, on top of `ciborium-ll`. Everything of ours is written in one way only: definite
//! lengths, shortest heads, fields and vectors in rising order. Whatever differs is refused.
//!
//! # Layout
//!
//! One byte, the version: `0x01`. Then one array, `[kind, cache, from, node, hops, body]`:
//!
//! | element | type | meaning |
//! | --- | --- | --- |
//! | `kind` | uint | 1 digest, 2 push, 3 ack, 4 frame, 5 audit |
//! | `cache` | text | the name of the cache it is for |
//! | `from` | bytes(16) | the replica that sends it |
//! | `node` | bytes(16) | the node that the sender lives on |
//! | `hops` | uint | how often a push was passed on; zero for all others |
//! | `body` | map | fields by number, in rising order |
//!
//! Field 0 of a body, if there, is the table of replica ids: bytes, 16 for each, in rising order.
//! Everywhere else in the body a `replica` is its number in that table, so that each id travels
//! once. It comes first and lists all ids, so that skipping an unknown field cannot shift a number.
//!
//! | body | fields (those in brackets are left out when zero, false or empty) |
//! | --- | --- |
//! | digest | 1 clock, \[2 quiet since\], \[3 watermark\], \[4 epoch\], \[5 vector\], \[6 retired `[count, hash]`\], \[7 full\], \[8 want full\], \[9 reply\], \[10 lossy\], \[11 facts `[[replica, clock, watermark, vector, retired?], ..]`\], \[12 renew `replica`\], \[13 members `[[replica, dead for, met], ..]`\], \[14 deferring\], \[15 wall\], \[16 greets\] |
//! | push | 1 origin, 2 from, 3 to, \[4 epoch\], 5 entries, \[6 fills `[[dot time, after, epoch, ..], ..]`\] |
//! | ack | 1 time, \[2 to\] |
//! | frame | 1 session, 2 index, \[3 base vector\], \[4 reconcile\], 5 clock, \[6 epoch\], \[7 intervals `[[origin, from, to, entries, fills?], ..]`\], \[8 dropped vector\], \[9 last: 1 frames, \[2 claim vector\], 3 floor stamp, \[4 vector beyond the claim\], \[5 eviction floor stamp\], \[6 evicted vector\]\], 10 to |
//! | audit | \[1 vector\], 2 entries, \[3 reply\] |
//!
//! | part | layout |
//! | --- | --- |
//! | vector | map replica -> time, in rising order; a time is never zero |
//! | stamp | `[replica, time]` |
//! | entry of an interval | `[key, step, kind, stamp, expires, value]` |
//! | entry of an audit | `[key, origin, dot time, kind, stamp, expires]` |
//!
//! | part of an entry | type | meaning |
//! | --- | --- | --- |
//! | `key` | bytes | the key's canonical encoding ([`encode_key`]) |
//! | `step` | uint, at least 1 | its dot time less the one before it, or less the interval's start: entries cannot be out of order |
//! | `kind` | uint | [`Kind::code`](crate::crdt::Kind::code) |
//! | `stamp` | null, uint or stamp | null: the stamp is the dot; a number: the time, by the dot's origin |
//! | `expires` | uint | zero is never |
//! | `value` | bytes or null | the value's encoding; null for a tombstone, and only then |
//!
//! A fresh write takes 12 bytes beyond its encoded key and value.
//!
//! # What a newer release may do
//!
//! | it sends | we |
//! | --- | --- |
//! | another version byte, another kind | ignore the message ([`peek`] tells) |
//! | another field in a body, more elements in an array of ours (vectors and stamps excepted) | skip them, bounded in depth and length |
//! | another kind of register | refuse the message whole ([`DecodeError::Newer`]): without that entry the interval would be a lie |
//!
//! # What does not decode
//!
//! A message is taken whole or refused whole. Only a *value* or *key* that is not of this cache's
//! type, or a value that is no CBOR at all, is set aside: counted, kept as
//! [`Body::Opaque`](crate::item::Body::Opaque) or [`Key::Opaque`](crate::item::Key::Opaque), and
//! relayed byte for byte, so that one bad entry holds up nothing. A key that is not canonical
//! refuses the message: two encodings of one key would be two keys.
//!
//! The limits on keys and values belong at the writer, too ([`Limits::check_key`],
//! [`Limits::check_value`], [`encoded_len`]): what a writer accepts must be acceptable everywhere.

mod canonical;
mod cursor;
mod decode;
mod encode;
mod entries;
mod envelope;
mod error;
mod gauge;
mod hash;
mod layout;
mod limits;
mod measure;
mod parts;
mod replicas;
mod reread;
mod scan;
#[cfg(test)]
mod tests;
mod user;
mod write;

pub use decode::{Decoded, decode};
pub use encode::encode;
pub use entries::Intake;
pub use envelope::{Envelope, MessageKind, Peeked, forward, peek};
pub use error::{DecodeError, EncodeError};
pub use hash::{key_hash, value_hash};
pub use limits::{Limits, MAX_DEPTH, MAX_ENTRY_OVERHEAD};
pub(crate) use reread::{read_key, reread_key, reread_value};
#[cfg(any(test, feature = "sim"))]
pub(crate) use user::write_value;
pub(crate) use user::{Unencodable, unencodable};
pub use user::{decode_key, encode_key, encoded_len, key_len};
