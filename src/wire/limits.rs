//! Limits on the memory and stack that a peer's message may use.

use super::error::DecodeError;

/// The deepest nesting that any replica sends or decodes, whatever its [`Limits`] are. It bounds the stack that
/// decoding uses.
pub const MAX_DEPTH: usize = 128;

/// The largest size of an entry on the wire beyond its encoded key and value, in bytes. Code that cuts frames to a size
/// adds this for each entry. The usual overhead is 12 bytes.
pub const MAX_ENTRY_OVERHEAD: usize = 64;

/// Limits that are checked before anything is allocated.
///
/// All replicas of a cache should have the same limits. If one replica accepts a write that another refuses to decode,
/// the write never replicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest encoded key, in bytes. Default 64 KiB.
    pub max_key_bytes: usize,
    /// The largest encoded value, in bytes. Default 16 MiB.
    pub max_value_bytes: usize,
    /// The largest message, in bytes. Default 32 MiB. It must hold one key and one value of the largest size,
    /// [`MAX_ENTRY_OVERHEAD`], and the vectors of a frame.
    pub max_message_bytes: usize,
    /// The largest number of origins in one version vector, and of facts or of named members in one digest. Default
    /// 65,536.
    pub max_origins: usize,
    /// The deepest nesting inside a key, a value or an unknown field. Default and maximum [`MAX_DEPTH`].
    pub max_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_key_bytes: 64 << 10,
            max_value_bytes: 16 << 20,
            max_message_bytes: 32 << 20,
            max_origins: 65_536,
            max_depth: MAX_DEPTH,
        }
    }
}

impl Limits {
    /// Returns the nesting limit that applies: the lower of `max_depth` and [`MAX_DEPTH`].
    #[must_use]
    pub fn depth(&self) -> usize {
        self.max_depth.min(MAX_DEPTH)
    }

    /// Checks the encoded size of a key.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if the key is too large to be sent.
    pub fn check_key(&self, size: usize) -> Result<(), DecodeError> {
        at_most("a key", size, self.max_key_bytes)
    }

    /// Checks the encoded size of a value.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if the value is too large to be sent.
    pub fn check_value(&self, size: usize) -> Result<(), DecodeError> {
        at_most("a value", size, self.max_value_bytes)
    }

    pub(super) fn check_message(&self, size: usize) -> Result<(), DecodeError> {
        at_most("a message", size, self.max_message_bytes)
    }

    pub(super) fn check_origins(&self, what: &'static str, count: usize) -> Result<(), DecodeError> {
        at_most(what, count, self.max_origins)
    }
}

fn at_most(what: &'static str, size: usize, limit: usize) -> Result<(), DecodeError> {
    if size <= limit {
        return Ok(());
    }
    Err(DecodeError::TooLarge { what, size: size as u64, limit: limit as u64 })
}
