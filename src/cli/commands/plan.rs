//! `plan` and `plan show`

use std::path::Path;

use serde_json::{Value, json};

use super::{CommandResult, Output, folder_option};
use crate::cli::error::{CommandError, code_of_findings, sentence};
use crate::cli::exit;
use crate::cli::output::{Tone, stdout_width};
use crate::cli::plans::{FormArgs, PlanArgs, PlanCommand, PlanFormat};
use crate::cli::view::plan::PlanView;
use crate::cli::view::{annotations, diagnostic, indexes, junit, markdown, number, sarif, wrapped};
use crate::execute::{Clock as _, SystemClock};
use crate::model::text::sanitize_line;
use crate::ops::plan::{Freshness, PlanOptions, ShownChange, ShownPlan, look, plan, read, save, shown};
use crate::ops::{Environment, Findings, OpsError, Workspace};
use crate::plan::{Withdrawal, Withdrawn, plan_to_json};

/// `plan [--rev R] [--base R] [--out F] [--format F] [--detailed-exitcode] [--strict]`
pub fn run(environment: &Environment, arguments: &PlanArgs, output: &Output) -> CommandResult {
    if let Some(PlanCommand::Show { plan, form }) = &arguments.command {
        return show(environment, plan, form, output);
    }
    if arguments.out.as_deref() == Some(Path::new("-")) {
        return Err(CommandError::Usage {
            what: "`--out` names a file".to_string(),
            help: "`plan --json` prints the plan on stdout.".to_string(),
        });
    }
    let environment = &arguments.secrets.give_to(environment)?;
    let options = PlanOptions {
        revision: arguments.rev.clone(),
        base: arguments.base.clone(),
        introduction: arguments.introduction.clone(),
        snapshot: arguments.snapshot.clone(),
    };
    let planned = match plan(environment, &options, SystemClock.now()) {
        Err(OpsError::Invalid(findings)) => return invalid(environment, findings, &arguments.form, output),
        planned => planned?,
    };
    print(&planned, &arguments.form, output)?;
    let diagnostics = &planned.findings.diagnostics;
    let refusal = code_of_findings(diagnostics, arguments.strict);
    if refusal != exit::OK {
        return Ok(refusal);
    }
    if let Some(path) = &arguments.out {
        keep(environment, &planned, path, output)?;
    }
    Ok(if arguments.detailed_exitcode && planned.has_changes() { exit::CHANGES } else { exit::OK })
}

/// Prints a plan as it was asked for.
fn print(planned: &ShownPlan, form: &FormArgs, output: &Output) -> Result<(), CommandError> {
    let diagnostics = &planned.findings.diagnostics;
    let from_root = planned.findings.sources.below(&planned.prefix);
    match format_of(form, output) {
        PlanFormat::Human => {
            output.result(&text(planned, output))?;
            output.findings(&planned.findings);
        }
        PlanFormat::Json => output.json_line(&to_json(planned))?,
        PlanFormat::Markdown => {
            let bytes_max = usize::try_from(form.markdown_bytes).unwrap_or(usize::MAX);
            output.result(&markdown::markdown(planned, bytes_max))?;
        }
        PlanFormat::Github => output.result(&annotations::github(&diagnostics.sorted(), &from_root))?,
        PlanFormat::Sarif => output.result(&sarif::sarif(&diagnostics.sorted(), &from_root))?,
        PlanFormat::Junit => output.result(&junit::junit("plan", &diagnostics.sorted(), &from_root))?,
    }
    Ok(())
}

/// `plan show FILE`: the plan on stdout as it was, and on stderr a line on whether it still holds here.
fn show(environment: &Environment, path: &Path, form: &FormArgs, output: &Output) -> CommandResult {
    let saved = read(path)?;
    let line = match look(environment, &saved, SystemClock.now()) {
        Ok(Freshness::Fresh) => "Still fresh: an apply of it does just this.".to_string(),
        Ok(Freshness::Used(how)) => format!("Used already: {how}."),
        Ok(Freshness::Stale(clauses)) => format!("Stale: it has changed since at {}.", clauses.join(", and at ")),
        Ok(Freshness::Foreign(what)) => format!("Not of this fleet: {what}."),
        Err(error) => format!("Whether it is still fresh is not known here: {}.", sentence(&error)),
    };
    print(&shown(saved), form, output)?;
    output.say(&line);
    Ok(exit::OK)
}

