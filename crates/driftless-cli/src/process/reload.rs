//! SIGHUP: reads the settings again, and applies the keys and the level of the log.

use super::Arguments;
use crate::{
    config::{Config, schema::SETTINGS, secrets::Secrets, template},
    logs::Log,
};
use driftless::Node;
use std::sync::Arc;
use tokio::signal::unix::Signal;
use toml::Table;

/// The settings that a running process can change.
const LIVE: &[&str] = &["log.level", "node.key", "node.key_files"];

/// The state between two reloads.
pub struct Reloader {
    arguments: Arguments,
    config: Config,
    secrets: Secrets,
    node: Node,
    log: Arc<Log>,
}

impl Reloader {
    pub fn new(arguments: Arguments, config: Config, secrets: Secrets, node: Node, log: Arc<Log>) -> Self {
        Self { arguments, config, secrets, node, log }
    }

    /// Reloads at each signal.
    pub async fn run(mut self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            match self.reload() {
                Ok(()) => tracing::warn!("read the settings again: keys and the level of the log are in force"),
                Err(error) => tracing::error!("the settings were not read again, and stay as they were: {error}"),
            }
        }
    }

    fn reload(&mut self) -> Result<(), String> {
        let (config, secrets) = self.arguments.load().map_err(|error| error.to_string())?;
        // The level first, which cannot fail half-way.
        self.log.set_level(&config.log.level)?;
        rotate(&self.node, &self.secrets.keys, &secrets.keys)?;
        for key in needing_restart(&self.config, &config) {
            tracing::warn!("{key} has changed: the process must be restarted for it");
        }
        if (&secrets.token, &secrets.password) != (&self.secrets.token, &self.secrets.password) {
            tracing::warn!("the token or the password has changed: the process must be restarted for it");
        }
        self.config = config;
        self.secrets = secrets;
        Ok(())
    }
}

/// Changes the keys of the running node: accepts the new ones, encrypts with the first, refuses those that are gone.
fn rotate(node: &Node, old: &[[u8; 32]], new: &[[u8; 32]]) -> Result<(), String> {
    if old == new {
        return Ok(());
    }
    let (Some(_), Some(first)) = (old.first(), new.first()) else {
        return Err("node.key_files: a running node cannot switch encryption on or off: restart it".to_owned());
    };
    let step =
        |what: &str, error: &dyn std::fmt::Display| format!("node.key_files: a key could not be {what}: {error}");
    for key in new.iter().filter(|key| !old.contains(key)) {
        node.add_encryption_key(*key).map_err(|error| step("added", &error))?;
    }
    node.use_encryption_key(*first).map_err(|error| step("used", &error))?;
    for key in old.iter().filter(|key| !new.contains(key)) {
        node.remove_encryption_key(*key).map_err(|error| step("removed", &error))?;
    }
    Ok(())
}

/// Returns the settings that differ and are not [`LIVE`].
fn needing_restart(before: &Config, after: &Config) -> Vec<String> {
    let tables = [before, after].map(|config| config.shown().ok().and_then(|text| text.parse::<Table>().ok()));
    let [Some(before), Some(after)] = tables else { return Vec::new() };
    let differs = |key: &str| template::value(&before, key) != template::value(&after, key);
    let mut changed: Vec<String> = SETTINGS
        .iter()
        .map(|setting| setting.key)
        .filter(|key| !LIVE.contains(key) && differs(key))
        .map(str::to_owned)
        .collect();
    if differs("database") {
        changed.push("cache or database".to_owned());
    }
    changed
}
