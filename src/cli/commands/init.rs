//! `init` and `quickstart`

use std::path::Path;

use super::{CommandResult, Output, apply, folder_option, shell_word};
use crate::cli::exit;
use crate::cli::view::counted;
use crate::ops::Environment;
use crate::ops::apply::ApplyOptions;
use crate::ops::init::{InitOptions, Initialised, init as make};

/// `init [DIR] [--example] [--name NAME]`
pub fn init(
    environment: &Environment,
    directory: Option<&Path>,
    (with_example, name): (bool, Option<&str>),
    output: &Output,
) -> CommandResult {
    let folder = directory.unwrap_or(&environment.folder);
    let (name, environment) = (name.map(str::to_string), environment.clone());
    let made = make(folder, InitOptions { name, with_example, is_apart: false, environment })?;
    if output.is_json {
        let document = serde_json::json!({"fleet": made.fleet.as_str(), "branch": made.branch, "files": made.files});
        output.json_line(&document)?;
        return Ok(exit::OK);
    }
    output.say(&sentence(&made, folder));
    if !made.files.is_empty() {
        let program = &output.program;
        let option = folder_option(&Environment { folder: folder.to_path_buf(), ..Environment::default() });
        output.say(&format!(
            "\nNext: declare devices and jobs beside it (`{program} schema Job`), commit them, and \
            look:\n\n    {program}{option} plan"
        ));
    }
    Ok(exit::OK)
}

fn sentence(made: &Initialised, folder: &Path) -> String {
    let Initialised { fleet, branch, files, made_branch } = made;
    match (files.is_empty(), made_branch) {
        (false, _) => format!(
            "Made the fleet {fleet} in {}: {} in a first commit.\nResults go to the branch {branch}.",
            folder.display(),
            counted(files.len() as u64, "file")
        ),
        (true, true) => format!("The fleet {fleet} is ready: results go to the new branch {branch}."),
        (true, false) => format!("The fleet {fleet} is ready already: results go to the branch {branch}."),
    }
}

/// `quickstart [DIR]`: init with the example, apply, and what to look at. Exits with 0 although a job of the example is
/// canceled: the example is meant to show that.
pub fn quickstart(environment: &Environment, folder: &Path, output: &Output) -> CommandResult {
    let made = make(folder, InitOptions { with_example: true, is_apart: true, ..InitOptions::default() })?;
    output.say(&sentence(&made, folder));
    output.say("");
    let inside = Environment { folder: folder.to_path_buf(), ..environment.clone() };
    let applied = apply::execute(&inside, &ApplyOptions::default(), true, None, output)?;
    if applied.was_interrupted {
        return Ok(exit::INTERRUPTED);
    }
    let (program, shown) = (&output.program, shell_word(folder));
    // The first edit that a person makes has to work as it is written here: a test follows it.
    output.say(&format!(
        "\nDone. One job was canceled on purpose: too many of its devices failed. See:\n\n    \
         {program} -C {shown} job show reboot-hall-c\n    \
         {program} -C {shown} job show reboot-hall-c --status failed\n    \
         git -C {shown} log {}\n\n\
         To make a change, copy a job:\n\n    \
         {program} -C {shown} job copy dim-hall-a dim-more --no-commit\n\n\
         In {shown}/jobs/dim-more.yaml, turn `level: 60` into `level: 40`.\n\
         Then see what it would do:\n\n    \
         {program} -C {shown} plan",
        made.branch
    ));
    Ok(exit::OK)
}
