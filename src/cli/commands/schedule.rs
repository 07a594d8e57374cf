//! `schedule list|next|unschedule|reschedule`

use super::{CommandResult, Output};
use crate::cli::args::ScheduleCommand;
use crate::cli::edits::EditArgs;
use crate::cli::exit;
use crate::cli::view::{held as held_view, schedule as view};
use crate::execute::{Clock as _, SystemClock};
use crate::model::fleet::HeldDocuments;
use crate::ops::Environment;
use crate::ops::edit::{Edit, edit};
use crate::ops::schedule::{list, next};

/// `schedule …`
pub fn run(environment: &Environment, command: &ScheduleCommand, output: &Output) -> CommandResult {
    match command {
        ScheduleCommand::List => {
            let (schedules, held) = list(environment, SystemClock.now())?;
            if output.is_json {
                for schedule in &schedules {
                    output.json_line(&view::listed_json(schedule))?;
                }
            } else if schedules.is_empty() {
                output.say("No schedule is declared.");
            } else {
                output.result(&view::list(&schedules))?;
            }
            mention(&held, output);
        }
        ScheduleCommand::Next { name, count, from } => {
            let found = next(environment, name, *count, from.as_deref(), SystemClock.now())?;
            if output.is_json {
                for occurrence in &found.occurrences {
                    output.json_line(&view::occurrence_json(&found.schedule, occurrence))?;
                }
            } else if found.occurrences.is_empty() {
                output.say("It has no further occurrence.");
            } else {
                output.result(&view::occurrences(&found))?;
            }
            if found.schedule.is_suspended {
                output.say("It is suspended: none of them starts.");
            }
            mention(&found.held, output);
        }
        ScheduleCommand::Unschedule { name, edit } => change(environment, name, &Edit::Unschedule, edit, output)?,
        ScheduleCommand::Reschedule { name, edit } => change(environment, name, &Edit::Reschedule, edit, output)?,
    }
    Ok(exit::OK)
}

/// Prints the documents that cannot be used.
fn mention(held: &HeldDocuments, output: &Output) {
    const SHOWN: usize = 5;
    if held.count() == 0 {
        return;
    }
    output.say("These cannot be used, nor what they say of schedules; `fleetform validate` says more:");
    held.rows().take(SHOWN).for_each(|one| output.say_item(&held_view::line(&held_view::row(one))));
    let more = held.count().saturating_sub(SHOWN);
    if more > 0 {
        output.say(&format!("  and {more} more"));
    }
}

fn change(
    environment: &Environment,
    name: &str,
    wanted: &Edit,
    arguments: &EditArgs,
    output: &Output,
) -> Result<(), crate::cli::error::CommandError> {
    let edited = edit(environment, name, wanted, !arguments.no_commit)?;
    Ok(super::tell_edit("schedule", &edited, output)?)
}
