//! The settings as flags and environment variables, made of the table.

use super::{
    schema::{self, Kind, Setting},
    template,
};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, parser::ValueSource};
use toml::Table;

/// The settings that were given as flags or variables, in the order of the table.
#[derive(Clone, Debug, Default)]
pub struct Given(pub Vec<GivenSetting>);

/// The texts of one setting, and the place they come from.
#[derive(Clone)]
pub struct GivenSetting {
    pub setting: &'static Setting,
    pub texts: Vec<String>,
    /// The flag or the variable, for errors.
    pub place: String,
}

impl std::fmt::Debug for GivenSetting {
    // Written by hand, so that a secret cannot reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place)
    }
}

fn argument(setting: &'static Setting, defaults: &Table) -> Arg {
    let help = match template::value(defaults, setting.key) {
        Some(default) => format!("{} [default: {default}]", setting.help),
        None => setting.help.to_owned(),
    };
    let arg = Arg::new(setting.flag)
        .long(setting.flag)
        .env(setting.variable())
        .hide_env_values(true)
        .value_name(setting.value)
        .help(help)
        .help_heading(heading(setting));
    match setting.kind {
        Kind::List => arg.action(ArgAction::Append).value_delimiter(','),
        Kind::Bool => arg.num_args(0..=1).default_missing_value("true"),
        _ => arg,
    }
}

fn heading(setting: &Setting) -> &'static str {
    match setting.path().0 {
        "node" => "Node",
        "redis" => "Redis clients",
        "http" => "Debug page",
        "log" => "Log",
        "cache.replication" => "Replication of every cache",
        _ => "Every cache",
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        let defaults = template::defaults().unwrap_or_default();
        command.args(schema::flags().map(|setting| argument(setting, &defaults)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(schema::flags().filter_map(|setting| given(setting, matches)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Returns a setting that was given. An empty variable counts as none: deployments pass variables without a value.
fn given(setting: &'static Setting, matches: &ArgMatches) -> Option<GivenSetting> {
    let texts: Vec<String> = matches.get_many::<String>(setting.flag)?.cloned().collect();
    let place = match matches.value_source(setting.flag)? {
        ValueSource::EnvVariable if texts.iter().all(String::is_empty) => return None,
        ValueSource::EnvVariable => setting.variable(),
        _ => format!("--{}", setting.flag),
    };
    Some(GivenSetting { setting, texts, place })
}
