//! A member in a process of its own, with load and the debug interface.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use driftless::inspect::Inspector;
use driftless::inspect::http::{HttpConfig, HttpServer};
use driftless::{Cache, Node};

const ROLE: &str = "DRIFTLESS_OPERATOR_MEMBER";

/// A member that runs until it is killed, or stops in order once its standard input ends.
pub struct Process {
    pub child: Child,
}

impl Process {
    /// Starts a member. All members have the same list of seeds.
    pub fn start(name: &str, bind: SocketAddr, seeds: &[SocketAddr], http: SocketAddr) -> Self {
        let seeds: Vec<_> = seeds.iter().map(SocketAddr::to_string).collect();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["member_process", "--exact", "--ignored", "--nocapture"]);
        command.env(ROLE, format!("{name} {bind} {http} {}", seeds.join(",")));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child }
    }

    /// Stops the member as a deploy does: it says goodbye.
    pub fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success(), "it stopped in order");
    }

    /// Stops the member as a crash does.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a member with a little load: writes, reads, fills and evictions.
pub fn run() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [name, bind, http, seeds] = role.split(' ').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let builder = Node::builder().cluster("operator").name(name.as_str()).bind(bind.parse().unwrap());
        let node = builder.seeds(seeds.split(',')).local_timing().start().await.unwrap();
        let cache: Cache<String, String> = node.cache("prices").max_capacity(50).open().unwrap();
        let _server = HttpServer::start(Inspector::new(&node), HttpConfig::new(http.parse().unwrap())).await.unwrap();
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        let load = async {
            for number in 0_u64.. {
                cache.insert(format!("{name}-{}", number % 100), number.to_string()).unwrap();
                let filler = move || async move { number.to_string() };
                cache.get_with(format!("filled-{}", number % 70), filler).await;
                for _ in 0..20 {
                    let _ = cache.get(&format!("{name}-{}", number % 100));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            _ = ended => {}
            () = load => {}
        }
        node.shutdown().await;
    });
}
