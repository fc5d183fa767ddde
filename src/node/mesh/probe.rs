//! What a fuzzer may ask of the screen in front of memberlist, without a socket.

use super::frame::Policy;

/// The screen of one cluster.
pub struct Screen(Policy);

impl Screen {
    /// For a cluster of this name, with a key or without, and frames of at most so many bytes.
    #[must_use]
    pub fn new(cluster: &str, encrypted: bool, max_frame: usize) -> Self {
        Self(Policy { label: cluster.into(), encrypted, max_frame })
    }

    /// The whole length of the stream frame that begins with `head`; `None` while its header is incomplete.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn frame_len(&self, head: &[u8]) -> Result<Option<usize>, String> {
        self.0.frame_len(head).map_err(|refusal| format!("{refusal:?}"))
    }

    /// Whether a datagram is passed on.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn datagram(&self, bytes: &[u8]) -> Result<(), String> {
        self.0.check_datagram(bytes).map_err(|refusal| format!("{refusal:?}"))
    }
}
