//! One real replica with its clocks, and the observations that the checks need.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use driftless::crdt::{Marker, VersionVector};
use driftless::hlc::{Now, Stamp, nanos};
use driftless::item::{Body, Item, ItemRef, Key};
use driftless::message::{Entry, Message, Still};
use driftless::probe;
use driftless::replica::{FillTicket, Replica, ReplicaConfig, Write};
use driftless::wire::{self, Envelope, Intake, Limits};
use driftless::{Counters, ReplicaId, replica::Bugs};

/// The number of replicas in the model.
pub const REPLICAS: u8 = 3;
/// The length of a tick of the model (not the 16 ns tick of a clock). All timers are due after one tick, and two
/// replicas that are one tick apart still accept each other's clocks.
pub const TICK: Duration = Duration::from_millis(600);
/// A step of a wall clock, larger than the drift that peers accept.
pub const STEP: Duration = Duration::from_secs(3);

/// The largest difference of two stamps that count as a tie, in nanoseconds. Clocks stand still between two ticks, so
/// stamps within a tick differ by nanoseconds.
const TIE: u64 = 16;

/// See [`Rules::fills_never_tie`].
pub const FILL_WINS: &str = "a fill beats a write that came after its start";

const START: u64 = 1_700_000_000_000_000_000;
const CACHE: &str = "model";
/// The first bytes of signals. No message begins with these.
const STILL: u8 = 0xD4;
const BELIEVED: u8 = 0xD5;

pub fn id_of(who: u8) -> ReplicaId {
    ReplicaId::from_bytes([who + 1; 16])
}

pub fn who_is(id: &ReplicaId) -> u8 {
    id.to_bytes()[0] - 1
}

fn hash_of(key: u8) -> u64 {
    u64::from(key + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

struct Taken;

impl Intake<u8, String> for Taken {
    fn hash(&self, key: &Key<u8>) -> u64 {
        hash_of(key.known().copied().unwrap_or(u8::MAX))
    }

    fn weigh(&self, _: &u8, _: &String) -> u32 {
        1
    }
}

/// A payload in flight from one replica to another.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    pub from: u8,
    pub to: u8,
    /// The bytes of a message, or of a [`Signal`]. `None` is the confirmation to the sender that a large message has
    /// left.
    pub bytes: Option<Bytes>,
}

/// A still, or the answer that a still was believed. Nodes exchange these for all caches together.
#[derive(Clone, Copy, Debug)]
enum Signal {
    Still(Still),
    Believed { since: u64 },
}

impl Signal {
    fn write(self) -> Bytes {
        let (kind, since, wall) = match self {
            Self::Still(Still { since, wall }) => (STILL, since, wall),
            Self::Believed { since } => (BELIEVED, since, 0),
        };
        [&[kind][..], &since.to_le_bytes(), &wall.to_le_bytes()].concat().into()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        match *bytes.first()? {
            STILL => Some(Self::Still(Still { since: number(1)?, wall: number(9)? })),
            BELIEVED => Some(Self::Believed { since: number(1)? }),
            _ => None,
        }
    }
}

impl Packet {
    /// Returns the replica that the packet reaches: the receiver of a message, or the sender that a confirmation is
    /// for.
    pub fn arrives_at(&self) -> u8 {
        if self.bytes.is_some() { self.to } else { self.from }
    }

    /// Returns true if the packet is a message of this kind.
    pub fn is(&self, wanted: wire::MessageKind) -> bool {
        let peeked = self.bytes.as_ref().map(|bytes| wire::peek(bytes));
        matches!(peeked, Some(Ok(wire::Peeked::Message { kind, .. })) if kind == wanted)
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, bytes } = self;
        let Some(bytes) = bytes else { return write!(f, "r{from} has sent to r{to}") };
        if let Some(signal) = Signal::read(bytes) {
            return write!(f, "r{from}->r{to} {}", readable(&format!("{signal:?}")));
        }
        let decoded = wire::decode::<u8, String>(bytes, &Taken, &Limits::default());
        let message = decoded.ok().and_then(|decoded| decoded.message);
        let text = message.as_ref().map_or_else(|| "?".to_owned(), brief);
        write!(f, "r{from}->r{to} {}", readable(&text))
    }
}

