//! Questions that nodes ask each other for the sake of a person who looks: what is held for these
//! keys, what comes next in a walk, how are you. Nothing here changes state, no value travels, and a
//! question that is not understood is not answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::mesh::{MAX_DATAGRAM, Mesh, Peer};
use super::questions::{Ask, Reply};
use super::registry::Registry;
use super::report::report;

/// The first byte of a cache's messages is a wire version; these are none.
const QUESTION: u8 = 0xD1;
const ANSWER: u8 = 0xD2;
/// Bytes of a question or an answer.
const MAX_BYTES: usize = 4 << 20;
/// Keys in one question, and registers in one answer.
pub(crate) const MAX_KEYS: usize = 256;
const SEND_DEADLINE: Duration = Duration::from_secs(2);
const DEPTH: usize = 32;

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    number: u64,
    /// The process that asks, or that answers.
    node: Uuid,
    body: T,
}

/// Asks some processes, and waits until all have answered or the time is up.
pub(crate) async fn ask(
    registry: &Registry,
    mesh: &Mesh,
    peers: &[Peer],
    question: Ask,
    patience: Duration,
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
            if peers.iter().any(|peer| peer.incarnation == node) {
                answers.insert(node, reply);
            }
        }
    };
    let _ = tokio::time::timeout(patience, gather).await;
    answers
}

/// Takes a message that is a question or an answer; `false` if it is neither.
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

/// Answers away from the loop: keys are encoded, and that is user code.
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

/// The answer to a question, from what is here.
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
