//! The commands by which clients set up a connection.

use super::{Command, CommandError, NO_MULTI, NOT_QUEUED, OPEN, Outcome, SUBSCRIBED, kept, lower, plain, pubsub};
use crate::serve::{
    info,
    reply::{Output, Protocol},
    request::integer,
    session::Session,
};

pub const COMMANDS: &[Command] = &[
    plain("ping", -1, SUBSCRIBED, "Returns PONG, or the message.", ping),
    plain("echo", 2, 0, "Returns the message.", echo),
    plain("hello", -1, OPEN | NO_MULTI, "Chooses the version of the protocol.", hello),
    plain("auth", -2, OPEN | NO_MULTI, "Sends the password.", auth),
    plain("select", 2, 0, "Selects a database.", select),
    plain("reset", 1, OPEN | NOT_QUEUED | SUBSCRIBED, "Returns the connection to its first state.", reset),
    plain("quit", -1, OPEN | NOT_QUEUED | SUBSCRIBED, "Closes the connection.", quit),
];

fn ping(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    if arguments.len() > 2 {
        return Err(CommandError::WrongArity("ping".to_owned()));
    }
    pubsub::pong(session, arguments.get(1).copied(), output);
    Ok(())
}

fn echo(_: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    output.bulk(arguments[1]);
    Ok(())
}

/// The options of `HELLO`, checked before any of them takes effect.
#[derive(Default)]
struct Greeting<'a> {
    protocol: Option<Protocol>,
    password: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

impl<'a> Greeting<'a> {
    fn parse(words: &[&'a [u8]]) -> Result<Self, CommandError> {
        let mut greeting = Self::default();
        let [version, options @ ..] = words else { return Ok(greeting) };
        greeting.protocol = Some(match integer(version) {
            Some(2) => Protocol::Two,
            Some(3) => Protocol::Three,
            Some(_) => return Err(CommandError::Other("NOPROTO unsupported protocol version")),
            None => return Err(CommandError::Other("ERR Protocol version is not an integer or out of range")),
        });
        let mut options = options;
        while let [option, rest @ ..] = options {
            options = match (lower(option).as_slice(), rest) {
                (b"auth", [user, password, rest @ ..]) => {
                    greeting.password = Some((user, password));
                    rest
                }
                (b"setname", [name, rest @ ..]) => {
                    greeting.name = Some(name);
                    rest
                }
                _ => {
                    let option = super::printable(option);
                    return Err(CommandError::Told(format!("ERR Syntax error in HELLO option '{option}'")));
                }
            };
        }
        Ok(greeting)
    }
}

fn hello(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let greeting = Greeting::parse(&arguments[1..])?;
    if let Some((user, password)) = greeting.password {
        authenticate(session, user, password)?;
    }
    if !session.is_authenticated {
        return Err(CommandError::Other(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = greeting.name {
        super::client::set_name(session, name)?;
    }
    if let Some(protocol) = greeting.protocol {
        session.protocol = protocol;
        output.protocol = protocol;
        session.profile(|profile| profile.protocol = protocol);
    }
    output.map(7);
    for (field, value) in [("server", "redis"), ("version", info::REDIS_VERSION)] {
        output.bulk(field.as_bytes());
        output.bulk(value.as_bytes());
    }
    output.bulk(b"proto");
    output.integer(if output.protocol == Protocol::Three { 3 } else { 2 });
    output.bulk(b"id");
    output.count(session.client.id);
    for (field, value) in [("mode", "standalone"), ("role", "master")] {
        output.bulk(field.as_bytes());
        output.bulk(value.as_bytes());
    }
    output.bulk(b"modules");
    output.array(0);
    Ok(())
}

fn auth(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    match arguments[1..] {
        [password] => authenticate(session, b"default", password)?,
        [user, password] => authenticate(session, user, password)?,
        _ => return Err(CommandError::Syntax),
    }
    output.simple("OK");
    Ok(())
}

fn authenticate(session: &mut Session, user: &[u8], password: &[u8]) -> Outcome {
    let Some(wanted) = &session.shared.settings.password else {
        return Err(CommandError::Other(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        ));
    };
    if user != b"default" || !are_same(wanted.as_bytes(), password) {
        return Err(CommandError::Other("WRONGPASS invalid username-password pair or user is disabled."));
    }
    session.is_authenticated = true;
    Ok(())
}

/// Compares a password in a time that depends on the given one alone.
fn are_same(wanted: &[u8], given: &[u8]) -> bool {
    let at = |index: usize| wanted.get(index % wanted.len().max(1)).copied().unwrap_or(0);
    let differences = given.iter().enumerate().fold(0, |all, (index, byte)| all | (byte ^ at(index)));
    std::hint::black_box(differences) == 0 && wanted.len() == given.len()
}

fn select(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let number = integer(arguments[1]).ok_or(CommandError::Other("ERR invalid DB index"))?;
    let databases = session.shared.databases.len();
    let number = usize::try_from(number).ok().filter(|number| *number < databases);
    session.database = number.ok_or_else(|| {
        CommandError::Told(format!("ERR DB index is out of range: this server has {databases}, from 0"))
    })?;
    session.profile(|profile| profile.database = session.database);
    output.simple("OK");
    Ok(())
}

fn reset(session: &mut Session, _: &[&[u8]], output: &mut Output) -> Outcome {
    session.reset();
    output.protocol = Protocol::Two;
    output.simple("RESET");
    Ok(())
}

fn quit(session: &mut Session, _: &[&[u8]], output: &mut Output) -> Outcome {
    session.closing = true;
    output.simple("OK");
    Ok(())
}

/// Returns a copy of a name or library, which must be printable.
pub fn label(text: &[u8], what: &'static str) -> Result<bytes::Bytes, CommandError> {
    if text.iter().all(u8::is_ascii_graphic) { Ok(kept(text)) } else { Err(CommandError::Other(what)) }
}

#[cfg(test)]
mod tests {
    use super::are_same;

    #[test]
    fn passwords_are_compared_whole() {
        assert!(are_same(b"secret", b"secret"));
        for other in [&b""[..], b"secre", b"secrets", b"secret\0", b"secretsecret", b"Secret"] {
            assert!(!are_same(b"secret", other), "{other:?}");
        }
        assert!(!are_same(b"", b"x"));
    }
}
