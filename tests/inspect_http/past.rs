//! The past of a node, hot keys, keys by prefix and the oldest tombstones over HTTP; and links to the page.

use std::time::Duration;

use super::common::{SOON, cluster, eventually, open, stop};
use super::{get, get_with, json, serve};

/// The samples and events of this node and of a member: what happened before the request is in them.
#[tokio::test(flavor = "multi_thread")]
async fn the_past_of_each_node_is_answered() {
    let (nodes, caches) = cluster("http-past", 2).await;
    for n in 0..50 {
        caches[0].insert(format!("key {n}"), "v".into()).unwrap();
    }
    (0..70).for_each(|n| drop(caches[0].get(&format!("key {n}"))));
    caches[0].remove("key 1");
    assert_eq!(caches[0].get("key 1"), None);
    let server = serve(&nodes[0]).await;
    let (at, member) = (server.local_addr(), nodes[1].name().to_owned());
    let last = async || {
        let past = json(at, "/v1/caches/test/past").await;
        past["samples"].as_array().unwrap().last().cloned().unwrap_or_default()
    };
    let began = std::time::Instant::now();
    while last().await["hits"] != 50 {
        assert!(began.elapsed() < SOON, "{}", last().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let sample = last().await;
    assert_eq!((&sample["misses"], &sample["writes"], &sample["entries"]), (&21.into(), &51.into(), &49.into()));
    let reasons = json(at, "/v1/caches/test").await["misses_by_reason"].clone();
    assert_eq!((&reasons["absent"], &reasons["deleted"]), (&20.into(), &1.into()));
    let after = sample["at_ms"].as_u64().unwrap();
    let newer = json(at, &format!("/v1/caches/test/past?after_ms={after}")).await;
    assert!(newer["samples"].as_array().unwrap().iter().all(|one| one["at_ms"].as_u64().unwrap() > after), "{newer}");
    let other = json(at, &format!("/v1/caches/test/past?member={member}")).await;
    assert!(other["node"] == member.as_str() && !other["samples"].as_array().unwrap().is_empty(), "{other}");
    let past = json(at, "/v1/past").await;
    let kinds: Vec<_> = past["events"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds[..2], ["node-started", "member-up"], "{past}");
    assert!(past["samples"][0]["rss_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{past}");
    let newer = json(at, "/v1/past?from_event=2").await;
    assert_eq!(newer["events"][0]["kind"], "member-up");
    assert_eq!(json(at, &format!("/v1/past?member={member}")).await["node"], member.as_str());
    for (path, status) in [
        ("/v1/past?member=absent", 404),
        ("/v1/past?after_ms=-1", 400),
        ("/v1/caches/none/past", 404),
        ("/v1/caches/none/hot", 404),
        ("/v1/caches/none/tombstones", 404),
        ("/v1/caches/test/keys?prefix=a&cursor=x", 400),
        ("/v1/cluster?brief=perhaps", 400),
    ] {
        assert_eq!(get(at, path).await.0, status, "{path}");
    }
    let brief = json(at, "/v1/cluster?brief=true").await;
    assert_eq!(brief["nodes"].as_array().unwrap().len(), 2, "{brief}");
    assert_eq!(brief["nodes"][1]["caches"][0]["peers"][0]["reported"], serde_json::json!([]));
    let whole = json(at, "/v1/cluster").await;
    assert!(!whole["nodes"][1]["caches"][0]["peers"][0]["reported"].as_array().unwrap().is_empty(), "{whole}");
    stop(nodes).await;
}

/// A key with a third of the reads is the hottest, on this node and asked of a member; a cache without a capacity says
/// that it notes no reads.
#[tokio::test(flavor = "multi_thread")]
async fn the_hottest_key_is_found() {
    let (nodes, caches) = cluster("http-hot", 2).await;
    let bounded: Vec<driftless::Cache<String, String>> =
        nodes.iter().map(|node| node.cache("bounded").max_capacity(1_000).open().unwrap()).collect();
    for n in 0..300 {
        bounded[1].insert(format!("key {n}"), "v".into()).unwrap();
    }
    let servers = [serve(&nodes[0]).await, serve(&nodes[1]).await];
    for n in 0..30_000 {
        let key = if n % 3 == 0 { "key 7".to_owned() } else { format!("key {}", n % 300) };
        bounded[1].get(&key);
        // Notes are applied to the sketch with the next write: a ring keeps the last 512.
        if n % 400 == 0 {
            bounded[1].run_pending_tasks();
        }
    }
    let found = json(servers[1].local_addr(), "/v1/caches/bounded/hot?limit=3").await;
    assert_eq!((found["noted"].as_bool(), &found["keys"][0]["key"]), (Some(true), &"key 7".into()), "{found}");
    assert_eq!(found["keys"].as_array().unwrap().len(), 3);
    let share = found["keys"][0]["reads"].as_f64().unwrap() / found["sampled"].as_f64().unwrap();
    assert!((0.25..0.45).contains(&share), "{found}");
    let asked = format!("/v1/caches/bounded/hot?member={}", nodes[1].name());
    eventually("known", || bounded[0].entry_count(), |count| *count == 300);
    assert_eq!(json(servers[0].local_addr(), &asked).await["keys"][0]["key"], "key 7");
    assert_eq!(json(servers[0].local_addr(), "/v1/caches/test/hot").await["noted"], false);
    assert_eq!(caches.len(), 2);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_by_prefix_and_tombstones_with_what_holds_them() {
    let (nodes, caches) = cluster("http-prefix", 2).await;
    let cache = &caches[0];
    for n in 0..2_000 {
        cache.insert(format!("{}-{n}", ["a", "b"][n % 2]), "v".into()).unwrap();
    }
    cache.insert_with_ttl("b-soon".into(), "v".into(), Duration::from_secs(600)).unwrap();
    let server = serve(&nodes[0]).await;
    let (at, mut listed, mut next) = (server.local_addr(), Vec::new(), Some(String::new()));
    while let Some(cursor) = next {
        let cursor = if cursor.is_empty() { cursor } else { format!("&cursor={cursor}") };
        let page = json(at, &format!("/v1/caches/test/keys?prefix=b-&limit=300{cursor}")).await;
        assert!(page["keys"].as_array().unwrap().len() <= 300 && page["examined"].as_u64().unwrap() <= 16_384);
        listed.extend(page["keys"].as_array().unwrap().clone());
        next = page["next"].as_str().map(str::to_owned);
    }
    let keys: std::collections::BTreeSet<_> = listed.iter().map(|line| line["key"].as_str().unwrap()).collect();
    assert_eq!((keys.len(), listed.len()), (1_001, 1_001));
    assert!(keys.iter().all(|key| key.starts_with("b-")));
    let expiring: Vec<_> = listed.iter().filter(|line| line["expires"].is_string()).collect();
    assert_eq!((expiring.len(), &expiring[0]["key"]), (1, &"b-soon".into()));
    cache.remove("a-2");
    cache.remove("a-4");
    let stones = json(at, "/v1/caches/test/tombstones?limit=5").await;
    let keys: Vec<_> = stones.as_array().unwrap().iter().map(|line| line["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a-2", "a-4"], "the oldest first: {stones}");
    assert_eq!((&stones[0]["state"], &stones[0]["blocked_by"][0]["why"]), (&"deleted".into(), &"young".into()));
    assert_eq!(json(at, "/v1/caches/test/tombstones?limit=1").await.as_array().unwrap().len(), 1);
    stop(nodes).await;
}

/// A browser may open the page from a link of another site. It may not embed it, and it may not read data.
#[tokio::test(flavor = "multi_thread")]
async fn a_link_from_another_site_opens_the_page_and_nothing_else() {
    let (nodes, _caches) = cluster("http-link", 1).await;
    open(&nodes[0]);
    let server = serve(&nodes[0]).await;
    let at = server.local_addr();
    let from = |site: &str, mode: &str, dest: &str| {
        format!("Host: {at}\r\nSec-Fetch-Site: {site}\r\nSec-Fetch-Mode: {mode}\r\nSec-Fetch-Dest: {dest}\r\n")
    };
    for site in ["cross-site", "same-site"] {
        assert_eq!(get_with(at, "/", &from(site, "navigate", "document")).await.0, 200, "{site}");
        for (path, mode, dest) in [
            ("/", "navigate", "iframe"),
            ("/", "no-cors", "document"),
            ("/", "cors", "empty"),
            ("/v1/node", "navigate", "document"),
            ("/v1/cluster", "cors", "empty"),
            ("/metrics", "navigate", "document"),
        ] {
            assert_eq!(get_with(at, path, &from(site, mode, dest)).await.0, 403, "{site} {path} {mode} {dest}");
        }
    }
    stop(nodes).await;
}
