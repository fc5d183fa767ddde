//! The loop that moves messages between caches and the mesh. It is one task on its own thread, so that a busy
//! application does not delay the cluster, and the cluster does not delay the application.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::command::Command;
use super::inquiry;
use super::lanes::Lanes;
use super::mesh::{MAX_DATAGRAM, Mesh, MeshEvent, MeshEvents, Peer};
use super::ready::{MemberWaiter, Waiter};
use super::registry::Registry;
use super::signal::Signal;
use crate::cache::port::{NodeEvent, Parcel, Port};
use crate::cache::{Ready, TimeSource};
use crate::membership::{Membership, NotOpen, Readiness};
use crate::replica_id::ReplicaId;
use crate::sync::Ordering;
use crate::wire::{self, MessageKind, Peeked};

mod handover;
mod settings;
mod watch;

/// Parcels sent for one cache before the next cache has its turn.
const PARCELS_PER_TURN: usize = 64;
/// Events handled before the caches are asked for parcels again.
const EVENTS_PER_TURN: usize = 64;
/// Commands of callers handled before events are.
const COMMANDS_PER_TURN: usize = 1_024;
/// The time within which the peer's kernel must take a stream message.
const SEND_DEADLINE: Duration = Duration::from_secs(10);
/// The interval at which processes that have not answered are greeted again.
const GREET_EVERY: Duration = Duration::from_millis(500);
/// The longest time between two turns of the driver.
const IDLE: Duration = Duration::from_secs(1);
const IDLE_NANOS: u64 = 1_000_000_000;

/// The outcome of sending a bulk parcel to one receiver.
struct Sent {
    cache: Arc<str>,
    to: ReplicaId,
    ok: bool,
}

/// The state of the loop.
pub(crate) struct Driver {
    mesh: Arc<Mesh>,
    events: MeshEvents,
    registry: Arc<Registry>,
    membership: Membership<Peer>,
    lanes: Lanes,
    commands: mpsc::UnboundedReceiver<Command>,
    sent: (mpsc::UnboundedSender<Sent>, mpsc::UnboundedReceiver<Sent>),
    waiters: Vec<Waiter>,
    member_waiters: Vec<MemberWaiter>,
    /// A requested shutdown: its time limit, and the callers that wait for it.
    ending: Option<(Duration, Vec<oneshot::Sender<()>>)>,
    seeds: Vec<String>,
    greet_at: Instant,
    watch: watch::ReportWatch,
}

impl Driver {
    pub(crate) fn new(
        mesh: Arc<Mesh>,
        events: MeshEvents,
        registry: Arc<Registry>,
        commands: mpsc::UnboundedReceiver<Command>,
        seeds: Vec<String>,
    ) -> Self {
        Self {
            mesh,
            events,
            registry,
            membership: Membership::default(),
            lanes: Lanes::default(),
            commands,
            sent: mpsc::unbounded_channel(),
            waiters: Vec::new(),
            member_waiters: Vec::new(),
            ending: None,
            seeds,
            greet_at: Instant::now(),
            watch: watch::ReportWatch::new(),
        }
    }

