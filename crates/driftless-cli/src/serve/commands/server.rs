//! The commands by which clients set up a connection, and people inspect the server.

use super::{Answer, Command, CommandError, all, bulk, count, kept, ok, printable, simple};
use crate::serve::{glob, info, request::integer, session::Session};
use redis_protocol::resp2::types::BytesFrame;

pub const COMMANDS: &[Command] = &[
    Command { name: "ping", arity: -1, writes: false, keys: (0, 0, 0), run: ping },
    Command { name: "echo", arity: 2, writes: false, keys: (0, 0, 0), run: echo },
    Command { name: "info", arity: -1, writes: false, keys: (0, 0, 0), run: info },
    Command { name: "hello", arity: -1, writes: false, keys: (0, 0, 0), run: hello },
    Command { name: "auth", arity: -2, writes: false, keys: (0, 0, 0), run: auth },
    Command { name: "select", arity: 2, writes: false, keys: (0, 0, 0), run: select },
    Command { name: "client", arity: -2, writes: false, keys: (0, 0, 0), run: client },
    Command { name: "config", arity: -2, writes: false, keys: (0, 0, 0), run: config },
    Command { name: "command", arity: -1, writes: false, keys: (0, 0, 0), run: command },
    Command { name: "reset", arity: 1, writes: false, keys: (0, 0, 0), run: reset },
    Command { name: "quit", arity: -1, writes: false, keys: (0, 0, 0), run: quit },
];

fn ping(_: &mut Session, arguments: &[&[u8]]) -> Answer {
    match arguments {
        [_] => Ok(simple("PONG")),
        [_, message] => Ok(bulk(kept(message))),
        _ => Err(CommandError::WrongArity("ping".to_owned())),
    }
}

fn echo(_: &mut Session, arguments: &[&[u8]]) -> Answer {
    Ok(bulk(kept(arguments[1])))
}

fn info(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    Ok(bulk(info::report(session.shared, &arguments[1..])))
}

/// Answers `HELLO`. Only protocol version 2 is supported. Clients that prefer version 3 fall back on this error, as
/// with old servers.
fn hello(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    if let [_, version, options @ ..] = arguments {
        match integer(version) {
            Some(2) => hello_options(session, options)?,
            Some(_) => return Err(CommandError::Other("NOPROTO unsupported protocol version")),
            None => return Err(CommandError::Other("ERR Protocol version is not an integer or out of range")),
        }
    }
    let fields = [
        ("server", bulk("redis")),
        ("version", bulk(info::REDIS_VERSION)),
        ("proto", BytesFrame::Integer(2)),
        ("id", count(session.id)),
        ("mode", bulk("standalone")),
        ("role", bulk("master")),
        ("modules", BytesFrame::Array(Vec::new())),
    ];
    Ok(BytesFrame::Array(fields.into_iter().flat_map(|(name, value)| [bulk(name), value]).collect()))
}

fn hello_options(session: &mut Session, options: &[&[u8]]) -> Result<(), CommandError> {
    match options {
        [] => Ok(()),
        [option, name] if option.eq_ignore_ascii_case(b"setname") => {
            session.name = kept(name);
            Ok(())
        }
        [option, ..] if option.eq_ignore_ascii_case(b"auth") => Err(NO_PASSWORD),
        _ => Err(CommandError::Syntax),
    }
}

const NO_PASSWORD: CommandError = CommandError::Other(
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
);

fn auth(_: &mut Session, _: &[&[u8]]) -> Answer {
    Err(NO_PASSWORD)
}

fn select(_: &mut Session, arguments: &[&[u8]]) -> Answer {
    match integer(arguments[1]) {
        Some(0) => Ok(ok()),
        Some(_) => Err(CommandError::Other("ERR DB index is out of range")),
        None => Err(CommandError::Other("ERR invalid DB index")),
    }
}

fn client(session: &mut Session, arguments: &[&[u8]]) -> Answer {
    match (lower(arguments[1]).as_slice(), &arguments[2..]) {
        (b"id", []) => Ok(count(session.id)),
        (b"getname", []) => Ok(bulk(session.name.clone())),
        (b"setname", [name]) => {
            session.name = kept(name);
            Ok(ok())
        }
        (b"setinfo", [_, _]) | (b"no-evict" | b"no-touch", [_]) => Ok(ok()),
        (b"id" | b"getname" | b"setname" | b"setinfo", _) => Err(CommandError::WrongArity("client".to_owned())),
        _ => Err(unknown_subcommand("CLIENT", arguments[1])),
    }
}

/// The settings that redis-benchmark and some clients query. Nothing is ever saved to disk.
const SETTINGS: &[(&str, &str)] = &[
    ("appendonly", "no"),
    ("databases", "1"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "allkeys-lru"),
    ("save", ""),
    ("timeout", "0"),
];

fn config(_: &mut Session, arguments: &[&[u8]]) -> Answer {
    match (lower(arguments[1]).as_slice(), &arguments[2..]) {
        (b"get", patterns @ [_, ..]) => Ok(settings(patterns)),
        (b"resetstat", []) => Ok(ok()),
        (b"set", [_, _, ..]) => Err(CommandError::Other("ERR settings are command line flags of this server")),
        (b"get" | b"set" | b"resetstat", _) => Err(CommandError::WrongArity("config".to_owned())),
        _ => Err(unknown_subcommand("CONFIG", arguments[1])),
    }
}

fn settings(patterns: &[&[u8]]) -> BytesFrame {
    let wanted = |name: &str| patterns.iter().any(|pattern| glob::matches(&lower(pattern), name.as_bytes()));
    let found = SETTINGS.iter().filter(|(name, _)| wanted(name));
    BytesFrame::Array(found.flat_map(|&(name, value)| [bulk(name), bulk(value)]).collect())
}

fn command(_: &mut Session, arguments: &[&[u8]]) -> Answer {
    let Some(subcommand) = arguments.get(1) else { return Ok(BytesFrame::Array(all().map(describe).collect())) };
    match lower(subcommand).as_slice() {
        b"count" => Ok(count(all().count())),
        b"docs" => Ok(BytesFrame::Array(Vec::new())),
        b"list" => Ok(BytesFrame::Array(all().map(|command| bulk(command.name)).collect())),
        b"info" => Ok(BytesFrame::Array(arguments[2..].iter().map(|name| describe_by_name(name)).collect())),
        _ => Err(unknown_subcommand("COMMAND", subcommand)),
    }
}

fn describe_by_name(name: &[u8]) -> BytesFrame {
    super::find(name).map_or(BytesFrame::Null, describe)
}

fn describe(command: &Command) -> BytesFrame {
    let (first, last, step) = command.keys;
    BytesFrame::Array(vec![
        bulk(command.name),
        BytesFrame::Integer(command.arity),
        BytesFrame::Array(vec![simple(if command.writes { "write" } else { "readonly" })]),
        BytesFrame::Integer(first),
        BytesFrame::Integer(last),
        BytesFrame::Integer(step),
    ])
}

fn reset(session: &mut Session, _: &[&[u8]]) -> Answer {
    session.name = kept(b"");
    Ok(simple("RESET"))
}

fn quit(session: &mut Session, _: &[&[u8]]) -> Answer {
    session.closing = true;
    Ok(ok())
}

fn lower(word: &[u8]) -> Vec<u8> {
    word.to_ascii_lowercase()
}

fn unknown_subcommand(command: &str, subcommand: &[u8]) -> CommandError {
    CommandError::Unknown(format!("{command} {}", printable(subcommand)))
}
