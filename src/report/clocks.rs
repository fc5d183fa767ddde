//! Warnings about clocks. All nodes warn of the same node: the one whose clock differs from the majority.

use super::warning::{Warning, name_of, warning};
use super::{CacheReport, Offender};

/// A wall clock, and its distance from the median clock in milliseconds.
struct Deviation {
    node: String,
    ms: i64,
    is_here: bool,
}

pub(super) fn clocks(report: &CacheReport) -> Vec<Warning> {
    let limit = i64::try_from(report.max_drift_ms).unwrap_or(i64::MAX);
    if let Some(pair) = of_two(report, limit) {
        return [pair].into_iter().chain(own_clock(report, limit, true)).collect();
    }
    let wrong: Vec<_> = deviations(report).into_iter().filter(|deviation| deviation.ms.abs() > limit).collect();
    let mut found: Vec<_> = wrong.iter().map(|deviation| wrong_clock(deviation, limit)).collect();
    let here_is_wrong = wrong.iter().any(|deviation| deviation.is_here);
    let named = |offender: &&Offender| wrong.iter().any(|wrong| Some(&wrong.node) == offender.node.as_ref());
    // If this node's clock is the wrong one, all other clocks may seem to be ahead, so no offender is named.
    // An offence counts until one minute after the claimed time.
    let ahead = report.offenders.iter().filter(|offender| offender.ahead_ms > -60_000);
    found
        .extend(ahead.filter(|offender| !here_is_wrong && !named(offender)).map(|offender| offending(offender, limit)));
    found.extend(own_clock(report, limit, here_is_wrong));
    found
}

/// Returns each known wall clock minus the median. Without another clock, this node's counts as right.
fn deviations(report: &CacheReport) -> Vec<Deviation> {
    let others = report.peers.iter().filter(|peer| peer.live);
    let others =
        others.filter_map(|peer| Some(Deviation { node: name_of(peer), ms: peer.clock_skew_ms?, is_here: false }));
    let here = Deviation { node: report.node.clone(), ms: 0, is_here: true };
    let mut all: Vec<_> = std::iter::once(here).chain(others).collect();
    if all.len() > 2 {
        let mut sorted: Vec<_> = all.iter().map(|deviation| deviation.ms).collect();
        sorted.sort_unstable();
        // For an even number of clocks, take the lower of the two in the middle, so that every node takes the same one.
        let middle = sorted[(sorted.len() - 1) / 2];
        all.iter_mut().for_each(|deviation| deviation.ms -= middle);
    }
    all
}

/// With two clocks no majority says which one is wrong. Both nodes name the one that is ahead, because its writes wait on
/// the other. Returns `None` unless exactly two clocks are known, and they differ by more than the limit.
fn of_two(report: &CacheReport, limit: i64) -> Option<Warning> {
    let mut others = report.peers.iter().filter(|peer| peer.live && peer.clock_skew_ms.is_some());
    let (Some(other), None) = (others.next(), others.next()) else { return None };
    let (here, there, skew) = (&report.node, name_of(other), other.clock_skew_ms?);
    if skew.abs() <= limit {
        return None;
    }
    let (ahead, behind) = if skew > 0 { (&there, here) } else { (here, &there) };
    let text = format!(
        "the wall clock of {ahead} is {} ms ahead of the wall clock of {behind}, and max_drift is {limit} ms. With two \
         nodes it cannot be known which clock is wrong: check both (NTP). {behind} holds back the writes of {ahead} until \
         they are due.",
        skew.unsigned_abs()
    );
    Some(warning("clock-ahead", ahead, text))
}

fn wrong_clock(wrong: &Deviation, limit: i64) -> Warning {
    let Deviation { node, ms, is_here } = wrong;
    let (name, direction) = if *ms > 0 { ("clock-ahead", "ahead of") } else { ("clock-behind", "behind") };
    let effect = match name {
        "clock-ahead" => "The other nodes hold back the writes of that node until they are due.",
        _ => "That node holds back the writes of the other nodes until they are due.",
    };
    let whose = if *is_here { "the wall clock of this node" } else { "its wall clock" };
    let text = format!(
        "{whose} is {} ms {direction} the other nodes' clocks, and max_drift is {limit} ms: set it (NTP). {effect}",
        ms.unsigned_abs()
    );
    warning(name, node, text)
}

