//! What became of jobs: lists, one run with its devices, results as a file.

use super::{Environment, OpsError, Workspace};
use crate::ledger::{Ledger, RunKey, RunRecord};
use crate::model::fleet::Declared;
use crate::model::id::{Name, RunToken};
use crate::model::outcome::{DeviceStatus, RunStatus};
use crate::model::text::matches_wildcard;
use crate::prepare::{read_ledger, records_of};
use crate::registry::{PendingRows, Registry};
use crate::repo::ResultsBranch;
use crate::results::{Row, read_shard};

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    pub status: Option<RunStatus>,
    /// Runs that started (or, when they have not, were claimed) at or after this time.
    pub since: Option<jiff::Timestamp>,
}

/// Which run.
#[derive(Debug, Clone)]
pub struct RunChoice {
    pub job: String,
    /// `None`: the newest.
    pub run: Option<String>,
}

/// Which devices of a run.
#[derive(Debug, Clone, Default)]
pub struct DeviceChoice {
    pub status: Option<DeviceStatus>,
    /// Device ids with `*` and `?`.
    pub pattern: Option<String>,
}

/// A run, with what was claimed.
#[derive(Debug, Clone)]
pub struct ShownRun {
    pub record: RunRecord,
    pub claimed_at: jiff::Timestamp,
}

/// Returns runs, the newest first.
///
/// # Errors
/// The files are invalid, or something cannot be read.
pub fn list(environment: &Environment, filter: &JobFilter) -> Result<Vec<RunRecord>, OpsError> {
    with_history(environment, |history| {
        let mut found: Vec<(jiff::Timestamp, RunRecord)> = Vec::new();
        for record in records_of(&history.ledger) {
            let claimed_at = history.claimed_at(&record);
            let time = record.started_at.unwrap_or(claimed_at);
            let is_wanted = filter.status.is_none_or(|status| record.status == status)
                && filter.since.is_none_or(|since| time >= since);
            if is_wanted {
                found.push((claimed_at, record));
            }
        }
        found.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.1.job.cmp(&right.1.job)));
        Ok(found.into_iter().map(|(_, record)| record).collect())
    })
}

/// Returns one run.
///
/// # Errors
/// There is no such run, or something cannot be read.
pub fn show(environment: &Environment, choice: &RunChoice) -> Result<ShownRun, OpsError> {
    with_history(environment, |history| {
        let record = history.find(choice)?;
        let claimed_at = history.claimed_at(&record);
        Ok(ShownRun { record, claimed_at })
    })
}

/// Calls `visit` for each device of a run that is wanted, sorted by id.
///
/// # Errors
/// There is no such run, or something cannot be read; or the error of `visit`.
pub fn devices(
    environment: &Environment,
    choice: &RunChoice,
    wanted: &DeviceChoice,
    visit: &mut dyn FnMut(Row) -> Result<(), OpsError>,
) -> Result<(), OpsError> {
    with_history(environment, |history| {
        let record = history.find(choice)?;
        let mut failure = None;
        let mut each = |row: Row| {
            let is_wanted = wanted.status.is_none_or(|status| row.status == status)
                && wanted.pattern.as_ref().is_none_or(|pattern| matches_wildcard(pattern, &row.device_id));
            if is_wanted && failure.is_none() {
                failure = visit(row).err();
            }
        };
        if record.status.is_final() {
            history.published_rows(&record, &mut each)?;
        } else {
            history.journaled_rows(&record, &mut each)?;
        }
        failure.map_or(Ok(()), Err)
    })
}

struct History<'a> {
    declared: &'a Declared,
    branch: ResultsBranch<'a>,
    registry: Registry,
    ledger: Ledger,
}

