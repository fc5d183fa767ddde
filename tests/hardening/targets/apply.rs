//! A hostile member against a live replica that has an honest peer.
//!
//! The hostile member has the encryption key, so its messages decode. The worst it may do is to write entries. After
//! every message the victim must be consistent, and its memory and clock must stay within their bounds. Once it has
//! left and `max_drift` has passed, both honest replicas must serve the same values for the keys they wrote.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use driftless::ReplicaConfig;
use driftless::hlc::Now;
use driftless::item::{Body, Item, ItemRef, Key};
use driftless::message::{Digest, Message};
use driftless::probe;
use driftless::replica::{Replica, Write};
use driftless::replica_id::ReplicaId;
use driftless::wire::{self, Envelope, Intake, Limits};
use uuid::Uuid;

use super::Verdict;
use super::gen_message::{self, Source, Times};
use super::wire::{Plain, Typed, decode};

pub const VICTIM: u8 = 1;
pub const HONEST: u8 = 2;
pub const HOSTILE: u8 = 3;
pub const KEYS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

const T0: u64 = 1_800_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;
const DRIFT: u64 = SECOND;
/// The nanoseconds that a clock may be ahead beyond the drift: each event of a run may advance it by a tick of 16 ns.
const GRAINS: u64 = 1_000_000;
const MAX_TOMBSTONES: usize = 64;
const MAX_DEFERRED: usize = 16;
const MAX_RETIRED: usize = 16;
/// The delay of a message in nanoseconds. Not zero: a clock is a tick ahead of the greatest time it has merged.
const HOP: u64 = 10_000;
/// The most messages in one input.
const MAX_MESSAGES: usize = 24;
/// The most messages and wake-ups in one run. More mean an endless loop.
const MAX_STEPS: usize = 50_000;

pub fn id(number: u8) -> ReplicaId {
    ReplicaId::from_bytes([number; 16])
}

pub fn envelope(from: u8) -> Envelope<'static> {
    Envelope { cache: "c", from: id(from), node: Uuid::from_u128(9) }
}

fn config() -> ReplicaConfig {
    let mut config = ReplicaConfig::default();
    let ms = Duration::from_millis;
    config.max_drift = Duration::from_nanos(DRIFT);
    config.digest_interval = ms(100);
    config.gc_grace = ms(500);
    config.forget_after = ms(3_000);
    config.session_idle = ms(500);
    config.session_deadline = ms(2_000);
    config.audit_interval = ms(500);
    config.fill_hold = ms(1_000);
    config.max_tombstones = MAX_TOMBSTONES;
    config.max_deferred = MAX_DEFERRED;
    config.max_retired = MAX_RETIRED;
    config.max_frame_bytes = 1_024;
    config
}

type Machine = Replica<String, Bytes>;

/// Runs one input: a sequence of messages, each generated from the next bytes or decoded from the rest of the input.
pub fn run(data: &[u8]) -> Verdict {
    let mut source = Source(data);
    let mut stage = Stage::new();
    let mut verdict = Verdict::default();
    for _ in 0..MAX_MESSAGES {
        if source.is_empty() {
            break;
        }
        let message = match source.byte() % 16 {
            0 => raw(&mut source),
            1 => {
                stage.pass(u64::from(source.byte()) * 10_000_000);
                continue;
            }
            2 => {
                stage.write(VICTIM, usize::from(source.byte()));
                continue;
            }
            3 => {
                stage.write(HONEST, usize::from(source.byte()));
                continue;
            }
            _ => {
                let made = gen_message::message(&mut source, &stage.times());
                gen_message::over_the_wire(HOSTILE, &made)
            }
        };
        verdict.note(message.is_some());
        if let Some(message) = message {
            stage.inject(HOSTILE, message);
        }
    }
    stage.aftermath();
    verdict
}

/// Decodes the rest of the input as one message in wire format.
fn raw(source: &mut Source<'_>) -> Option<Typed> {
    let bytes = Bytes::copy_from_slice(std::mem::take(&mut source.0));
    decode(&bytes)
}

/// Two honest replicas that know each other, and a hostile third that they count as a member.
pub struct Stage {
    at: u64,
    victim: Machine,
    honest: Machine,
    line: VecDeque<(u8, u8, Bytes)>,
    steps: usize,
    /// The number of the last write, which is also its value.
    serial: u64,
}

