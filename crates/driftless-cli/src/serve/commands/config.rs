//! `CONFIG`: the settings that clients ask for, under the names that they have in Redis.

use super::{Command, CommandError, Outcome, lower, plain, printable};
use crate::serve::{glob, reply::Output, session::Session};

pub const COMMANDS: &[Command] = &[plain("config", -2, 0, "Returns settings, under their names in Redis.", config)];

const HELP: &[&str] = &["GET <pattern> [<pattern> ...]", "    Return the settings whose names match a pattern."];

/// Returns the settings that apply, by name. Nothing is ever saved to disk.
fn settings(session: &Session) -> Vec<(&'static str, String)> {
    let settings = &session.shared.settings;
    let cache = session.cache().settings();
    let policy = match (cache.max_capacity, cache.eviction) {
        (None, _) => "noeviction",
        (Some(_), driftless::Eviction::Lru) => "allkeys-lru",
        (Some(_), _) => "allkeys-lfu",
    };
    let limit = settings.max_output_bytes;
    let timeout = settings.write_timeout.as_secs();
    vec![
        ("appendonly", "no".to_owned()),
        ("bind", session.shared.redis.ip().to_string()),
        ("client-output-buffer-limit", format!("normal {limit} 0 {timeout}")),
        ("client-query-buffer-limit", settings.max_input_bytes.to_string()),
        ("databases", session.shared.databases.len().to_string()),
        ("maxclients", settings.max_clients.to_string()),
        ("maxmemory", "0".to_owned()),
        ("maxmemory-policy", policy.to_owned()),
        ("port", session.shared.redis.port().to_string()),
        ("proto-max-bulk-len", settings.max_request_bytes.to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
        ("tracking-table-max-keys", settings.tracking_keys.to_string()),
    ]
}

fn config(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    match (lower(arguments[1]).as_slice(), &arguments[2..]) {
        (b"help", []) => super::client::help(output, "CONFIG", HELP),
        (b"get", patterns @ [_, ..]) => {
            let wanted = |name: &str| patterns.iter().any(|pattern| glob::matches(&lower(pattern), name.as_bytes()));
            let found: Vec<_> = settings(session).into_iter().filter(|(name, _)| wanted(name)).collect();
            output.map(found.len());
            for (name, value) in found {
                output.bulk(name.as_bytes());
                output.bulk(value.as_bytes());
            }
        }
        (b"set" | b"rewrite" | b"resetstat", _) => {
            return Err(CommandError::Other(
                "UNSUPPORTED settings are flags, variables and a file of this process, and counters only rise: see `driftless serve --help`",
            ));
        }
        (b"get" | b"help", _) => return Err(CommandError::WrongArity("config|get".to_owned())),
        _ => return Err(CommandError::UnknownSubcommand("CONFIG", printable(arguments[1]))),
    }
    Ok(())
}
