//! The settings of the server for Redis clients.

use std::time::Duration;

/// The settings of the server for Redis clients. Every limit is per process unless it says otherwise.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The most connections at a time. Default 1,000.
    pub max_clients: usize,
    /// The password that clients send with `AUTH` or `HELLO`. Default: none.
    pub password: Option<String>,
    /// The most bytes of one request, and of all commands that one transaction queues. Default 16 MiB. Must exceed the
    /// largest value that clients write.
    pub max_request_bytes: usize,
    /// The most bytes of requests that one client may send ahead while it does not read its replies. Default 128 MiB.
    pub max_input_bytes: usize,
    /// The most bytes of replies that wait for one client. A client that needs more is disconnected. Default 256 MiB.
    pub max_output_bytes: usize,
    /// The most bytes of requests and replies that all clients together may have waiting. While that is exceeded, a
    /// client may have one request and 64 KiB of replies. Default 1 GiB.
    pub max_buffer_bytes: u64,
    /// The time after which a client is disconnected that reads none of the replies sent to it. Default 60 s.
    pub write_timeout: Duration,
    /// The most keys whose readers are remembered for `CLIENT TRACKING`. At the limit the readers of another key are
    /// told to drop it. Default 1,000,000.
    pub tracking_keys: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_clients: 1_000,
            password: None,
            max_request_bytes: 16 << 20,
            max_input_bytes: 128 << 20,
            max_output_bytes: 256 << 20,
            max_buffer_bytes: 1 << 30,
            write_timeout: Duration::from_secs(60),
            tracking_keys: 1_000_000,
        }
    }
}
