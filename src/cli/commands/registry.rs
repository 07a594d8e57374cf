//! `registry copy|check`

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{CommandResult, Output, folder_option, shell_word};
use crate::cli::exit;
use crate::cli::registries::RegistryCommand;
use crate::cli::view::counted;
use crate::cli::view::registry as view;
use crate::ops::Environment;
use crate::ops::registry::{Checked, CopyOptions, CopyProgress, check, copy};

/// How often the line of a copy is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(100);

/// `registry …`
pub fn run(environment: &Environment, command: &RegistryCommand, output: &Output) -> CommandResult {
    match command {
        RegistryCommand::Copy { from, to } => copy_to(environment, (from, to), output),
        RegistryCommand::Check { registries } => {
            let checked = check(environment, registries)?;
            let count: usize = checked.iter().map(|one| one.findings.len()).sum();
            show(&checked, output)?;
            Ok(if count == 0 { exit::OK } else { exit::ERROR })
        }
    }
}

fn copy_to(environment: &Environment, (from, to): (&str, &str), output: &Output) -> CommandResult {
    let options = CopyOptions { from: from.to_string(), to: to.to_string(), ..CopyOptions::default() };
    let bar = bar(output);
    let copied = copy(environment, &options, &mut |progress| show_progress(&bar, progress));
    bar.finish_and_clear();
    let copied = copied?;
    if output.is_json {
        output.json_line(&view::copied_json(&copied))?;
        return Ok(exit::OK);
    }
    output.result(&view::copied(&copied))?;
    if !copied.was_done {
        let (program, folder) = (&output.program, folder_option(environment));
        // A URL may have a password, and where the copy is has none.
        let place = if to.contains("://") { &copied.to } else { to };
        output.say(&format!(
            "\nName the copy in `spec.registry` of fleetform.yaml, or with --registry. To go back, copy it back, to a \
             place that has no registry:\n\n    {program}{folder} registry copy {} NEW-PLACE",
            shell_word(std::path::Path::new(place))
        ));
    }
    Ok(exit::OK)
}

/// Returns a line of what is done, on a terminal.
fn bar(output: &Output) -> ProgressBar {
    if !output.is_interactive() || output.is_quiet || output.is_json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_msg}").expect("the template is legal");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
    bar.enable_steady_tick(DRAWN_EVERY);
    bar
}

fn show_progress(bar: &ProgressBar, progress: CopyProgress) {
    /// Rows between two looks at the terminal.
    const STEP: u64 = 1024;
    let (doing, table, rows) = match progress {
        CopyProgress::Copied { table, rows } => ("copying", table, rows),
        CopyProgress::Compared { table, rows } => ("reading back", table, rows),
    };
    if rows.is_multiple_of(STEP) && !bar.is_hidden() {
        bar.set_message(format!("{doing} {table}: {}", counted(rows, "row")));
    }
}

fn show(checked: &[Checked], output: &Output) -> std::io::Result<()> {
    for one in checked {
        if output.is_json {
            output.json_line(&view::checked_json(one))?;
            for finding in &one.findings {
                output.json_line(&view::finding_json(one, finding))?;
            }
        } else {
            output.result(&view::checked(one, output.painter()))?;
        }
        if let Some(process) = &one.at_work {
            let who = if process.is_empty() { "a process" } else { process };
            output.say(&format!(
                "{who} works with {} now: what it writes meanwhile may look as if it did not hold.",
                one.place
            ));
        }
    }
    if output.is_json {
        let findings: usize = checked.iter().map(|one| one.findings.len()).sum();
        output.json_line(&json!({"checked": checked.len(), "findings": findings}))?;
    }
    Ok(())
}
