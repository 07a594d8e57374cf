//! `plan`

use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use super::{CommandResult, Output, folder_option};
use crate::cli::args::PlanArgs;
use crate::cli::error::CommandError;
use crate::cli::exit;
use crate::cli::view::plan::PlanView;
use crate::cli::view::{diagnostic, indexes};
use crate::execute::{Clock as _, SystemClock};
use crate::ops::plan::{PlanOptions, ShownPlan, plan};
use crate::ops::{Destination, Environment, OpsError};
use crate::plan::plan_to_json;

/// `plan [--rev R] [--out F] [--json] [--detailed-exitcode]`
pub fn run(environment: &Environment, arguments: &PlanArgs, output: &Output) -> CommandResult {
    if arguments.out.as_deref() == Some(Path::new("-")) {
        return Err(CommandError::Usage {
            what: "`--out` names a file".to_string(),
            help: "`plan --json` prints the plan on stdout.".to_string(),
        });
    }
    let options = PlanOptions { revision: arguments.rev.clone() };
    let planned = plan(environment, &options, SystemClock.now())?;
    if output.is_json {
        output.json_line(&to_json(&planned))?;
    } else {
        let view = PlanView {
            painter: output.painter(),
            is_verbose: output.is_verbose,
            errors: planned.findings.diagnostics.counts().0,
        };
        let lines = if output.is_verbose { indexes::lines(&planned.indexes, output.painter()) } else { String::new() };
        output.result(&view.render_with(&planned.plan, &lines))?;
        output.findings(&planned.findings);
    }
    if planned.findings.diagnostics.has_errors() {
        return Ok(exit::INVALID);
    }
    if let Some(path) = &arguments.out {
        let text = format!("{:#}\n", to_json(&planned));
        let fail = |source| {
            let what = format!("the plan {} cannot be written", path.display());
            CommandError::from(OpsError::Output { what, source })
        };
        let mut destination = Destination::open(path, false).map_err(fail)?;
        destination.write_all(text.as_bytes()).map_err(fail)?;
        destination.finish().map_err(fail)?;
        let folder = folder_option(environment);
        output.say(&format!(
            "Saved. To apply just this plan:\n\n    {}{folder} apply {}",
            output.program,
            path.display()
        ));
    }
    Ok(if arguments.detailed_exitcode && planned.plan.has_changes() { exit::CHANGES } else { exit::OK })
}

fn to_json(planned: &ShownPlan) -> Value {
    let mut document = plan_to_json(&planned.plan);
    let sorted = planned.findings.diagnostics.sorted();
    let list = sorted.iter().map(|item| diagnostic::to_json(item, &planned.findings.sources)).collect();
    if let Some(members) = document.as_object_mut() {
        members.insert("diagnostics".into(), list);
        members.insert("indexes".into(), indexes::to_json(&planned.indexes));
    }
    document
}
