//! What fleetform does to a registry in PostgreSQL, through the same port as its commands.

use std::collections::BTreeSet;
use std::path::Path;

use fleetform::ledger::Claim;
use fleetform::model::delivery::BatchSizes;
use fleetform::model::digest::Digest;
use fleetform::model::fleet::{ImportFormat, Removed};
use fleetform::model::id::{Name, RunToken};
use fleetform::model::limits;
use fleetform::model::observation::DeviceIds;
use fleetform::model::outcome::{Outcome, Reason, RunStatus};
use fleetform::model::patch::{Patch, Section};
use fleetform::ops::Environment;
use fleetform::ops::plan::{PlanOptions, plan};
use fleetform::query;
use fleetform::registry::postgres::PostgresPlace;
use fleetform::registry::{
    Answer, Assignment, Change, Chunk, Exclusive, ImportSpec, NewRun, PendingRows, Registry, Request, Selection,
    StorePlace as _, Touched,
};
use fleetform::repo::{FileChange, Repo};
use fleetform::results::{Shard, shard_path};
use jiff::Timestamp;
use serde_json::json;

use super::raw::{NOW, ids, number, threshold};
use super::url;
use crate::Failure;

const FLEET: &str = "fleet";

/// A registry with the right to work on it, under the epoch of a lease, as with a remote.
struct Work {
    registry: Registry,
    _right: std::rc::Rc<dyn Exclusive>,
}

impl Work {
    fn begin(folder: &Path) -> Result<Work, Failure> {
        let place = PostgresPlace::new(&url(folder, "ours")?, FLEET)?;
        let right = place.exclude("bench").map_err(|_| "nobody else works on it")?;
        let mut registry = Registry::new(place.open()?);
        registry.enter_epoch(1)?;
        Ok(Work { registry, _right: right })
    }

    /// Journals the claim of a run over all devices, and starts it.
    fn start(&mut self, job: &str, ids: &DeviceIds) -> Result<i64, Failure> {
        let claim = Claim {
            job: Name::parse(job)?,
            run: RunToken::default(),
            spec_digest: Digest::of_bytes(b""),
            total: ids.len() as u64,
            targets_digest: Digest::of_bytes(b""),
            source_commit: "c".to_string(),
            plan_id: "p".to_string(),
            claimed_at: Timestamp::from_microsecond(NOW)?,
        };
        let size = ids.len() as u64;
        let sizes = BatchSizes { first: size, size };
        let new = NewRun {
            claim: &claim,
            document: claim.to_json(&Name::parse(FLEET)?).to_string(),
            spec: None,
            manifest: None,
            ids,
            sizes,
            keeps_answers: false,
        };
        let run_id = self.registry.write(Change::Claim(new))?.into_run();
        self.registry.write(Change::Confirm { run_id })?;
        self.registry.write(Change::Start { run_id, at: claim.claimed_at })?;
        Ok(run_id)
    }
}

/// Stages the file of a fleet and writes what is staged.
pub fn import(folder: &Path) -> Result<(), Failure> {
    let mut work = Work::begin(folder)?;
    let spec = ImportSpec {
        name: "all".to_string(),
        format: ImportFormat::IotHub,
        template: None,
        organization: None,
        templates: None,
        organizations: None,
        simulated: false,
        removed: Removed::Keep,
        others: BTreeSet::new(),
        watched_tags: Vec::new(),
        is_confined: false,
        digest: Digest::of_bytes(b"file"),
    };
    let mut file = std::io::BufReader::new(std::fs::File::open(folder.join("fleet/devices.jsonl"))?);
    let imports = work.registry.imports_mut();
    let mut staged = imports.stage(&spec, &mut file).map_err(|_| "the file is legal")?;
    imports.settle(&spec, &mut staged)?;
    assert_eq!(staged.new, u64::from(number(folder, "devices")?), "all are new");
    work.registry.write(Change::Import { spec: &spec, at: Timestamp::from_microsecond(NOW)?, outbox: "{}" })?;
    Ok(())
}

/// Returns the fleet, with the registry that is measured.
fn environment(folder: &Path) -> Result<Environment, Failure> {
    Ok(Environment { registry: Some(url(folder, "ours")?), ..crate::environment(folder) })
}

/// All of `fleetform apply`: of what is declared and not applied.
pub fn apply_all(folder: &Path) -> Result<(), Failure> {
    crate::apply_at(&environment(folder)?)
}

/// All of `fleetform plan`.
pub fn plan_all(folder: &Path) -> Result<(), Failure> {
    let planned = plan(&environment(folder)?, &PlanOptions::default(), Timestamp::now())?;
    assert!(planned.plan.has_changes(), "there is something to do");
    Ok(())
}

/// Observes the devices of a job as a plan does.
pub fn observe(folder: &Path) -> Result<(), Failure> {
    let registry = Registry::new(PostgresPlace::new(&url(folder, "ours")?, FLEET)?.open_for_reading()?);
    let condition = query::parse("tags.ring IN ['canary', 'stable']").map_err(|errors| errors[0].to_string())?;
    let patch = json!({"light": {"threshold": 3}});
    let patch = Patch::new(patch.as_object().cloned().unwrap_or_default()).ok_or("it is not empty")?;
    let mut request = Request::new(Selection::Matching { template: None, conditions: vec![condition] }, Vec::new());
    request.touched = Touched::section(Section::Desired, patch.assignments());
    let found = registry.devices().observe(&request)?;
    assert_eq!(found.ids.len(), number(folder, "devices")? as usize, "it selects all");
    Ok(())
}

