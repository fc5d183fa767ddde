//! The names of metrics: the same for the debug interface, the facade and the page, and as Prometheus wants them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use driftless::inspect::Inspector;
use driftless::inspect::http::{HttpConfig, HttpServer};
use driftless::{Cache, Node};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::common::{SOON, eventually};
use crate::has;
use crate::http::get;

/// Starts two nodes with a cache that has done everything that is measured, and returns the text of `/metrics`.
pub async fn scrape(cluster: &str) -> String {
    let one = Node::builder().cluster(cluster).name("one").local_timing().start().await.unwrap();
    let seeds = [one.local_addr().to_string()];
    let two = Node::builder().cluster(cluster).name("two").seeds(seeds).local_timing().start().await.unwrap();
    let open = |node: &Node| -> Cache<String, String> { node.cache("prices").max_capacity(20).open().unwrap() };
    let (here, there) = (open(&one), open(&two));
    assert!(there.ready(SOON).await.is_ready());
    eventually("named", || here.inspect().peers.first().and_then(|peer| peer.node.clone()), Option::is_some);
    for number in 0..40 {
        here.insert(format!("key-{number}"), "value".into()).unwrap();
    }
    here.get_with("filled".into(), || async { "value".into() }).await;
    (0..3_000).for_each(|_| drop(here.get("filled")));
    here.remove("filled");
    let server = HttpServer::start(Inspector::new(&one), HttpConfig::new(([127, 0, 0, 1], 0).into())).await.unwrap();
    // Two turns of the driver, so that the facade has published, and an acknowledgement has arrived.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let (status, text) = get(server.local_addr(), "/metrics").await;
    assert_eq!(status, 200);
    one.shutdown().await;
    two.shutdown().await;
    text
}

/// Returns the kind of each metric of a scrape.
pub fn kinds(text: &str) -> BTreeMap<String, String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// Returns the names of the labels of each metric of a scrape.
fn labels(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::<String, BTreeSet<String>>::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        let labels = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        found.entry(name.to_owned()).or_default().extend(labels.filter(|label| label != "le"));
    }
    found
}

/// A recorder that keeps what is published to it.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    kinds: BTreeMap<String, &'static str>,
    labels: BTreeMap<String, BTreeSet<String>>,
    described: BTreeMap<String, (Option<Unit>, String)>,
}

impl Kept {
    fn note(&self, key: &Key, kind: &'static str) {
        let mut state = self.0.lock().unwrap();
        state.kinds.insert(key.name().to_owned(), kind);
        let labels = key.labels().map(|label| label.key().to_owned());
        state.labels.entry(key.name().to_owned()).or_default().extend(labels);
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>, help: &SharedString) {
        self.0.lock().unwrap().described.insert(name.as_str().to_owned(), (unit, help.to_string()));
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&name, unit, &help);
    }
    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&name, unit, &help);
    }
    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(&name, unit, &help);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.note(key, "counter");
        Counter::noop()
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.note(key, "gauge");
        Gauge::noop()
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.note(key, "histogram");
        Histogram::noop()
    }
}

/// Returns the names in the table of the page.
fn documented() -> BTreeSet<String> {
    let page = std::fs::read_to_string("src/docs/operations.md").unwrap();
    let table = page.split("# Names of metrics").nth(1).unwrap().split("OpenTelemetry has").next().unwrap();
    let cells = table.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    cells.flat_map(|cell| cell.split(',')).map(|name| name.trim().trim_matches('`').to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn facade_interface_and_page_have_one_vocabulary() {
    let kept = Kept::default();
    metrics::set_global_recorder(kept.clone()).expect("the only recorder of this process");
    let text = scrape("one-vocabulary").await;
    let (scraped, scraped_labels) = (kinds(&text), labels(&text));
    assert_eq!(scraped.keys().cloned().collect::<BTreeSet<_>>(), documented(), "/metrics and the page");
    let state = kept.0.lock().unwrap();
    let ours = |name: &str| !name.starts_with("process_");
    let published: BTreeMap<_, _> = state.kinds.iter().map(|(name, kind)| (name.clone(), (*kind).to_owned())).collect();
    // A metric without a series at this moment is described, and not published.
    for (name, kind) in scraped.iter().filter(|(name, _)| ours(name)) {
        let (unit, help) = state.described.get(name).unwrap_or_else(|| panic!("{name} is not described"));
        assert!(text.contains(&format!("# HELP {name} {help}\n")), "{name}: {help}");
        let base = name.trim_end_matches("_total");
        let expected = if base.ends_with("_seconds") {
            Unit::Seconds
        } else if base.ends_with("_bytes") {
            Unit::Bytes
        } else {
            Unit::Count
        };
        assert_eq!(*unit, Some(expected), "{name}");
        if let Some(labels) = scraped_labels.get(name) {
            assert_eq!(published.get(name), Some(kind), "{name}");
            assert_eq!(state.labels.get(name), Some(labels), "{name}");
        }
    }
    assert!(published.keys().all(|name| scraped.contains_key(name)), "{published:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_time_is_measured_and_labels_are_names() {
    let text = scrape("every-time").await;
    let count = |name: &str| -> u64 {
        let start = format!("{name}_count{{cache=\"prices\"}} ");
        text.lines()
            .find_map(|line| line.strip_prefix(&start)?.parse().ok())
            .unwrap_or_else(|| panic!("{name}: {text}"))
    };
    assert_eq!(count("driftless_fill_duration_seconds"), 1);
    assert!(count("driftless_acknowledgement_duration_seconds") > 0, "{text}");
    let sampled = count("driftless_get_duration_seconds");
    assert!((2..=6).contains(&sampled), "about one in 1,024 of 3,000 and a few of other threads: {sampled}");
    assert_eq!(count("driftless_eviction_age_seconds"), 21, "41 values and room for 20");
    assert!(text.contains("driftless_member_live{cache=\"prices\",member=\"two\"} 1\n"), "{text}");
    let build = concat!(
        "driftless_build_info{version=\"",
        env!("CARGO_PKG_VERSION"),
        "\",cluster=\"every-time\",node=\"one\"} 1\n"
    );
    assert!(text.contains(build), "{text}");
    let id = |word: &str| word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4;
    assert!(!text.split('"').any(id), "no label is an id that changes with a restart: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing() {
    let text = scrape("promtool").await;
    if !has("promtool", "the names were checked by the tests of this crate only") {
        return;
    }
    let check = |text: &str| {
        let mut command = Command::new("promtool");
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    assert_eq!(check(&text), (true, String::new()));
    // The check can fail: a unit that is not a base unit.
    assert!(!check(&text.replace("driftless_member_lag_seconds", "driftless_member_lag_ms")).0);
}
