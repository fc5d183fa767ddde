//! The situations that are explored, and their limits.

use driftless::ReplicaConfig;
use driftless::replica::Bugs;
use driftless::wire::MessageKind;
use std::sync::Arc;
use std::time::Duration;

use crate::machine::{Input, Packet, REPLICAS, Rules};
use crate::world::{Cluster, Spent, World};

/// A situation to start from, and the limits of the inputs that may follow.
#[derive(Clone)]
pub struct Scope {
    pub name: &'static str,
    pub setup: fn(&Cluster) -> World,
    pub limits: Spent,
    /// The replicas that write, delete and so on. All replicas receive and tick.
    pub actors: &'static [u8],
    /// The reciprocal of the share of states that are healed. A state is chosen whether or not more steps can follow
    /// it.
    pub heal_one_in: u64,
    pub rules: Rules,
}

impl Scope {
    pub fn new(name: &'static str, limits: Spent) -> Self {
        let rules = Rules {
            config: config(),
            bugs: Bugs::default(),
            keys: 2,
            value_bytes: 0,
            hold_sends: false,
            fills_never_tie: false,
        };
        Self { name, setup: acquainted, limits, actors: &[0, 1, 2], heal_one_in: 1, rules }
    }

    pub fn with_bug(mut self, name: &str) -> Self {
        self.rules.bugs = Bugs::only(name).expect("a known bug");
        self
    }

    pub fn from(mut self, setup: fn(&Cluster) -> World) -> Self {
        self.setup = setup;
        self
    }

    pub fn acted_by(mut self, actors: &'static [u8]) -> Self {
        self.actors = actors;
        self
    }

    /// Delays the confirmation that a message has left, so that a peer can be busy.
    pub fn holding_sends(mut self) -> Self {
        self.rules.hold_sends = true;
        self
    }

    /// Makes each replica push to one peer, which relays to one peer.
    pub fn relaying(mut self) -> Self {
        self.rules.config.broadcast_up_to = 1;
        self.rules.config.fanout = 1;
        self
    }

    pub fn with_few_tombstones(mut self) -> Self {
        self.rules.config.max_tombstones = 1;
        self
    }

    /// Makes values so large that a frame holds only one.
    pub fn with_large_values(mut self) -> Self {
        self.rules.value_bytes = 700;
        self
    }

    pub fn healing_one_in(mut self, states: u64) -> Self {
        self.heal_one_in = states;
        self
    }

    pub fn heals_at(&self, world: &World) -> bool {
        let mix = world.locals.iter().fold(0u64, |mix, local| mix.rotate_left(21) ^ local.name);
        mix % self.heal_one_in == 0
    }
}

/// Returns settings whose timers are all shorter than a tick.
fn config() -> ReplicaConfig {
    let mut config = ReplicaConfig::default();
    config.digest_interval = Duration::from_millis(400);
    config.gc_grace = Duration::ZERO;
    config.forget_after = Duration::from_secs(3_600);
    config.audit_interval = Duration::ZERO;
    config.max_frame_bytes = 1_024;
    config.session_idle = Duration::from_millis(500);
    config
}

/// A cluster on its way to a situation.
pub struct Setup<'a> {
    cluster: &'a Cluster,
    world: World,
}

impl<'a> Setup<'a> {
    pub fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, world: cluster.first() }
    }

    pub fn on(mut self, who: u8, input: Input) -> Self {
        self.world = self.cluster.step(&self.world, who, input, false);
        self
    }

    /// Delivers all messages, and the messages that result from them.
    pub fn deliver(self) -> Self {
        self.deliver_among(&[0, 1, 2])
    }

    /// Delivers all messages between these replicas, and loses all other messages.
    pub fn deliver_among(self, reachable: &[u8]) -> Self {
        self.deliver_if(|packet| reachable.contains(&packet.from) && reachable.contains(&packet.to))
    }

    /// Delivers the messages that `arrives` accepts, including resulting ones, and loses all other messages.
    pub fn deliver_if(mut self, arrives: impl Fn(&Packet) -> bool) -> Self {
        while let Some((packet, _)) = self.world.net.first().cloned() {
            if arrives(&packet) {
                let at = packet.arrives_at();
                self = self.on(at, Input::Arrive(packet));
            } else {
                self.world.net.remove(0);
            }
        }
        self
    }

    /// Delivers all messages up to and including the first frame of a session, and loses the rest.
    pub fn deliver_until_frame(mut self) -> Self {
        while let Some((packet, _)) = self.world.net.first().cloned() {
            let is_frame = packet.is(MessageKind::Frame);
            let at = packet.arrives_at();
            self = self.on(at, Input::Arrive(packet));
            if is_frame {
                self.world.net.clear();
            }
        }
        self
    }

    /// Takes out everything in flight, so that a test can put it back later.
    pub fn aside(mut self) -> (Self, Vec<(Arc<Packet>, u8)>) {
        let net = std::mem::take(&mut self.world.net);
        (self, net)
    }

    pub fn ticks(mut self, rounds: usize, reachable: &[u8]) -> Self {
        for _ in 0..rounds {
            for who in 0..REPLICAS {
                self = self.on(who, Input::Tick).deliver_among(reachable);
            }
        }
        self
    }

    /// Advances replicas 1 and 2 by a tick, so that they are level with replica 0. Two ticks behind, they would defer
    /// its writes.
    pub fn level(self) -> Self {
        self.on(1, Input::Tick).on(2, Input::Tick).deliver_among(&[1, 2])
    }

    pub fn done(self) -> World {
        self.world
    }
}

