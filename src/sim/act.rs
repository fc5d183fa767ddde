//! Doing what a script says.

use std::collections::BTreeMap;

use super::action::Action;
use super::agenda::Event;
use super::check::beliefs;
use super::check::fills;
use super::cluster::Cluster;
use super::opening::RunningFill;
use super::oracle::{EpochRecord, Fate, FillStart, Record};
use super::report::Violation;
use super::settle;
use super::soundness;
use super::trace::brief;
use super::types::{SimKey, SimValue};
use crate::crdt::Dot;
use crate::hlc::{HlcTime, Stamp, nanos};
use crate::item::{Body, Item, ItemRef, Key};
use crate::replica::Write;
use crate::wire::{MAX_DEPTH, encoded_len, key_len};

/// A fill with a time to live takes up to this many milliseconds.
const FILL_FOR: u32 = 200;

impl<K: SimKey, V: SimValue> Cluster<'_, K, V> {
    pub(super) fn act(&mut self, action: Action) -> Result<(), Violation> {
        self.trace(|| format!("ACT {action:?}"));
        match action {
            Action::Write(node, key, ttl) => self.write(node, key, ttl),
            Action::Delete(node, key) => self.delete(node, key),
            Action::Read(node, key) => self.read(node, key),
            Action::Audit(node, other) => self.audit(node, other),
            Action::InvalidateAll(node, cache) => self.invalidate_all(node, cache),
            Action::Fill(node, key, millis) => self.begin_fill(node, key, millis, 0),
            Action::FillFor(node, key, millis) => {
                self.begin_fill(node, key, FILL_FOR, u64::from(millis.max(1)) * 1_000_000)
            }
            Action::Evict(node, key) => self.evict(node, key),
            Action::CloseCache(node, cache) => self.close_cache(node, cache),
            Action::OpenCache(node, cache) => self.open_cache(node, cache),
            Action::Crash(node) => self.crash(node),
            Action::Restart(node) => self.restart(node),
            Action::Return => self.come_back(),
            Action::Join => self.join(),
            Action::Leave(node) => self.leave(node),
            Action::Forget(node, who) => self.forget(node, who),
            Action::Pause(node) => self.pause(node),
            Action::Resume => self.resume_one(),
            Action::Wait => Ok(()),
            Action::StepClock(node, millis) => self.step_clock(node, millis),
            Action::FreezeClock(node, on) => self.freeze_clock(node, on),
            _ => {
                self.change_network(action);
                Ok(())
            }
        }
    }

    /// The opening on a process, and the number of the key: keys count through all caches. None if the types of the process
    /// do not know the key: it has no way to name it.
    fn place(&self, node: u8, key: u16) -> Option<(usize, usize)> {
        let cache = (key / self.settings.keys % u16::from(self.settings.caches)) as usize;
        let number = self.processes[self.chosen(node)?].open[cache]?;
        let key = usize::from(key % self.settings.keys);
        (!self.is_foreign_to(number, key)).then_some((number, key))
    }

    fn write(&mut self, node: u8, key: u16, ttl: u32) -> Result<(), Violation> {
        let Some((number, key)) = self.place(node, key) else { return Ok(()) };
        self.write_on(number, key, ttl)
    }

    pub(super) fn write_on(&mut self, number: usize, key: usize, ttl: u32) -> Result<(), Violation> {
        let now = self.now_at(number);
        let ttl = if ttl == 0 { self.settings.time_to_live.map_or(0, nanos) } else { u64::from(ttl) * 1_000_000 };
        let expires = if ttl == 0 { 0 } else { now.wall.saturating_add(ttl) };
        if expires > 0 {
            self.report.fault("write with a time to live");
        }
        let write = self.new_write(key, expires)?;
        let item = Some(ItemRef::clone(&write.item));
        let opening = &mut self.openings[number];
        let stamp = opening.engine.replica.write(now, write);
        let dot = Dot::new(opening.id, stamp.time);
        self.record(number, key, (stamp, dot), item, expires, None)?;
        settle::opening(self, number)
    }

    /// A write as the cache prepares it.
    fn new_write(&mut self, key: usize, expires: u64) -> Result<Write<K, V>, Violation> {
        if let Err(what) = soundness::check_value(self.types, self.issued.writes) {
            self.report.unfit = true;
            return Err(Violation { at: self.at, what });
        }
        let (hash, key) = &self.keys[key];
        let value = self.types.value(self.issued.writes);
        let size = self.size(key, Some(&value))?;
        let weight = self.types.weigh(key, &value);
        if weight > 1 && self.settings.max_capacity.is_some() {
            self.report.fault("weights beyond one");
        }
        let item = ItemRef::new(Item { key: Key::Known(key.clone()), body: Body::Known(value) });
        self.issued.writes += 1;
        Ok(Write { hash: *hash, item, expires, size, weight })
    }

    fn new_delete(&self, key: usize) -> Result<Write<K, V>, Violation> {
        let (hash, key) = &self.keys[key];
        let size = self.size(key, None)?;
        let item = ItemRef::new(Item { key: Key::Known(key.clone()), body: Body::Absent });
        Ok(Write { hash: *hash, item, expires: 0, size, weight: 0 })
    }

    fn size(&self, key: &K, value: Option<&V>) -> Result<u32, Violation> {
        let refused = |error: crate::wire::EncodeError| {
            let (key, value) = (brief(key), value.map(brief));
            self.violation(format!("types: {key} = {value:?} cannot be encoded: {error}"))
        };
        let key = key_len(key).map_err(refused)?;
        let value = value.map_or(Ok(0), |value| encoded_len(value, MAX_DEPTH)).map_err(refused)?;
        Ok(u32::try_from(key + value).unwrap_or(u32::MAX))
    }

    fn record(
        &mut self,
        number: usize,
        key: usize,
        (stamp, dot): (Stamp, Dot),
        item: Option<ItemRef<K, V>>,
        expires: u64,
        fill: Option<FillStart>,
    ) -> Result<(), Violation> {
        let kind = if item.is_some() { "written" } else { "deleted" };
        self.trace(|| format!("  r{number} key {key} {kind} stamp {stamp:?} dot {dot:?}"));
        beliefs::check_watermark(self, number, stamp, &dot)?;
        let record = Record {
            stamp,
            dot,
            item,
            expires,
            at: self.at,
            wall: self.now_at(number).wall,
            unmet_clock: self.unmet_clock(number),
            author: number,
            fill,
            adopted_as: Vec::new(),
            told: BTreeMap::new(),
            held_by: BTreeMap::new(),
            fate: Fate::default(),
        };
        if self.oracle_mut(number).record(key, record) {
            return Err(self.violation(format!("stamps: {stamp:?} was issued twice for {}", brief(&self.keys[key].1))));
        }
        Ok(())
    }

    /// The furthest clock of a replica that does not have this one for a member yet.
    fn unmet_clock(&self, number: usize) -> HlcTime {
        let (id, cache) = (self.openings[number].id, self.openings[number].cache);
        let strangers = self.replicas_of(cache).into_iter().filter(|other| *other != number);
        let strangers = strangers.filter(|other| !self.openings[*other].history.company.admitted.contains_key(&id));
        strangers.map(|other| self.view(other).clock().judging(self.now_at(other))).max().unwrap_or_default()
    }

    fn delete(&mut self, node: u8, key: u16) -> Result<(), Violation> {
        let Some((number, key)) = self.place(node, key) else { return Ok(()) };
        let now = self.now_at(number);
        let delete = self.new_delete(key)?;
        let opening = &mut self.openings[number];
        let before = opening.engine.replica.view().vector().get(&opening.id);
        let (stamp, _) = opening.engine.replica.delete(now, delete);
        // A delete that did nothing is one all the same for whoever called it.
        let stamp = if stamp.time == 0 { Stamp::new(before.max(now.wall), opening.id) } else { stamp };
        let dot = Dot::new(opening.id, stamp.time.min(opening.engine.replica.view().vector().get(&opening.id)));
        opening.newest[key] = Some((stamp, true));
        self.record(number, key, (stamp, dot), None, 0, None)?;
        settle::opening(self, number)
    }

    /// A read, which counts as a use.
    fn read(&mut self, node: u8, key: u16) -> Result<(), Violation> {
        let Some((number, key)) = self.place(node, key) else { return Ok(()) };
        match self.served(number, key) {
            Some((_, held)) => self.openings[number].reads.hit(held.slot.id),
            None => self.openings[number].reads.miss(),
        }
        settle::opening(self, number)
    }

    /// Everything that one node holds of the first cache is compared with another's: all of it is sent.
    fn audit(&mut self, node: u8, other: u8) -> Result<(), Violation> {
        let open = |node: u8| self.chosen(node).and_then(|process| self.processes[process].open[0]);
        let Some((number, with)) = open(node).zip(open(other)) else { return Ok(()) };
        let with = self.openings[with].id;
        if !self.view(number).live_members().contains(&with) {
            return Ok(());
        }
        let held = (0..self.keys.len()).filter_map(|key| self.held(number, key));
        let slots: Vec<_> = held.map(|held| held.slot).collect();
        let due = self.openings[number].engine.replica.audit_registers(with, &slots);
        if due > 0 {
            self.report.fault("audit of suspects");
        }
        let before = self.openings[number].history.sent.audited;
        settle::opening(self, number)?;
        let sent = self.openings[number].history.sent.audited - before;
        if sent < due {
            let name = self.name(number);
            return Err(self.violation(format!("audit: {name} was to compare {due} registers, and sent {sent}")));
        }
        Ok(())
    }

    fn invalidate_all(&mut self, node: u8, cache: u8) -> Result<(), Violation> {
        let open = self.chosen(node).and_then(|process| self.processes[process].open[self.cache(cache)]);
        let Some(number) = open else { return Ok(()) };
        self.report.fault("invalidate all");
        let now = self.now_at(number);
        let epoch = self.openings[number].engine.replica.invalidate_all(now);
        self.trace(|| format!("  epoch {epoch}"));
        let (at, wall, unmet_clock) = (self.at, now.wall, self.unmet_clock(number));
        self.oracle_mut(number).epochs.push(EpochRecord { author: number, time: epoch, at, wall, unmet_clock });
        settle::opening(self, number)
    }

    fn begin_fill(&mut self, node: u8, key: u16, millis: u32, ttl: u64) -> Result<(), Violation> {
        let Some((number, key)) = self.place(node, key) else { return Ok(()) };
        if ttl > 0 {
            self.report.fault("fill with a time to live");
        }
        let now = self.now_at(number);
        let (hash, name) = &self.keys[key];
        let opening = &mut self.openings[number];
        let replica = &mut opening.engine.replica;
        let ticket = replica.begin_fill(now, *hash, &Key::Known(name.clone()));
        let began = replica.view().clock().last();
        self.issued.next_fill += 1;
        let fill = self.issued.next_fill;
        let start = FillStart { at: self.at, began };
        opening.fills.insert(fill, RunningFill { key, ticket, start, ttl });
        let after = self.dice.rng.u64(0..=u64::from(millis) * 1_000_000);
        self.schedule(after, Event::FillDone { opening: number, fill });
        settle::opening(self, number)
    }

    pub(super) fn store_fill(&mut self, number: usize, fill: u64) -> Result<(), Violation> {
        let Some(running) = self.openings[number].fills.remove(&fill) else { return Ok(()) };
        let now = self.now_at(number);
        let expires = if running.ttl == 0 { 0 } else { now.wall.saturating_add(running.ttl) };
        let write = self.new_write(running.key, expires)?;
        let item = Some(ItemRef::clone(&write.item));
        let opening = &mut self.openings[number];
        if let Some(stamp) = opening.engine.replica.finish_fill(now, &running.ticket, write) {
            let dot = Dot::new(opening.id, opening.engine.replica.view().vector().get(&opening.id));
            fills::check(self, number, running.key, &running.start, stamp)?;
            self.record(number, running.key, (stamp, dot), item, expires, Some(running.start))?;
        }
        settle::opening(self, number)
    }

    fn evict(&mut self, node: u8, key: u16) -> Result<(), Violation> {
        let Some((number, key)) = self.place(node, key) else { return Ok(()) };
        let now = self.now_at(number);
        if let Some(held) = self.held(number, key) {
            self.openings[number].engine.replica.evict(now, held.slot);
        }
        settle::opening(self, number)
    }
}
