//! The sending and answering of questions between nodes, for a person who inspects the cluster. A question asks for the
//! registers of some keys, the next page of registers, the report of a node, or its past. `questions` has the types.
//!
//! Questions change no state and carry no values. A node does not answer a question that it cannot decode.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::mesh::{MAX_DATAGRAM, Mesh, Peer};
use super::questions::{Ask, Reply};
use super::registry::Registry;
use super::report::{brief, report};
use crate::cache::TimeSource;

/// The first byte of a question. A cache's message begins with a wire version; no version has the value of this byte,
/// of `ANSWER` or of a signal.
const QUESTION: u8 = 0xD1;
/// The first byte of an answer.
const ANSWER: u8 = 0xD2;
/// Maximum size of a question or an answer, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// Maximum number of keys in one question, and of registers in one answer.
pub(crate) const MAX_KEYS: usize = 256;
const SEND_DEADLINE: Duration = Duration::from_secs(2);
/// Maximum nesting of a question or an answer.
const DEPTH: usize = 32;

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    /// The number of the question at the node that asks. Its answers carry the same number.
    number: u64,
    /// The process that asks or answers.
    node: Uuid,
    body: T,
}

/// Asks some processes and waits until all have answered or the time is up. Returns the answers by process.
pub(crate) async fn ask(
    registry: &Registry,
    mesh: &Mesh,
    peers: &[Peer],
    question: Ask,
    limit: Duration,
) -> HashMap<Uuid, Reply> {
    let mut asked = registry.inquiries.register();
    let mut answers = HashMap::new();
    let Some(bytes) = write(QUESTION, &Envelope { number: asked.number, node: registry.incarnation, body: question })
    else {
        return answers;
    };
    let gather = async {
        futures_util::future::join_all(peers.iter().map(|peer| send(mesh, peer, bytes.clone()))).await;
        while answers.len() < peers.len() {
            let Some((node, reply)) = asked.answers.recv().await else { return };
            // An answer of a process that was not asked must not end the wait.
            if peers.iter().any(|peer| peer.incarnation == node) {
                answers.insert(node, reply);
            }
        }
    };
    let _ = tokio::time::timeout(limit, gather).await;
    answers
}

/// Handles a message that is a question or an answer. Returns `false` if it is neither.
pub(crate) fn handle(registry: &Arc<Registry>, mesh: &Arc<Mesh>, bytes: &Bytes) -> bool {
    match bytes.first() {
        Some(&QUESTION) => {
            if let Some(question) = read::<Ask>(bytes) {
                respond(registry, mesh, question);
            }
            true
        }
        Some(&ANSWER) => {
            if let Some(answer) = read::<Reply>(bytes) {
                registry.inquiries.take(answer.number, answer.node, answer.body);
            }
            true
        }
        _ => false,
    }
}

/// Answers outside the driver's loop, because encoding keys runs user code. Drops the question if too many are being
/// answered, or if the asking node is not a member.
fn respond(registry: &Arc<Registry>, mesh: &Arc<Mesh>, question: Envelope<Ask>) {
    let Ok(permit) = Arc::clone(&registry.inquiries.answering).try_acquire_owned() else { return };
    let Some(peer) = mesh.members().into_iter().find(|peer| peer.incarnation == question.node) else { return };
    let (registry, mesh) = (Arc::clone(registry), Arc::clone(mesh));
    tokio::spawn(async move {
        let _permit = permit;
        let Envelope { number, body, .. } = question;
        let (node, at) = (registry.incarnation, Arc::clone(&mesh));
        let answer = tokio::task::spawn_blocking(move || {
            let body = answer(&registry, &at, body);
            write(ANSWER, &Envelope { number, node, body })
        });
        if let Ok(Some(bytes)) = answer.await {
            send(&mesh, &peer, bytes).await;
        }
    });
}

/// Returns the answer to a question from the state of this node.
pub(crate) fn answer(registry: &Registry, mesh: &Mesh, question: Ask) -> Reply {
    match question {
        Ask::Marks { cache, mut keys, hash } => {
            keys.truncate(MAX_KEYS);
            registry.port(&cache).map_or(Reply::NotOpen, |port| Reply::Marks(port.marks(&keys, hash)))
        }
        Ask::Page { cache, cursor, limit } => registry.port(&cache).map_or(Reply::NotOpen, |port| {
            let (marks, next) = port.marks_page(cursor, limit.clamp(1, MAX_KEYS));
            Reply::Page(marks, next)
        }),
        Ask::Report => Reply::Report(Box::new(report(registry, mesh, true))),
        Ask::Brief => Reply::Report(Box::new(brief(report(registry, mesh, true)))),
        Ask::NodePast { after_ms, from_event } => {
            Reply::NodePast(registry.history.node(mesh.name(), registry.clock.now(), after_ms, from_event))
        }
        Ask::CachePast { cache, after_ms } => match registry.port(&cache) {
            Some(_) => Reply::CachePast(registry.history.cache(mesh.name(), &cache, registry.clock.now(), after_ms)),
            None => Reply::NotOpen,
        },
        Ask::HotKeys { cache, limit } => {
            registry.port(&cache).map_or(Reply::NotOpen, |port| Reply::HotKeys(port.hot_keys(limit.min(MAX_KEYS))))
        }
    }
}

async fn send(mesh: &Mesh, peer: &Peer, bytes: Bytes) {
    let sent = if bytes.len() <= MAX_DATAGRAM {
        mesh.send_datagram(peer, bytes).await
    } else {
        mesh.send_stream(peer, bytes, SEND_DEADLINE).await
    };
    if let Err(error) = sent {
        tracing::debug!(member = %peer.name, %error, "a question or an answer could not be sent");
    }
}

fn write<T: Serialize>(kind: u8, envelope: &Envelope<T>) -> Option<Bytes> {
    let mut bytes = vec![kind];
    ciborium::into_writer(envelope, &mut bytes).ok()?;
    (bytes.len() <= MAX_BYTES).then(|| bytes.into())
}

fn read<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Option<Envelope<T>> {
    if bytes.len() > MAX_BYTES {
        return None;
    }
    ciborium::de::from_reader_with_recursion_limit(bytes.get(1..)?, DEPTH).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_round_trip_and_garbage_is_refused() {
        let body = Ask::Marks { cache: "c".into(), keys: vec![vec![1, 2]], hash: true };
        let bytes = write(QUESTION, &Envelope { number: 7, node: Uuid::from_u128(1), body }).unwrap();
        let back = read::<Ask>(&bytes).unwrap();
        assert!(matches!(back.body, Ask::Marks { keys, .. } if keys == [[1, 2]]));
        for cut in 0..bytes.len() {
            assert!(read::<Ask>(&bytes[..cut]).is_none(), "cut at {cut}");
        }
        assert!(read::<Ask>(&[QUESTION; 4_096]).is_none());
        assert!(read::<Reply>(&bytes).is_none());
    }
}
