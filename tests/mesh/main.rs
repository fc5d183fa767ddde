//! The mesh on the loopback: every mitigation of what memberlist 0.8.5 breaks.

mod basics;
mod churn;
mod common;
mod ending;
mod hostile;
mod measure;
mod scarce;
mod secrets;
mod shares;
