//! `driftless forget`: declares through a node's Redis port that a member will not return.

use redis::{Client, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// The time limit for a connection and for an answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The password of Redis ports.
#[derive(clap::Args, Clone, Default)]
pub struct Password {
    /// File with the password of the Redis port. The variable DRIFTLESS_PASSWORD holds the password itself
    #[arg(long, value_name = "PATH", env = "DRIFTLESS_PASSWORD_FILE", hide_env_values = true)]
    password_file: Option<PathBuf>,
}

/// The arguments of `driftless forget`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Name of the member, as `driftless status` shows it
    member: String,
    /// Address of the Redis port of any other node
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:6379",
        env = "DRIFTLESS_REDIS",
        hide_env_values = true
    )]
    redis: String,
    #[command(flatten)]
    password: Password,
}

impl Password {
    fn read(&self) -> Result<Option<String>, String> {
        let Some(file) = self.password_file.as_ref().filter(|file| !file.as_os_str().is_empty()) else {
            return Ok(std::env::var("DRIFTLESS_PASSWORD").ok());
        };
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(Some(text.trim_end().to_owned()))
    }

    /// Returns a connection to a Redis port.
    pub fn connect(&self, at: &str) -> Result<redis::Connection, String> {
        let named = |error: redis::RedisError| format!("{at}: {error}");
        let info: ConnectionInfo = format!("redis://{at}").into_connection_info().map_err(named)?;
        let mut login = RedisConnectionInfo::default();
        if let Some(password) = self.read()? {
            login = login.set_password(password);
        }
        let client = Client::open(info.set_redis_settings(login)).map_err(named)?;
        let connection = client.get_connection_with_timeout(PATIENCE).map_err(named)?;
        connection.set_read_timeout(Some(PATIENCE)).map_err(named)?;
        Ok(connection)
    }
}

/// Forgets the member, and returns a failure if the name was not known.
pub fn main(arguments: &Arguments) -> ExitCode {
    let (at, member) = (&arguments.redis, &arguments.member);
    let forgotten = arguments.password.connect(at).and_then(|mut connection| {
        let answer = redis::cmd("DRIFTLESS").arg("FORGET").arg(member).query::<bool>(&mut connection);
        answer.map_err(|error| format!("{at}: {error}"))
    });
    match forgotten {
        Ok(true) => {
            println!("{member} is forgotten: it no longer holds back the collection of tombstones");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            eprintln!("driftless: {at} knows no member {member:?}: `driftless status` lists the names");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("driftless: {error}");
            ExitCode::FAILURE
        }
    }
}
