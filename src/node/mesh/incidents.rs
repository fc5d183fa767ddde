//! Faults that processes outside this one cause, with their source and time: the reasons for warnings.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::config::FailureTiming;
use crate::sync::Mutex;

/// Maximum number of incidents that are remembered. Above it, the one that is oldest is forgotten.
const MOST: usize = 64;

/// The kind of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentKind {
    /// Bytes that no key of this member decrypts.
    OtherKey,
    /// Unencrypted bytes, while this member has a key.
    Unencrypted,
    /// Encrypted bytes, while this member has no key.
    Encrypted,
    /// Bytes of another cluster.
    OtherCluster,
    /// An address exceeded its share of a resource, and the excess was dropped.
    OverShare,
    /// A message was dropped because the inbox was full.
    InboxFull,
    /// Two processes use one member name.
    NameTaken,
    /// A background task died and was restarted.
    TaskDied,
}

/// The cause of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// The host that sent the bytes. The port of a connection means nothing.
    Host(IpAddr),
    /// A member name, and the two addresses that claim it.
    Name(Arc<str>, [SocketAddr; 2]),
    /// A background task.
    Task(&'static str),
}

/// An incident, once for each kind and culprit.
#[derive(Clone, Debug)]
pub struct Incident {
    /// The kind.
    pub kind: IncidentKind,
    /// The cause.
    pub culprit: Culprit,
    /// The number of times since it was first noted.
    pub count: u64,
    /// The time since it was noted last.
    pub ago: Duration,
    /// True if that is so short that the cause is assumed to last.
    pub is_current: bool,
}

struct Noted {
    kind: IncidentKind,
    culprit: Culprit,
    count: u64,
    last: Instant,
}

/// The incidents of a mesh.
pub(super) struct Incidents {
    noted: Mutex<Vec<Noted>>,
    /// The time after the last occurrence for which an incident is current.
    hold: Duration,
}

impl Incidents {
    /// Creates an empty list. An incident is current until every process that repeats it has had the time to do so.
    pub(super) fn new(timing: &FailureTiming) -> Self {
        let hold = (timing.rejoin_max * 2).max(timing.push_pull_interval * 3);
        Self { noted: Mutex::default(), hold }
    }

    pub(super) fn note(&self, kind: IncidentKind, culprit: Culprit) {
        let (mut noted, last) = (self.noted.lock(), Instant::now());
        if let Some(known) = noted.iter_mut().find(|known| known.kind == kind && is_same(&known.culprit, &culprit)) {
            (known.count, known.last) = (known.count + 1, last);
            return;
        }
        if noted.len() == MOST {
            let oldest = (0..MOST).min_by_key(|index| noted[*index].last);
            oldest.map(|oldest| noted.swap_remove(oldest));
        }
        noted.push(Noted { kind, culprit, count: 1, last });
    }

    pub(super) fn list(&self) -> Vec<Incident> {
        let one = |Noted { kind, culprit, count, last }: &Noted| {
            let (ago, culprit) = (last.elapsed(), culprit.clone());
            Incident { kind: *kind, culprit, count: *count, ago, is_current: ago < self.hold }
        };
        self.noted.lock().iter().map(one).collect()
    }
}

/// Returns true for the same cause. Members name the two processes of a conflict in either order.
fn is_same(a: &Culprit, b: &Culprit) -> bool {
    match (a, b) {
        (Culprit::Name(a, [one, two]), Culprit::Name(b, others)) => {
            a == b && others.contains(one) && others.contains(two)
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incidents_are_bounded_and_one_conflict_is_one_incident() {
        let incidents = Incidents::new(&FailureTiming::local());
        let [one, two] = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        for addrs in [[one, two], [two, one], [one, two]] {
            incidents.note(IncidentKind::NameTaken, Culprit::Name("b".into(), addrs));
        }
        assert_eq!(incidents.list().iter().map(|incident| incident.count).collect::<Vec<_>>(), [3]);
        for number in 0..1_000_u32 {
            incidents.note(IncidentKind::OtherKey, Culprit::Host(number.to_be_bytes().into()));
        }
        let listed = incidents.list();
        assert_eq!(listed.len(), MOST);
        assert!(listed.iter().any(|incident| incident.culprit == Culprit::Host(999_u32.to_be_bytes().into())));
    }

    #[tokio::test(start_paused = true)]
    async fn an_incident_is_current_until_it_would_have_been_repeated() {
        let incidents = Incidents::new(&FailureTiming::lan());
        incidents.note(IncidentKind::TaskDied, Culprit::Task("rejoin"));
        for (seconds, is_current) in [(89, true), (2, false)] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert_eq!(incidents.list()[0].is_current, is_current);
        }
    }
}
