//! The promises, each checked as early as possible. The first word of a violation names the promise. An exemption from
//! a promise is itself a claim, so a comment at each exemption says why it is correct.
//!
//! | file | promise |
//! | --- | --- |
//! | this file | O2: a replica serves nothing older than it has held; a served value is the one written under its stamp; the change stream agrees |
//! | `content` | a replica that claims a write holds it or something newer, or the record has a fate that explains the miss |
//! | `evictions` | an eviction affects only the replica that evicts |
//! | `fills` | a fill loses to writes that were issued after its start |
//! | `beliefs` | no replica believes more of a peer than the peer has stated; no write at or below a sent watermark |
//! | `clocks` | nothing from the future is merged; no replica takes its first member's time at once; registers that a member has reported are not sent to it again |
//! | `promises` | the answers of `ready`, `wait_replicated` and of the count of unsent writes are true |
//! | `members` | a replica that another replica has replaced is no live member; replicas of one cache meet |
//! | `bounds` | memory is bounded after every event |
//! | `agreement` | at the end: O3, completeness by record, and back to baseline (O4) |

pub(super) mod agreement;
pub(super) mod beliefs;
mod bounds;
pub(super) mod clocks;
mod content;
pub(super) mod evictions;
pub(super) mod fills;
pub(super) mod members;
mod promises;

use super::cluster::Cluster;
use super::foreign::is_same_value;
use super::history;
use super::report::Violation;
use super::trace::brief;
use super::types::{SimKey, SimValue};
use crate::hlc::Stamp;
use crate::store::Snapshot;

/// Events of the run between two internal validations of a replica.
const VALIDATE_EVERY: u64 = 8;

/// Checks a replica after an event: O2, the bounds, and the internal consistency of its state machine.
pub(super) fn replica<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize) -> Result<(), Violation> {
    history::note(cluster, number);
    let opening = &mut cluster.openings[number];
    opening.seen.join(opening.engine.replica.view().vector());
    (0..cluster.keys.len()).try_for_each(|key| check_key(cluster, number, key))?;
    bounds::check(cluster, number)?;
    beliefs::check(cluster, number)?;
    members::check(cluster, number)?;
    promises::check(cluster, number)?;
    let name = cluster.name(number);
    let counters = cluster.view(number).counters();
    if counters.audit_conflicts > 0 {
        return Err(cluster.violation(format!("audit: {name} found two live values for one key")));
    }
    if counters.audit_missing > 0 {
        return Err(cluster.violation(format!("audit: {name} lacks a value without a reason")));
    }
    if cluster.report.events.is_multiple_of(VALIDATE_EVERY) {
        let valid = cluster.openings[number].engine.replica.validate();
        valid.map_err(|what| cluster.violation(format!("validate: {name}: {what}")))?;
    }
    Ok(())
}

/// Checks O2 for one key: a replica never serves anything older than it has applied.
fn check_key<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
) -> Result<(), Violation> {
    let held = cluster.held(number, key);
    let marker = held.as_ref().map(|held| cluster.view(number).marker_at(&held.meta));
    clocks::check_not_ahead(cluster, number, key, marker.as_ref())?;
    // `history` goes first: `content` judges by the fates that it records.
    history::note_held(cluster, number, key, marker);
    content::check(cluster, number, key, held.as_ref())?;
    let Some(held) = held else {
        return match cluster.openings[number].mirror[key] {
            None => Ok(()),
            believed => Err(misled(cluster, number, key, "holds nothing", believed)),
        };
    };
    if cluster.is_served(number, &held) {
        let stamp = cluster.view(number).stamp_at(&held.meta);
        let opening = &cluster.openings[number];
        let newest = opening.newest[key];
        if newest.is_some_and(|(newest, gone)| {
            newest > stamp || (gone && newest == stamp && !buried_early(cluster, number, &held))
        }) {
            let (name, key) = (cluster.name(number), cluster.key_name(key));
            return Err(cluster.violation(format!("O2: {name} serves {key} of {stamp:?} after it had held {newest:?}")));
        }
        check_value(cluster, number, key, stamp, &held)?;
        if opening.mirror[key] != Some(stamp) {
            return Err(misled(cluster, number, key, &format!("serves {stamp:?}"), opening.mirror[key]));
        }
    }
    note_newest(cluster, number, key, &held)
}

/// Returns true if the replica's wall clock has shown a time past the register's deadline. A clock that was ahead and
/// is set right has expired a value too early, and the replica may receive that value again. The stamp is the same, so
/// nothing older is served.
fn buried_early<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, number: usize, held: &Snapshot<K, V>) -> bool {
    held.meta.expires != 0 && held.meta.expires <= cluster.openings[number].latest_wall
}

/// Checks that the value served under a stamp is the value written under it.
fn check_value<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    stamp: Stamp,
    held: &Snapshot<K, V>,
) -> Result<(), Violation> {
    let written = cluster.oracle(number).get(key, &stamp).and_then(|record| record.item.as_ref());
    let same = |written: &crate::item::ItemRef<K, V>| {
        crate::item::ItemRef::ptr_eq(written, &held.item) || is_same_value(written, &held.item)
    };
    if written.is_some_and(same) {
        return Ok(());
    }
    let (name, key, served) = (cluster.name(number), cluster.key_name(key), brief(&held.item.value()));
    let written = brief(&written.map(|written| written.value()));
    Err(cluster.violation(format!("value: {name} serves {key} = {served} of {stamp:?}, but {written} was written")))
}

/// Returns the violation of a replica whose change stream has left its listener with a wrong belief.
fn misled<K: SimKey, V: SimValue>(
    cluster: &Cluster<'_, K, V>,
    number: usize,
    key: usize,
    what: &str,
    believed: Option<Stamp>,
) -> Violation {
    let (name, key) = (cluster.name(number), cluster.key_name(key));
    cluster.violation(format!("changes: {name} {what} for {key}, but its change stream reported {believed:?}"))
}

/// Records the newest register that a replica has ever held for a key. Fails if a listener still believes in a value
/// that is gone.
fn note_newest<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    number: usize,
    key: usize,
    held: &Snapshot<K, V>,
) -> Result<(), Violation> {
    let believed = cluster.openings[number].mirror[key];
    if !held.meta.kind.is_live() && believed.is_some() {
        return Err(misled(cluster, number, key, "holds no value", believed));
    }
    let seen = (cluster.view(number).stamp_at(&held.meta), !held.meta.kind.ranks_live());
    let newest = &mut cluster.openings[number].newest[key];
    *newest = (*newest).max(Some(seen));
    Ok(())
}
