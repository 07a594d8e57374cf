//! One run of a job.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Notes, Page, RunRow};
use crate::model::outcome::{DeviceStatus, Reason};
use crate::model::text::{sanitize_line, shorten};
use crate::ops::job::{self, DeviceChoice, GridChoice, HeldJob, Life, Looked, RunChoice, ShownRun, Source, Why};
use crate::ops::{Environment, OpsError};
use crate::repo::CommitInfo;
use crate::results;
use crate::web::asked::Asked;
use crate::web::fault::Fault;
use crate::web::site::Voice;
use crate::web::table::{Row, Sink};

/// Batches that a page shows; the download has all.
const BATCHES_SHOWN: usize = 200;
/// Runs of the job that a page links to.
const RUNS_SHOWN: usize = 20;
/// Lines around a change that are shown.
const CONTEXT_LINES: usize = 3;

/// The pages `/jobs/{name}` and `/jobs/{name}/runs/{run}`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Job {
    pub job: String,
    /// The run token.
    pub run: String,
    /// The numbers of the run; null when it has not been claimed.
    pub progress: Option<RunRow>,
    /// Whether it goes on, a sentence; null when the status says it.
    pub life: Option<String>,
    pub claimed_at: Option<String>,
    /// Answers that came after the outcome of their device, which stays.
    pub late: u64,
    /// Why it is where it is, as `job show --why` says it.
    pub why: Vec<CauseOf>,
    /// The same, a sentence or a table a line.
    pub why_text: String,
    /// How many devices failed for each reason, the most frequent first.
    pub failures: Vec<FailureRow>,
    /// The first of them.
    pub batches: Vec<BatchRow>,
    pub batches_total: u64,
    /// What the grid is filtered by; null for any.
    pub status: Option<String>,
    pub reason: Option<String>,
    /// A device id with `*` and `?`.
    pub device: Option<String>,
    /// The devices, sorted by id.
    pub devices: Vec<DeviceRow>,
    /// The address of the next page of devices; null on the last one.
    pub next: Option<String>,
    /// The commit that the run was claimed from.
    pub source_commit: Option<String>,
    /// What declared it; null where that is not in this repository.
    pub source: Option<SourceOf>,
    /// The newest runs of the job.
    pub runs: Vec<String>,
    /// It can be stopped here: it is declared, goes on and has not ended, and these pages have actions.
    pub can_stop: bool,
    /// What stopped it; null when it is not stopped, or that is not known.
    pub stop: Option<StopOf>,
    #[serde(flatten)]
    pub notes: Notes,
}

/// A cause: a word, and the members that `docs/why.md` lists.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CauseOf {
    pub cause: String,
    #[serde(flatten)]
    pub members: Map<String, Value>,
}

/// Failed devices of one reason.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FailureRow {
    pub reason: String,
    pub devices: u64,
}

/// A batch, counted from 1.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BatchRow {
    pub batch: u64,
    pub total: u64,
    pub completed: u64,
    pub failed: u64,
    pub pending: u64,
    pub unchanged: u64,
}

/// A device of a run, with the columns of the results.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DeviceRow {
    pub device_id: String,
    pub device_name: String,
    /// `pending`, `completed` or `failed`.
    pub status: String,
    pub reason: String,
    pub code: Option<u16>,
    pub message: String,
    pub attempts: u32,
    pub batch: u32,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
}

/// The newest commit of the file of a job that was stopped.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StopOf {
    pub commit: String,
    pub author: String,
    pub subject: String,
    /// Who asked for it on a page; null when it was not done there.
    pub asked_by: Option<String>,
    /// Why, in their words; null when it was not done there.
    pub why: Option<String>,
}

/// What declared a run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SourceOf {
    /// The file, from the fleet's folder.
    pub file: String,
    /// What it had at the commit of the run.
    pub text: String,
    /// The commit that changed the file last; null where that is not known.
    pub commit: Option<String>,
    pub author: Option<String>,
    pub subject: Option<String>,
    /// The number of the pull or merge request that its message names, such as `#12` or `!12`.
    pub request: Option<String>,
    /// What that commit changed in the file, as a unified diff.
    pub diff: Option<String>,
}

