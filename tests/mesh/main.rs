//! Tests of the mesh on loopback: each workaround for a fault of memberlist 0.8.5.

#[path = "../common/addresses.rs"]
mod addresses;
mod basics;
mod churn;
mod common;
mod ending;
mod hostile;
mod measure;
mod scarce;
mod secrets;
mod shares;
