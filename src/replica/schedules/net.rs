//! A network of a few replicas, in which the schedules run.

use crate::hlc::{Now, Stamp};
use crate::item::{Body, Item, ItemRef, Key};
use crate::message::{Digest, Entry, Message, Push, Retired};
use crate::replica::{Bugs, Replica, ReplicaConfig, Write};
use crate::replica_id::ReplicaId;

pub(super) const S: u64 = 1_000_000_000;
const BASE: u64 = 1_700_000_000 * S;

pub(super) fn id(n: usize) -> ReplicaId {
    let mut bytes = [7; 16];
    bytes[0] = n as u8 + 1; // Ids rise with `n`, and differ in every part that is hashed.
    bytes[9] = (n as u8 + 1).wrapping_mul(151);
    ReplicaId::from_bytes(bytes)
}

/// Replicas, and the messages between them, which arrive without delay.
pub(super) struct Net {
    pub(super) r: Vec<Replica<u32, u32>>,
    pub(super) at: u64,
    pub(super) skew: Vec<i64>,
    pub(super) up: Vec<bool>,
    /// The replica of whose frames only the first is delivered.
    pub(super) drop_frames_from: Option<usize>,
    pub(super) frames_seen: u32,
    /// True if messages between even and odd replicas are lost.
    pub(super) parted: bool,
    /// Links that carry nothing in either direction.
    pub(super) cut: std::collections::BTreeSet<(usize, usize)>,
    /// The number of new ids that were taken.
    pub(super) renewed: usize,
}

