//! A PostgreSQL server for one run: in a temporary folder, on a Unix socket, stopped and removed when it is dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, io};

use tempfile::TempDir;
use tokio_postgres::{Client, Config, NoTls};

/// The time limit for the server to accept connections.
const PATIENCE: Duration = Duration::from_secs(60);
/// The folder in which Debian's package keeps its programs, one folder for each major version: they are not in `PATH`.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The reason for which no server runs.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(
        "PostgreSQL is missing: no folder has the programs `initdb` and `postgres`. Searched: {searched}. \
         Install Debian's package `postgresql`, or set POSTGRES_BIN to the folder of the programs"
    )]
    Missing { searched: String },
    #[error(
        "PostgreSQL refuses to run as root, and this machine has no other user for it. \
         Searched /etc/passwd for `postgres` and `nobody`: add one, or start this program as another user"
    )]
    OnlyRoot,
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("`{program}` failed:\n{output}")]
    Failed { program: &'static str, output: String },
}

/// A running server. Dropping it stops the server and removes its folder.
pub struct Server {
    process: Child,
    tools: Tools,
}

/// The programs, the folder of the data, and the user that owns it.
struct Tools {
    programs: PathBuf,
    folder: TempDir,
    user: Option<User>,
}

/// A user of this machine, by its numbers.
#[derive(Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Server {
    /// Creates a database cluster, starts its server, and waits until the server accepts connections.
    pub async fn start() -> Result<Self, ServerError> {
        let tools = Tools::new()?;
        let mut initdb = tools.command("initdb");
        initdb.args(["--username=postgres", "--auth=trust", "--no-sync", "--no-locale", "--encoding=UTF8", "--pgdata"]);
        let made = initdb.arg(tools.data()).stderr(Stdio::piped()).output().map_err(at(&tools.programs))?;
        if !made.status.success() {
            let output = String::from_utf8_lossy(&made.stderr).into_owned();
            return Err(ServerError::Failed { program: "initdb", output });
        }
        let log = File::create(tools.log()).map_err(at(&tools.log()))?;
        let mut postgres = tools.command("postgres");
        // Only a socket in the folder: no other user of the machine reaches it. Nothing has to survive a power failure.
        postgres.args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "shared_buffers=16MB", "-D"]);
        postgres.arg(tools.data()).arg("-k").arg(tools.folder.path()).stderr(log);
        let process = postgres.spawn().map_err(at(&tools.programs))?;
        let mut server = Self { process, tools };
        server.accepts_connections().await?;
        Ok(server)
    }

    /// Returns the settings of a connection as `user`.
    pub fn config(&self, user: &str) -> Config {
        let mut config = Config::new();
        config.host(self.tools.folder.path().to_string_lossy()).user(user).dbname("postgres");
        config
    }

    /// Returns the folder of the server's socket.
    pub fn folder(&self) -> &Path {
        self.tools.folder.path()
    }

    async fn accepts_connections(&mut self) -> Result<(), ServerError> {
        let start = Instant::now();
        loop {
            let refused = match connect(&self.config("postgres")).await {
                Ok(_) => return Ok(()),
                Err(refused) => refused,
            };
            let ended = self.process.try_wait().map_err(at(&self.tools.programs))?;
            if ended.is_some() || start.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.tools.log()).unwrap_or_default();
                return Err(ServerError::Failed { program: "postgres", output: format!("{refused}\n{log}") });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stop = self.tools.command("pg_ctl");
        stop.args(["stop", "--mode=immediate", "--silent", "--pgdata"]).arg(self.tools.data());
        if !stop.status().is_ok_and(|status| status.success()) {
            // Without `pg_ctl` the processes of the server end when they notice that their parent is gone.
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

impl Tools {
    fn new() -> Result<Self, ServerError> {
        let programs = programs()?;
        let folder = tempfile::tempdir().map_err(at(&env::temp_dir()))?;
        let user = hand_over(folder.path())?;
        Ok(Self { programs, folder, user })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Returns a command that runs one of the programs as the owner of the folder.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(user) = self.user {
            run_as(&mut command, user);
        }
        command
    }
}

/// Opens a connection, and moves its messages in a task of its own.
pub async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // The task ends with the client. A connection that breaks reports it to the client's next query.
    tokio::spawn(connection);
    Ok(client)
}

/// Returns the folder of the programs: that of `POSTGRES_BIN`, or the first in `PATH`, or Debian's newest.
fn programs() -> Result<PathBuf, ServerError> {
    let (folders, searched) = match env::var_os("POSTGRES_BIN") {
        Some(folder) => (vec![PathBuf::from(&folder)], format!("POSTGRES_BIN ({})", folder.display())),
        None => {
            let path = env::var_os("PATH").unwrap_or_default();
            let folders = env::split_paths(&path).chain(debian()).collect();
            (folders, format!("PATH and {DEBIAN}/*/bin"))
        }
    };
    let complete = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file());
    folders.into_iter().find(complete).ok_or(ServerError::Missing { searched })
}

/// Returns the folders of Debian's packages, the newest version first.
fn debian() -> Vec<PathBuf> {
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|entry| entry.path());
    let number = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok());
    let mut versions: Vec<PathBuf> = versions.filter(|path| number(path).is_some()).collect();
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    versions.into_iter().map(|version| version.join("bin")).collect()
}

/// Gives the folder to another user if this program runs as root, and returns that user.
#[cfg(unix)]
fn hand_over(folder: &Path) -> Result<Option<User>, ServerError> {
    use std::os::unix::fs::{MetadataExt, chown};
    // The folder was just created, so its owner is the user that this program runs as.
    if folder.metadata().map_err(at(folder))?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let numbers = |name: &str| {
        let line = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut fields = line.split(':').skip(1);
        Some(User { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    };
    let user = ["postgres", "nobody"].into_iter().find_map(numbers).ok_or(ServerError::OnlyRoot)?;
    chown(folder, Some(user.uid), Some(user.gid)).map_err(at(folder))?;
    Ok(Some(user))
}

#[cfg(unix)]
fn run_as(command: &mut Command, user: User) {
    use std::os::unix::process::CommandExt;
    command.uid(user.uid).gid(user.gid);
}

/// Elsewhere there is no root: the server runs as the user of this program.
#[cfg(not(unix))]
fn hand_over(_: &Path) -> Result<Option<User>, ServerError> {
    Ok(None)
}

#[cfg(not(unix))]
fn run_as(_: &mut Command, _: User) {}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ServerError + use<> {
    let path = path.to_owned();
    move |source| ServerError::Io { path, source }
}
