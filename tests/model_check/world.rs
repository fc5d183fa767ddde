//! The model: the states of three replicas and the network between them, and the possible next steps.
//!
//! A replica is neither cloned nor hashed. It is represented by the list of its inputs, its *history*, and is made
//! again from that list. Nothing else determines its state: its clock advances only by its own inputs, and its id and
//! seed are fixed. Two orders of events may differ only in the interleaving of the histories of different replicas.
//! Such orders are one state, and joining them leaves nothing out. The result of a history is computed once and kept.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use stateright::{Model, Property};

use crate::checks;
use crate::machine::{Input, Machine, Packet, REPLICAS, Rules, View};
use crate::scope::Scope;

/// A replica with a history, and its observable state.
pub struct Local {
    pub who: u8,
    /// The hash that identifies the history.
    pub name: u64,
    parent: Option<Arc<Local>>,
    input: Option<Input>,
    sent: Vec<Arc<Packet>>,
    pub view: View,
    /// The number of inputs of each kind since the setup.
    spent: Spent,
}

/// The number of inputs of each kind, as a limit or as a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    pub writes: u8,
    pub deletes: u8,
    pub evictions: u8,
    pub fills: u8,
    pub epochs: u8,
    pub stills: u8,
    pub steps: u8,
    pub ticks: u8,
    /// Messages that are delivered and stay in flight, to be delivered again.
    pub again: u8,
    /// The number of all inputs together.
    pub depth: u8,
}

impl Spent {
    fn plus(mut self, input: &Input) -> Self {
        self.depth += 1;
        match input {
            Input::Write(_) => self.writes += 1,
            Input::Delete(_) => self.deletes += 1,
            Input::Evict(_) => self.evictions += 1,
            Input::BeginFill(_) => self.fills += 1,
            Input::InvalidateAll => self.epochs += 1,
            Input::Still(_) => self.stills += 1,
            Input::StepForward | Input::StepBack => self.steps += 1,
            Input::Tick => self.ticks += 1,
            Input::FinishFill | Input::SetRight | Input::Arrive(_) | Input::Greet(_) | Input::Forget(_) => {}
        }
        self
    }
}

impl Local {
    /// Returns the replica, made again from its history.
    pub fn replay<'a>(&self, rules: &'a Rules) -> Machine<'a> {
        let mut inputs = Vec::new();
        let mut at = Some(self);
        while let Some(local) = at {
            inputs.extend(local.input.as_ref());
            at = local.parent.as_deref();
        }
        let mut machine = Machine::new(rules, self.who);
        let mut sent = Vec::new();
        inputs.into_iter().rev().for_each(|input| machine.apply(input, &mut sent));
        machine
    }
}

/// One state of the cluster.
#[derive(Clone)]
pub struct World {
    pub locals: [Arc<Local>; REPLICAS as usize],
    /// The packets in flight, each with its number of copies.
    pub net: Vec<(Arc<Packet>, u8)>,
    pub again: u8,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.locals.iter().for_each(|local| local.name.hash(state));
        self.net.hash(state);
        self.again.hash(state);
    }
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        let names = |world: &Self| world.locals.iter().map(|local| local.name).collect::<Vec<_>>();
        names(self) == names(other) && self.net == other.net && self.again == other.again
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for local in &self.locals {
            writeln!(f, "r{}: {:?}", local.who, local.view)?;
        }
        writeln!(f, "in flight: {:?}", self.net)
    }
}

impl World {
    fn add(&mut self, packet: Arc<Packet>) {
        match self.net.binary_search_by(|(other, _)| other.cmp(&packet)) {
            Ok(at) => self.net[at].1 += 1,
            Err(at) => self.net.insert(at, (packet, 1)),
        }
    }

    fn take(&mut self, packet: &Arc<Packet>) {
        let Ok(at) = self.net.binary_search_by(|(other, _)| other.cmp(packet)) else { return };
        self.net[at].1 -= 1;
        if self.net[at].1 == 0 {
            self.net.remove(at);
        }
    }

    pub fn spent(&self) -> Spent {
        let mut sum = Spent { again: self.again, ..Spent::default() };
        for Spent { writes, deletes, evictions, fills, epochs, stills, steps, ticks, again: _, depth } in
            self.locals.iter().map(|local| local.spent)
        {
            sum.writes += writes;
            sum.deletes += deletes;
            sum.evictions += evictions;
            sum.fills += fills;
            sum.epochs += epochs;
            sum.stills += stills;
            sum.steps += steps;
            sum.ticks += ticks;
            sum.depth += depth;
        }
        sum
    }
}

/// One step of the model.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    On(u8, Input),
    /// The delivery of a message that stays in flight: the network has duplicated it.
    Again(Arc<Packet>),
}

type Fixed = BuildHasherDefault<DefaultHasher>;

