//! What is known of runs: the ledger, and the devices of a run from wherever they are.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use super::{Environment, Fitting, Life, OpsError, RunChoice, Workspace};
use crate::execute::{Clock as _, SystemClock};
use crate::ledger::{RunKey, RunRecord};
use crate::model::access::{Sight, is_within};
use crate::model::digest::Digest;
use crate::model::id::{Name, RunToken};
use crate::model::job::Job;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::model::observation::DeviceIds;
use crate::model::outcome::{Counts, DeviceStatus, Reason, RunStatus};
use crate::model::schedule::occurrence_instant;
use crate::model::text::matches_wildcard;
use crate::prepare::{
    Caveats, FailedDevice, Files, OnError, RunFailures, TreeChoice, View, open_records, organization_said, record_in,
    remembered_rows,
};
use crate::registry::{JournaledRun, PendingRows};
use crate::repo::{BlobId, RepoError, ResultsFolder};
use crate::results::{Row, first_id, read_failed, read_shard_from};

/// The runs of a fleet.
pub(super) struct History<'a> {
    pub view: View<'a>,
    /// The process that works on the fleet now.
    worker: Option<String>,
    /// Which runs are shown.
    sight: Sight,
    /// The runs that are open.
    open: BTreeMap<(Name, RunToken), RunRecord>,
    /// The results of all runs, once they were looked for; `None` when the branch is gone.
    folder: OnceCell<Option<ResultsFolder<'a>>>,
}

/// Opens the history of a fleet for a look at it, and tells first what the look does not show.
pub(super) fn with_history<T>(
    environment: &Environment,
    tell: &mut dyn FnMut(&Caveats),
    body: impl FnOnce(&History<'_>) -> Result<T, OpsError>,
) -> Result<T, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let branch = workspace.repo.results(&files.usable()?.fleet.results.branch);
    let held = files.held_within(&environment.sight, files.usable()?);
    tell(&Caveats::of(held, &branch)?);
    let view = View::of_files(&workspace, files)?;
    let worker = workspace.worker(&view.declared.fleet, &view.branch, SystemClock.now())?;
    let (open, sight) = (open_records(&view.ledger), environment.sight.clone());
    body(&History { view, worker, sight, open, folder: OnceCell::new() })
}

impl<'a> History<'a> {
    /// Returns whether a run goes on now.
    pub(super) fn life(&self, record: &RunRecord) -> Life {
        if record.status.is_final() || record.status == RunStatus::Stopped {
            return Life::Over;
        }
        if let Some(worker) = &self.worker {
            return Life::AtWork(worker.clone());
        }
        match self.view.ledger.open.get(&(record.job.clone(), record.run.clone())) {
            None => Life::Elsewhere,
            Some(open) if open.in_flight == 0 && self.only_waits(record, open.waiting) => Life::Waiting,
            Some(_) => Life::Interrupted,
        }
    }

    pub(super) fn claimed_at(&self, record: &RunRecord) -> jiff::Timestamp {
        let claim = self.view.ledger.claims.get(&(record.job.clone(), record.run.clone()));
        claim.map_or(jiff::Timestamp::UNIX_EPOCH, |claim| claim.claimed_at)
    }

    /// Returns true for a run that is shown.
    fn shows_run(&self, record: &RunRecord) -> bool {
        self.sight.is_whole() || self.sight.has(self.organization_of(record).as_deref())
    }

