//! What the planner refuses or wants to be known, as diagnostics that point into the files.

use super::edit::edit_since;
use super::preparation::{Preparation, StagedFile, devices_of};
use super::templates;
use crate::diag::{Diagnostic, Diagnostics, Span, code};
use crate::ledger::RunRecord;
use crate::manifest::Loaded;
use crate::model::fleet::ImportExpect;
use crate::model::id::{Name, RunToken};
use crate::model::job::Expect;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::model::text::{sanitize_line, shorten};
use crate::plan::{Conflict, Notice, Plan, Refusal};
use crate::registry::{Alike, PaddedCell, StagedImport};

/// Rejected rows that a warning shows.
const ROWS_SHOWN: usize = 3;

/// Returns the diagnostics of a plan.
pub(super) fn diagnose(plan: &Plan, preparation: &Preparation<'_>, staged: &[StagedFile]) -> Diagnostics {
    let loaded = preparation.loaded;
    let mut diagnostics = Diagnostics::new();
    for refusal in &plan.refusals {
        diagnostics.push(of_refusal(refusal, preparation, staged));
    }
    for notice in &plan.notices {
        diagnostics.push(of_notice(notice, preparation, staged));
    }
    for file in staged {
        diagnose_file(file, loaded, &mut diagnostics);
        if let Some(warning) = super::cloud_columns::warning(file, preparation) {
            diagnostics.push(warning);
        }
    }
    diagnostics
}

/// Says what is noteworthy about a file that can be used.
fn diagnose_file(file: &StagedFile, loaded: &Loaded, diagnostics: &mut Diagnostics) {
    let (import, span) = (&file.import, span_of_import(loaded, &file.import));
    if file.found.has_keys {
        let detail = format!(
            "The file of import `{import}` has device keys in it, and whoever can read the repository can read them."
        );
        let help =
            "Leave them out: fleetform makes keys of its own. Where devices keep theirs, take them out when they are \
            imported."
                .to_string();
        diagnostics.push(Diagnostic::new(code::KEYS_IN_FILE, span, detail).with_help(help));
    }
    if let Some(warning) = padded_cells(loaded, import, &file.found) {
        diagnostics.push(warning);
    }
    if let Some(Alike { groups, sample: [one, other] }) = &file.found.alike {
        let more = if *groups > 1 { format!(", and {} more of the kind", groups - 1) } else { String::new() };
        let detail = format!(
            "Import `{import}` has the devices `{}` and `{}`{more}: the ids differ only in the case of letters.",
            sanitize_line(one),
            sanitize_line(other)
        );
        let help = "They are two devices. Check whether one of them is a typing mistake.".to_string();
        diagnostics.push(Diagnostic::new(code::ALIKE_IDS, span, detail).with_help(help));
    }
    if let Some(Alike { groups, sample: [one, other] }) = &file.found.alike_registered {
        let more = if *groups > 1 { format!(", and {} more of the kind", groups - 1) } else { String::new() };
        let detail = format!(
            "Import `{import}` makes the device `{}`, and the registry has `{}`{more}: the ids differ only in the case \
                of letters.",
            sanitize_line(one),
            sanitize_line(other)
        );
        let help = "They are two devices. Check whether one of them is a typing mistake.".to_string();
        diagnostics.push(Diagnostic::new(code::ALIKE_IDS, span, detail).with_help(help));
    }
    if file.found.modules > 0 {
        let modules = file.found.modules;
        let lines = if modules == 1 {
            "1 line with a `moduleId` is".to_string()
        } else {
            format!("{modules} lines with a `moduleId` are")
        };
        let detail = format!("Of import `{import}`, {lines} passed over: modules are not kept.");
        diagnostics.push(Diagnostic::new(code::MODULES_PASSED_OVER, span, detail));
    }
}

/// Returns what is wrong with a job that was renamed.
///
/// # Panics
/// When the refusal is about something else.
fn of_rename(refusal: &Refusal, loaded: &Loaded) -> Diagnostic {
    match refusal {
        Refusal::Renamed { job, old, run } => {
            let detail = format!(
                "Job `{job}` has the spec of job `{old}`, whose run {run} was claimed and which is no longer declared. \
                 Under the new name it would run again."
            );
            let help = format!(
                "If it was renamed, add `previousName: {old}` to its metadata; to run it again, give it a new `run`."
            );
            Diagnostic::new(code::RENAMED_JOB, span_of_job(loaded, job, "/metadata/name"), detail).with_help(help)
        }
        Refusal::UnknownName { job, previous } => {
            let detail = format!(
                "Job `{job}` says that it was named `{previous}`, and nothing is known of that name. What ran under a \
                 name before it would run again."
            );
            let help = format!(
                "List all names that it had: `previousName: [{previous}, …]`. If it never ran, remove `previousName`."
            );
            Diagnostic::new(code::RENAMED_JOB, span_of_job(loaded, job, "/metadata/previousName"), detail)
                .with_help(help)
        }
        Refusal::RenamedEarly { job, old, run } => {
            let detail = format!("Job `{job}` was renamed from `{old}` while run {run} is under way.");
            let help = format!("Name it `{old}` again until the run has ended.");
            Diagnostic::new(code::RENAMED_JOB, span_of_job(loaded, job, "/metadata/name"), detail).with_help(help)
        }
        other => panic!("{other:?} is not about a rename"),
    }
}