fn brief(message: &Message<u8, String>) -> String {
    let list = |entries: &[Entry<u8, String>]| {
        entries.iter().map(|entry| format!("{:?}: {:?}", entry.item.key, entry.marker)).collect::<Vec<_>>()
    };
    match message {
        Message::Push(push) => {
            format!("push of {:?} ({}, {}] {:?}", push.origin, push.from, push.to, list(&push.entries))
        }
        Message::Frame(frame) => format!(
            "frame {} of session {} base {:?} reconcile {} dropped {:?} last {:?} {:?}",
            frame.index,
            frame.session,
            frame.base,
            frame.reconcile,
            frame.dropped,
            frame.last,
            frame.intervals.iter().map(|interval| (interval.origin, list(&interval.entries))).collect::<Vec<_>>()
        ),
        other => format!("{other:?}"),
    }
}

/// Returns the text with names for ids and times relative to the start.
pub fn readable(text: &str) -> String {
    let mut text = text.to_owned();
    for who in 0..REPLICAS {
        text = text.replace(&id_of(who).to_string(), &format!("r{who}"));
    }
    let mut out = String::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_digit()) {
        let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
        match digits.parse::<u64>() {
            Ok(time) if time > START / 2 && time < 2 * START => {
                out.push_str(&format!("{}ns", i128::from(time) - i128::from(START)));
                out.push_str(&part[digits.len()..]);
            }
            _ => out.push_str(part),
        }
    }
    out
}

/// The inputs of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    Greet(u8),
    /// The report that a member has left for good.
    Forget(u8),
    Write(u8),
    Delete(u8),
    Evict(u8),
    BeginFill(u8),
    FinishFill,
    InvalidateAll,
    /// A still to a replica, if there is one.
    Still(u8),
    /// The replica's clocks advance by a tick and its timers fire.
    Tick,
    /// The replica's wall clock alone steps forward.
    StepForward,
    /// The replica's wall clock alone steps back.
    StepBack,
    /// The replica's wall clock is set right.
    SetRight,
    Arrive(Arc<Packet>),
}

/// A register that a replica has given a dot of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub key: u8,
    pub marker: Marker,
    pub value: Option<String>,
}

impl Event {
    pub fn rank(&self) -> (Stamp, bool) {
        rank(&self.marker)
    }
}

/// Returns the rank of a register. The register with the greater rank must win on every replica.
pub fn rank(marker: &Marker) -> (Stamp, bool) {
    (marker.stamp, !marker.kind.ranks_live())
}

/// A fill that was stored, and the knowledge of its filler at the start.
#[derive(Clone, Debug)]
pub struct Stored {
    pub key: u8,
    pub stamp: Stamp,
    /// The filler's wall clock at the start less `max_drift`. A write that is stamped above this and not seen at the
    /// start may have been issued after it.
    pub since: u64,
    pub seen: VersionVector,
}

/// The register that a replica holds for a key.
#[derive(Clone, Debug)]
pub struct Held {
    pub marker: Marker,
    pub value: Option<String>,
    pub served: bool,
}

/// The observable state of a replica.
#[derive(Clone)]
pub struct View {
    pub keys: Vec<Option<Held>>,
    pub vector: VersionVector,
    pub dropped: VersionVector,
    pub floor: Stamp,
    pub epoch: u64,
    pub receiving: bool,
    pub deferring: bool,
    pub filling: bool,
    pub gave_up: bool,
    /// The number of values that this replica voided.
    pub voided: u64,
    /// All registers that ever had a dot of this replica.
    pub events: Vec<Event>,
    pub stored: Vec<Stored>,
    /// A rule that this replica broke, whatever its peers do.
    pub fault: Option<String>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.keys.iter().map(|held| held.as_ref().map(|held| held.marker)).collect::<Vec<_>>();
        let text = format!(
            "{keys:?} vector {:?} dropped {:?} floor {:?} epoch {} receiving {} fault {:?}",
            self.vector, self.dropped, self.floor, self.epoch, self.receiving, self.fault
        );
        f.write_str(&readable(&text))
    }
}

/// The settings that all machines of one model share.
#[derive(Clone, Debug)]
pub struct Rules {
    pub config: ReplicaConfig,
    pub bugs: Bugs,
    pub keys: u8,
    /// The length in bytes to which every value is padded.
    pub value_bytes: usize,
    /// True if the confirmation of a send is an event of its own, instead of happening at once.
    pub hold_sends: bool,
    /// True if a fill that is only nanoseconds above the write that it beats counts as a fault.
    pub fills_never_tie: bool,
}

struct Filling {
    key: u8,
    ticket: FillTicket,
    held: Option<Stamp>,
    /// The wall clock at the start less `max_drift`. A write that is stamped above this and has not arrived yet may be
    /// issued after the start.
    since: u64,
    seen: VersionVector,
}

