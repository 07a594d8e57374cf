//! `group list|show`

use super::{CommandResult, Output};
use crate::cli::args::GroupCommand;
use crate::cli::exit;
use crate::cli::view::group as view;
use crate::ops::Environment;
use crate::ops::group::{list, show};

/// `group …`
pub fn run(environment: &Environment, command: &GroupCommand, output: &Output) -> CommandResult {
    match command {
        GroupCommand::List => {
            let (groups, held) = list(environment)?;
            super::tell_held(held.count(), output);
            if output.is_json {
                for group in &groups {
                    output.json_line(&view::json(group))?;
                }
            } else if groups.is_empty() {
                output.say("No device group is declared.");
            } else {
                output.result(&view::list(&groups))?;
            }
        }
        GroupCommand::Show { name } => {
            let group = show(environment, name)?;
            if output.is_json {
                output.json_line(&view::json(&group))?;
            } else {
                output.result(&view::show(&group, output.painter()))?;
            }
        }
    }
    Ok(exit::OK)
}
