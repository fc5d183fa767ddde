//! The default file: every setting with its help, commented out, with its default.

use super::{
    Config,
    schema::{SETTINGS, Setting},
};
use serde::ser::Error as _;
use std::fmt::Write;
use toml::{Table, Value, ser::Error as TomlError};

const HEAD: &str = "\
# The settings of `driftless serve`, each with its default. `driftless serve --default-config` prints this file.
#
# Remove the `#` in front of a setting to change it. Each is a flag and an environment variable as well, named behind its
# text: a flag wins over a variable, a variable over this file. Times have a unit: \"500ms\", \"30s\", \"15m\", \"2h\", \"7d\".
";

const DATABASES: &str = "
# Several caches, which clients choose by SELECT 0, 1, 2 and so on. Each takes the settings of [cache] and any of its own.
# --database, DRIFTLESS_DATABASE
#
# [[database]]
# name = \"redis\"
#
# [[database]]
# name = \"sessions\"
# time_to_live = \"30m\"
";

/// The width of the file.
const WIDTH: usize = 120;

/// Returns the default file.
pub fn text() -> Result<String, TomlError> {
    let defaults = defaults()?;
    let (mut text, mut section) = (HEAD.to_owned(), "");
    for setting in SETTINGS {
        let (own_section, name) = setting.path();
        if own_section != section {
            section = own_section;
            let _ = write!(text, "\n[{section}]\n");
        }
        let _ = write!(text, "\n{}\n", comment(setting));
        let _ = match value(&defaults, setting.key) {
            Some(default) => writeln!(text, "#{name} = {default}"),
            None => writeln!(text, "# No default. For example:\n#{name} = {}", setting.example),
        };
    }
    text.push_str(DATABASES);
    Ok(text)
}

/// Returns the defaults as a table with the keys of the schema.
pub fn defaults() -> Result<Table, TomlError> {
    keyed(&Config::from_table(Table::new()).map_err(TomlError::custom)?)
}

/// Returns a configuration as a table with the keys of the schema: its last database is the section `cache`.
pub fn keyed(config: &Config) -> Result<Table, TomlError> {
    let mut table: Table = config.shown()?.parse().map_err(TomlError::custom)?;
    if let Some(Value::Array(mut databases)) = table.remove("database")
        && let Some(Value::Table(mut cache)) = databases.pop()
    {
        cache.remove("name");
        table.insert("cache".to_owned(), Value::Table(cache));
    }
    Ok(table)
}

/// Returns the value at a path of dots.
pub fn value<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((section, rest)) => value(table.get(section)?.as_table()?, rest),
    }
}

fn comment(setting: &Setting) -> String {
    let mut lines = vec!["#".to_owned()];
    let ways = format!("--{}, {}", setting.flag, setting.variable());
    for word in format!("{}. {ways}", setting.help).split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= WIDTH => *line = format!("{line} {word}"),
            _ => lines.push(format!("# {word}")),
        }
    }
    lines.join("\n")
}