/// A replica that is driven by inputs. See the [module](self).
pub struct Machine<'a> {
    pub who: u8,
    rules: &'a Rules,
    replica: Replica<u8, String>,
    now: Now,
    writes: u32,
    filling: Option<Filling>,
    newest: Vec<Option<(Stamp, bool)>>,
    events: Vec<Event>,
    stored: Vec<Stored>,
    fault: Option<String>,
}

impl<'a> Machine<'a> {
    pub fn new(rules: &'a Rules, who: u8) -> Self {
        let now = Now { wall: START, mono: 0 };
        let replica = Replica::new(id_of(who), rules.config.clone(), u64::from(who) + 7, now);
        let mut replica = replica.expect("valid settings");
        replica.set_bugs(rules.bugs);
        let newest = vec![None; usize::from(rules.keys)];
        Self {
            who,
            rules,
            replica,
            now,
            writes: 0,
            filling: None,
            newest,
            events: Vec::new(),
            stored: Vec::new(),
            fault: None,
        }
    }

    /// Applies an input. Appends the resulting packets to `sent`.
    pub fn apply(&mut self, input: &Input, sent: &mut Vec<Packet>) {
        let now = self.now;
        match input {
            Input::Greet(to) => self.replica.greet(now, id_of(*to)),
            Input::Forget(who) => self.replica.handle_member_left(now, id_of(*who)),
            Input::Write(key) => {
                let write = self.new_write(*key, true);
                self.replica.write(now, write);
            }
            Input::Delete(key) => {
                let write = self.new_write(*key, false);
                let (stamp, _) = self.replica.delete(now, write);
                if stamp == Stamp::ZERO {
                    self.accuse("a delete was not stamped: a write on its way survives it");
                }
            }
            Input::Evict(key) => {
                probe::evict(&mut self.replica, now, hash_of(*key), &Key::Known(*key));
            }
            Input::BeginFill(key) => self.begin_fill(*key),
            Input::FinishFill => self.finish_fill(),
            Input::InvalidateAll => {
                self.replica.invalidate_all(now);
            }
            Input::Tick => {
                self.now = Now { wall: now.wall + nanos(TICK), mono: now.mono + nanos(TICK) };
                self.replica.handle_timeout(self.now);
            }
            Input::StepForward => self.now.wall += nanos(STEP),
            Input::StepBack => self.now.wall -= nanos(STEP),
            Input::SetRight => self.now.wall = START + self.now.mono,
            Input::Still(to) => {
                let still = probe::still(&mut self.replica, now, id_of(*to));
                sent.extend(still.map(|still| self.signal(*to, Signal::Still(still))));
            }
            Input::Arrive(packet) => self.arrive(packet, sent),
        }
        self.drain(sent);
        self.look();
    }

    fn accuse(&mut self, what: &str) {
        self.fault.get_or_insert_with(|| what.to_owned());
    }

    fn new_write(&mut self, key: u8, live: bool) -> Write<u8, String> {
        self.writes += 1;
        let value = format!("{:.<1$}", format!("r{} #{}", self.who, self.writes), self.rules.value_bytes);
        let size = value.len() as u32 + 8;
        let body = if live { Body::Known(value) } else { Body::ABSENT };
        let (item, size) = (ItemRef::new(Item { key: Key::Known(key), body }), if live { size } else { 8 });
        Write { hash: hash_of(key), item, expires: 0, size, weight: u32::from(live) }
    }

    fn begin_fill(&mut self, key: u8) {
        let ticket = self.replica.begin_fill(self.now, hash_of(key), &Key::Known(key));
        let held = self.held(key).map(|held| held.marker.stamp);
        let since = self.now.wall - nanos(self.rules.config.max_drift);
        let seen = self.replica.view().vector().clone();
        self.filling = Some(Filling { key, ticket, held, since, seen });
    }

    fn finish_fill(&mut self) {
        let Some(Filling { key, ticket, held, since, seen }) = self.filling.take() else { return };
        let before = self.held(key).map(|held| held.marker.stamp);
        let write = self.new_write(key, true);
        let Some(stamp) = self.replica.finish_fill(self.now, &ticket, write) else { return };
        self.stored.push(Stored { key, stamp, since, seen });
        let late = before.filter(|before| Some(*before) != held && before.time > since);
        let tie = |late: &Stamp| stamp.time.abs_diff(late.time) <= TIE && !self.rules.fills_never_tie;
        if late.is_some_and(|late| late < stamp && !tie(&late)) {
            self.accuse(FILL_WINS);
        }
    }

    fn signal(&self, to: u8, signal: Signal) -> Packet {
        Packet { from: self.who, to, bytes: Some(signal.write()) }
    }

