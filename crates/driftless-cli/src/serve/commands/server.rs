//! The commands about the server as a whole.

use super::{Command, CommandError, NO_MULTI, Outcome, lower, plain, printable, write};
use crate::serve::{
    info,
    reply::Output,
    request::integer,
    session::{Session, Wait},
};
use std::time::Duration;

pub const COMMANDS: &[Command] = &[
    plain("info", -1, 0, "Returns the state of the server, in sections.", report),
    plain("time", 1, 0, "Returns the time of day of this node.", time),
    plain("wait", 3, NO_MULTI, "Waits until this many other nodes have the writes of this node.", wait),
    plain("driftless", -2, NO_MULTI, "Declares with FORGET that a member will not return.", own),
    plain("role", 1, 0, "Returns master: every node accepts writes.", role),
    plain("module", -2, 0, "Returns no modules.", module),
];

fn report(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    output.text(&info::report(session.shared, &arguments[1..]));
    Ok(())
}

fn time(_: &mut Session, _: &[&[u8]], output: &mut Output) -> Outcome {
    let now = write::now();
    output.array(2);
    output.bulk(now.as_secs().to_string().as_bytes());
    output.bulk(now.subsec_micros().to_string().as_bytes());
    Ok(())
}

/// The longest wait, for a time limit of 0.
const FOR_EVER: Duration = Duration::from_secs(365 * 86_400);

/// Makes the connection wait before it runs its next request.
fn wait(session: &mut Session, arguments: &[&[u8]], _: &mut Output) -> Outcome {
    let number = |digits: &[u8]| integer(digits).ok_or(CommandError::NotAnInteger);
    let members = usize::try_from(number(arguments[1])?).map_err(|_| CommandError::NotAnInteger)?;
    let millis = number(arguments[2])?;
    let millis = u64::try_from(millis).map_err(|_| CommandError::Other("ERR timeout is negative"))?;
    let timeout = if millis == 0 { FOR_EVER } else { Duration::from_millis(millis).min(FOR_EVER) };
    session.waiting = Some(Wait { members, timeout });
    Ok(())
}

/// Runs the commands that Redis does not have. The connection forgets the member before it runs its next request.
fn own(session: &mut Session, arguments: &[&[u8]], _: &mut Output) -> Outcome {
    match (lower(arguments[1]).as_slice(), &arguments[2..]) {
        (b"forget", [member]) => {
            session.forgetting = Some(String::from_utf8_lossy(member).into_owned());
            Ok(())
        }
        (b"forget", _) => Err(CommandError::WrongArity("driftless|forget".to_owned())),
        _ => Err(CommandError::UnknownSubcommand("DRIFTLESS", printable(arguments[1]))),
    }
}

fn role(_: &mut Session, _: &[&[u8]], output: &mut Output) -> Outcome {
    output.array(3);
    output.bulk(b"master");
    output.integer(0);
    output.array(0);
    Ok(())
}

fn module(_: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    match (lower(arguments[1]).as_slice(), &arguments[2..]) {
        (b"list", []) => {
            output.array(0);
            Ok(())
        }
        _ => Err(CommandError::UnknownSubcommand("MODULE", printable(arguments[1]))),
    }
}
