//! Keys, the password and the token: from the settings or from files, and never printed.

use super::{Config, ConfigError};
use serde::{Deserialize, Serialize, Serializer};
use std::{fmt, path::Path};

/// A text that is not printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str("(not shown)")
    }
}

/// The secrets of a configuration, read from their files.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// The keys of gossip. The first encrypts, all decrypt. Without one, gossip is not encrypted.
    pub keys: Vec<[u8; 32]>,
    pub password: Option<String>,
    pub token: Option<String>,
}

impl Secrets {
    /// Reads the secrets, and the files that hold them.
    pub fn load(config: &Config) -> Result<Self, ConfigError> {
        let mut keys = Vec::new();
        if let Some(Secret(key)) = &config.node.key {
            keys.push(parse_key(key).ok_or_else(|| not_a_key("node.key"))?);
        }
        for file in &config.node.key_files {
            let place = file.display().to_string();
            keys.push(parse_key(&read(file)?).ok_or_else(|| not_a_key(&place))?);
        }
        Ok(Self {
            keys,
            password: either(config.redis.password.as_ref(), config.redis.password_file.as_deref())?,
            token: either(config.http.token.as_ref(), config.http.token_file.as_deref())?,
        })
    }
}

fn not_a_key(place: &str) -> ConfigError {
    ConfigError::Secret {
        place: place.to_owned(),
        problem: "not a key. A key has 64 hexadecimal digits: `openssl rand -hex 32` makes one",
    }
}

fn either(text: Option<&Secret>, file: Option<&Path>) -> Result<Option<String>, ConfigError> {
    match (text, file) {
        (Some(Secret(text)), _) => Ok(Some(text.clone())),
        (None, Some(file)) => read(file).map(Some),
        (None, None) => Ok(None),
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: shown.clone(), source })?;
    match text.trim_end() {
        "" => Err(ConfigError::Secret { place: shown, problem: "the file is empty" }),
        text => Ok(text.to_owned()),
    }
}

fn parse_key(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> = pairs.iter().map(|&[high, low]| Some(digit(high)? * 16 + digit(low)?)).collect();
    bytes?.try_into().ok()
}
