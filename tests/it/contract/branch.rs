//! The copy of the results branch: what was claimed, published and noted, and what the branch has not heard of.

use fleetform::ledger::{Published, RunRecord};
use fleetform::model::fleet::ResultDevices;
use fleetform::model::observation::DeviceIds;
use fleetform::model::outcome::{Counts, Reason, RunStatus};
use fleetform::registry::{
    BranchCopy, Change, ImportSpec, KeptFile, Noted, OutboxEntry, RegistryError, RememberedRun, ResultRow,
};

use super::Fresh;
use super::fleet::{Fleet, claim, document, now, outcome, spec};

/// A run over seven devices in batches of three, of which some have an outcome; with its number.
fn half_done(fresh: Fresh) -> (Fleet, i64) {
    let mut fleet = Fleet::with_devices(fresh, 7);
    let run_id = fleet.run("dim");
    let outcomes = [(0, Reason::Written), (2, Reason::Blocked), (3, Reason::Unchanged), (6, Reason::Written)];
    fleet.record(run_id, &outcomes.map(|(ordinal, reason)| outcome(ordinal, reason)));
    (fleet, run_id)
}

/// The record of [`half_done`], with the rows of so many devices on the branch.
fn record(ids: &DeviceIds, status: RunStatus, devices: u32) -> RunRecord {
    let batch = |total, completed, failed| Counts { total, completed, failed, unchanged: 0 };
    RunRecord {
        status,
        counts: Counts { total: 7, completed: 3, failed: 1, unchanged: 1 },
        per_batch: RunRecord::batches_of(&[batch(3, 1, 1), batch(3, 1, 0), batch(1, 1, 0)]),
        published: Published { devices, shards: 1 },
        ..RunRecord::of_claim(&claim("dim", ids))
    }
}

fn keep_record(fleet: &mut Fleet, run_id: i64, record: &RunRecord, devices: Option<ResultDevices>) {
    let record = record.to_json().to_string();
    fleet.registry.write(Change::KeepRecord { run_id, record: &record, devices }).unwrap();
}

fn branch(fleet: &Fleet) -> &dyn BranchCopy {
    fleet.registry.branch_copy()
}

/// Returns (ordinal, reason, batch) of each published row of the only run.
fn published(fleet: &Fleet) -> Vec<(u32, Reason, u32)> {
    let runs = branch(fleet).runs().unwrap();
    assert_eq!(runs.len(), 1);
    let mut rows = Vec::new();
    let mut keep = |row: ResultRow, batch| rows.push((row.outcome.ordinal, row.outcome.reason, batch));
    branch(fleet).each_published(&runs[0], &mut keep).unwrap();
    rows
}

fn outbox(fleet: &Fleet) -> Vec<(String, String)> {
    let pair = |OutboxEntry { about, text }| (about, text);
    branch(fleet).outbox().unwrap().into_iter().map(pair).collect()
}

/// Imports a file, and puts a text into the outbox.
fn import(fleet: &mut Fleet, spec: &ImportSpec, text: &str) {
    fleet.stage(spec, "IOTC_DEVICEID\n");
    fleet.registry.write(Change::Import { spec, at: now(), outbox: text }).unwrap();
}

fn pair(about: &str, text: &str) -> (String, String) {
    (about.to_string(), text.to_string())
}

pub fn a_new_registry_has_not_seen_the_branch(fresh: Fresh) {
    let fleet = Fleet::with_devices(fresh, 1);
    assert!(!branch(&fleet).exists().unwrap());
}

pub fn a_claim_is_seen_of_the_branch(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    fleet.run("dim");
    assert!(branch(&fleet).exists().unwrap());
}

pub fn a_tip_is_seen_of_the_branch(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    fleet.registry.write(Change::Note { what: Noted::ResultsTip, commit: "c1" }).unwrap();
    assert!(branch(&fleet).exists().unwrap());
}

pub fn runs_are_remembered_with_their_records(fresh: Fresh) {
    let (mut fleet, run_id) = half_done(fresh);
    let ids = fleet.target();
    let other_id = fleet.run("a");
    let kept = record(&ids, RunStatus::Canceled, 7);
    keep_record(&mut fleet, run_id, &kept, Some(ResultDevices::Failures));
    fleet.registry.commit(&[Change::Confirm { run_id }, Change::Close { run_id }]).unwrap();
    let run = |run_id, job: &str| {
        let claim = claim(job, &ids);
        RememberedRun {
            run_id,
            job: claim.job.clone(),
            run: claim.run.clone(),
            claim: document(&claim),
            record: None,
            devices: ResultDevices::All,
        }
    };
    let first = RememberedRun { record: Some(kept), devices: ResultDevices::Failures, ..run(run_id, "dim") };
    assert_eq!(branch(&fleet).runs().unwrap(), [first, run(other_id, "a")]);
}

pub fn a_record_without_new_shards_keeps_whose_they_are(fresh: Fresh) {
    let (mut fleet, run_id) = half_done(fresh);
    let ids = fleet.target();
    keep_record(&mut fleet, run_id, &record(&ids, RunStatus::Running, 3), Some(ResultDevices::Failures));
    keep_record(&mut fleet, run_id, &record(&ids, RunStatus::Stopped, 3), None);
    let run = branch(&fleet).runs().unwrap().remove(0);
    assert_eq!((run.record.unwrap().status, run.devices), (RunStatus::Stopped, ResultDevices::Failures));
}

