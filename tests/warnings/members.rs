//! Members that share a name, stand still, die, or are cut off.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use driftless::node::mesh::Cut;
use driftless::{Cache, Node};

use crate::common::{SOON, eventually, open};
use crate::table::{Expected, Row, begin, blames_only, builder, end, warnings};

/// Starts nodes of these names that know each other, each with the cache open.
async fn cluster(name: &str, names: &[&str]) -> (Vec<Node>, Vec<Cache<String, String>>) {
    let mut nodes: Vec<Node> = Vec::new();
    for one in names {
        let seeds: Vec<_> = nodes.first().into_iter().collect();
        let next = builder(name, one, &seeds).start().await.unwrap();
        nodes.push(next);
    }
    let caches: Vec<_> = nodes.iter().map(open).collect();
    for cache in &caches {
        assert!(cache.ready(SOON).await.is_ready());
        eventually("replicas", || cache.members(), |seen| *seen == names.len() - 1);
    }
    (nodes, caches)
}

async fn stop(nodes: Vec<Node>) {
    for node in nodes {
        node.shutdown().await;
    }
}

pub async fn a_name_that_is_taken() -> Vec<Row> {
    let case = "a name is taken";
    let (nodes, _caches) = cluster("w-name", &["a", "b", "c"]).await;
    let cause = Instant::now();
    let second = builder("w-name", "b", &[&nodes[0]]).start().await.unwrap();
    let addrs = vec![nodes[1].local_addr().to_string(), second.local_addr().to_string()];
    let on = |node| Expected {
        on: node,
        name: "name-conflict",
        about: "b".into(),
        source: addrs.clone(),
        advice: "another name",
    };
    let mut rows = begin(case, cause, &[on(&nodes[0]), on(&nodes[2]), on(&second)]).await;
    second.shutdown().await;
    end(&mut rows, &[&nodes[0], &nodes[2]], Instant::now()).await;
    stop(nodes).await;
    rows
}

const ROLE: &str = "DRIFTLESS_WARNINGS_MEMBER";

/// A member in a process of its own. It ends with its standard input.
struct Process {
    child: Child,
}

impl Process {
    fn start(cluster: &str, name: &str, seed: &Node) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["member_process", "--exact", "--ignored", "--nocapture"]);
        command.env(ROLE, format!("{cluster} {name} {}", seed.local_addr()));
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Self { child }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success(), "the signal {signal} was sent");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a member until its standard input ends.
pub fn run_member() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let parts: Vec<_> = role.split(' ').map(str::to_owned).collect();
    let [cluster, name, seed] = parts.try_into().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = runtime.block_on(async {
        let builder = Node::builder().cluster(cluster).name(name).seeds([seed]).local_timing();
        builder.start().await.unwrap()
    });
    let _cache = open(&node);
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// Writes on every node until the guard is dropped.
struct Load(tokio::task::JoinHandle<()>);

