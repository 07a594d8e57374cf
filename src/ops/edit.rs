//! Stop, continue, copy and rerun a job, unschedule and reschedule a schedule: edits of its YAML, committed unless told
//! otherwise. Nothing is sent here; `apply` and the daemon act on the commit.

mod missing;
mod passed_over;
mod pushed;

use super::{Environment, OpsError, Workspace};
use crate::ledger::{Ledger, RunRecord, Standing};
use crate::manifest::edit::{self, EditError};
use crate::model::access::Sight;
use crate::model::fleet::Declared;
use crate::model::id::{Name, RunToken};
use crate::model::job::{Job, Left};
use crate::model::kind::Kind;
use crate::model::limits;
use crate::model::outcome::RunStatus;
use crate::model::text::sanitize_line;
use crate::prepare::{Files, OnError, PrepareError, TreeChoice, View, records_of, with_schema_line};
use crate::repo::FleetTree;
use missing::{no_job, no_schedule};
use passed_over::refuse_passed_over;

/// What to do to a job or schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// `suspend: true`: no new device starts, those in flight finish.
    Stop,
    /// `suspend: false`: it goes on with its pending devices.
    Continue,
    /// A new job beside it; `None` names it after the old one, with `-copy`.
    Copy { new_name: Option<String> },
    /// A new job on the devices that a run left failed or pending; `None` takes the newest one that has ended, and
    /// `-rerun`.
    Rerun { run: Option<String>, left: Left, new_name: Option<String> },
    /// `suspend: true` of a schedule: no occurrence starts, one that is under way goes on.
    Unschedule,
    /// `suspend: false` of a schedule: the occurrences to come start again.
    Reschedule,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The file that was written, relative to the fleet's folder.
    pub file: String,
    /// The job or schedule that it is about: the new one of a copy or rerun.
    pub name: Name,
    /// `None` when it was not asked for.
    pub commit: Option<String>,
    /// The branch that the commit was pushed to for a review: the followed one does not take it. `None` when it counts
    /// already.
    pub proposed: Option<String>,
    /// False when the file said so already.
    pub has_changed: bool,
    /// How many documents and files have errors.
    pub held: usize,
    /// The git remote that the fleet's results are pushed to.
    pub remote: Option<String>,
    /// Devices are connected to the fleet's gateway: an apply reaches none of them.
    pub has_gateway: bool,
}

impl Edited {
    /// Returns that a file says so already.
    fn unchanged(file: &str, name: &Name) -> Edited {
        Edited {
            file: file.to_string(),
            name: name.clone(),
            commit: None,
            proposed: None,
            has_changed: false,
            held: 0,
            remote: None,
            has_gateway: false,
        }
    }
}

/// Who wants something done, and why.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The run that is meant, by its token.
    pub run: &'a str,
    /// The branch that a daemon follows here, such as `main`; `None` where none does, or where it follows another
    /// repository.
    pub followed: Option<&'a str>,
    pub who: &'a str,
    pub reason: &'a str,
}

impl Wish<'_> {
    /// Returns what it adds to a commit's message, behind the subject.
    fn body(&self) -> String {
        format!("\n\n{}\n\nFleetform-Asked-By: {}\n", sanitize_line(self.reason), sanitize_line(self.who))
    }
}

/// Stops a job for somebody, with one commit that says who and why.
///
/// # Errors
/// As [`edit()`], and [`OpsError::Held`] when the job has another run by now.
pub fn stop_for(environment: &Environment, name: &str, wish: Wish<'_>) -> Result<Edited, OpsError> {
    edit_with(environment, name, &Edit::Stop, true, Some(wish))
}

/// Refuses a commit that a daemon would not see: another branch is checked out than the one that it follows.
fn refuse_other_branch(workspace: &Workspace, followed: &str) -> Result<(), OpsError> {
    let checked_out = workspace.repo.head_branch();
    if checked_out.as_deref() == Some(followed) {
        return Ok(());
    }
    let shown = |name: &str| crate::diag::shown(name).to_string();
    let checked_out = checked_out.map_or_else(|| "no branch".to_string(), |name| format!("`{}`", shown(&name)));
    Err(OpsError::Held {
        what: format!(
            "the daemon follows `{}`, and {checked_out} is checked out in its folder: a commit there would stop \
             nothing",
            shown(followed)
        ),
        help: format!(
            "Check out `{}` in that folder and stop it again, or commit `suspend: true` to that branch.",
            shown(followed)
        ),
    })
}

/// Edits a job or a schedule.
///
/// # Errors
/// The folder is a mirror, its own document is invalid, there is no such job or schedule, its file cannot be edited
/// safely or has changes that are not committed.
pub fn edit(environment: &Environment, name: &str, edit: &Edit, commits: bool) -> Result<Edited, OpsError> {
    edit_with(environment, name, edit, commits, None)
}

