//! The reports that the commands print.

use super::{Result, http::Node};
use serde_json::Value;
use std::io::{self, Write};

/// Prints members, lag, entries and warnings.
pub fn status(node: &Node, out: &mut dyn Write) -> Result<bool> {
    let cluster = node.get("/v1/cluster")?;
    let mut warnings = Vec::new();
    writeln!(
        out,
        "{:<24} {:<16} {:>10} {:>10} {:>9} {:>9}",
        "node", "cache", "entries", "tombstones", "lag ms", "stale ms"
    )?;
    for member in list(&cluster["nodes"]) {
        warnings.extend(list(&member["warnings"]));
        for cache in list(&member["caches"]) {
            warnings.extend(list(&cache["warnings"]));
            let live: Vec<_> = list(&cache["peers"]).iter().filter(|peer| peer["live"] == true).collect();
            // A member that has sent no message yet has no value, which is shown as `-` and not as zero.
            let most = |field: &str| {
                let each = live.iter().map(|peer| peer[field].as_u64());
                each.collect::<Option<Vec<_>>>()
                    .map_or("-".into(), |all| all.into_iter().max().unwrap_or(0).to_string())
            };
            writeln!(
                out,
                "{:<24} {:<16} {:>10} {:>10} {:>9} {:>9}",
                text(&member["node"]),
                text(&cache["cache"]),
                cache["entries"].as_u64().unwrap_or(0),
                cache["tombstones"]["total"].as_u64().unwrap_or(0),
                most("lag_ms"),
                most("staleness_ms")
            )?;
        }
    }
    let silent = list(&cluster["silent"]);
    for name in silent {
        writeln!(out, "{}: does not answer", text(name))?;
    }
    for warning in &warnings {
        writeln!(out, "{} ({}): {}", text(&warning["name"]), text(&warning["about"]), text(&warning["text"]))?;
    }
    Ok(warnings.is_empty() && silent.is_empty())
}

/// Prints what every node holds for a key, and why.
pub fn explain(node: &Node, key: &str, out: &mut dyn Write) -> Result<bool> {
    let told = node.get(&format!("{}/explain?key={}", cache_path(node)?, escaped(key)))?;
    writeln!(out, "{}: {}", text(&told["agreement"]), text(&told["verdict"]))?;
    for held in list(&told["nodes"]) {
        writeln!(out, "  {:<24} {:<12} {}", text(&held["node"]), text(&held["state"]), text(&held["why"]))?;
        if let Some(stamp) = held["stamp"].as_str() {
            writeln!(out, "  {:<24} {:<12} written {stamp}, hash {}", "", "", text(&held["value_hash"]))?;
            writeln!(
                out,
                "  {:<24} {:<12} here since {} ({})",
                "",
                "",
                text(&held["arrival"]),
                text(&held["provenance"])
            )?;
        }
    }
    for line in list(&told["silent"]) {
        writeln!(out, "  {}", text(line))?;
    }
    Ok(told["agreement"] != "disagree")
}

/// Returns the member to compare with. A node can compare only itself with a member, so of two members one must be the
/// node that is asked.
fn other_than_asked(node: &Node, members: &[String]) -> Result<String> {
    let [one, other] = members else { return Ok(members.concat()) };
    let own = node.get("/v1/node")?;
    match text(&own["node"]) {
        asked if asked == one => Ok(other.clone()),
        asked if asked == other => Ok(one.clone()),
        asked => Err(format!("{} is the node {asked}: connect to {one} or {other} with --node", node.at()).into()),
    }
}

/// Prints the keys on which two members differ.
pub fn diff(node: &Node, members: &[String], out: &mut dyn Write) -> Result<bool> {
    let member = &other_than_asked(node, members)?;
    let path = format!("{}/diff?member={}", cache_path(node)?, escaped(member));
    let (mut examined, mut unexplained, mut cursor) = (0, 0, String::new());
    loop {
        let page = node.get(&format!("{path}{cursor}"))?;
        examined += page["examined"].as_u64().unwrap_or(0);
        for found in list(&page["differences"]) {
            unexplained += u64::from(found["reason"].is_null());
            print_difference(found, out)?;
        }
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={}", escaped(next));
    }
    writeln!(
        out,
        "{examined} keys examined, counting those of both sides; {unexplained} differences without a reason"
    )?;
    Ok(unexplained == 0)
}

fn print_difference(found: &Value, out: &mut dyn Write) -> io::Result<()> {
    let reason = found["reason"].as_str().unwrap_or("no reason is known");
    let [key, here, there] = ["key", "here", "there"].map(|field| text(&found[field]));
    writeln!(out, "{key}: {here} here, {there} there: {reason}")
}

/// Compares the whole key space with every member.
pub fn audit(node: &Node, out: &mut dyn Write) -> Result<bool> {
    let report = node.get(&format!("{}/audit", cache_path(node)?))?;
    for member in list(&report["members"]) {
        writeln!(
            out,
            "{}: {} keys, {} differences with a reason, {} without{}",
            text(&member["node"]),
            member["examined"],
            member["explained"],
            member["unexplained"],
            member["error"].as_str().map_or_else(String::new, |error| format!("; stopped: {error}"))
        )?;
        for found in list(&member["samples"]) {
            print_difference(found, out)?;
        }
    }
    let clean = report["clean"] == true;
    writeln!(out, "{}", if clean { "clean" } else { "NOT clean" })?;
    Ok(clean)
}

fn cache_path(node: &Node) -> Result<String> {
    if let Some(cache) = node.cache() {
        return Ok(format!("/v1/caches/{}", escaped(cache)));
    }
    match list(&node.get("/v1/caches")?) {
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
