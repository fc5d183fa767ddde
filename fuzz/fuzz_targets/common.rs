// Included by every target: the functions that the stable run in `tests/hardening` calls as well.

#[path = "../../tests/hardening"]
#[allow(dead_code)]
mod hardening {
    pub mod targets;
}
use hardening::targets;

/// The sidecar's own files: what they call `crate` is this one.
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
