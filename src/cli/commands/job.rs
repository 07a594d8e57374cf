//! `job list|show|stop|continue|copy|rerun|results`

use std::path::Path;

use jiff::Timestamp;

use super::next_step::{Doers, tell_next_step};
use super::{CommandResult, Output};
use crate::cli::args::{DeviceGrid, JobCommand};
use crate::cli::columns;
use crate::cli::edits::EditArgs;
use crate::cli::error::CommandError;
use crate::cli::exit;
use crate::cli::view::{TextTable, job as view, why as why_view};
use crate::diag::shown;
use crate::execute::{Clock as _, SystemClock};
use crate::model::job::Left;
use crate::ops::edit::{Edit, edit};
use crate::ops::job::{DeviceChoice, JobFilter, PERIOD_FORMS, RunChoice, beginning, devices, list, show, why};
use crate::ops::{Caveats, Destination, Environment, OpsError};
use crate::results::{Row, SHARD_HEADER, defuse};

/// `job …`
pub fn run(environment: &Environment, command: &JobCommand, output: &Output) -> CommandResult {
    match command {
        JobCommand::List { status, since, device } => {
            let since = since.as_deref().map(begins).transpose()?;
            let runs = list(
                environment,
                &JobFilter { status: *status, since, device: device.clone(), ..JobFilter::default() },
                &mut |caveats| mention(caveats, output),
            )?;
            if output.is_json {
                for run in &runs {
                    output.json_line(&view::listed_json(run))?;
                }
            } else if runs.is_empty() {
                let is_filtered = status.is_some() || since.is_some() || device.is_some();
                output.say(if is_filtered { "No run fits." } else { "No job has run yet." });
            } else {
                output.result(&view::list(&runs))?;
            }
            Ok(exit::OK)
        }
        JobCommand::Show { name, run, why: true, .. } => {
            let choice = RunChoice { job: name.clone(), run: run.clone() };
            let found = why(environment, &choice, SystemClock.now(), &mut |caveats| mention(caveats, output))?;
            if output.is_json {
                output.json_line(&why_view::to_json(&found))?;
            } else {
                output.result(&why_view::render(&found, output.painter()))?;
            }
            Ok(exit::OK)
        }
        JobCommand::Show { name, run, why: false, follow, devices } => {
            let choice = RunChoice { job: name.clone(), run: run.clone() };
            if *follow {
                return super::follow::follow(environment, &choice, &mut |caveats| mention(caveats, output), output);
            }
            show_run(environment, &choice, devices, output)
        }
        JobCommand::Stop { name, edit } => change(environment, name, &Edit::Stop, edit, output),
        JobCommand::Continue { name, edit } => change(environment, name, &Edit::Continue, edit, output),
        JobCommand::Copy { name, new_name, edit } => {
            change(environment, name, &Edit::Copy { new_name: new_name.clone() }, edit, output)
        }
        JobCommand::Rerun { name, new_name, run, pending, edit } => {
            let left = if *pending { Left::Pending } else { Left::Failed };
            let wanted = Edit::Rerun { run: run.clone(), left, new_name: new_name.clone() };
            change(environment, name, &wanted, edit, output)
        }
        JobCommand::Results { name, run, output: file } => {
            let choice = RunChoice { job: name.clone(), run: run.clone() };
            results(environment, &choice, file.as_deref(), output)
        }
    }
}

fn change(
    environment: &Environment,
    name: &str,
    wanted: &Edit,
    arguments: &EditArgs,
    output: &Output,
) -> CommandResult {
    let edited = edit(environment, name, wanted, !arguments.no_commit)?;
    super::tell_edit("job", &edited, output)?;
    if edited.has_changed && !output.is_json {
        let doers = Doers::of(environment, edited.remote, edited.has_gateway);
        tell_next_step(environment, !arguments.no_commit, &doers, output);
    }
    Ok(exit::OK)
}

/// Prints what an answer lacks, on stderr.
pub(super) fn mention(caveats: &Caveats, output: &Output) {
    let Caveats { held, branch, behind } = caveats;
    super::tell_held(held.count(), output);
    if let Some(behind) = behind {
        output.say(&format!("{}. {}", behind.text(branch), behind.help(branch)));
    }
}