impl Page for Job {
    const TEMPLATE: &'static str = "job.html";
    const PARAMETERS: &'static [&'static str] = &["status", "reason", "device", "after", "limit", "table", "note"];
    const IS_LIVE: bool = true;

    fn title(&self) -> String {
        match self.run.is_empty() {
            true => format!("Job {}", self.job),
            false => format!("Job {} run {}", self.job, self.run),
        }
    }

    fn about(&self) -> Option<(&str, &str)> {
        Some((&self.job, &self.run))
    }
}

impl Row for DeviceRow {
    const COLUMNS: &'static [&'static str] = &results::SHARD_HEADER;
}

impl Row for BatchRow {
    const COLUMNS: &'static [&'static str] = &["batch", "total", "completed", "failed", "pending", "unchanged"];
}

impl Row for FailureRow {
    const COLUMNS: &'static [&'static str] = &["reason", "devices"];
}

impl From<results::Row> for DeviceRow {
    fn from(row: results::Row) -> DeviceRow {
        DeviceRow {
            device_id: row.device_id,
            device_name: row.device_name,
            status: row.status.as_str().to_string(),
            reason: row.reason.as_str().to_string(),
            code: row.code,
            message: row.message,
            attempts: row.attempts,
            batch: row.batch,
            started_at: row.started_at.map(|at| at.to_string()),
            finished_at: row.finished_at.map(|at| at.to_string()),
        }
    }
}

/// What the grid is filtered by.
struct Filter {
    status: Option<DeviceStatus>,
    reason: Option<Reason>,
    pattern: Option<String>,
}

impl Filter {
    fn of(asked: &Asked) -> Result<Filter, Fault> {
        let reasons = Reason::ALL.map(Reason::as_str).join(", ");
        Ok(Filter {
            status: asked.word("status", DeviceStatus::parse, "pending, completed, failed")?,
            reason: asked.word("reason", Reason::parse, &reasons)?,
            pattern: asked.text("device"),
        })
    }
}

/// The tables of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Batches,
    Devices,
    Failures,
}

impl Table {
    fn of(asked: &Asked) -> Result<Table, Fault> {
        let parse = |word: &str| match word {
            "batches" => Some(Table::Batches),
            "devices" => Some(Table::Devices),
            "failures" => Some(Table::Failures),
            _ => None,
        };
        Ok(asked.word("table", parse, "batches, devices, failures")?.unwrap_or(Table::Devices))
    }
}

/// Reads the page of a run, the newest when `run` is `None`. With `has_actions` it may be stopped from here.
///
/// # Errors
/// There is no such run, what is asked for cannot be understood, or the fleet cannot be read.
pub fn read(
    environment: &Environment,
    (name, run): (&str, Option<&str>),
    asked: &Asked,
    (voice, has_actions): (Voice, bool),
) -> Result<Job, Fault> {
    // A page has all of them, and a download one.
    Table::of(asked)?;
    let Filter { status, reason, pattern } = Filter::of(asked)?;
    let wanted = GridChoice { after: asked.text("after"), status, reason, pattern, limit: asked.limit()? };
    let choice = RunChoice { job: name.to_string(), run: run.map(str::to_string) };
    let mut notes = Notes::default();
    let page = match job::look(environment, &choice, &wanted, &mut |caveats| notes.take(caveats)) {
        Ok(looked) => of_run(looked, &wanted, asked, voice),
        // It may be declared, and wait to be claimed.
        Err(error @ OpsError::NotFound { .. }) => match job::why(environment, &choice, asked.now, &mut |_| ()) {
            Ok(why) => of_plan(&why, voice),
            Err(_) => match job::held(environment, name, run)? {
                Some(held) => of_held(held),
                None => return Err(error.into()),
            },
        },
        Err(error) => return Err(error.into()),
    };
    Ok(Job { notes, can_stop: page.can_stop && has_actions, ..page })
}

fn of_plan(why: &Why, voice: Voice) -> Job {
    Job {
        why: causes(why, voice),
        why_text: (voice.why)(why),
        can_stop: true,
        ..unclaimed(why.job.to_string(), why.run.to_string(), "It has not run yet.".to_string())
    }
}

