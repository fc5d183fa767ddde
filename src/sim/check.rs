//! The promises, each looked at as soon as it can be. The first word of a violation says which. An exemption is a claim
//! of its own: where there is one, a comment says why it is true.
//!
//! | file | promise |
//! | --- | --- |
//! | this one | O2: a replica serves nothing older than it held; what it serves is what was written; the change stream agrees |
//! | `content` | a replica that claims a write holds it or something newer, or the record has a fate that explains it |
//! | `evictions` | eviction stays where it happened |
//! | `fills` | a fill loses to what came after its start |
//! | `beliefs` | no replica believes more of another than that one said; no write at or below a watermark |
//! | `clocks` | nothing from the future is merged; nobody goes by the first clock it hears; what a member has is not sent again |
//! | `promises` | what is said of `ready`, of `wait_replicated` and of unsent writes is so |
//! | `bounds` | memory is bounded after every event |
//! | `agreement` | at the end: O3, completeness by record, and back to baseline (O4) |

mod agreement;
mod beliefs;
mod bounds;
mod clocks;
mod content;
mod evictions;
mod fills;
mod promises;

use super::cluster::Cluster;
use super::foreign::is_same_value;
use super::report::Violation;
use super::trace::brief;
use super::types::{SimKey, SimValue};
use crate::hlc::Stamp;
use crate::store::Snapshot;

/// A replica checks itself after every so many events.
const VALIDATE_EVERY: u64 = 8;

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    /// After every event: O2, the bounds, and the machine against itself.
    pub(super) fn check_replica(&mut self, number: usize) -> Result<(), Violation> {
        self.note_history(number);
        let opening = &mut self.openings[number];
        opening.seen.join(opening.engine.replica.view().vector());
        (0..self.keys.len()).try_for_each(|key| self.check_key(number, key))?;
        self.check_bounds(number)?;
        self.check_beliefs(number)?;
        self.check_promises(number)?;
        let name = self.name(number);
        let counters = self.view(number).counters();
        if counters.audit_conflicts > 0 {
            return Err(self.violation(format!("audit: {name} found two live values for one key")));
        }
        if counters.audit_missing > 0 {
            return Err(self.violation(format!("audit: {name} lacks a value without a reason")));
        }
        if self.report.events.is_multiple_of(VALIDATE_EVERY) {
            let valid = self.openings[number].engine.replica.validate();
            valid.map_err(|what| self.violation(format!("validate: {name}: {what}")))?;
        }
        Ok(())
    }

    /// O2: what is served never goes back behind what was applied here.
    fn check_key(&mut self, number: usize, key: usize) -> Result<(), Violation> {
        let held = self.held(number, key);
        let marker = held.as_ref().map(|held| self.view(number).marker_at(&held.meta));
        self.check_not_ahead(number, key, marker.as_ref())?;
        self.note_held(number, key, marker);
        self.check_content(number, key, held.as_ref())?;
        let Some(held) = held else {
            return match self.openings[number].mirror[key] {
                None => Ok(()),
                believed => Err(self.misled(number, key, "holds nothing", believed)),
            };
        };
        if self.is_served(number, &held) {
            let stamp = self.view(number).stamp_at(&held.meta);
            let opening = &self.openings[number];
            let newest = opening.newest[key];
            if newest.is_some_and(|(newest, gone)| {
                newest > stamp || (gone && newest == stamp && !self.buried_early(number, &held))
            }) {
                let (name, key) = (self.name(number), self.key_name(key));
                return Err(self.violation(format!("O2: {name} serves {key} of {stamp:?} after {newest:?}")));
            }
            self.check_value(number, key, stamp, &held)?;
            if opening.mirror[key] != Some(stamp) {
                return Err(self.misled(number, key, &format!("serves {stamp:?}"), opening.mirror[key]));
            }
        }
        self.note_newest(number, key, &held)
    }

    /// A clock that was ahead and is put right has taken a value for expired that then is not: the replica may be told of
    /// it again. The stamp is the same, so nothing older is served. True only where this clock has been that far.
    fn buried_early(&self, number: usize, held: &Snapshot<K, V>) -> bool {
        held.meta.expires != 0 && held.meta.expires <= self.openings[number].latest_wall
    }

    /// What is served under a stamp is what was written under it.
    fn check_value(&self, number: usize, key: usize, stamp: Stamp, held: &Snapshot<K, V>) -> Result<(), Violation> {
        let written = self.oracle(number).get(key, &stamp).and_then(|record| record.item.as_ref());
        let same = |written: &crate::item::ItemRef<K, V>| {
            crate::item::ItemRef::ptr_eq(written, &held.item) || is_same_value(written, &held.item)
        };
        if written.is_some_and(same) {
            return Ok(());
        }
        let (name, key, served) = (self.name(number), self.key_name(key), brief(&held.item.value()));
        let written = brief(&written.map(|written| written.value()));
        Err(self.violation(format!("value: {name} serves {key} = {served} of {stamp:?}, written was {written}")))
    }

    fn misled(&self, number: usize, key: usize, what: &str, believed: Option<Stamp>) -> Violation {
        let (name, key) = (self.name(number), self.key_name(key));
        self.violation(format!("changes: {name} {what} for {key}, a listener believes {believed:?}"))
    }

    fn note_newest(&mut self, number: usize, key: usize, held: &Snapshot<K, V>) -> Result<(), Violation> {
        let believed = self.openings[number].mirror[key];
        if !held.meta.kind.is_live() && believed.is_some() {
            return Err(self.misled(number, key, "holds no value", believed));
        }
        let seen = (self.view(number).stamp_at(&held.meta), !held.meta.kind.ranks_live());
        let newest = &mut self.openings[number].newest[key];
        *newest = (*newest).max(Some(seen));
        Ok(())
    }
}
