//! Waits until a cache has what the cluster has.

use std::time::Duration;

use super::ready::Ready;
use super::shared::Shared;
use super::{CacheKey, CacheValue, race};

/// The time after the time limit within which the node must answer. A node that takes longer is held up.
const GRACE: Duration = Duration::from_secs(1);

/// Asks the node, and waits for its answer.
pub(super) async fn ready<K: CacheKey, V: CacheValue>(shared: &Shared<K, V>, timeout: Duration) -> Ready {
    let timed_out =
        |instead: &str, entries| Ready::TimedOut { waiting_for: vec![instead.to_owned()], members: 0, entries };
    if shared.services.host.is_forked() {
        return timed_out("this node, which runs in the process that this one was forked from", 0);
    }
    let mut answer = None;
    let asked = async { answer = Some(shared.services.host.ready(&shared.name, timeout).await) };
    // The node answers in time unless its driver is held up, for instance by an eviction listener that blocks.
    let mut limit = shared.services.tasks.sleep(timeout.saturating_add(GRACE));
    race::before(asked, &mut limit).await;
    let instead =
        if answer.is_none() { "this node, whose driver is blocked" } else { "this node, which was shut down" };
    let entries = || shared.writer.look(|engine| engine.replica.view().live_len());
    answer.flatten().unwrap_or_else(|| timed_out(instead, entries()))
}
