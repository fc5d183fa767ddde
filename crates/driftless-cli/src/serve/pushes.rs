//! The invalidations that wait for one client.
//!
//! The queue is bounded. When it is full, it becomes the single message that invalidates everything: a client that is
//! slow to read loses its memory, and never keeps a value that it should have dropped.

use super::{
    reply::{Output, Protocol},
    sync::lock,
};
use bytes::Bytes;
use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// The most keys that wait for one client.
const MOST_KEYS: usize = 16 * 1024;
/// The most bytes of keys that wait for one client.
const MOST_BYTES: usize = 1 << 20;
/// The channel of invalidations for clients of version 2 of the protocol.
pub const CHANNEL: &str = "__redis__:invalidate";

#[derive(Debug, Default)]
struct Waiting {
    /// True if the client has to drop everything.
    everything: bool,
    keys: Vec<Bytes>,
    bytes: usize,
    /// True if the client to which invalidations are redirected is gone.
    is_broken: bool,
}

/// The invalidations that wait for one client.
#[derive(Debug, Default)]
pub struct Pushes {
    waiting: Mutex<Waiting>,
    /// True if there may be invalidations, readable without the lock.
    any: AtomicBool,
    /// The id of the client that receives the invalidations of this one; 0 is this client itself.
    redirect: AtomicU64,
    /// True once the client of `redirect` was found gone.
    broken: AtomicBool,
}

impl Pushes {
    /// Adds keys that the client has to drop. Returns false if the queue was full, so that the client has to drop
    /// everything.
    pub fn add(&self, keys: impl IntoIterator<Item = Bytes>) -> bool {
        let mut waiting = lock(&self.waiting);
        for key in keys {
            if waiting.everything {
                continue;
            }
            waiting.bytes += key.len();
            waiting.keys.push(key);
            if waiting.keys.len() > MOST_KEYS || waiting.bytes > MOST_BYTES {
                *waiting = Waiting { everything: true, is_broken: waiting.is_broken, ..Waiting::default() };
                self.any.store(true, Ordering::Release);
                return false;
            }
        }
        self.any.store(true, Ordering::Release);
        true
    }

    /// Makes the client drop everything.
    pub fn add_everything(&self) {
        let mut waiting = lock(&self.waiting);
        *waiting = Waiting { everything: true, is_broken: waiting.is_broken, ..Waiting::default() };
        self.any.store(true, Ordering::Release);
    }

    /// Reports to the client that the receiver of its invalidations has left.
    pub fn add_broken_redirect(&self) {
        if !self.broken.swap(true, Ordering::AcqRel) {
            lock(&self.waiting).is_broken = true;
            self.any.store(true, Ordering::Release);
        }
    }

    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Returns the client that receives the invalidations of this one, if it is another client.
    pub fn redirect(&self) -> Option<u64> {
        Some(self.redirect.load(Ordering::Acquire)).filter(|id| *id != 0)
    }

    /// Returns true if the client to which invalidations are redirected was found gone.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Sets the client that receives the invalidations of this one; `None` is this client itself.
    pub fn set_redirect(&self, id: Option<u64>) {
        self.redirect.store(id.unwrap_or(0), Ordering::Release);
        self.broken.store(false, Ordering::Release);
    }

    /// Drops what waits.
    pub fn clear(&self) {
        self.any.store(false, Ordering::Release);
        *lock(&self.waiting) = Waiting::default();
    }

    /// Moves what waits to the output.
    pub fn take(&self, output: &mut Output) {
        // Lowered before the queue is read: a key that is added meanwhile raises it again.
        self.any.store(false, Ordering::Release);
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        if waiting.is_broken && output.protocol == Protocol::Three {
            output.push(2);
            output.bulk(b"tracking-redir-broken");
            output.count(self.redirect.load(Ordering::Acquire));
        }
        if waiting.everything {
            start(output);
            output.null_array();
        } else if !waiting.keys.is_empty() {
            start(output);
            output.array(waiting.keys.len());
            waiting.keys.iter().for_each(|key| output.bulk(key));
        }
    }
}

/// Starts an invalidation. In version 2 it is a message of a subscription.
fn start(output: &mut Output) {
    match output.protocol {
        Protocol::Three => {
            output.push(2);
            output.bulk(b"invalidate");
        }
        Protocol::Two => {
            output.array(3);
            output.bulk(b"message");
            output.bulk(CHANNEL.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pushes: &Pushes, protocol: Protocol) -> String {
        let mut output = Output { protocol, ..Output::default() };
        pushes.take(&mut output);
        String::from_utf8(output.bytes.to_vec()).expect("text")
    }

    #[test]
    fn keys_come_out_as_one_message_in_both_versions() {
        let pushes = Pushes::default();
        assert!(pushes.add([Bytes::from("a"), Bytes::from("b")]));
        assert!(pushes.is_waiting());
        assert_eq!(taken(&pushes, Protocol::Three), ">2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n");
        assert!(!pushes.is_waiting());
        assert_eq!(taken(&pushes, Protocol::Three), "");
        assert!(pushes.add([Bytes::from("a")]));
        let message = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\na\r\n";
        assert_eq!(taken(&pushes, Protocol::Two), message);
    }

    #[test]
    fn a_full_queue_invalidates_everything() {
        let pushes = Pushes::default();
        assert!(pushes.add((0..MOST_KEYS).map(|key| Bytes::from(key.to_string()))));
        assert!(!pushes.add([Bytes::from("one more")]));
        assert!(pushes.add([Bytes::from("after")]));
        assert_eq!(taken(&pushes, Protocol::Three), ">2\r\n$10\r\ninvalidate\r\n_\r\n");
        assert!(!pushes.add([Bytes::from(vec![b'x'; MOST_BYTES + 1])]));
        let everything = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*-1\r\n";
        assert_eq!(taken(&pushes, Protocol::Two), everything);
    }

    #[test]
    fn a_broken_redirect_is_reported_once() {
        let pushes = Pushes::default();
        pushes.set_redirect(Some(7));
        pushes.add_broken_redirect();
        pushes.add_broken_redirect();
        assert_eq!(taken(&pushes, Protocol::Three), ">2\r\n$21\r\ntracking-redir-broken\r\n:7\r\n");
        assert_eq!(taken(&pushes, Protocol::Three), "");
    }
}
