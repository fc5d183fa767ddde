//! The checks that the authors of tower-sessions publish for stores, as they publish them: the macro `route_tests` in
//! the tests of their package. Nothing of it is copied here; the file is included from cargo's copy of the package.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The package that runs the checks. Its versions are those of this workspace's lock file.
const MANIFEST: &str = r#"
[package]
name = "published-checks"
version = "0.0.0"
edition = "2021"

[dev-dependencies]
axum = { version = "0.8", default-features = false }
axum-core = "0.5"
driftless = { path = "{root}" }
driftless-tower-sessions = { path = "{here}" }
http = "1"
http-body-util = "0.1"
time = "0.3"
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
tower = { version = "0.5", default-features = false, features = ["util"] }
tower-cookies = "0.11"
tower-sessions = { version = "0.15", default-features = false, features = ["axum-core"] }

[workspace]
"#;

/// The checks, on a store of a node of its own for each.
const TESTS: &str = r#"
#[macro_use]
#[path = "{checks}"]
mod common;

use axum::Router;
use driftless_tower_sessions::DriftlessStore;
use tower_sessions::SessionManagerLayer;

async fn app(max_age: Option<Duration>, domain: Option<String>) -> Router {
    let node = driftless::Node::builder().cluster("published").start().await.unwrap();
    let store = DriftlessStore::open(&node).unwrap();
    Box::leak(Box::new(node)); // it ends with the process
    common::build_app(SessionManagerLayer::new(store).with_secure(true), max_age, domain)
}

route_tests!(app);
"#;

fn cargo(arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(folder).output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "cargo {arguments:?}: {out}{errors}");
    out.into_owned()
}

/// Returns the file of the published checks, in cargo's copy of the package.
fn published(folder: &Path) -> PathBuf {
    let metadata: serde_json::Value =
        serde_json::from_str(&cargo(&["metadata", "--format-version=1"], folder)).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "tower-sessions").expect("a dependency");
    Path::new(package["manifest_path"].as_str().unwrap()).with_file_name("tests").join("common/mod.rs")
}

#[test]
#[ignore = "builds a package of its own: minutes the first time"]
fn the_published_checks_of_tower_sessions_pass() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).unwrap();
    let checks = published(here);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("published-checks");
    std::fs::create_dir_all(folder.join("tests")).unwrap();
    std::fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = MANIFEST.replace("{root}", root.to_str().unwrap()).replace("{here}", here.to_str().unwrap());
    std::fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(folder.join("src/lib.rs"), "").unwrap();
    std::fs::write(folder.join("tests/routes.rs"), TESTS.replace("{checks}", checks.to_str().unwrap())).unwrap();
    std::fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();

    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_str().unwrap();
    let output = cargo(&["test", "--test", "routes", "--target-dir", target], &folder);
    let expected = std::fs::read_to_string(&checks).unwrap().matches("#[tokio::test]").count();
    println!("{output}");
    assert!(expected > 0, "{} has no checks", checks.display());
    assert!(output.contains(&format!("test result: ok. {expected} passed; 0 failed; 0 ignored")), "{output}");
}
