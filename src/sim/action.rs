//! What may happen in a run, as data: a scenario is a list of these, and a failing one can be
//! shrunk by leaving some out.

use std::fmt;

/// One thing that happens. Nodes are numbers taken modulo the nodes that are up, keys modulo the
/// keys there are, so that any list of actions is a valid scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// A write through a node, with a time to live in milliseconds (zero: none).
    Write(u8, u16, u32),
    /// A delete.
    Delete(u8, u16),
    /// `invalidate_all`.
    InvalidateAll(u8),
    /// A fill that takes this many milliseconds.
    Fill(u8, u16, u32),
    /// Eviction of a key's value on one node.
    Evict(u8, u16),
    /// A node stops for good, without a word.
    Crash(u8),
    /// A node stops and at once starts again, empty, as a new replica; the others are told.
    Restart(u8),
    /// A new node.
    Join,
    /// A node says good-bye and stops.
    Leave(u8),
    /// A node does nothing for a while: no timers; its messages wait.
    Pause(u8),
    /// It goes on.
    Resume(u8),
    /// No messages between two nodes.
    Cut(u8, u8),
    /// No messages from the first to the second.
    CutOneWay(u8, u8),
    /// No messages to or from this node.
    Isolate(u8),
    /// The nodes whose bit is set are cut from the others.
    Split(u8),
    /// All links work again.
    HealLinks,
    /// The wall clock of a node steps by this many milliseconds.
    StepClock(u8, i32),
    /// The wall clock of a node stops or goes on.
    FreezeClock(u8, bool),
    /// Messages take up to this many milliseconds from now on.
    Latency(u32),
    /// One message in a hundred, times this, is lost from now on.
    Loss(u8),
    /// One message in a hundred, times this, comes twice from now on.
    Duplicate(u8),
}

/// An action, and how many microseconds pass before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Microseconds since the step before.
    pub after: u32,
    /// What happens.
    pub action: Action,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{}us {:?}", self.after, self.action)
    }
}
