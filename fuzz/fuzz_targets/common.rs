// Included by every fuzz target: the functions that the stable run in `tests/hardening` calls as well.

#[path = "../../tests/hardening"]
#[allow(dead_code)]
mod hardening {
    pub mod targets;
}
use hardening::targets;

/// The source files of the sidecar example. Inside them `crate` is this crate.
#[path = "../../examples/sidecar"]
#[allow(dead_code)]
mod sidecar {
    pub mod commands;
    pub mod glob;
    pub mod info;
    pub mod request;
    pub mod session;
}
#[allow(unused_imports)]
use sidecar::{commands, glob, info, request, session};