/// Edits a job or a schedule; `wish` is whose and which run's stop it is.
fn edit_with(
    environment: &Environment,
    name: &str,
    edit: &Edit,
    commits: bool,
    wish: Option<Wish<'_>>,
) -> Result<Edited, OpsError> {
    let workspace = Workspace::open(environment)?;
    if workspace.repo.is_mirror() {
        if let (Edit::Stop, Some(wish)) = (edit, wish) {
            return pushed::stop(&workspace, environment, name, wish);
        }
        return Err(OpsError::Usage {
            what: format!("{}: no file is edited here", workspace.repo.is_a_mirror()),
            help: "This is the folder of a daemon. Do it in a clone of that repository, and push.".to_string(),
        });
    }
    if let Some(followed) = wish.and_then(|wish| wish.followed) {
        refuse_other_branch(&workspace, followed)?;
    }
    let files = files_to_edit(&workspace, TreeChoice::WorkTree, name, &environment.sight)?;
    let edited = match edit {
        Edit::Stop => suspend(&workspace, &files, name, (true, wish), commits),
        Edit::Continue => suspend(&workspace, &files, name, (false, None), commits),
        Edit::Unschedule => unschedule(&workspace, &files, name, true, commits),
        Edit::Reschedule => unschedule(&workspace, &files, name, false, commits),
        Edit::Copy { new_name } => derive(&workspace, &files, name, (new_name.as_deref(), None), commits),
        Edit::Rerun { run, left, new_name } => {
            derive(&workspace, &files, name, (new_name.as_deref(), Some((run, *left))), commits)
        }
    }?;
    let fleet = files.declared.as_ref().map(|declared| &declared.fleet);
    let remote = fleet.and_then(|fleet| fleet.results.remote.clone());
    let has_gateway = fleet.is_some_and(|fleet| fleet.link.hub().is_some());
    Ok(Edited { held: files.held.count(), remote, has_gateway, ..edited })
}

/// Reads the files in which something of a name is to be edited.
///
/// # Errors
/// They cannot be read, or it may not be looked at.
fn files_to_edit<'w>(
    workspace: &'w Workspace,
    choice: TreeChoice<'_>,
    name: &str,
    sight: &Sight,
) -> Result<Files<'w>, OpsError> {
    let mut files = Files::read(workspace, choice, OnError::Hold)?;
    // What is wrong with the tree as a whole is wrong with every edit.
    if files.declared().is_err() && files.held.count() == 0 && !files.held.is_partial {
        files.declared = None;
    }
    refuse_unseen(&files, name, sight)?;
    Ok(files)
}

/// Refuses a job that may not be looked at, and where some may not one of which that is not known.
fn refuse_unseen(files: &Files<'_>, name: &str, sight: &Sight) -> Result<(), OpsError> {
    let declared = files.declared.as_ref();
    let job = declared.and_then(|declared| declared.path_of(declared.jobs.get(name)?.organization.as_ref()));
    if sight.has(job) {
        return Ok(());
    }
    Err(OpsError::NotFound {
        what: format!("there is no job `{}` that you may see", crate::diag::shown(name)),
        help: "Your grants say whose jobs you see.".to_string(),
    })
}

/// Writes a new job beside another one: a copy, or with a run (the newest one that has ended for `None`) one of the
/// devices that it left.
fn derive(
    workspace: &Workspace,
    files: &Files<'_>,
    name: &str,
    (new_name, rerun_of): (Option<&str>, Option<(&Option<String>, Left)>),
    commits: bool,
) -> Result<Edited, OpsError> {
    let (tree, declared) = (&files.tree, files.usable()?);
    let Some(job) = declared.jobs.get(name) else {
        return Err(no_job(files, name));
    };
    let text = editable(workspace, tree, &job.file, commits)?;
    let ledger = View::of_files(workspace, files.clone())?.ledger;
    let free = |word| free_name(new_name, &job.name, word, &|name| taken(name, files, declared, &ledger));
    let (file, written, target, subject) = match rerun_of {
        None => {
            let target = free("copy")?;
            let written = edit::copy(&text, &job.name, &target).map_err(|e| cannot(&job.file, &e))?;
            let subject = format!("job {target}: copy of {}", job.name);
            (beside(job, &target), written, target, subject)
        }
        Some((run, left)) => {
            let target = free("rerun")?;
            let run = source_run(&ledger, job, left, run.as_deref())?;
            let written = edit::rerun(&text, &job.name, (&run, left), &target).map_err(|e| cannot(&job.file, &e))?;
            let subject = format!("job {target}: the {} devices of {} run {run}", left.word(), job.name);
            (beside(job, &target), written, target, subject)
        }
    };
    if tree.entries.contains_key(&file) {
        let help = "Name the new job otherwise.".to_string();
        return Err(OpsError::Usage { what: format!("{file} exists already"), help });
    }
    let written = with_schema_line(workspace.repo.folder(), &file, written);
    write(workspace, file, written, target, &subject, commits)
}

