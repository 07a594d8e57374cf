//! `review`: the plan of a pull request where it is reviewed.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use super::{CommandResult, Output};
use crate::cli::error::{CommandError, code_of_findings, sentence};
use crate::cli::exit;
use crate::cli::forge::{ci, variable};
use crate::cli::plans::ReviewArgs;
use crate::cli::view::{counted, markdown};
use crate::diag::Severity;
use crate::execute::{Clock as _, SystemClock};
use crate::forge::{Comment, Forge, ForgeError, State, Status, marker};
use crate::ops::plan::{PlanOptions, plan};
use crate::ops::{Environment, Findings, OpsError, Workspace};
use crate::prepare::{Files, OnError, TreeChoice};

/// What a review says, and where.
struct Reviewed {
    prefix: String,
    /// The body of the comment; `None` when nothing could be planned.
    body: Option<String>,
    /// One line about it.
    title: String,
    code: u8,
}

/// What became of what was to be said at the forge.
#[derive(Default)]
struct Delivered {
    comment: Option<Comment>,
    has_status: bool,
    failures: Vec<ForgeError>,
}

/// `review [--base REV] [--strict] [--no-comment] [--no-status]`
pub fn run(environment: &Environment, arguments: &ReviewArgs, output: &Output) -> CommandResult {
    let environment = &arguments.secrets.give_to(environment)?;
    let around = ci::detect(&variable);
    let base = arguments.base.clone().or_else(|| around.as_ref()?.base.clone());
    let Some(base) = base else {
        return Err(CommandError::Usage {
            what: "it is not known what to compare with".to_string(),
            help: "Name the branch that it is to be merged into with --base, such as origin/main.".to_string(),
        });
    };
    let workspace = Workspace::open(environment).map_err(OpsError::from)?;
    let remote = workspace.repo.remote_address("origin");
    let forge = arguments.forge.open(remote.as_deref(), around.as_ref(), &variable)?;
    let options = PlanOptions {
        revision: None,
        base: Some(base),
        introduction: arguments.introduction.clone(),
        snapshot: arguments.snapshot.clone(),
    };
    let (reviewed, failure) = review(environment, &options, arguments, workspace.repo.prefix())?;
    if let Some(body) = &reviewed.body {
        if !output.is_json {
            output.result(body)?;
        }
        if let Some(path) = around.as_ref().and_then(|around| around.summary.as_deref()) {
            append(path, body)?;
        }
    }
    let context = context_of(&workspace);
    let delivered = match &forge {
        Some(forge) => deliver(forge, &reviewed, &context, (arguments, around.as_ref(), &workspace)),
        None => {
            output.say("There is no token for the forge: neither the comment nor the status was set.");
            Delivered::default()
        }
    };
    tell(&reviewed, &delivered, output)?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    let is_of_fork = around.is_some_and(|around| around.is_of_fork);
    let error = delivered.failures.into_iter().next().filter(|_| reviewed.code == exit::OK);
    match error {
        // The token of a fork's job may not write, and nobody can change that there.
        Some(ForgeError::Denied { .. }) if is_of_fork => Ok(reviewed.code),
        Some(error) => Err(error.into()),
        None => Ok(reviewed.code),
    }
}

/// Plans, and returns what there is to say, with the error of a plan that could not be made at all.
fn review(
    environment: &Environment,
    options: &PlanOptions,
    arguments: &ReviewArgs,
    prefix: &str,
) -> Result<(Reviewed, Option<CommandError>), CommandError> {
    let bytes_max = usize::try_from(arguments.markdown_bytes).unwrap_or(usize::MAX);
    let prefix = prefix.to_string();
    let (body, findings, code) = match plan(environment, options, SystemClock.now()) {
        Ok(planned) => {
            let code = code_of_findings(&planned.findings.diagnostics, arguments.strict);
            (markdown::markdown(&planned, bytes_max), planned.findings, code)
        }
        Err(OpsError::Invalid(findings)) => {
            let code = code_of_findings(&findings.diagnostics, arguments.strict);
            (markdown::markdown_of_findings(&findings, &prefix, bytes_max), *findings, code)
        }
        Err(error) => {
            let title = format!("cannot be planned: {}", sentence(&error));
            let reviewed = Reviewed { prefix, body: None, title, code: exit::ERROR };
            return Ok((reviewed, Some(error.into())));
        }
    };
    let title = title_of(&body, &findings, code);
    Ok((Reviewed { prefix, body: Some(body), title, code }, None))
}

