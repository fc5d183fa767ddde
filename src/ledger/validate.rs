//! The self-check of the ledger: compares every index and count with the registers.

use std::collections::BTreeSet;

use super::Ledger;
use crate::env::Env;
use crate::item::CoreKey;
use crate::store::{Position, Snapshot};

/// Compares every index and count with the registers themselves. Walks over all registers, so it is for tests, the
/// simulator and fuzzers.
///
/// # Errors
/// Names the invariant that does not hold.
pub(crate) fn validate<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &Env) -> Result<(), String> {
    let held = all(ledger);
    let live = held.iter().filter(|held| held.meta.kind.is_live());
    let weight: u64 = live.clone().map(|held| u64::from(held.meta.weight)).sum();
    let registers = &ledger.registers;
    check("live", registers.values().live, live.count() as u64)?;
    check("weight", registers.values().weight, weight)?;
    let expiring = held.iter().filter(|held| held.meta.kind.is_live() && held.meta.expires != 0).count();
    check("expiring", registers.values().expiring, expiring as u64)?;
    let dead = held.iter().filter(|held| !held.meta.kind.is_live());
    let dead: BTreeSet<_> = dead.map(|held| (held.meta.stamp_time, held.slot)).collect();
    let tombstones = &registers.tombstones;
    if !tombstones.iter().eq(dead.iter().copied()) {
        return Err(format!("tombstones: index {} registers {}", tombstones.len(), dead.len()));
    }
    check("tombstones by cause", tombstones.by_cause().iter().sum(), dead.len() as u64)?;
    let retained: usize = held.iter().filter(|held| held.meta.retained).map(|held| held.meta.size as usize).sum();
    check("retained bytes", ledger.retained_bytes() as u64, retained as u64)?;
    check("live log entries", registers.logs.iter().map(|(_, log)| log.live() as u64).sum(), held.len() as u64)?;
    held.iter().try_for_each(|held| validate_register(ledger, env, held))
}

fn all<K: CoreKey, V>(ledger: &Ledger<K, V>) -> Vec<Snapshot<K, V>> {
    let mut all = Vec::new();
    let mut next = Some(Position::default());
    while let Some(from) = next {
        let (page, after) = ledger.table().page(from, 1_024);
        all.extend(page);
        next = after;
    }
    all
}

fn validate_register<K: CoreKey, V>(ledger: &mut Ledger<K, V>, env: &Env, held: &Snapshot<K, V>) -> Result<(), String> {
    let marker = ledger.registers.marker_of(&held.meta);
    let dot = marker.dot;
    let logged = ledger.registers.logs.get_mut(&dot.actor).is_some_and(|log| {
        // A dishonest replica may have issued one dot for two keys.
        log.after(dot.counter - 1).take_while(|(time, _)| *time == dot.counter).any(|(_, slot)| slot == held.slot)
    });
    if !logged {
        return Err(format!("{marker:?} is not in its origin's log"));
    }
    let uncovered = !ledger.vector.covers(&dot) && !ledger.uncovered.contains(&held.slot);
    if uncovered && ledger.receiving.is_none() && !env.bugs().no_adoption {
        return Err(format!("{marker:?} is an orphan outside of any session"));
    }
    Ok(())
}

fn check(what: &str, counted: u64, found: u64) -> Result<(), String> {
    if counted == found { Ok(()) } else { Err(format!("{what}: counted {counted}, found {found}")) }
}
