//! Bytes per entry, everything included.
//! `cargo bench --bench memory -- --quick`; an unknown option lists the others.

mod launch;

fn main() {
    launch::run("memory")
}
