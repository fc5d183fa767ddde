//! The table of settings, the structs, the library and the default file say the same.

use super::{
    Config,
    flags::Given,
    schema::{self, Kind, SETTINGS, Setting},
    template,
};
use clap::{Args, Command, FromArgMatches};
use driftless::CacheSettings;
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, path::Path};
use toml::{Table, Value};

/// The default file of the repository.
const FILE: &str = "../../deploy/driftless.toml";

/// Returns a value that differs from the default, as TOML.
fn other(setting: &Setting, defaults: &Table) -> Value {
    let by_name = match setting.key {
        "node.bind" | "node.advertise" | "redis.bind" | "http.bind" => Some(Value::from("host.example:1")),
        "node.timing" => Some(Value::from("local")),
        "log.format" => Some(Value::from("json")),
        "cache.weigh_by" => Some(Value::from("bytes")),
        "cache.eviction" => Some(Value::from("segmented_lru")),
        // Times that depend on each other.
        "cache.replication.session_deadline" | "cache.replication.forget_after" => Some(Value::from("1h")),
        "cache.replication.gc_grace" | "cache.cluster_single_flight" => Some(Value::from("7s")),
        "cache.replication.audit_slice" | "cache.replication.fanout" => Some(Value::Integer(7)),
        _ => None,
    };
    by_name.unwrap_or_else(|| match (setting.kind, template::value(defaults, setting.key)) {
        (Kind::Number, Some(Value::Integer(default))) => Value::Integer(default + 1),
        (Kind::Number, _) => Value::Integer(7),
        (Kind::Fraction, _) => Value::Float(0.5),
        (Kind::Bool, _) => Value::Boolean(true),
        (Kind::Time | Kind::Seconds, _) => Value::from("2s"),
        (Kind::List, _) => Value::Array(vec![Value::from("a"), Value::from("b")]),
        (Kind::Text, _) => Value::from("other"),
    })
}

fn text(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(text).collect(),
        Value::String(text) => vec![text.clone()],
        other => vec![other.to_string()],
    }
}

fn given(arguments: &[String]) -> Given {
    let command = Given::augment_args(Command::new("serve").no_binary_name(true));
    let matches = command.try_get_matches_from(arguments).expect("flags of the table");
    Given::from_arg_matches(&matches).expect("flags of the table")
}

/// Returns the settings in force as a table with the keys of the schema.
fn shown(config: &Config) -> Table {
    template::keyed(config).expect("a table")
}

#[test]
fn the_default_file_is_the_one_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let expected = template::text().expect("a text");
    if std::env::var_os("REFRESH_DEFAULTS").is_some() {
        std::fs::write(&path, &expected).expect("the file can be written");
    }
    // A package from a registry has no such file.
    let Ok(found) = std::fs::read_to_string(&path) else { return assert!(!path.parent().expect("a folder").is_dir()) };
    assert!(found == expected, "run this test with REFRESH_DEFAULTS=1, and commit {FILE}");
}

#[test]
fn the_default_file_without_its_marks_is_the_default() {
    let text = template::text().expect("a text");
    let uncommented: String = text
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase())).unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let table: Table = uncommented.parse().expect("a file");
    super::layers::check_keys(&table, FILE).expect("known keys");
    let defaults = template::defaults().expect("defaults");
    for setting in SETTINGS {
        let found =
            template::value(&table, setting.key).unwrap_or_else(|| panic!("{} is not in the file", setting.key));
        match template::value(&defaults, setting.key) {
            Some(default) => assert_eq!(found, default, "{}", setting.key),
            None => assert!(!setting.example.is_empty(), "{} needs an example", setting.key),
        }
    }
}

