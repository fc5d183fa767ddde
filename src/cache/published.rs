//! Publications of metrics to the recorder of the `metrics` facade.

use std::collections::BTreeMap;

use metrics::{Key, Label, Level, Metadata, Unit};

use crate::histogram::Distribution;
use crate::report::vocabulary::{Family, Metric, MetricKind, Reading, Series};

/// The metadata of each call of the recorder.
static METADATA: Metadata<'static> = Metadata::new("driftless", Level::INFO, Some("driftless"));
/// Publications from one description of the metrics to the next. A recorder may be installed late.
const DESCRIBE_EVERY: u64 = 60;

/// The part of the last publication that the next one depends on.
#[derive(Debug, Default)]
pub(crate) struct Published {
    number: u64,
    /// The gauges of the last publication.
    gauges: Vec<Key>,
    /// The distributions of the last publication, by series.
    times: BTreeMap<Key, Vec<u64>>,
}

impl Published {
    /// Publishes these metrics to the recorder of the process or thread.
    pub(crate) fn publish(&mut self, families: &[Family]) {
        metrics::with_recorder(|recorder| {
            let mut gauges = Vec::new();
            for Family { metric, series } in families {
                if self.number.is_multiple_of(DESCRIBE_EVERY) {
                    describe(recorder, metric);
                }
                for Series { labels, reading } in series {
                    let labels = labels.iter().map(|(name, text)| Label::new(*name, text.clone()));
                    let key = Key::from_parts(metric.name, labels.collect::<Vec<_>>());
                    match reading {
                        Reading::Count(count) => recorder.register_counter(&key, &METADATA).absolute(*count),
                        Reading::Value(value) => {
                            recorder.register_gauge(&key, &METADATA).set(*value);
                            gauges.push(key);
                        }
                        Reading::Times(times) => self.record(recorder, key, times),
                    }
                }
            }
            for gone in self.gauges.iter().filter(|key| !gauges.contains(key)) {
                let is_bound = gone.name().ends_with("staleness_seconds");
                recorder.register_gauge(gone, &METADATA).set(if is_bound { f64::NAN } else { 0.0 });
            }
            self.gauges = gauges;
        });
        self.number += 1;
    }

    /// Records the times that were added since the last publication, each as the limit of its bucket.
    fn record(&mut self, recorder: &dyn metrics::Recorder, key: Key, times: &Distribution) {
        let histogram = recorder.register_histogram(&key, &METADATA);
        let before = self.times.entry(key).or_insert_with(|| vec![0; times.counts.len()]);
        // A time above all limits is published as twice the last one.
        let beyond = times.limits.last().map(|last| last * 2.0);
        let limits = times.limits.iter().copied().chain(beyond);
        for ((limit, now), before) in limits.zip(&times.counts).zip(before.iter_mut()) {
            let added = now.saturating_sub(std::mem::replace(before, *now));
            if added > 0 {
                histogram.record_many(limit, usize::try_from(added).unwrap_or(usize::MAX));
            }
        }
    }
}

fn describe(recorder: &dyn metrics::Recorder, Metric { name, help, kind }: &Metric) {
    let stem = name.trim_end_matches("_total");
    let units = [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)];
    let unit = units.into_iter().find(|(end, _)| stem.ends_with(end)).map_or(Unit::Count, |(_, unit)| unit);
    let (name, unit, help) = ((*name).into(), Some(unit), (*help).into());
    match kind {
        MetricKind::Counter => recorder.describe_counter(name, unit, help),
        MetricKind::Gauge => recorder.describe_gauge(name, unit, help),
        MetricKind::Histogram => recorder.describe_histogram(name, unit, help),
    }
}
