//! One node's debug interface. A node that does not answer is reported within two seconds.

use super::Result;
use serde_json::Value;
use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};
use ureq::Agent;

/// The time without an answer after which the node is asked for a sign of life, and the time for that sign. Together
/// they are the longest wait for a node that is paused.
const SIGN_OF_LIFE: Duration = Duration::from_millis(900);

/// A node to ask.
pub struct Node {
    at: String,
    token: Option<String>,
    cache: Option<String>,
}

impl Node {
    pub fn new(at: &str, token: Option<String>, cache: Option<String>) -> Self {
        Self { at: at.to_owned(), token, cache }
    }

    pub fn at(&self) -> &str {
        &self.at
    }

    /// Returns the name of the cache that the user gave.
    pub fn cache(&self) -> &Option<String> {
        &self.cache
    }

    /// Returns the answer to a request. A comparison of whole key spaces may take minutes: the node is waited for as
    /// long as it shows signs of life.
    pub fn get(&self, path: &str) -> Result<Value> {
        let (sender, receiver) = mpsc::channel();
        let (url, token) = (format!("http://{}{path}", self.at), self.token.clone());
        thread::spawn(move || sender.send(request(&url, token.as_deref())));
        loop {
            match receiver.recv_timeout(SIGN_OF_LIFE) {
                Ok(answer) => return self.read(answer),
                Err(RecvTimeoutError::Timeout) => self.expect_sign_of_life()?,
                Err(RecvTimeoutError::Disconnected) => return Err("the request was abandoned".into()),
            }
        }
    }

    fn read(&self, answer: std::result::Result<(u16, String), ureq::Error>) -> Result<Value> {
        let at = &self.at;
        let (status, body) = answer.map_err(|error| self.explained(&error))?;
        let body: Value = serde_json::from_str(&body).map_err(|error| {
            format!("{at} answered with status {status} and without JSON ({error}): is this the debug interface?")
        })?;
        match (status, body["error"].as_str()) {
            (200, _) => Ok(body),
            (_, Some(error)) => Err(format!("{at}: {error}").into()),
            _ => Err(format!("{at} answered with status {status}").into()),
        }
    }

    fn expect_sign_of_life(&self) -> Result<()> {
        let agent: Agent =
            Agent::config_builder().timeout_global(Some(SIGN_OF_LIFE)).http_status_as_error(false).build().into();
        match agent.get(format!("http://{}/health/live", self.at)).call() {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explained(&error)),
        }
    }

    /// Returns what happened, and what to do.
    fn explained(&self, error: &ureq::Error) -> Box<dyn std::error::Error> {
        let at = &self.at;
        let text = match error {
            ureq::Error::Timeout(ureq::Timeout::Connect) => format!(
                "{at} accepted no connection for 2 s: its machine is down or unreachable, or drops what arrives. Ask another node with --node"
            ),
            ureq::Error::Timeout(_) => format!(
                "{at} accepts connections, but its process has not answered for 2 s: it is paused (state T in `ps`) or its machine is overloaded. Ask another node with --node what it sees"
            ),
            ureq::Error::HostNotFound => format!("{at}: no host has this name. Give --node HOST:PORT"),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => format!(
                "{at} refused the connection: no debug interface listens there. Start the node with --http, or give its address with --node"
            ),
            error => format!("{at}: {error}. Is this the address of a debug interface?"),
        };
        text.into()
    }
}

/// Sends one request, and returns the status and the body.
fn request(url: &str, token: Option<&str>) -> std::result::Result<(u16, String), ureq::Error> {
    let agent: Agent = Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
    let mut request = agent.get(url);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut response = request.call()?;
    let status = response.status().as_u16();
    Ok((status, response.body_mut().with_config().limit(u64::MAX).read_to_string()?))
}
