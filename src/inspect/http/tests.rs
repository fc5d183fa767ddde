//! Tests of the debug interface over a socket, with a route that panics.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::node::Node;

async fn serve(router: Router<App>) -> (Node, SocketAddr) {
    let node = Node::builder().cluster("http-unit").start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let config = HttpConfig::new(addr);
    let app = Arc::new(Shared { inspector: Inspector::new(&node), config, heavy: Semaphore::new(1) });
    let router = guarded(router, &app).with_state(app);
    tokio::spawn(limits::serve(listener, 2, router));
    (node, addr)
}

async fn status(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_takes_nothing_down() {
    // scenario 95: a handler that panics fails its own request only, and the interface continues to answer.
    async fn bad() -> &'static str {
        panic!("on purpose")
    }
    let (node, addr) = serve(routes().route("/bad", get(bad))).await;
    for _ in 0..5 {
        assert!(status(addr, "/bad").await.contains("500"));
        assert!(status(addr, "/health/live").await.contains("200"));
    }
    node.shutdown().await;
}

#[tokio::test]
async fn beyond_loopback_a_token_is_needed() {
    // scenario 91: an address beyond loopback requires a token of at least 16 bytes.
    let beyond = SocketAddr::from(([0, 0, 0, 0], 0));
    let open = HttpConfig::new(beyond);
    assert!(matches!(check(&open, beyond), Err(HttpError::TokenRequired(_))));
    assert!(matches!(check(&open.clone().token("short"), beyond), Err(HttpError::ShortToken)));
    assert!(check(&open.clone().token("0123456789abcdef"), beyond).is_ok());
    assert!(check(&open, ([127, 0, 0, 1], 0).into()).is_ok());
    // scenario 92: the token does not appear in debug output.
    assert!(!format!("{:?}", open.token("0123456789abcdef")).contains("0123"));
}

/// The OpenAPI description lists exactly the fields of each answer.
#[test]
fn every_field_of_every_answer_is_described() {
    fn check<T: serde::Serialize + Default>(described: &serde_json::Value, name: &str) {
        let keys = |value: &serde_json::Value| -> std::collections::BTreeSet<String> {
            value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
        };
        let fields = keys(&serde_json::to_value(T::default()).unwrap());
        assert!(!fields.is_empty(), "{name} has no fields");
        assert_eq!(fields, keys(&described["components"]["schemas"][name]["properties"]), "{name}");
    }
    let described: serde_json::Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    check::<crate::report::CacheReport>(&described, "CacheReport");
    check::<crate::report::PeerReport>(&described, "PeerReport");
    check::<crate::report::SettingsDiffer>(&described, "SettingsDiffer");
    check::<crate::report::Seen>(&described, "Seen");
    check::<crate::report::TombstoneReport>(&described, "TombstoneReport");
    check::<crate::report::Repairs>(&described, "Repairs");
    check::<crate::report::NodeReport>(&described, "NodeReport");
    check::<crate::report::SeedReport>(&described, "SeedReport");
    check::<crate::report::IncidentReport>(&described, "IncidentReport");
    check::<crate::report::Warning>(&described, "Warning");
    check::<crate::report::Distribution>(&described, "Distribution");
    check::<crate::report::MemberReport>(&described, "MemberReport");
    check::<crate::report::Staleness>(&described, "Staleness");
    check::<crate::report::PeerStaleness>(&described, "PeerStaleness");
    check::<crate::report::AuditReport>(&described, "AuditReport");
    check::<crate::report::AuditedMember>(&described, "AuditedMember");
    check::<crate::report::DiffPage>(&described, "DiffPage");
    check::<crate::inspect::ClusterReport>(&described, "ClusterReport");
    check::<crate::inspect::KeysPage>(&described, "KeysPage");
    check::<crate::inspect::KeyLine>(&described, "KeyLine");
    check::<crate::report::NodePast>(&described, "NodePast");
    check::<crate::report::CachePast>(&described, "CachePast");
    check::<crate::report::NodeSample>(&described, "NodeSample");
    check::<crate::report::CacheSample>(&described, "CacheSample");
    check::<crate::report::HotKeys>(&described, "HotKeys");
    check::<crate::report::HotKey>(&described, "HotKey");
    check::<crate::report::TombstoneLine>(&described, "TombstoneLine");
    check::<crate::report::ProcessReport>(&described, "ProcessReport");
}