fn show_run(environment: &Environment, choice: &RunChoice, grid: &DeviceGrid, output: &Output) -> CommandResult {
    let wants_devices = grid.devices || grid.status.is_some() || grid.device.is_some() || !grid.columns.is_empty();
    if !wants_devices {
        let shown = show(environment, choice, &mut |caveats| mention(caveats, output))?;
        if output.is_json {
            output.json_line(&view::show_json(&shown))?;
        } else {
            output.result(&view::show(&shown, output.painter()))?;
        }
        return Ok(exit::OK);
    }
    let wanted = DeviceChoice { status: grid.status, pattern: grid.device.clone() };
    if output.is_json {
        devices(environment, choice, &wanted, &mut |caveats| mention(caveats, output), &mut |row| {
            output.json_line(&view::row_json(&row)).map_err(stdout_error)
        })?;
        return Ok(exit::OK);
    }
    let columns = choose_columns(grid, output)?;
    let headers: Vec<String> = columns.iter().map(|column| column.to_uppercase()).collect();
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let texts: &[&str] = &["MESSAGE", "NAME", "DEVICE_NAME"];
    let mut table = TextTable::new(&headers).cutting(texts).sparing(&["BATCH", "CODE"]);
    let mut count = 0_u64;
    devices(environment, choice, &wanted, &mut |caveats| mention(caveats, output), &mut |row| {
        count += 1;
        table.push(columns.iter().filter_map(|column| view::cell(&row, column)).collect());
        Ok(())
    })?;
    if count == 0 {
        output.say("No device of the run fits.");
    } else {
        output.result(&table.render())?;
    }
    Ok(exit::OK)
}

/// Returns the columns that are asked for, else those that were chosen last, else the default ones.
fn choose_columns(grid: &DeviceGrid, output: &Output) -> Result<Vec<String>, CommandError> {
    let for_everybody = || view::DEFAULT_COLUMNS.iter().map(|column| (*column).to_string()).collect();
    if grid.columns.is_empty() {
        return Ok(columns::remembered(output, is_column).unwrap_or_else(for_everybody));
    }
    if grid.columns == ["default"] {
        columns::forget(output);
        return Ok(for_everybody());
    }
    check_columns(&grid.columns)?;
    columns::remember(output, &grid.columns);
    Ok(grid.columns.clone())
}

fn is_column(column: &str) -> bool {
    column == "id" || column == "name" || view::COLUMNS.contains(&column)
}

fn check_columns(columns: &[String]) -> Result<(), CommandError> {
    let Some(unknown) = columns.iter().find(|column| !is_column(column)) else { return Ok(()) };
    let help = match crate::diag::nearest(unknown, view::COLUMNS) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => format!("The columns are {}.", view::COLUMNS.join(", ")),
    };
    Err(CommandError::Usage { what: format!("there is no column `{unknown}`"), help })
}

fn results(environment: &Environment, choice: &RunChoice, file: Option<&Path>, output: &Output) -> CommandResult {
    let wanted = DeviceChoice::default();
    if output.is_json {
        devices(environment, choice, &wanted, &mut |caveats| mention(caveats, output), &mut |row| {
            output.json_line(&view::row_json(&row)).map_err(stdout_error)
        })?;
        return Ok(exit::OK);
    }
    let Some(path) = file.filter(|path| *path != Path::new("-")) else {
        let mut writer = csv_writer(std::io::stdout().lock());
        write_rows(environment, choice, &mut writer, &stdout_error, output)?;
        return Ok(exit::OK);
    };
    let fail = |source| OpsError::Output { what: format!("{} cannot be written", path.display()), source };
    let mut destination = Destination::open(path, false).map_err(fail)?;
    write_rows(environment, choice, &mut csv_writer(&mut destination), &fail, output)?;
    destination.finish().map_err(fail)?;
    output.say(&format!("Wrote {}.", path.display()));
    Ok(exit::OK)
}

fn csv_writer<W: std::io::Write>(to: W) -> csv::Writer<W> {
    csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(to)
}

fn write_rows<W: std::io::Write>(
    environment: &Environment,
    choice: &RunChoice,
    writer: &mut csv::Writer<W>,
    fail: &dyn Fn(std::io::Error) -> OpsError,
    output: &Output,
) -> Result<(), OpsError> {
    let csv_fail = |error: csv::Error| match error.into_kind() {
        csv::ErrorKind::Io(error) => fail(error),
        other => fail(std::io::Error::other(format!("{other:?}"))),
    };
    // The header waits for the first row: a run that is not there has no table.
    let mut has_header = false;
    let mut tell = |caveats: &Caveats| mention(caveats, output);
    devices(environment, choice, &DeviceChoice::default(), &mut tell, &mut |row: Row| {
        // Rows of a running run come from the journal, which keeps the texts of devices unescaped.
        let cell = |column: &&str| {
            let text = view::cell(&row, column)?;
            Some(if *column == "device_id" { text } else { defuse(&text).into_owned() })
        };
        if !std::mem::replace(&mut has_header, true) {
            writer.write_record(SHARD_HEADER).map_err(csv_fail)?;
        }
        let cells = SHARD_HEADER.iter().filter_map(cell);
        writer.write_record(cells).map_err(csv_fail)
    })?;
    if !has_header {
        writer.write_record(SHARD_HEADER).map_err(csv_fail)?;
    }
    writer.flush().map_err(fail)
}

fn stdout_error(source: std::io::Error) -> OpsError {
    OpsError::Output { what: "the output cannot be written".to_string(), source }
}

fn begins(text: &str) -> Result<Timestamp, CommandError> {
    beginning(text, SystemClock.now()).ok_or_else(|| CommandError::Usage {
        what: format!("`{}` is no beginning of a period", shown(text)),
        help: format!("Write {PERIOD_FORMS}."),
    })
}
