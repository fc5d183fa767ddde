//! The lock of a replica, and the stripes of the threads that write beside it.
//!
//! A call of the replica takes the lock and then every open stripe. So no direct write is made during the call, and the
//! notes of all direct writes before it are absorbed first. A direct write takes one stripe, by the number of its
//! thread: threads that write at the same time usually take different ones.
//!
//! A stripe is opened once a thread has asked for it. A cache whose writes all go through the replica has none, and
//! pays for none.

use std::ops::{Deref, DerefMut};

use smallvec::SmallVec;

use crate::sync::{AtomicU32, Mutex, MutexGuard, Ordering, seat};

/// The number of stripes. At most 32, the bits of a mask.
pub(super) const STRIPES: usize = 16;
/// The number of notes in a stripe from which on its writer absorbs them, if no other thread is at the replica.
const RELIEF: usize = 64;
/// The number of notes in a stripe from which on its writer waits for the replica to absorb them.
const FULL: usize = 1_024;
/// The share of a capacity whose weight of notes a writer absorbs, as a divisor.
pub(super) const SHARE: u64 = 512;

/// The notes of a stripe, by number and by the weight of the values that were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) notes: usize,
    pub(super) weight: u64,
}

impl Load {
    fn reaches(self, limit: Self) -> bool {
        self.notes >= limit.notes || self.weight >= limit.weight
    }
}

/// The loads of a stripe that bound how many notes wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StripeLimits {
    /// The load from which on the writer of a stripe absorbs the notes, if no other thread is at the replica.
    pub(super) relief: Load,
    /// The load from which on the writer of a stripe waits for the replica to absorb them.
    pub(super) full: Load,
}

impl StripeLimits {
    /// The limits of a cache without a capacity.
    pub(super) const UNBOUNDED: Self =
        Self { relief: Load { notes: RELIEF, weight: u64::MAX }, full: Load { notes: FULL, weight: u64::MAX } };

    /// Returns the limits for a capacity: a stripe is relieved at 1/512 of it, and its writer waits at twice that. So the
    /// notes of all stripes weigh at most 3/32 of the capacity. Returns `None` for a capacity of which the share is below
    /// two: then each write is worth a call.
    pub(crate) fn of_capacity(capacity: u64) -> Option<Self> {
        Self::of_budget(capacity / SHARE)
    }

    /// Returns the limits for stripes with notes of this weight.
    pub(crate) fn of_budget(weight: u64) -> Option<Self> {
        let notes = usize::try_from(weight).unwrap_or(RELIEF).min(RELIEF);
        let relief = Load { notes, weight };
        let full = Load { notes: 2 * notes, weight: weight.saturating_mul(2) };
        (weight >= 2).then_some(Self { relief, full })
    }

    /// Returns true if a stripe with so many notes may have the note of one more value, of this weight.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn has_room(&self, notes: usize, weight: u32) -> bool {
        notes < self.full.notes && u64::from(weight) <= self.heaviest()
    }

    /// Returns the weight of the heaviest value that may be written directly.
    pub(crate) fn heaviest(&self) -> u64 {
        self.relief.weight
    }
}

/// The state behind the lock: it absorbs the notes of direct writes, and decides whether there may be any.
pub(crate) trait Gated {
    /// Makes direct writes. Each stripe has a clone.
    type Writer: Clone;
    /// The note that a direct write leaves for the replica to absorb.
    type Note;
    /// The state beside the lock that absorbing needs.
    type Aside;

    /// Absorbs the notes of direct writes, which come in no order. Leaves `notes` empty. Changes no register.
    fn absorb(&mut self, notes: &mut Vec<Self::Note>, aside: &Self::Aside);

    /// Returns true if threads must not write directly any more, because of what was absorbed.
    fn must_close(&self) -> bool;

    /// Decides whether threads may write directly from now on. May replace the writer.
    fn admit(&mut self, writer: &mut Option<Self::Writer>) -> Admission;
}

/// The permission of threads to write directly until the next call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// They may, with the writer that they have.
    Same,
    /// They may, with another writer.
    Renewed,
    /// They must write through the replica.
    Refused,
    /// They must write through the replica, probably for long. So the stripes are closed, and calls need not lock them.
    Closed,
}

