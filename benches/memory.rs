//! Benchmark of the memory per entry, including all overhead.
//! `cargo bench --bench memory -- --quick`; an unknown option prints the usage.

mod launch;

fn main() {
    launch::run("memory")
}
