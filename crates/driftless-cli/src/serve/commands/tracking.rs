//! `CLIENT TRACKING`, `CACHING`, `TRACKINGINFO` and `GETREDIR`; and how commands run while a client tracks.

use super::{Command, CommandError, Outcome, READ, WRITE, kept, lower, printable};
use crate::serve::{
    reply::{Output, Protocol},
    request::integer,
    session::{Mode, Session, Tracking},
};
use bytes::Bytes;
use driftless::Stamp;

/// The most prefixes of one client.
const MOST_PREFIXES: usize = 256;

/// Runs a command of a client that tracks.
#[cold]
pub fn invoke(command: &Command, session: &mut Session, arguments: &[&[u8]], output: &mut Output) -> Outcome {
    let Some(tracking) = &mut session.tracking else { return (command.run)(session, arguments, output) };
    let (remembers, no_loop) = (tracking.remembers(), tracking.no_loop);
    // `CLIENT CACHING` holds for one command.
    tracking.caching = false;
    if command.flags & READ != 0 && remembers {
        // Before the read: a change after the read then finds the key remembered.
        command.keys_of(arguments).for_each(|key| session.tracker().remember(key, session.client.id));
    }
    if command.flags & WRITE == 0 || !no_loop {
        return (command.run)(session, arguments, output);
    }
    let tracker = session.tracker();
    let mut own = tracker.own_writes();
    let before = last_stamp(session);
    let outcome = (command.run)(session, arguments, output);
    let id = session.client.id;
    if let Some(after) = last_stamp(session).filter(|after| before.is_none_or(|before| *after > before)) {
        command.keys_of(arguments).for_each(|key| own.note_removal(id, kept(key), before, after));
    }
    session.written.drain(..).for_each(|(key, stamp)| own.note_value(id, key, stamp));
    outcome
}

fn last_stamp(session: &Session) -> Option<Stamp> {
    session.cache().last_written().map(|written| written.stamp)
}

/// The options of `CLIENT TRACKING ON`.
#[derive(Default)]
struct Options {
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    no_loop: bool,
    redirect: Option<u64>,
    prefixes: Vec<Bytes>,
}

impl Options {
    fn parse(session: &Session, mut words: &[&[u8]]) -> Result<Self, CommandError> {
        let mut options = Self::default();
        while let [word, rest @ ..] = words {
            words = match (lower(word).as_slice(), rest) {
                (b"redirect", [id, rest @ ..]) => {
                    options.redirect_to(session, id)?;
                    rest
                }
                (b"prefix", [prefix, rest @ ..]) => {
                    options.prefixes.push(kept(prefix));
                    rest
                }
                (b"bcast", rest) => set(&mut options.broadcast, rest),
                (b"optin", rest) => set(&mut options.opt_in, rest),
                (b"optout", rest) => set(&mut options.opt_out, rest),
                (b"noloop", rest) => set(&mut options.no_loop, rest),
                _ => return Err(CommandError::Syntax),
            };
        }
        Ok(options)
    }

    fn redirect_to(&mut self, session: &Session, id: &[u8]) -> Result<(), CommandError> {
        if self.redirect.is_some() {
            return Err(CommandError::Other("ERR A client can only redirect to a single other client"));
        }
        let id = integer(id).and_then(|id| u64::try_from(id).ok()).ok_or(CommandError::NotAnInteger)?;
        if id != 0 && session.shared.clients.get(id).is_none() {
            return Err(CommandError::Other("ERR The client ID you want redirect to does not exist"));
        }
        self.redirect = Some(id);
        Ok(())
    }

    fn mode(&self) -> Result<Mode, CommandError> {
        let error = |message| Err(CommandError::Other(message));
        match (self.broadcast, self.opt_in, self.opt_out) {
            (false, ..) if !self.prefixes.is_empty() => error("ERR PREFIX option requires BCAST mode to be enabled"),
            (true, true, _) | (true, _, true) => error("ERR OPTIN and OPTOUT are not compatible with BCAST"),
            (_, true, true) => error("ERR You can't use both OPTIN and OPTOUT"),
            (true, ..) => Ok(Mode::Broadcast),
            (_, true, _) => Ok(Mode::OptIn),
            (_, _, true) => Ok(Mode::OptOut),
            _ => Ok(Mode::Reads),
        }
    }
}

fn set<'r, 'a>(option: &mut bool, rest: &'r [&'a [u8]]) -> &'r [&'a [u8]] {
    *option = true;
    rest
}

/// Answers `CLIENT TRACKING`.
pub fn tracking(session: &mut Session, words: &[&[u8]], output: &mut Output) -> Outcome {
    match (lower(words[0]).as_slice(), &words[1..]) {
        (b"on", options) => turn_on(session, Options::parse(session, options)?)?,
        (b"off", options) => {
            Options::parse(session, options)?;
            session.stop_tracking();
        }
        _ => return Err(CommandError::Syntax),
    }
    output.simple("OK");
    Ok(())
}

