//! The screen in front of memberlist, for fuzzers, without a socket.

use super::frame::Policy;

/// The screen of one cluster.
pub struct Screen(Policy);

impl Screen {
    /// Returns the screen of a cluster of this name, with a key or without, for frames of at most `max_frame` bytes.
    #[must_use]
    pub fn new(cluster: &str, encrypted: bool, max_frame: usize) -> Self {
        Self(Policy { label: cluster.into(), encrypted, max_frame })
    }

    /// Returns the full length of the stream frame that begins with `head`, or `None` while its header is incomplete.
    ///
    /// # Errors
    /// The reason for which it is refused.
    pub fn frame_len(&self, head: &[u8]) -> Result<Option<usize>, String> {
        self.0.frame_len(head).map_err(|refusal| format!("{refusal:?}"))
    }

    /// Checks a datagram. `Ok` means that it is passed on.
    ///
    /// # Errors
    /// The reason for which it is refused.
    pub fn datagram(&self, bytes: &[u8]) -> Result<(), String> {
        self.0.check_datagram(bytes).map_err(|refusal| format!("{refusal:?}"))
    }
}