fn of_held(held: HeldJob) -> Job {
    let HeldJob { job, run, hold } = held;
    let place = hold.place.map_or_else(String::new, |place| format!("{}:{}: ", place.path, place.line));
    Job {
        why_text: format!("{place}{}", hold.why),
        ..unclaimed(job.to_string(), run.unwrap_or_default(), "It is held, and has not run.".to_string())
    }
}

/// Returns the page of a job that was not claimed.
fn unclaimed(job: String, run: String, life: String) -> Job {
    Job {
        job,
        run,
        progress: None,
        life: Some(life),
        claimed_at: None,
        late: 0,
        why: Vec::new(),
        why_text: String::new(),
        failures: Vec::new(),
        batches: Vec::new(),
        batches_total: 0,
        status: None,
        reason: None,
        device: None,
        devices: Vec::new(),
        next: None,
        source_commit: None,
        source: None,
        runs: Vec::new(),
        can_stop: false,
        stop: None,
        notes: Notes::default(),
    }
}

fn of_run(looked: Looked, wanted: &GridChoice, asked: &Asked, voice: Voice) -> Job {
    let Looked { shown, why, grid, source, runs, is_declared, is_suspended, suspended_by } = looked;
    let ShownRun { record, life, claimed_at, failures } = shown;
    let batches = record.per_batch.iter().enumerate().take(BATCHES_SHOWN);
    Job {
        job: record.job.to_string(),
        run: record.run.to_string(),
        life: life_of(&life),
        claimed_at: Some(claimed_at.to_string()),
        late: record.late,
        why: causes(&why, voice),
        why_text: (voice.why)(&why),
        failures: failures
            .iter()
            .map(|(reason, devices)| FailureRow { reason: reason.as_str().to_string(), devices: *devices })
            .collect(),
        batches: batches.map(|(at, batch)| batch_row(at, &batch.counts)).collect(),
        batches_total: record.per_batch.len() as u64,
        status: wanted.status.map(|status| status.as_str().to_string()),
        reason: wanted.reason.map(|reason| reason.as_str().to_string()),
        device: wanted.pattern.clone(),
        devices: grid.rows.into_iter().map(DeviceRow::from).collect(),
        next: grid.next.map(|id| asked.address(&[("after", &id)])),
        source_commit: Some(record.source_commit.clone()),
        source: source.map(source_of),
        runs: runs.into_iter().take(RUNS_SHOWN).collect(),
        can_stop: is_declared && !is_suspended && !record.status.is_final(),
        stop: suspended_by.map(stop_of),
        progress: Some(RunRow::of(&record, &life)),
        notes: Notes::default(),
    }
}

fn causes(why: &Why, voice: Voice) -> Vec<CauseOf> {
    let document = (voice.causes)(why);
    let causes = document["why"].as_array().cloned().unwrap_or_default();
    let cause = |value: Value| {
        let mut members = value.as_object().cloned()?;
        let cause = members.remove("cause")?.as_str()?.to_string();
        Some(CauseOf { cause, members })
    };
    causes.into_iter().filter_map(cause).collect()
}

fn batch_row(at: usize, counts: &crate::model::outcome::Counts) -> BatchRow {
    BatchRow {
        batch: at as u64 + 1,
        total: counts.total,
        completed: counts.completed,
        failed: counts.failed,
        pending: counts.pending(),
        unchanged: counts.unchanged,
    }
}

fn life_of(life: &Life) -> Option<String> {
    Some(match life {
        Life::Over => return None,
        Life::AtWork(worker) => format!("At work: {worker}."),
        Life::Interrupted => "Nothing works on it now; the next apply or the daemon resumes it.".to_string(),
        Life::Waiting => "It waits for devices; an apply or the daemon serves those that come online.".to_string(),
        Life::Elsewhere => "It is with another registry, as of the last fetch.".to_string(),
    })
}

