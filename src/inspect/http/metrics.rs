//! The metrics of a node as Prometheus text.
//!
//! Source: the text-based exposition format of Prometheus, version 0.0.4.

use std::collections::BTreeSet;
use std::fmt::{Display, Write};

use super::process;
use crate::report::NodeReport;
use crate::report::vocabulary::{Family, Metric, MetricKind, Reading, Series, of_report};

/// The text so far, and the series in it. A series is written once: later values of it are left out.
#[derive(Default)]
struct Text {
    lines: String,
    series: BTreeSet<String>,
}

/// Writes all metrics of a report, and those of the process.
pub(super) fn write(node: &NodeReport) -> String {
    let mut out = Text::default();
    of_report(node).iter().chain(&process::metrics()).for_each(|family| out.family(family));
    out.lines
}

impl Text {
    fn family(&mut self, Family { metric: Metric { name, help, kind }, series }: &Family) {
        let kind = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let _ = writeln!(self.lines, "# HELP {name} {help}\n# TYPE {name} {kind}");
        series.iter().for_each(|series| self.series(name, series));
    }

    fn series(&mut self, name: &str, Series { labels, reading }: &Series) {
        let distribution = match reading {
            Reading::Count(count) => return self.line(name, labels, None, count),
            Reading::Value(value) => return self.line(name, labels, None, value),
            Reading::Times(distribution) => distribution,
        };
        let (bucket, mut total) = (format!("{name}_bucket"), 0);
        let limits = distribution.limits.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (limit, count) in limits.zip(&distribution.counts) {
            total += count;
            self.line(&bucket, labels, Some(&limit), total);
        }
        self.line(&format!("{name}_sum"), labels, None, distribution.sum);
        self.line(&format!("{name}_count"), labels, None, total);
    }

    fn line(&mut self, name: &str, labels: &[(&'static str, String)], limit: Option<&str>, value: impl Display) {
        let written = labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text)));
        let limit = limit.map(|limit| format!("le=\"{limit}\""));
        let labels: Vec<_> = written.chain(limit).collect();
        let series = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) };
        if !self.series.contains(&series) {
            let _ = writeln!(self.lines, "{series} {value}");
            self.series.insert(series);
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Distribution;
    use crate::report::{CacheReport, Warning};

    fn cache(name: &str) -> CacheReport {
        CacheReport { cache: name.into(), ..CacheReport::default() }
    }

    #[test]
    fn no_series_is_there_twice() {
        let warning = Warning { name: "lagging-peer".into(), about: "b".into(), ..Warning::default() };
        let cache = CacheReport { warnings: vec![warning.clone(), warning], ..cache("c") };
        let text = write(&NodeReport { caches: vec![cache], ..NodeReport::default() });
        let series: Vec<_> =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect();
        assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len(), "{text}");
        assert!(text.contains("driftless_warning{name=\"lagging-peer\",about=\"b\",cache=\"c\"} 1\n"), "{text}");
        let kinds: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        assert_eq!(kinds.iter().collect::<BTreeSet<_>>().len(), kinds.len(), "{text}");
    }

    #[test]
    fn buckets_add_up() {
        let fill = Distribution { limits: vec![0.001, 0.5], counts: vec![2, 3, 1], sum: 1.25 };
        let cache = CacheReport { timings: [("fill".to_owned(), fill)].into(), ..cache("a\"b") };
        let text = write(&NodeReport { caches: vec![cache], ..NodeReport::default() });
        let expected = "driftless_fill_duration_seconds_bucket{cache=\"a\\\"b\",le=\"0.001\"} 2\n\
             driftless_fill_duration_seconds_bucket{cache=\"a\\\"b\",le=\"0.5\"} 5\n\
             driftless_fill_duration_seconds_bucket{cache=\"a\\\"b\",le=\"+Inf\"} 6\n\
             driftless_fill_duration_seconds_sum{cache=\"a\\\"b\"} 1.25\n\
             driftless_fill_duration_seconds_count{cache=\"a\\\"b\"} 6\n";
        assert!(text.contains(expected), "{text}");
    }
}
