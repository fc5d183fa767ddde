//! Callers that wait for a cache to be ready, or for members. They are answered once in each turn.

use tokio::time::Instant;

use super::Driver;
use crate::cache::Ready;
use crate::membership::Readiness;
use crate::node::ready::Waiter;

/// Answers the callers whose wait is over.
pub(super) fn answer(driver: &mut Driver) {
    answer_member_waiters(driver, false);
    let waiters = std::mem::take(&mut driver.waiters);
    for waiter in waiters.into_iter().filter(|waiter| !waiter.is_gone()) {
        match readiness(driver, &waiter) {
            Some(ready) => waiter.answer(ready),
            None => driver.waiters.push(waiter),
        }
    }
}

/// Answers the callers that wait for members and whose wait is over: all of them if the node `ends`.
pub(super) fn answer_member_waiters(driver: &mut Driver, ends: bool) {
    let present = driver.shortcut.members(|it| it.live_len());
    let waiters = std::mem::take(&mut driver.member_waiters);
    driver.member_waiters = waiters.into_iter().filter_map(|waiter| waiter.answer_if_due(present, ends)).collect();
}

/// Returns the answer to a caller that waits for a cache to be ready, or `None` if it must wait on.
fn readiness(driver: &Driver, waiter: &Waiter) -> Option<Ready> {
    let Some(port) = driver.registry.port(&waiter.cache) else {
        return Some(Ready::TimedOut {
            waiting_for: vec!["this cache, which was closed".into()],
            members: 0,
            entries: 0,
        });
    };
    let status = port.status();
    if let Some(caught_up) = status.caught_up {
        let from = driver
            .shortcut
            .members(|it| it.name_of(&waiter.cache, caught_up.from))
            .unwrap_or_else(|| caught_up.from.to_string());
        return Some(Ready::CaughtUp { from, as_of: caught_up.as_of });
    }
    match driver.shortcut.members(|it| it.readiness(&waiter.cache)) {
        Readiness::Alone => return Some(Ready::Alone),
        Readiness::First(members) => return Some(Ready::First { members }),
        Readiness::Waiting => {}
    }
    if Instant::now() < waiter.deadline {
        return None;
    }
    let waiting_for = if driver.shortcut.members(|it| it.is_alone()) {
        driver.seeds.clone()
    } else {
        driver.shortcut.members(|it| it.live_names())
    };
    Some(Ready::TimedOut { waiting_for, members: status.members.len(), entries: status.entries })
}
