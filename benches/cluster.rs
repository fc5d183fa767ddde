//! Benchmarks of processes on loopback: visibility, throughput, joins, traffic.
//! `cargo bench --bench cluster -- --quick`; an unknown option prints the usage.

mod launch;

fn main() {
    launch::run("cluster")
}