    /// Returns the record of a run; `None` when there is none that is shown.
    fn record(&self, key: &(Name, RunToken)) -> Option<Cow<'_, RunRecord>> {
        record_in(&self.view.ledger, &self.open, key).filter(|record| self.shows_run(record))
    }

    /// Returns the path of the organization whose devices a run is about; `None` when it may be about any device, or
    /// that is not known. A run of a document that was edited since is of what it said at the commit of the run.
    fn organization_of(&self, record: &RunRecord) -> Option<String> {
        let declared = &self.view.declared;
        let same = self.declared_run(record).filter(|job| job.spec_digest == record.spec_digest);
        if let Some(job) = same {
            return declared.path_of(job.organization.as_ref()).map(str::to_string);
        }
        let find = || self.organization_then(record);
        match &self.view.files.tree.tree {
            Some(tree) => self.view.workspace.kept().organization(tree, (&record.job, &record.run), find),
            None => find(),
        }
    }

    /// Returns what the document of a run said at the commit of the run.
    fn organization_then(&self, record: &RunRecord) -> Option<String> {
        let (declared, loaded) = (&self.view.declared, &self.view.files.loaded);
        let job = loaded.job(record.job.as_str()).map(|job| (Kind::Job, job.file));
        let schedule = || Some((Kind::Schedule, loaded.schedule(record.job.as_str())?.1.to_string()));
        let (kind, file) = job.or_else(schedule)?;
        let repo = &self.view.workspace.repo;
        let bytes = repo.file_at(&record.source_commit, &file, limits::YAML_FILE_BYTES_MAX)?;
        organization_said((&file, bytes), (kind, &record.job), declared).map(str::to_string)
    }

    /// Returns true for a declared job that is shown.
    pub(super) fn shows(&self, job: &Job) -> bool {
        self.sight.has(self.view.declared.path_of(job.organization.as_ref()))
    }

    /// Returns true when everything is shown.
    pub(super) fn shows_all(&self) -> bool {
        self.sight.is_whole()
    }

    /// Returns the records of all runs that are shown, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = Cow<'_, RunRecord>> {
        let order = self.view.ledger.order.iter();
        order.filter_map(|(_, job, run)| self.record(&(job.clone(), run.clone())))
    }

    /// Returns the records of the runs that are shown and have not ended, the newest first.
    pub(super) fn unfinished(&self) -> Vec<Cow<'_, RunRecord>> {
        let records = self.view.ledger.unfinished.iter().filter_map(|key| self.record(key));
        let mut records: Vec<_> = records.filter(|record| !record.status.is_final()).collect();
        records.sort_by_key(|record| Reverse(self.claimed_at(record)));
        records
    }

    /// Returns the records of the runs of a job that are shown, sorted by token.
    fn runs_of(&self, job: &Name) -> Vec<Cow<'_, RunRecord>> {
        let ledger = &self.view.ledger;
        let from = (job.clone(), RunToken::least());
        let claims = ledger.claims.range(from.clone()..).map(|(key, _)| key);
        let records = ledger.records.range(from..).map(|(key, _)| key);
        let is_of = |key: &&(Name, RunToken)| key.0 == *job;
        let keys: BTreeSet<_> = claims.take_while(is_of).chain(records.take_while(is_of)).collect();
        keys.into_iter().filter_map(|key| self.record(key)).collect()
    }

    /// Returns the tokens of the runs of a job that are shown, the newest first.
    pub(super) fn tokens_of(&self, job: &Name) -> Vec<RunToken> {
        let mut runs = self.runs_of(job);
        runs.sort_by_key(|record| Reverse(self.claimed_at(record)));
        runs.into_iter().map(|record| record.run.clone()).collect()
    }

    pub(super) fn find(&self, choice: &RunChoice) -> Result<RunRecord, OpsError> {
        let job = Name::parse(&choice.job).ok();
        let mut of_job = job.as_ref().map_or_else(Vec::new, |job| self.runs_of(job));
        let declared = self.view.declared.jobs.get(choice.job.as_str());
        let is_wanted = |record: &RunRecord| match (&choice.run, declared) {
            (Some(run), _) => record.run.as_str() == run,
            (None, Some(job)) => record.run == job.run,
            (None, None) => true,
        };
        if !of_job.iter().any(|record| choice.run.is_none() || is_wanted(record)) {
            // What ran under a name that it had.
            let names = job
                .as_ref()
                .map_or_else(Vec::new, |name| self.view.ledger.names_of(name, self.view.declared.previous_names(name)));
            let former = names.iter().filter(|name| name.as_str() != choice.job).flat_map(|name| self.runs_of(name));
            of_job.extend(former.filter(|record| is_wanted(record)));
        }
        let found = match &choice.run {
            Some(run) => of_job.iter().find(|record| record.run.as_str() == run),
            None => of_job.iter().max_by_key(|record| self.claimed_at(record)),
        };
        if let Some(record) = found {
            let mut record = RunRecord::clone(record);
            if let Some(run) = self.journal_of(&record)? {
                let batches = self.batches(&run)?;
                record.counts = Counts::sum(&batches);
                record.per_batch = RunRecord::batches_of(&batches);
            }
            return Ok(record);
        }
        let runs: Vec<&str> = of_job.iter().map(|record| record.run.as_str()).collect();
        let is_declared = declared.is_some_and(|job| self.shows(job));
        let shown = self.view.declared.jobs.values().filter(|job| self.shows(job));
        let names = shown.map(|job| job.name.as_str());
        let (what, help) = match &choice.run {
            Some(run) if !runs.is_empty() => {
                (format!("job `{}` has no run {run}", choice.job), format!("Its runs are {}.", runs.join(", ")))
            }
            _ if is_declared => {
                let why = format!("`fleetform job show {} --why` says what keeps it.", choice.job);
                let help = match self.view.declared.fleet.link.hub() {
                    _ if declared.is_some_and(|job| job.suspend) => {
                        format!("Its document says `suspend: true`; `fleetform job continue {}` ends that.", choice.job)
                    }
                    Some(_) => format!("The fleet's gateway runs it; {why}"),
                    None => format!("Run `fleetform apply`, unless a daemon does it; {why}"),
                };
                (format!("job `{}` has not run yet", choice.job), help)
            }
            _ => {
                let near = crate::diag::nearest(&choice.job, names).map(|near| format!("Did you mean `{near}`?"));
                let help = near.unwrap_or_else(|| {
                    "`fleetform job list` shows the jobs that have run. One that is not committed does not count."
                        .to_string()
                });
                (format!("there is no job `{}`", crate::diag::shown(&choice.job)), help)
            }
        };
        Err(OpsError::NotFound { what, help })
    }

    /// Returns the job of a run as it is declared now; `None` when it was edited, has another token, or is gone.
    pub(super) fn declared_job(&self, record: &RunRecord) -> Option<&Job> {
        let job = self.view.declared.jobs.get(&record.job)?;
        (job.spec_digest == record.spec_digest).then_some(job)
    }

    /// Returns the job that declares a run, whether or not it was edited since: a job's, or that of the schedule whose
    /// occurrence it is.
    pub(super) fn declared_run(&self, record: &RunRecord) -> Option<Arc<Job>> {
        if let Some(job) = self.view.declared.jobs.get(&record.job).filter(|job| job.run == record.run) {
            return Some(Arc::clone(job));
        }
        let schedule =
            self.view.declared.schedules.values().find(|schedule| schedule.owns(&record.job, &record.run))?;
        occurrence_instant(&record.run).map(|instant| Arc::new(schedule.job_at(instant)))
    }

    /// Returns true for a run of a job or schedule that is declared now with an organization, of a name or a path, or one
    /// below it.
    pub(super) fn is_within(&self, record: &RunRecord, wanted: &str) -> bool {
        let (declared, job) = (&self.view.declared, self.declared_run(record));
        let own = job.as_ref().and_then(|job| declared.path_of(job.organization.as_ref()));
        own.zip(declared.organization(wanted)).is_some_and(|(own, named)| is_within(own, &named.path))
    }

    /// Returns true when what cannot be used of the files may be, or is, what declares a job of a name.
    pub(super) fn may_be_held(&self, name: &Name) -> bool {
        let is_it = |kind: Kind| self.view.held.of_kind(kind).any(|(held, _)| held == name);
        self.view.held.is_partial || is_it(Kind::Job) || is_it(Kind::Schedule)
    }

    /// Calls `each` for the devices of a run, sorted by id: from the journal of one that has not ended,
    /// where this registry has it, else from the results.
    pub(super) fn each_row(&self, record: &RunRecord, each: &mut dyn FnMut(Row)) -> Result<(), OpsError> {
        match self.journal_of(record)? {
            Some(run) => {
                let ids = self.targets(&run)?;
                self.journaled_rows_in(&run, &ids, 0..run.total, each)
            }
            None => self.published_rows(record, each),
        }
    }

    /// Returns true for a run whose end is on the results branch.
    fn is_published(&self, record: &RunRecord) -> bool {
        self.view.ledger.has_end(&(record.job.clone(), record.run.clone()))
    }

    /// Returns the devices that a run was claimed for.
    pub(super) fn targets(&self, run: &JournaledRun) -> Result<Arc<DeviceIds>, OpsError> {
        let registry = &self.view.registry;
        let claim = format!("{} {} {}", registry.identity()?.id, run.run_id, Digest::of_bytes(run.claim.as_bytes()));
        Ok(self.view.workspace.kept().targets(&claim, || registry.journal().targets(run.run_id))?)
    }

    /// Returns a run whose end is not on the results branch as the journal of this registry has it; `None` when that
    /// branch has all that is known of it.
    pub(super) fn journal_of(&self, record: &RunRecord) -> Result<Option<JournaledRun>, OpsError> {
        if self.is_published(record) {
            return Ok(None);
        }
        Ok(self.view.registry.journal().find(&record.job, &record.run)?)
    }

    /// Returns the devices of a run that fit a pattern; `None` when there is none.
    pub(super) fn fitting(&self, record: &RunRecord, pattern: &str) -> Result<Option<Fitting>, OpsError> {
        if self.is_published(record) && !pattern.contains(['*', '?']) {
            let fate = self.fate(record, pattern)?;
            return Ok(fate.map(|row| Fitting { devices: 1, device_id: pattern.to_string(), row }));
        }
        let mut found: Option<Fitting> = None;
        let mut add = |device_id: &str, row: Option<Row>| match &mut found {
            Some(found) => {
                found.devices += 1;
                found.row = None;
            }
            None => found = Some(Fitting { devices: 1, device_id: device_id.to_string(), row }),
        };
        let mut rows = 0;
        if self.is_published(record) {
            self.published_rows(record, &mut |row| {
                rows += 1;
                if matches_wildcard(pattern, &row.device_id) {
                    let device_id = row.device_id.clone();
                    add(&device_id, Some(row));
                }
            })?;
            if rows == record.counts.total {
                return Ok(found);
            }
            // The results keep failures only, or the journal was lost: the devices that were meant are in the journal,
            // if anywhere.
        }
        let Some(run) = self.view.registry.journal().find(&record.job, &record.run)? else { return Ok(found) };
        let ids = self.targets(&run)?;
        let mut fitting = ids.iter().enumerate().filter(|(_, id)| matches_wildcard(pattern, id));
        let Some((first, device_id)) = fitting.next() else { return Ok(found) };
        let devices = 1 + fitting.count() as u64;
        let mut row = found.filter(|found| found.devices == 1 && devices == 1).and_then(|found| found.row);
        if devices == 1 && !self.is_published(record) {
            let ordinal = u32::try_from(first).expect("a target is bounded by the arena of its ids");
            self.journaled_rows_in(&run, &ids, ordinal..ordinal + 1, &mut |one| row = Some(one))?;
        }
        Ok(Some(Fitting { devices, device_id: device_id.to_string(), row }))
    }

    /// Returns how many devices of a run failed for each reason, the most frequent first.
    pub(super) fn failures(&self, record: &RunRecord) -> Result<Vec<(Reason, u64)>, OpsError> {
        if record.counts.failed == 0 {
            return Ok(Vec::new());
        }
        let mut failures: Vec<(Reason, u64)> = Vec::new();
        match self.journal_of(record)? {
            Some(run) => {
                let counts = self.view.registry.journal().outcome_counts(run.run_id)?;
                let failed = counts.iter().filter(|count| count.reason.status() == DeviceStatus::Failed);
                failed.for_each(|count| add(&mut failures, count.reason, count.devices));
            }
            None => failures.clone_from(&self.published_failures(record)?.by_reason),
        }
        let known: u64 = failures.iter().map(|(_, devices)| devices).sum();
        // The devices of a run whose journal was lost are counted and have no row. Those of a run that goes on elsewhere
        // have none yet.
        let unknown = record.counts.failed.saturating_sub(known);
        if unknown > 0 && record.status.is_final() {
            add(&mut failures, Reason::OutcomeUnknown, unknown);
        }
        failures.sort_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(&right.0)));
        Ok(failures)
    }

    /// Returns the id of the tree of the results of a run; `None` when they are not there.
    pub(super) fn tree_of(&self, record: &RunRecord) -> Result<Option<String>, OpsError> {
        Ok(self.folder()?.and_then(|folder| folder.tree(&format!("{}/{}", record.job, record.run))))
    }

    /// Returns what the results have of the failures of a run.
    pub(super) fn published_failures(&self, record: &RunRecord) -> Result<Arc<RunFailures>, OpsError> {
        let read = || {
            let (mut found, mut devices) = (RunFailures::default(), Vec::new());
            let mut note = |row: Row| {
                add(&mut found.by_reason, row.reason, 1);
                if devices.len() <= limits::KEPT_FAILURES_OF_RUN_MAX {
                    let Row { device_id, reason, message, finished_at, .. } = row;
                    devices.push(FailedDevice { device_id, reason, message, at: finished_at });
                }
            };
            if self.folder()?.is_none() {
                self.published_rows(record, &mut |row| {
                    if row.status == DeviceStatus::Failed {
                        note(row);
                    }
                })?;
            }
            for number in 1..=self.folder()?.map_or(0, |_| record.published.shards) {
                let (path, bytes) = self.shard(record, number)?;
                read_failed(&bytes, &mut note).map_err(|what| RepoError::Malformed { path, what })?;
            }
            found.devices = Some(devices).filter(|devices| devices.len() <= limits::KEPT_FAILURES_OF_RUN_MAX);
            Ok(found)
        };
        match self.tree_of(record)? {
            Some(tree) => self.view.workspace.kept().failures(&tree, read),
            None => read().map(Arc::new),
        }
    }

    fn key(&self, job: &Name, run: &RunToken) -> RunKey {
        RunKey { fleet: self.view.declared.fleet.name.clone(), job: job.clone(), run: run.clone() }
    }

    pub(super) fn published_rows(&self, record: &RunRecord, each: &mut dyn FnMut(Row)) -> Result<(), OpsError> {
        self.published_rows_from(record, (1, Bound::Unbounded), &mut |row| {
            each(row);
            ControlFlow::Continue(())
        })
    }

    /// Calls `visit` for the devices of the results from an id on, which is in a shard that is counted from 1, until it
    /// breaks.
    pub(super) fn published_rows_from(
        &self,
        record: &RunRecord,
        (first, from): (u32, Bound<&str>),
        visit: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), OpsError> {
        if self.view.branch.tip()?.is_none() {
            let is_wanted = |id: &str| match from {
                Bound::Unbounded => true,
                Bound::Included(least) => id >= least,
                Bound::Excluded(before) => id > before,
            };
            let mut flow = ControlFlow::Continue(());
            return Ok(remembered_rows(&self.view.registry, &self.key(&record.job, &record.run), |row| {
                if flow.is_continue() && is_wanted(&row.device_id) {
                    flow = visit(row);
                }
            })?);
        }
        for number in first..=record.published.shards {
            let (path, bytes) = self.shard(record, number)?;
            let read = read_shard_from(&bytes, from, &mut *visit);
            if read.map_err(|what| RepoError::Malformed { path, what })?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Returns the id of the first device of a shard; `None` when the branch is gone, or the shard is empty.
    pub(super) fn first_of_shard(&self, record: &RunRecord, number: u32) -> Result<Option<Arc<str>>, OpsError> {
        if self.folder()?.is_none() {
            return Ok(None);
        }
        let (_, blob) = self.blob_of_shard(record, number)?;
        let read = || Ok(first_id(&self.shard(record, number)?.1));
        self.view.workspace.kept().first_of_shard(&blob.to_string(), read)
    }

    /// Returns the results of all runs; `None` when the branch is gone.
    fn folder(&self) -> Result<Option<&ResultsFolder<'a>>, OpsError> {
        if self.folder.get().is_none() {
            drop(self.folder.set(self.view.branch.folder("runs")?));
        }
        Ok(self.folder.get().and_then(Option::as_ref))
    }

    fn blob_of_shard(&self, record: &RunRecord, number: u32) -> Result<(String, BlobId), OpsError> {
        let path = crate::results::shard_path(&self.key(&record.job, &record.run).results_folder(), number);
        let inner = path.strip_prefix("runs/").unwrap_or(&path);
        let blob = self.folder()?.and_then(|folder| folder.blob(inner));
        let missing = || RepoError::Malformed { path: path.clone(), what: "it is missing".to_string() };
        let blob = blob.ok_or_else(missing)?;
        Ok((path, blob))
    }

    fn shard(&self, record: &RunRecord, number: u32) -> Result<(String, Arc<[u8]>), OpsError> {
        let (path, blob) = self.blob_of_shard(record, number)?;
        let read = || self.view.branch.read_blob(blob);
        Ok((path, self.view.workspace.kept().shard(&blob.to_string(), read)?))
    }

    pub(super) fn journaled_rows_in(
        &self,
        run: &JournaledRun,
        ids: &DeviceIds,
        range: std::ops::Range<u32>,
        each: &mut dyn FnMut(Row),
    ) -> Result<(), OpsError> {
        let sizes = run.sizes;
        let pending = PendingRows::of(run.status);
        self.view.registry.journal().each_result(run.run_id, ids, range, pending, &mut |row| {
            let outcome = row.outcome;
            each(Row {
                device_id: row.device_id,
                device_name: row.device_name,
                status: outcome.reason.status(),
                reason: outcome.reason,
                code: outcome.code,
                message: outcome.message,
                attempts: outcome.attempts,
                batch: u32::try_from(sizes.batch_of(u64::from(outcome.ordinal)) + 1).unwrap_or(u32::MAX),
                started_at: outcome.started_at,
                finished_at: outcome.finished_at,
            });
        })?;
        Ok(())
    }
}

/// Adds devices to those that failed for a reason.
fn add(failures: &mut Vec<(Reason, u64)>, reason: Reason, devices: u64) {
    match failures.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, known)) => *known += devices,
        None => failures.push((reason, devices)),
    }
}
