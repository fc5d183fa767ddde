//! The settings of the process: what they are, and how they are read from the file, the environment and the flags.
//!
//! A flag wins over a variable, a variable over the file, the file over the default.

pub mod flags;
mod layers;
pub mod schema;
pub mod secrets;
pub mod template;
#[cfg(test)]
mod tests;

use crate::serve::settings::Settings;
use driftless::{CacheSettings, HostPort};
use flags::Given;
use secrets::Secret;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::{Table, Value};

/// The default of `change_buffer`: changes that `CLIENT TRACKING` may be behind before clients drop all that they hold.
const CHANGE_BUFFER: i64 = 65_536;

/// All settings.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub node: NodeConfig,
    pub redis: RedisConfig,
    pub http: HttpConfig,
    pub log: LogConfig,
    /// The caches, in the order of `SELECT`. There is at least one.
    pub databases: Vec<Database>,
}

/// The section `[node]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    pub cluster: String,
    pub name: String,
    pub bind: HostPort,
    pub advertise: Option<HostPort>,
    pub seeds: Vec<String>,
    pub key: Option<Secret>,
    pub key_files: Vec<PathBuf>,
    pub timing: Timing,
}

/// The speed at which a node that does not answer is declared dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timing {
    /// For nodes on a network.
    Lan,
    /// For nodes on one machine.
    Local,
}

/// The section `[redis]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    pub bind: HostPort,
    pub password: Option<Secret>,
    pub password_file: Option<PathBuf>,
    pub max_clients: usize,
    pub max_request_bytes: usize,
    pub max_input_bytes: usize,
    pub max_output_bytes: usize,
    pub max_buffer_bytes: u64,
    #[serde(with = "time")]
    pub write_timeout: Duration,
    pub tracking_keys: usize,
    #[serde(with = "time")]
    pub wait: Duration,
    pub threads: usize,
}

/// The section `[http]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    pub bind: Option<HostPort>,
    pub token: Option<Secret>,
    pub token_file: Option<PathBuf>,
    pub hosts: Vec<String>,
    pub show_values: bool,
}

/// The section `[log]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    pub level: String,
    pub format: LogFormat,
}

/// The form of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// One cache: its section of `[[database]]`, above the section `[cache]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    pub name: String,
    pub weigh_by: Weight,
    pub settings: CacheSettings,
}

/// The weight of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    #[default]
    Entries,
    Bytes,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            cluster: "driftless".to_owned(),
            name: String::new(),
            bind: "127.0.0.1:7946".parse().expect("an address"),
            advertise: None,
            seeds: Vec::new(),
            key: None,
            key_files: Vec::new(),
            timing: Timing::Lan,
        }
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        let server = Settings::default();
        Self {
            bind: "127.0.0.1:6379".parse().expect("an address"),
            password: None,
            password_file: None,
            max_clients: server.max_clients,
            max_request_bytes: server.max_request_bytes,
            max_input_bytes: server.max_input_bytes,
            max_output_bytes: server.max_output_bytes,
            max_buffer_bytes: server.max_buffer_bytes,
            write_timeout: server.write_timeout,
            tracking_keys: server.tracking_keys,
            wait: Duration::from_secs(3),
            threads: 0,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "warn".to_owned(), format: LogFormat::Text }
    }
}

