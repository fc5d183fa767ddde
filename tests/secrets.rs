//! scenario 92: disclosure of a cache's contents. The tests have a process of their own, because they record the whole
//! log.
#![cfg(feature = "inspect-http")]

mod common;
#[path = "common/http.rs"]
#[allow(dead_code)]
mod http;
#[path = "common/log.rs"]
mod log;

use std::time::Duration;

use common::{SOON, eventually, open, stop};
use driftless::inspect::Inspector;
use driftless::inspect::http::{HttpConfig, HttpServer};
use driftless::{Cache, Node};

const KEY: &str = "key-that-must-not-be-in-a-log";
const VALUE: &str = "value-that-must-not-be-in-a-log";
const SECRET: [u8; 32] = *b"encryption-key-that-is-not-told!";

async fn node(seeds: &[&Node]) -> Node {
    let seeds: Vec<_> = seeds.iter().map(|node| node.local_addr().to_string()).collect();
    let builder = Node::builder().cluster("secrets").seeds(seeds).local_timing().encryption_key(SECRET);
    assert!(!format!("{builder:?}").contains("not-told"));
    builder.start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_log_line_has_a_key_a_value_or_a_secret() {
    log::listen("trace");
    let a = node(&[]).await;
    let b = node(&[&a]).await;
    let (here, there) = (open(&a), open(&b));
    assert!(there.ready(SOON).await.is_ready());
    here.insert(KEY.into(), VALUE.into()).unwrap();
    eventually("arrives", || there.get(KEY), Option::is_some);
    // Refused, filled, failed, deleted, invalidated: every operation with a log line of its own.
    here.insert("k".repeat(10_000), VALUE.into()).unwrap_err();
    here.insert(KEY.into(), VALUE.repeat(100_000)).unwrap_err();
    here.remove(KEY);
    assert_eq!(here.get_with(KEY.into(), || async { VALUE.repeat(100_000) }).await.len(), VALUE.len() * 100_000);
    let failed = here.try_get_with(KEY.into(), || async { Err::<String, _>(std::io::Error::other(VALUE)) }).await;
    assert!(failed.is_err());
    here.get_with(KEY.into(), || async { VALUE.to_owned() }).await;
    // The same cache with other types on the second node. Values that do not decode are logged without their content.
    let other: Cache<u64, u64> = b.cache("other").open().unwrap();
    let text: Cache<String, String> = a.cache("other").open().unwrap();
    text.insert(KEY.into(), VALUE.into()).unwrap();
    eventually("undecodable", || other.inspect().intake["undecodable_keys"], |count| *count > 0);
    here.invalidate_all();
    let inspector = Inspector::new(&a);
    inspector.explain("test", KEY, Duration::from_secs(1)).await.unwrap();
    stop(vec![a, b]).await;

    let log = log::text();
    assert!(log.lines().count() > 50, "the subscriber received events: {log}");
    for secret in [KEY, VALUE, "encryption-key-that-is-not-told", "kkkkkkkk"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line.map(|line| line.chars().take(300).collect::<String>()), None, "{secret} is in the log");
    }
}

/// A cache name that would end a label, a line, a tag or a script, if it were not escaped.
const NAME: &str = "a\\b\"} 1\n# </script><b>&";

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_cache_name_breaks_out_of_nothing() {
    let a = Node::builder().cluster("names").start().await.unwrap();
    let cache: Cache<String, String> = a.cache(NAME).open().unwrap();
    cache.insert("k".into(), "v".into()).unwrap();
    let config = HttpConfig::new(([127, 0, 0, 1], 0).into());
    let running = HttpServer::start(Inspector::new(&a), config).await.unwrap();
    let server = running.local_addr();
    let get = async |path: &str| http::get(server, path).await.1;
    let metrics = get("/metrics").await;
    let label = r#"cache="a\\b\"} 1\n# </script><b>&""#;
    assert!(metrics.lines().any(|line| line.starts_with("driftless_entries{") && line.contains(label)), "{metrics}");
    for line in metrics.lines().filter(|line| !line.starts_with("# HELP ") && !line.starts_with("# TYPE ")) {
        let (series, number) = line.rsplit_once(' ').expect("a series and its number");
        assert!(
            number.parse::<f64>().is_ok() && ["driftless_", "process_"].iter().any(|start| series.starts_with(start)),
            "{line}"
        );
    }
    // The page does not depend on cache names: the script loads them as JSON and inserts them as text.
    assert!(!get("/").await.contains("<b>&"));
    let node: serde_json::Value = serde_json::from_str(&get("/v1/node").await).unwrap();
    assert_eq!(node["caches"][0]["cache"], NAME);
    stop(vec![a]).await;
}
