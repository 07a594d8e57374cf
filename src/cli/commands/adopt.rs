//! `adopt`

use serde_json::json;

use super::{CommandResult, Output, folder_option};
use crate::cli::args::AdoptArgs;
use crate::cli::exit;
use crate::cli::view::counted;
use crate::execute::{Clock as _, SystemClock};
use crate::ops::Environment;
use crate::ops::adopt::{AdoptMode, Adopted, adopt};

/// `adopt --mark-done [JOB…] | --run`
pub fn run(environment: &Environment, arguments: &AdoptArgs, output: &Output) -> CommandResult {
    let mode = match &arguments.mark_done {
        Some(names) if names.is_empty() => AdoptMode::MarkDone,
        Some(names) => AdoptMode::MarkSome(names.clone()),
        None => AdoptMode::Run,
    };
    let Adopted { fleet, branch, jobs } = adopt(environment, &mode, SystemClock.now())?;
    if output.is_json {
        let jobs: Vec<_> = jobs.iter().map(|(job, run)| json!({"job": job.as_str(), "run": run.as_str()})).collect();
        let word = match mode {
            AdoptMode::MarkDone | AdoptMode::MarkSome(_) => "mark-done",
            AdoptMode::Run => "run",
        };
        output.json_line(&json!({"fleet": fleet.as_str(), "branch": branch, "mode": word, "jobs": jobs}))?;
        return Ok(exit::OK);
    }
    let count = counted(jobs.len() as u64, "job");
    let becomes = match mode {
        AdoptMode::MarkDone => format!("{count} marked as done, none of them will run"),
        AdoptMode::MarkSome(_) => {
            output.say(&format!("Marked as done, and will not run: {count}; written to the branch {branch}."));
            return Ok(exit::OK);
        }
        AdoptMode::Run => format!("{count} to run with the next apply"),
    };
    output.say(&format!("Adopted the fleet {fleet}: {becomes}; results go to the new branch {branch}."));
    output.say(&format!(
        "\nTo see what an apply would do:\n\n    {}{} plan",
        output.program,
        folder_option(environment)
    ));
    Ok(exit::OK)
}