fn of_refusal(refusal: &Refusal, preparation: &Preparation<'_>, staged: &[StagedFile]) -> Diagnostic {
    let loaded = preparation.loaded;
    match refusal {
        Refusal::EditedRun { job, run, record } => of_edit(job, run, record.as_deref(), preparation),
        Refusal::Renamed { .. } | Refusal::UnknownName { .. } | Refusal::RenamedEarly { .. } => {
            of_rename(refusal, loaded)
        }
        Refusal::Conflict(conflict) => of_conflict(conflict, loaded),
        Refusal::Unexpected { job, count, expect } => {
            let Expect { min, max } = expect;
            let bounds = bounds_of(*min, *max);
            let detail = format!("Job `{job}` selects {}, and its `expect` allows {bounds}.", devices_of(*count));
            let help = "Correct the target, or `expect` when the number is right.".to_string();
            let span = span_of_job(loaded, job, "/spec/target/expect");
            Diagnostic::new(code::UNEXPECTED_COUNT, span, detail).with_help(help)
        }
        Refusal::UnexpectedImport { import, devices, removed, rejected, expect } => {
            let ImportExpect { min, max, removed: removed_max, rejected: rejected_max } = *expect;
            let (pointer, detail) = match removed_max.filter(|most| removed > most) {
                Some(most) => (
                    "/spec/expect/removed",
                    format!(
                        "Import `{import}` would block or delete {}, and its `expect` allows at most {most}.",
                        devices_of(*removed)
                    ),
                ),
                None if let Some(most) = rejected_max.filter(|most| rejected > most) => (
                    "/spec/expect/rejected",
                    format!("Import `{import}` has {rejected} rejected rows, and its `expect` allows at most {most}."),
                ),
                None => (
                    "/spec/expect",
                    format!(
                        "The file of import `{import}` has {}, and its `expect` allows {}.",
                        devices_of(*devices),
                        bounds_of(min, max)
                    ),
                ),
            };
            let help = "Correct the file, or `expect` when the number is right.".to_string();
            let span = loaded.spans.span_of(Kind::DeviceImport, import, pointer);
            Diagnostic::new(code::UNEXPECTED_COUNT, span, detail).with_help(help)
        }
        Refusal::TooManyBatches { job, count, size } => {
            let (max, batches) = (limits::BATCHES_MAX, count.div_ceil(*size));
            let detail = format!(
                "Job `{job}` cuts {} into {batches} batches of {size}, and a run has at most {max}.",
                devices_of(*count)
            );
            let help = format!("Take batches of at least {}, or a percentage.", count.div_ceil(max));
            let span = span_of_job(loaded, job, "/spec/delivery/batchSize");
            Diagnostic::new(code::TOO_MANY_BATCHES, span, detail).with_help(help)
        }
        Refusal::FitsNone { job, count, mismatched } => templates::fits_none(job, *count, mismatched, preparation),
        Refusal::NothingImported { import, .. } => {
            let file = staged.iter().find(|file| file.import == *import).expect("a refusal is about a staged file");
            nothing_imported(loaded, import, &file.found)
        }
    }
}

fn of_edit(job: &Name, run: &RunToken, record: Option<&RunRecord>, preparation: &Preparation<'_>) -> Diagnostic {
    let state = record.map_or("is under way".to_string(), |record| {
        let counts = &record.counts;
        format!("ended {} with {} completed and {} failed", record.status.as_str(), counts.completed, counts.failed)
    });
    let claim = preparation.ledger.claims.get(&(job.clone(), run.clone()));
    let edit = claim.and_then(|claim| edit_since(preparation, job, &claim.source_commit));
    let mut detail = format!(
        "Run {run} of job `{job}` was claimed with another spec, and it {state}. A run is executed once, as it was \
            claimed."
    );
    let mut pointer = "/spec/run".to_string();
    if let Some(edit) = edit.filter(|edit| !edit.pointers.is_empty()) {
        let fields: Vec<String> = edit.pointers.iter().map(|field| field[1..].replace('/', ".")).collect();
        detail.push_str(&format!("\nChanged since: {}.", fields.join(", ")));
        edit.lines.iter().for_each(|line| detail.push_str(&format!("\n  {line}")));
        pointer = format!("/spec{}", edit.pointers[0]);
    }
    let next = run.as_str().parse::<u64>().map_or("2".to_string(), |number| number.saturating_add(1).to_string());
    let help = format!("To run the job again as it is now, give it a new token: `run: \"{next}\"`.");
    let span = span_of_job(preparation.loaded, job, &pointer);
    Diagnostic::new(code::EDITED_RUN, span, detail).with_help(help)
}