#[test]
fn every_setting_is_in_force_as_a_flag_and_in_a_file() {
    let defaults = template::defaults().expect("defaults");
    for setting in SETTINGS {
        let wanted = other(setting, &defaults);
        let mut flags: Vec<String> =
            text(&wanted).into_iter().flat_map(|text| [format!("--{}", setting.flag), text]).collect();
        let mut table = Table::new();
        super::layers::set(&mut table, setting.key, wanted.clone());
        if setting.key == "cache.cluster_single_flight" {
            flags.extend(["--fill-timeout".to_owned(), "30s".to_owned()]);
            super::layers::set(&mut table, "cache.fill_timeout", Value::from("30s"));
        }
        let by_flag = Config::load(None, &given(&flags)).unwrap_or_else(|error| panic!("{flags:?}: {error}"));
        let by_file = Config::from_table(table).unwrap_or_else(|error| panic!("{}: {error}", setting.key));
        assert_eq!(by_flag, by_file, "{}", setting.key);
        let (table, default) = (shown(&by_flag), template::value(&defaults, setting.key));
        let found = template::value(&table, setting.key).unwrap_or_else(|| panic!("{} is lost", setting.key));
        assert_ne!(Some(found), default, "{}", setting.key);
        if found.as_str() != Some("(not shown)") {
            assert_eq!(found, &wanted, "{}", setting.key);
        }
    }
}

/// Returns the names of the fields, which are in the error of a field that does not exist.
fn fields<T: DeserializeOwned>() -> BTreeSet<String> {
    let nonsense = Table::from_iter([("nonsense".to_owned(), Value::Boolean(true))]);
    let Err(error) = nonsense.try_into::<T>() else { panic!("an unknown field was accepted") };
    let error = error.to_string();
    let listed = error.split("expected one of ").nth(1).unwrap_or_else(|| panic!("no list in {error}"));
    listed.split('`').skip(1).step_by(2).filter(|name| *name != "nonsense").map(str::to_owned).collect()
}

/// Returns the names that the table has for a section.
fn names(section: &str) -> BTreeSet<String> {
    let own = SETTINGS.iter().map(Setting::path).filter(|(own, _)| *own == section);
    own.map(|(_, name)| name.to_owned()).collect()
}

#[test]
fn the_table_has_every_setting_of_the_library_and_no_other() {
    let mut cache = names("cache");
    cache.remove("weigh_by");
    cache.insert("replication".to_owned());
    assert_eq!(cache, fields::<CacheSettings>());
    assert_eq!(names("cache.replication"), fields::<driftless::ReplicaConfig>());
    let node = names("node");
    let missing: Vec<_> = fields::<driftless::NodeSettings>().into_iter().filter(|name| !node.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(node, fields::<super::NodeConfig>());
    assert_eq!(names("redis"), fields::<super::RedisConfig>());
    assert_eq!(names("http"), fields::<super::HttpConfig>());
}

#[test]
fn no_two_settings_share_a_flag_or_a_key() {
    let flags: BTreeSet<_> = schema::flags().map(|setting| setting.flag).collect();
    let keys: BTreeSet<_> = schema::flags().map(|setting| setting.key).collect();
    assert_eq!((flags.len(), keys.len()), (SETTINGS.len() + 1, SETTINGS.len() + 1));
}

#[test]
fn databases_take_the_common_settings_and_their_own() {
    let file = "[cache]\nmax_capacity = 5\n[cache.replication]\nfanout = 9\n\
        [[database]]\nname = 'a'\n[[database]]\nname = 'b'\nmax_capacity = 6\nreplication.gc_grace = '3s'\n";
    let config = Config::from_table(file.parse().expect("a file")).expect("valid");
    let seen: Vec<_> = config.databases.iter().map(|d| (d.name.as_str(), d.settings.max_capacity)).collect();
    assert_eq!(seen, [("a", Some(5)), ("b", Some(6))]);
    let replication = &config.databases[1].settings.replication;
    assert_eq!((replication.fanout, replication.gc_grace.as_secs()), (9, 3));
    // Names given as flags choose and order the tables of the file.
    let mut table: Table = file.parse().expect("a file");
    super::layers::lay_over(&mut table, &given(&["--database", "b,c"].map(str::to_owned))).expect("laid over");
    let config = Config::from_table(table).expect("valid");
    let seen: Vec<_> = config.databases.iter().map(|d| (d.name.as_str(), d.settings.max_capacity)).collect();
    assert_eq!(seen, [("b", Some(6)), ("c", Some(5))]);
    let refused = |file: &str| Config::from_table(file.parse().expect("a file")).expect_err(file).to_string();
    assert!(refused("[[database]]\nname = 'a'\n[[database]]\nname = 'a'\n").contains("twice"));
    assert!(refused("[[database]]\nmax_capacity = 1\n").contains("`name` is missing"));
}
