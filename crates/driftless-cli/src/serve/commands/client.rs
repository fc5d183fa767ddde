//! `CLIENT`: what a connection says of itself, and what it may do to others.

use super::{Command, CommandError, Outcome, connection::label, lower, name_of, plain, printable, tracking};
use crate::serve::{
    clients::Client,
    reply::Output,
    request::integer,
    session::{Session, Silence},
    sync::lock,
};
use std::sync::{Arc, atomic::Ordering::Relaxed};

pub const COMMANDS: &[Command] =
    &[plain("client", -2, 0, "Describes and changes connections; CLIENT HELP lists how.", client)];

const HELP: &[&str] = &[
    "CACHING (YES|NO)",
    "    Enable/disable tracking of the keys for next command in OPTIN/OPTOUT modes.",
    "GETNAME",
    "    Return the name of the current connection.",
    "GETREDIR",
    "    Return the client ID we are redirecting to when tracking is enabled.",
    "ID",
    "    Return the ID of the current connection.",
    "INFO",
    "    Return information about the current client connection.",
    "KILL <option> ...",
    "    Kill connections. Options are: ADDR <ip:port>, LADDR <ip:port>, ID <id>, USER default, TYPE (NORMAL|PUBSUB),",
    "    SKIPME (YES|NO).",
    "LIST [TYPE (NORMAL|PUBSUB)] [ID <id> ...]",
    "    Return information about client connections.",
    "NO-EVICT (ON|OFF)",
    "    Accepted: clients are never disconnected to free memory for data.",
    "NO-TOUCH (ON|OFF)",
    "    Reads of this connection do not count as uses.",
    "REPLY (ON|OFF|SKIP)",
    "    Control the replies sent to the current connection.",
    "SETINFO (LIB-NAME|LIB-VER) <text>",
    "    Set the name or version of the library of the current connection.",
    "SETNAME <name>",
    "    Assign the name <name> to the current connection.",
    "TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> ...] [OPTIN] [OPTOUT] [NOLOOP]",
    "    Control server assisted client side caching.",
    "TRACKINGINFO",
    "    Report tracking status for the current connection.",
];

