//! The loop that moves messages between caches and the mesh. It is one task on its own thread, so that a busy
//! application does not delay the cluster, and the cluster does not delay the application.
//!
//! It also answers a digest of a cache that is not open here. A message of a process that is not live gets no answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::agenda::{Agenda, ToVisit};
use super::command::Command;
use super::inquiry;
use super::mesh::{MAX_DATAGRAM, Mesh, MeshEvent, MeshEvents, Peer, StreamMessage};
use super::ready::{MemberWaiter, Waiter};
use super::registry::{Held, Registry};
use super::shortcut::Shortcut;
use super::signal::Signal;
use crate::cache::TimeSource;
use crate::cache::port::{NodeEvent, Parcel, Port};
use crate::replica_id::ReplicaId;
use crate::report::EventKind;
use crate::sync::Ordering;
use crate::wire::{self, MessageKind, Peeked};

mod gone;
mod handover;
mod not_open;
mod settings;
mod stills;
mod waiting;
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
/// The time until the next visit of a cache whose timers panicked, in nanoseconds.
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
    shortcut: Arc<Shortcut>,
    commands: mpsc::UnboundedReceiver<Command>,
    sent: (mpsc::UnboundedSender<Sent>, mpsc::UnboundedReceiver<Sent>),
    waiters: Vec<Waiter>,
    member_waiters: Vec<MemberWaiter>,
    /// A requested shutdown: its time limit, and the callers that wait for it.
    ending: Option<(Duration, Vec<oneshot::Sender<()>>)>,
    seeds: Vec<String>,
    greet_at: Instant,
    agenda: Agenda,
    stills: stills::StillTurns,
    watch: watch::ReportWatch,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shortcut.set_driver_waits(false);
        drop(self.shortcut.take_left());
    }
}

impl Driver {
    pub(crate) fn new(
        (mesh, events): (Arc<Mesh>, MeshEvents),
        registry: Arc<Registry>,
        shortcut: Arc<Shortcut>,
        commands: mpsc::UnboundedReceiver<Command>,
        seeds: Vec<String>,
    ) -> Self {
        Self {
            mesh,
            events,
            registry,
            shortcut,
            commands,
            sent: mpsc::unbounded_channel(),
            waiters: Vec::new(),
            member_waiters: Vec::new(),
            ending: None,
            seeds,
            greet_at: Instant::now(),
            agenda: Agenda::default(),
            stills: stills::StillTurns::new(),
            watch: watch::ReportWatch::new(),
        }
    }