fn offending(offender: &Offender, limit: i64) -> Warning {
    let text = format!(
        "its stamps were found more than {limit} ms (max_drift) ahead of this node's clock. This node holds back its \
         writes until they are due. Set its clock (NTP); if that clock is right again, restart that process."
    );
    warning("clock-ahead", offender.node.as_ref().unwrap_or(&offender.replica), text)
}

fn own_clock(report: &CacheReport, limit: i64, is_wrong: bool) -> Vec<Warning> {
    let mut found = Vec::new();
    // With at least two other clocks, `deviations` has judged this clock, and warned if it is wrong.
    let judged = report.peers.iter().filter(|peer| peer.live && peer.clock_skew_ms.is_some()).count() >= 2;
    if report.clock_ahead_ms > limit && report.clock_step_ms < -limit {
        let text = format!(
            "the wall clock of this node was ahead and was set back, but its hybrid clock does not go back. Writes \
             of this node are stamped {} ms ahead, and max_drift is {limit} ms, so other nodes hold them back until \
             they are due. If the wall clock is right now, restart this process: its new replica starts from the \
             wall clock.",
            report.clock_ahead_ms
        );
        found.push(warning("stamps-ahead", &report.node, text));
    } else if report.clock_ahead_ms > limit / 2 && !judged && !is_wrong {
        let text = format!(
            "received times are {} ms ahead of the wall clock of this node: set that clock (NTP). Above max_drift, \
             {limit} ms, this node would hold back the writes.",
            report.clock_ahead_ms
        );
        found.push(warning("clock-behind", &report.node, text));
    }
    if report.clock_step_ms.abs() > limit / 2 {
        let text = format!(
            "the wall clock of this node was set, and has moved by {} ms against the monotonic clock: check NTP, and \
             whether the machine slept or was migrated",
            report.clock_step_ms
        );
        found.push(warning("clock-stepped", &report.node, text));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::PeerReport;

    fn seen_from(node: &str, others: &[(&str, i64)], offenders: &[&str]) -> Vec<(String, String)> {
        let peer = |(name, skew): &(&str, i64)| PeerReport {
            node: Some((*name).into()),
            live: true,
            clock_skew_ms: Some(*skew),
            ..PeerReport::default()
        };
        let offender = |name: &&str| Offender { replica: "r".into(), node: Some((*name).into()), ahead_ms: 5_000 };
        let report = CacheReport {
            node: node.into(),
            max_drift_ms: 1_000,
            peers: others.iter().map(peer).collect(),
            offenders: offenders.iter().map(offender).collect(),
            ..CacheReport::default()
        };
        clocks(&report).into_iter().map(|warning| (warning.name, warning.about)).collect()
    }

    /// Of three nodes, the clock of one is five seconds behind or ahead: all three nodes name that node.
    #[test]
    fn every_node_names_the_clock_that_differs() {
        for (skew, name) in [(-5_000, "clock-behind"), (5_000, "clock-ahead")] {
            let expected = [(name.to_owned(), "c".to_owned())];
            assert_eq!(seen_from("a", &[("b", 3), ("c", skew)], if skew > 0 { &["c"] } else { &[] }), expected);
            assert_eq!(seen_from("b", &[("a", -3), ("c", skew - 3)], &[]), expected);
            // From the node with the wrong clock, all other clocks seem to be wrong.
            assert_eq!(
                seen_from("c", &[("a", -skew), ("b", 3 - skew)], if skew < 0 { &["a", "b"] } else { &[] }),
                expected
            );
        }
    }

    #[test]
    fn two_nodes_name_the_clock_that_is_ahead_and_clocks_that_agree_give_no_warning() {
        let ahead = [("clock-ahead".to_owned(), "b".to_owned())];
        assert_eq!(seen_from("a", &[("b", 5_000)], &["b"]), ahead);
        assert_eq!(seen_from("b", &[("a", -5_000)], &[]), ahead);
        assert_eq!(seen_from("a", &[("b", -400), ("c", 400)], &[]), []);
    }
}
