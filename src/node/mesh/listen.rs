//! The reasons why an address cannot be listened on, each with its fix.

use std::io;

/// Returns the reason and the fix. The text leaves out the operating system's own words: they are in the error's source,
/// and a log that prints both would repeat them.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process uses this port: stop that process, or choose another port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "the address is not one of this machine: use an address of this machine, or 0.0.0.0 or [::] for all of them"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "this process may not listen on that port: choose a port above 1023, or give it the permission".to_owned()
        }
        kind => format!("{kind}: check the address, and the limits of processes and of file descriptors"),
    }
}
