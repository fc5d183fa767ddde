//! A command line client of the debug interface of a running node.
//!
//! ```sh
//! cargo run --release --example sidecar --features inspect-http -- --http 127.0.0.1:7980 &
//! cargo run --release --example inspect -- status
//! cargo run --release --example inspect -- explain greeting
//! cargo run --release --example inspect -- diff OTHER-NODE              # or: diff THIS-NODE OTHER-NODE
//! cargo run --release --example inspect -- audit
//! cargo run --release --example inspect -- watch
//! ```
//!
//! The variable DRIFTLESS_HTTP_TOKEN holds the token.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Inspects a running node through its debug interface
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address of the node's debug interface
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7980", global = true)]
    node: SocketAddr,
    /// Name of the cache [default: the only cache that is open there]
    #[arg(long, global = true)]
    cache: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show members, lag, entries and warnings; fails if there are warnings
    Status,
    /// Show what every node holds for a key, and why; fails if nodes disagree
    Explain { key: String },
    /// List the keys on which the node and a member, or these two members, differ; fails if a difference has no reason
    Diff {
        #[arg(num_args = 1..=2, required = true, value_name = "MEMBER")]
        members: Vec<String>,
    },
    /// Show the status once a second
    Watch,
    /// Compare the whole key space with every member; fails if a difference has no reason
    Audit,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("inspect: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool> {
    match &arguments.command {
        Command::Status => status(arguments),
        Command::Watch => loop {
            print!("\x1b[2J\x1b[H");
            if let Err(error) = status(arguments) {
                println!("{error}");
            }
            std::thread::sleep(Duration::from_secs(1));
        },
        Command::Explain { key } => explain(arguments, key),
        Command::Diff { members } => diff(arguments, &other_than_asked(arguments, members)?),
        Command::Audit => audit(arguments),
    }
}

fn status(arguments: &Arguments) -> Result<bool> {
    let cluster = get(arguments, "/v1/cluster")?;
    let mut warnings = Vec::new();
    println!("{:<24} {:<16} {:>10} {:>10} {:>9} {:>9}", "node", "cache", "entries", "tombstones", "lag ms", "stale ms");
    for node in list(&cluster["nodes"]) {
        warnings.extend(list(&node["warnings"]));
        for cache in list(&node["caches"]) {
            warnings.extend(list(&cache["warnings"]));
            let live: Vec<_> = list(&cache["peers"]).iter().filter(|peer| peer["live"] == true).collect();
            // A member that has sent no message yet has no value, which is shown as `-` and not as zero.
            let most = |field: &str| {
                let each = live.iter().map(|peer| peer[field].as_u64());
                each.collect::<Option<Vec<_>>>()
                    .map_or("-".into(), |all| all.into_iter().max().unwrap_or(0).to_string())
            };
            println!(
                "{:<24} {:<16} {:>10} {:>10} {:>9} {:>9}",
                text(&node["node"]),
                text(&cache["cache"]),
                cache["entries"].as_u64().unwrap_or(0),
                cache["tombstones"]["total"].as_u64().unwrap_or(0),
                most("lag_ms"),
                most("staleness_ms")
            );
        }
    }
    let silent = list(&cluster["silent"]);
    silent.iter().for_each(|name| println!("{}: does not answer", text(name)));
    for warning in &warnings {
        println!("{} ({}): {}", text(&warning["name"]), text(&warning["about"]), text(&warning["text"]));
    }
    Ok(warnings.is_empty() && silent.is_empty())
}

