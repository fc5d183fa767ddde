//! The last 15 minutes of a node, so that an operator who opens the page sees what happened before: samples of its
//! counters, and its events.
//!
//! The driver takes a sample once a second, outside of every call of a user. Of more than sixteen caches it samples
//! sixteen each second, in turns: one of 64 caches is then sampled every four seconds. Memory is bounded: room for 384 samples of
//! 136 bytes for each of at most [`MOST_CACHES`] caches, which is 51 KiB for each and 3.2 MiB at most; 30 KiB for the node;
//! and [`MOST_EVENTS`] events of typically 300 bytes, which is 150 KiB.

use std::collections::{BTreeMap, VecDeque};

use crate::hlc::Now;
use crate::report::{
    CachePast, CacheReport, CacheSample, EventKind, NodePast, NodeReport, NodeSample, PastEvent, Warning,
};
use crate::sync::Mutex;

mod ring;

use ring::Ring;

/// The time without a sample after which the process counts as having stood still, in nanoseconds.
const STALLED: u64 = 4_000_000_000;
/// The time after which a warning that is not raised any more has ended, in nanoseconds. Some warnings come and go.
const ENDED: u64 = 5_000_000_000;
/// The most caches of which samples are kept.
pub(super) const MOST_CACHES: usize = 64;
/// The most events that are kept.
const MOST_EVENTS: usize = 512;
/// The most characters of an event's text and subject: names of members and caches may be long.
const MOST_TEXT: usize = 400;
/// The counters of a cache whose rise is an event.
const WATCHED: [(&str, EventKind, &str); 6] = [
    ("reconciles_in", EventKind::Reconcile, "the whole state of another node was received and compared"),
    (
        "forced_drops",
        EventKind::ForcedDrops,
        "tombstones were dropped before every member had seen them: raise max_tombstones",
    ),
    (
        "forgotten",
        EventKind::MemberForgotten,
        "a replica that departed, was replaced or was dead for forget_after holds back nothing any more",
    ),
    ("epochs", EventKind::InvalidateAll, "everything written before was invalidated"),
    ("new_id", EventKind::NewId, "another process used the id of this replica: it took a new id and dropped its state"),
    ("audit_conflicts", EventKind::AuditConflict, "an audit found two values under one stamp, and repaired them"),
];

/// The past of a node.
#[derive(Default)]
pub(crate) struct History {
    past: Mutex<Past>,
}

#[derive(Default)]
struct Past {
    /// The number of events so far.
    events_so_far: u64,
    events: VecDeque<PastEvent>,
    /// The monotonic time of the last sample.
    sampled: Option<u64>,
    node: Ring<NodeSample>,
    caches: BTreeMap<String, CacheRecord>,
    /// The current warnings by name, subject and cache, each with the monotonic time at which it was raised last.
    warnings: BTreeMap<(String, String, Option<String>), u64>,
}

/// The past of one cache.
#[derive(Default)]
struct CacheRecord {
    samples: Ring<CacheSample>,
    /// The last values of the [`WATCHED`] counters.
    watched: [u64; WATCHED.len()],
}

fn ms(nanos: u64) -> u64 {
    nanos / 1_000_000
}

impl History {
    /// Records an event.
    pub(super) fn note(&self, now: Now, event: PastEvent) {
        self.past.lock().note(now, event);
    }

    /// Records a sample of a node and of the caches in its report, and the events that it shows. `is_open` is true for
    /// all open caches: with many, a report has some of them only.
    pub(super) fn sample(&self, now: Now, report: &NodeReport, is_open: impl Fn(&str) -> bool) {
        self.past.lock().sample(now, report, &is_open);
    }

    /// Returns the samples of the node later than a wall time in milliseconds, and the events from a number on.
    pub(crate) fn node(&self, node: &str, now: Now, after_ms: u64, from_event: u64) -> NodePast {
        let past = self.past.lock();
        let samples = past.node.all(now.mono).filter(|sample| sample.at_ms > after_ms).cloned().collect();
        let events = past.events.iter().filter(|event| event.number >= from_event).cloned().collect();
        NodePast { node: node.to_owned(), at_ms: ms(now.wall), samples, events }
    }

    /// Returns the samples of a cache later than a wall time in milliseconds.
    pub(crate) fn cache(&self, node: &str, cache: &str, now: Now, after_ms: u64) -> CachePast {
        let past = self.past.lock();
        let record = past.caches.get(cache);
        let all = record.into_iter().flat_map(|record| record.samples.all(now.mono));
        CachePast {
            cache: cache.to_owned(),
            node: node.to_owned(),
            at_ms: ms(now.wall),
            sampled: record.is_some() || past.caches.len() < MOST_CACHES,
            samples: all.filter(|sample| sample.at_ms > after_ms).cloned().collect(),
        }
    }
}

