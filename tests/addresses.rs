//! Tests of the addresses that tests choose: `tests/common/addresses.rs`, and that no test chooses them in another way.

#[path = "common/addresses.rs"]
mod addresses;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use addresses::{Purpose, claim, from_kernel, is_free, ports_of, unused, unused_host, unused_on, unused_port};

#[test]
fn every_call_returns_another_address_outside_the_ports_of_the_kernel() {
    let mut seen = BTreeSet::new();
    let host = unused_host();
    for address in (0..20).map(|_| unused()).chain((0..20).map(|_| unused_on(host))) {
        assert!(seen.insert(address), "{address} twice");
        assert!(address.ip().is_loopback() && address.ip() != IpAddr::from([127, 0, 0, 1]), "{address}");
        assert!(!from_kernel().contains(&address.port()), "{address}");
    }
    let single = ports_of(Purpose::OneAddress);
    assert!(seen.iter().all(|address| single.contains(&address.port())));
    for port in (0..20).map(|_| unused_port()) {
        assert!(seen.insert((Ipv4Addr::UNSPECIFIED, port).into()), "{port} twice");
        assert!(!from_kernel().contains(&port), "{port}");
        assert!(!single.contains(&port), "a listener on every address would take {port} from a single address");
    }
    for address in seen {
        drop((TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap()));
    }
}

#[test]
fn an_address_is_free_if_no_process_listens_by_either_protocol() {
    let (local, port) = (Ipv4Addr::LOCALHOST, unused_port());
    for host in [local, Ipv4Addr::UNSPECIFIED] {
        assert!(is_free(host.into(), port));
        let tcp = TcpListener::bind((local, port)).unwrap();
        assert!(!is_free(host.into(), port), "TCP at {host}");
        drop(tcp);
        let udp = UdpSocket::bind((local, port)).unwrap();
        assert!(!is_free(host.into(), port), "UDP at {host}");
        drop(udp);
    }
}

/// Checks that processes with equal numbers get different addresses: a claim holds in every process, until it ends.
#[cfg(target_os = "linux")]
#[test]
fn a_claim_of_another_process_holds_until_it_ends() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["a_process_with_a_claim", "--exact", "--ignored", "--nocapture"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let name = output.lines().map_while(Result::ok).find_map(|line| Some(line.split_once("claims ")?.1.to_owned()));
    let name = name.expect("it has claimed an address");
    assert!(!claim(&name), "{name} belongs to the other process");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(claim(&name), "{name} is free again");
    assert!(!claim(&name), "and now it is taken here");
}

/// Is no test of its own: it is the other process of the test above.
#[test]
#[ignore = "a process that another test starts"]
fn a_process_with_a_claim() {
    println!("claims {}", unused_host());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Returns the lines that take an address from the kernel and close its socket in the same statement.
fn released(path: &Path, text: &str) -> Vec<String> {
    let statements = text.split_inclusive([';', '{', '}']);
    let mut line = 1;
    let mut found = Vec::new();
    for statement in statements {
        if let Some((_, rest)) = statement.split_once("::bind(")
            && rest.contains("local_addr()")
        {
            found.push(format!("{}:{line}: {}", path.display(), statement.trim()));
        }
        line += statement.matches('\n').count();
    }
    found
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") && !path.ends_with("tests/addresses.rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_test_takes_an_address_from_the_kernel_and_releases_it() {
    let mut paths = Vec::new();
    ["tests", "examples", "benches", "crates"].iter().for_each(|folder| sources(Path::new(folder), &mut paths));
    assert!(paths.len() > 100, "{} files", paths.len());
    let found: Vec<_> = paths.iter().flat_map(|path| released(path, &std::fs::read_to_string(path).unwrap())).collect();
    assert!(found.is_empty(), "use `tests/common/addresses.rs`:\n{}", found.join("\n"));
    let kept = "let socket = TcpListener::bind(\"127.0.0.1:0\").unwrap();\nlet addr = socket.local_addr().unwrap();";
    let bad = "let a = 1;\nlet addr = TcpListener::bind(\"127.0.0.1:0\")\n    .unwrap().local_addr().unwrap();";
    assert_eq!((released(Path::new("a"), kept).len(), released(Path::new("a"), bad).len()), (0, 1));
}
