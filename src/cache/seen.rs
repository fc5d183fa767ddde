//! Waits until this node has merged a write that another node made: `View::vector` must cover the write's time.

use std::time::Duration;

use super::shared::Shared;
use super::token::Token;
use super::{CacheKey, CacheValue, race};
use crate::item::CoreKey;
use crate::replica::View;
use crate::replica_id::ReplicaId;

/// The reason why [`Cache::wait_seen`](super::Cache::wait_seen) ended without the write. Reads work in any case: what
/// they return may be older than the write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSeen {
    /// This cache knows no replica with the id of the token. It has not caught up yet, or that replica departed so long
    /// ago that its record was dropped, or it took a new id, or the token is of another cache.
    #[error(
        "this cache knows no replica that could have written the token {token}: wait for `ready`. If the cache is \
         ready, the token is of another cache, or of a replica that has departed or taken a new id"
    )]
    Unknown {
        /// The token.
        token: Token,
    },
    /// The write was made under a former id of this replica, which another process uses too. What this cache has seen
    /// under that id proves nothing.
    #[error("replica {replica} is a former id of this cache, which took a new one: wait for `ready`, then read")]
    Renewed {
        /// The former id.
        replica: ReplicaId,
    },
    /// The token names this replica, which has issued no write with such a time. The token was made up, or another
    /// process uses the same id.
    #[error(
        "replica {replica} is this cache, which has issued no write as late as the token {token}: the token was made \
         up, or another process uses the same replica id"
    )]
    NotIssued {
        /// The id of this replica.
        replica: ReplicaId,
        /// The token.
        token: Token,
    },
    /// Two replicas that this cache knows have ids of one hash, and the token may be of either.
    #[error(
        "the token {token} may be of replica {first} or of {second}, whose ids have one hash: read without waiting"
    )]
    Ambiguous {
        /// The token.
        token: Token,
        /// The lower of the two ids.
        first: ReplicaId,
        /// The higher one.
        second: ReplicaId,
    },
    /// The time limit was reached. The write may still arrive.
    #[error(
        "after {waited:?} this cache has merged the writes of replica {replica} up to {behind:?} before the token's: \
         allow more time, or check the link to that node"
    )]
    TimedOut {
        /// The replica that made the write.
        replica: ReplicaId,
        /// The time limit.
        waited: Duration,
        /// The time from the last write of that replica that is known to be merged here to the write of the token. The
        /// whole time of the token if nothing is.
        behind: Duration,
    },
    /// The node was shut down, or this process was forked after the node was started. Nothing arrives here any more.
    #[error("the node was shut down before this cache had seen the token {token}: ask another node")]
    ShutDown {
        /// The token.
        token: Token,
    },
}

/// Waits until this node has merged the write of a token.
pub(super) async fn wait<K: CacheKey, V: CacheValue>(
    shared: &Shared<K, V>,
    token: Token,
    timeout: Duration,
) -> Result<(), NotSeen> {
    if shared.services.host.is_forked() {
        return Err(NotSeen::ShutDown { token });
    }
    let mut limit = None;
    loop {
        // Listens before it reads the state, so that a change in between is not missed.
        let progress = shared.progress.listen();
        // `expecting` is read first: once no member is expected any more, all that were expected are known.
        let expecting = shared.connection.is_expecting();
        let looked = shared.writer.look(|engine| {
            let view = engine.replica.view();
            look(view, token, timeout).map_err(|error| (may_pass(view, &error, expecting), error))
        });
        let Err((may_pass, error)) = looked else { return Ok(()) };
        if shared.connection.is_detached() {
            return Err(NotSeen::ShutDown { token });
        }
        let limit = limit.get_or_insert_with(|| shared.services.tasks.sleep(timeout));
        if !may_pass || !race::before(progress, limit).await {
            return Err(error);
        }
    }
}

/// Checks that the vector covers the write. Returns the error of a wait that ends now if it does not.
fn look<K: CoreKey, V>(view: View<'_, K, V>, token: Token, waited: Duration) -> Result<(), NotSeen> {
    let replica = find(view, token)?;
    if view.is_former_id(&replica) {
        return Err(NotSeen::Renewed { replica });
    }
    let seen = view.vector().get(&replica);
    if seen >= token.time {
        return Ok(());
    }
    if replica == view.id() {
        return Err(NotSeen::NotIssued { replica, token });
    }
    Err(NotSeen::TimedOut { replica, waited, behind: Duration::from_nanos(token.time - seen) })
}

/// Returns the replica that a token names.
fn find<K: CoreKey, V>(view: View<'_, K, V>, token: Token) -> Result<ReplicaId, NotSeen> {
    let mut named = view.known_ids().filter(|id| id.short_hash() == token.origin);
    let first = named.next().ok_or(NotSeen::Unknown { token })?;
    match named.find(|id| *id != first) {
        Some(second) => Err(NotSeen::Ambiguous { token, first: first.min(second), second: first.max(second) }),
        None => Ok(first),
    }
}

/// Returns true if the reason of an error may pass. An unknown id may become known until every expected member has been
/// met and this replica has received the state of one.
fn may_pass<K: CoreKey, V>(view: View<'_, K, V>, error: &NotSeen, expecting: bool) -> bool {
    match error {
        NotSeen::TimedOut { .. } => true,
        NotSeen::Unknown { .. } => expecting || (view.caught_up().is_none() && !view.live_members().is_empty()),
        _ => false,
    }
}