/// Prints what is wrong with files that cannot be planned, as it was asked for.
fn invalid(environment: &Environment, findings: Box<Findings>, arguments: &FormArgs, output: &Output) -> CommandResult {
    let prefix = Workspace::open(environment).map_err(OpsError::from)?.repo.prefix().to_string();
    let from_root = findings.sources.below(&prefix);
    let sorted = findings.diagnostics.sorted();
    match format_of(arguments, output) {
        PlanFormat::Json if !output.is_json => {
            for item in sorted {
                output.json_line(&diagnostic::to_json(item, &findings.sources))?;
            }
        }
        PlanFormat::Human | PlanFormat::Json => return Err(OpsError::Invalid(findings).into()),
        PlanFormat::Markdown => {
            let bytes_max = usize::try_from(arguments.markdown_bytes).unwrap_or(usize::MAX);
            output.result(&markdown::markdown_of_findings(&findings, &prefix, bytes_max))?;
        }
        PlanFormat::Github => output.result(&annotations::github(&sorted, &from_root))?,
        PlanFormat::Sarif => output.result(&sarif::sarif(&sorted, &from_root))?,
        PlanFormat::Junit => output.result(&junit::junit("plan", &sorted, &from_root))?,
    }
    Ok(exit::INVALID)
}

fn format_of(arguments: &FormArgs, output: &Output) -> PlanFormat {
    match arguments.format {
        _ if arguments.markdown => PlanFormat::Markdown,
        PlanFormat::Human if output.is_json => PlanFormat::Json,
        format => format,
    }
}

/// Returns the plan for people, its summary last.
fn text(planned: &ShownPlan, output: &Output) -> String {
    let view = PlanView {
        painter: output.painter(),
        is_verbose: output.is_verbose,
        errors: planned.findings.diagnostics.counts().0,
        is_blind: planned.is_blind,
    };
    let mut lines = if output.is_verbose { indexes::lines(&planned.indexes, output.painter()) } else { String::new() };
    if let Some(change) = &planned.change {
        lines.push_str(&change_lines(change, output));
    }
    // Otherwise a warning says it; what the base is warned of too is left out.
    if planned.is_blind && planned.change.is_some() {
        let line = format!("  . {BLIND}");
        lines.push_str(&format!("{}\n", wrapped(&line, 4, stdout_width())));
    }
    view.render_with(&planned.plan, &lines)
}

/// What is said of a plan that was made where the registry is not.
const BLIND: &str = "planned without the fleet's registry: devices are those of the import files, and what jobs wrote and \
                     devices reported is unknown, so conditions on it select nobody here";

/// Returns what goes away with a change, and what is left out of its plan.
fn change_lines(change: &ShownChange, output: &Output) -> String {
    let painter = output.painter();
    let mut text = String::new();
    for Withdrawn { subject, run, what } in &change.withdrawn {
        let run = run.as_ref().map_or(String::new(), |run| format!(" run {run}"));
        let symbol = painter.paint(Tone::Bad, "- gone    ");
        let line = format!("  {symbol} {subject}{run}  {}", sanitize_line(&what.to_string()));
        text.push_str(&format!("{}\n", wrapped(&line, 13, stdout_width())));
    }
    let (revision, commit) = (sanitize_line(&change.revision), change.commit.chars().take(12).collect::<String>());
    let left_out = match change.alike {
        0 => String::new(),
        1 => ": 1 document is alike on both sides, and left out".to_string(),
        alike => format!(": {} documents are alike on both sides, and left out", number(alike)),
    };
    let line = format!("  . compared with {revision} at {commit}{left_out}");
    text.push_str(&format!("{}\n", painter.paint(Tone::Quiet, &wrapped(&line, 4, stdout_width()))));
    text
}

/// Saves a plan for `apply`.
fn keep(environment: &Environment, planned: &ShownPlan, path: &Path, output: &Output) -> Result<(), CommandError> {
    save(planned, to_json(planned), path)?;
    let folder = folder_option(environment);
    output.say(&format!("Saved. To apply just this plan:\n\n    {}{folder} apply {}", output.program, path.display()));
    Ok(())
}

fn to_json(planned: &ShownPlan) -> Value {
    let mut document = plan_to_json(&planned.plan);
    let sorted = planned.findings.diagnostics.sorted();
    let list = sorted.iter().map(|item| diagnostic::to_json(item, &planned.findings.sources)).collect();
    if let Some(members) = document.as_object_mut() {
        members.insert("diagnostics".into(), list);
        members.insert("indexes".into(), indexes::to_json(&planned.indexes));
        // With `files`, a value that devices have now is null where the files do not say it, and not known to be none.
        members.insert("facts".into(), Value::from(if planned.is_blind { "files" } else { "registry" }));
        members.insert("compared_with".into(), planned.change.as_ref().map_or(Value::Null, change_to_json));
    }
    document
}

fn change_to_json(change: &ShownChange) -> Value {
    let ShownChange { revision, commit, alike, withdrawn, known_findings } = change;
    let withdrawn: Vec<Value> = withdrawn
        .iter()
        .map(|Withdrawn { subject, run, what }| {
            let devices = match what {
                Withdrawal::WillNotRun { devices } => Some(*devices),
                _ => None,
            };
            json!({
                "address": subject.to_string(),
                "run": run.as_ref().map(|run| run.as_str()),
                "what": what.word(),
                "reason": what.to_string(),
                "devices": devices,
            })
        })
        .collect();
    json!({"revision": revision, "commit": commit, "alike": alike, "withdrawn": withdrawn,
           "known_findings": known_findings})
}
