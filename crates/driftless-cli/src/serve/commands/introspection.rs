//! `COMMAND`: the table of commands, as redis-cli and client libraries read it.

use super::{Command, CommandError, OPEN, Outcome, READ, WRITE, all, find, lower, plain, printable};
use crate::serve::{glob, reply::Output, session::Session};

pub const COMMANDS: &[Command] = &[plain("command", -1, 0, "Describes the commands of this server.", command)];

const HELP: &[&str] = &[
    "(no subcommand)",
    "    Return details about all commands.",
    "COUNT",
    "    Return the total number of commands.",
    "LIST [FILTERBY PATTERN <pattern>]",
    "    Return the names of all commands.",
    "INFO [<command-name> ...]",
    "    Return details about commands.",
    "DOCS [<command-name> ...]",
    "    Return the summaries of commands.",
    "GETKEYS <full-command>",
    "    Return the keys from a full command.",
];

fn command(_: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let Some(subcommand) = arguments.get(1) else {
        describe_all(output);
        return Ok(());
    };
    match (lower(subcommand).as_slice(), &arguments[2..]) {
        (b"help", []) => super::client::help(output, "COMMAND", HELP),
        (b"count", []) => output.count(all().count()),
        (b"info", []) => describe_all(output),
        (b"info", names) => {
            output.array(names.len());
            names.iter().for_each(|name| match find(name) {
                Some((_, command)) => describe(command, output),
                None => output.null_array(),
            });
        }
        (b"docs", names) => docs(names, output),
        (b"list", []) => list(b"*", output),
        (b"list", [by, kind, pattern])
            if by.eq_ignore_ascii_case(b"filterby") && kind.eq_ignore_ascii_case(b"pattern") =>
        {
            list(pattern, output);
        }
        (b"list", _) => return Err(CommandError::Syntax),
        (b"getkeys", words @ [_, ..]) => keys(words, output)?,
        (b"help" | b"count" | b"getkeys", _) => {
            return Err(CommandError::WrongArity(format!("command|{}", printable(&lower(subcommand)))));
        }
        _ => return Err(CommandError::UnknownSubcommand("COMMAND", printable(subcommand))),
    }
    Ok(())
}

fn describe_all(output: &mut Output) {
    output.array(all().count());
    all().for_each(|(_, command)| describe(command, output));
}

fn list(pattern: &[u8], output: &mut Output) {
    let found: Vec<_> = all().filter(|(_, command)| glob::matches(&lower(pattern), command.name.as_bytes())).collect();
    output.array(found.len());
    found.iter().for_each(|(_, command)| output.bulk(command.name.as_bytes()));
}

/// Appends the details of a command, in the ten elements of Redis 7.
fn describe(command: &Command, output: &mut Output) {
    let (first, last, step) = command.keys;
    let flags = [
        (command.flags & WRITE != 0, "write"),
        (command.flags & READ != 0, "readonly"),
        (command.flags & OPEN != 0, "no_auth"),
        (command.keys.0 == 1, "fast"),
    ];
    let flags: Vec<_> = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| *flag).collect();
    output.array(10);
    output.bulk(command.name.as_bytes());
    output.integer(command.arity);
    output.set(flags.len());
    flags.iter().for_each(|flag| output.simple(flag));
    output.integer(first);
    output.integer(last);
    output.integer(step);
    for _ in ["categories", "tips", "key specifications", "subcommands"] {
        output.array(0);
    }
}

fn docs(names: &[&[u8]], output: &mut Output) {
    let found: Vec<_> = match names {
        [] => all().map(|(_, command)| command).collect(),
        names => names.iter().filter_map(|name| find(name)).map(|(_, command)| command).collect(),
    };
    output.map(found.len());
    for command in found {
        output.bulk(command.name.as_bytes());
        output.map(2);
        output.bulk(b"summary");
        output.bulk(command.summary.as_bytes());
        output.bulk(b"group");
        output.bulk(if command.keys.0 == 0 { b"server" } else { b"string" });
    }
}

fn keys(words: &[&[u8]], output: &mut Output) -> Outcome {
    let (_, command) = find(words[0]).ok_or(CommandError::Other("ERR Invalid command specified"))?;
    if !command.takes(words.len()) {
        return Err(CommandError::Other("ERR Invalid number of arguments specified for command"));
    }
    let keys: Vec<_> = command.keys_of(words).collect();
    if keys.is_empty() {
        return Err(CommandError::Other("ERR The command has no key arguments"));
    }
    output.array(keys.len());
    keys.iter().for_each(|key| output.bulk(key));
    Ok(())
}
