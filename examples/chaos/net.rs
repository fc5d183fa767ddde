//! The network of the nodes: one namespace per node, or all nodes on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;

use tun_rs::DeviceBuilder;

use crate::Error;
use crate::router::{Link, Router};

const GOSSIP: u16 = 7946;
const REDIS: u16 = 6379;

/// The network of the nodes.
pub struct Net {
    nodes: usize,
    router: Option<Arc<Router>>,
    /// The first port on loopback; unused with namespaces.
    ports: u16,
}

/// Returns the destination node of an IPv4 packet, which is the third byte of its destination address less one.
pub fn node_of(packet: &[u8]) -> Option<usize> {
    (packet.first()? >> 4 == 4).then_some(())?;
    match packet.get(16..20)? {
        [10, 77, node, _] => usize::from(*node).checked_sub(1),
        _ => None,
    }
}

fn space(node: usize) -> String {
    format!("driftless-chaos-{node}")
}

/// Runs `ip` with these arguments.
fn ip(words: &str) -> Result<(), Error> {
    let output = Command::new("ip").args(words.split(' ')).output().map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("ip {words}: {said}").into()) }
}

impl Net {
    pub fn new(nodes: usize, loopback: bool) -> Result<Self, Error> {
        let mut net = Self { nodes, router: None, ports: 0 };
        if !loopback {
            net.clear();
            match net.make_spaces() {
                Ok(router) => net.router = Some(router),
                Err(error) => println!("chaos: no namespaces here ({error}): loopback, without faults of the network"),
            }
        }
        if net.router.is_none() {
            net.ports = fastrand::u16(20_000..32_000);
        }
        Ok(net)
    }

    pub fn describe(&self) -> &'static str {
        if self.router.is_some() { "in network namespaces" } else { "on loopback: no faults of the network" }
    }

    /// Removes the namespaces, including those of an earlier run.
    pub fn clear(&self) {
        for node in 0..64 {
            if std::path::Path::new("/run/netns").join(space(node)).exists() {
                let _ = ip(&format!("netns del {}", space(node)));
            }
            // Removing a namespace also removes its links, but with a delay.
            for link in ["dlclient", "dlchaos"].map(|name| format!("{name}{node}")) {
                if std::path::Path::new("/sys/class/net").join(&link).exists() {
                    let _ = ip(&format!("link del {link}"));
                }
            }
        }
    }

    fn make_spaces(&self) -> Result<Arc<Router>, Error> {
        let mut devices = Vec::new();
        for node in 0..self.nodes {
            let (space, octet) = (space(node), node + 1);
            ip(&format!("netns add {space}"))?;
            let device = DeviceBuilder::new().name(format!("dlchaos{node}")).enable(false).build_sync()?;
            ip(&format!("link set dlchaos{node} netns {space}"))?;
            ip(&format!("-n {space} addr add 10.77.{octet}.1/16 dev dlchaos{node}"))?;
            ip(&format!("-n {space} link set dlchaos{node} up"))?;
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("link add dlclient{node} type veth peer name dlclient netns {space}"))?;
            ip(&format!("addr add 10.78.{octet}.1/30 dev dlclient{node}"))?;
            ip(&format!("link set dlclient{node} up"))?;
            ip(&format!("-n {space} addr add 10.78.{octet}.2/30 dev dlclient"))?;
            ip(&format!("-n {space} link set dlclient up"))?;
            devices.push(device);
        }
        Ok(Router::start(devices))
    }

    pub fn router(&self) -> Option<&Router> {
        self.router.as_deref()
    }

    pub fn set(&self, links: Vec<Vec<Link>>) {
        if let Some(router) = &self.router {
            router.set(links);
        }
    }

    /// Returns the gossip address of a node: its first address or a later one.
    pub fn gossip(&self, node: usize, address: u8) -> Result<SocketAddr, Error> {
        let octet = u8::try_from(node + 1)?;
        if self.router.is_none() {
            let port = self.ports + u16::from(octet) * 200 + 10 + u16::from(address);
            return Ok((Ipv4Addr::LOCALHOST, port).into());
        }
        if address > 1 {
            // On a repeated call the address exists already, and the error is ignored.
            let _ = ip(&format!("-n {} addr add 10.77.{octet}.{address}/32 dev dlchaos{node}", space(node)));
        }
        Ok((Ipv4Addr::new(10, 77, octet, address), GOSSIP).into())
    }

    /// Returns the address at which clients reach a node.
    pub fn redis(&self, node: usize) -> Result<SocketAddr, Error> {
        let octet = u8::try_from(node + 1)?;
        Ok(match self.router {
            Some(_) => (Ipv4Addr::new(10, 78, octet, 2), REDIS).into(),
            None => (Ipv4Addr::LOCALHOST, self.ports + u16::from(octet) * 200).into(),
        })
    }

    /// Returns the address of the debug interface of a node.
    pub fn http(&self, node: usize) -> Option<SocketAddr> {
        self.redis(node).ok().map(|at| SocketAddr::new(at.ip(), at.port() + 1))
    }

    /// Returns a command that runs in the network of a node.
    pub fn command(&self, node: usize, program: &std::path::Path) -> Command {
        if self.router.is_none() {
            return Command::new(program);
        }
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &space(node)]).arg(program);
        command
    }
}
