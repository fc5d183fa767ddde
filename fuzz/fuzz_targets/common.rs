// Included by every fuzz target: the functions that the stable run in `tests/hardening` calls as well.

#[path = "../../tests/hardening"]
#[allow(dead_code)]
mod hardening {
    pub mod targets;
}
use hardening::targets;

/// The source files of the Redis server of `crates/driftless-cli`. Inside them `crate` is this crate.
#[path = "../../crates/driftless-cli/src/serve"]
#[allow(dead_code)]
mod serve {
    pub mod clients;
    pub mod commands;
    pub mod glob;
    pub mod info;
    pub mod pushes;
    pub mod reply;
    pub mod request;
    pub mod session;
    pub mod settings;
    pub mod sync;
    pub mod tracking;
}