/// A job's file as it is to be.
struct Suspended {
    file: String,
    name: Name,
    /// `None` when it says so already.
    written: Option<String>,
    /// Of the commit.
    message: String,
}

/// Stops or continues a job.
fn suspend(
    workspace: &Workspace,
    files: &Files<'_>,
    name: &str,
    (stops, wish): (bool, Option<Wish<'_>>),
    commits: bool,
) -> Result<Edited, OpsError> {
    let Suspended { file, name, written, message } = suspended(workspace, files, name, (stops, wish), commits)?;
    if wish.is_some() {
        // The commit will be one on that.
        refuse_passed_over(&Files::read_all(workspace, TreeChoice::Head, OnError::Hold)?, &workspace.repo.head()?)?;
    }
    match written {
        Some(written) => write(workspace, file, written, name, &message, commits),
        None => Ok(Edited::unchanged(&file, &name)),
    }
}

/// Returns the file of a job that is stopped or goes on. What is wrong with other files is no reason not to: a stop may
/// be urgent.
fn suspended(
    workspace: &Workspace,
    files: &Files<'_>,
    name: &str,
    (stops, wish): (bool, Option<Wish<'_>>),
    commits: bool,
) -> Result<Suspended, OpsError> {
    let Some(seen) = files.loaded.job(name) else {
        return Err(no_job(files, name));
    };
    let job = &seen.name;
    let verb = if stops { "stop" } else { "continue" };
    if let Some(Wish { run, .. }) = wish.filter(|wish| wish.run != seen.run.as_str()) {
        return Err(OpsError::Held {
            what: format!("job `{job}` has run {} now, and {} was meant", seen.run, sanitize_line(run)),
            help: "Look at the run that it has now, and stop that one.".to_string(),
        });
    }
    if files.declared.is_some() {
        refuse_ended(workspace, files, (job, &seen.run), (verb, wish.is_some()))?;
    }
    let text = editable(workspace, &files.tree, &seen.file, commits)?;
    let written = edit::set_suspend(&text, Kind::Job, job, stops).map_err(|e| cannot(&seen.file, &e))?;
    Ok(Suspended {
        file: seen.file.clone(),
        name: job.clone(),
        written: (written != text).then_some(written),
        message: format!("job {job}: {verb}{}", wish.map_or_else(String::new, |wish| wish.body())),
    })
}

/// Unschedules or reschedules. What is wrong with other files is no reason not to.
fn unschedule(
    workspace: &Workspace,
    files: &Files<'_>,
    name: &str,
    stops: bool,
    commits: bool,
) -> Result<Edited, OpsError> {
    let Some((schedule, file)) = files.loaded.schedule(name) else {
        return Err(no_schedule(files, name));
    };
    let text = editable(workspace, &files.tree, file, commits)?;
    let written = edit::set_suspend(&text, Kind::Schedule, schedule, stops).map_err(|e| cannot(file, &e))?;
    if written == text {
        return Ok(Edited::unchanged(file, schedule));
    }
    let verb = if stops { "unschedule" } else { "reschedule" };
    let subject = format!("schedule {schedule}: {verb}");
    write(workspace, file.to_string(), written, schedule.clone(), &subject, commits)
}

/// Refuses to stop or continue a run that has ended. While the history cannot be trusted nobody knows that, and nothing
/// is refused. A wish comes from a page that showed the run going on: the job is there, and its run may have ended.
fn refuse_ended(
    workspace: &Workspace,
    files: &Files<'_>,
    (job, run): (&Name, &RunToken),
    (verb, is_wished): (&str, bool),
) -> Result<(), OpsError> {
    let ledger = match View::of_files(workspace, files.clone()) {
        Ok(view) => view.ledger,
        Err(PrepareError::History(_) | PrepareError::Repo(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let Standing::Ended(_, record) = ledger.standing(job, run) else { return Ok(()) };
    let help = match record.counts.failed {
        0 => "To run it again, give it a new `run` token.".to_string(),
        _ => format!(
            "To run it again, give it a new `run` token; on the devices that failed: `fleetform job rerun {job}`."
        ),
    };
    let status = record.status.as_str();
    let what = format!("job `{job}` run {run} was {status}: there is nothing to {verb}");
    Err(if is_wished { OpsError::Held { what, help } } else { OpsError::NotFound { what, help } })
}

/// Returns the text of a file that may be edited.
fn editable(workspace: &Workspace, tree: &FleetTree<'_>, file: &str, commits: bool) -> Result<String, OpsError> {
    let bytes = tree.read(file, limits::YAML_FILE_BYTES_MAX as u64)?;
    let text = String::from_utf8(bytes).map_err(|_| unusual(file, "it is not UTF-8"))?;
    if commits && !workspace.repo.is_committed(tree, file)? {
        return Err(OpsError::Held {
            what: format!("{file} has changes that are not committed"),
            help: "Commit them first, or add --no-commit to edit the file only.".to_string(),
        });
    }
    Ok(text)
}

/// Writes a file and commits it alone, if that is wanted.
fn write(
    workspace: &Workspace,
    file: String,
    written: String,
    name: Name,
    subject: &str,
    commits: bool,
) -> Result<Edited, OpsError> {
    let path = workspace.repo.folder().join(&file);
    std::fs::write(&path, written)
        .map_err(|source| OpsError::Output { what: format!("{} cannot be written", path.display()), source })?;
    let commit = if commits { Some(workspace.repo.commit_files(std::slice::from_ref(&file), subject)?) } else { None };
    Ok(Edited { commit, has_changed: true, ..Edited::unchanged(&file, &name) })
}

fn cannot(file: &str, error: &EditError) -> OpsError {
    unusual(file, &error.to_string())
}

fn unusual(file: &str, why: &str) -> OpsError {
    OpsError::NotFound {
        what: format!("{file} was not changed: {why}"),
        help: "Edit the file by hand; `fleetform plan` shows what it means.".to_string(),
    }
}

/// Returns why a name cannot be that of a new job; `None` when it can. A job of a name whose run was claimed would
/// never run.
fn taken(name: &Name, files: &Files<'_>, declared: &Declared, ledger: &Ledger) -> Option<String> {
    let is_held = files.held.documents.keys().any(|(_, held)| held == name);
    if is_held || declared.has_runs_named(name.as_str()) {
        return Some(format!("there is a job or schedule `{name}` already"));
    }
    let claims = ledger.claims_of(name);
    claims.last().map(|claim| format!("a job `{name}` was there before, and its run {} was claimed", claim.run))
}

/// Returns the chosen name, or the old one with a word behind it, and a number when that is taken.
fn free_name(
    chosen: Option<&str>,
    old: &Name,
    word: &str,
    taken: &dyn Fn(&Name) -> Option<String>,
) -> Result<Name, OpsError> {
    let usage = |what: String| OpsError::Usage { what, help: "Choose another name.".to_string() };
    if let Some(chosen) = chosen {
        let name =
            Name::parse(chosen).map_err(|error| usage(format!("the name `{}` {error}", crate::diag::shown(chosen))))?;
        return taken(&name).map_or(Ok(name), |why| Err(usage(why)));
    }
    for number in 1..1_000 {
        let suffix = if number == 1 { format!("-{word}") } else { format!("-{word}-{number}") };
        let kept: String = old.as_str().chars().take(limits::NAME_CHARS_MAX - suffix.len()).collect();
        let candidate = format!("{}{suffix}", kept.trim_end_matches('-'));
        if let Ok(name) = Name::parse(&candidate)
            && taken(&name).is_none()
        {
            return Ok(name);
        }
    }
    Err(usage(format!("job `{old}` has too many of them")))
}

fn beside(job: &Job, target: &Name) -> String {
    match job.file.rfind('/') {
        Some(at) => format!("{}/{target}.yaml", &job.file[..at]),
        None => format!("{target}.yaml"),
    }
}

/// Returns the run whose devices a rerun takes: the chosen one, else the newest that has ended, or for its pending
/// devices was stopped.
fn source_run(ledger: &Ledger, job: &Job, left: Left, chosen: Option<&str>) -> Result<RunToken, OpsError> {
    let names = ledger.names_of(&job.name, &job.previous_names);
    let is_over = |status: RunStatus| status.is_final() || left == Left::Pending && status == RunStatus::Stopped;
    let records = records_of(ledger);
    let over = records.iter().filter(|record| names.contains(&record.job) && is_over(record.status));
    let mut over: Vec<&RunRecord> = over.filter(|record| chosen.is_none_or(|run| record.run.as_str() == run)).collect();
    over.sort_by_key(|record| {
        ledger.claims.get(&(record.job.clone(), record.run.clone())).map(|claim| claim.claimed_at)
    });
    let Some(record) = over.last() else {
        return Err(OpsError::NotFound {
            what: format!("job `{}` has no such run that has ended", job.name),
            help: "`fleetform job list` shows the runs.".to_string(),
        });
    };
    let (what, devices) = match left {
        Left::Failed => ("no device failed in", record.counts.failed),
        Left::Pending => ("no device is pending in", record.counts.pending()),
    };
    if devices > 0 {
        return Ok(record.run.clone());
    }
    Err(OpsError::NotFound {
        what: format!("{what} job `{}` run {}", job.name, record.run),
        help: "There is nothing to run again. To run the whole job again, give it a new `run` token.".to_string(),
    })
}