impl Net {
    pub(super) fn new(n: usize, config: impl Fn(usize) -> ReplicaConfig) -> Self {
        let now = Now { wall: BASE, mono: 0 };
        Self {
            r: (0..n).map(|i| Replica::new(id(i), config(i), i as u64, now).unwrap()).collect(),
            at: 0,
            skew: vec![0; n],
            up: vec![true; n],
            drop_frames_from: None,
            frames_seen: 0,
            parted: false,
            cut: std::collections::BTreeSet::new(),
            renewed: 0,
        }
    }
    /// Reintroduces known bugs in all replicas.
    pub(super) fn with(mut self, bugs: Bugs) -> Self {
        self.r.iter_mut().for_each(|replica| replica.set_bugs(bugs));
        self
    }
    /// Greets every replica from every replica.
    pub(super) fn all_meet(&mut self) {
        for a in 0..self.r.len() {
            for b in 0..a {
                self.meet(b, a);
            }
        }
    }
    /// Returns all frames of the session that `from` opens for this digest of `to`. The frames are not delivered.
    pub(super) fn frames_for(&mut self, from: usize, to: usize, digest: &Message<u32, u32>) -> Vec<Message<u32, u32>> {
        self.give(to, id(from), digest);
        let now = self.now(from);
        let mut frames = Vec::new();
        while let Some(t) = self.r[from].poll_transmit(now) {
            if t.bulk {
                t.to.iter().for_each(|to| self.r[from].handle_sent(now, *to, true));
            }
            if matches!(t.message, Message::Frame(_)) && t.to.contains(&id(to)) {
                frames.push(t.message);
            }
        }
        frames
    }
    /// Returns a full digest of a replica, as a receiver with other retired origins would get it.
    pub(super) fn digest_of(&mut self, i: usize) -> Message<u32, u32> {
        let now = self.now(i);
        let digest = Digest { greets: false, ..self.r[i].greeting(now) };
        let (vector, retired) = (self.r[i].view().vector().clone(), Retired::default());
        Message::Digest(Digest { vector, retired, full: true, ..digest })
    }
    /// Takes the next push of a replica and does not deliver it.
    pub(super) fn intercept(&mut self, i: usize) -> Message<u32, u32> {
        let now = self.now(i);
        let taken = self.r[i].poll_transmit(now).unwrap();
        assert!(matches!(taken.message, Message::Push(_)));
        taken.to.iter().for_each(|to| self.r[i].handle_sent(now, *to, true));
        taken.message
    }
    pub(super) fn now(&self, i: usize) -> Now {
        Now { wall: (BASE + self.at).wrapping_add_signed(self.skew[i]), mono: self.at }
    }
    pub(super) fn put(&mut self, i: usize, key: u32, value: Option<u32>, size: u32) -> Stamp {
        self.put_expiring(i, key, value, size, 0)
    }
    /// Writes a value that expires after `after` nanoseconds.
    pub(super) fn put_until(&mut self, i: usize, key: u32, value: u32, after: u64) -> Stamp {
        let expires = self.now(i).wall + after;
        self.put_expiring(i, key, Some(value), 8, expires)
    }
    fn put_expiring(&mut self, i: usize, key: u32, value: Option<u32>, size: u32, expires: u64) -> Stamp {
        let now = self.now(i);
        let body = value.map_or(Body::ABSENT, Body::Known);
        let item = ItemRef::new(Item { key: Key::Known(key), body });
        let write = Write { hash: u64::from(key) << 48 | u64::from(key), item, expires, size, weight: 1 };
        let s = if value.is_some() { self.r[i].write(now, write) } else { self.r[i].delete(now, write).0 };
        self.clean(i);
        s
    }
    pub(super) fn clean(&mut self, i: usize) {
        while self.r[i].poll_change().is_some() {}
        self.r[i].take_garbage();
    }
    pub(super) fn get(&self, i: usize, key: u32) -> Option<u32> {
        let held = self.r[i].view().store().get(u64::from(key) << 48 | u64::from(key), &key)?;
        (held.meta.kind.is_live() && held.meta.stamp_time > self.r[i].view().epoch())
            .then(|| held.item.value().copied())?
    }
    pub(super) fn held(&self, i: usize, key: u32) -> Option<crate::crdt::Marker> {
        let held = self.r[i].view().store().get(u64::from(key) << 48 | u64::from(key), &key)?;
        Some(self.r[i].view().marker_at(&held.meta))
    }
    pub(super) fn evict(&mut self, i: usize, key: u32) -> crate::replica::Evicted {
        let held = self.r[i].view().store().get(u64::from(key) << 48 | u64::from(key), &key).unwrap();
        let now = self.now(i);
        let e = self.r[i].evict(now, held.slot);
        self.clean(i);
        e
    }
    pub(super) fn give(&mut self, from: usize, to: ReplicaId, message: &Message<u32, u32>) {
        for j in 0..self.r.len() {
            let apart = self.parted && from % 2 != j % 2 || self.cut.contains(&(from.min(j), from.max(j)));
            if self.up[j] && j != from && self.r[j].view().id() == to && !apart {
                self.give_one(from, j, message);
            }
        }
    }
    fn give_one(&mut self, from: usize, j: usize, message: &Message<u32, u32>) {
        if matches!(message, Message::Frame(_)) && self.drop_frames_from == Some(from) {
            self.frames_seen += 1;
            if self.frames_seen > 1 {
                return;
            }
        }
        let now = self.now(j);
        let mut message = copy(message);
        if let Message::Push(push) = &mut message {
            // A received push has its encoded bytes. Only such a push is relayed.
            push.raw = bytes::Bytes::from_static(b"push");
            push.hops = push.hops.saturating_add(1);
        }
        let sender = self.r[from].view().id();
        self.r[j].handle_message(now, sender, message);
        self.clean(j);
        if self.r[j].needs_new_id(now) {
            self.renewed += 1;
            let before = self.r[j].view().id();
            let remains = self.r[j].renew(now, id(100 + self.renewed), 0);
            assert!(remains.is_some() && self.r[j].view().id() != before);
            self.clean(j);
            self.report_departed(before);
            for i in (0..self.r.len()).filter(|i| *i != j && self.up[*i]).collect::<Vec<_>>() {
                let (theirs, now) = (self.r[i].view().id(), self.now(j));
                self.r[j].greet(now, theirs);
            }
        }
    }
    /// Reports an id as departed if no live replica uses it.
    fn report_departed(&mut self, id: ReplicaId) {
        let there: Vec<_> = (0..self.r.len()).filter(|i| self.up[*i]).collect();
        if there.iter().all(|i| self.r[*i].view().id() != id) {
            for i in there {
                let now = self.now(i);
                self.r[i].handle_member_left(now, id);
            }
        }
    }
    /// Delivers everything that is due, until no replica has a message left.
    pub(super) fn flush(&mut self) {
        for _ in 0..10_000 {
            let mut any = false;
            for i in 0..self.r.len() {
                if !self.up[i] {
                    continue;
                }
                let now = self.now(i);
                while let Some(t) = self.r[i].poll_transmit(now) {
                    any = true;
                    for to in t.to {
                        self.give(i, to, &t.message);
                        if t.bulk {
                            self.r[i].handle_sent(now, to, true);
                        }
                    }
                }
            }
            if !any {
                return;
            }
        }
        panic!("endless");
    }
    pub(super) fn run(&mut self, seconds: u64) {
        let until = self.at + seconds * S;
        while self.at < until {
            self.step();
        }
    }
    /// Lets a twentieth of a second pass and delivers all messages.
    pub(super) fn step(&mut self) {
        self.tick();
        self.flush();
    }
    /// Lets a twentieth of a second pass without sending anything.
    pub(super) fn tick(&mut self) {
        self.at += S / 20;
        for i in 0..self.r.len() {
            if self.up[i] {
                let now = self.now(i);
                if self.r[i].poll_timeout(now) <= now.mono {
                    self.r[i].handle_timeout(now);
                    self.clean(i);
                }
            }
        }
    }
    pub(super) fn meet(&mut self, a: usize, b: usize) {
        let ids = [self.r[a].view().id(), self.r[b].view().id()];
        let now = self.now(a);
        self.r[a].greet(now, ids[1]);
        let now = self.now(b);
        self.r[b].greet(now, ids[0]);
        self.flush();
    }
    /// Stops a replica. With `forget` it is reported as departed for good, otherwise as unreachable.
    pub(super) fn die(&mut self, i: usize, forget: bool) {
        self.up[i] = false;
        let id = self.r[i].view().id();
        for j in 0..self.r.len() {
            if self.up[j] {
                let now = self.now(j);
                if forget { self.r[j].handle_member_left(now, id) } else { self.r[j].handle_member_down(now, id) }
            }
        }
    }
}