/// Returns a world in which all replicas have met and hold nothing.
pub fn acquainted(cluster: &Cluster) -> World {
    meet(cluster).done()
}

pub fn meet(cluster: &Cluster) -> Setup<'_> {
    let mut setup = Setup::new(cluster);
    for who in 0..REPLICAS {
        for to in (0..REPLICAS).filter(|to| *to != who) {
            setup = setup.on(who, Input::Greet(to));
        }
    }
    setup.deliver().ticks(3, &[0, 1, 2])
}

/// Returns a world in which replica 2 needs a session. Both keys have old values on all replicas. Replica 2 was
/// unreachable while replica 0 wrote both keys again.
pub fn one_missed_writes(cluster: &Cluster) -> World {
    let setup = meet(cluster).on(1, Input::Write(0)).on(1, Input::Write(1)).deliver();
    let setup = setup.on(0, Input::Write(0)).on(0, Input::Write(1)).deliver_among(&[0, 1]);
    setup.ticks(1, &[0, 1]).done()
}

/// Returns a world in which all replicas are at rest and believe the stills of the first one.
pub fn all_at_rest(cluster: &Cluster) -> World {
    let mut setup = meet(cluster).on(1, Input::Write(0)).deliver().ticks(6, &[0, 1, 2]);
    for who in 0..REPLICAS {
        setup = setup.on(who, Input::Tick).deliver();
        setup =
            (0..REPLICAS).filter(|to| *to != who).fold(setup, |setup, to| setup.on(who, Input::Still(to))).deliver();
    }
    setup.done()
}

/// Returns a world in which both keys have values that all replicas hold.
pub fn both_written(cluster: &Cluster) -> World {
    meet(cluster).on(1, Input::Write(0)).on(1, Input::Write(1)).deliver().ticks(1, &[0, 1, 2]).done()
}

/// Returns a world with evicted values. Replica 0 has evicted two stable values of its own without a trace, and replica
/// 1 still holds them. Replica 2 is new and has received the first of the two frames that it needs.
pub fn one_has_evicted(cluster: &Cluster) -> World {
    let mut setup = Setup::new(cluster).on(0, Input::Greet(1)).on(1, Input::Greet(0)).deliver_among(&[0, 1]);
    setup = setup.ticks(2, &[0, 1]).on(0, Input::Write(0)).on(0, Input::Write(1)).deliver_among(&[0, 1]);
    setup = setup.ticks(4, &[0, 1]).on(0, Input::Evict(0)).on(0, Input::Evict(1));
    setup = setup.on(1, Input::Greet(2)).on(2, Input::Greet(1)).deliver_until_frame();
    setup.on(0, Input::Greet(2)).on(2, Input::Greet(0)).done()
}

/// Returns a world in which replicas 0 and 1 have evicted the newest value of a key without a trace. Replica 2 is new
/// and holds an older value.
pub fn the_newest_is_evicted(cluster: &Cluster) -> World {
    let mut setup = Setup::new(cluster).on(2, Input::Write(0));
    setup = setup.on(0, Input::Greet(1)).on(1, Input::Greet(0)).deliver_among(&[0, 1]);
    setup = setup.ticks(2, &[0, 1]).on(0, Input::Write(0)).deliver_among(&[0, 1]);
    setup = setup.ticks(4, &[0, 1]).on(0, Input::Evict(0)).on(1, Input::Evict(0));
    setup.on(2, Input::Greet(0)).on(0, Input::Greet(2)).done()
}

/// Returns a world in which replica 1 is one tick ahead, which is within the drift that its peers accept. Replica 1 has
/// deleted a key, and no peer has received the delete yet.
pub fn one_is_ahead(cluster: &Cluster) -> World {
    let setup = meet(cluster).on(0, Input::Write(0)).deliver().ticks(1, &[0, 1, 2]);
    setup.on(1, Input::Tick).deliver().on(1, Input::Delete(0)).done()
}

