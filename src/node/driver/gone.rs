//! The end of a process, and what the caches here are told of it.

use uuid::Uuid;

use super::Driver;
use crate::cache::port::NodeEvent;

/// Takes a process that is down out of membership, and tells the caches. `for_good` is true if it will not return.
pub(super) fn drop_process(driver: &mut Driver, incarnation: Uuid, for_good: bool) {
    driver.stills.forget(incarnation);
    let replicas = driver.shortcut.members(|it| it.down(incarnation, for_good));
    for (cache, replica) in replicas {
        let Some(port) = driver.registry.port(&cache) else { continue };
        // A dead member may return, so it holds back collection until it is forgotten. A member that left holds back
        // nothing.
        let event = if for_good { NodeEvent::MemberLeft(replica) } else { NodeEvent::MemberDown(replica) };
        driver.act(&port, (), |port| port.handle_event(event));
    }
    driver.registry.ports().iter().for_each(|port| port.forget_settings(incarnation));
    driver.registry.set_connected(!driver.shortcut.members(|it| it.is_alone()));
}

/// Forgets a process that an operator named as gone for good.
pub(super) fn forget(driver: &mut Driver, incarnation: Uuid) {
    for (cache, replica) in driver.shortcut.members(|it| it.forget(incarnation)) {
        if let Some(port) = driver.registry.port(&cache) {
            driver.act(&port, (), |port| port.handle_event(NodeEvent::MemberLeft(replica)));
        }
    }
}