impl Admission {
    /// Returns true if threads may write directly.
    pub(crate) fn admits(self) -> bool {
        matches!(self, Self::Same | Self::Renewed)
    }
}

/// A lock aligned to 128 bytes, so that two stripes never share a cache line.
#[repr(align(128))]
struct Aligned<W, N>(Mutex<Stripe<W, N>>);

struct Stripe<W, N> {
    /// The writer, or `None` while every write must go through the replica.
    writer: Option<W>,
    notes: Notes<N>,
}

/// The notes of the direct writes of one stripe.
pub(super) struct Notes<N> {
    list: Vec<N>,
    /// The weight of the values that were written.
    weight: u64,
}

impl<N> Notes<N> {
    fn load(&self) -> Load {
        Load { notes: self.list.len(), weight: self.weight }
    }

    /// Adds the note of a write of a value with this weight.
    #[inline]
    pub(super) fn push(&mut self, note: N, weight: u32) {
        self.list.push(note);
        self.weight += u64::from(weight);
    }
}

struct Inside<E, W, N> {
    engine: E,
    writer: Option<W>,
    /// True if the open stripes have the writer.
    admitted: bool,
    /// An empty buffer that is kept for the next notes.
    notes: Vec<N>,
}

type InsideGuard<'a, E> = MutexGuard<'a, Inside<E, <E as Gated>::Writer, <E as Gated>::Note>>;
type Guards<'a, W, N> = SmallVec<[MutexGuard<'a, Stripe<W, N>>; 4]>;

/// A replica behind its lock; see the module.
pub(super) struct Gate<E, W, N> {
    inside: Mutex<Inside<E, W, N>>,
    stripes: Box<[Aligned<W, N>]>,
    /// The stripes that are open, as bits. Changes only under the lock.
    open: AtomicU32,
    /// The stripes that threads asked for, as bits.
    wanted: AtomicU32,
    limits: StripeLimits,
}

impl<E: Gated<Writer = W, Note = N>, W: Clone, N> Gate<E, W, N> {
    pub(super) fn new(engine: E, limits: StripeLimits) -> Self {
        let notes = || Notes { list: Vec::new(), weight: 0 };
        let stripe = || Aligned(Mutex::new(Stripe { writer: None, notes: notes() }));
        Self {
            inside: Mutex::new(Inside { engine, writer: None, admitted: false, notes: Vec::new() }),
            stripes: (0..STRIPES).map(|_| stripe()).collect(),
            open: AtomicU32::new(0),
            wanted: AtomicU32::new(0),
            limits,
        }
    }

    /// Locks out all other threads, and absorbs what they wrote. Threads may write directly again once the guard is
    /// dropped.
    #[inline]
    pub(super) fn lock(&self, aside: &E::Aside) -> Held<'_, E> {
        self.hold(self.inside.lock(), aside)
    }

    #[inline]
    fn hold<'a>(&'a self, mut inside: InsideGuard<'a, E>, aside: &E::Aside) -> Held<'a, E> {
        let mut stripes = self.lock_open();
        collect(&mut inside.notes, &mut stripes);
        inside.absorb(aside);
        Held { gate: self, stripes, inside }
    }

    fn lock_open(&self) -> Guards<'_, W, N> {
        let mut open = self.open.load(Ordering::Relaxed);
        let mut stripes = Guards::new();
        while open != 0 {
            stripes.push(self.stripes[open.trailing_zeros() as usize].0.lock());
            open &= open - 1;
        }
        stripes
    }

    /// Runs `act` with the writer and the notes of this thread's stripe. Returns the input if this thread must write
    /// through the replica. `act` runs under the stripe's lock, so it must not run user code, nor take the lock of the
    /// gate.
    #[inline]
    pub(super) fn write<T, R>(
        &self,
        aside: &E::Aside,
        input: T,
        act: impl FnOnce(&W, &mut Notes<N>, T) -> R,
    ) -> Result<R, T> {
        let Some(number) = seat().map(|seat| seat % STRIPES) else { return Err(input) };
        if self.open.load(Ordering::Acquire) & (1 << number) == 0 {
            self.ask_for(number);
            return Err(input);
        }
        let mut stripe = self.stripes[number].0.lock();
        let Stripe { writer, notes } = &mut *stripe;
        let Some(writer) = writer else { return Err(input) };
        if notes.load().reaches(self.limits.full) {
            // Threads that share the stripe have filled it, and wait. A write through the replica absorbs their notes.
            return Err(input);
        }
        let done = act(writer, notes, input);
        let load = notes.load();
        drop(stripe);
        if load.reaches(self.limits.relief) {
            self.relieve(load, aside);
        }
        Ok(done)
    }

    /// Returns the number of notes that wait to be absorbed.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.0.lock().notes.list.len()).sum()
    }

    #[cold]
    fn ask_for(&self, number: usize) {
        if self.wanted.load(Ordering::Relaxed) & (1 << number) == 0 {
            self.wanted.fetch_or(1 << number, Ordering::Relaxed);
        }
    }

    /// Absorbs all notes. Other threads may write directly meanwhile: absorbing changes no register.
    #[cold]
    fn relieve(&self, load: Load, aside: &E::Aside) {
        let is_full = load.reaches(self.limits.full);
        let inside = if is_full { Some(self.inside.lock()) } else { self.inside.try_lock() };
        let Some(mut inside) = inside else { return };
        // Taken from all stripes at one moment: a note must not be absorbed before the note of an earlier write.
        let mut stripes = self.lock_open();
        collect(&mut inside.notes, &mut stripes);
        drop(stripes);
        inside.absorb(aside);
        if inside.engine.must_close() {
            drop(self.hold(inside, aside));
        }
    }
}

