//! The types of the questions and answers between nodes, and the table of the questions that wait for answers.
//! `inquiry` sends and answers them.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

use crate::report::{CachePast, HotKeys, Marks, NodePast, NodeReport};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Maximum number of questions answered at one time. Further ones are dropped, and the asking node waits until its
/// deadline.
const ANSWERING: usize = 4;

/// A question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// The registers of these keys, which are given by their encoding; with hashes of values or without.
    #[serde(rename = "Look")]
    Marks { cache: String, keys: Vec<Vec<u8>>, hash: bool },
    /// The registers from this cursor on.
    Page { cache: String, cursor: u64, limit: usize },
    /// The report of the node: everything but its registers.
    Report,
    /// The report of the node without version vectors, whose size grows with the square of the members.
    Brief,
    /// The samples of the node later than a wall time, and its events from a number on.
    NodePast { after_ms: u64, from_event: u64 },
    /// The samples of a cache later than a wall time.
    CachePast { cache: String, after_ms: u64 },
    /// The keys of a cache that were read most lately.
    HotKeys { cache: String, limit: usize },
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Marks(Marks),
    Page(Marks, Option<u64>),
    Report(Box<NodeReport>),
    NotOpen,
    NodePast(NodePast),
    CachePast(CachePast),
    HotKeys(HotKeys),
}

type Waiting = HashMap<u64, mpsc::UnboundedSender<(Uuid, Reply)>>;

/// The questions of this node that wait for answers.
pub(crate) struct Inquiries {
    next: AtomicU64,
    waiting: Mutex<Waiting>,
    /// The permits to answer questions of other nodes.
    pub(crate) answering: Arc<Semaphore>,
}

impl Default for Inquiries {
    fn default() -> Self {
        let answering = Arc::new(Semaphore::new(ANSWERING));
        Self { next: AtomicU64::new(1), waiting: Mutex::default(), answering }
    }
}

/// A question that waits for answers until it is dropped.
pub(crate) struct Asked<'a> {
    inquiries: &'a Inquiries,
    pub(crate) number: u64,
    pub(crate) answers: mpsc::UnboundedReceiver<(Uuid, Reply)>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.inquiries.waiting.lock().remove(&self.number);
    }
}

impl Inquiries {
    /// Registers a question under a new number.
    pub(crate) fn register(&self) -> Asked<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answers) = mpsc::unbounded_channel();
        self.waiting.lock().insert(number, sender);
        Asked { inquiries: self, number, answers }
    }

    /// Passes an answer of a node to the caller that waits for it. Drops it if no caller waits.
    pub(crate) fn take(&self, number: u64, node: Uuid, answer: Reply) {
        if let Some(waiting) = self.waiting.lock().get(&number) {
            let _ = waiting.send((node, answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_a_waiting_caller_is_dropped() {
        let inquiries = Inquiries::default();
        inquiries.take(1, Uuid::nil(), Reply::NotOpen);
        let asked = inquiries.register();
        drop(asked);
        assert!(inquiries.waiting.lock().is_empty());
    }
}
