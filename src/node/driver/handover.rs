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

impl Driver {
    /// Hands unsent writes to at least one member, says goodbye and stops.
    ///
    /// It waits for the deadline only while a member may still take them: one that is there, was called dead and is not yet
    /// forgotten, or may be found at a seed.
    pub(super) async fn shut_down(&mut self, deadline: Duration) {
        self.answer_member_waiters(true);
        let begin = Instant::now();
        let until = begin + deadline;
        let acknowledged = if !self.membership.is_alone() { begin + ACKNOWLEDGE } else { begin };
        let goes_on =
            |driver: &Self, now| now < acknowledged || driver.registry.ports().iter().any(|port| port.has_unsent());
        while Instant::now() < until && goes_on(self, Instant::now()) {
            self.send_parcels().await;
            tokio::select! {
                biased;
                Some(sent) = self.sent.1.recv() => self.note_sent(&sent),
                event = self.events.recv() => match event {
                    Some(event) => self.handle_events(event).await,
                    None => break,
                },
                () = sleep(STEP) => {
                    self.pass_time().await;
                }
            }
        }
        self.registry.note_unsent();
        self.registry.set_connected(false);
        let rest = until.saturating_duration_since(Instant::now()).max(GOODBYE);
        let _ = timeout(rest + Duration::from_secs(2), self.mesh.shutdown(rest)).await;
    }
}
