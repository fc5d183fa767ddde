//! The log on standard error, and the `ready` line on standard output.

use crate::config::{LogConfig, LogFormat};
use std::io::{self, IsTerminal, Write};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// The running log. Its level can be changed.
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
    format: LogFormat,
}

fn filter(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|error| {
        format!("log.level: {level:?}: {error}; write for example \"info\" or \"warn,driftless=debug\"")
    })
}

/// Returns true if lines may have colours: on a terminal, unless NO_COLOR is set.
fn has_colours(is_terminal: bool, no_color: Option<&std::ffi::OsStr>) -> bool {
    is_terminal && no_color.is_none_or(std::ffi::OsStr::is_empty)
}

impl Log {
    /// Starts the log of this process.
    pub fn start(config: &LogConfig) -> Result<Self, String> {
        let (filter, handle) = reload::Layer::new(filter(&config.level)?);
        let colours = has_colours(io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
        let lines = fmt::layer().with_writer(io::stderr).with_ansi(colours);
        let lines = match config.format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().with_ansi(false).boxed(),
        };
        let started = tracing_subscriber::registry().with(filter).with(lines).try_init();
        started.map_err(|error| format!("the log could not be started: {error}"))?;
        Ok(Self { filter: handle, format: config.format })
    }

    /// Changes the level from now on.
    pub fn set_level(&self, level: &str) -> Result<(), String> {
        self.filter.reload(filter(level)?).map_err(|error| format!("log.level: {error}"))
    }

    /// Prints the line that says that clients are served. `parts` are names and values.
    pub fn ready(&self, parts: &[(&str, String)]) -> io::Result<()> {
        let line = match self.format {
            LogFormat::Text => {
                let parts: Vec<String> = parts.iter().map(|(name, value)| format!("{name} {value}")).collect();
                format!("ready: {}", parts.join(", "))
            }
            LogFormat::Json => {
                let mut object = serde_json::Map::new();
                object.insert("message".to_owned(), "ready".into());
                object.extend(parts.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())));
                serde_json::Value::Object(object).to_string()
            }
        };
        let mut out = io::stdout();
        writeln!(out, "{line}")?;
        out.flush()
    }

    /// Reports the error that ends the process.
    pub fn fatal(&self, error: &dyn std::fmt::Display) {
        match self.format {
            LogFormat::Text => eprintln!("driftless: {error}"),
            LogFormat::Json => tracing::error!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::has_colours;
    use std::ffi::OsStr;

    #[test]
    fn colours_are_for_terminals_only() {
        assert!(has_colours(true, None) && has_colours(true, Some(OsStr::new(""))));
        assert!(!has_colours(true, Some(OsStr::new("1"))));
        assert!(!has_colours(false, None));
    }
}
