//! Tests of the debug interface over HTTP, with requests written by hand.
#![cfg(feature = "inspect-http")]

mod common;
#[path = "common/http.rs"]
mod http;
#[path = "inspect_http/past.rs"]
mod past;

use std::net::SocketAddr;
use std::time::Duration;

use common::{cluster, eventually, node, open, stop};
use driftless::inspect::Inspector;
use driftless::inspect::http::{HttpConfig, HttpError, HttpServer};
use http::{get, get_with};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends bytes and reads until the server closes the connection. After `patience` it shuts down its own sending side.
async fn raw(addr: SocketAddr, request: &[u8], patience: Duration) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    if tokio::time::timeout(patience, stream.read_to_end(&mut answer)).await.is_ok() {
        return String::from_utf8_lossy(&answer).into_owned();
    }
    let _ = stream.shutdown().await;
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn json(addr: SocketAddr, path: &str) -> Value {
    let (status, body) = get(addr, path).await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

async fn serve(node: &driftless::Node) -> HttpServer {
    HttpServer::start(Inspector::new(node), HttpConfig::new(([127, 0, 0, 1], 0).into())).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers() {
    let (nodes, caches) = cluster("http-routes", 2).await;
    for n in 0..300 {
        caches[0].insert(format!("key {n}"), "secret".into()).unwrap();
    }
    eventually("arrived", || caches[1].entry_count(), |count| *count == 300);
    let server = serve(&nodes[0]).await;
    let at = server.local_addr();
    assert_eq!(json(at, "/v1/node").await["caches"][0]["entries"], 300);
    assert_eq!(json(at, "/v1/cluster").await["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(json(at, "/v1/caches").await, serde_json::json!(["test"]));
    assert_eq!(json(at, "/v1/caches/test").await["entries"], 300);
    let told = json(at, "/v1/caches/test/explain?key=key%207").await;
    assert_eq!(
        (&told["agreement"], &told["nodes"][1]["state"], &told["value"]),
        (&"agree".into(), &"live".into(), &Value::Null)
    );
    let member = nodes[1].name();
    let diff = json(at, &format!("/v1/caches/test/diff?member={member}&limit=100")).await;
    assert!(diff["differences"].as_array().unwrap().is_empty() && diff["next"].is_string(), "{diff}");
    assert_eq!(json(at, "/v1/caches/test/audit").await["clean"], true);
    assert!(json(at, "/v1/caches/test/staleness").await["bound_ms"].is_u64());
    assert_eq!(json(at, "/v1/caches/test/recent").await, serde_json::json!([]));
    let openapi = json(at, "/v1/openapi.json").await;
    assert!(openapi["paths"]["/v1/caches/{cache}/diff"].is_object());
    assert_eq!((get(at, "/health/live").await.0, get(at, "/health/ready").await.0), (200, 200));
    let (_, metrics) = get(at, "/metrics").await;
    assert!(metrics.contains("driftless_entries{cache=\"test\"} 300"), "{metrics}");
    let (status, page) = get(at, "/").await;
    assert!(status == 200 && page.contains("<title>driftless") && !page.contains("https://"), "no request elsewhere");
    stop(nodes).await;
    assert_eq!(get(at, "/health/live").await.0, 503, "scenario 73: a node that is down is not healthy");
}

#[tokio::test(flavor = "multi_thread")]
async fn off_by_default_on_loopback_and_with_a_token_beyond() {
    // scenario 91: any address except loopback needs a token, and every route with data checks it.
    let a = node("http-token", &[]).await;
    let beyond = HttpConfig::new(([0, 0, 0, 0], 0).into());
    let refused = HttpServer::start(Inspector::new(&a), beyond.clone()).await;
    assert!(matches!(refused, Err(HttpError::TokenRequired(_))));
    let server =
        HttpServer::start(Inspector::new(&a), beyond.token("a-token-of-32-bytes-to-be-guessed")).await.unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], server.local_addr().port()));
    for path in ["/v1/node", "/metrics", "/v1/openapi.json", "/v1/nothing"] {
        assert_eq!(get(at, path).await.0, 401, "{path}");
    }
    assert_eq!((get(at, "/").await.0, get(at, "/health/live").await.0), (200, 200));
    let with = |token: &str| format!("Host: {at}\r\nAuthorization: Bearer {token}\r\n");
    assert_eq!(get_with(at, "/v1/node", &with("a-token-of-32-bytes-to-be-guesseD")).await.0, 401);
    assert_eq!(get_with(at, "/v1/node", &with("")).await.0, 401);
    assert_eq!(get_with(at, "/v1/node", &with("a-token-of-32-bytes-to-be-guessed")).await.0, 200);
    stop(vec![a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_shown_only_on_request_and_nothing_else_shows_them() {
    // scenario 92: values are shown only on request.
    let a = node("http-values", &[]).await;
    let cache = open(&a);
    cache.insert("<script>\"\n".into(), "top secret".into()).unwrap();
    let hidden = serve(&a).await;
    let shown = HttpConfig::new(([127, 0, 0, 1], 0).into()).show_values(true);
    let shown = HttpServer::start(Inspector::new(&a), shown).await.unwrap();
    let key = "/v1/caches/test/explain?key=%3Cscript%3E%22%0A";
    assert_eq!(json(shown.local_addr(), key).await["value"], "\"top secret\"");
    for path in [key, "/v1/node", "/v1/cluster", "/v1/caches/test/keys", "/metrics"] {
        let (_, body) = get(hidden.local_addr(), path).await;
        assert!(!body.contains("top secret"), "{path}: {body}");
    }
    let keys = json(hidden.local_addr(), "/v1/caches/test/keys").await;
    assert_eq!(keys["keys"][0]["key"], "<script>\"\n", "escaped by JSON");
    stop(vec![a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_of_many_keys_is_paged_while_slow_readers_hold_places() {
    // scenario 93 (smaller): a dump is paged, and slow readers hold up neither the dump nor replication.
    dump("http-dump", 20_000).await;
}

/// Runs the dump in full: `cargo test --release --features inspect-http --test inspect_http -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn a_dump_of_a_million_keys_is_paged_while_slow_readers_hold_places() {
    // scenario 93: the full size.
    dump("http-dump-million", 1_000_000).await;
}

async fn dump(name: &str, count: usize) {
    let (nodes, caches) = cluster(name, 2).await;
    for n in 0..count {
        caches[0].insert(format!("key-{n}"), "value".into()).unwrap();
    }
    eventually("arrived", || caches[1].entry_count(), |there| *there == count as u64);
    let server = serve(&nodes[0]).await;
    let at = server.local_addr();
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let request = format!("GET /v1/caches/test/keys?limit=1000 HTTP/1.1\r\nHost: {at}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        slow.push(stream); // and never reads the reply
    }
    let (mut seen, mut cursor, mut waits) = (std::collections::BTreeSet::new(), String::new(), Vec::new());
    loop {
        let page = json(at, &format!("/v1/caches/test/keys?limit=1000000{cursor}")).await;
        let keys = page["keys"].as_array().unwrap();
        assert!(keys.len() <= 1_000, "capped");
        seen.extend(keys.iter().map(|line| line["key"].as_str().unwrap().to_owned()));
        caches[0].insert("meanwhile".into(), format!("{}", seen.len())).unwrap();
        let now = || caches[1].get("meanwhile");
        waits.push(eventually("gossip goes on", now, |there| there.as_deref() == Some(&seen.len().to_string())));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    seen.remove("meanwhile");
    assert_eq!(seen.len(), count);
    waits.sort();
    println!(
        "{count} keys in {} pages; a write meanwhile was there after {:?} at most",
        waits.len(),
        waits.last().unwrap()
    );
    drop(slow);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_hosts_and_origins_are_refused_and_nothing_can_be_changed() {
    // scenario 94: foreign hosts and origins are refused, and no request can change anything.
    let a = node("http-foreign", &[]).await;
    let cache = open(&a);
    cache.insert("k".into(), "v".into()).unwrap();
    let server = serve(&a).await;
    let at = server.local_addr();
    assert_eq!(get_with(at, "/v1/node", "Host: evil.example\r\n").await.0, 421);
    assert_eq!(get_with(at, "/v1/node", "").await.0, 400);
    assert_eq!(get_with(at, "/v1/node", "Host: localhost\r\n").await.0, 200);
    for foreign in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        assert_eq!(get_with(at, "/v1/node", &format!("Host: {at}\r\n{foreign}\r\n")).await.0, 403, "{foreign}");
    }
    assert_eq!(get_with(at, "/v1/node", &format!("Host: {at}\r\nOrigin: http://{at}\r\n")).await.0, 200);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let request = format!(
            "{method} /v1/caches/test/explain?key=k HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        let answer = raw(at, request.as_bytes(), Duration::from_secs(20)).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{method}: {answer}");
    }
    assert_eq!((cache.get("k").as_deref(), cache.hits_and_misses()), (Some("v"), (1, 0)));
    stop(vec![a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_get_a_4xx_and_garbage_takes_nothing_down() {
    // scenario 95: malformed requests have a 4xx reply, and random bytes stop nothing.
    let a = node("http-fuzz", &[]).await;
    let _cache = open(&a);
    let server = serve(&a).await;
    let at = server.local_addr();
    let long = format!("/v1/caches/test/explain?key={}", "x".repeat(20_000));
    let bad = [
        "/nothing",
        "/v1/caches/none",
        "/v1/caches/test/explain",
        "/v1/caches/test/keys?limit=many",
        "/v1/caches/test/keys?cursor=x",
        "/v1/caches/test/keys?limit=-1",
        "/v1/caches/%ff/keys",
        "/v1/caches/test/diff?member=no-such-node",
        "/v1/caches/test/diff?member=x&cursor=zz",
        "/v1/caches/..%2f..%2fetc/keys",
        &long,
    ];
    for path in bad {
        let (status, body) = get(at, path).await;
        assert!((400..500).contains(&status), "{path}: {status} {body}");
    }
    // Any number is a valid cursor: a position in the key space, or one past its end.
    assert_eq!(get(at, &format!("/v1/caches/test/keys?cursor={}", u64::MAX)).await.0, 200);
    let mut random = fastrand_like(7);
    for round in 0..300 {
        let template = format!("GET /v1/caches/test/explain?key=k HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
        let mut bytes = template.into_bytes();
        for _ in 0..=round % 5 {
            let place = random() as usize % bytes.len();
            bytes[place] = random() as u8;
        }
        bytes.truncate(1 + random() as usize % bytes.len());
        let answer = raw(at, &bytes, Duration::from_millis(40)).await;
        assert!(!answer.starts_with("HTTP/1.1 5"), "{answer}: {}", String::from_utf8_lossy(&bytes));
    }
    assert_eq!(get(at, "/health/live").await.0, 200);
    stop(vec![a]).await;
}

/// Returns a small random generator. Its quality does not matter: these bytes only have to vary.
fn fastrand_like(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

const TOKEN: &str = "a-token-of-32-bytes-to-be-guessed";

/// Sends one request on a connection that is already open, and returns the status. `None`: the server closed it.
async fn status_on(stream: &mut TcpStream, request: &str) -> Option<u16> {
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await.ok()?.ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_answered_whatever_else_is_connected() {
    let a = node("http-crowd", &[]).await;
    let cache = open(&a);
    for n in 0..1_500 {
        cache.insert(format!("key-{n}-{}", "x".repeat(900)), "value".into()).unwrap();
    }
    let server = serve(&a).await;
    let at = server.local_addr();
    // First connections that never complete their head: they yield, and a page is served all the same.
    let mut halves = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(b"GET /v1/node HTTP/1.1\r\nHost: loc").await.unwrap();
        halves.push(stream);
    }
    assert_eq!((get(at, "/health/live").await.0, get(at, "/v1/node").await.0), (200, 200));
    // The server closes a connection whose head is not complete in two seconds.
    let last = halves.last_mut().unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(6), last.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok(), "a half head holds its connection");
    // Then requests whose large answers are never read: these keep their places, and the reserve answers.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let requests = format!("GET /v1/caches/test/keys?limit=1000 HTTP/1.1\r\nHost: {at}\r\n\r\n").repeat(12);
        stream.write_all(requests.as_bytes()).await.unwrap();
        // Its first answer has begun, so this connection yields to no other.
        stream.readable().await.unwrap();
        slow.push(stream);
    }
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(get(at, path).await.0, 200, "{path}");
    }
    assert_eq!(get(at, "/v1/node").await.0, 503, "the slow readers do hold every other place");
    drop(slow);
    eventually_status(at, "/v1/node", 200).await;
    stop(vec![a]).await;
}

async fn eventually_status(at: SocketAddr, path: &str, status: u16) {
    for _ in 0..100 {
        if get(at, path).await.0 == status {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} never answers {status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_checks_need_no_host_and_no_http_1_1() {
    let a = node("http-probes", &[]).await;
    let beyond = HttpConfig::new(([0, 0, 0, 0], 0).into()).token(TOKEN);
    let server = HttpServer::start(Inspector::new(&a), beyond).await.unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], server.local_addr().port()));
    for path in ["/health/live", "/health/ready"] {
        for rest in
            ["HTTP/1.0\r\n\r\n", "HTTP/1.1\r\nConnection: close\r\n\r\n", "HTTP/1.0\r\nHost: shop-3.internal\r\n\r\n"]
        {
            let mut stream = TcpStream::connect(at).await.unwrap();
            let request = format!("GET {path} {rest}");
            assert_eq!(status_on(&mut stream, &request).await, Some(200), "{request}");
        }
    }
    let mut stream = TcpStream::connect(at).await.unwrap();
    assert_eq!(status_on(&mut stream, "GET /v1/node HTTP/1.0\r\n\r\n").await, Some(400), "data still needs a host");
    stop(vec![a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_the_headers_of_http_and_the_scheme_has_no_case() {
    let a = node("http-scheme", &[]).await;
    let config = HttpConfig::bind_host("localhost:0").token(TOKEN);
    let server = HttpServer::start(Inspector::new(&a), config).await.unwrap();
    let at = server.local_addr();
    assert!(at.is_ipv4() && at.ip().is_loopback());
    for (scheme, status) in [("Bearer", 200), ("bearer", 200), ("BEARER  ", 200), ("Basic", 401), ("Bearer-", 401)] {
        let headers = format!("Host: localhost:{}\r\nAuthorization: {scheme} {TOKEN}\r\n", at.port());
        assert_eq!(get_with(at, "/v1/node", &headers).await.0, status, "{scheme}");
    }
    let close = format!("Host: {at}\r\nConnection: close\r\n\r\n");
    let patience = Duration::from_secs(20);
    let unauthorized = raw(at, format!("GET /v1/node HTTP/1.1\r\n{close}").as_bytes(), patience).await;
    assert!(unauthorized.contains("www-authenticate: Bearer realm=\"driftless\"\r\n"), "{unauthorized}");
    let not_allowed = raw(at, format!("PUT /v1/node HTTP/1.1\r\n{close}").as_bytes(), patience).await;
    assert!(not_allowed.contains("allow: GET, HEAD\r\n"), "{not_allowed}");
    stop(vec![a]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_that_is_bound_is_a_host_and_a_bad_one_is_named() {
    let a = node("http-host", &[]).await;
    let start = |bind: &str| HttpServer::start(Inspector::new(&a), HttpConfig::bind_host(bind).token(TOKEN));
    for (bind, part) in [("localhost", "host:port"), ("no-such-host.invalid:7980", "does not resolve")] {
        let error = start(bind).await.unwrap_err().to_string();
        assert!(error.contains(bind) && error.contains(part), "{error}");
    }
    // An alias of this machine, which only the configuration makes a name of the server.
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned();
    if let Ok(server) = start(&format!("{name}:0")).await {
        let headers = |host: &str| format!("Host: {host}\r\nAuthorization: Bearer {TOKEN}\r\n");
        let at = server.local_addr();
        assert_eq!(get_with(at, "/v1/node", &headers(&name)).await.0, 200, "{name}");
        assert_eq!(get_with(at, "/v1/node", &headers("other.example")).await.0, 421);
    } else {
        println!("the name of this machine does not resolve: the host of a bound name was not tried");
    }
    stop(vec![a]).await;
}