/// The model, with the results that it has computed so far.
pub struct Cluster {
    pub scope: Scope,
    pub rules: Rules,
    known: Mutex<HashMap<u64, Arc<Local>, Fixed>>,
    pub healed: Mutex<HashMap<[u64; REPLICAS as usize], Option<String>, Fixed>>,
}

impl Cluster {
    pub fn new(scope: Scope, rules: Rules) -> Self {
        Self { scope, rules, known: Mutex::default(), healed: Mutex::default() }
    }

    /// Returns the number of histories that were computed, and the number of clusters that were healed.
    pub fn worked_out(&self) -> (usize, usize) {
        (self.known.lock().unwrap().len(), self.healed.lock().unwrap().len())
    }

    pub fn first(&self) -> World {
        let local = |who| self.local(who, None, None, Spent::default());
        World { locals: [local(0), local(1), local(2)], net: Vec::new(), again: 0 }
    }

    fn local(&self, who: u8, parent: Option<&Arc<Local>>, input: Option<Input>, spent: Spent) -> Arc<Local> {
        let name = Fixed::default().hash_one((who, parent.map(|parent| parent.name), &input, &spent));
        if let Some(known) = self.known.lock().unwrap().get(&name) {
            return Arc::clone(known);
        }
        let mut machine = parent.map_or_else(|| Machine::new(&self.rules, who), |parent| parent.replay(&self.rules));
        let mut sent = Vec::new();
        if let Some(input) = &input {
            machine.apply(input, &mut sent);
        }
        let local = Arc::new(Local {
            who,
            name,
            parent: parent.cloned(),
            input,
            sent: sent.into_iter().map(Arc::new).collect(),
            view: machine.view(),
            spent,
        });
        self.known.lock().unwrap().insert(name, Arc::clone(&local));
        local
    }

    /// Applies an input to a replica and returns the next world. Inputs of the setup are not counted.
    pub fn step(&self, world: &World, who: u8, input: Input, counted: bool) -> World {
        let mut next = world.clone();
        if let Input::Arrive(packet) = &input {
            next.take(packet);
        }
        let before = &world.locals[usize::from(who)];
        let spent = if counted { before.spent.plus(&input) } else { Spent::default() };
        let after = self.local(who, Some(before), Some(input), spent);
        after.sent.iter().for_each(|packet| next.add(Arc::clone(packet)));
        next.locals[usize::from(who)] = after;
        next
    }

    fn commands(&self, who: u8, local: &Local, spent: &Spent, steps: &mut Vec<Step>) {
        let limits = &self.scope.limits;
        let mut may = |allowed: bool, input: Input| {
            if allowed && self.scope.actors.contains(&who) {
                steps.push(Step::On(who, input));
            }
        };
        for key in 0..self.rules.keys {
            let serves = local.view.keys[usize::from(key)].as_ref().is_some_and(|held| held.served);
            may(spent.writes < limits.writes, Input::Write(key));
            may(spent.deletes < limits.deletes, Input::Delete(key));
            may(spent.evictions < limits.evictions && serves, Input::Evict(key));
            may(spent.fills < limits.fills && !local.view.filling, Input::BeginFill(key));
        }
        may(local.view.filling, Input::FinishFill);
        may(spent.epochs < limits.epochs, Input::InvalidateAll);
        for to in (0..REPLICAS).filter(|to| *to != who) {
            may(spent.stills < limits.stills, Input::Still(to));
        }
        may(spent.steps < limits.steps, Input::StepForward);
        may(spent.steps < limits.steps, Input::StepBack);
    }
}

impl Model for Cluster {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![(self.scope.setup)(self)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        let spent = world.spent();
        if spent.depth >= self.scope.limits.depth {
            return;
        }
        for (packet, _) in &world.net {
            let at = packet.arrives_at();
            steps.push(Step::On(at, Input::Arrive(Arc::clone(packet))));
            if spent.again < self.scope.limits.again && packet.bytes.is_some() {
                steps.push(Step::Again(Arc::clone(packet)));
            }
        }
        let slowest = world.locals.iter().map(|local| local.spent.ticks).min().unwrap_or_default();
        for (who, local) in (0..).zip(&world.locals) {
            self.commands(who, local, &spent, steps);
            // A replica may tick only if no replica has fewer ticks, so that clocks stay at most one tick apart.
            if spent.ticks < self.scope.limits.ticks && local.spent.ticks <= slowest {
                steps.push(Step::On(who, Input::Tick));
            }
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        Some(match step {
            Step::On(who, input) => self.step(world, who, input, true),
            Step::Again(packet) => {
                let mut next = self.step(world, packet.to, Input::Arrive(Arc::clone(&packet)), true);
                next.add(packet);
                next.again += 1;
                next
            }
        })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        checks::properties()
    }
}