impl Stage {
    pub fn new() -> Self {
        let open = |number| Machine::new(id(number), config(), u64::from(number), now(0)).expect("valid settings");
        let mut stage =
            Self { at: 0, victim: open(VICTIM), honest: open(HONEST), line: VecDeque::new(), steps: 0, serial: 0 };
        stage.victim.greet(now(0), id(HONEST));
        stage.honest.greet(now(0), id(VICTIM));
        (0..KEYS.len()).for_each(|key| stage.write(if key % 2 == 0 { VICTIM } else { HONEST }, key));
        stage.pass(300_000_000);
        stage.delete(VICTIM, 1);
        stage.inject(HOSTILE, Message::Digest(greeting(stage.wall())));
        stage.pass(50_000_000);
        stage
    }

    fn wall(&self) -> u64 {
        now(self.at).wall
    }

    fn machine(&mut self, number: u8) -> &mut Machine {
        if number == VICTIM { &mut self.victim } else { &mut self.honest }
    }

    /// Returns the times that a hostile member can know: it receives everything.
    pub fn times(&self) -> Times {
        let mut known: Vec<u64> = self.victim.view().vector().iter().map(|(_, time)| time).collect();
        known.extend(probe::registers(&self.victim).iter().map(|held| held.marker.stamp.time));
        known.extend([self.victim.view().clock().last(), self.victim.view().floor().time, self.victim.view().epoch()]);
        Times { now: self.wall(), drift: DRIFT, known }
    }

    fn next_write(&mut self, key: usize, delete: bool) -> Write<String, Bytes> {
        self.serial += 1;
        let key = Key::Known(KEYS[key % KEYS.len()].to_owned());
        let hash = Plain.hash(&key);
        let body = if delete { Body::ABSENT } else { Body::Known(self.serial.to_be_bytes().to_vec().into()) };
        Write { hash, item: ItemRef::new(Item { key, body }), expires: 0, size: 10, weight: 8 }
    }

    pub fn write(&mut self, number: u8, key: usize) {
        let write = self.next_write(key, false);
        let at = now(self.at);
        self.machine(number).write(at, write);
        self.settle(number);
    }

    fn delete(&mut self, number: u8, key: usize) {
        let write = self.next_write(key, true);
        let at = now(self.at);
        self.machine(number).delete(at, write);
        self.settle(number);
    }

    /// Passes a message to the victim, then checks the promises about the victim alone.
    pub fn inject(&mut self, from: u8, message: Typed) {
        let at = now(self.at);
        self.victim.handle_message(at, id(from), message);
        self.settle(VICTIM);
        self.deliver();
        self.check();
    }

    /// Collects the output of one replica. Messages to the hostile member are lost.
    fn settle(&mut self, number: u8) {
        let at = now(self.at);
        let Self { victim, honest, line, steps, .. } = self;
        let machine = if number == VICTIM { victim } else { honest };
        while machine.poll_change().is_some() {}
        while let Some(transmit) = machine.poll_transmit(at) {
            *steps += 1;
            assert!(*steps < MAX_STEPS, "replica {number} sends without end");
            let bytes = wire::encode(&envelope(number), &transmit.message).expect("what is sent can be written");
            for to in transmit.to {
                let other = [VICTIM, HONEST].into_iter().find(|other| id(*other) == to);
                line.extend(other.map(|other| (number, other, bytes.clone())));
                if transmit.bulk {
                    machine.handle_sent(at, to, true);
                }
            }
        }
        while machine.poll_change().is_some() {}
    }

    fn deliver(&mut self) {
        while let Some((from, to, bytes)) = self.line.pop_front() {
            self.at += HOP;
            let decoded = wire::decode::<String, Bytes>(&bytes, &Plain, &Limits::default());
            let message = decoded.expect("what is sent can be read").message.expect("of a known kind");
            let at = now(self.at);
            self.machine(to).handle_message(at, id(from), message);
            self.settle(to);
        }
    }