    /// Runs until a shutdown is requested or every handle is dropped.
    pub(crate) async fn run(mut self) {
        let wake = Arc::clone(&self.registry.wake);
        loop {
            self.registry.beat();
            let next = self.turn().await;
            waiting::answer(&mut self);
            self.shortcut.set_driver_waits(true);
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

    /// Visits the caches that have something to do: sends their parcels, then lets time pass for them. Returns the
    /// instant of the next turn.
    async fn turn(&mut self) -> Instant {
        self.shortcut.set_driver_waits(false);
        let opened = self.note_opened();
        let now = Instant::now();
        let greets = !opened.is_empty() || self.greet_at <= now;
        if greets {
            self.greet_at = now + GREET_EVERY;
        }
        if !opened.is_empty() {
            self.agenda.want_all();
        }
        let visited = self.take_visits();
        for (port, parcel) in self.shortcut.take_left() {
            self.send(&port, parcel).await;
        }
        self.send_parcels(&visited).await;
        self.pass_time(&visited);
        self.registry.close_lingering(self.registry.clock.now().mono);
        if greets {
            self.shortcut.lanes.lock().tidy(self.registry.clock.now().mono);
            self.greet_the_unknown().await;
            if self.shortcut.members(|it| it.take_changed()) {
                self.registry.publish(self.shortcut.members(|it| it.node_names()));
            }
        }
        stills::send_if_due(self, now).await;
        watch::look(self, now);
        let next = self.agenda.next().map_or(self.greet_at, |at| Instant::from_std(self.registry.clock.instant(at)));
        // Callers are answered once in each turn, so turns follow soon after each other while a caller waits.
        let waits = !self.waiters.is_empty() || !self.member_waiters.is_empty();
        let soon = if waits { now + Duration::from_millis(5) } else { self.greet_at };
        next.min(soon).min(self.greet_at).min(self.stills.at())
    }

    /// Reports the caches opened since the last turn to membership, and whether this node still looks for its seeds.
    fn note_opened(&mut self) -> Vec<String> {
        let looks_for_seeds = !self.seeds.is_empty() && !self.mesh.seeds_are_own();
        if self.registry.phase.awaits_seeds.swap(looks_for_seeds, Ordering::AcqRel) != looks_for_seeds {
            self.agenda.want_all();
        }
        self.shortcut.members(|it| it.await_seeds(looks_for_seeds));
        // Before the caches are asked: "not open" answers to a predecessor must not count for a cache opened since.
        let opened = self.registry.take_opened();
        self.shortcut.members(|it| opened.iter().for_each(|cache| it.opened(cache)));
        opened
    }

    /// Returns the caches to visit in this turn.
    fn take_visits(&mut self) -> Vec<Held> {
        self.registry.woken.take().iter().for_each(|cache| self.agenda.want(cache));
        match self.agenda.take(self.registry.clock.now().mono) {
            ToVisit::All => self.registry.ports(),
            ToVisit::Only(names) => names.iter().filter_map(|name| self.registry.port(name)).collect(),
        }
    }

    async fn handle_events(&mut self, first: MeshEvent) {
        self.shortcut.set_driver_waits(false);
        self.handle_event(first).await;
        for _ in 0..EVENTS_PER_TURN {
            match self.events.try_recv() {
                Some(event) => self.handle_event(event).await,
                None => return,
            }
        }
    }

    async fn handle_event(&mut self, event: MeshEvent) {
        watch::note_event(&self.registry, self.mesh.name(), &event);
        if matches!(event, MeshEvent::Up(_) | MeshEvent::Down { .. }) {
            self.agenda.want_all();
        }
        match event {
            MeshEvent::Message { bytes, .. } => self.handle_message(bytes).await,
            MeshEvent::Up(peer) => {
                tracing::info!(member = %peer.name, addr = %peer.addr, "member up");
                for predecessor in self.shortcut.members(|it| it.up(peer.incarnation, &peer.name, peer.clone())) {
                    tracing::info!(member = %peer.name, addr = %peer.addr, "member restarted: it replaces its predecessor");
                    self.registry.note(
                        EventKind::MemberRestarted,
                        &peer.name,
                        "a new process replaces its predecessor",
                    );
                    gone::drop_process(self, predecessor, true);
                }
                self.registry.set_connected(true);
                // Before the greeting: the process may have replicas that the caches here have not met, and callers
                // that wait for members must wait for them too.
                self.registry.notify_caches(NodeEvent::ExpectsMembers(true));
                self.greet(&peer, None).await;
            }
            MeshEvent::Down { peer, left } => {
                tracing::info!(member = %peer.name, addr = %peer.addr, left, "member down");
                gone::drop_process(self, peer.incarnation, left);
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

    async fn handle_message(&mut self, bytes: Bytes) {
        if inquiry::handle(&self.registry, &self.mesh, &bytes) {
            return;
        }
        match Signal::read(&bytes) {
            Some(Signal::NotOpen { node, answer, cache }) => return not_open::take(self, (node, answer), cache),
            Some(Signal::Settings { node, is_answer, cache, text }) => {
                return settings::take(self, (node, is_answer), cache, text).await;
            }
            Some(Signal::Stills { node, body }) => return stills::take(self, node, body),
            None => {}
        }
        let (envelope, kind) = match wire::peek(&bytes) {
            Ok(Peeked::Message { envelope, kind }) => (envelope, kind),
            Ok(Peeked::UnknownKind { .. } | Peeked::UnknownVersion(_)) | Err(_) => return self.ignore(),
        };
        // A late message would re-create a member that is never reported down again.
        if self.shortcut.members(|it| it.is_late(envelope.node, envelope.cache, envelope.from)) {
            return self.ignore();
        }
        let port = match self.registry.port_or_last(envelope.cache) {
            Ok(port) => port,
            Err(last) => {
                self.ignore();
                if kind == MessageKind::Digest {
                    not_open::send(self, &envelope, last).await;
                }
                return;
            }
        };
        // Only a digest makes its sender a member, so only a digest replaces the replica that was open there before.
        if kind == MessageKind::Digest
            && let Some(before) = self.shortcut.members(|it| it.heard(envelope.node, envelope.cache, envelope.from))
        {
            self.act(&port, (), |port| port.handle_event(NodeEvent::MemberLeft(before)));
        }
        self.act(&port, false, |port| port.deliver(bytes.clone()));
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
                self.send_stream(port, peer, None, StreamMessage::new(bytes));
            }
            settings::send(self, peer, port, false).await;
        }
    }

    /// Sends the parcels of these caches. A cache that may have more is visited again in the next turn.
    async fn send_parcels(&mut self, visited: &[Held]) {
        for port in visited {
            let mut sent = 0;
            while let Some(parcel) = self.contain(port, None, |port| port.poll()) {
                self.send(port, parcel).await;
                sent += 1;
                if sent == PARCELS_PER_TURN {
                    self.agenda.want(port.name());
                    break;
                }
            }
        }
    }

    async fn send(&mut self, port: &Arc<dyn Port>, parcel: Parcel) {
        let Parcel { to, mut bytes, bulk } = parcel;
        let now = self.registry.clock.now().mono;
        let fits = bytes.len() <= MAX_DATAGRAM;
        let mut sealed = None;
        for replica in to {
            let Some(peer) = self.shortcut.members(|it| it.home(port.name(), replica).cloned()) else {
                // The receiver's process is not live. The replica waits for the outcome of each bulk parcel all the
                // same.
                if bulk {
                    self.contain(port, (), |port| port.sent(replica, false));
                }
                continue;
            };
            // Only bulk parcels wait for a pause after a stream: small digests and acknowledgements go by datagram at
            // once.
            if fits && (!bulk || self.shortcut.lanes.lock().takes_datagram(replica, now)) {
                let ok = self.mesh.send_datagram(&peer, bytes.clone()).await.is_ok();
                if bulk {
                    self.contain(port, (), |port| port.sent(replica, ok));
                }
            } else {
                self.shortcut.note_stream(port, replica, now);
                // Sealed once for all receivers. A large buffer is given away, so that it is not copied.
                let message = sealed.get_or_insert_with(|| {
                    StreamMessage::new(if fits { bytes.clone() } else { std::mem::take(&mut bytes) })
                });
                self.send_stream(port, &peer, bulk.then_some(replica), message.clone());
            }
        }
    }

    /// Sends a message by stream in a task of its own. At most one bulk message is in flight to each receiver, because
    /// the replica waits for `sent`.
    fn send_stream(&self, port: &Arc<dyn Port>, peer: &Peer, bulk: Option<ReplicaId>, message: StreamMessage) {
        let (mesh, peer, cache) = (Arc::clone(&self.mesh), peer.clone(), Arc::clone(port.name()));
        let done = self.sent.0.clone();
        tokio::spawn(async move {
            let result = mesh.send_sealed(&peer, message, SEND_DEADLINE).await;
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
        self.shortcut.lanes.lock().streamed(sent.to, self.registry.clock.now().mono);
        if let Some(port) = self.registry.port(&sent.cache) {
            self.act(&port, (), |port| port.sent(sent.to, sent.ok));
        }
    }

    /// Lets time pass for these caches.
    fn pass_time(&mut self, visited: &[Held]) {
        let now = self.registry.clock.now().mono;
        for port in visited {
            port.pace().begin_visit();
            let at = self.contain(port, now + IDLE_NANOS, |port| {
                port.handle_event(NodeEvent::AwaitsPeers(self.shortcut.members(|it| it.expects_peers(port.name()))));
                // The list of members is copied only while it can change the answer, because a turn may follow each
                // write.
                if port.expects_members() {
                    let live = port.live_members();
                    let expects = self.shortcut.members(|it| it.expects_members(port.name(), &live));
                    port.handle_event(NodeEvent::ExpectsMembers(expects));
                }
                port.tick()
            });
            self.agenda.set_due(port.name(), at);
            port.pace().end_visit(at);
        }
    }

    /// Calls a cache as [`contain`](Self::contain) does, and visits it in the next turn.
    fn act<T>(&mut self, port: &Arc<dyn Port>, otherwise: T, call: impl FnOnce(&Arc<dyn Port>) -> T) -> T {
        self.agenda.want(port.name());
        self.contain(port, otherwise, call)
    }

    /// Calls a cache and contains a panic of the user's types: it costs this call, not the node.
    fn contain<T>(&self, port: &Arc<dyn Port>, otherwise: T, call: impl FnOnce(&Arc<dyn Port>) -> T) -> T {
        catch_unwind(AssertUnwindSafe(|| call(port))).unwrap_or_else(|_| {
            self.registry.note_contained_panic(port.name());
            otherwise
        })
    }

    async fn greet_the_unknown(&self) {
        let mono = self.registry.clock.now().mono;
        for port in self.registry.ports() {
            // Live members only. If the replica still believes a member dead, the greeting of its return may have been
            // lost.
            let members = port.live_members();
            for peer in self.shortcut.members(|it| it.to_greet(port.name(), &members, mono)) {
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
                self.agenda.want_all();
                let named = self.shortcut.members(|it| it.named(&member));
                let _ = done.send(!named.is_empty());
                if !named.is_empty() {
                    self.registry.note(EventKind::MemberForgotten, &member, "declared gone by a call of `forget`");
                }
                named.into_iter().for_each(|incarnation| gone::forget(self, incarnation));
            }
            #[cfg(any(test, feature = "sim"))]
            Command::Panic => panic!("a test asked for it"),
            // The deadline of the first caller counts. Later callers wait for the same end.
            Command::Shutdown { deadline, done } => self.ending.get_or_insert((deadline, Vec::new())).1.push(done),
        }
    }
}
