//! How much a peer may make us hold.

use super::error::DecodeError;

/// No replica decodes deeper nesting than this, whatever its [`Limits`] say, and no replica sends
/// it. It bounds the stack that decoding takes.
pub const MAX_DEPTH: usize = 128;

/// What an entry takes on the wire beyond its encoded key and value, at most, in bytes: whoever
/// cuts frames to a size adds this per entry. The usual overhead is 12.
pub const MAX_ENTRY_OVERHEAD: usize = 64;

/// Bounds that are checked before anything is allocated.
///
/// All replicas of a cache should have the same: what one accepts from its user and another
/// refuses from the wire never replicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one encoded key. Default 64 KiB.
    pub max_key_bytes: usize,
    /// Bytes of one encoded value. Default 16 MiB.
    pub max_value_bytes: usize,
    /// Bytes of one message. Default 32 MiB; must hold one key and one value of the largest size,
    /// [`MAX_ENTRY_OVERHEAD`] and the vectors of a frame.
    pub max_message_bytes: usize,
    /// Origins in one version vector, and facts in one digest. Default 65,536.
    pub max_origins: usize,
    /// Levels of nesting inside a key, a value or an unknown field. Default and maximum
    /// [`MAX_DEPTH`].
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
    /// The nesting that applies.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.max_depth.min(MAX_DEPTH)
    }

    /// Whether a key of `size` encoded bytes may travel.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if not.
    pub fn check_key(&self, size: usize) -> Result<(), DecodeError> {
        at_most("a key", size, self.max_key_bytes)
    }

    /// Whether a value of `size` encoded bytes may travel.
    ///
    /// # Errors
    /// [`DecodeError::TooLarge`] if not.
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
