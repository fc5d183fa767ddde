//! What may happen in a run, as data: a scenario is a list of these, and a failing one can be
//! shrunk by leaving some out.

use std::fmt;

/// One thing that happens. Nodes are numbers taken modulo the nodes that are up, keys and caches
/// modulo those there are, so that any list of actions is a valid scenario. Keys count through all
/// caches: with five keys in each of two caches, key 7 is the third key of the second cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// A write through a node, with a time to live in milliseconds (zero: the cache's own).
    Write(u8, u16, u32),
    /// A delete.
    Delete(u8, u16),
    /// A read that counts as a use.
    Read(u8, u16),
    /// `invalidate_all` of a cache.
    InvalidateAll(u8, u8),
    /// A fill that takes up to this many milliseconds.
    Fill(u8, u16, u32),
    /// A fill of a value that lives this many milliseconds.
    FillFor(u8, u16, u32),
    /// Eviction of a key's value on one node.
    Evict(u8, u16),
    /// Somebody suspects the first node, and has all that it holds of the first cache compared with what the second holds.
    Audit(u8, u8),
    /// A node closes a cache. The last one that has it open keeps it.
    CloseCache(u8, u8),
    /// A node opens a cache that it does not have open, empty, as a new replica.
    OpenCache(u8, u8),
    /// A node stops for good, without a word.
    Crash(u8),
    /// A node stops and at once starts again, empty, with its address and name; the others are told.
    Restart(u8),
    /// A node that crashed starts again, empty, with its address and name, whether it was called dead or not.
    Return,
    /// A new node.
    Join,
    /// A node says good-bye and stops.
    Leave(u8),
    /// An operator says on the first node that the second will not return: by its number since the start
    /// of the run, whether it is up or not.
    Forget(u8, u8),
    /// A node does nothing for a while: no timers; its messages wait.
    Pause(u8),
    /// The first node that is paused goes on.
    Resume,
    /// No messages between two nodes.
    Cut(u8, u8),
    /// No messages from the first to the second.
    CutOneWay(u8, u8),
    /// No messages between two nodes until the end of the faults: `HealLinks` does not mend it.
    BreakLink(u8, u8),
    /// Messages from the first to the second wait for a link of little bandwidth.
    SlowLink(u8, u8),
    /// No messages to or from this node.
    Isolate(u8),
    /// The nodes whose bit is set are cut from the others.
    Split(u8),
    /// All links work again, at full speed.
    HealLinks,
    /// The wall clock of a node steps by this many milliseconds.
    StepClock(u8, i32),
    /// The wall clock of a node stops or goes on.
    FreezeClock(u8, bool),
    /// Messages take up to this many milliseconds from now on.
    Latency(u32),
    /// So many messages in a hundred are lost from now on.
    Loss(u8),
    /// So many messages in a hundred come twice from now on.
    Duplicate(u8),
    /// Every link carries this many bytes per second from now on, at least 1,000; zero is no limit.
    Bandwidth(u32),
    /// Nothing but time.
    Wait,
}

impl Action {
    /// Numbers that an action has at most.
    pub(super) const NUMBERS: usize = 3;

    /// The same action with other numbers, as far as they are places, keys, or times to live.
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

    /// One of its numbers.
    pub(super) fn number(self, which: usize) -> Option<u32> {
        let mut numbers = Vec::new();
        self.map(|number| {
            numbers.push(number);
            number
        });
        numbers.get(which).copied()
    }

    /// The same with another number.
    pub(super) fn with_number(self, which: usize, value: u32) -> Self {
        let mut at = 0;
        self.map(|number| {
            at += 1;
            if at == which + 1 { value } else { number }
        })
    }
}

/// An action, and how many microseconds pass before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Microseconds since the step before.
    pub after: u32,
    /// What happens.
    pub action: Action,
}

impl Step {
    /// An action so many milliseconds after the step before.
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
