//! The nodes: each runs one sidecar process after another.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::net::Net;
use crate::{Arguments, Error};

/// The token of the nodes' debug interfaces.
const TOKEN: &str = "token-of-the-judge-only";
/// The time limit from the start of a process to its `ready` line. The process first contacts its peers.
const START: Duration = Duration::from_secs(30);

/// Returns the sidecar binary: the one named by a flag, or the one next to this binary, which cargo builds first if it
/// is present.
pub fn sidecar(arguments: &Arguments) -> Result<PathBuf, Error> {
    if let Some(named) = &arguments.sidecar {
        return Ok(named.clone());
    }
    let beside = std::env::current_exe()?.with_file_name("sidecar");
    if let Some(cargo) = std::env::var_os("CARGO") {
        let profile: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };
        let built = Command::new(cargo)
            .args(["build", "--example", "sidecar", "--features", "inspect-http"])
            .args(profile)
            .status()?;
        if !built.success() {
            return Err("the sidecar could not be built".into());
        }
    }
    if beside.is_file() { Ok(beside) } else { Err(format!("{} is missing", beside.display()).into()) }
}

/// A node: its addresses, and its current process.
pub struct Node {
    pub number: usize,
    binary: PathBuf,
    net: Arc<Net>,
    running: Mutex<Running>,
    /// Number of processes started on this node so far.
    life: AtomicU32,
    encrypted: bool,
    /// The file with the standard error of the node's processes.
    log: PathBuf,
}

pub struct Running {
    child: Option<Child>,
    address: u8,
}

pub type Nodes = Vec<Arc<Node>>;

pub fn start_all(arguments: &Arguments, binary: &Path, net: &Arc<Net>) -> Result<Nodes, Error> {
    let encrypted = arguments.seed.is_multiple_of(2);
    let folder = std::env::temp_dir().join(format!("driftless-chaos-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    println!("chaos: logs of the nodes in {}", folder.display());
    let node = |number| {
        let running = Mutex::new(Running { child: None, address: 1 });
        let (binary, net) = (binary.to_owned(), Arc::clone(net));
        let log = folder.join(format!("node-{number}.log"));
        Arc::new(Node { number, binary, net, running, life: AtomicU32::new(0), encrypted, log })
    };
    let nodes: Nodes = (0..arguments.nodes).map(node).collect();
    for node in &nodes {
        node.start(&nodes, false)?;
    }
    println!("chaos: all nodes are up, gossip {}", if encrypted { "encrypted" } else { "in the clear" });
    Ok(nodes)
}

impl Node {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn life(&self) -> u32 {
        self.life.load(Relaxed)
    }

    pub fn client(&self) -> std::io::Result<Client> {
        let at = self.net.redis(self.number).map_err(|error| std::io::Error::other(error.to_string()))?;
        Client::connect(at)
    }

    fn gossip(&self) -> Result<SocketAddr, Error> {
        self.net.gossip(self.number, self.running().address)
    }

    /// Starts a process, at the last address or at a new one (`elsewhere`).
    pub fn start(&self, nodes: &[Arc<Node>], elsewhere: bool) -> Result<(), Error> {
        if elsewhere {
            self.running().address += 1;
        }
        let bind = self.gossip()?;
        let mut command = self.net.command(self.number, &self.binary);
        command.args(["--drill", "--wait", "5", "--name", &format!("node-{}", self.number)]);
        if let Some(at) = self.net.http(self.number) {
            command.args(["--http", &at.to_string()]).env("DRIFTLESS_HTTP_TOKEN", TOKEN);
        }
        command.args(["--bind", &bind.to_string(), "--redis", &self.net.redis(self.number)?.to_string()]);
        for other in nodes.iter().filter(|other| other.number != self.number) {
            command.args(["--seed", &other.gossip()?.to_string()]);
        }
        if self.encrypted {
            command.env("DRIFTLESS_KEY", "ab".repeat(32));
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.env("RUST_LOG", "warn,memberlist_core=off,memberlist_net=off").stderr(log);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        self.life.fetch_add(1, Relaxed);
        let line = first_line(&mut child);
        self.running().child = Some(child);
        if line.starts_with("ready: ") {
            return Ok(());
        }
        Err(format!("node {} did not start: {line:?}", self.number).into())
    }

    /// Returns up to five log lines of the node that report a panic, an abort or a dead task.
    pub fn cries(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let bad = ["panicked", "died", "memory allocation"];
        let cry = |line: &&str| bad.iter().any(|word| line.contains(word));
        log.lines().filter(cry).take(5).map(|line| format!("node {} said: {line}", self.number)).collect()
    }

    /// Returns the debug interface's explanation of a key as JSON: what each node holds, and why.
    pub fn explain(&self, key: &str) -> Option<String> {
        let at = self.net.http(self.number)?;
        let mut stream = std::net::TcpStream::connect(at).ok()?;
        let request = format!(
            "GET /v1/caches/redis/explain?key={key} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }

    pub fn pid(&self) -> Option<u32> {
        self.running().child.as_ref().map(Child::id)
    }

    /// Sends a signal, given by name.
    pub fn signal(&self, name: &str) -> Result<(), Error> {
        let pid = self.pid().ok_or("no process")?.to_string();
        let status = Command::new("kill").args([name, &pid]).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill {name} {pid} failed").into()) }
    }

    /// Sets a resource limit of the running process.
    pub fn limit(&self, which: &str) -> Result<(), Error> {
        let pid = self.pid().ok_or("no process")?.to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, which]).status()?;
        if status.success() { Ok(()) } else { Err(format!("prlimit {which} failed").into()) }
    }

    /// Reads a file of the process from `/proc`.
    pub fn proc(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid()?)).ok()
    }

    /// Returns the state of the process: `R`, `S`, `T` for stopped, and so on.
    pub fn state(&self) -> Option<char> {
        self.proc("stat")?.rsplit(')').next()?.trim().chars().next()
    }

    pub fn descriptors(&self) -> Option<usize> {
        Some(std::fs::read_dir(format!("/proc/{}/fd", self.pid()?)).ok()?.count())
    }

    /// Returns the exit status if the process has ended, on its own or by a signal.
    pub fn ended(&self) -> Option<String> {
        let mut running = self.running();
        let status = running.child.as_mut()?.try_wait().ok()??;
        running.child = None;
        Some(status.to_string())
    }

    /// Waits until the process has ended and returns its exit status.
    pub fn wait(&self, patience: Duration) -> Result<String, Error> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(how) = self.ended() {
                return Ok(how);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("node {} did not end within {patience:?}", self.number).into())
    }
}

/// A guard that ends every process when it is dropped, also after an error, and removes the namespaces.
pub struct End(pub Nodes);

impl Drop for End {
    fn drop(&mut self) {
        for node in &self.0 {
            if let Some(child) = &mut node.running().child {
                let _ = child.kill();
                let _ = child.wait();
            }
            node.net.clear();
        }
    }
}

fn first_line(child: &mut Child) -> String {
    let Some(output) = child.stdout.take() else { return String::new() };
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = String::new();
        let _ = output.read_line(&mut line);
        let _ = sender.send(line);
        // Keep the pipe open as long as the process runs: it must not get an error when it writes.
        let _ = output.read_to_end(&mut Vec::new());
    });
    receiver.recv_timeout(START).unwrap_or_default()
}
