//! `import list|show`

use super::{CommandResult, Output};
use crate::cli::args::ImportCommand;
use crate::cli::exit;
use crate::cli::view::import as view;
use crate::ops::import::{list, show};
use crate::ops::{Caveats, Environment};

/// `import …`
pub fn run(environment: &Environment, command: &ImportCommand, output: &Output) -> CommandResult {
    let mut tell = |caveats: &Caveats| super::job::mention(caveats, output);
    match command {
        ImportCommand::List => {
            let imports = list(environment, &mut tell)?;
            if output.is_json {
                for import in &imports {
                    output.json_line(&view::json(import))?;
                }
            } else if imports.is_empty() {
                output.say("No device import is declared.");
            } else {
                output.result(&view::list(&imports))?;
            }
        }
        ImportCommand::Show { name } => {
            let shown = show(environment, name, &mut tell)?;
            if output.is_json {
                output.json_line(&view::shown_json(&shown))?;
            } else {
                output.result(&view::show(&shown, output.painter()))?;
            }
        }
    }
    Ok(exit::OK)
}