impl Load {
    fn on(caches: &[Cache<String, String>]) -> Self {
        let caches = caches.to_vec();
        Self(tokio::spawn(async move {
            for number in 0_u64.. {
                for cache in &caches {
                    cache.insert(format!("key-{}", number % 3), number.to_string()).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until `others` more replicas are known by name on each node.
fn known(caches: &[Cache<String, String>], others: usize) {
    for cache in caches {
        let named = || cache.inspect().peers.iter().filter(|peer| peer.node.is_some() && peer.live).count();
        eventually("the process is a member", named, |count| *count == others);
    }
}

pub async fn a_paused_process() -> Vec<Row> {
    let case = "a paused process";
    let (nodes, caches) = cluster("w-paused", &["a", "c"]).await;
    let process = Process::start("w-paused", "paused", &nodes[0]);
    known(&caches, 2);
    let load = Load::on(&caches);
    tokio::time::sleep(Duration::from_secs(1)).await;
    blames_only(case, &[&nodes[0], &nodes[1]], &[]);
    let cause = Instant::now();
    process.signal("-STOP");
    let on = |node| Expected {
        on: node,
        name: "member-down",
        about: "paused".into(),
        source: Vec::new(),
        advice: "resume it",
    };
    let mut rows = begin(case, cause, &[on(&nodes[0]), on(&nodes[1])]).await;
    let allowed = [("member-down", "paused"), ("lagging-peer", "paused")];
    blames_only(case, &[&nodes[0], &nodes[1]], &allowed);
    process.signal("-CONT");
    end(&mut rows, &[&nodes[0], &nodes[1]], Instant::now()).await;
    eventually("quiet", || warnings(&nodes[0]), Vec::is_empty);
    drop((load, process));
    stop(nodes).await;
    rows
}

pub async fn a_killed_process_that_is_started_again() -> Vec<Row> {
    let case = "a killed process";
    let (nodes, caches) = cluster("w-killed", &["a", "c"]).await;
    let first = Process::start("w-killed", "killed", &nodes[0]);
    known(&caches, 2);
    caches[0].insert("key".into(), "value".into()).unwrap();
    let cause = Instant::now();
    first.signal("-KILL");
    let on = |node| Expected {
        on: node,
        name: "member-down",
        about: "killed".into(),
        source: Vec::new(),
        advice: "Start it again under its name",
    };
    let mut rows = begin(case, cause, &[on(&nodes[0]), on(&nodes[1])]).await;
    blames_only(case, &[&nodes[0], &nodes[1]], &[("member-down", "killed"), ("lagging-peer", "killed")]);
    let again = Process::start("w-killed", "killed", &nodes[0]);
    end(&mut rows, &[&nodes[0], &nodes[1]], Instant::now()).await;
    known(&caches, 2);
    eventually("quiet", || warnings(&nodes[0]), Vec::is_empty);
    drop((first, again));
    stop(nodes).await;
    rows
}

pub async fn a_cut_in_one_direction() -> Vec<Row> {
    let case = "a cut in one direction";
    let (nodes, caches) = cluster("w-cut", &["a", "b"]).await;
    let load = Load::on(&caches[..1]);
    let cause = Instant::now();
    nodes[0].sever(Cut::Outbound(vec![nodes[1].local_addr()]));
    let down = |node, about: &str| Expected {
        on: node,
        name: "member-down",
        about: about.into(),
        source: Vec::new(),
        advice: "check the network",
    };
    let silent = Expected { name: "silent-member", advice: "pass from it to this node", ..down(&nodes[1], "a") };
    let mut rows = begin(case, cause, &[down(&nodes[0], "b"), silent]).await;
    nodes[0].sever(Cut::None);
    end(&mut rows, &[&nodes[0], &nodes[1]], Instant::now()).await;
    drop(load);
    stop(nodes).await;
    rows
}

/// A member whose driver is held up: its process answers pings, and takes no writes.
pub async fn a_member_that_stands_still() -> Vec<Row> {
    let case = "a member stands still";
    let a = builder("w-still", "a", &[]).start().await.unwrap();
    let b = builder("w-still", "b", &[&a]).start().await.unwrap();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = std::sync::Mutex::new(blocked);
    let wait = move |_, _, _| {
        let _ = blocked.lock().unwrap().recv();
    };
    let here: Cache<String, String> = open(&a);
    let there: Cache<String, String> = b.cache("test").eviction_listener(wait).open().unwrap();
    assert!(there.ready(SOON).await.is_ready());
    known(&[here.clone(), there.clone()], 1);
    let cause = Instant::now();
    let load = Load::on(std::slice::from_ref(&here));
    let on = |name, advice| Expected { on: &a, name, about: "b".into(), source: Vec::new(), advice };
    let mut rows = begin(case, cause, &[on("lagging-peer", "starved"), on("silent-member", "listener blocks")]).await;
    drop((load, release));
    end(&mut rows, &[&a], Instant::now()).await;
    drop((here, there));
    stop(vec![a, b]).await;
    rows
}

pub async fn other_settings() -> Vec<Row> {
    let case = "other settings";
    let a = builder("w-settings", "a", &[]).start().await.unwrap();
    let here: Cache<String, String> = a.cache("test").max_value_bytes(1_000).open().unwrap();
    let cause = Instant::now();
    let b = builder("w-settings", "b", &[&a]).start().await.unwrap();
    let there: Cache<String, String> = b.cache("test").max_value_bytes(2_000).open().unwrap();
    let on = |node, about: &str| Expected {
        on: node,
        name: "settings-differ",
        about: about.into(),
        source: Vec::new(),
        advice: "Give all nodes the same",
    };
    let mut rows = begin(case, cause, &[on(&a, "b"), on(&b, "a")]).await;
    let remedy = Instant::now();
    b.shutdown().await;
    end(&mut rows, &[&a], remedy).await;
    drop((here, there));
    a.shutdown().await;
    rows
}
