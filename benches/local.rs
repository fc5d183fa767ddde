//! Reads and writes in one process, against the caches one would use without replication.
//! `cargo bench --bench local -- --quick`; an unknown option lists the others.

mod launch;

fn main() {
    launch::run("local")
}
