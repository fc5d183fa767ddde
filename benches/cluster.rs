//! Processes on loopback: visibility, throughput, joins, traffic.
//! `cargo bench --bench cluster -- --quick`; an unknown option lists the others.

mod launch;

fn main() {
    launch::run("cluster")
}