/// Returns the title of a comment; of one that says no, the first thing that is wrong, and how many there are.
fn title_of(body: &str, findings: &Findings, code: u8) -> String {
    let sorted = findings.diagnostics.sorted();
    let first = sorted.iter().find(|one| one.severity == Severity::Error).or(sorted.first());
    match first {
        Some(first) if code != exit::OK => {
            let (errors, warnings) = findings.diagnostics.counts();
            match errors {
                0 if warnings > 1 => format!("{}: {}", counted(warnings as u64, "warning"), first.detail),
                0 | 1 => first.detail.clone(),
                errors => format!("{}: {}", counted(errors as u64, "error"), first.detail),
            }
        }
        _ => body.lines().find_map(|line| line.strip_prefix("### fleetform: ")).unwrap_or_default().to_string(),
    }
}

/// Returns the context of the status: what the daemon says of a commit is another one.
fn context_of(workspace: &Workspace) -> String {
    let files = Files::read(workspace, TreeChoice::WorkTree, OnError::Hold);
    let name = files.ok().and_then(|files| Some(files.usable().ok()?.fleet.name.to_string()));
    name.map_or("fleetform/plan".to_string(), |name| format!("fleetform/{name}/plan"))
}

fn deliver(
    forge: &Forge,
    reviewed: &Reviewed,
    context: &str,
    (arguments, around, workspace): (&ReviewArgs, Option<&ci::Surroundings>, &Workspace),
) -> Delivered {
    let mut delivered = Delivered::default();
    let change = arguments.change.or_else(|| around?.change);
    if let (Some(change), Some(body), false) = (change, &reviewed.body, arguments.no_comment) {
        match forge.upsert_comment(change, &marker(&reviewed.prefix), body) {
            Ok(comment) => delivered.comment = Some(comment),
            Err(error) => delivered.failures.push(error),
        }
    }
    let commit = arguments.commit.clone().or_else(|| around?.commit.clone());
    let commit = commit.or_else(|| workspace.repo.head().ok());
    if let (Some(commit), false) = (commit, arguments.no_status) {
        let state = if reviewed.code == exit::OK { State::Success } else { State::Failure };
        let link = arguments.forge.link().or_else(|| around?.link.clone());
        let (context, description) = (context.to_string(), reviewed.title.clone());
        match forge.set_status(&commit, &Status { context, state, description, link }) {
            Ok(()) => delivered.has_status = true,
            Err(error) => delivered.failures.push(error),
        }
    }
    delivered
}

fn tell(reviewed: &Reviewed, delivered: &Delivered, output: &Output) -> std::io::Result<()> {
    if output.is_json {
        return output.json_line(&json!({
            "title": reviewed.title,
            "code": reviewed.code,
            "comment": delivered.comment.as_ref().map(|Comment { id, is_new }| json!({"id": id, "new": is_new})),
            "status": delivered.has_status,
            "undelivered": delivered.failures.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }));
    }
    if let Some(Comment { id, is_new }) = delivered.comment {
        output.say(&format!("Comment {id} was {}.", if is_new { "made" } else { "brought up to date" }));
    }
    for failure in &delivered.failures {
        output.say(&format!("Not said at the forge: {failure}. {}", failure.help()));
    }
    Ok(())
}

/// Writes the summary behind those of other steps.
fn append(path: &Path, body: &str) -> Result<(), CommandError> {
    let written =
        File::options().create(true).append(true).open(path).and_then(|mut file| file.write_all(body.as_bytes()));
    written.map_err(|source| {
        let what = format!("the summary {} cannot be written", path.display());
        CommandError::from(OpsError::Output { what, source })
    })
}