impl Past {
    fn note(&mut self, now: Now, mut event: PastEvent) {
        self.events_so_far += 1;
        (event.number, event.at_ms) = (self.events_so_far, ms(now.wall));
        for text in [&mut event.text, &mut event.about] {
            if let Some((cut, _)) = text.char_indices().nth(MOST_TEXT) {
                text.truncate(cut);
            }
        }
        if self.events.len() == MOST_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn sample(&mut self, now: Now, report: &NodeReport, is_open: &dyn Fn(&str) -> bool) {
        let gap = self.sampled.map_or(0, |sampled| now.mono.saturating_sub(sampled));
        if gap > STALLED {
            let text = format!(
                "the driver of this node made no turn for {} s: the process was paused or had no processor, or a \
                 listener blocked it",
                gap / 1_000_000_000
            );
            self.note(now, PastEvent::new(EventKind::NodeStalled, &report.node, text));
        }
        let first = self.sampled.replace(now.mono).is_none();
        self.close_missing(now, is_open);
        for cache in &report.caches {
            self.sample_cache(now, first, cache);
        }
        let of_caches = report.caches.iter().flat_map(|cache| cache.warnings.iter().map(|it| (it, Some(&cache.cache))));
        let warnings: Vec<_> = report.warnings.iter().map(|warning| (warning, None)).chain(of_caches).collect();
        let is_seen = |cache: &str| !is_open(cache) || report.caches.iter().any(|it| it.cache == cache);
        self.compare_warnings(now, &warnings, is_seen);
        let count = |name: &str| report.network.get(name).copied().unwrap_or(0);
        let sample = NodeSample {
            at_ms: ms(now.wall),
            cpu_ms: report.process.cpu_ms,
            rss_bytes: report.process.rss_bytes,
            bytes_in: count("bytes_in"),
            bytes_out: count("bytes_out"),
            members: report.members.len() as u64,
            warnings: warnings.len() as u64,
        };
        self.node.push(now.mono, sample);
    }

    fn sample_cache(&mut self, now: Now, first: bool, report: &CacheReport) {
        let sample = CacheSample::of(report, ms(now.wall));
        let counts = WATCHED.map(|(name, ..)| report.counters.get(name).copied().unwrap_or(0));
        let is_new = !self.caches.contains_key(&report.cache);
        if is_new && self.caches.len() == MOST_CACHES {
            return;
        }
        if is_new && !first {
            let opened = PastEvent::new(EventKind::CacheOpened, &report.cache, "the cache was opened on this node");
            self.note(now, opened.in_cache(&report.cache));
        }
        let record = self.caches.entry(report.cache.clone()).or_default();
        record.samples.push(now.mono, sample);
        let before = std::mem::replace(&mut record.watched, counts);
        for (((_, kind, text), before), count) in WATCHED.into_iter().zip(before).zip(counts) {
            if count > before {
                let text = if count - before == 1 { text.into() } else { format!("{text} ({} times)", count - before) };
                self.note(now, PastEvent::new(kind, &report.cache, text).in_cache(&report.cache));
            }
        }
    }

    /// Forgets caches that are no longer open.
    fn close_missing(&mut self, now: Now, is_open: &dyn Fn(&str) -> bool) {
        let closed: Vec<_> = self.caches.keys().filter(|name| !is_open(name)).cloned().collect();
        for name in closed {
            self.caches.remove(&name);
            let text = "the cache was closed on this node";
            self.note(now, PastEvent::new(EventKind::CacheClosed, &name, text).in_cache(&name));
        }
    }

    /// Records the warnings that began since the last sample, and those that ended. `is_seen` is true for a cache whose
    /// warnings are all in `current`.
    fn compare_warnings(&mut self, now: Now, current: &[(&Warning, Option<&String>)], is_seen: impl Fn(&str) -> bool) {
        for (warning, cache) in current {
            let key = (warning.name.clone(), warning.about.clone(), cache.cloned());
            if self.warnings.insert(key.clone(), now.mono).is_none() {
                self.note(now, of_warning(EventKind::WarningBegan, key, warning.text.clone()));
            }
        }
        let over = |(_, _, cache): &(_, _, Option<String>), raised: u64| {
            now.mono.saturating_sub(raised) > ENDED && cache.as_deref().is_none_or(&is_seen)
        };
        let ended = self.warnings.iter().filter(|(key, raised)| over(key, **raised)).map(|(key, _)| key.clone());
        for key in ended.collect::<Vec<_>>() {
            self.warnings.remove(&key);
            let text = format!("the warning {} has ended", key.0);
            self.note(now, of_warning(EventKind::WarningEnded, key, text));
        }
    }
}

fn of_warning(kind: EventKind, (name, about, cache): (String, String, Option<String>), text: String) -> PastEvent {
    PastEvent { warning: Some(name), cache, ..PastEvent::new(kind, about, text) }
}

#[cfg(test)]
mod tests;
