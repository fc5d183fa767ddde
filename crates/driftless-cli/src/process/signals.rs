//! The signals of this process.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The two signals that end this process.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub fn new() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Returns the signal that asks for the settings to be read again.
    #[allow(clippy::unused_self)]
    pub fn hangups(&self) -> io::Result<Signal> {
        signal(SignalKind::hangup())
    }
}
