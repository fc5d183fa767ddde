//! Failure scenarios by their numbers, each a short script on a stage of real replicas. What must hold at
//! any time is checked after every event by the checkers; a scenario asserts what is special to it, and
//! that it happened at all.

mod churn;
mod clocks;
mod releases;
mod returns;
mod stage;
mod traffic;
