//! The commands that ask a running node through its debug interface.

mod http;
mod report;

use clap::Subcommand;
use http::Node;
use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The node to ask.
#[derive(clap::Args, Clone)]
pub struct Target {
    /// Address of the node's debug interface
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:7980",
        env = "DRIFTLESS_NODE",
        hide_env_values = true
    )]
    node: String,
    /// Name of the cache [default: the only cache that is open there]
    #[arg(long, value_name = "NAME")]
    cache: Option<String>,
    /// File with the token of the debug interface. The variable DRIFTLESS_HTTP_TOKEN holds the token itself
    #[arg(long, value_name = "PATH", env = "DRIFTLESS_HTTP_TOKEN_FILE", hide_env_values = true)]
    token_file: Option<PathBuf>,
}

/// The commands.
#[derive(Subcommand, Clone)]
pub enum Command {
    /// Show members, lag, entries and warnings; fails if there are warnings
    Status {
        #[command(flatten)]
        target: Target,
    },
    /// Show what every node holds for a key, and why; fails if nodes disagree
    Explain {
        #[command(flatten)]
        target: Target,
        key: String,
    },
    /// List the keys on which the node and a member, or these two members, differ; fails if a difference has no reason
    Diff {
        #[command(flatten)]
        target: Target,
        #[arg(num_args = 1..=2, required = true, value_name = "MEMBER")]
        members: Vec<String>,
    },
    /// Show the status once a second
    Watch {
        #[command(flatten)]
        target: Target,
    },
    /// Compare the whole key space with every member; fails if a difference has no reason
    Audit {
        #[command(flatten)]
        target: Target,
    },
}

impl Command {
    fn target(&self) -> &Target {
        match self {
            Self::Status { target }
            | Self::Explain { target, .. }
            | Self::Diff { target, .. }
            | Self::Watch { target }
            | Self::Audit { target } => target,
        }
    }
}

/// Runs a command, and returns the exit status.
pub fn main(command: &Command) -> ExitCode {
    match run(command, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // The reader of the output has all that it wants, for instance `head`.
        Err(error) if is_unread(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("driftless: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_unread(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(command: &Command, out: &mut dyn Write) -> Result<bool> {
    let target = command.target();
    let node = &Node::new(&target.node, token(target)?, target.cache.clone());
    match command {
        Command::Status { .. } => report::status(node, out),
        Command::Watch { .. } => watch(node, out),
        Command::Explain { key, .. } => report::explain(node, key, out),
        Command::Diff { members, .. } => report::diff(node, members, out),
        Command::Audit { .. } => report::audit(node, out),
    }
}

/// Shows the status until the process is ended, or its output is closed. On a terminal each status replaces the one
/// before; a file gets them all.
fn watch(node: &Node, out: &mut dyn Write) -> Result<bool> {
    loop {
        if io::stdout().is_terminal() {
            write!(out, "\x1b[2J\x1b[H")?;
        }
        match report::status(node, out) {
            Ok(_) => {}
            Err(error) if error.is::<io::Error>() => return Err(error),
            Err(error) => writeln!(out, "{error}")?,
        }
        out.flush()?;
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn token(target: &Target) -> Result<Option<String>> {
    let Some(file) = target.token_file.as_ref().filter(|file| !file.as_os_str().is_empty()) else {
        return Ok(std::env::var("DRIFTLESS_HTTP_TOKEN").ok());
    };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Some(text.trim_end().to_owned()))
}