fn turn_on(session: &mut Session, mut options: Options) -> Outcome {
    let mode = options.mode()?;
    let mut prefixes = Vec::new();
    if let Some(before) = &session.tracking {
        if (before.mode == Mode::Broadcast) != (mode == Mode::Broadcast) {
            return Err(CommandError::Other(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.",
            ));
        }
        if before.mode != mode {
            return Err(CommandError::Other(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.",
            ));
        }
        prefixes.clone_from(&before.prefixes);
    }
    if session.protocol == Protocol::Two && options.redirect.unwrap_or(0) == 0 {
        return Err(CommandError::Other(
            "ERR invalidations need a way to you: send HELLO 3 first, or name another connection with REDIRECT, which subscribes to __redis__:invalidate",
        ));
    }
    if mode == Mode::Broadcast {
        add_prefixes(&mut prefixes, std::mem::take(&mut options.prefixes))?;
    }
    session.client.pushes.set_redirect(options.redirect.filter(|id| *id != 0 && *id != session.client.id));
    for database in &session.shared.databases {
        let prefixes = (mode == Mode::Broadcast).then_some(&prefixes[..]);
        database.tracker.add(&database.cache, session.client.id, prefixes);
    }
    session.tracking = Some(Tracking { mode, no_loop: options.no_loop, prefixes, caching: false });
    session.profile(|profile| profile.tracking = true);
    Ok(())
}

/// Adds prefixes, which must not overlap: a key would be reported twice. No prefix is the empty one.
fn add_prefixes(prefixes: &mut Vec<Bytes>, mut new: Vec<Bytes>) -> Outcome {
    if new.is_empty() && prefixes.is_empty() {
        new.push(Bytes::new());
    }
    for prefix in new {
        if prefixes.contains(&prefix) {
            continue;
        }
        if let Some(other) = prefixes.iter().find(|other| other.starts_with(&prefix) || prefix.starts_with(other)) {
            return Err(CommandError::Told(format!(
                "ERR Prefix '{}' overlaps with an existing prefix '{}'. Prefixes for a single client must not overlap.",
                printable(&prefix),
                printable(other)
            )));
        }
        if prefixes.len() == MOST_PREFIXES {
            return Err(CommandError::Told(format!("ERR more than {MOST_PREFIXES} prefixes: use shorter ones")));
        }
        prefixes.push(prefix);
    }
    Ok(())
}

/// Answers `CLIENT CACHING`.
pub fn caching(session: &mut Session, choice: &[u8], output: &mut Output) -> Outcome {
    let mode = session.tracking.as_ref().map(|tracking| tracking.mode);
    match (lower(choice).as_slice(), mode) {
        (b"yes", Some(Mode::OptIn)) | (b"no", Some(Mode::OptOut)) => {}
        (b"yes", Some(_)) => {
            return Err(CommandError::Other(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
        (b"no", Some(_)) => {
            return Err(CommandError::Other(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
        (b"yes" | b"no", None) => {
            return Err(CommandError::Other(
                "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
            ));
        }
        _ => return Err(CommandError::Syntax),
    }
    if let Some(tracking) = &mut session.tracking {
        tracking.caching = true;
    }
    output.simple("OK");
    Ok(())
}

/// Answers `CLIENT GETREDIR`.
pub fn redirect(session: &Session) -> i64 {
    match &session.tracking {
        None => -1,
        Some(_) => session.client.pushes.redirect().map_or(0, |id| i64::try_from(id).unwrap_or(0)),
    }
}

/// Answers `CLIENT TRACKINGINFO`.
pub fn info(session: &Session, output: &mut Output) {
    let mut flags = Vec::new();
    let mut prefixes = &[][..];
    match &session.tracking {
        None => flags.push("off"),
        Some(tracking) => {
            flags.push("on");
            flags.extend(match tracking.mode {
                Mode::Reads => None,
                Mode::OptIn => Some("optin"),
                Mode::OptOut => Some("optout"),
                Mode::Broadcast => Some("bcast"),
            });
            let caching = if tracking.mode == Mode::OptIn { "caching-yes" } else { "caching-no" };
            flags.extend(tracking.caching.then_some(caching));
            flags.extend(tracking.no_loop.then_some("noloop"));
            flags.extend(session.client.pushes.is_broken().then_some("broken_redirect"));
            prefixes = &tracking.prefixes;
        }
    }
    output.map(3);
    output.bulk(b"flags");
    output.set(flags.len());
    flags.iter().for_each(|flag| output.bulk(flag.as_bytes()));
    output.bulk(b"redirect");
    output.integer(redirect(session));
    output.bulk(b"prefixes");
    output.array(prefixes.len());
    prefixes.iter().for_each(|prefix| output.bulk(prefix));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_one_client_do_not_overlap() {
        let mut prefixes = Vec::new();
        assert!(add_prefixes(&mut prefixes, vec![Bytes::from("user:"), Bytes::from("item:")]).is_ok());
        assert!(add_prefixes(&mut prefixes, vec![Bytes::from("user:")]).is_ok(), "the same once more");
        for other in ["user:1", "us", ""] {
            assert!(add_prefixes(&mut prefixes, vec![Bytes::from(other)]).is_err(), "{other:?}");
        }
        let mut all = Vec::new();
        assert!(add_prefixes(&mut all, Vec::new()).is_ok());
        assert_eq!(all, [Bytes::new()]);
        assert!(add_prefixes(&mut all, vec![Bytes::from("a")]).is_err());
        let many = (0..=MOST_PREFIXES).map(|number| Bytes::from(format!("{number:04}"))).collect();
        assert!(add_prefixes(&mut Vec::new(), many).is_err());
    }
}
