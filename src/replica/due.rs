//! Runs the work that is due as time passes, in a fixed order.

use super::Replica;
use crate::env::Env;
use crate::hlc::{Now, nanos};
use crate::item::CoreKey;
use crate::ledger::{self, collect, epoch, fill, quarantine, released};
use crate::protocol::stills;

/// The longest time between two checks of stability, in nanoseconds.
const COLLECT_EVERY: u64 = 1_000_000_000;
/// The time until the next check if there was more to collect than one batch may take, in nanoseconds.
const COLLECT_AGAIN: u64 = 1_000_000;

/// Returns the time between two checks of stability, in nanoseconds.
pub(super) fn collect_every(env: &Env) -> u64 {
    COLLECT_EVERY.min(nanos(env.config.digest_interval))
}

/// Runs all work that is due.
pub(super) fn run<K: CoreKey, V>(replica: &mut Replica<K, V>) {
    let (conversations, mut cx) = replica.parts();
    ledger::expire_due(cx.ledger, cx.env);
    epoch::sweep_page(cx.ledger, cx.env);
    released::release(cx.ledger, cx.env, cx.members);
    fill::expire(cx.ledger, cx.env);
    cx.members.former_mut().note_time(cx.env.now);
    conversations.handle_timeout(&mut cx);
    collect_if_due(replica);
    let (conversations, mut cx) = replica.parts();
    conversations.audits.handle_timeout(&mut cx);
}

/// Makes tombstones of all expired values and sweeps all invalidated registers.
pub(super) fn run_pending<K: CoreKey, V>(replica: &mut Replica<K, V>) {
    let (_, cx) = replica.parts();
    while ledger::expire_first(cx.ledger, cx.env) {}
    while epoch::sweep_page(cx.ledger, cx.env) {}
    released::release(cx.ledger, cx.env, cx.members);
}

/// Returns the monotonic time at which the next work is due.
pub(super) fn next<K: CoreKey, V>(replica: &Replica<K, V>, now: Now) -> u64 {
    let Replica { env, ledger, members, conversations, collect_due, .. } = replica;
    let next = conversations.due(env, members).min(*collect_due);
    let sweep = epoch::is_sweeping(ledger).then_some(0);
    let soon = [ledger::next_expiry_in(ledger, now.wall), quarantine::next_due_in(ledger, env, now), sweep];
    soon.into_iter().flatten().fold(next, |next, wait| next.min(now.mono.saturating_add(wait)))
}

fn collect_if_due<K: CoreKey, V>(replica: &mut Replica<K, V>) {
    let now = replica.env.now.mono;
    if replica.collect_due > now {
        return;
    }
    let (conversations, mut cx) = replica.parts();
    for id in cx.members.due_to_forget(cx.env) {
        // A member that is greeted as well may return: it stays in the rounds of digests.
        let returns = cx.members.is_greeted(&id);
        conversations.forget(&mut cx, id);
        if returns {
            cx.members.note_greeted(id);
        }
    }
    let is_left = collect::collect(cx.ledger, cx.env, cx.members);
    collect::compact_logs(cx.ledger);
    ledger::retire::cap(cx.ledger, cx.env, cx.members);
    collect::forget_empty_logs(cx.ledger);
    let next = now + collect_every(&replica.env);
    let next = stills::in_company(&replica.members, &replica.env, next);
    replica.collect_due = if is_left { now + COLLECT_AGAIN } else { next };
}
