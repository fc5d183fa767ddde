//! The faults of a script: in processes, caches, clocks and links. A process or cache that comes or goes is handled as
//! in `node/driver.rs`: change both together.

use super::action::Action;
use super::agenda::Event;
use super::cluster::{Cluster, MAX_OPENINGS, MAX_PROCESSES, MAX_UP};
use super::membership;
use super::outbound;
use super::process::{State, View};
use super::report::Violation;
use super::settle;
use super::types::{SimKey, SimValue};

/// The largest lead of a clock at the end of the faults, in nanoseconds. A process whose clock is further ahead is
/// restarted.
const TOO_FAR: u64 = 30_000_000_000;

/// Closes a cache on a process, unless no other process has it open.
pub(super) fn close_cache<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    node: u8,
    cache: u8,
) -> Result<(), Violation> {
    let (Some(process), cache) = (cluster.chosen(node), cluster.cache(cache)) else { return Ok(()) };
    let others = cluster.replicas_of(cache as u8).len() > 1;
    if let Some(number) = cluster.processes[process].open[cache].filter(|_| others) {
        cluster.report.fault("cache closed");
        close(cluster, number);
    }
    Ok(())
}

pub(super) fn open_cache<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    node: u8,
    cache: u8,
) -> Result<(), Violation> {
    let (Some(process), cache) = (cluster.chosen(node), cluster.cache(cache)) else { return Ok(()) };
    if cluster.processes[process].open[cache].is_none() && cluster.openings.len() < MAX_OPENINGS {
        cluster.report.fault("cache opened");
        cluster.open(process, cache as u8);
        return outbound::greet_the_unknown(cluster, process);
    }
    Ok(())
}

fn close<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, number: usize) {
    let opening = &mut cluster.openings[number];
    opening.is_open = false;
    opening.fills.clear();
    cluster.processes[opening.process].open[usize::from(opening.cache)] = None;
}

fn stop<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, process: usize) {
    let open = cluster.processes[process].openings();
    open.into_iter().for_each(|number| close(cluster, number));
    cluster.processes[process].state = State::Gone;
    cluster.processes[process].inbox.clear();
}

/// Returns the process that an action names, unless it is the last running process.
fn chosen_of_many<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>, node: u8) -> Option<usize> {
    cluster.chosen(node).filter(|_| cluster.running().len() > 1)
}

pub(super) fn crash<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, node: u8) -> Result<(), Violation> {
    let Some(process) = chosen_of_many(cluster, node) else { return Ok(()) };
    cluster.report.fault("crash");
    stop(cluster, process);
    cluster.processes[process].crashed = true;
    Ok(())
}

fn may_start<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>) -> bool {
    // A new process opens every cache at once.
    let openings = cluster.openings.len() + usize::from(cluster.settings.caches);
    cluster.processes.len() < MAX_PROCESSES && openings <= MAX_OPENINGS
}

pub(super) fn restart<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, node: u8) -> Result<(), Violation> {
    let Some(process) = cluster.chosen(node).filter(|_| may_start(cluster)) else { return Ok(()) };
    cluster.report.fault("restart");
    stop(cluster, process);
    cluster.start(Some(process));
    Ok(())
}

/// Starts the first crashed process again whose address is still its own.
pub(super) fn come_back<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    let gone = |process: &usize| {
        let here = &cluster.processes[*process];
        here.crashed && cluster.holders[here.address] == *process
    };
    let gone =
        (0..cluster.processes.len()).find(gone).filter(|_| may_start(cluster) && cluster.running().len() < MAX_UP);
    let Some(process) = gone else { return Ok(()) };
    let is_missed = cluster.up().into_iter().any(|other| cluster.processes[other].view_of(process) == View::Down);
    cluster.report.fault(if is_missed {
        "returned after it was declared dead"
    } else {
        "returned before it was declared dead"
    });
    cluster.start(Some(process));
    Ok(())
}

/// Restarts each process whose clock is far ahead of true time, as the page on operations asks for. Otherwise the
/// process would stamp its writes in the future until true time has caught up, and they would win over the writes of
/// its peers.
pub(super) fn restart_the_fast<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) {
    for process in cluster.running() {
        let open = cluster.processes[process].open.iter().flatten();
        let clock = |number: usize| {
            let clock = cluster.view(number).clock();
            clock.last().max(clock.judging(cluster.now_at(number)))
        };
        let last = open.map(|&number| clock(number)).max().unwrap_or_default();
        if last > super::clock::EPOCH + cluster.at + TOO_FAR {
            cluster.report.fault("restarted for its clock");
            stop(cluster, process);
            cluster.start(Some(process));
        }
    }
}

/// Returns a broken link that may stay broken. Both ends run, and each cache that both have open is also open on a
/// third process. The condition is per cache, because members of one cache know nothing of another cache.
pub(super) fn link_that_stays<K: SimKey, V: SimValue>(cluster: &Cluster<'_, K, V>) -> Option<(usize, usize)> {
    let process = |address: usize| &cluster.processes[cluster.holders[address]];
    let shares = |a: usize, b: usize| {
        let both = |cache: &usize| process(a).open[*cache].is_some() && process(b).open[*cache].is_some();
        let mut caches = (0..usize::from(cluster.settings.caches)).filter(both);
        caches.all(|cache| cluster.replicas_of(cache as u8).len() > 2)
    };
    let stays = |(a, b): &(usize, usize)| process(*a).runs() && process(*b).runs() && shares(*a, *b);
    cluster.network.broken().find(|link| cluster.settings.stays_broken && stays(link))
}

