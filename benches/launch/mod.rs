//! Launcher of a benchmark in `benches/rivals`, which is a package of its own. So the libraries that driftless is
//! compared with are not in its dependency tree, its lock file, or its CI builds.

use std::path::Path;
use std::process::{Command, exit};

/// Runs the benchmark with the arguments of this process, and exits with its status.
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
