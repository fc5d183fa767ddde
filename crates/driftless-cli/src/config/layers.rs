//! The layers of the configuration: the file, above it the variables, above them the flags. The result is one table,
//! in which every key is known.

use super::{
    ConfigError,
    flags::{Given, GivenSetting},
    schema::{self, Kind, SETTINGS},
};
use toml::{Table, Value};

/// Refuses a key of the file that is no setting, with the nearest one that is.
pub fn check_keys(table: &Table, file: &str) -> Result<(), ConfigError> {
    for (section, content) in table {
        match content {
            Value::Array(databases) if section == "database" => {
                for database in databases.iter().filter_map(Value::as_table) {
                    // The settings of one database are those of `cache`, and its name.
                    let own: Table = database.clone().into_iter().filter(|(key, _)| key != "name").collect();
                    check_section("cache", &own, file)?;
                }
            }
            Value::Table(content) => check_section(section, content, file)?,
            _ => return Err(unknown(section, file)),
        }
    }
    Ok(())
}

fn check_section(section: &str, content: &Table, file: &str) -> Result<(), ConfigError> {
    for (name, value) in content {
        let key = format!("{section}.{name}");
        match value {
            Value::Table(inner) => check_section(&key, inner, file)?,
            _ if schema::find(&key).is_some() => {}
            _ => return Err(unknown(&key, file)),
        }
    }
    // An empty table has no key that is wrong, but its name can be.
    let is_known = SETTINGS.iter().any(|setting| setting.path().0 == section);
    if is_known { Ok(()) } else { Err(unknown(section, file)) }
}

fn unknown(key: &str, file: &str) -> ConfigError {
    let keys = SETTINGS.iter().flat_map(|setting| [setting.key, setting.path().0]);
    ConfigError::Unknown { place: file.to_owned(), key: key.to_owned(), nearest: nearest(key, keys) }
}

/// Returns the known name that resembles this one most. The last part of a name counts alone as well: the section may be
/// what is wrong.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let last = |text: &'a str| text.rsplit('.').next().unwrap_or(text);
    let own = name.rsplit('.').next().unwrap_or(name);
    let likeness = |other: &'a str| strsim::jaro_winkler(name, other).max(strsim::jaro_winkler(own, last(other)));
    known.max_by(|one, other| likeness(one).total_cmp(&likeness(other))).unwrap_or_default().to_owned()
}

/// Refuses a variable that starts with `DRIFTLESS_` and is almost a setting. Others may start so too: Kubernetes sets
/// some for a service of that name.
pub fn check_variables(names: impl Iterator<Item = String>) -> Result<(), ConfigError> {
    let mut known: Vec<String> = schema::flags().map(schema::Setting::variable).collect();
    // `DRIFTLESS_SEEDS` sets the number of seeds of the simulator's tests.
    known.extend(["DRIFTLESS_CONFIG", "DRIFTLESS_SEEDS"].map(str::to_owned));
    for name in names.filter(|name| name.starts_with("DRIFTLESS_") && !known.contains(name)) {
        let near = nearest(&name, known.iter().map(String::as_str));
        if strsim::osa_distance(&name, &near) <= 2 {
            return Err(ConfigError::Unknown { place: "the environment".to_owned(), key: name, nearest: near });
        }
    }
    Ok(())
}

/// Lays the flags and variables over the table.
pub fn lay_over(table: &mut Table, given: &Given) -> Result<(), ConfigError> {
    for given in &given.0 {
        if given.setting.key == schema::DATABASE.key {
            name_databases(table, &given.texts);
        } else {
            set(table, given.setting.key, value(given)?);
        }
    }
    Ok(())
}

/// Names the databases in order, and keeps the settings that the file has for a name.
fn name_databases(table: &mut Table, names: &[String]) {
    let before = table.get("database").and_then(Value::as_array).cloned().unwrap_or_default();
    let named = |name: &String| {
        let same = before.iter().find(|database| database.get("name").and_then(Value::as_str) == Some(name));
        same.cloned()
            .unwrap_or_else(|| Value::Table(Table::from_iter([("name".to_owned(), Value::from(name.as_str()))])))
    };
    let databases = names.iter().map(named).collect();
    table.insert("database".to_owned(), Value::Array(databases));
}

/// Sets the value at a path of dots.
pub fn set(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

/// Reads the text of a flag or variable as the table of settings says.
fn value(given: &GivenSetting) -> Result<Value, ConfigError> {
    let text = given.texts.last().map_or("", String::as_str);
    let wrong = |wanted| ConfigError::Form { place: given.place.clone(), text: text.to_owned(), wanted };
    Ok(match given.setting.kind {
        Kind::List => Value::Array(given.texts.iter().map(|text| Value::from(text.trim())).collect()),
        Kind::Number => Value::Integer(text.parse().map_err(|_| wrong("a whole number"))?),
        Kind::Fraction => Value::Float(text.parse().map_err(|_| wrong("a decimal number, such as 0.1"))?),
        Kind::Bool => Value::Boolean(text.parse().map_err(|_| wrong("true or false"))?),
        Kind::Seconds if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Value::from(format!("{text}s"))
        }
        Kind::Text | Kind::Time | Kind::Seconds => Value::from(text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let table = text.parse().expect("a table");
        check_keys(&table, "a.toml").expect_err(text).to_string()
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_one() {
        for (text, nearest) in [
            ("[node]\nbnd = 1", "node.bind"),
            ("[node]\nmax_clients = 1", "redis.max_clients"),
            ("[redis]\nmaxclients = 1", "redis.max_clients"),
            ("[cache.replication]\ngcgrace = 1", "cache.replication.gc_grace"),
            ("[[database]]\nname = 'a'\ntime_to_life = 1", "cache.time_to_live"),
            ("[reddis]\n", "redis"),
            ("[cache.replicaton]\n", "cache.replication"),
            ("bind = 1", "bind"),
        ] {
            let error = refused(text);
            assert!(error.contains("a.toml") && error.contains(nearest), "{text}: {error}");
        }
    }

    #[test]
    fn a_variable_that_is_almost_a_setting_is_refused() {
        let check = |name: &str| check_variables(std::iter::once(name.to_owned()));
        let error = check("DRIFTLESS_BIDN").expect_err("refused").to_string();
        assert!(error.contains("DRIFTLESS_BIND"), "{error}");
        for fine in ["DRIFTLESS_BIND", "DRIFTLESS_PORT_7946_TCP_ADDR", "DRIFTLESS_SEEDS", "OTHER_BIDN"] {
            check(fine).expect(fine);
        }
    }
}