/// Copies a message.
pub(super) fn copy(message: &Message<u32, u32>) -> Message<u32, u32> {
    use crate::message::{Audit, Frame, Interval};
    let entries = |e: &[Entry<u32, u32>]| e.to_vec();
    match message {
        Message::Digest(d) => Message::Digest(d.clone()),
        Message::Ack(a) => Message::Ack(*a),
        Message::Push(p) => {
            Message::Push(Push { entries: entries(&p.entries), fills: p.fills.clone(), raw: p.raw.clone(), ..*p })
        }
        Message::Frame(f) => Message::Frame(Frame {
            base: f.base.clone(),
            intervals: f
                .intervals
                .iter()
                .map(|i| Interval { entries: entries(&i.entries), fills: i.fills.clone(), ..*i })
                .collect(),
            dropped: f.dropped.clone(),
            last: f.last.clone(),
            ..*f
        }),
        Message::Audit(a) => {
            Message::Audit(Audit { vector: a.vector.clone(), entries: entries(&a.entries), reply: a.reply })
        }
    }
}

pub(super) fn plain(_: usize) -> ReplicaConfig {
    ReplicaConfig {
        audit_interval: std::time::Duration::ZERO,
        gc_grace: std::time::Duration::from_secs(2),
        ..Default::default()
    }
}