/// The registry's part of an apply: the claim, the writes with their outcomes, and the results.
pub fn apply(folder: &Path) -> Result<(), Failure> {
    let (ids, round) = (ids(folder)?, number(folder, "round")?);
    let mut work = Work::begin(folder)?;
    let run_id = work.start(&format!("dim-{round}"), &ids)?;
    let assignment = Assignment::patch(Section::Desired, json!({"light": {"threshold": threshold(round)}}));
    let now = Timestamp::from_microsecond(NOW)?;
    let all: Vec<u32> = (0..u32::try_from(ids.len())?).collect();
    for ordinals in all.chunks(limits::WRITE_CHUNK) {
        let devices: Vec<(u32, &str)> = ordinals.iter().map(|at| (*at, ids.get(*at as usize))).collect();
        let chunk = Chunk { run_id, devices: &devices, failures_left: None, awaits_acknowledgement: false, now };
        let outcomes = work.registry.write(Change::Write { assignment: &assignment, chunk })?.into_written();
        assert!(outcomes.iter().all(|(_, reason)| *reason == Reason::Written), "all are written");
    }
    work.registry.write(Change::End { run_id, status: RunStatus::Completed, reason: None, at: now })?;
    publish(folder, &mut work, run_id, &ids)?;
    work.registry.write(Change::Close { run_id })?;
    Ok(())
}

/// The results of the last apply, once more.
pub fn results(folder: &Path) -> Result<(), Failure> {
    let (ids, round) = (ids(folder)?, number(folder, "round")?);
    let mut work = Work::begin(folder)?;
    let run = work.registry.journal().find(&Name::parse(&format!("dim-{round}"))?, &RunToken::default())?;
    publish(folder, &mut work, run.ok_or("it has run")?.run_id, &ids)
}

/// Cuts the rows into shards, and commits them.
fn publish(folder: &Path, work: &mut Work, run_id: i64, ids: &DeviceIds) -> Result<(), Failure> {
    let path = folder.join("results");
    if !path.exists() {
        fleetform::ops::init::init(&path, fleetform::ops::init::InitOptions::default())?;
    }
    let repo = Repo::open(&path)?;
    let branch = repo.results("fleetform/results");
    let (mut shard, mut changes, mut failure) = (Shard::new(), Vec::new(), None);
    let mut write = |shard: Shard| {
        let path = shard_path(&format!("runs/{run_id}/r1"), u32::try_from(changes.len()).unwrap_or_default() + 1);
        match branch.write_blob(&shard.into_bytes()) {
            Ok(blob) => changes.push(FileChange::blob(path, blob)),
            Err(error) => failure = Some(error),
        }
    };
    let end = u32::try_from(ids.len())?;
    work.registry.journal().each_result(run_id, ids, 0..end, PendingRows::Ended, &mut |row| {
        shard.push(&row.device_id, &row.device_name, &row.outcome, 1);
        if shard.rows() == limits::SHARD_ROWS_MAX {
            write(std::mem::take(&mut shard));
        }
    })?;
    if shard.rows() > 0 {
        write(shard);
    }
    if let Some(failure) = failure {
        return Err(failure.into());
    }
    work.registry.write(Change::KeepRecord { run_id, record: "{}", devices: None })?;
    branch.commit(&changes, "results")?;
    Ok(())
}

/// The registry's part of commands to all devices that answer: marks before, outcomes after.
pub fn commands(folder: &Path) -> Result<(), Failure> {
    let (ids, round) = (ids(folder)?, number(folder, "round")?);
    let mut work = Work::begin(folder)?;
    let run_id = work.start(&format!("reboot-{round}"), &ids)?;
    let now = Timestamp::from_microsecond(NOW)?;
    let answered = Timestamp::from_microsecond(NOW + 1 + i64::from(round))?;
    let all: Vec<u32> = (0..u32::try_from(ids.len())?).collect();
    for ordinals in all.chunks(limits::WRITE_CHUNK) {
        let devices: Vec<(u32, u32)> = ordinals.iter().map(|at| (*at, 1)).collect();
        let withheld = work.registry.write(Change::Mark { run_id, devices: &devices, ids: &ids, at: now })?;
        assert!(matches!(withheld, Answer::Withheld(none) if none.is_empty()), "all are marked");
        let outcome = |ordinal: &u32| Outcome {
            ordinal: *ordinal,
            reason: Reason::Responded,
            code: Some(200),
            message: String::new(),
            attempts: 1,
            started_at: Some(now),
            finished_at: Some(answered),
        };
        let outcomes: Vec<Outcome> = ordinals.iter().map(outcome).collect();
        work.registry.write(Change::Record { run_id, outcomes: &outcomes, ids: &ids })?;
    }
    Ok(())
}
