//! Retired origins: origins without a member. A digest represents them by a count and a hash.

use super::Members;
use super::peer::Peer;
use crate::crdt::VersionVector;
use crate::env::Env;
use crate::hlc::HlcTime;
use crate::message::{Digest, Retired};
use crate::replica_id::ReplicaId;

/// Returns a hash of an origin and its time: SplitMix64's finaliser over the sixteen bytes of the id and the time. It
/// is the same on every node and in every release.
pub(super) fn mix(origin: ReplicaId, time: HlcTime) -> u64 {
    let bits = origin.as_uuid().as_u128();
    let mut hash = (bits as u64) ^ ((bits >> 64) as u64).rotate_left(32) ^ time.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

/// Returns the count and the order-independent hash of these origins.
pub(crate) fn summarise(origins: impl Iterator<Item = (ReplicaId, HlcTime)>) -> Retired {
    origins.fold(Retired::default(), |sum, (origin, time)| Retired {
        count: sum.count + 1,
        hash: sum.hash.wrapping_add(mix(origin, time)),
    })
}

/// Returns true if a digest lists this origin.
pub(crate) fn is_listed(members: &Members, env: &Env, origin: &ReplicaId) -> bool {
    *origin == env.id || members.contains(origin)
}

/// Splits a vector into the entries that a digest lists, and the count and hash of the remaining ones. Members and
/// vector are both sorted and walked together.
pub(crate) fn split(members: &Members, env: &Env, vector: &VersionVector) -> (VersionVector, Retired) {
    let mut ids = members.peers.keys().peekable();
    let (listed, rest): (Vec<_>, Vec<_>) = vector.iter().partition(|(origin, _)| {
        while ids.next_if(|member| *member < origin).is_some() {}
        *origin == env.id || ids.peek() == Some(&origin)
    });
    (listed.into_iter().collect(), summarise(rest.into_iter()))
}

/// Returns the count and the hash of the origins that a digest does not list.
pub(crate) fn unlisted(members: &Members, env: &Env, vector: &VersionVector) -> Retired {
    summarise(vector.iter().filter(|(origin, _)| !is_listed(members, env, origin)))
}

/// Returns true if a member is known to have seen all that this replica has of the retired origins. A fact states this,
/// because a digest does not list these origins. Without that statement, a receiver that cannot reach the member would
/// believe without end that the member lacks their writes.
pub(crate) fn has_all(members: &Members, env: &Env, peer: &Peer, vector: &VersionVector) -> bool {
    let mut lacking = vector.zip(&peer.reported).filter(|(_, ours, theirs)| theirs < ours);
    lacking.all(|(origin, ..)| is_listed(members, env, &origin))
}

/// Returns the sender's full vector: the entries that its digest lists, and this replica's entries for the remaining
/// origins if count and hash agree. Returns `None` if they differ.
pub(crate) fn full_vector(vector: &VersionVector, digest: &Digest) -> Option<VersionVector> {
    if digest.full {
        return Some(digest.vector.clone());
    }
    let listed = vector.zip(&digest.vector);
    let unlisted = listed.filter(|(.., theirs)| *theirs == 0).map(|(origin, ours, _)| (origin, ours));
    let unlisted: VersionVector = unlisted.collect();
    if summarise(unlisted.iter()) != digest.retired {
        return None;
    }
    let mut full_vector = digest.vector.clone();
    full_vector.join(&unlisted);
    Some(full_vector)
}
