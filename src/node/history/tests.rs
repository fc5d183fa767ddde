use super::*;

const SECOND: u64 = 1_000_000_000;
/// The wall time of the monotonic time zero.
const DAY: u64 = 20_000 * 86_400 * SECOND;

fn at(seconds: u64) -> Now {
    Now { wall: DAY + seconds * SECOND, mono: seconds * SECOND }
}

fn report(hits: u64) -> NodeReport {
    let cache = CacheReport { cache: "c".into(), hits, ..CacheReport::default() };
    NodeReport { node: "n".into(), caches: vec![cache], ..NodeReport::default() }
}

/// Records a sample in which every open cache is reported.
fn sample(history: &History, now: Now, report: &NodeReport) {
    history.sample(now, report, |name| report.caches.iter().any(|cache| cache.cache == name));
}

fn kinds(history: &History) -> Vec<EventKind> {
    history.node("n", at(0), 0, 0).events.iter().map(|event| event.kind).collect()
}

/// Fifteen minutes are kept: ten-second samples, then a sample of each of the last 180 seconds.
#[test]
fn fifteen_minutes_are_kept_and_no_more() {
    let history = History::default();
    for second in 0..5_000 {
        sample(&history, at(second), &report(second));
    }
    let past = history.cache("n", "c", at(5_000), 0);
    let seconds: Vec<_> = past.samples.iter().map(|sample| sample.hits).collect();
    assert!(past.sampled && seconds.is_sorted(), "{seconds:?}");
    assert!((4_100..=4_110).contains(&seconds[0]), "{}", seconds[0]);
    let fine: Vec<_> = seconds.iter().filter(|second| **second >= 4_820).collect();
    assert_eq!((fine.len(), seconds.len()), (180, 180 + 72));
    let past = history.cache("n", "c", at(5_000), (DAY + 4_997 * SECOND) / 1_000_000);
    assert_eq!(past.samples.iter().map(|sample| sample.hits).collect::<Vec<_>>(), [4_998, 4_999]);
    assert_eq!(history.cache("n", "c", at(50_000), 0).samples, [], "samples of long ago are not shown");
}

/// The memory that the module states: a sample with its time.
#[test]
fn samples_are_as_small_as_the_docs_say() {
    assert_eq!(size_of::<(u64, CacheSample)>(), 136);
    assert!(size_of::<(u64, NodeSample)>() <= 80);
}

#[test]
fn a_process_that_stood_still_says_so() {
    let history = History::default();
    for second in [0, 1, 2, 45, 46] {
        sample(&history, at(second), &report(0));
    }
    let past = history.node("n", at(46), 0, 0);
    assert_eq!(kinds(&history), [EventKind::NodeStalled]);
    assert!(past.events[0].text.contains("no turn for 43 s"), "{}", past.events[0].text);
    assert_eq!(past.events[0].at_ms, (DAY + 45 * SECOND) / 1_000_000);
}

/// A warning that is absent for up to five seconds has not ended: it would fill the ring with events.
#[test]
fn warnings_begin_and_end() {
    let history = History::default();
    let mut warned = report(0);
    warned.caches[0].warnings = vec![Warning { name: "lagging-peer".into(), about: "b".into(), ..Warning::default() }];
    for (second, report) in [(0, &report(0)), (1, &warned), (2, &report(0)), (4, &warned), (5, &report(0))] {
        sample(&history, at(second), report);
    }
    assert_eq!(kinds(&history), [EventKind::WarningBegan]);
    (6..9).for_each(|second| sample(&history, at(second), &report(0)));
    assert_eq!(kinds(&history), [EventKind::WarningBegan]);
    sample(&history, at(10), &report(0));
    let events = history.node("n", at(10), 0, 2).events;
    assert_eq!((events.len(), events[0].kind, &*events[0].about), (1, EventKind::WarningEnded, "b"));
    assert_eq!((events[0].warning.as_deref(), events[0].cache.as_deref()), (Some("lagging-peer"), Some("c")));
}

#[test]
fn counters_that_rise_and_caches_that_come_and_go_are_events() {
    let history = History::default();
    sample(&history, at(0), &report(0));
    let mut later = report(0);
    later.caches[0].counters = [("forced_drops".to_owned(), 3), ("reconciles_in".to_owned(), 1)].into();
    later.caches.push(CacheReport { cache: "d".into(), ..CacheReport::default() });
    sample(&history, at(1), &later);
    sample(&history, at(2), &later);
    assert_eq!(kinds(&history), [EventKind::Reconcile, EventKind::ForcedDrops, EventKind::CacheOpened]);
    later.caches.pop();
    sample(&history, at(3), &later);
    assert_eq!(kinds(&history)[3..], [EventKind::CacheClosed]);
    assert_eq!(history.cache("n", "d", at(3), 0).samples, []);
}

/// Of many caches some take their turn: a cache that is not in a report is neither closed nor without its warnings.
#[test]
fn caches_take_turns() {
    let (history, mut warned) = (History::default(), report(0));
    warned.caches[0].warnings = vec![Warning { name: "lagging-peer".into(), about: "b".into(), ..Warning::default() }];
    sample(&history, at(0), &warned);
    let others = NodeReport { node: "n".into(), ..NodeReport::default() };
    (1..20).for_each(|second| history.sample(at(second), &others, |name| name == "c"));
    assert_eq!(kinds(&history), [EventKind::WarningBegan]);
    sample(&history, at(20), &report(0));
    assert_eq!(kinds(&history)[1..], [EventKind::WarningEnded]);
    assert_eq!(history.cache("n", "c", at(20), 0).samples.len(), 2);
}

#[test]
fn events_and_caches_are_bounded() {
    let history = History::default();
    let long = "x".repeat(10_000);
    for number in 0..2_000 {
        history.note(at(number), PastEvent::new(EventKind::MemberUp, &long, &*long));
    }
    let events = history.node("n", at(0), 0, 0).events;
    assert_eq!((events.len(), events[0].number, events[0].text.len()), (MOST_EVENTS, 1_489, MOST_TEXT));
    let cache = |number: usize| CacheReport { cache: format!("c{number}"), ..CacheReport::default() };
    let many = NodeReport { caches: (0..200).map(cache).collect(), ..NodeReport::default() };
    (0..3).for_each(|second| sample(&history, at(second), &many));
    let sampled = |name| history.cache("n", name, at(3), 0).sampled;
    assert_eq!((sampled("c0"), sampled("c199")), (true, false));
}