pub(super) fn join<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    if may_start(cluster) && cluster.running().len() < MAX_UP {
        cluster.report.fault("join");
        cluster.start(None);
    }
    Ok(())
}

/// Stops a process after it has sent a goodbye to each process that it reaches.
pub(super) fn leave<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, node: u8) -> Result<(), Violation> {
    let Some(process) = chosen_of_many(cluster, node) else { return Ok(()) };
    cluster.report.fault("leave");
    for other in cluster.up() {
        let (here, there) = (cluster.processes[process].address, cluster.processes[other].address);
        if other != process && !cluster.network.is_cut(here, there) {
            let after = cluster.network.delay();
            cluster.schedule(after, Event::Left { process: other, who: process });
        }
    }
    stop(cluster, process);
    Ok(())
}

/// Makes one process forget another, as an operator may do, rightly or wrongly.
pub(super) fn forget<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    node: u8,
    who: u8,
) -> Result<(), Violation> {
    let Some(process) = cluster.chosen(node) else { return Ok(()) };
    let who = usize::from(who) % cluster.processes.len();
    if who == process {
        return Ok(());
    }
    membership::forget(cluster, process, who)
}

pub(super) fn pause<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, node: u8) -> Result<(), Violation> {
    let Some(process) = cluster.chosen(node) else { return Ok(()) };
    cluster.report.fault("pause");
    cluster.processes[process].state = State::Paused;
    Ok(())
}

pub(super) fn resume_one<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>) -> Result<(), Violation> {
    let paused = cluster.running().into_iter().find(|&process| !cluster.processes[process].is_up());
    paused.map_or(Ok(()), |process| resume(cluster, process))
}

/// Resumes a paused process. The messages that arrived during the pause are delivered now.
pub(super) fn resume<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, process: usize) -> Result<(), Violation> {
    let here = &mut cluster.processes[process];
    here.state = State::Up;
    let address = here.address;
    let open = here.openings();
    for payload in std::mem::take(&mut here.inbox) {
        cluster.schedule(0, Event::Deliver { address, payload });
    }
    open.into_iter().for_each(|number| cluster.openings[number].history.membership.note_resumed(cluster.at));
    settle::process(cluster, process)
}

pub(super) fn step_clock<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    node: u8,
    millis: i32,
) -> Result<(), Violation> {
    let Some(process) = cluster.chosen(node) else { return Ok(()) };
    match millis {
        ..0 => cluster.report.fault("clock back"),
        0 => {}
        1.. => cluster.report.fault("clock ahead"),
    }
    if millis.unsigned_abs() >= 60_000 {
        cluster.report.fault("clock far off");
    }
    cluster.processes[process].clock.step(i64::from(millis) * 1_000_000);
    settle::process(cluster, process)
}

pub(super) fn freeze_clock<K: SimKey, V: SimValue>(
    cluster: &mut Cluster<'_, K, V>,
    node: u8,
    on: bool,
) -> Result<(), Violation> {
    let Some(process) = cluster.chosen(node) else { return Ok(()) };
    let at = cluster.at;
    if cluster.processes[process].clock.freeze(at, on) && on {
        cluster.report.fault("clock frozen");
    }
    settle::process(cluster, process)
}

/// Cuts or slows links, or changes the settings of the whole network.
pub(super) fn change_network<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, action: Action) {
    let address = |n: u8| cluster.chosen(n).map_or(0, |process| cluster.processes[process].address);
    let (name, (a, b)) = match action {
        Action::Cut(a, b) => ("link cut", (address(a), address(b))),
        Action::CutOneWay(a, b) => ("link cut one way", (address(a), address(b))),
        Action::BreakLink(a, b) => ("link broken", (address(a), address(b))),
        Action::SlowLink(a, b) => ("slow link", (address(a), address(b))),
        Action::Isolate(a) => ("isolated", (address(a), 0)),
        _ => return set_network(cluster, action),
    };
    let network = &mut cluster.network;
    let happened = match action {
        Action::Cut(..) => network.cut(a, b),
        Action::CutOneWay(..) => network.cut_one_way(a, b),
        Action::BreakLink(..) => network.break_link(a, b),
        Action::SlowLink(..) => network.slow_down(a, b),
        // The action cuts every link of the process, not only the first.
        _ => (0..cluster.holders.len()).filter(|b| network.cut(a, *b)).count() > 0,
    };
    if happened {
        cluster.report.fault(name);
    }
}

fn set_network<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, action: Action) {
    match action {
        Action::Split(mask) => return split(cluster, mask),
        Action::HealLinks => return cluster.network.heal_links(),
        Action::Latency(millis) => cluster.network.set_latency(u64::from(millis) * 1_000_000),
        Action::Loss(percent) => cluster.network.set_loss(percent),
        Action::Duplicate(percent) => cluster.network.set_duplicate(percent),
        Action::Bandwidth(bytes) => cluster.network.set_bandwidth(bytes),
        _ => return,
    }
    cluster.report.fault("network changed");
}

fn split<K: SimKey, V: SimValue>(cluster: &mut Cluster<'_, K, V>, mask: u8) {
    let running: Vec<_> = cluster.running().into_iter().map(|process| cluster.processes[process].address).collect();
    let side = |position: usize| mask >> (position % 8) & 1;
    let mut happened = false;
    for (i, &a) in running.iter().enumerate() {
        for (j, &b) in running.iter().enumerate() {
            happened |= side(i) != side(j) && cluster.network.cut(a, b);
        }
    }
    if happened {
        cluster.report.fault("split");
    }
}