pub fn a_run_that_another_one_has_claimed_is_not_remembered(fresh: Fresh) {
    let (mut fleet, run_id) = half_done(fresh);
    let path = branch(&fleet).runs().unwrap()[0].claim_path();
    let keep = |fleet: &mut Fleet, content: &str| {
        let file = KeptFile { path: path.clone(), content: content.as_bytes().to_vec(), blob_id: None };
        fleet.registry.keep_files::<RegistryError>(std::iter::once(Ok(file))).unwrap();
    };
    let same = document(&claim("dim", &fleet.target()));
    keep(&mut fleet, &same);
    assert_eq!(branch(&fleet).runs().unwrap().len(), 1, "it is the same claim");
    keep(&mut fleet, "{}");
    assert_eq!(branch(&fleet).runs().unwrap(), []);
    // Whoever has confirmed it knows better.
    fleet.registry.write(Change::Confirm { run_id }).unwrap();
    assert_eq!(branch(&fleet).runs().unwrap().len(), 1);
}

pub fn published_rows_are_those_of_the_record(fresh: Fresh) {
    let (mut fleet, run_id) = half_done(fresh);
    let ids = fleet.target();
    keep_record(&mut fleet, run_id, &record(&ids, RunStatus::Running, 5), Some(ResultDevices::All));
    assert_eq!(published(&fleet), [(0, Reason::Written, 1), (2, Reason::Blocked, 1), (3, Reason::Unchanged, 2)]);
}

pub fn published_rows_of_a_run_that_ended_are_all(fresh: Fresh) {
    let (mut fleet, run_id) = half_done(fresh);
    let ids = fleet.target();
    keep_record(&mut fleet, run_id, &record(&ids, RunStatus::Canceled, 7), Some(ResultDevices::All));
    let expect = [
        (0, Reason::Written, 1),
        (1, Reason::Queued, 1),
        (2, Reason::Blocked, 1),
        (3, Reason::Unchanged, 2),
        (4, Reason::Queued, 2),
        (5, Reason::Queued, 2),
        (6, Reason::Written, 3),
    ];
    assert_eq!(published(&fleet), expect);
}

pub fn published_failures_are_failures_only(fresh: Fresh) {
    let (mut fleet, run_id) = half_done(fresh);
    let ids = fleet.target();
    keep_record(&mut fleet, run_id, &record(&ids, RunStatus::Canceled, 7), Some(ResultDevices::Failures));
    assert_eq!(published(&fleet), [(2, Reason::Blocked, 1)]);
}

pub fn a_run_without_a_record_has_no_published_rows(fresh: Fresh) {
    let (fleet, _) = half_done(fresh);
    assert_eq!(published(&fleet), []);
}

pub fn what_was_noted_last_is_told(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    for (what, commit) in [(Noted::KeptTip, "c1"), (Noted::KeptTip, "c2"), (Noted::AppliedHead, "c3")] {
        fleet.registry.write(Change::Note { what, commit }).unwrap();
    }
    assert_eq!(branch(&fleet).noted(Noted::KeptTip).unwrap().as_deref(), Some("c2"));
    assert_eq!(branch(&fleet).noted(Noted::AppliedHead).unwrap().as_deref(), Some("c3"));
    assert_eq!(branch(&fleet).noted(Noted::ResultsTip).unwrap(), None);
}

pub fn what_was_seen_is_noted(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    for (results_tip, applied_head) in [("r1", "a1"), ("r1", "a2"), ("r1", "a2")] {
        fleet.registry.write(Change::Seen { results_tip, applied_head }).unwrap();
    }
    let fleet = fleet.reopened();
    assert_eq!(branch(&fleet).noted(Noted::ResultsTip).unwrap().as_deref(), Some("r1"));
    assert_eq!(branch(&fleet).noted(Noted::AppliedHead).unwrap().as_deref(), Some("a2"));
    assert_eq!(branch(&fleet).noted(Noted::KeptTip).unwrap(), None);
}

pub fn an_import_fills_the_outbox(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    assert_eq!(outbox(&fleet), []);
    import(&mut fleet, &spec("a"), "the report of a");
    assert_eq!(outbox(&fleet.reopened()), [pair("a", "the report of a")]);
}

pub fn the_outbox_is_sorted_and_has_the_last_of_each(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    import(&mut fleet, &spec("b"), "the report of b");
    import(&mut fleet, &spec("a"), "the report of a");
    import(&mut fleet, &spec("b"), "another report of b");
    assert_eq!(outbox(&fleet), [pair("a", "the report of a"), pair("b", "another report of b")]);
}

pub fn what_was_delivered_leaves_the_outbox_and_is_kept(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    import(&mut fleet, &spec("a"), "the report of a");
    import(&mut fleet, &spec("b"), "the report of b");
    let files = [("imports/a/1/report.json".to_string(), b"{}".to_vec())];
    fleet.registry.write(Change::Delivered { about: "a", files: &files }).unwrap();
    assert_eq!(outbox(&fleet), [pair("b", "the report of b")]);
    assert_eq!(fleet.registry.kept_files(|_| true).unwrap().into_iter().collect::<Vec<_>>(), files);
}
