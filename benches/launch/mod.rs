//! Builds and runs one benchmark of `benches/rivals`, a package of its own: what driftless is measured
//! against must not be in its dependency tree, nor in its lock file, nor in what CI builds.

use std::path::Path;
use std::process::{Command, exit};

/// Passes the arguments on, and the exit status back.
pub fn run(name: &str) -> ! {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root).args(["run", "--release", "--locked", "--quiet", "--bin", name]);
    command.arg("--manifest-path").arg(root.join("benches/rivals/Cargo.toml"));
    command.arg("--target-dir").arg(root.join("target/rivals"));
    command.arg("--").args(std::env::args_os().skip(1).filter(|word| word != "--bench"));
    match command.status() {
        Ok(status) => exit(status.code().unwrap_or(1)),
        Err(error) => {
            eprintln!("cargo could not be run: {error}");
            exit(1)
        }
    }
}
