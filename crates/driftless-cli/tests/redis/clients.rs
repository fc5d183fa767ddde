//! Real client libraries, unchanged and with their defaults: the programs in `tests/clients`.
//!
//! They are installed by `pip` and `npm` into a temporary folder. Where that is not possible the test says so and ends;
//! once they are installed, every failure counts.

use crate::common::process::{Cluster, Flags};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const PYTHON: &[&str] =
    &["redis==8.1.0", "Django==5.2.19", "django-redis==7.0.0", "Flask==3.1.3", "Flask-Caching==2.5.1"];
const NODE: &[&str] = &["redis@6.3.1", "ioredis@6.0.0"];

/// The time limit of one command. A client that hangs is a failure.
const PATIENCE: Duration = Duration::from_secs(120);

fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Runs a command to its end. Returns its output, and if it succeeded; `None` if there is no such program.
fn run(command: &mut Command) -> Option<(bool, String)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().ok()?;
    let start = Instant::now();
    while child.try_wait().expect("its state").is_none() {
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().expect("its output");
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
}

/// Runs the steps of an installation. Returns false, and says why, if one cannot be done.
fn is_installed(steps: &mut [Command]) -> bool {
    for step in steps {
        match run(step) {
            Some((true, _)) => {}
            Some((false, text)) => {
                eprintln!("skipped: {step:?} failed: {}", text.lines().last().unwrap_or_default());
                return false;
            }
            None => {
                eprintln!("skipped: no {:?} on this machine", step.get_program());
                return false;
            }
        }
    }
    true
}

fn command(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Starts three nodes and runs client programs against them, one after another.
fn check(programs: &[&[&str]], interpreter: &Path, folder: &Path) {
    let cluster = Cluster::start(3, Flags::default());
    let ports = (0..3).map(|node| cluster.redis(node).port().to_string()).collect::<Vec<_>>().join(",");
    for arguments in programs {
        let start = Instant::now();
        let mut program = command(interpreter, arguments);
        program.current_dir(folder).env("DRIFTLESS_PORTS", &ports).env("PYTHONDONTWRITEBYTECODE", "1");
        let (succeeded, text) = run(&mut program).expect("the interpreter is installed");
        assert!(succeeded, "{arguments:?} failed:\n{text}");
        println!("{arguments:?} in {:?}: {}", start.elapsed(), text.trim().replace('\n', "; "));
    }
}

#[test]
fn python_clients_work_with_their_defaults() {
    let folder = tempfile::tempdir().expect("a folder");
    let python = folder.path().join("bin/python");
    let place = folder.path().to_str().expect("a plain path");
    let mut install = command(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    install.args(PYTHON);
    if !is_installed(&mut [command("python3", &["-m", "venv", place]), install]) {
        return;
    }
    let programs: &[&[&str]] = &[&["redis_py.py"], &["redis_py.py", "2"], &["redis_py_cache.py"], &["frameworks.py"]];
    check(programs, &python, &self::programs());
}

#[test]
fn node_clients_work_with_their_defaults() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut install = command("npm", &["install", "--no-audit", "--no-fund", "--silent", "--ignore-scripts"]);
    install.args(NODE).current_dir(folder.path());
    if !is_installed(&mut [command("node", &["--version"]), install]) {
        return;
    }
    // Modules are found from the folder of the program that imports them.
    for program in ["common.mjs", "node_redis.mjs", "ioredis.mjs"] {
        std::fs::copy(programs().join(program), folder.path().join(program)).expect("a copy");
    }
    check(&[&["node_redis.mjs"], &["ioredis.mjs"]], Path::new("node"), folder.path());
}