    /// Runs until a shutdown is requested or every handle is dropped.
    pub(crate) async fn run(mut self) {
        let wake = Arc::clone(&self.registry.wake);
        loop {
            self.registry.beat();
            let more = self.send_parcels().await;
            let next = self.pass_time().await;
            self.answer_waiters();
            let next = if more { Instant::now() } else { next };
            tokio::select! {
                biased;
                // In this order, so that a flood of messages delays neither callers nor the next bulk parcel.
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_commands(command),
                    None => {
                        self.registry.phase.down.store(true, Ordering::Release);
                        self.mesh.shutdown(Duration::from_secs(1)).await;
                        return;
                    }
                },
                Some(sent) = self.sent.1.recv() => self.note_sent(&sent),
                event = self.events.recv() => match event {
                    Some(event) => self.handle_events(event).await,
                    None => {
                        self.registry.phase.died.store(true, Ordering::Release);
                        tracing::error!("the network of this node has died: the node is down, its caches are local from now on");
                        return;
                    }
                },
                () = wake.notified() => {}
                () = sleep_until(next) => {}
            }
            if let Some((deadline, waiting)) = self.ending.take() {
                handover::shut_down(&mut self, deadline).await;
                self.registry.stop();
                for done in waiting {
                    let _ = done.send(());
                }
                return;
            }
        }
    }

    async fn handle_events(&mut self, first: MeshEvent) {
        self.handle_event(first).await;
        for _ in 0..EVENTS_PER_TURN {
            match self.events.try_recv() {
                Some(event) => self.handle_event(event).await,
                None => return,
            }
        }
    }

    async fn handle_event(&mut self, event: MeshEvent) {
        match event {
            MeshEvent::Message { bytes, .. } => self.handle_message(bytes).await,
            MeshEvent::Up(peer) => {
                tracing::info!(member = %peer.name, addr = %peer.addr, "member up");
                for predecessor in self.membership.up(peer.incarnation, &peer.name, peer.clone()) {
                    tracing::info!(member = %peer.name, addr = %peer.addr, "member restarted: it replaces its predecessor");
                    self.drop_process(predecessor, true);
                }
                self.registry.set_connected(true);
                // Before the greeting: the process may have replicas that the caches here have not met, and callers
                // that wait for members must wait for them too.
                self.registry.notify_caches(NodeEvent::ExpectsMembers(true));
                self.greet(&peer, None).await;
            }
            MeshEvent::Down { peer, left } => {
                tracing::info!(member = %peer.name, addr = %peer.addr, left, "member down");
                self.drop_process(peer.incarnation, left);
            }
            MeshEvent::SeedsUnreachable { attempts } => {
                tracing::warn!(attempts, seeds = ?self.seeds, "no seed can be reached; this node keeps retrying");
            }
            MeshEvent::SeedsReachable => tracing::info!("a seed answers again"),
            MeshEvent::Rebuilt { reason } => tracing::warn!(reason, "membership was rebuilt in place"),
            MeshEvent::NameConflict { name, addrs } => {
                tracing::error!(
                    %name, ?addrs,
                    "two live processes share one member name: give each process its own name"
                );
            }
        }
    }

    fn drop_process(&mut self, incarnation: Uuid, for_good: bool) {
        let replicas = self.membership.down(incarnation, for_good);
        for (cache, replica) in replicas {
            let Some(port) = self.registry.port(&cache) else { continue };
            // A dead member may return, so it holds back collection until it is forgotten. A member that left holds
            // back nothing.
            let event = if for_good { NodeEvent::MemberLeft(replica) } else { NodeEvent::MemberDown(replica) };
            self.contain(&port, (), |port| port.handle_event(event));
        }
        self.registry.ports().iter().for_each(|port| port.forget_settings(incarnation));
        self.registry.set_connected(!self.membership.is_alone());
    }

    fn forget(&mut self, incarnation: Uuid) {
        for (cache, replica) in self.membership.forget(incarnation) {
            if let Some(port) = self.registry.port(&cache) {
                self.contain(&port, (), |port| port.handle_event(NodeEvent::MemberLeft(replica)));
            }
        }
    }

    async fn handle_message(&mut self, bytes: Bytes) {
        if inquiry::handle(&self.registry, &self.mesh, &bytes) {
            return;
        }
        match Signal::read(&bytes) {
            Some(Signal::NotOpen { node, answer, cache }) => return self.take_not_open(node, answer, cache),
            Some(Signal::Settings { node, is_answer, cache, text }) => {
                return settings::take(self, (node, is_answer), cache, text).await;
            }
            None => {}
        }
        let (envelope, kind) = match wire::peek(&bytes) {
            Ok(Peeked::Message { envelope, kind }) => (envelope, kind),
            Ok(Peeked::UnknownKind { .. } | Peeked::UnknownVersion(_)) | Err(_) => return self.ignore(),
        };
        // A late message would re-create a member that is never reported down again.
        if self.membership.is_late(envelope.node, envelope.cache, envelope.from) {
            return self.ignore();
        }
        let port = match self.registry.port_or_last(envelope.cache) {
            Ok(port) => port,
            Err(last) => {
                self.ignore();
                if kind == MessageKind::Digest {
                    self.answer_not_open(&envelope, last).await;
                }
                return;
            }
        };
        // Only a digest makes its sender a member, so only a digest replaces the replica that was open there before.
        if kind == MessageKind::Digest
            && let Some(before) = self.membership.heard(envelope.node, envelope.cache, envelope.from)
        {
            self.contain(&port, (), |port| port.handle_event(NodeEvent::MemberLeft(before)));
        }
        self.contain(&port, false, |port| port.deliver(bytes.clone()));
    }

    async fn answer_not_open(&self, asked: &wire::Envelope<'_>, last: ReplicaId) {
        let answer = NotOpen { asked: asked.from, last };
        let signal = Signal::NotOpen { node: self.registry.incarnation, answer, cache: asked.cache };
        if let Some(peer) = self.membership.place_of(asked.node) {
            let _ = self.mesh.send_datagram(peer, signal.write()).await;
        }
    }

    fn take_not_open(&mut self, node: Uuid, answer: NotOpen, cache: &str) {
        let (port, now) = (self.registry.port(cache), self.registry.clock.now());
        let ours = port.as_ref().map(|port| port.id());
        if let Some(replica) = self.membership.not_open(node, cache, (answer, ours), now.mono)
            && let Some(port) = port
        {
            port.forget_settings(node);
            self.contain(&port, (), |port| port.handle_event(NodeEvent::MemberLeft(replica)));
        }
    }

    fn ignore(&self) {
        self.registry.health.ignored.one();
    }

    /// Greets a process with a digest of every cache that is open here, or of one cache only.
    async fn greet(&self, peer: &Peer, only: Option<&Arc<dyn Port>>) {
        let all = if only.is_none() { self.registry.ports() } else { Vec::new() };
        for port in only.into_iter().chain(all.iter().map(|port| &**port)) {
            let Some(bytes) = self.contain(port, None, |port| port.greeting()) else { continue };
            if bytes.len() <= MAX_DATAGRAM {
                let _ = self.mesh.send_datagram(peer, bytes).await;
            } else {
                self.send_stream(port, peer, None, bytes);
            }
            settings::send(self, peer, port, false).await;
        }
    }

    /// Sends the parcels of all caches. Returns true if there may be more.
    async fn send_parcels(&mut self) -> bool {
        let mut more = false;
        for port in self.registry.ports() {
            let mut sent = 0;
            while let Some(parcel) = self.contain(&port, None, |port| port.poll()) {
                self.send(&port, parcel).await;
                sent += 1;
                if sent == PARCELS_PER_TURN {
                    more = true;
                    break;
                }
            }
        }
        more
    }

    async fn send(&mut self, port: &Arc<dyn Port>, parcel: Parcel) {
        let Parcel { to, bytes, bulk } = parcel;
        let now = self.registry.clock.now().mono;
        for replica in to {
            let Some(peer) = self.membership.home(port.name(), replica).cloned() else {
                // The receiver's process is not live. The replica waits for the outcome of each bulk parcel all the
                // same.
                if bulk {
                    self.contain(port, (), |port| port.sent(replica, false));
                }
                continue;
            };
            // Only bulk parcels wait for a pause after a stream: small digests and acknowledgements go by datagram at
            // once.
            if bytes.len() <= MAX_DATAGRAM && (!bulk || self.lanes.takes_datagram(replica, now)) {
                let ok = self.mesh.send_datagram(&peer, bytes.clone()).await.is_ok();
                if bulk {
                    self.contain(port, (), |port| port.sent(replica, ok));
                }
            } else {
                self.lanes.streamed(replica, now);
                self.send_stream(port, &peer, bulk.then_some(replica), bytes.clone());
            }
        }
    }

    /// Sends a message by stream in a task of its own. At most one bulk message is in flight to each receiver, because
    /// the replica waits for `sent`.
    fn send_stream(&self, port: &Arc<dyn Port>, peer: &Peer, bulk: Option<ReplicaId>, bytes: Bytes) {
        let (mesh, peer, cache) = (Arc::clone(&self.mesh), peer.clone(), Arc::clone(port.name()));
        let done = self.sent.0.clone();
        tokio::spawn(async move {
            let result = mesh.send_stream(&peer, bytes, SEND_DEADLINE).await;
            if let Err(error) = &result {
                tracing::debug!(member = %peer.name, %error, "a message could not be sent");
            }
            if let Some(to) = bulk {
                let _ = done.send(Sent { cache, to, ok: result.is_ok() });
            }
        });
    }

    fn note_sent(&mut self, sent: &Sent) {
        self.tell_sent(sent);
        while let Ok(sent) = self.sent.1.try_recv() {
            self.tell_sent(&sent);
        }
    }

    fn tell_sent(&mut self, sent: &Sent) {
        self.lanes.streamed(sent.to, self.registry.clock.now().mono);
        if let Some(port) = self.registry.port(&sent.cache) {
            self.contain(&port, (), |port| port.sent(sent.to, sent.ok));
        }
    }

    /// Lets time pass for every cache. Returns the instant of the next turn.
    async fn pass_time(&mut self) -> Instant {
        let now = Instant::now();
        let now_mono = self.registry.clock.now().mono;
        let mut next = now + IDLE;
        let looks_for_seeds = !self.seeds.is_empty() && !self.mesh.seeds_are_own();
        self.registry.phase.awaits_seeds.store(looks_for_seeds, Ordering::Release);
        self.membership.await_seeds(looks_for_seeds);
        // Before the caches are asked: "not open" answers to a predecessor must not count for a cache opened since.
        let opened = self.registry.take_opened();
        opened.iter().for_each(|cache| self.membership.opened(cache));
        for port in self.registry.ports() {
            let at = self.contain(&port, now_mono + IDLE_NANOS, |port| {
                port.handle_event(NodeEvent::AwaitsPeers(self.membership.expects_peers(port.name())));
                // The list of members is copied only while it can change the answer, because a turn may follow each
                // write.
                if port.expects_members() {
                    let expects = self.membership.expects_members(port.name(), &port.status().live);
                    port.handle_event(NodeEvent::ExpectsMembers(expects));
                }
                port.tick()
            });
            next = next.min(Instant::from_std(self.registry.clock.instant(at)));
        }
        self.registry.close_lingering(now_mono);
        if !opened.is_empty() || self.greet_at <= now {
            self.greet_at = now + GREET_EVERY;
            self.lanes.tidy(now_mono);
            self.greet_the_unknown().await;
            self.registry.publish(self.membership.node_names());
        }
        watch::look(self, now);
        // Callers are answered once in each turn, so turns follow soon after each other while a caller waits.
        if !self.waiters.is_empty() || !self.member_waiters.is_empty() {
            next = next.min(now + Duration::from_millis(5));
        }
        next.min(self.greet_at)
    }

    /// Calls a cache and contains a panic of the user's types: it costs this call, not the node.
    fn contain<T>(&self, port: &Arc<dyn Port>, otherwise: T, call: impl FnOnce(&Arc<dyn Port>) -> T) -> T {
        catch_unwind(AssertUnwindSafe(|| call(port))).unwrap_or_else(|_| {
            if let Some(count) = self.registry.health.contained_panics.one_to_log() {
                tracing::error!(cache = %port.name(), count, "a type of this cache panicked in the driver");
            }
            otherwise
        })
    }

    async fn greet_the_unknown(&self) {
        let mono = self.registry.clock.now().mono;
        for port in self.registry.ports() {
            // Live members only. If the replica still believes a member dead, the greeting of its return may have been
            // lost.
            let members = port.status().live;
            for peer in self.membership.to_greet(port.name(), &members, mono) {
                self.greet(&peer, Some(&port)).await;
            }
        }
    }

    fn handle_commands(&mut self, first: Command) {
        self.handle_command(first);
        for _ in 0..COMMANDS_PER_TURN {
            match self.commands.try_recv() {
                Ok(command) => self.handle_command(command),
                Err(_) => return,
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Ready(waiter) => self.waiters.push(waiter),
            Command::Members(waiter) => self.member_waiters.push(waiter),
            Command::Forget { member, done } => {
                let named = self.membership.named(&member);
                let _ = done.send(!named.is_empty());
                named.into_iter().for_each(|incarnation| self.forget(incarnation));
            }
            #[cfg(any(test, feature = "sim"))]
            Command::Panic => panic!("a test asked for it"),
            // The deadline of the first caller counts. Later callers wait for the same end.
            Command::Shutdown { deadline, done } => self.ending.get_or_insert((deadline, Vec::new())).1.push(done),
        }
    }

    fn answer_waiters(&mut self) {
        self.answer_member_waiters(false);
        let waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters.into_iter().filter(|waiter| !waiter.is_gone()) {
            match self.readiness(&waiter) {
                Some(ready) => waiter.answer(ready),
                None => self.waiters.push(waiter),
            }
        }
    }

    fn answer_member_waiters(&mut self, ends: bool) {
        let present = self.membership.live_len();
        let waiters = std::mem::take(&mut self.member_waiters);
        self.member_waiters = waiters.into_iter().filter_map(|waiter| waiter.answer_if_due(present, ends)).collect();
    }

    fn readiness(&self, waiter: &Waiter) -> Option<Ready> {
        let Some(port) = self.registry.port(&waiter.cache) else {
            return Some(Ready::TimedOut {
                waiting_for: vec!["this cache, which was closed".into()],
                members: 0,
                entries: 0,
            });
        };
        let status = port.status();
        if let Some(caught_up) = status.caught_up {
            let from =
                self.membership.name_of(&waiter.cache, caught_up.from).unwrap_or_else(|| caught_up.from.to_string());
            return Some(Ready::CaughtUp { from, as_of: caught_up.as_of });
        }
        match self.membership.readiness(&waiter.cache) {
            Readiness::Alone => return Some(Ready::Alone),
            Readiness::First(members) => return Some(Ready::First { members }),
            Readiness::Waiting => {}
        }
        if Instant::now() < waiter.deadline {
            return None;
        }
        let waiting_for = if self.membership.is_alone() { self.seeds.clone() } else { self.membership.live_names() };
        Some(Ready::TimedOut { waiting_for, members: status.members.len(), entries: status.entries })
    }
}
