//! Benchmarks of reads and writes in one process, compared with caches that do not replicate.
//! `cargo bench --bench local -- --quick`; an unknown option prints the usage.

mod launch;

fn main() {
    launch::run("local")
}
