//! The one channel of this server: `__redis__:invalidate`, by which clients of version 2 receive the invalidations of
//! `CLIENT TRACKING`.

use super::{Command, CommandError, NO_MULTI, Outcome, SUBSCRIBED, plain, printable};
use crate::serve::{
    pushes::CHANNEL,
    reply::{Output, Protocol},
    session::Session,
};

pub const COMMANDS: &[Command] = &[
    plain("subscribe", -2, NO_MULTI | SUBSCRIBED, "Subscribes to __redis__:invalidate.", subscribe),
    plain("unsubscribe", -1, NO_MULTI | SUBSCRIBED, "Ends the subscription to __redis__:invalidate.", unsubscribe),
    plain("punsubscribe", -1, NO_MULTI | SUBSCRIBED, "Does nothing: there are no patterns.", punsubscribe),
];

fn subscribe(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    if let Some(other) = arguments[1..].iter().find(|channel| **channel != CHANNEL.as_bytes()) {
        return Err(CommandError::Told(format!(
            "UNSUPPORTED channel '{}': this cache only reports changes of keys, on the channel {CHANNEL} after CLIENT \
             TRACKING ON .. REDIRECT",
            printable(other)
        )));
    }
    set(session, true);
    for _ in &arguments[1..] {
        confirm(output, "subscribe", Some(CHANNEL.as_bytes()), 1);
    }
    Ok(())
}

fn unsubscribe(session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let was_subscribed = session.is_subscribed;
    match &arguments[1..] {
        [] => {
            set(session, false);
            confirm(output, "unsubscribe", was_subscribed.then_some(CHANNEL.as_bytes()), 0);
        }
        channels => {
            for channel in channels {
                if *channel == CHANNEL.as_bytes() {
                    set(session, false);
                }
                confirm(output, "unsubscribe", Some(channel), i64::from(session.is_subscribed));
            }
        }
    }
    Ok(())
}

fn punsubscribe(session: &mut Session, _: &[&[u8]], output: &mut Output) -> Outcome {
    confirm(output, "punsubscribe", None, i64::from(session.is_subscribed));
    Ok(())
}

fn set(session: &mut Session, subscribed: bool) {
    session.is_subscribed = subscribed;
    session.profile(|profile| profile.subscribed = subscribed);
}

fn confirm(output: &mut Output, kind: &str, channel: Option<&[u8]>, count: i64) {
    output.push(3);
    output.bulk(kind.as_bytes());
    output.bulk_or_null(channel);
    output.integer(count);
}

/// Appends the reply to `PING`, which is a message while a client of version 2 is subscribed.
pub fn pong(session: &Session, message: Option<&[u8]>, output: &mut Output) {
    if session.is_subscribed && output.protocol == Protocol::Two {
        output.array(2);
        output.bulk(b"pong");
        output.bulk(message.unwrap_or_default());
        return;
    }
    match message {
        None => output.simple("PONG"),
        Some(message) => output.bulk(message),
    }
}