    fn arrive(&mut self, packet: &Packet, sent: &mut Vec<Packet>) {
        let Some(bytes) = &packet.bytes else {
            return self.replica.handle_sent(self.now, id_of(packet.to), true);
        };
        match Signal::read(bytes) {
            Some(Signal::Still(still)) => {
                if probe::handle_still(&mut self.replica, self.now, id_of(packet.from), still) {
                    sent.push(self.signal(packet.from, Signal::Believed { since: still.since }));
                }
                return;
            }
            Some(Signal::Believed { since }) => {
                return probe::note_still_accepted(&mut self.replica, self.now, id_of(packet.from), since);
            }
            None => {}
        }
        let decoded = wire::decode(bytes, &Taken, &Limits::default()).expect("what was encoded decodes");
        let from = decoded.envelope.from;
        if let Some(message) = decoded.message {
            self.replica.handle_message(self.now, from, message);
        }
    }

    fn drain(&mut self, sent: &mut Vec<Packet>) {
        while self.replica.poll_change().is_some() {}
        let from = id_of(self.who);
        let envelope = Envelope { cache: CACHE, from, node: from.as_uuid() };
        while let Some(transmit) = self.replica.poll_transmit(self.now) {
            let bytes = match &transmit.message {
                Message::Push(push) if !push.raw.is_empty() => wire::forward(&envelope, &push.raw),
                message => wire::encode(&envelope, message),
            };
            let bytes = bytes.expect("what a replica sends can be encoded");
            for to in transmit.to {
                sent.push(Packet { from: self.who, to: who_is(&to), bytes: Some(bytes.clone()) });
                if transmit.bulk && self.rules.hold_sends {
                    sent.push(Packet { from: self.who, to: who_is(&to), bytes: None });
                } else if transmit.bulk {
                    self.replica.handle_sent(self.now, to, true);
                }
            }
        }
        let _ = self.replica.poll_timeout(self.now);
    }

    fn held(&self, key: u8) -> Option<Held> {
        let held = probe::registers(&self.replica).into_iter().find(|held| held.key == Some(key))?;
        Some(Held { marker: held.marker, value: held.value, served: held.served })
    }

    /// Checks, after every input, the rules that this replica must keep whatever its peers do.
    fn look(&mut self) {
        let registers = probe::registers(&self.replica);
        for held in registers {
            let Some(key) = held.key else { continue };
            let slot = &mut self.newest[usize::from(key)];
            let rank = rank(&held.marker);
            let stale = held.served && slot.is_some_and(|newest| newest > rank);
            *slot = (*slot).max(Some(rank));
            if stale {
                self.accuse("serves something older than what it had applied");
            }
            let event = Event { key, marker: held.marker, value: held.value };
            let known = |event: &Event| self.events.iter().any(|other| other.marker.dot == event.marker.dot);
            if event.marker.dot.actor == id_of(self.who) && !known(&event) {
                self.events.push(event);
            }
        }
        let bound = self.rules.config.max_drift + Duration::from_millis(1);
        if self.replica.view().clock().is_ahead(self.now, self.replica.view().clock().last(), bound) {
            self.accuse("its clock follows one that is too far ahead");
        }
        if let Err(what) = self.replica.validate() {
            self.accuse(&what);
        }
    }

    pub fn view(&self) -> View {
        let Counters {
            evicted_stable,
            evicted_unstable,
            evicted_unsent,
            forced_drops,
            voided,
            reconcile_voided,
            reconcile_removed,
            fills_contested,
            in_doubt,
            reconcile_doubted,
            ..
        } = *self.replica.view().counters();
        let evicted = evicted_stable + evicted_unstable + evicted_unsent + in_doubt + reconcile_doubted;
        let lost = [evicted, forced_drops, voided, reconcile_voided, fills_contested];
        View {
            keys: (0..self.rules.keys).map(|key| self.held(key)).collect(),
            vector: self.replica.view().vector().clone(),
            dropped: self.replica.view().dropped().clone(),
            floor: self.replica.view().floor().max(self.replica.view().eviction_floor()),
            epoch: self.replica.view().epoch(),
            receiving: self.replica.view().is_receiving(),
            deferring: self.replica.view().deferred_len() > 0,
            filling: self.filling.is_some(),
            gave_up: lost.iter().sum::<u64>() + reconcile_removed > 0,
            voided: voided + reconcile_voided,
            events: self.events.clone(),
            stored: self.stored.clone(),
            fault: self.fault.clone(),
        }
    }
}