/// The reason for which a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path}: {error}")]
    Syntax { path: String, error: toml::de::Error },
    #[error("{place}: there is no setting {key}. Did you mean {nearest}?")]
    Unknown { place: String, key: String, nearest: String },
    #[error("{place}: {text:?} is not {wanted}")]
    Form { place: String, text: String, wanted: &'static str },
    #[error("{section}: {error}")]
    Value { section: String, error: String },
    #[error("{one} and {other} are both set, and say the same thing in two places: remove one")]
    Both { one: &'static str, other: &'static str },
    #[error("{place}: {problem}")]
    Secret { place: String, problem: &'static str },
}

impl Config {
    /// Reads the file, the variables and the flags.
    pub fn load(file: Option<&Path>, given: &Given) -> Result<Self, ConfigError> {
        let mut table = file.map_or_else(|| Ok(Table::new()), read)?;
        let variables = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        layers::check_variables(variables)?;
        layers::lay_over(&mut table, given)?;
        if let (false, Ok(filter)) = (is_set(&table, "log", "level"), std::env::var("RUST_LOG")) {
            layers::set(&mut table, "log.level", Value::from(filter));
        }
        Self::from_table(table)
    }

    fn from_table(mut table: Table) -> Result<Self, ConfigError> {
        let mut cache = section_table(table.remove("cache"));
        cache.entry("change_buffer").or_insert(Value::Integer(CHANGE_BUFFER));
        let databases = match table.remove("database") {
            Some(Value::Array(databases)) if !databases.is_empty() => databases,
            _ => vec![Value::Table(Table::from_iter([("name".to_owned(), Value::from("redis"))]))],
        };
        let config = Self {
            node: section(&mut table, "node")?,
            redis: section(&mut table, "redis")?,
            http: section(&mut table, "http")?,
            log: section(&mut table, "log")?,
            databases: databases
                .into_iter()
                .enumerate()
                .map(|(index, own)| database(index, own, &mut cache))
                .collect::<Result<_, _>>()?,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let (node, redis, http) = (&self.node, &self.redis, &self.http);
        for (both, one, other) in [
            (node.key.is_some() && !node.key_files.is_empty(), "node.key", "node.key_files"),
            (redis.password.is_some() && redis.password_file.is_some(), "redis.password", "redis.password_file"),
            (http.token.is_some() && http.token_file.is_some(), "http.token", "http.token_file"),
        ] {
            if both {
                return Err(ConfigError::Both { one, other });
            }
        }
        let mut names = HashSet::new();
        match self.databases.iter().find(|database| !names.insert(&database.name)) {
            Some(twice) => Err(invalid("database", format!("the name {:?} is there twice", twice.name))),
            None => Ok(()),
        }
    }

    /// Returns the configuration as text of the file. Secrets are replaced by a note.
    pub fn shown(&self) -> Result<String, toml::ser::Error> {
        let mut table = Table::new();
        table.insert("node".to_owned(), Value::try_from(&self.node)?);
        table.insert("redis".to_owned(), Value::try_from(&self.redis)?);
        table.insert("http".to_owned(), Value::try_from(&self.http)?);
        table.insert("log".to_owned(), Value::try_from(&self.log)?);
        let databases = self.databases.iter().map(Database::table).map(|table| table.map(Value::Table));
        table.insert("database".to_owned(), Value::Array(databases.collect::<Result<_, _>>()?));
        toml::to_string(&table)
    }
}

impl Database {
    fn table(&self) -> Result<Table, toml::ser::Error> {
        let mut table = Table::try_from(&self.settings)?;
        table.insert("name".to_owned(), Value::from(self.name.as_str()));
        table.insert("weigh_by".to_owned(), Value::try_from(self.weigh_by)?);
        Ok(table)
    }
}

fn invalid(section: &str, error: String) -> ConfigError {
    ConfigError::Value { section: section.to_owned(), error }
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: shown.clone(), source })?;
    let table = text.parse().map_err(|error| ConfigError::Syntax { path: shown.clone(), error })?;
    layers::check_keys(&table, &shown)?;
    Ok(table)
}

fn is_set(table: &Table, section: &str, name: &str) -> bool {
    table.get(section).and_then(|section| section.get(name)).is_some()
}

fn section_table(value: Option<Value>) -> Table {
    match value {
        Some(Value::Table(table)) => table,
        _ => Table::new(),
    }
}

fn section<T: DeserializeOwned>(table: &mut Table, name: &str) -> Result<T, ConfigError> {
    section_table(table.remove(name)).try_into().map_err(|error| invalid(name, described(&error)))
}

/// Returns the message of an error without the line ends that suit a file: it may concern a flag as well.
fn described(error: &toml::de::Error) -> String {
    error.to_string().trim().replace('\n', ", ")
}

/// Reads one database: its own settings, above those of every cache.
fn database(index: usize, own: Value, every: &mut Table) -> Result<Database, ConfigError> {
    let mut table = every.clone();
    lay(&mut table, section_table(Some(own)));
    let place = format!("database {index}");
    let Some(Value::String(name)) = table.remove("name") else {
        return Err(invalid(&place, "a `name` is missing: the name of its cache in the cluster".to_owned()));
    };
    let weigh_by = table.remove("weigh_by").map_or(Ok(Weight::default()), Value::try_into);
    let weigh_by = weigh_by.map_err(|error| invalid("cache.weigh_by", described(&error)))?;
    let settings: CacheSettings = table.try_into().map_err(|error| invalid("cache", described(&error)))?;
    settings.validate().map_err(|error| invalid(&format!("cache {name:?}"), error.to_string()))?;
    Ok(Database { name, weigh_by, settings })
}

/// Lays one table over another, also inside of tables.
fn lay(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => lay(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

/// Times as text with their unit, as in the settings of the library.
mod time {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong =
            |error| D::Error::custom(format!("{text:?} is no time: {error}; write for example \"500ms\" or \"3s\""));
        humantime::parse_duration(&text).map_err(wrong)
    }
}