fn explain(arguments: &Arguments, key: &str) -> Result<bool> {
    let told = get(arguments, &format!("{}/explain?key={}", cache_path(arguments)?, escaped(key)))?;
    println!("{}: {}", text(&told["agreement"]), text(&told["verdict"]));
    for held in list(&told["nodes"]) {
        println!("  {:<24} {:<12} {}", text(&held["node"]), text(&held["state"]), text(&held["why"]));
        if let Some(stamp) = held["stamp"].as_str() {
            println!("  {:<24} {:<12} written {stamp}, hash {}", "", "", text(&held["value_hash"]));
            println!("  {:<24} {:<12} here since {} ({})", "", "", text(&held["arrival"]), text(&held["provenance"]));
        }
    }
    list(&told["silent"]).iter().for_each(|line| println!("  {}", text(line)));
    Ok(told["agreement"] != "disagree")
}

/// Returns the member to compare with. A node can compare only itself with a member, so of two members one must be the
/// node that is asked.
fn other_than_asked(arguments: &Arguments, members: &[String]) -> Result<String> {
    let [one, other] = members else { return Ok(members.concat()) };
    let node = get(arguments, "/v1/node")?;
    match text(&node["node"]) {
        asked if asked == one => Ok(other.clone()),
        asked if asked == other => Ok(one.clone()),
        asked => Err(format!("{} is the node {asked}: connect to {one} or {other} with --node", arguments.node).into()),
    }
}

fn diff(arguments: &Arguments, member: &str) -> Result<bool> {
    let path = format!("{}/diff?member={}", cache_path(arguments)?, escaped(member));
    let (mut examined, mut unexplained, mut cursor) = (0, 0, String::new());
    loop {
        let page = get(arguments, &format!("{path}{cursor}"))?;
        examined += page["examined"].as_u64().unwrap_or(0);
        for found in list(&page["differences"]) {
            unexplained += u64::from(found["reason"].is_null());
            print_difference(found);
        }
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={}", escaped(next));
    }
    println!("{examined} keys examined, counting those of both sides; {unexplained} differences without a reason");
    Ok(unexplained == 0)
}

fn print_difference(found: &Value) {
    let reason = found["reason"].as_str().unwrap_or("no reason is known");
    println!("{}: {} here, {} there: {reason}", text(&found["key"]), text(&found["here"]), text(&found["there"]));
}

fn audit(arguments: &Arguments) -> Result<bool> {
    let report = get(arguments, &format!("{}/audit", cache_path(arguments)?))?;
    for member in list(&report["members"]) {
        println!(
            "{}: {} keys, {} differences with a reason, {} without{}",
            text(&member["node"]),
            member["examined"],
            member["explained"],
            member["unexplained"],
            member["error"].as_str().map_or_else(String::new, |error| format!("; stopped: {error}"))
        );
        list(&member["samples"]).iter().for_each(print_difference);
    }
    let clean = report["clean"] == true;
    println!("{}", if clean { "clean" } else { "NOT clean" });
    Ok(clean)
}

fn cache_path(arguments: &Arguments) -> Result<String> {
    if let Some(cache) = &arguments.cache {
        return Ok(format!("/v1/caches/{}", escaped(cache)));
    }
    match list(&get(arguments, "/v1/caches")?) {
        [only] => Ok(format!("/v1/caches/{}", escaped(text(only)))),
        [] => Err("no cache is open there".into()),
        several => {
            let names: Vec<_> = several.iter().map(text).collect();
            Err(format!("--cache: one of {}", names.join(", ")).into())
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// Percent-encodes all bytes except those that are safe in any part of a URL.
fn escaped(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes().map(|byte| if safe(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Sends one request on one connection. The reply ends where the server closes the connection.
fn get(arguments: &Arguments, path: &str) -> Result<Value> {
    let at = arguments.node;
    let mut stream =
        TcpStream::connect_timeout(&at, Duration::from_secs(3)).map_err(|error| format!("{at}: {error}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let token = std::env::var("DRIFTLESS_HTTP_TOKEN")
        .map_or_else(|_| String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {at}\r\n{token}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer was cut off")?;
    let body: Value = serde_json::from_str(body).map_err(|error| format!("{at} did not answer with JSON: {error}"))?;
    if head.split(' ').nth(1) == Some("200") { Ok(body) } else { Err(text(&body["error"]).into()) }
}
