//! Runs of `driftless` whose output is read.

use super::process::{BINARY, eventually};
use std::{
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// The time limit for a run that ends by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// The variable with the token of the debug interfaces.
pub const TOKEN: &[(&str, &str)] = &[("DRIFTLESS_HTTP_TOKEN", "token-of-a-test-only")];

/// The outcome of a run that ended.
pub struct Outcome {
    pub is_success: bool,
    pub out: String,
    pub error: String,
    pub took: Duration,
}

/// Runs the program to its end. The environment has no variable of the program but these.
pub fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let began = Instant::now();
    let mut running = Running::start(arguments, variables);
    while running.child.try_wait().expect("its state").is_none() {
        assert!(began.elapsed() < PATIENCE, "{arguments:?} does not end");
        thread::sleep(Duration::from_millis(10));
    }
    let took = began.elapsed();
    let is_success = running.child.wait().expect("its state").success();
    running.readers.drain(..).for_each(|reader| reader.join().expect("it reads"));
    Outcome { is_success, out: running.out(), error: running.error(), took }
}

/// A run that goes on. It ends with this value.
pub struct Running {
    child: Child,
    out: Arc<Mutex<Vec<u8>>>,
    error: Arc<Mutex<Vec<u8>>>,
    readers: Vec<thread::JoinHandle<()>>,
}

fn read(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            into.lock().unwrap_or_else(PoisonError::into_inner).extend(&chunk[..length]);
        }
    })
}

impl Running {
    pub fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BINARY);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DRIFTLESS_") || name == "RUST_LOG" || name == "NO_COLOR" {
                command.env_remove(name);
            }
        }
        command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
        let (out, error) = (Arc::default(), Arc::default());
        let readers = vec![
            read(child.stdout.take().expect("piped"), Arc::clone(&out)),
            read(child.stderr.take().expect("piped"), Arc::clone(&error)),
        ];
        Self { child, out, error, readers }
    }

    /// Starts `driftless serve` on free ports with a file of settings, and waits until it is ready.
    pub fn serve(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let free = ["serve", "--bind", "127.0.0.1:0", "--redis", "127.0.0.1:0", "--timing", "local"];
        let running = Self::start(&[&free, arguments].concat(), variables);
        eventually(Duration::from_secs(20), || {
            let out = running.out();
            if out.contains("ready") { Ok(()) } else { Err(format!("{out}{}", running.error())) }
        });
        running
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.out.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    pub fn error(&self) -> String {
        String::from_utf8_lossy(&self.error.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Returns a part of the `ready` line: `redis`, `gossip` or `debug`.
    pub fn address(&self, name: &str) -> SocketAddr {
        let out = self.out();
        let found = out.split(", ").find_map(|part| part.trim_start_matches("ready: ").strip_prefix(name));
        let found = found.unwrap_or_else(|| panic!("no {name} in {out}"));
        found.trim().trim_start_matches("http://").trim_end_matches('/').parse().expect("an address")
    }

    /// Returns an address of a `ready` line in JSON.
    pub fn address_json(&self, name: &str) -> String {
        let line: serde_json::Value = serde_json::from_str(self.out().trim()).expect("one line of JSON");
        line[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}")).to_owned()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {name}");
    }

    /// Waits for the end, and returns true if the run was a success.
    pub fn ends(&mut self, within: Duration) -> bool {
        let mut is_success = false;
        eventually(within, || match self.child.try_wait().expect("its state") {
            Some(status) => {
                is_success = status.success();
                Ok(())
            }
            None => Err("it runs".to_owned()),
        });
        is_success
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts nodes of one cluster with debug interfaces, named `n0`, `n1` and so on. Their token is [`TOKEN`].
pub fn cluster(count: usize) -> Vec<Running> {
    let mut nodes: Vec<Running> = Vec::new();
    for index in 0..count {
        let name = format!("n{index}");
        let seed = nodes.first().map(|node| node.address("gossip").to_string());
        let mut arguments = vec!["--http", "127.0.0.1:0", "--http-token", TOKEN[0].1, "--name", &name];
        if let Some(seed) = &seed {
            arguments.extend(["--seed", seed]);
        }
        nodes.push(Running::serve(&arguments, &[]));
    }
    nodes
}

/// Runs a command that asks a node of [`cluster`].
pub fn ask(node: &Running, arguments: &[&str]) -> Outcome {
    let at = node.address("debug").to_string();
    run(&[arguments, &["--node", &at]].concat(), TOKEN)
}

/// Writes a file into a folder, and returns its path as text.
pub fn write(folder: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, text).expect("a file of a temporary folder");
    path.to_str().expect("a plain path").to_owned()
}
