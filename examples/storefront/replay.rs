//! The replay: threads that take accesses from the trace and run them through the nodes' caches and the database.

use crate::{
    baseline::Outcome,
    database::{Database, Product, Rows},
    shop::{Shop, ShopError, Source},
    trace::{Plan, Trace},
};
use driftless::Cache;
use indicatif::ProgressBar;
use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The results of a replay.
#[derive(Debug, Default, Clone, Copy)]
pub struct Replay {
    pub outcome: Outcome,
    pub updates: u64,
    pub took: Duration,
}

/// The input of the replay.
pub struct Work<'a> {
    pub trace: &'a Trace,
    pub plan: Plan,
    pub shop: &'a Shop,
    pub database: &'a Database,
    /// One cache per node.
    pub caches: &'a [Cache<u32, Product>],
    /// Maximum accesses per second.
    pub rate: Option<NonZeroU32>,
}

/// Accesses that a thread takes at a time.
const TURN: usize = 256;

/// Replays the whole trace on `threads` threads.
pub fn replay(work: &Work<'_>, threads: usize, progress: &ProgressBar) -> Result<Replay, ShopError> {
    let board = Board::new(work.trace);
    let done: Result<Vec<Replay>, ShopError> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| worker(work, &board, progress))).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut total = done?.into_iter().fold(Replay::default(), Replay::and);
    total.took = board.start.elapsed();
    Ok(total)
}

/// The state that the threads share.
struct Board {
    start: Instant,
    /// The index of the first access that no thread has taken.
    next: AtomicUsize,
    /// The newest version of each product that is known to be committed.
    committed: Vec<AtomicU32>,
}

impl Board {
    fn new(trace: &Trace) -> Self {
        let committed = trace.ids.iter().map(|_| AtomicU32::new(1)).collect();
        Self { start: Instant::now(), next: AtomicUsize::new(0), committed }
    }

    /// Sleeps until the access at `index` is due.
    fn pace(&self, index: usize, rate: Option<NonZeroU32>) {
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(index as f64 / f64::from(rate.get()));
            thread::sleep(due.saturating_sub(self.start.elapsed()));
        }
    }
}

fn worker(work: &Work<'_>, board: &Board, progress: &ProgressBar) -> Result<Replay, ShopError> {
    let mut rows = work.database.connect()?;
    let mut replay = Replay::default();
    let end = work.trace.accesses.len();
    loop {
        let from = board.next.fetch_add(TURN, Ordering::Relaxed).min(end);
        if from == end {
            return Ok(replay);
        }
        for index in from..end.min(from + TURN) {
            board.pace(index, work.rate);
            if let Err(error) = access(work, board, &mut rows, index, &mut replay) {
                board.next.store(end, Ordering::Relaxed); // stops all threads
                return Err(error);
            }
        }
        progress.inc((end.min(from + TURN) - from) as u64);
    }
}

fn access(work: &Work<'_>, board: &Board, rows: &mut Rows, index: usize, replay: &mut Replay) -> Result<(), ShopError> {
    let number = work.trace.accesses[index] as usize;
    let (id, cache, committed) =
        (work.trace.ids[number], &work.caches[work.plan.node(index)], &board.committed[number]);
    if work.plan.is_update(index) {
        let product = work.shop.update(cache, rows, id)?;
        committed.fetch_max(product.version, Ordering::Release);
        replay.updates += 1;
    } else {
        // Read this before the cache: a version that commits between the two does not make the read stale.
        let newest = committed.load(Ordering::Acquire);
        let (product, source) = work.shop.read_through(cache, rows, id)?;
        replay.outcome.reads += 1;
        replay.outcome.database_reads += u64::from(source == Source::Database);
        replay.outcome.stale_reads += u64::from(product.version < newest);
    }
    Ok(())
}

impl Replay {
    fn and(self, other: Self) -> Self {
        Self {
            outcome: Outcome {
                reads: self.outcome.reads + other.outcome.reads,
                database_reads: self.outcome.database_reads + other.outcome.database_reads,
                stale_reads: self.outcome.stale_reads + other.outcome.stale_reads,
            },
            updates: self.updates + other.updates,
            took: self.took.max(other.took),
        }
    }
}
