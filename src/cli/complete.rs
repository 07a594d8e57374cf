//! Completions: the shell asks this program, which knows the names of the fleet in the current folder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::commands;
use super::global::registry_of_environment;
use super::secrets::variable;
use crate::diag::CODES;
use crate::model::kind::Kind;
use crate::ops::job::ListedStatus;
use crate::ops::names::{Noun, names};
use crate::ops::{Environment, Variables};

/// Gives an argument of a command what completes it.
pub fn completed(path: &[&str], argument: Arg) -> Arg {
    let with =
        |argument: Arg, noun: Noun| argument.add(ArgValueCompleter::new(move |start: &OsStr| of_fleet(noun, start)));
    let words = |argument: Arg, words: fn() -> Vec<&'static str>| {
        argument.add(ArgValueCompleter::new(move |start: &OsStr| {
            let start = start.to_string_lossy().to_lowercase();
            let fits = words().into_iter().filter(|word| word.to_lowercase().starts_with(&start));
            fits.map(CompletionCandidate::new).collect::<Vec<_>>()
        }))
    };
    match (path, argument.get_id().as_str()) {
        (["job", "copy" | "rerun" | "show" | "stop" | "continue" | "results"], "name") => with(argument, Noun::Job),
        (["adopt"], "mark_done") => with(argument, Noun::Job),
        (["schedule", ..], "name") => with(argument, Noun::Schedule),
        (["group", ..], "name") => with(argument, Noun::Group),
        (["import", ..], "name") => with(argument, Noun::Import),
        (["device", ..], "device_id" | "device_ids") => with(argument, Noun::Device),
        (["device", "run"], "id") => with(argument, Noun::Device),
        (_, "organization") => with(argument, Noun::Organization),
        (["explain"], "what") => {
            words(argument, || CODES.iter().map(|info| info.code.0).chain(words_of_glossary()).collect())
        }
        (["job", "list"], "status") => words(argument, || ListedStatus::all().map(ListedStatus::as_str).collect()),
        (["job", "show"], "status") => words(argument, || vec!["pending", "completed", "failed"]),
        (["registry", ..], "from" | "to" | "registries") => words(argument, || vec!["sqlite:", "postgres://", "env:"]),
        (["schema"], "kind") => words(argument, || Kind::ALL.iter().map(|kind| kind.as_str()).collect()),
        _ => argument,
    }
}

fn words_of_glossary() -> impl Iterator<Item = &'static str> {
    commands::glossary().map(|(word, _)| word).filter(|word| !word.contains([' ', ',']))
}

fn of_fleet(noun: Noun, start: &OsStr) -> Vec<CompletionCandidate> {
    // What stands before on the line that is completed.
    let line: Vec<String> = std::env::args_os().map(|part| part.to_string_lossy().into_owned()).collect();
    let option = |names: &[&str]| {
        let of_one =
            |part: &String| names.iter().find_map(|name| part.strip_prefix(&format!("{name}="))).map(str::to_string);
        let at = line.iter().rposition(|part| names.contains(&part.as_str()));
        at.and_then(|at| line.get(at + 1).cloned()).or_else(|| line.iter().rev().find_map(of_one))
    };
    let home = std::env::home_dir();
    let folder = option(&["-C"]).map(|written| at_home(&written, home.as_deref()));
    let folder = commands::folder_around(folder);
    let registry = option(&["--registry"]).or_else(registry_of_environment);
    let variables = Variables(variable);
    let environment = Environment { folder, registry, variables, ..Environment::default() };
    names(&environment, noun, &start.to_string_lossy()).into_iter().map(CompletionCandidate::new).collect()
}

/// Returns the path that a shell makes of a word: what is completed is as it was typed, with `~` for the home folder.
fn at_home(written: &str, home: Option<&Path>) -> PathBuf {
    match (written.strip_prefix('~'), home) {
        (Some(""), Some(home)) => home.to_path_buf(),
        (Some(rest), Some(home)) if rest.starts_with('/') => home.join(rest.trim_start_matches('/')),
        _ => PathBuf::from(written),
    }
}

/// Returns a command with what completes its arguments, and those of all commands below it.
pub fn with_completions(command: Command, path: &[&str]) -> Command {
    let command = command.mut_args(|argument| completed(path, argument));
    let names: Vec<String> = command.get_subcommands().map(|inner| inner.get_name().to_string()).collect();
    names.iter().fold(command, |command, name| {
        let path: Vec<&str> = path.iter().copied().chain([name.as_str()]).collect();
        command.mut_subcommand(name, |inner| with_completions(inner, &path))
    })
}