fn with_history<T>(
    environment: &Environment,
    body: impl FnOnce(&History<'_>) -> Result<T, OpsError>,
) -> Result<T, OpsError> {
    let workspace = Workspace::open(environment)?;
    let declared = workspace.declared_somewhere()?;
    let branch = workspace.repo.results(&declared.fleet.results.branch);
    let registry = workspace.open_for_reading(&declared.fleet)?;
    let ledger = read_ledger(&branch, &registry, &declared)?;
    body(&History { declared: &declared, branch, registry, ledger })
}

impl History<'_> {
    fn claimed_at(&self, record: &RunRecord) -> jiff::Timestamp {
        let claim = self.ledger.claims.get(&(record.job.clone(), record.run.clone()));
        claim.map_or(jiff::Timestamp::UNIX_EPOCH, |claim| claim.claimed_at)
    }

    fn find(&self, choice: &RunChoice) -> Result<RunRecord, OpsError> {
        let records = records_of(&self.ledger);
        let of_job: Vec<&RunRecord> = records.iter().filter(|record| record.job.as_str() == choice.job).collect();
        let found = match &choice.run {
            Some(run) => of_job.iter().find(|record| record.run.as_str() == run).copied(),
            None => of_job.iter().max_by_key(|record| self.claimed_at(record)).copied(),
        };
        if let Some(record) = found {
            return Ok(record.clone());
        }
        let runs: Vec<&str> = of_job.iter().map(|record| record.run.as_str()).collect();
        let is_declared = self.declared.jobs.contains_key(choice.job.as_str());
        let names = self.declared.jobs.keys().map(Name::as_str);
        let (what, help) = match &choice.run {
            Some(run) if !runs.is_empty() => {
                (format!("job `{}` has no run {run}", choice.job), format!("Its runs are {}.", runs.join(", ")))
            }
            _ if is_declared => (format!("job `{}` has not run yet", choice.job), "Run `fleetform apply`.".to_string()),
            _ => {
                let near = crate::diag::nearest(&choice.job, names).map(|near| format!("Did you mean `{near}`?"));
                let help = near.unwrap_or_else(|| "`fleetform job list` shows the jobs that have run.".to_string());
                (format!("there is no job `{}`", choice.job), help)
            }
        };
        Err(OpsError::NotFound { what, help })
    }

    fn key(&self, job: &Name, run: &RunToken) -> RunKey {
        RunKey { fleet: self.declared.fleet.name.clone(), job: job.clone(), run: run.clone() }
    }

    fn published_rows(&self, record: &RunRecord, each: &mut dyn FnMut(Row)) -> Result<(), OpsError> {
        let folder = self.key(&record.job, &record.run).results_folder();
        for number in 1..=record.published.shards {
            let path = crate::results::shard_path(&folder, number);
            let missing =
                || crate::repo::RepoError::Malformed { path: path.clone(), what: "it is missing".to_string() };
            let bytes = self.branch.read(&path)?.ok_or_else(missing)?;
            read_shard(&bytes, &mut *each).map_err(|what| crate::repo::RepoError::Malformed { path, what })?;
        }
        Ok(())
    }

    fn journaled_rows(&self, record: &RunRecord, each: &mut dyn FnMut(Row)) -> Result<(), OpsError> {
        let journal = self.registry.open_journal()?;
        let Some(run) = journal.into_iter().find(|run| run.job == record.job && run.run == record.run) else {
            return Ok(());
        };
        let ids = self.registry.targets(run.run_id)?;
        let job = self.declared.jobs.get(&record.job);
        let size = job.and_then(|job| job.delivery.batch_size).map_or(u64::MAX, |s| s.batch_size(u64::from(run.total)));
        self.registry.each_result(run.run_id, &ids, 0..run.total, PendingRows::UnderWay, |row| {
            let outcome = row.outcome;
            each(Row {
                device_id: row.device_id,
                device_name: row.device_name,
                status: outcome.reason.status(),
                reason: outcome.reason,
                code: outcome.code,
                message: outcome.message,
                attempts: outcome.attempts,
                batch: u32::try_from(u64::from(outcome.ordinal) / size + 1).unwrap_or(u32::MAX),
                started_at: outcome.started_at,
                finished_at: outcome.finished_at,
            });
        })?;
        Ok(())
    }
}
