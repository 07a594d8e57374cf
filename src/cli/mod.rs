//! The command line: arguments in, one use case of `ops`, a view out.
//!
//! Results go to stdout, talk to stderr. This room owns all access to the terminal, the environment and the process.

mod alerts;
mod args;
mod columns;
mod command;
mod commands;
mod complete;
mod devices;
mod edits;
mod error;
mod forge;
mod gadgets;
mod global;
pub mod listen;
pub mod logs;
mod output;
mod pages;
mod plans;
mod registries;
mod secret_files;
mod secrets;
mod shells;
mod signals;
mod values;
mod version;
pub mod view;

use std::io::Write as _;
use std::process::ExitCode;

use clap::FromArgMatches as _;
use clap::error::ErrorKind;

pub use args::{Cli, Command};
pub use view::diagnostic;

use error::CommandError;
use output::Output;

/// The exit codes, from sysexits.h where it has one; 2 is kept for `--detailed-exitcode`.
pub mod exit {
    pub const OK: u8 = 0;
    pub const ERROR: u8 = 1;
    pub const CHANGES: u8 = 2;
    pub const RUN_FAILED: u8 = 3;
    pub const USAGE: u8 = 64;
    pub const INVALID: u8 = 65;
    pub const UNAVAILABLE: u8 = 69;
    pub const HELD: u8 = 75;
    pub const REFUSED: u8 = 77;
    pub const INTERRUPTED: u8 = 130;
}

/// Parses the arguments of the process, runs the command and returns its exit code.
pub fn main() -> ExitCode {
    shells::answer(command::command);
    let parsed = command::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::DisplayVersion && version::is_verbose(std::env::args_os()) => {
            // Nothing can be said when the terminal is gone.
            drop(std::io::stdout().write_all(version::long().as_bytes()));
            return ExitCode::from(exit::OK);
        }
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::OK };
            if code != exit::USAGE {
                // Nothing can be said when the terminal is gone.
                drop(error.print());
            } else if std::env::args_os().any(|argument| argument == "--json") {
                output::json_usage_error(&error.render().to_string(), code);
            } else {
                output::usage_error(&error.render().ansi().to_string());
            }
            return ExitCode::from(code);
        }
    };
    let output = Output::new(&cli.global);
    let code = match commands::run(&cli, &output) {
        Ok(code) => code,
        Err(error) => error.report(&output),
    };
    ExitCode::from(code)
}

type CommandResult = Result<u8, CommandError>;