/// Appends the help of a command with subcommands.
pub fn help(output: &mut Output, command: &str, lines: &[&str]) {
    output.array(lines.len() + 3);
    output.simple(&format!("{command} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| output.simple(line));
    output.simple("HELP");
    output.simple("    Print this help.");
}

fn client(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let (subcommand, rest) = (lower(arguments[1]), &arguments[2..]);
    match (subcommand.as_slice(), rest) {
        (b"help", []) => help(output, "CLIENT", HELP),
        (b"id", []) => output.count(session.client.id),
        (b"info", []) => output.text(&session.client.line("client|info")),
        (b"list", options) => list(session, options, output)?,
        (b"kill", options) if !options.is_empty() => kill(session, options, output)?,
        (b"getredir", []) => output.integer(tracking::redirect(session)),
        (b"trackinginfo", []) => tracking::info(session, output),
        (b"tracking", words) if !words.is_empty() => tracking::tracking(session, words, output)?,
        (b"caching", [choice]) => tracking::caching(session, choice, output)?,
        (b"reply", [choice]) => reply(session, choice, output)?,
        (
            b"help" | b"id" | b"info" | b"kill" | b"getredir" | b"trackinginfo" | b"tracking" | b"caching" | b"reply",
            _,
        ) => return Err(CommandError::WrongArity(format!("client|{}", printable(&subcommand)))),
        _ => return label_or_switch(session, &subcommand, arguments, output),
    }
    Ok(())
}

/// Answers the subcommands that set or return a property of the connection.
fn label_or_switch(session: &mut Session, subcommand: &[u8], arguments: &[&[u8]], output: &mut Output) -> Outcome {
    match (subcommand, &arguments[2..]) {
        (b"getname", []) => {
            let name = lock(&session.client.profile).name.clone();
            output.bulk_or_null((!name.is_empty()).then_some(&name));
            return Ok(());
        }
        (b"setname", [name]) => set_name(session, name)?,
        (b"setinfo", [field, value]) => set_info(session, field, value)?,
        (b"no-evict", [choice]) => {
            let on = is_on(choice)?;
            session.profile(|profile| profile.no_evict = on);
        }
        (b"no-touch", [choice]) => {
            session.no_touch = is_on(choice)?;
            session.profile(|profile| profile.no_touch = session.no_touch);
        }
        (b"getname" | b"setname" | b"setinfo" | b"no-evict" | b"no-touch", _) => {
            return Err(CommandError::WrongArity(format!("client|{}", printable(subcommand))));
        }
        (b"pause" | b"unpause" | b"unblock", _) => {
            return Err(CommandError::Other(
                "UNSUPPORTED no command waits for another here, and other nodes would not pause: use CLIENT KILL to end a connection",
            ));
        }
        _ => return Err(CommandError::UnknownSubcommand("CLIENT", printable(arguments[1]))),
    }
    output.simple("OK");
    Ok(())
}

fn is_on(choice: &[u8]) -> Result<bool, CommandError> {
    match lower(choice).as_slice() {
        b"on" => Ok(true),
        b"off" => Ok(false),
        _ => Err(CommandError::Syntax),
    }
}

/// Sets the name of the connection.
pub fn set_name(session: &Session, name: &[u8]) -> Outcome {
    let name = label(name, "ERR Client names cannot contain spaces, newlines or special characters.")?;
    session.profile(|profile| profile.name = name);
    Ok(())
}

fn set_info(session: &Session, field: &[u8], value: &[u8]) -> Outcome {
    let index = match lower(field).as_slice() {
        b"lib-name" => 0,
        b"lib-ver" => 1,
        _ => {
            return Err(CommandError::Told(format!(
                "ERR Unrecognized option '{}': the options are LIB-NAME and LIB-VER",
                printable(field)
            )));
        }
    };
    let value = label(value, "ERR lib-name and lib-ver cannot contain spaces, newlines or special characters.")?;
    session.profile(|profile| profile.library[index] = value);
    Ok(())
}

fn reply(session: &mut Session, choice: &[u8], output: &mut Output) -> Outcome {
    session.silence = match lower(choice).as_slice() {
        b"on" => Silence::Off,
        b"off" => Silence::On,
        b"skip" if session.silence == Silence::Off => Silence::Next,
        b"skip" => session.silence,
        _ => return Err(CommandError::Syntax),
    };
    if session.silence == Silence::Off {
        output.simple("OK");
    }
    Ok(())
}

fn describe(client: &Client) -> String {
    client.line(name_of(client.last_command.load(Relaxed)))
}

fn list(session: &Session, options: &[&[u8]], output: &mut Output) -> Outcome {
    let clients = match (options.first().map(|word| lower(word)).as_deref(), options.get(1..).unwrap_or_default()) {
        (None, _) => session.shared.clients.all(),
        (Some(b"type"), [kind]) => of_type(session.shared.clients.all(), kind)?,
        (Some(b"id"), ids) if !ids.is_empty() => {
            let ids = ids.iter().map(|id| client_id(id)).collect::<Result<Vec<_>, _>>()?;
            ids.into_iter().filter_map(|id| session.shared.clients.get(id)).collect()
        }
        _ => return Err(CommandError::Syntax),
    };
    output.text(&clients.iter().map(|client| describe(client)).collect::<String>());
    Ok(())
}

fn client_id(digits: &[u8]) -> Result<u64, CommandError> {
    let id = integer(digits).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
    id.ok_or(CommandError::Other("ERR Invalid client ID"))
}

fn of_type(clients: Vec<Arc<Client>>, kind: &[u8]) -> Result<Vec<Arc<Client>>, CommandError> {
    let subscribed = match lower(kind).as_slice() {
        b"normal" => false,
        b"pubsub" => true,
        b"master" | b"replica" | b"slave" => return Ok(Vec::new()),
        _ => return Err(CommandError::Told(format!("ERR Unknown client type '{}'", printable(kind)))),
    };
    Ok(clients.into_iter().filter(|client| lock(&client.profile).subscribed == subscribed).collect())
}

fn kill(session: &mut Session, options: &[&[u8]], output: &mut Output) -> Outcome {
    let (mut clients, mut skip_me) = (session.shared.clients.all(), true);
    if let [address] = options {
        // The old form names an address, and may name the caller.
        clients.retain(|client| client.address.to_string().as_bytes() == *address);
        if clients.is_empty() {
            return Err(CommandError::Other("ERR No such client"));
        }
        kill_all(session, &clients);
        output.simple("OK");
        return Ok(());
    }
    let (pairs, []) = options.as_chunks::<2>() else { return Err(CommandError::Syntax) };
    for [option, value] in pairs {
        match lower(option).as_slice() {
            b"id" => {
                let id = client_id(value)?;
                clients.retain(|client| client.id == id);
            }
            b"addr" => clients.retain(|client| client.address.to_string().as_bytes() == *value),
            b"laddr" => clients.retain(|client| client.local.to_string().as_bytes() == *value),
            b"user" if *value == b"default" => {}
            b"user" => {
                return Err(CommandError::Told(format!("ERR No such user '{}'", printable(value))));
            }
            b"type" => clients = of_type(clients, value)?,
            b"maxage" => {
                let age = client_id(value)?;
                clients.retain(|client| client.connected.elapsed().as_secs() >= age);
            }
            b"skipme" if value.eq_ignore_ascii_case(b"yes") => skip_me = true,
            b"skipme" if value.eq_ignore_ascii_case(b"no") => skip_me = false,
            _ => return Err(CommandError::Syntax),
        }
    }
    clients.retain(|client| !(skip_me && client.id == session.client.id));
    kill_all(session, &clients);
    output.count(clients.len());
    Ok(())
}

fn kill_all(session: &mut Session, clients: &[Arc<Client>]) {
    for client in clients {
        if client.id == session.client.id {
            session.closing = true; // After the reply.
        } else {
            client.kill();
        }
    }
}
