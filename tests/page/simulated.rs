//! A server with the real page and made-up answers: sixty nodes, whose reports are those of a real node with other
//! names and numbers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Query, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

/// The answers: the report of a real node, and the page.
struct Model {
    node: Value,
    peers: Vec<String>,
    page: String,
}

/// The number of simulated nodes. `eu-07` does not answer, and `us-13` lags behind.
pub const NODES: u64 = 60;

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

fn name(number: u64) -> String {
    let region = ["eu", "us", "asia"][(number % 3) as usize];
    format!("{region}-{:02}", number / 3 + 1)
}

/// Serves until the test ends. `node` is the report of a real node with one cache and one peer.
pub async fn serve(node: Value, page: String) -> SocketAddr {
    let router =
        Router::new()
            .route("/", get(|State(model): State<Arc<Model>>| async move { Html(model.page.clone()) }))
            .route(
                "/v1/cluster",
                get(|State(model): State<Arc<Model>>| async move {
                    ([(CONTENT_TYPE, "application/json")], cluster(&model))
                }),
            )
            .route("/v1/past", get(|Query(asked): Query<Asked>| async move { Json(node_past(&asked)) }))
            .route("/v1/caches/{cache}/past", get(|Query(asked): Query<Asked>| async move { Json(cache_past(&asked)) }))
            .with_state(Arc::new(Model { peers: peers(&node), node, page }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    addr
}

/// Returns the answer as text: the peers, which are most of it, were written once.
fn cluster(Model { node, peers, .. }: &Model) -> String {
    let answering = (0..NODES).filter(|number| name(*number) != "eu-07");
    let nodes: Vec<_> = answering.map(|number| report(node, peers, number)).collect();
    format!("{{\"nodes\":[{}],\"silent\":[\"eu-07\"]}}", nodes.join(","))
}

/// The peers as every node sees them.
fn peers(template: &Value) -> Vec<String> {
    let peer = |other: u64| {
        let (mut peer, lags) = (template["caches"][0]["peers"][0].clone(), name(other) == "us-13");
        peer["node"] = json!(name(other));
        peer["replica"] = json!(format!("replica-{other}"));
        peer["silent_ms"] = json!(if name(other) == "eu-07" { 12_000 } else { 300 });
        peer["lag_ms"] = json!(if lags { 4_200 } else { 0 });
        peer["staleness_ms"] = json!(if lags { 4_600 } else { 400 + other });
        peer["reported"] = json!([]);
        peer.to_string()
    };
    (0..NODES).map(peer).collect()
}

fn report(template: &Value, peers: &[String], number: u64) -> String {
    let (mut node, now) = (template.clone(), now_ms());
    let second = now / 1_000;
    let addr = |number: u64| format!("10.0.{}.{}:7946", number % 3, number + 10);
    node["node"] = json!(name(number));
    node["addr"] = json!(addr(number));
    node["incarnation"] = json!(format!("incarnation-{number}"));
    let (cpu, rss) = (second * (number + 3) * 7, (200 + number) << 20);
    node["process"] = json!({ "version": if number % 20 == 19 { "0.1.1" } else { "0.1.0" }, "pid": 100 + number,
        "at_ms": now, "uptime_ms": (number + 1) * 3_600_000, "cpu_ms": cpu, "rss_bytes": rss });
    let member =
        |other| json!({ "node": name(other), "addr": addr(other), "incarnation": format!("incarnation-{other}") });
    node["members"] = if number == 0 { (1..NODES).map(member).collect() } else { json!([]) };
    let cache = &mut node["caches"][0];
    cache["node"] = json!(name(number));
    (cache["entries"], cache["weight"], cache["max_capacity"]) =
        (95_000.into(), json!(95_000 + number * 50), 100_000.into());
    (cache["hits"], cache["misses"]) = (json!(second * (900 + number)), json!(second * (number + 1)));
    cache["removals"]["size"] = json!(second * number * 2);
    let text = "this member is not known to have 120 writes of this node";
    cache["warnings"] = json!([{ "name": "lagging-peer", "about": "us-13", "text": text }]);
    (cache["vector"], cache["peers"]) = (json!([]), "PEERS".into());
    let others: Vec<_> = (0_u64..).zip(peers).filter(|(other, _)| *other != number).map(|(_, peer)| &**peer).collect();
    node.to_string().replace("\"PEERS\"", &format!("[{}]", others.join(",")))
}

#[derive(serde::Deserialize)]
struct Asked {
    after_ms: Option<u64>,
    from_event: Option<u64>,
}

/// The times of the samples, as a node keeps them.
fn times(asked: &Asked) -> Vec<u64> {
    let (now, after) = (now_ms() / 10_000 * 10_000, asked.after_ms.unwrap_or(0));
    let coarse = (18..90).rev().map(|tens| now - tens * 10_000);
    coarse.chain((0..180).rev().map(|seconds| now - seconds * 1_000)).filter(|at| *at > after).collect()
}

fn cache_past(asked: &Asked) -> Value {
    let sample = |at_ms: u64| {
        // A flood from 600 to 480 seconds ago.
        let second = at_ms / 1_000;
        let flood = (now_ms() / 1_000 - second).clamp(480, 600) - 480;
        json!({ "at_ms": at_ms, "hits": second * 900, "misses": second * 30 + (120 - flood) * 400, "writes": second * 40,
            "merged": second * 200 + (120 - flood) * 3_000, "evicted": second * 20 + (120 - flood) * 2_500, "expired": second,
            "fills": second * 30, "fills_failed": second / 20, "fills_running": second % 5, "entries": 95_000,
            "weight": 97_000, "tombstones": 2_000 + second % 300, "lag_ms": second % 7 * 20, "staleness_ms": 400 + second % 300 })
    };
    let samples: Vec<_> = times(asked).into_iter().map(sample).collect();
    json!({ "cache": "prices", "node": name(0), "at_ms": now_ms(), "sampled": true, "samples": samples })
}

fn node_past(asked: &Asked) -> Value {
    let sample = |at_ms: u64| {
        let second = at_ms / 1_000;
        json!({ "at_ms": at_ms, "cpu_ms": second * 180, "rss_bytes": (300 << 20) + second % 60 * 10_000, "bytes_in": second * 220_000,
            "bytes_out": second * 90_000, "members": 59, "warnings": 1 })
    };
    let began = now_ms();
    let event = |number: u64, ago: u64, kind: &str, about: &str, text: &str| json!({ "number": number, "at_ms": began - ago * 1_000, "kind": kind, "about": about, "warning": null, "cache": null, "text": text });
    let events = [
        event(
            1,
            640,
            "member-down",
            "asia-04",
            "does not answer at 10.0.2.21:7946: found dead by the failure detector",
        ),
        event(2, 603, "member-restarted", "asia-04", "a new process replaces its predecessor"),
        event(3, 602, "reconcile", "prices", "the whole state of another node was received and compared"),
    ];
    let from = asked.from_event.unwrap_or(0);
    let events: Vec<_> = events.into_iter().filter(|event| event["number"].as_u64().unwrap() >= from).collect();
    let samples: Vec<_> = times(asked).into_iter().map(sample).collect();
    json!({ "node": name(0), "at_ms": now_ms(), "samples": samples, "events": events })
}
