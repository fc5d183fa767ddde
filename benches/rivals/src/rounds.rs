//! Interleaved measurement: every round measures each contestant once, and starts with a different contestant.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cpu_time::ThreadTime;

/// A contestant's name and the function that measures it once.
pub type Turn<'a> = (String, Box<dyn FnMut(usize) -> f64 + 'a>);

/// Runs `rounds` rounds. Returns the samples of each contestant, in the order of `turns`.
pub fn interleave(rounds: usize, mut turns: Vec<Turn<'_>>) -> Vec<(String, Vec<f64>)> {
    let mut samples: Vec<(String, Vec<f64>)> = turns.iter().map(|(name, _)| (name.clone(), Vec::new())).collect();
    for round in 0..rounds {
        for step in 0..turns.len() {
            let index = (round + step) % turns.len();
            let sample = turns[index].1(round);
            samples[index].1.push(sample);
        }
    }
    samples
}

static PROCESSOR_TIME: AtomicBool = AtomicBool::new(false);

/// Makes [`timed`] measure processor time instead of wall time from now on. Then other load on the machine counts for
/// less, and so does the time that threads wait for each other.
pub fn measure_processor_time() {
    PROCESSOR_TIME.store(true, Ordering::Relaxed);
}

/// Returns the nanoseconds per operation. `threads` threads run `operations` in all, and `work` gets the thread's
/// number.
pub fn timed(threads: usize, operations: usize, work: impl Fn(usize) + Sync) -> f64 {
    if PROCESSOR_TIME.load(Ordering::Relaxed) {
        let spent: Duration = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|thread| {
                    let work = &work;
                    scope.spawn(move || {
                        let start = ThreadTime::now();
                        work(thread);
                        start.elapsed()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("the work does not panic")).sum()
        });
        return spent.as_nanos() as f64 / threads as f64 / operations as f64;
    }
    if threads == 1 {
        let start = Instant::now();
        work(0);
        return start.elapsed().as_nanos() as f64 / operations as f64;
    }
    let gate = Barrier::new(threads + 1);
    let start = std::thread::scope(|scope| {
        for thread in 0..threads {
            let (gate, work) = (&gate, &work);
            scope.spawn(move || {
                gate.wait();
                work(thread);
            });
        }
        gate.wait();
        Instant::now()
    });
    start.elapsed().as_nanos() as f64 / operations as f64
}
