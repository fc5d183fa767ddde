//! The end of a driver: what no member has is handed over first.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::Driver;

/// How long the driver waits for events before it lets time pass.
const STEP: Duration = Duration::from_millis(5);
/// The driver goes on for this long in any case, if there are members: what was received just before is acknowledged, so that
/// its writer need not look for another member to take it.
const ACKNOWLEDGE: Duration = Duration::from_millis(30);
/// A goodbye has at least this much time.
const GOODBYE: Duration = Duration::from_millis(200);

/// Hands unsent writes to at least one member, says goodbye and stops.
///
/// It waits for the deadline only while a member may still take them: one that is there, was called dead and is not yet
/// forgotten, or may be found at a seed.
pub(super) async fn shut_down(driver: &mut Driver, deadline: Duration) {
    driver.answer_member_waiters(true);
    let begin = Instant::now();
    let until = begin + deadline;
    let acknowledged = if !driver.membership.is_alone() { begin + ACKNOWLEDGE } else { begin };
    let goes_on =
        |driver: &Driver, now| now < acknowledged || driver.registry.ports().iter().any(|port| port.has_unsent());
    while Instant::now() < until && goes_on(driver, Instant::now()) {
        driver.send_parcels().await;
        tokio::select! {
            biased;
            Some(sent) = driver.sent.1.recv() => driver.note_sent(&sent),
            event = driver.events.recv() => match event {
                Some(event) => driver.handle_events(event).await,
                None => break,
            },
            () = sleep(STEP) => {
                driver.pass_time().await;
            }
        }
    }
    driver.registry.note_unsent();
    driver.registry.set_connected(false);
    let rest = until.saturating_duration_since(Instant::now()).max(GOODBYE);
    let _ = timeout(rest + Duration::from_secs(2), driver.mesh.shutdown(rest)).await;
}