    /// Advances the time of both replicas.
    pub fn pass(&mut self, nanos: u64) {
        let until = self.at + nanos;
        loop {
            let next = |machine: &Machine, at| machine.poll_timeout(now(at)).max(at);
            let (victim, honest) = (next(&self.victim, self.at), next(&self.honest, self.at));
            let at = victim.min(honest);
            if at > until {
                self.at = self.at.max(until);
                return;
            }
            self.steps += 1;
            assert!(self.steps < MAX_STEPS, "a replica requests wake-ups without end");
            self.at = at;
            let number = if victim <= honest { VICTIM } else { HONEST };
            let time = now(at);
            self.machine(number).handle_timeout(time);
            self.settle(number);
            self.deliver();
        }
    }

    /// Checks the invariants that hold at any time, after any input.
    fn check(&mut self) {
        let most = self.wall() + DRIFT + GRAINS;
        let victim = &mut self.victim;
        if let Err(wrong) = victim.validate() {
            panic!("validate: {wrong}");
        }
        assert!(victim.view().clock().last() <= most, "the clock was moved to {}", victim.view().clock().last());
        assert!(victim.view().floor().time <= most, "the floor was moved to {:?}", victim.view().floor());
        assert!(victim.view().epoch() <= most, "the epoch was moved to {}", victim.view().epoch());
        for (what, vector) in [("seen", victim.view().vector()), ("dropped", victim.view().dropped())] {
            let ahead = vector.iter().find(|(_, time)| *time > most);
            assert!(ahead.is_none(), "{what}: {ahead:?} lies ahead");
        }
        assert!(victim.view().tombstone_len() <= MAX_TOMBSTONES, "{} tombstones", victim.view().tombstone_len());
        assert!(victim.view().deferred_len() <= MAX_DEFERRED, "{} deferred", victim.view().deferred_len());
        assert!(victim.view().peer_len() <= 2, "{} peers", victim.view().peer_len());
        assert!(victim.view().vector().len() <= MAX_RETIRED + 8, "{} origins", victim.view().vector().len());
        assert!(victim.view().log_len() <= 4_096, "{} log entries", victim.view().log_len());
    }

    /// Ends the attack and checks agreement: the hostile member leaves, `max_drift` passes, honest members write. Both
    /// must serve only what honest members wrote for these keys.
    pub fn aftermath(&mut self) {
        self.pass(200_000_000);
        for number in [VICTIM, HONEST] {
            let at = now(self.at);
            self.machine(number).handle_member_left(at, id(HOSTILE));
            self.settle(number);
        }
        self.deliver();
        self.pass(2 * DRIFT + SECOND);
        (0..KEYS.len()).for_each(|key| self.write(HONEST, key));
        self.pass(SECOND);
        (0..3).for_each(|key| self.write(VICTIM, key));
        self.delete(VICTIM, 5);
        self.pass(5 * SECOND);
        self.check();
        let (victim, honest) = (served(&self.victim), served(&self.honest));
        assert_eq!(victim, honest, "honest replicas disagree about what they wrote themselves");
        let newest: Vec<_> = (0..5).map(|key| Some(KEYS[key])).collect();
        // Entries that the hostile member wrote under other keys may stay, readable or not: it was allowed to write.
        let ours: Vec<_> = victim.iter().filter(|(key, _)| KEYS.contains(&key.as_str())).collect();
        let keys: Vec<_> = ours.iter().map(|(key, _)| Some(key.as_str())).collect();
        assert_eq!(keys, newest, "what honest replicas wrote is not what is there");
        for (key, value) in ours {
            let value = value.as_deref().expect("a value that can be read");
            let serial = u64::from_be_bytes(value.try_into().expect("a value of an honest replica"));
            assert!(serial + 10 >= self.serial, "{key} is {serial}, of before the attack; the last is {}", self.serial);
        }
    }
}

fn now(at: u64) -> Now {
    Now { wall: T0 + at, mono: at }
}

fn greeting(clock: u64) -> Digest {
    let vector = [(id(HOSTILE), clock)].into_iter().collect();
    Digest { clock, vector, full: true, reply: true, ..Digest::default() }
}

/// Returns the values served to readers, by key; `None` for a value that does not decode here.
fn served(machine: &Machine) -> Vec<(String, Option<Vec<u8>>)> {
    let held = probe::registers(machine).into_iter().filter(|held| held.served);
    let shown = held.map(|held| (held.key.unwrap_or_else(|| "opaque".into()), held.value.map(|value| value.to_vec())));
    let mut served: Vec<_> = shown.collect();
    served.sort();
    served
}
