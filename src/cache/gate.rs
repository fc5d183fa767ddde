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
const STRIPES: usize = 16;
/// The number of notes in a stripe from which on its writer absorbs them, if no other thread is at the replica.
pub(super) const RELIEF: usize = 64;
/// The number of notes in a stripe from which on its writer waits for the replica to absorb them.
const FULL: usize = 1_024;

/// The state behind the lock: it absorbs the notes of direct writes, and decides whether there may be any.
pub(crate) trait Gated {
    /// Makes direct writes. Each stripe has a clone.
    type Writer: Clone;
    /// The note that a direct write leaves for the replica to absorb.
    type Note;

    /// Absorbs the notes of direct writes, which come in no order. Leaves `notes` empty.
    fn absorb(&mut self, notes: &mut Vec<Self::Note>);

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
}

/// A lock aligned to 128 bytes, so that two stripes never share a cache line.
#[repr(align(128))]
struct Aligned<W, N>(Mutex<Stripe<W, N>>);

struct Stripe<W, N> {
    /// The writer, or `None` while every write must go through the replica.
    writer: Option<W>,
    notes: Vec<N>,
}

struct Inside<E, W, N> {
    engine: E,
    writer: Option<W>,
    /// True if the open stripes have the writer.
    admitted: bool,
    /// An empty buffer that is kept for the next notes.
    notes: Vec<N>,
}

type Guards<'a, W, N> = SmallVec<[MutexGuard<'a, Stripe<W, N>>; 4]>;

/// A replica behind its lock; see the module.
pub(super) struct Gate<E, W, N> {
    inside: Mutex<Inside<E, W, N>>,
    stripes: Box<[Aligned<W, N>]>,
    /// The stripes that are open, as bits. Changes only under the lock.
    open: AtomicU32,
    /// The stripes that threads asked for, as bits.
    wanted: AtomicU32,
    /// See [`RELIEF`].
    relief: usize,
}

impl<E: Gated<Writer = W, Note = N>, W: Clone, N> Gate<E, W, N> {
    pub(super) fn new(engine: E, relief: usize) -> Self {
        let stripe = || Aligned(Mutex::new(Stripe { writer: None, notes: Vec::new() }));
        Self {
            inside: Mutex::new(Inside { engine, writer: None, admitted: false, notes: Vec::new() }),
            stripes: (0..STRIPES).map(|_| stripe()).collect(),
            open: AtomicU32::new(0),
            wanted: AtomicU32::new(0),
            relief,
        }
    }

    /// Locks out all other threads, and absorbs what they wrote. Threads may write directly again once the guard is
    /// dropped.
    #[inline]
    pub(super) fn lock(&self) -> Held<'_, E> {
        let mut inside = self.inside.lock();
        let mut stripes = self.lock_open();
        collect(&mut inside.notes, &mut stripes);
        inside.absorb();
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
    pub(super) fn write<T, R>(&self, input: T, act: impl FnOnce(&W, &mut Vec<N>, T) -> R) -> Result<R, T> {
        let Some(number) = seat().map(|seat| seat % STRIPES) else { return Err(input) };
        if self.open.load(Ordering::Acquire) & (1 << number) == 0 {
            self.ask_for(number);
            return Err(input);
        }
        let mut stripe = self.stripes[number].0.lock();
        let Stripe { writer, notes } = &mut *stripe;
        let Some(writer) = writer else { return Err(input) };
        let done = act(writer, notes, input);
        let waiting = notes.len();
        drop(stripe);
        if waiting >= self.relief {
            self.relieve(waiting);
        }
        Ok(done)
    }

    #[cold]
    fn ask_for(&self, number: usize) {
        if self.wanted.load(Ordering::Relaxed) & (1 << number) == 0 {
            self.wanted.fetch_or(1 << number, Ordering::Relaxed);
        }
    }

    /// Absorbs all notes. Other threads may write directly meanwhile: absorbing changes no register.
    #[cold]
    fn relieve(&self, waiting: usize) {
        let inside = if waiting < FULL { self.inside.try_lock() } else { Some(self.inside.lock()) };
        let Some(mut inside) = inside else { return };
        // Taken from all stripes at one moment: a note must not be absorbed before the note of an earlier write.
        let mut stripes = self.lock_open();
        collect(&mut inside.notes, &mut stripes);
        drop(stripes);
        inside.absorb();
    }
}

/// Moves the notes of all stripes to one list.
fn collect<W, N>(all: &mut Vec<N>, stripes: &mut Guards<'_, W, N>) {
    for stripe in stripes {
        all.append(&mut stripe.notes);
    }
}

impl<E: Gated<Note = N>, W, N> Inside<E, W, N> {
    fn absorb(&mut self) {
        if !self.notes.is_empty() {
            self.engine.absorb(&mut self.notes);
        }
    }
}

/// The replica, while this thread has locked out all others.
pub(super) struct Held<'a, E: Gated> {
    gate: &'a Gate<E, E::Writer, E::Note>,
    // Dropped in this order: the stripes before the lock.
    stripes: Guards<'a, E::Writer, E::Note>,
    inside: MutexGuard<'a, Inside<E, E::Writer, E::Note>>,
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
        let admits = admission != Admission::Refused;
        if admits != *admitted || admission == Admission::Renewed {
            let writer = writer.as_ref().filter(|_| admits);
            self.stripes.iter_mut().for_each(|stripe| stripe.writer = writer.cloned());
            *admitted = admits;
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
