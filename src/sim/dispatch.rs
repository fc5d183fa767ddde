//! Between the replicas and the network: what the node's driver does, without sockets.

use bytes::Bytes;

use super::agenda::Event;
use super::check::clocks;
use super::cluster::Cluster;
use super::codec::{self, MAX_DATAGRAM};
use super::foreign::read_as_foreign;
use super::history;
use super::network::Passage;
use super::process::{Payload, State};
use super::report::Violation;
use super::settle;
use super::trace::describe;
use super::types::{SimKey, SimValue};
use crate::hlc::Stamp;
use crate::membership::Membership;
use crate::message::Message;
use crate::replica::Transmit;
use crate::replica_id::ReplicaId;
use crate::wire::{self, MessageKind, Peeked};

/// What is not a message takes this many bytes.
const SIGNAL_BYTES: usize = 24;

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    fn encode(&self, number: usize, message: &Message<K, V>) -> Result<Bytes, Violation> {
        let opening = &self.openings[number];
        codec::encode(opening.cache, opening.id, opening.process, message).map_err(|error| {
            self.violation(format!("types: {} cannot encode what it is to send: {error}", self.name(number)))
        })
    }

    /// Encodes a message once and sends it to each of its receivers.
    pub(super) fn send(&mut self, number: usize, transmit: Transmit<K, V>) -> Result<(), Violation> {
        let Transmit { to, message, bulk } = transmit;
        let bytes = self.encode(number, &message)?;
        self.trace(|| format!("r{number} sends {to:?} {} bytes: {}", bytes.len(), describe(&message)));
        let entries = codec::entries_in(&message);
        if let Message::Digest(digest) = &message {
            history::note_said(self, number, digest);
        }
        if let Message::Audit(audit) = &message
            && !audit.reply
        {
            self.openings[number].history.sent.audited += audit.entries.len() * to.len();
        }
        for id in to {
            let home = self.home(number, &id);
            let mut left = 0;
            let mut ok = false;
            if let Some(address) = home {
                self.report.entries += entries;
                let from = self.openings[number].process;
                let fate = self.carry(from, address, bytes.len(), Payload::Message(bytes.clone()));
                // A datagram that is lost goes unnoticed, and mostly also one to nowhere; a connection that
                // cannot be made does not.
                ok = fate.is_some() || (bytes.len() <= MAX_DATAGRAM && self.dice.rng.bool());
                if ok && self.is_in_doubt(bytes.len()) {
                    self.report.fault("sent and called failed");
                    ok = false;
                }
                left = fate.filter(|_| bytes.len() > MAX_DATAGRAM).unwrap_or_default();
            }
            if bulk {
                let after = left + self.network.sending();
                self.schedule(after, Event::Sent { opening: number, to: id, ok });
            }
        }
        Ok(())
    }

    /// A connection may break after everything has arrived.
    fn is_in_doubt(&mut self, size: usize) -> bool {
        !self.course.healed && size > MAX_DATAGRAM && self.dice.doubts.u8(0..16) == 0
    }

    /// The address of the process on which a member lives, as far as this replica's process knows.
    fn home(&self, number: usize, id: &ReplicaId) -> Option<usize> {
        let opening = &self.openings[number];
        let here = &self.processes[opening.process].membership;
        let cache = codec::name_of(opening.cache);
        if let Some(other) = here.home(cache, *id) {
            return Some(self.processes[*other].address);
        }
        let other = self.openings[*self.by_id.get(id)?].process;
        let heeded = self.settings.heed_the_dead && !here.is_former(codec::incarnation(other), cache, *id);
        heeded.then(|| self.processes[other].address)
    }

    /// Hands bytes to the network. Returns how long they take to leave, or nothing if they cannot.
    fn carry(&mut self, from: usize, address: usize, size: usize, payload: Payload) -> Option<u64> {
        self.report.messages += 1;
        self.report.bytes += size as u64;
        #[cfg(test)]
        if let Some(copies) = &mut self.course.copies {
            copies.push((address, payload.clone()));
        }
        let here = self.processes[from].address;
        if self.network.is_cut(here, address) || !self.processes[self.holders[address]].runs() {
            self.report.fault("refused");
            return None;
        }
        let sent = self.network.send(self.at, here, address, size);
        if sent.waited {
            self.report.fault("queued for bandwidth");
        }
        if sent.slow {
            self.report.fault("slow message");
        }
        match sent.fate {
            Passage::Arrives => {}
            Passage::Twice(after) => {
                self.report.fault("duplicated");
                self.course.note_straggler(self.at + after);
                self.schedule(after, Event::Deliver { address, payload: payload.clone() });
            }
            Passage::Overflows => {
                self.report.fault("queue overflowed");
                return Some(sent.queued);
            }
            Passage::Lost => {
                self.report.fault("lost");
                return Some(sent.queued);
            }
        }
        self.course.note_straggler(self.at + sent.after);
        self.schedule(sent.after, Event::Deliver { address, payload });
        Some(sent.queued)
    }

    /// Something arrives at a process.
    pub(super) fn arrive(&mut self, to: usize, payload: Payload) -> Result<(), Violation> {
        match self.processes[to].state {
            State::Gone => return Ok(()),
            State::Paused => {
                if self.settings.pause_drops {
                    self.report.fault("dropped while paused");
                } else {
                    self.processes[to].inbox.push(payload);
                }
                return Ok(());
            }
            State::Up => {}
        }
        match payload {
            Payload::Message(bytes) => self.dispatch(to, &bytes),
            Payload::NotOpen { process, cache } => self.note_not_open(to, process, cache),
        }
    }

    fn dispatch(&mut self, to: usize, bytes: &Bytes) -> Result<(), Violation> {
        let (envelope, kind) = match wire::peek(bytes) {
            Ok(Peeked::Message { envelope, kind }) => (envelope, kind),
            other => return Err(self.violation(format!("wire: what was encoded is not understood: {other:?}"))),
        };
        let (process, cache) = (codec::process_of(envelope.node), codec::cache_of(envelope.cache));
        let (Some(from), Some(cache)) = (process, cache) else {
            return Err(self.violation("wire: a message without a sender or a cache".to_owned()));
        };
        let (here, heeds) = (&self.processes[to].membership, self.settings.heed_the_dead);
        let late = if heeds { Membership::is_former } else { Membership::is_late };
        if late(here, envelope.node, envelope.cache, envelope.from) {
            self.report.fault("late words");
            return Ok(());
        }
        let Some(number) = self.processes[to].open[usize::from(cache)] else {
            self.report.fault("not open here");
            if kind == MessageKind::Digest {
                let address = self.processes[from].address;
                self.carry(to, address, SIGNAL_BYTES, Payload::NotOpen { process: to, cache });
            }
            return Ok(());
        };
        if kind == MessageKind::Digest {
            self.note_heard(to, from, number, envelope.from)?;
        }
        self.hand_over(number, kind, bytes)
    }

    fn hand_over(&mut self, number: usize, kind: MessageKind, bytes: &Bytes) -> Result<(), Violation> {
        let (from, message) = self.open_message(number, bytes)?;
        self.trace(|| format!("r{number} gets of {from}: {}", describe(&message)));
        let told = self.note_told(number, &message);
        let before = self.view(number).counters().clone();
        let now = self.now_at(number);
        let source = self.by_id.get(&from).copied();
        if let (Message::Digest(digest), Some(source)) = (&message, source) {
            history::note_names(self, number, source, digest);
        }
        if let Some(source) = source {
            clocks::check_early(self, number, source, &message)?;
        }
        if let Message::Frame(frame) = &message {
            let history = &mut self.openings[number].history;
            history.frame_from = source;
            history.floors.extend(source.zip(frame.last.as_ref()).map(|(source, last)| (source, last.floor)));
        }
        self.openings[number].engine.replica.handle_message(now, from, message);
        if self.view(number).counters().frames_ignored > before.frames_ignored {
            self.forget_told(number, told);
        }
        if kind == MessageKind::Digest {
            clocks::check_answer(self, number, from, &before)?;
        }
        let settled = settle::opening(self, number);
        let history = &mut self.openings[number].history;
        (history.frame_from, history.completed_from) = (None, None);
        settled
    }

    /// The message that an opening makes of bytes.
    fn open_message(&mut self, number: usize, bytes: &Bytes) -> Result<(ReplicaId, Message<K, V>), Violation> {
        let refused =
            |error| self.violation(format!("types: {} cannot read what it was sent: {error}", self.name(number)));
        let (from, mut message) = codec::decode(self.types, bytes).map_err(refused)?;
        if self.has_other_types(number) {
            let is_foreign = |hash| self.names.number(hash).is_some_and(|key| self.names.foreign(key).is_some());
            let unread = read_as_foreign(&mut message, bytes, is_foreign).map_err(refused)?;
            if unread > 0 {
                self.report.fault("keys or values of another release");
            }
        }
        Ok((from, message))
    }

    /// What a message lists, its receiver was told, whatever becomes of it there. Returns what it was not told before.
    fn note_told(&mut self, number: usize, message: &Message<K, V>) -> Vec<(usize, Stamp)> {
        if matches!(message, Message::Audit(_)) {
            return Vec::new(); // Audits compare what both sides have seen already.
        }
        let (at, mut new) = (self.at, Vec::new());
        for entry in message.entries() {
            let Some(key) = self.names.number(entry.hash) else { continue };
            let Some(record) = self.record_mut(number, key, &entry.stamp()) else { continue };
            if let std::collections::btree_map::Entry::Vacant(first) = record.told.entry(number) {
                first.insert(at);
                new.push((key, entry.stamp()));
            }
        }
        new
    }

    /// A frame of a session that the replica did not take is not looked at: it told nothing.
    fn forget_told(&mut self, number: usize, told: Vec<(usize, Stamp)>) {
        for (key, stamp) in told {
            if let Some(record) = self.record_mut(number, key, &stamp) {
                record.told.remove(&number);
            }
        }
    }

    /// A replica spoke from a process: it takes the place of one whose cache was closed there.
    fn note_heard(&mut self, to: usize, from: usize, number: usize, id: ReplicaId) -> Result<(), Violation> {
        let (cache, name) =
            (codec::name_of(self.openings[number].cache), self.processes[from].address.to_string().into());
        let here = &mut self.processes[to].membership;
        if self.settings.heed_the_dead {
            here.heed(codec::incarnation(from), &name, from);
        }
        match here.heard(codec::incarnation(from), cache, id) {
            Some(before) => {
                self.report.fault("took another's place");
                self.tell_left(number, before)
            }
            None => Ok(()),
        }
    }

    fn note_not_open(&mut self, to: usize, process: usize, cache: u8) -> Result<(), Violation> {
        let (at, here) = (self.at, &mut self.processes[to]);
        let gone = here.membership.not_open(codec::incarnation(process), codec::name_of(cache), at);
        match (gone, here.open[usize::from(cache)]) {
            (Some(id), Some(number)) => self.tell_left(number, id),
            _ => Ok(()),
        }
    }

    pub(super) fn tell_left(&mut self, number: usize, id: ReplicaId) -> Result<(), Violation> {
        self.trace(|| format!("r{number} hears that {id} is gone"));
        let now = self.now_at(number);
        self.openings[number].history.company.ever.insert(id);
        self.openings[number].engine.replica.handle_member_left(now, id);
        settle::opening(self, number)
    }

    /// Tells a process which caches are open here.
    pub(super) fn greet(&mut self, process: usize, other: usize) -> Result<(), Violation> {
        let open = self.processes[process].openings();
        open.into_iter().try_for_each(|number| self.greet_of(number, other))
    }

    fn greet_of(&mut self, number: usize, other: usize) -> Result<(), Violation> {
        let now = self.now_at(number);
        let digest = self.openings[number].engine.replica.digest(now, false);
        history::note_said(self, number, &digest);
        let bytes = self.encode(number, &Message::Digest(digest))?;
        let (from, address) = (self.openings[number].process, self.processes[other].address);
        self.carry(from, address, bytes.len(), Payload::Message(bytes));
        Ok(())
    }

    /// Greets processes of which it is not known whether they have a cache open, or whose replica ours
    /// does not know or holds for dead: the greeting when it was found up again may have been lost.
    pub(super) fn greet_the_unknown(&mut self, process: usize) -> Result<(), Violation> {
        let open = self.processes[process].openings();
        for number in open {
            let members = self.view(number).live_members();
            let cache = codec::name_of(self.openings[number].cache);
            let strangers = self.processes[process].membership.to_greet(cache, &members, self.at);
            strangers.into_iter().try_for_each(|other| self.greet_of(number, other))?;
        }
        Ok(())
    }
}
