//! The command of the README that starts three nodes, run as it stands there, on another address.
#![cfg(unix)]

mod common;

use common::{
    client::{Client, Reply},
    process::{BINARY, eventually},
};
use std::{
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

const SOON: Duration = Duration::from_secs(30);

/// The shell of the command and all that it started.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", "--", &format!("-{}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

#[test]
fn three_nodes_start_by_the_command_of_the_readme() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = ["README.md", "src/docs/sidecar.md", "crates/driftless-cli/README.md"];
    let commands = pages.map(|page| {
        let text = std::fs::read_to_string(root.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        assert!(text.contains("cargo install --locked --path crates/driftless-cli"), "{page}");
        let command = text.lines().find(|line| line.starts_with("for i in 1 2 3; do driftless serve"));
        command.unwrap_or_else(|| panic!("{page} starts no three nodes")).to_owned()
    });
    assert!(commands.iter().all(|command| *command == commands[0]), "{commands:#?}");

    let host = common::addresses::unused_host();
    let command = commands[0].replace("127.0.0.1", &host.to_string());
    let folder = Path::new(BINARY).parent().expect("a folder");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let script = format!("{command}\nwait");
    let shell =
        Command::new("sh").args(["-c", &script]).env("PATH", path).stdout(Stdio::null()).process_group(0).spawn();
    let _group = Group(shell.expect("a shell"));

    let node = |last: u16| SocketAddr::from((host, 6400 + last));
    for last in 1..=3 {
        eventually(SOON, || std::net::TcpStream::connect(node(last)).map(drop).map_err(|error| error.to_string()));
    }
    Client::connect(node(1)).expect(&["SET", "greeting", "hello"], Reply::ok());
    for last in 1..=3 {
        eventually(SOON, || Client::connect(node(last)).wants(&["GET", "greeting"], &Reply::bulk("hello")));
    }
}