/// Moves the notes of all stripes to one list.
fn collect<W, N>(all: &mut Vec<N>, stripes: &mut Guards<'_, W, N>) {
    for stripe in stripes {
        all.append(&mut stripe.notes.list);
        stripe.notes.weight = 0;
    }
}

impl<E: Gated<Note = N>, W, N> Inside<E, W, N> {
    fn absorb(&mut self, aside: &E::Aside) {
        if self.notes.is_empty() {
            return;
        }
        // Taken out first: after a panic no note may be absorbed once more.
        let mut notes = std::mem::take(&mut self.notes);
        self.engine.absorb(&mut notes, aside);
        self.notes = notes;
    }
}

/// The replica, while this thread has locked out all others.
pub(super) struct Held<'a, E: Gated> {
    gate: &'a Gate<E, E::Writer, E::Note>,
    // Dropped in this order: the stripes before the lock.
    stripes: Guards<'a, E::Writer, E::Note>,
    inside: InsideGuard<'a, E>,
}

impl<E: Gated> Deref for Held<'_, E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.inside.engine
    }
}

impl<E: Gated> DerefMut for Held<'_, E> {
    fn deref_mut(&mut self) -> &mut E {
        &mut self.inside.engine
    }
}

impl<E: Gated> Drop for Held<'_, E> {
    #[inline]
    fn drop(&mut self) {
        let Inside { engine, writer, admitted, .. } = &mut *self.inside;
        // After a panic the replica may be in the middle of a call. The next call decides anew.
        let admission = if std::thread::panicking() { Admission::Refused } else { engine.admit(writer) };
        let admits = admission.admits();
        if admits != *admitted || admission == Admission::Renewed {
            let writer = writer.as_ref().filter(|_| admits);
            self.stripes.iter_mut().for_each(|stripe| stripe.writer = writer.cloned());
            *admitted = admits;
        }
        if admission == Admission::Closed && !self.stripes.is_empty() {
            // A thread that still takes its stripe to be open finds no writer in it.
            self.gate.open.store(0, Ordering::Relaxed);
        }
        if admits && self.gate.wanted.load(Ordering::Relaxed) != self.gate.open.load(Ordering::Relaxed) {
            self.open_wanted();
        }
    }
}

impl<E: Gated> Held<'_, E> {
    /// Opens the stripes that threads asked for.
    #[cold]
    fn open_wanted(&mut self) {
        let (gate, writer) = (self.gate, &self.inside.writer);
        let open = gate.open.load(Ordering::Relaxed);
        let wanted = gate.wanted.load(Ordering::Relaxed);
        let new = (0..STRIPES).filter(|number| wanted & !open & (1 << number) != 0);
        new.for_each(|number| gate.stripes[number].0.lock().writer.clone_from(writer));
        // The last change of the call: a thread that sees an open stripe may write at once.
        gate.open.store(wanted, Ordering::Release);
    }
}
