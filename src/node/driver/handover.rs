//! The end of a driver: writes that no member has are handed over first.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Driver, waiting};

/// The time that the driver waits for events before it lets time pass.
const STEP: Duration = Duration::from_millis(5);
/// The least time that the driver goes on if there are members. In this time it acknowledges the writes that it
/// received just before. Otherwise their writers, if they shut down as well, would have to find a further member to
/// take them.
const ACKNOWLEDGE: Duration = Duration::from_millis(30);
/// The least time for a goodbye.
const GOODBYE: Duration = Duration::from_millis(200);

/// Hands unsent writes to at least one member, says goodbye and stops.
///
/// Uses the deadline only while a member may still take them: a live member, one that was declared dead and is not yet
/// forgotten, or one that a seed may lead to.
pub(super) async fn shut_down(driver: &mut Driver, deadline: Duration) {
    waiting::answer_member_waiters(driver, true);
    let begin = Instant::now();
    let until = begin + deadline;
    let acknowledged = if !driver.shortcut.members(|it| it.is_alone()) { begin + ACKNOWLEDGE } else { begin };
    let goes_on =
        |driver: &Driver, now| now < acknowledged || driver.registry.ports().iter().any(|port| port.has_unsent());
    while Instant::now() < until && goes_on(driver, Instant::now()) {
        // Messages are still handled: acknowledgements and digests report which writes have arrived.
        driver.agenda.want_all();
        driver.turn().await;
        tokio::select! {
            biased;
            Some(sent) = driver.sent.1.recv() => driver.note_sent(&sent),
            event = driver.events.recv() => match event {
                Some(event) => driver.handle_events(event).await,
                None => break,
            },
            () = sleep(STEP) => {}
        }
    }
    // Counted before the goodbye, because the caches can hand over nothing after it.
    driver.registry.note_unsent();
    driver.registry.set_connected(false);
    let rest = until.saturating_duration_since(Instant::now()).max(GOODBYE);
    let _ = timeout(rest + Duration::from_secs(2), driver.mesh.shutdown(rest)).await;
}
