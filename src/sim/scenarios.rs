//! Tests of failure scenarios, by their numbers. Each is a short script on a stage of real replicas. The checkers test
//! after every event the promises that hold at any time. A scenario asserts the rest: its own result, and that the
//! failure happened at all.

mod churn;
mod clocks;
mod releases;
mod returns;
mod stage;
mod traffic;
