//! The wire format: messages to bytes and back, outside every lock.
//!
//! Everything is CBOR (RFC 8949). Keys and values are encoded by `serde` and `ciborium`. The structure around them is
//! written by hand on top of `ciborium-ll`, and the encoder writes it in exactly one way: definite lengths, shortest
//! heads, fields and vectors in rising order. The decoder refuses other lengths, heads and orders. It accepts a field
//! that the encoder would have omitted because it is zero, false or empty.
//!
//! # Layout
//!
//! The first byte is the version: `0x01`. One array follows, `[kind, cache, from, node, hops, body]`:
//!
//! | element | type | meaning |
//! | --- | --- | --- |
//! | `kind` | uint | 1 digest, 2 push, 3 ack, 4 frame, 5 audit |
//! | `cache` | text | the name of the cache that the message is for |
//! | `from` | bytes(16) | the replica that sends the message |
//! | `node` | bytes(16) | the node of that replica |
//! | `hops` | uint | the number of times that a push was relayed; zero for all other kinds |
//! | `body` | map | fields by number, in rising order |
//!
//! Field 0 of a body, if present, is the table of replica ids: bytes, 16 for each id, in rising order. Everywhere else
//! in the body a `replica` is an index into that table, so that each id is sent once. The table comes first and lists
//! all ids, so that a skipped unknown field cannot shift an index.
//!
//! | body | fields (those in brackets are omitted when zero, false or empty) |
//! | --- | --- |
//! | digest | 1 clock, \[2 quiet since\], \[3 watermark\], \[4 epoch\], \[5 vector\], \[6 retired `[count, hash]`\], \[7 full\], \[8 want full\], \[9 reply\], \[10 lossy\], \[11 facts `[[replica, clock, watermark, vector, retired?], ..]`\], \[12 renew `replica`\], \[13 members `[[replica, milliseconds dead, met], ..]`\], \[14 deferring\], \[15 wall\], \[16 greets\] |
//! | push | 1 origin, 2 from, 3 to, \[4 epoch\], 5 entries, \[6 fills `[[dot time, after, epoch, [stamp, ..]], ..]`\] |
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
//! | `step` | uint, at least 1 | its dot time minus that of the entry before, or minus the interval's start: entries cannot be out of order |
//! | `kind` | uint | [`Kind::code`](crate::crdt::Kind::code) |
//! | `stamp` | null, uint or stamp | null: the stamp is the dot; a number: the stamp's time, of the same replica as the dot |
//! | `expires` | uint | expiry time; zero is never |
//! | `value` | bytes or null | the value's encoding; null for a tombstone, and only for a tombstone |
//!
//! A fresh write takes 12 bytes beyond its encoded key and value.
//!
//! # Compatibility with newer releases
//!
//! | the newer release sends | this release |
//! | --- | --- |
//! | another version byte, another kind | ignores the message ([`peek`] reports it) |
//! | another field in a body, or more elements in an array of this format (except vectors and stamps) | skips them, bounded in depth and length |
//! | another kind of register | refuses the whole message ([`DecodeError::Newer`]): without that entry the interval would be incomplete |
//!
//! # Errors while decoding
//!
//! A message is decoded completely or refused completely. There is one exception: a *value* or *key* that is not of
//! this cache's type, or a value that is not CBOR at all. The decoder counts it, keeps it as
//! [`Body::Opaque`](crate::item::Body::Opaque) or [`Key::Opaque`](crate::item::Key::Opaque), and relays it byte for
//! byte. So one bad entry does not block the rest. A key that is not canonical refuses the message: two encodings of
//! one key would be two keys.
//!
//! Writers must check the limits on keys and values too ([`Limits::check_key`], [`Limits::check_value`],
//! [`encoded_len`]): every replica must be able to accept what a writer accepts.
//!
//! # Files
//!
//! | file | content |
//! | --- | --- |
//! | `layout` | the numbers of the format: version, fields, lengths of arrays |
//! | `envelope` | the sender and the cache of a message; read alone by [`peek`], replaced by [`forward`] |
//! | `encode` | messages to bytes |
//! | `decode` | bytes to messages |
//! | `entries` | the reader of entries |
//! | `parts` | the reader of the parts of bodies and entries |
//! | `replicas` | the table of replica ids |
//! | `write` | the writer of the structure |
//! | `cursor` | the reader of the structure |
//! | `user` | the user's keys and values, by `serde` and `ciborium` |
//! | `canonical` | the canonical encoding of a key |
//! | `measure` | the length of an encoding, from the shape of the item |
//! | `gauge` | the length of an encoding, by serialising, if the shape does not give it |
//! | `reread` | the check that an encoding decodes again |
//! | `scan` | the check of one item before `serde` reads it |
//! | `limits` | the limits on a peer's messages |
//! | `error` | the errors |
//! | `hash` | the hash that is equal on every node |

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
