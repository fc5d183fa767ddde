//! Completions and manual pages, made of the flags themselves.

use clap::CommandFactory;
use clap_complete::Shell;
use std::{io, path::PathBuf, process::ExitCode};

/// The arguments of `driftless completions`.
#[derive(clap::Args)]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// The arguments of `driftless man`.
#[derive(clap::Args)]
pub struct Man {
    /// Write one page for each command into this folder, instead of printing the first page
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// Prints the completions of a shell.
pub fn completions<P: CommandFactory>(arguments: &Completions) -> ExitCode {
    clap_complete::generate(arguments.shell, &mut P::command(), "driftless", &mut io::stdout());
    ExitCode::SUCCESS
}

/// Prints the manual page, or writes all.
pub fn man<P: CommandFactory>(arguments: &Man) -> ExitCode {
    let written = match &arguments.out {
        Some(folder) => clap_mangen::generate_to(P::command(), folder)
            .map_err(|error| format!("--out {}: {error}", folder.display())),
        None => clap_mangen::Man::new(P::command()).render(&mut io::stdout()).map_err(|error| error.to_string()),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("driftless: {error}");
            ExitCode::FAILURE
        }
    }
}
