//! A `redis-server` (Debian's) on a free loopback port. It runs as long as its handle lives.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[path = "../../../tests/common/addresses.rs"]
mod addresses;

/// A running server and one connection to it.
pub struct Redis {
    server: Child,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Redis {
    /// Starts a server. Returns `None` if it is not installed or does not start.
    pub fn start() -> Option<Self> {
        let port = addresses::unused_port();
        let arguments = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"];
        let mut command = Command::new("redis-server");
        command.args(arguments).arg(port.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().ok()?;
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                stream.set_nodelay(true).ok()?;
                return Some(Self { server, stream, buffer: Vec::new() });
            }
            if Instant::now() > until {
                let mut server = server;
                let _ = server.kill().and_then(|()| server.wait());
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn command(&mut self, words: &[&[u8]]) {
        let _ = write!(self.buffer, "*{}\r\n", words.len());
        for word in words {
            let _ = write!(self.buffer, "${}\r\n", word.len());
            self.buffer.extend_from_slice(word);
            self.buffer.extend_from_slice(b"\r\n");
        }
    }

    pub fn queue_set(&mut self, key: &str, value: &[u8]) {
        self.command(&[b"SET", key.as_bytes(), value]);
    }

    pub fn queue_get(&mut self, key: &str) {
        self.command(&[b"GET", key.as_bytes()]);
    }

    /// Sends the queued commands and reads `answer_bytes` bytes of answers in all.
    pub fn exchange(&mut self, answer_bytes: usize) {
        self.stream.write_all(&self.buffer).expect("the server reads");
        self.buffer.resize(answer_bytes, 0);
        self.stream.read_exact(&mut self.buffer).expect("the server answers");
        assert!(matches!(self.buffer[0], b'+' | b'$'), "the server refused");
        self.buffer.clear();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
