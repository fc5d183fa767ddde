//! The writes of clients with `NOLOOP`, which are not reported to the client that made them.

use bytes::Bytes;
use driftless::{ChangeEvent, ChangeKind, Stamp};
use std::collections::HashMap;

/// The most writes that are remembered. Beyond that, clients are told of their own writes, which costs them a read.
const MOST: usize = 16 * 1024;

#[derive(Debug)]
enum Made {
    /// A value with this stamp.
    Value(Stamp),
    /// A removal with a stamp above the first and not above the second.
    Removal(Option<Stamp>, Stamp),
}

/// The writes of clients with `NOLOOP` since the change stream was last read to its end.
#[derive(Debug, Default)]
pub struct OwnWrites {
    writes: HashMap<Bytes, Vec<(u64, Made)>>,
    count: usize,
}

impl OwnWrites {
    /// Notes that a client wrote a value with this stamp.
    pub fn note_value(&mut self, client: u64, key: Bytes, stamp: Stamp) {
        self.note(client, key, Made::Value(stamp));
    }

    /// Notes that a client removed a key, with a stamp above `after` and not above `up_to`.
    pub fn note_removal(&mut self, client: u64, key: Bytes, after: Option<Stamp>, up_to: Stamp) {
        self.note(client, key, Made::Removal(after, up_to));
    }

    fn note(&mut self, client: u64, key: Bytes, made: Made) {
        if self.count < MOST {
            self.count += 1;
            self.writes.entry(key).or_default().push((client, made));
        }
    }

    /// Returns true if the client made this change itself.
    pub fn made(&self, event: &ChangeEvent<Bytes, Bytes>, client: u64) -> bool {
        let Some(writes) = self.writes.get(event.key()).filter(|_| event.is_local()) else { return false };
        let stamp = event.stamp();
        writes.iter().any(|(writer, made)| {
            *writer == client
                && match *made {
                    Made::Value(own) => own == stamp,
                    Made::Removal(after, up_to) => {
                        let is_removal = matches!(event.kind(), ChangeKind::Removed(_));
                        is_removal && after.is_none_or(|after| stamp > after) && stamp <= up_to
                    }
                }
        })
    }

    pub fn clear(&mut self) {
        if self.count > 0 {
            *self = Self::default();
        }
    }
}