fn of_conflict(conflict: &Conflict, loaded: &Loaded) -> Diagnostic {
    let Conflict { left, right, path, devices, sample } = conflict;
    let more = devices.saturating_sub(sample.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let detail = format!(
        "Jobs `{left}` and `{right}` write `{path}` of the same {} ({}{more}) with different values.",
        devices_of(*devices),
        sample.join(", ")
    );
    let is_schedule = |name: &Name| loaded.schedule(name.as_str()).is_some();
    let help = match [left, right].into_iter().find(|name| is_schedule(name)) {
        // Nothing can come after an occurrence.
        Some(schedule) => format!(
            "`{schedule}` is an occurrence of a schedule: plan again when it has ended (`fleetform job show \
             {schedule}`), or give the other one other devices or values."
        ),
        None => format!("Say which comes first: `after: [{left}]` in job `{right}`, or the other way round."),
    };
    let mut diagnostic =
        Diagnostic::new(code::CONFLICT, span_of_job(loaded, right, "/spec/action"), detail).with_help(help);
    if let Some(span) = span_of_job(loaded, left, "/spec/action") {
        diagnostic = diagnostic.with_label(span, "the other job");
    }
    diagnostic
}

fn of_notice(notice: &Notice, preparation: &Preparation<'_>, staged: &[StagedFile]) -> Diagnostic {
    let loaded = preparation.loaded;
    match notice {
        Notice::EmptyTarget { job } => {
            let detail = format!("Job `{job}` selects no device now; its run will be claimed and completed at once.");
            let help = "Set `expect: {min: 1}` to make this an error.".to_string();
            Diagnostic::new(code::EMPTY_TARGET, span_of_job(loaded, job, "/spec/target"), detail).with_help(help)
        }
        Notice::Unexpected { schedule, count, expect } => of_scheduled(schedule, *count, *expect, loaded),
        Notice::MissingDevices { job, count, sample } => {
            let detail = format!(
                "Job `{job}` names {} that it cannot select, because the registry or its organization does not have \
                    them: {}.",
                devices_of(*count),
                sample.join(", ")
            );
            Diagnostic::new(code::MISSING_DEVICES, span_of_job(loaded, job, "/spec/target/devices"), detail)
        }
        Notice::RejectedRows { import, .. } => {
            let file = staged.iter().find(|file| file.import == *import).expect("a notice is about a staged file");
            let help = format!("After an apply, `fleetform import show {import}` lists them.");
            rejected_rows(loaded, import, &file.found).with_help(help)
        }
        Notice::BranchGone { branch, runs } => {
            let runs = if *runs == 1 { "1 run".to_string() } else { format!("{runs} runs") };
            let detail = format!(
                "The branch `{branch}` is gone, and the registry remembers {runs}: the plan is made of these, and the \
                    next apply \
                 publishes the branch again."
            );
            let help = format!("Where another clone has it, fetch it first: `git fetch origin {branch}:{branch}`.");
            Diagnostic::new(code::BRANCH_GONE, None, detail).with_help(help)
        }
        Notice::NewRegistry { runs } => {
            let are = if *runs == 1 { "1 run is".to_string() } else { format!("{runs} runs are") };
            let detail = format!(
                "This registry is new, and {are} recorded: it has the devices as their files have them, and nothing of \
                    what the jobs \
                 wrote to them, for a run is executed once. It has no journal of a run that is under way."
            );
            let help = "In CI, or in a clone beside a daemon, that is as it should be, and `--registry` names the \
                daemon's. Where the fleet \
                        is applied and the registry was lost, put a backup back before the next apply: what was under \
                        way is not sent again.";
            Diagnostic::new(code::NEW_REGISTRY, None, detail).with_help(help)
        }
        Notice::Mismatches { job, count, mismatched, is_deferred } => {
            templates::fits_some(job, *count, mismatched, *is_deferred, preparation)
        }
        Notice::StrayProperties { job, template, strays } => templates::strays(job, template, strays, loaded),
        Notice::OldToken { job, run, newest } => {
            let detail =
                format!("Run {run} of job `{job}` has ended, and the newest run is {newest}: nothing is sent.");
            let help = "Take a token that was never used to run the job again.".to_string();
            Diagnostic::new(code::OLD_TOKEN, span_of_job(loaded, job, "/spec/run"), detail).with_help(help)
        }
        Notice::GroupResized { job, group, last: (last, run), before, count } => {
            let change = if count > before { "grown" } else { "shrunk" };
            let detail = format!(
                "Group `{group}` of job `{job}` has {change} from {} in run {run} of job `{last}` to {count}.",
                devices_of(*before)
            );
            let help = "Look at who is in it now; when the number is right, say so with `expect`.".to_string();
            Diagnostic::new(code::GROUP_RESIZED, span_of_job(loaded, job, "/spec/target/group"), detail).with_help(help)
        }
    }
}

fn of_scheduled(schedule: &Name, count: u64, expect: Option<Expect>, loaded: &Loaded) -> Diagnostic {
    let would = match expect {
        Some(expect) if !expect.holds(count) => {
            format!(", and its `expect` allows {}: an occurrence does not run then", bounds_of(expect.min, expect.max))
        }
        _ => String::new(),
    };
    let devices = if count == 0 { "no device".to_string() } else { devices_of(count) };
    let detail = format!("Schedule `{schedule}` selects {devices} now{would}.");
    let help = "That may be right: the target is resolved anew at each occurrence. Look at the condition and at \
        `expect`, unless the devices are still to come.";
    Diagnostic::new(code::SCHEDULED_COUNT, span_of_job(loaded, schedule, "/spec/target"), detail)
        .with_help(help.to_string())
}

fn bounds_of(min: Option<u64>, max: Option<u64>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("between {min} and {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => "any number of".to_string(),
    }
}

/// Returns the warning of rows of an import that are rejected.
pub(super) fn rejected_rows(loaded: &Loaded, import: &Name, found: &StagedImport) -> Diagnostic {
    let StagedImport { rejected, rows, .. } = found;
    let are = if *rejected == 1 { "is" } else { "are" };
    let detail = format!("{rejected} of {rows} rows of import `{import}` {are} rejected:{}", row_errors(found));
    Diagnostic::new(code::REJECTED_ROWS, span_of_import(loaded, import), detail)
}

/// Returns the warning of texts that begin or end with a space.
pub(super) fn padded_cells(loaded: &Loaded, import: &Name, found: &StagedImport) -> Option<Diagnostic> {
    let PaddedCell { column, line, text } = found.padded.as_ref()?;
    let (column, text) = (shorten(column, 60), shorten(text, 40));
    let detail = format!(
        "The file of import `{import}` has texts that begin or end with white space, such as {:?} in line {line}, \
         column `{}`.",
        sanitize_line(&text),
        sanitize_line(&column)
    );
    let help = "It is part of the value. Between cells there is a comma and nothing else.";
    let span = span_of_import(loaded, import);
    Some(Diagnostic::new(code::PADDED_CELLS, span, detail).with_help(help.to_string()))
}

/// Returns the error of an import without a row that can be used.
pub(super) fn nothing_imported(loaded: &Loaded, import: &Name, found: &StagedImport) -> Diagnostic {
    let detail = match (found.rows, found.rejected) {
        (0, _) => format!("The file of import `{import}` has no row."),
        (_, 1) => format!("The only row of import `{import}` was rejected:{}", row_errors(found)),
        (_, rejected) => format!("All {rejected} rows of import `{import}` were rejected:{}", row_errors(found)),
    };
    Diagnostic::new(code::NOTHING_IMPORTED, span_of_import(loaded, import), detail)
}

fn row_errors(found: &StagedImport) -> String {
    let shown = found.errors.iter().take(ROWS_SHOWN).map(|error| {
        let id = shorten(&error.device_id, 40).into_owned();
        let id = if id.is_empty() { String::new() } else { format!(" `{}`", sanitize_line(&id)) };
        format!("\n  line {}{id}: {}", error.line, sanitize_line(&error.message))
    });
    let more = found.rejected.saturating_sub(ROWS_SHOWN as u64);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    format!("{}{more}", shown.collect::<String>())
}

fn span_of_job(loaded: &Loaded, job: &Name, pointer: &str) -> Option<Span> {
    loaded.spans.span(job, pointer)
}

fn span_of_import(loaded: &Loaded, import: &Name) -> Option<Span> {
    loaded.spans.span_of(Kind::DeviceImport, import, "/spec/file")
}
