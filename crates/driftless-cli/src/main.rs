//! The program `driftless`.

use std::process::ExitCode;

/// Returns memory to the system. The allocator of glibc keeps nearly all of it after a flush.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    driftless_cli::main()
}
