//! A real Prometheus scrapes three nodes through a kill, a restart and a rolling restart.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::addresses::unused;
use crate::has;
use crate::http::get;
use crate::member::Process;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];

struct Prometheus {
    child: Child,
    at: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Starts Prometheus with the alerts of `deploy`, and one rule that must fire, so that silence means something.
    fn start(targets: &[SocketAddr]) -> Self {
        let (folder, at) = (tempfile::tempdir().unwrap(), unused());
        let targets: Vec<_> = targets.iter().map(|target| format!("\"{target}\"")).collect();
        let alerts = std::fs::canonicalize("deploy/alerts.yaml").unwrap();
        let control =
            "groups:\n  - name: control\n    rules:\n      - { alert: Control, expr: 'driftless_members >= 0' }\n";
        std::fs::write(folder.path().join("control.yaml"), control).unwrap();
        let config = format!(
            "global: {{ scrape_interval: 500ms, evaluation_interval: 500ms }}\n\
             rule_files: [{}, control.yaml]\n\
             scrape_configs:\n\
             - job_name: driftless\n  static_configs: [{{ targets: [{}] }}]\n\
             - job_name: self\n  static_configs: [{{ targets: [\"{at}\"] }}]\n",
            alerts.display(),
            targets.join(", ")
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address={at}")).stdout(Stdio::null()).stderr(Stdio::null());
        Self { child: command.spawn().unwrap(), at, _folder: folder }
    }

    /// Returns the result of a query: for each series, its labels and its value.
    async fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let encode = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => (byte as char).to_string(),
            _ => format!("%{byte:02X}"),
        };
        let encoded: String = query.bytes().map(encode).collect();
        let (status, body) = get(self.at, &format!("/api/v1/query?query={encoded}")).await;
        assert_eq!(status, 200, "{query}: {body}");
        // The answer may come in chunks, whose sizes stand on lines of their own.
        let json: String = body.lines().filter(|line| line.len() > 8).collect();
        let answer: Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {body}"));
        let series = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let value = |one: &Value| one["value"][1].as_str().and_then(|value| value.parse().ok()).unwrap_or(f64::NAN);
        series.iter().map(|one| (one["metric"].clone(), value(one))).collect()
    }

    /// Waits until a query has this many results.
    async fn until(&self, query: &str, results: usize) {
        let begun = Instant::now();
        loop {
            let seen =
                if tokio::net::TcpStream::connect(self.at).await.is_ok() { self.query(query).await } else { vec![] };
            if seen.len() == results {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(40), "{query}: {results} results, not {seen:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_sees_no_series_twice_and_no_false_alert() {
    if !has("prometheus", "three nodes were not scraped by a real one") {
        return;
    }
    let (binds, targets) = ([(); 3].map(|()| unused()), [(); 3].map(|()| unused()));
    let start = |index: usize| Process::start(NAMES[index], binds[index], &binds, targets[index]);
    let mut members: Vec<_> = (0..3).map(|index| Some(start(index))).collect();
    let prometheus = Prometheus::start(&targets);
    let all_met = "driftless_members == 2";
    let all_known = "count by (instance) (driftless_member_live == 1) == 2";
    prometheus.until(all_met, 3).await;
    prometheus.until(all_known, 3).await;
    // A deploy: one after the other says goodbye and comes back.
    for (index, member) in members.iter_mut().enumerate() {
        member.take().unwrap().stop();
        prometheus.until("up{job=\"driftless\"} == 0", 1).await;
        *member = Some(start(index));
        prometheus.until(all_met, 3).await;
        prometheus.until(all_known, 3).await;
    }
    // A crash: the remaining members find the member dead, then it comes back under its name.
    members[1].take().unwrap().kill();
    prometheus.until("driftless_member_live{member=\"n2\"} == 0", 2).await;
    prometheus.until("driftless_warning{name=\"member-down\",about=\"n2\"} == 1", 2).await;
    members[1] = Some(start(1));
    prometheus.until(all_known, 3).await;
    prometheus.until("driftless_warning", 0).await;
    // It did happen, and Prometheus saw it.
    let restarts = prometheus.query("sum(changes(process_start_time_seconds{job=\"driftless\"}[10m]))").await;
    assert_eq!(restarts[0].1, 4.0, "three of a deploy and one after a crash: {restarts:?}");
    // The names of members outlive all restarts: no member ever had another series.
    let series = prometheus.query("count by (member) (count_over_time(driftless_member_live[10m]))").await;
    let named: Vec<_> = series.iter().map(|(labels, count)| (labels["member"].as_str().unwrap(), *count)).collect();
    assert_eq!(named.len(), 3, "{named:?}");
    assert!(NAMES.iter().all(|name| named.contains(&(name, 2.0))), "one series on each other node: {named:?}");
    let twice = "sum(prometheus_target_scrapes_sample_duplicate_timestamp_total) + \
                 sum(prometheus_target_scrapes_sample_out_of_order_total)";
    assert_eq!(prometheus.query(twice).await[0].1, 0.0, "no series twice in one scrape");
    // Of the alerts only the control has fired.
    let fired = prometheus.query("count by (alertname) (count_over_time(ALERTS{alertstate=\"firing\"}[10m]))").await;
    let fired: Vec<_> = fired.iter().map(|(labels, _)| labels["alertname"].as_str().unwrap()).collect();
    assert_eq!(fired, ["Control"]);
    let pending = prometheus.query("count_over_time(ALERTS{alertname=\"DriftlessMemberDown\"}[10m])").await;
    assert!(!pending.is_empty(), "the crash was noticed: its alert waits for five minutes");
    for member in members.into_iter().flatten() {
        member.stop();
    }
}
