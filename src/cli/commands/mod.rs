//! One command a file: options in, one use case, one view.

mod adopt;
mod apply;
mod convert;
mod device;
mod follow;
mod gadget;
mod gateway;
mod group;
mod import;
mod init;
mod job;
mod next_step;
mod plan;
mod reference;
mod registry;
mod review;
mod schedule;
mod serve;
mod shown;
mod simulate;
mod snapshot;
mod status;
mod validate;
mod watch;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::CommandResult;
use super::args::{Cli, Command, GatewayArgs};
use super::output::Output;
use super::secrets::variable;
use crate::ops::edit::Edited;
use crate::ops::{Environment, Variables};
use crate::repo::{FLEET_FILE, Repo};

pub use reference::glossary;

/// Runs the command and returns its exit code.
pub fn run(cli: &Cli, output: &Output) -> CommandResult {
    let environment = Environment {
        folder: folder_of(cli),
        registry: cli.global.registry(),
        variables: Variables(variable),
        ..Environment::default()
    };
    match &cli.command {
        Command::Quickstart { directory } => init::quickstart(&environment, directory, output),
        Command::Init { directory, example, name } => {
            init::init(&environment, directory.as_deref(), (*example, name.as_deref()), output)
        }
        Command::Validate { format, strict } => validate::run(&environment, *format, *strict, output),
        Command::Plan(arguments) => plan::run(&environment, arguments, output),
        Command::Review(arguments) => review::run(&environment, arguments, output),
        Command::Apply(arguments) => apply::run(&environment, arguments, output),
        Command::Watch(arguments) => watch::run(&environment, arguments, None, output),
        Command::Gateway(arguments) => watch::gateway(&environment, arguments, output),
        Command::Serve(arguments) => serve::run(&environment, arguments, output),
        Command::Status => status::run(&environment, output),
        Command::Snapshot { out } => snapshot::run(&environment, out, output),
        Command::Adopt(arguments) => adopt::run(&environment, arguments, output),
        Command::Simulate(arguments) => simulate::run(&environment, arguments, output),
        Command::Convert(arguments) => convert::run(arguments, output),
        Command::Job(command) => job::run(&environment, command, output),
        Command::Schedule(command) => schedule::run(&environment, command, output),
        Command::Device(command) => device::run(&environment, command, output),
        Command::Group(command) => group::run(&environment, command, output),
        Command::Import(command) => import::run(&environment, command, output),
        Command::Registry(command) => registry::run(&environment, command, output),
        Command::Explain { what } => reference::explain(what.as_deref(), output),
        Command::Schema { kind, out } => reference::schema(kind.as_deref(), out.as_deref(), output),
        Command::Completions { shell } => reference::completions(*shell, output),
    }
}

/// Returns the folder that a command works in. What makes a fleet makes it where the person is.
fn folder_of(cli: &Cli) -> PathBuf {
    let makes = match &cli.command {
        Command::Quickstart { .. } | Command::Init { .. } => true,
        Command::Watch(arguments) | Command::Gateway(GatewayArgs { watch: arguments, .. }) => {
            arguments.remote.is_some()
        }
        _ => false,
    };
    let named = cli.global.directory.clone();
    if makes { named.unwrap_or_else(|| PathBuf::from(".")) } else { folder_around(named) }
}

/// Returns the folder of the fleet: the one that was named; else the current one, or the nearest above it in the same
/// work tree that has a fleet.
pub fn folder_around(named: Option<PathBuf>) -> PathBuf {
    let here = PathBuf::from(".");
    match named {
        Some(named) => named,
        None if here.join(FLEET_FILE).exists() => here,
        None => Repo::open(&here).ok().and_then(|repo| repo.fleet_around()).unwrap_or(here),
    }
}

/// Prints the result of an edit of a job or schedule.
fn tell_edit(noun: &str, edited: &Edited, output: &Output) -> std::io::Result<()> {
    let Edited { file, name, commit, proposed: _, has_changed, held, remote: _, has_gateway: _ } = edited;
    tell_held(*held, output);
    if output.is_json {
        return output.json_line(&json!({noun: name.as_str(), "file": file, "commit": commit, "changed": has_changed}));
    }
    if *has_changed {
        let commit = commit.as_ref().map_or("not committed".to_string(), |id| format!("commit {}", &id[..12]));
        output.say(&format!("Wrote {file} ({commit})."));
    } else {
        output.say(&format!("{file} says so already: nothing was changed."));
    }
    Ok(())
}

/// Prints how many documents and files an answer leaves out.
fn tell_held(count: usize, output: &Output) {
    match count {
        0 => {}
        1 => output.say("Something of the files cannot be used; `fleetform validate` says what."),
        _ => output.say(&format!("{count} documents and files cannot be used; `fleetform validate` says which.")),
    }
}

/// Returns true when a person can be asked.
fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// A question waits for its answer: nothing has begun.
static IS_ASKING: AtomicBool = AtomicBool::new(false);

/// Returns true while a person is asked.
fn is_asking() -> bool {
    IS_ASKING.load(Ordering::SeqCst)
}

/// Asks on the terminal.
fn ask(question: &str) -> bool {
    IS_ASKING.store(true, Ordering::SeqCst);
    let is_agreed = answered(question);
    IS_ASKING.store(false, Ordering::SeqCst);
    is_agreed
}

fn answered(question: &str) -> bool {
    let say = |mut stderr: std::io::StderrLock<'_>| {
        write!(stderr, "\n{question} Only `yes` or `y` is a yes: ").and_then(|()| stderr.flush())
    };
    // Who hears of Ctrl-C meanwhile writes there as well.
    let asked = say(std::io::stderr().lock());
    let mut answer = String::new();
    if asked.is_err() || std::io::stdin().lock().read_line(&mut answer).is_err() {
        return false;
    }
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Returns ` -C DIR` as it stands in a command to copy; empty for the current folder.
fn folder_option(environment: &Environment) -> String {
    if environment.folder == std::path::Path::new(".") {
        return String::new();
    }
    format!(" -C {}", shell_word(&environment.folder))
}

/// Returns a path as one word of a command line.
fn shell_word(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ':' | '@' | '~');
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
