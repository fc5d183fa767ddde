//! Readable lines about the events of a run.

use std::fmt::{self, Debug, Write};

use super::clock::EPOCH;
use crate::message::{Entry, Message};
use crate::replica_id::ReplicaId;

/// Returns the line with names for ids and seconds for times.
pub(super) fn readable(ids: impl Iterator<Item = ReplicaId>, mut line: String) -> String {
    for (number, id) in ids.enumerate() {
        line = line.replace(&id.to_string(), &format!("r{number}"));
    }
    let mut out = String::with_capacity(line.len());
    for part in line.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
        match digits.parse::<u64>() {
            Ok(time) if time > EPOCH / 2 => {
                let seconds = (i128::from(time) - i128::from(EPOCH)) as f64 / 1e9;
                out.push_str(&format!("{seconds:.9}"));
                out.push_str(&part[digits.len()..]);
            }
            _ => out.push_str(part),
        }
    }
    out
}

/// The largest number of characters of a key or value that are shown.
const SHOWN: usize = 200;

/// Returns the text of a key or value, cut after `SHOWN` characters.
pub(super) fn brief(it: &(impl Debug + ?Sized)) -> String {
    let mut out = Cut { text: String::new(), left: SHOWN };
    match write!(out, "{it:?}") {
        Err(_) if out.left == 0 => out.text + "…",
        _ => out.text,
    }
}

struct Cut {
    text: String,
    left: usize,
}

impl Write for Cut {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        for c in more.chars() {
            self.left = self.left.checked_sub(1).ok_or(fmt::Error)?;
            self.text.push(c);
        }
        Ok(())
    }
}

/// Returns a message in one line.
pub(super) fn describe<K: Debug, V>(message: &Message<K, V>) -> String {
    match message {
        Message::Digest(d) => format!(
            "digest clock {} quiet {} wm {} epoch {} full {} want {} reply {} vector {:?}",
            d.clock,
            d.quiet_since,
            d.watermark,
            d.epoch,
            d.full,
            d.want_full,
            d.reply,
            d.vector.iter().collect::<Vec<_>>()
        ),
        Message::Ack(ack) => format!("ack {}", ack.time),
        Message::Push(p) => {
            format!("push of {} ({}, {}] hops {} {:?}", p.origin, p.from, p.to, p.hops, list(&p.entries))
        }
        Message::Frame(f) => format!(
            "frame {}/{} reconcile {} base {:?} last {:?} dropped {:?} {:?}",
            f.session,
            f.index,
            f.reconcile,
            f.base,
            f.last,
            f.dropped,
            f.intervals.iter().map(|i| (i.origin, i.from, i.to, list(&i.entries))).collect::<Vec<_>>()
        ),
        Message::Audit(a) => format!("audit reply {} vector {:?} {:?}", a.reply, a.vector, list(&a.entries)),
    }
}

fn list<K: Debug, V>(entries: &[Entry<K, V>]) -> Vec<String> {
    entries.iter().map(|entry| format!("{}: {:?}", brief(&entry.item.key), entry.marker)).collect()
}
