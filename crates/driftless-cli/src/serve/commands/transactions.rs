//! `MULTI`, `EXEC` and `DISCARD`: an ordered batch on this node.
//!
//! The commands are checked when they are queued, and `EXEC` runs them in order, or none of them if one was refused.
//! Other nodes receive the writes in this order. It is no isolation: clients of this and of other nodes may read and
//! write between two commands.

use super::{Command, CommandError, NOT_QUEUED, Outcome, fail, find, kept, plain, words};
use crate::serve::{
    reply::Output,
    session::{Session, Transaction},
};

pub const COMMANDS: &[Command] = &[
    plain("multi", 1, NOT_QUEUED, "Starts a transaction: an ordered batch on this node.", multi),
    plain("exec", 1, NOT_QUEUED, "Runs the queued commands in order.", exec),
    plain("discard", 1, NOT_QUEUED, "Drops the queued commands.", discard),
    plain("unwatch", 1, 0, "Does nothing: WATCH is refused.", unwatch),
];

/// The most commands that a transaction queues.
const MOST: usize = 128 * 1024;

fn multi(session: &mut Session, _: &[&[u8]], output: &mut Output) -> Outcome {
    if session.transaction.is_some() {
        return Err(CommandError::Other("ERR MULTI calls can not be nested"));
    }
    session.transaction = Some(Transaction::default());
    session.profile(|profile| profile.queued = Some(0));
    output.simple("OK");
    Ok(())
}

/// Queues a command that was checked.
pub fn queue(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let most_bytes = session.shared.settings.max_request_bytes;
    let Some(transaction) = &mut session.transaction else { return Ok(()) };
    if transaction.is_aborted {
        // Nothing will run, so nothing is kept.
        output.simple("QUEUED");
        return Ok(());
    }
    let bytes = transaction.bytes + arguments.iter().map(|argument| argument.len() + 32).sum::<usize>();
    if bytes > most_bytes || transaction.commands.len() >= MOST {
        transaction.commands = Vec::new();
        transaction.is_aborted = true;
        return Err(CommandError::Told(format!(
            "ERR this transaction exceeds {MOST} commands, or with {bytes} bytes the limit of {most_bytes} bytes: split it"
        )));
    }
    transaction.bytes = bytes;
    transaction.commands.push(arguments.iter().map(|argument| kept(argument)).collect());
    let queued = transaction.commands.len();
    session.profile(|profile| profile.queued = Some(queued));
    output.simple("QUEUED");
    Ok(())
}

/// Notes that a command of the transaction was refused: nothing will run.
pub fn abort(session: &mut Session) {
    if let Some(transaction) = &mut session.transaction {
        transaction.is_aborted = true;
        transaction.commands = Vec::new();
    }
}

fn exec(session: &mut Session, _: &[&[u8]], output: &mut Output) -> Outcome {
    let Some(transaction) = end(session) else { return Err(CommandError::Other("ERR EXEC without MULTI")) };
    if transaction.is_aborted {
        return Err(CommandError::Other("EXECABORT Transaction discarded because of previous errors."));
    }
    output.array(transaction.commands.len());
    // `CLIENT CACHING` holds for the whole transaction.
    let caching = session.tracking.as_ref().map(|tracking| tracking.caching);
    for command in &transaction.commands {
        let arguments = words(command);
        let Some((_, command)) = find(arguments[0]) else { continue };
        if let (Some(tracking), Some(caching)) = (&mut session.tracking, caching) {
            tracking.caching = caching;
        }
        let start = output.bytes.len();
        if let Err(error) = command.invoke(session, &arguments, output) {
            fail(session, &error, start, output);
        }
        // The connection will be closed, because its client would have to hold too much.
        if output.bytes.len() > session.shared.settings.max_output_bytes {
            break;
        }
    }
    Ok(())
}

fn discard(session: &mut Session, _: &[&[u8]], output: &mut Output) -> Outcome {
    if end(session).is_none() {
        return Err(CommandError::Other("ERR DISCARD without MULTI"));
    }
    output.simple("OK");
    Ok(())
}

fn unwatch(_: &mut Session, _: &[&[u8]], output: &mut Output) -> Outcome {
    output.simple("OK");
    Ok(())
}

/// Ends the transaction and returns it.
fn end(session: &mut Session) -> Option<Transaction> {
    let transaction = session.transaction.take()?;
    session.profile(|profile| profile.queued = None);
    Some(transaction)
}
