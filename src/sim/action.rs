//! The actions of a run, as data. A scenario is a list of actions, so a failing scenario can be shrunk by leaving some
//! out.

use std::fmt;

/// One action. A node is a number modulo the count of nodes that are up. Keys and caches are numbers modulo their
/// counts. Therefore any list of actions is a valid scenario. Keys are counted through all caches: with five keys in
/// each of two caches, key 7 is the third key of the second cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// A write through a node, with a time to live in milliseconds (zero: the time to live of the cache).
    Write(u8, u16, u32),
    /// A delete.
    Delete(u8, u16),
    /// A read that counts as a use.
    Read(u8, u16),
    /// `invalidate_all` of a cache.
    InvalidateAll(u8, u8),
    /// A fill that takes up to this many milliseconds.
    Fill(u8, u16, u32),
    /// A fill of a value with this time to live in milliseconds.
    FillFor(u8, u16, u32),
    /// Eviction of a key's value on one node.
    Evict(u8, u16),
    /// An audit of all registers that the first node holds of the first cache, compared with those of the second node.
    Audit(u8, u8),
    /// The closing of a cache on a node. The last node that has it open keeps it open.
    CloseCache(u8, u8),
    /// The opening of a cache on a node that does not have it open. It starts empty, as a new replica.
    OpenCache(u8, u8),
    /// The crash of a node: it stops for good, without a message.
    Crash(u8),
    /// The restart of a node: it stops and starts again at once, empty, with the same address and name. The remaining
    /// nodes learn of the restart.
    Restart(u8),
    /// The return of a crashed node, empty, with the same address and name. Its peers may have declared it dead, or
    /// not.
    Return,
    /// The start of a new node.
    Join,
    /// The departure of a node: it sends a goodbye and stops.
    Leave(u8),
    /// An operator's statement to the first node that the second will not return. The second is named by its number
    /// since the start of the run, whether it is up or not.
    Forget(u8, u8),
    /// The pause of a node: its timers do not fire and its messages wait.
    Pause(u8),
    /// The resumption of the first paused node.
    Resume,
    /// A cut of the link between two nodes, in both directions.
    Cut(u8, u8),
    /// A cut of the link from the first node to the second, in this direction only.
    CutOneWay(u8, u8),
    /// A cut of the link between two nodes until the faults end: `HealLinks` does not mend it.
    BreakLink(u8, u8),
    /// A slow link from the first node to the second: messages wait for its small bandwidth.
    SlowLink(u8, u8),
    /// A cut of all links to and from this node.
    Isolate(u8),
    /// A partition: the nodes whose bit is set are cut from those whose bit is not set.
    Split(u8),
    /// The repair of all links, at full speed.
    HealLinks,
    /// A step of a node's wall clock by this many milliseconds.
    StepClock(u8, i32),
    /// A stop of a node's wall clock, or its continuation.
    FreezeClock(u8, bool),
    /// A new upper limit of message latency, in milliseconds.
    Latency(u32),
    /// A new loss rate, in percent of messages.
    Loss(u8),
    /// A new duplication rate, in percent of messages.
    Duplicate(u8),
    /// A new bandwidth for every link, in bytes per second, at least 1,000; zero is no limit.
    Bandwidth(u32),
    /// No action: only time passes.
    Wait,
}

impl Action {
    /// The most numbers that an action has.
    pub(super) const NUMBERS: usize = 3;

    /// Returns the same action with its numbers mapped, as far as they are nodes, caches, keys or times.
    fn map(self, mut f: impl FnMut(u32) -> u32) -> Self {
        macro_rules! mapped {
            ($($name:ident($($part:ident),+);)*) => {
                match self {
                    $(Self::$name($($part),+) => Self::$name($(f(u32::from($part)).try_into().unwrap_or($part)),+),)*
                    Self::StepClock(node, by) => Self::StepClock(f(node.into()).try_into().unwrap_or(node), by),
                    Self::FreezeClock(node, on) => Self::FreezeClock(f(node.into()).try_into().unwrap_or(node), on),
                    other => other,
                }
            };
        }
        mapped! {
            Write(a, b, c); Delete(a, b); Read(a, b); InvalidateAll(a, b); Fill(a, b, c); FillFor(a, b, c); Evict(a, b);
            CloseCache(a, b); OpenCache(a, b); Crash(a); Restart(a); Leave(a); Forget(a, b); Pause(a);
            Audit(a, b); Cut(a, b); BreakLink(a, b); CutOneWay(a, b); SlowLink(a, b); Isolate(a); Split(a);
        }
    }

    /// Returns one of the action's numbers.
    pub(super) fn number(self, which: usize) -> Option<u32> {
        let mut numbers = Vec::new();
        self.map(|number| {
            numbers.push(number);
            number
        });
        numbers.get(which).copied()
    }

    /// Returns the same action with one number replaced.
    pub(super) fn with_number(self, which: usize, value: u32) -> Self {
        let mut at = 0;
        self.map(|number| {
            at += 1;
            if at == which + 1 { value } else { number }
        })
    }
}

/// An action, with the microseconds that pass before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Microseconds since the previous step.
    pub after: u32,
    /// The action.
    pub action: Action,
}

impl Step {
    /// Returns an action this many milliseconds after the previous step.
    #[must_use]
    pub const fn after_millis(millis: u32, action: Action) -> Self {
        Self { after: millis.saturating_mul(1_000), action }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:>9.3} ms  {:?}", f64::from(self.after) / 1_000.0, self.action)
    }
}