fn source_of(source: Source) -> SourceOf {
    let Source { file, text, change, before } = source;
    let diff = change.as_ref().map(|_| {
        let diff = similar::TextDiff::from_lines(before.as_deref().unwrap_or(""), &text);
        diff.unified_diff().context_radius(CONTEXT_LINES).to_string()
    });
    SourceOf {
        file,
        text,
        commit: change.as_ref().map(|change| change.id.clone()),
        author: change.as_ref().map(author_of),
        subject: change.as_ref().map(|change| change.subject.clone()),
        request: change.as_ref().and_then(|change| request_of(&change.message)),
        diff,
    }
}

/// Returns the name of an author: an address is of no use to who looks at a page.
fn author_of(change: &CommitInfo) -> String {
    let name = change.author.split(" <").next().unwrap_or_default();
    shorten(&sanitize_line(name), 100).into_owned()
}

fn stop_of(change: CommitInfo) -> StopOf {
    let asked_by = change.trailer("Fleetform-Asked-By");
    let body = change.message.split("\n\n").nth(1).filter(|_| asked_by.is_some());
    StopOf {
        author: author_of(&change),
        why: body.map(str::to_string),
        asked_by,
        commit: change.id,
        subject: change.subject,
    }
}

/// Returns the pull or merge request that a commit's message names: GitHub's and Gitea's `(#12)` and
/// `Merge pull request #12`, GitLab's `See merge request group/project!12`.
fn request_of(message: &str) -> Option<String> {
    let digits = |text: &str| {
        let digits: String = text.chars().take_while(char::is_ascii_digit).take(10).collect();
        (!digits.is_empty()).then_some(digits)
    };
    let subject = message.lines().next().unwrap_or_default();
    if let Some((_, rest)) = subject.split_once("ull request #").or_else(|| subject.rsplit_once("(#")) {
        return Some(format!("#{}", digits(rest)?));
    }
    let line = message.lines().find(|line| line.trim_start().starts_with("See merge request "))?;
    Some(format!("!{}", digits(line.rsplit_once('!')?.1)?))
}

/// Writes a whole table: `batches`, `failures`, or else the devices that fit.
///
/// # Errors
/// As [`read`].
pub fn write(
    environment: &Environment,
    (name, run): (&str, Option<&str>),
    asked: &Asked,
    sink: &mut Sink,
) -> Result<(), Fault> {
    let choice = RunChoice { job: name.to_string(), run: run.map(str::to_string) };
    match Table::of(asked)? {
        Table::Batches => {
            let shown = job::show(environment, &choice, &mut |_| ())?;
            sink.begin::<BatchRow>()?;
            let batches = shown.record.per_batch.iter().enumerate();
            Ok(batches.map(|(at, batch)| batch_row(at, &batch.counts)).try_for_each(|row| sink.push(&row))?)
        }
        Table::Failures => {
            let shown = job::show(environment, &choice, &mut |_| ())?;
            sink.begin::<FailureRow>()?;
            let rows = shown.failures.iter();
            let row = |(reason, devices): &(Reason, u64)| FailureRow {
                reason: reason.as_str().to_string(),
                devices: *devices,
            };
            Ok(rows.map(row).try_for_each(|row| sink.push(&row))?)
        }
        Table::Devices => {
            let Filter { status, reason, pattern } = Filter::of(asked)?;
            let wanted = DeviceChoice { status, pattern };
            sink.begin::<DeviceRow>()?;
            let mut visit = |row: results::Row| match reason.is_none_or(|reason| row.reason == reason) {
                true => sink.push(&DeviceRow::from(row)),
                false => Ok(()),
            };
            Ok(job::devices(environment, &choice, &wanted, &mut |_| (), &mut visit)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_of_a_commit_is_the_one_that_its_message_names() {
        let check = |message: &str, expect: Option<&str>| {
            assert_eq!(request_of(message).as_deref(), expect, "{message}");
        };
        check("Dim line 3 (#12)", Some("#12"));
        check("Merge pull request #7 from ann/dim\n\nDim line 3", Some("#7"));
        check("Merge branch 'dim' into 'main'\n\nDim\n\nSee merge request acme/fleet!41", Some("!41"));
        check("Fix (#none)", None);
        check("Plain", None);
        check("", None);
    }
}