/// Returns a world with a fill from before its replica was a member. Replica 0 is ahead and has filled a key before it
/// met any replica. While the fill ran, replica 1 deleted the key. All replicas that knew of the delete have forgotten
/// it.
pub fn one_filled_before_it_met(cluster: &Cluster) -> World {
    let mut setup = Setup::new(cluster).on(1, Input::Greet(2)).on(2, Input::Greet(1)).deliver_among(&[1, 2]);
    setup = setup.on(0, Input::Tick).on(0, Input::Write(0)).on(0, Input::BeginFill(0));
    setup = setup.on(1, Input::Delete(0)).deliver_among(&[1, 2]).on(0, Input::FinishFill);
    setup.ticks(4, &[1, 2]).level().on(0, Input::Greet(1)).on(0, Input::Greet(2)).done()
}

/// Returns a world like [`one_filled_before_it_met`], but replica 0 was a member that was forgotten meanwhile. The
/// write below its fill arrived after that, and the delete has lost against the write.
pub fn one_filled_and_was_forgotten(cluster: &Cluster) -> World {
    let (setup, written) = meet(cluster).on(0, Input::Tick).deliver().on(0, Input::Write(0)).aside();
    let setup = setup.on(0, Input::BeginFill(0)).on(1, Input::Delete(0)).deliver_among(&[1, 2]);
    let mut setup = setup.on(0, Input::FinishFill).deliver_among(&[]);
    setup = setup.on(1, Input::Forget(0)).on(2, Input::Forget(0));
    setup.world.net = written;
    setup.deliver().ticks(8, &[1, 2]).level().on(0, Input::Greet(1)).on(0, Input::Greet(2)).done()
}

/// Returns a world in which replica 0 is ahead and has filled a key above its own delete. Replica 1 wrote the key while
/// the fill ran. That write lost where it arrived, so only its author knows of it. Replica 0 receives all digests of
/// replica 1 and everything from replica 2. Of the messages that replica 0 sends, only digests to replica 2 arrive.
pub fn the_messages_of_one_filler_are_lost(cluster: &Cluster) -> World {
    let mut setup = meet(cluster).on(0, Input::Tick).deliver_among(&[]).on(0, Input::Delete(0));
    setup = setup.deliver_among(&[0, 2]).on(0, Input::BeginFill(0));
    setup = setup.on(1, Input::Write(0)).deliver_among(&[1, 2]).on(0, Input::FinishFill).deliver_among(&[]);
    let arrives = |packet: &Packet| match (packet.from, packet.to) {
        (2, 0) => true,
        (1, _) | (0, 2) => packet.is(MessageKind::Digest),
        _ => false,
    };
    for _ in 0..10 {
        for who in 0..REPLICAS {
            setup = setup.on(who, Input::Tick).deliver_if(arrives);
        }
    }
    setup.level().done()
}

/// Returns a world in which replica 0 is ahead and has filled a key, and its group has forgotten the stamps that
/// contest the fill. While the fill ran, replica 1, which had met no replica, deleted the key or wrote it.
fn filled_among_strangers(cluster: &Cluster, by_the_other: Input) -> World {
    let mut setup = Setup::new(cluster).on(0, Input::Greet(2)).on(2, Input::Greet(0)).deliver_among(&[0, 2]);
    setup = setup.on(0, Input::Tick).deliver_among(&[0, 2]).on(0, Input::Write(0)).deliver_among(&[0, 2]);
    setup = setup.on(0, Input::BeginFill(0)).on(1, by_the_other).on(0, Input::FinishFill).deliver_among(&[0, 2]);
    setup.ticks(5, &[0, 2]).level().on(0, Input::Greet(1)).on(1, Input::Greet(2)).done()
}

/// Returns a world in which that input of replica 1 is a delete: see [`filled_among_strangers`].
pub fn an_unmet_replica_deleted(cluster: &Cluster) -> World {
    filled_among_strangers(cluster, Input::Delete(0))
}

/// Returns a world in which that input of replica 1 is a write: see [`filled_among_strangers`].
pub fn an_unmet_replica_wrote(cluster: &Cluster) -> World {
    filled_among_strangers(cluster, Input::Write(0))
}

/// Returns a world in which replica 2 missed a delete. The next delete will force its tombstone out.
pub fn one_missed_a_delete(cluster: &Cluster) -> World {
    let setup = meet(cluster).on(1, Input::Write(0)).on(2, Input::Write(1)).deliver().ticks(1, &[0, 1, 2]);
    setup.on(0, Input::Delete(0)).deliver_among(&[0, 1]).ticks(1, &[0, 1]).done()
}

/// Returns a world with a delete that all replicas have seen. Its tombstone is about to be collected.
pub fn before_collection(cluster: &Cluster) -> World {
    let setup = meet(cluster).on(1, Input::Write(0)).deliver().ticks(1, &[0, 1, 2]);
    setup.on(0, Input::Delete(0)).deliver().ticks(2, &[0, 1, 2]).done()
}
