//! `simulate`

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{CommandResult, Output};
use crate::cli::args::SimulateArgs;
use crate::cli::error::code_of_findings;
use crate::cli::exit;
use crate::cli::signals::on_signals;
use crate::cli::view::progress::Bars;
use crate::cli::view::rehearsal as view;
use crate::execute::{Clock as _, Progress, SystemClock};
use crate::ops::Environment;
use crate::ops::rehearse::{RehearsalOptions, Rehearsed, ScratchFolder, rehearse};

/// `simulate [--rev R] [--failures P] [--offline P] [--latency T] [--seed N] [--no-wait]`
pub fn run(environment: &Environment, arguments: &SimulateArgs, output: &Output) -> CommandResult {
    let options = RehearsalOptions {
        revision: arguments.rev.clone(),
        failures: arguments.failures,
        offline: arguments.offline,
        latency: arguments.latency,
        seed: arguments.seed,
        leaves_waiting: arguments.no_wait,
    };
    let began = SystemClock.now();
    let rehearsed = execute(environment, &options, output)?;
    if !output.is_json {
        let simulated_in = Duration::try_from(SystemClock.now().duration_since(began)).unwrap_or_default();
        output.result(&view::render(&rehearsed, simulated_in, output.painter()))?;
    }
    output.findings(&rehearsed.findings);
    rehearsed.refused.iter().for_each(|findings| output.findings(findings));
    if output.is_json {
        // The summary is the last line.
        for line in view::json_lines(&rehearsed) {
            output.json_line(&line)?;
        }
    }
    if let Some(findings) = &rehearsed.refused {
        output.say("The jobs above would run; those that come after them could not be claimed.");
        return Ok(code_of_findings(&findings.diagnostics, false));
    }
    let has_bad_run = rehearsed.runs.iter().any(|run| run.record.status.has_ended_badly());
    Ok(if has_bad_run { exit::RUN_FAILED } else { exit::OK })
}

fn execute(
    environment: &Environment,
    options: &RehearsalOptions,
    output: &Output,
) -> Result<Rehearsed, crate::cli::error::CommandError> {
    let scratch = ScratchFolder::make().map_err(crate::ops::OpsError::from)?;
    end_on_signal(scratch.path().to_path_buf(), output.is_quiet)?;
    let mut bars = Bars::without_lines(output);
    let shows_bars = output.is_interactive() && !output.is_json && !output.is_quiet;
    let mut observer = |progress: &Progress| {
        if shows_bars {
            bars.show(progress);
        }
    };
    Ok(rehearse(environment, options, &scratch, SystemClock.now(), &mut observer)?)
}

/// Ends the process at Ctrl-C or SIGTERM at any point: there is nothing to finish, and only a folder to remove.
fn end_on_signal(scratch: PathBuf, is_quiet: bool) -> std::io::Result<()> {
    on_signals(move || end(&scratch, is_quiet))
}

fn end(scratch: &Path, is_quiet: bool) -> ! {
    drop(std::fs::remove_dir_all(scratch));
    if !is_quiet {
        drop(writeln!(std::io::stderr().lock(), "\nEnded. Nothing was changed."));
    }
    std::process::exit(i32::from(exit::INTERRUPTED));
}
