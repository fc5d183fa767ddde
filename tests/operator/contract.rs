//! Schemathesis calls every route of the OpenAPI description with valid and invalid input.

use std::process::Command;

use driftless::inspect::Inspector;
use driftless::inspect::http::{HttpConfig, HttpServer};

use crate::common::{cluster, stop};
use crate::has;

const TOKEN: &str = "a-token-of-32-bytes-for-schemathesis";

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_failure() {
    // `.ci/run` installs it into an environment of its own.
    let tool = std::env::var("SCHEMATHESIS").unwrap_or_else(|_| "schemathesis".into());
    if !has(&tool, "the routes were not compared with their OpenAPI description") {
        return;
    }
    let (nodes, caches) = cluster("contract", 2).await;
    for number in 0..50 {
        caches[0].insert(format!("key-{number}"), "value".into()).unwrap();
    }
    let config = HttpConfig::new(([127, 0, 0, 1], 0).into()).token(TOKEN);
    let server = HttpServer::start(Inspector::new(&nodes[0]), config).await.unwrap();
    let base = format!("http://{}", server.local_addr());
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(&tool);
    command.args(["run", &format!("{base}/v1/openapi.json"), "--url", &base]);
    command.args(["--header", &format!("Authorization: Bearer {TOKEN}"), "--max-examples", "30", "--seed", "1"]);
    command.args(["--workers", "1", "--no-color"]).current_dir(folder.path());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("generated"), "it has tried something: {said}");
    stop(nodes).await;
}
