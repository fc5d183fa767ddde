//! Messages to bytes and back.

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
mod replicas;
mod scan;
#[cfg(test)]
mod tests;
mod user;
mod write;

pub use decode::{Decoded, Intake, decode};
pub use encode::encode;
pub use envelope::{Envelope, MessageKind, Peeked, forward, peek};
pub use error::{DecodeError, EncodeError};
pub use hash::{key_hash, value_hash};
pub use limits::{Limits, MAX_DEPTH, MAX_ENTRY_OVERHEAD};
pub use user::{decode_key, encode_key, encoded_len};
