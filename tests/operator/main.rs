//! Tests of the programs that an operator runs beside a node: Prometheus, its alerts, a dashboard, and clients made from
//! the OpenAPI description. A tool that is not installed is skipped with a printed line; `.ci/run` installs them.

#[path = "../common/addresses.rs"]
mod addresses;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/http.rs"]
mod http;

mod contract;
mod deploy;
mod member;
mod names;
mod scrape;

use std::process::{Command, Stdio};

/// Returns true if a tool is installed. Prints a line if it is not.
fn has(tool: &str, consequence: &str) -> bool {
    let found = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let has = found.is_ok_and(|status| status.success());
    if !has {
        println!("no {tool} on this machine: {consequence}");
    }
    has
}

/// A member in a process of its own, which `scrape` kills and restarts. Not a test.
#[test]
#[ignore = "a process that another test starts"]
fn member_process() {
    member::run();
}
