//! Commits: all of a transaction or nothing of it, and an answer for each change.

use fleetform::ledger::RunRecord;
use fleetform::model::outcome::{Reason, RunStatus};
use fleetform::model::patch::Section;
use fleetform::registry::{
    Answer, Assignment, Change, Chunk, Heard, HeardOf, IndexChanges, Noted, RegistryError, Reported,
};
use serde_json::json;

use super::Fresh;
use super::fleet::{Fleet, claim, new_run, now, outcome, spec, texts};

/// Three devices and a run over them that has written the first one; with the number of the run.
fn under_way(fresh: Fresh) -> (Fleet, i64) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let run_id = fleet.run("dim");
    fleet.record(run_id, &[outcome(0, Reason::Responded)]);
    (fleet, run_id)
}

fn level() -> Assignment {
    Assignment::patch(Section::Desired, json!({"level": 3}))
}

fn chunk<'a>(run_id: i64, devices: &'a [(u32, &'a str)]) -> Chunk<'a> {
    Chunk { run_id, devices, failures_left: None, awaits_acknowledgement: false, now: now() }
}

/// Commits some changes and one that must fail, and looks that nothing of them is there.
#[track_caller]
fn takes_back(fleet: &mut Fleet, run_id: i64, failing: Change<'_>) {
    let ids = fleet.registry.journal().targets(run_id).unwrap();
    let (other, blocked, gone) = (claim("other", &ids), texts(&["d-0000"]), texts(&["d-0002"]));
    let (assignment, devices) = (level(), [(1, "d-0001")]);
    let changes = [
        Change::Claim(new_run(&other, &ids)),
        Change::Start { run_id, at: now() },
        Change::Mark { run_id, devices: &[(2, 1)], ids: &ids, at: now() },
        Change::Write { assignment: &assignment, chunk: chunk(run_id, &devices) },
        Change::Block { device_ids: &blocked, is_blocked: true, at: now() },
        Change::Delete { device_ids: &gone },
        Change::Note { what: Noted::AppliedHead, commit: "c1" },
        failing,
    ];
    let runs = fleet.registry.journal().unclosed().unwrap();
    assert!(fleet.registry.commit(&changes).is_err());
    assert_eq!(fleet.registry.journal().unclosed().unwrap(), runs);
    assert_eq!(fleet.registry.journal().sent_marks(run_id).unwrap(), []);
    assert_eq!(fleet.outcomes(run_id), [(0, Reason::Responded)]);
    assert_eq!(fleet.ids(), ["d-0000", "d-0001", "d-0002"]);
    assert!(!fleet.device("d-0000").blocked);
    assert_eq!(fleet.device("d-0001").desired, json!({}));
    assert_eq!(fleet.registry.branch_copy().noted(Noted::AppliedHead).unwrap(), None);
}

pub fn each_change_is_answered_in_order_and_by_its_kind(fresh: Fresh) {
    let (mut fleet, run_id) = under_way(fresh);
    let ids = fleet.registry.journal().targets(run_id).unwrap();
    let (other, blocked, gone) = (claim("other", &ids), texts(&["d-0000"]), texts(&["d-0002", "d-0009"]));
    let (assignment, devices, patch) = (level(), [(1, "d-0001")], json!({"lux": 7}));
    let report = Heard { device_id: "d-0001", at: now(), what: HeardOf::Report { patch: &patch } };
    let changes = [
        Change::Note { what: Noted::KeptTip, commit: "c1" },
        Change::Block { device_ids: &blocked, is_blocked: true, at: now() },
        Change::Claim(new_run(&other, &ids)),
        Change::Write { assignment: &assignment, chunk: chunk(run_id, &devices) },
        Change::Heard { from: &[report] },
        Change::Index { wanted: &[], changed: 0 },
        Change::Delete { device_ids: &gone },
        Change::Confirm { run_id },
    ];
    let answers = fleet.registry.commit(&changes).unwrap();
    let other_id = fleet.registry.journal().unclosed().unwrap().last().unwrap().run_id;
    assert_ne!(other_id, run_id);
    let expect = [
        Answer::Done,
        Answer::Devices(blocked.clone()),
        Answer::Run(other_id),
        Answer::Written(vec![(1, Reason::Written)]),
        Answer::Reported(vec![Reported::Written { section: json!({"lux": 7}), version: 2 }]),
        Answer::Indexes(IndexChanges::default()),
        Answer::Devices(texts(&["d-0002"])),
        Answer::Done,
    ];
    assert_eq!(answers, expect);
}

pub fn what_comes_to_nothing_else_is_done(fresh: Fresh) {
    let (mut fleet, run_id) = under_way(fresh);
    let ids = fleet.registry.journal().targets(run_id).unwrap();
    let dropped = fleet.run("dropped");
    let (spec, record) = (spec("a"), RunRecord::of_claim(&claim("dim", &ids)).to_json().to_string());
    fleet.stage(&spec, "IOTC_DEVICEID\na-1\n");
    let changes = [
        Change::Confirm { run_id },
        Change::Drop { run_id: dropped },
        Change::Start { run_id, at: now() },
        Change::Mark { run_id, devices: &[(1, 1)], ids: &ids, at: now() },
        Change::Unmark { run_id, ordinals: &[1] },
        Change::Record { run_id, outcomes: &[outcome(1, Reason::Offline)], ids: &ids },
        Change::Late { run_id, ordinal: 1, code: 200, message: "", at: now() },
        Change::End { run_id, status: RunStatus::Stopped, reason: None, at: now() },
        Change::KeepRecord { run_id, record: &record, devices: None },
        Change::Close { run_id },
        Change::DropIndexes { section: None, devices: 3 },
        Change::Import { spec: &spec, at: now(), outbox: "the report" },
        Change::Delivered { about: "a", files: &[] },
        Change::Note { what: Noted::KeptTip, commit: "c1" },
        Change::Seen { results_tip: "c2", applied_head: "c3" },
    ];
    let answers = fleet.registry.commit(&changes).unwrap();
    let is_nothing = |answer: &Answer| matches!(answer, Answer::Done) || *answer == Answer::Withheld(Vec::new());
    assert!(answers.len() == changes.len() && answers.iter().all(is_nothing), "{answers:?}");
    assert_eq!(fleet.ids().len(), 4);
}

pub fn nothing_is_answered_with_nothing(fresh: Fresh) {
    assert_eq!(Fleet::new(fresh).registry.commit(&[]).unwrap(), []);
}

pub fn a_second_claim_of_a_run_takes_the_commit_back(fresh: Fresh) {
    let (mut fleet, run_id) = under_way(fresh);
    let ids = fleet.registry.journal().targets(run_id).unwrap();
    let again = claim("dim", &ids);
    takes_back(&mut fleet, run_id, Change::Claim(new_run(&again, &ids)));
}

pub fn a_second_outcome_of_a_device_takes_the_commit_back(fresh: Fresh) {
    let (mut fleet, run_id) = under_way(fresh);
    let ids = fleet.registry.journal().targets(run_id).unwrap();
    let outcomes = [outcome(2, Reason::Timeout), outcome(0, Reason::Timeout)];
    takes_back(&mut fleet, run_id, Change::Record { run_id, outcomes: &outcomes, ids: &ids });
}

pub fn a_second_write_of_a_device_takes_the_commit_back(fresh: Fresh) {
    let (mut fleet, run_id) = under_way(fresh);
    let devices = [(0, "d-0000")];
    takes_back(&mut fleet, run_id, Change::Write { assignment: &level(), chunk: chunk(run_id, &devices) });
    assert_eq!(fleet.device("d-0000").desired, json!({}));
}

pub fn a_change_sees_those_before_it(fresh: Fresh) {
    let (mut fleet, run_id) = under_way(fresh);
    let (blocked, gone, assignment) = (texts(&["d-0001"]), texts(&["d-0002"]), level());
    let devices = [(1, "d-0001"), (2, "d-0002")];
    let answers = fleet.registry.commit(&[
        Change::Block { device_ids: &blocked, is_blocked: true, at: now() },
        Change::Delete { device_ids: &gone },
        Change::Write { assignment: &assignment, chunk: chunk(run_id, &devices) },
    ]);
    let written = answers.unwrap().pop().unwrap().into_written();
    assert_eq!(written, [(1, Reason::Blocked), (2, Reason::Deleted)]);
}

pub fn a_commit_that_failed_can_be_tried_without_its_mistake(fresh: Fresh) {
    let (mut fleet, run_id) = under_way(fresh);
    let ids = fleet.registry.journal().targets(run_id).unwrap();
    let (again, blocked) = (claim("dim", &ids), texts(&["d-0000"]));
    let block = || Change::Block { device_ids: &blocked, is_blocked: true, at: now() };
    let failed: Result<_, RegistryError> = fleet.registry.commit(&[block(), Change::Claim(new_run(&again, &ids))]);
    assert!(failed.is_err());
    assert_eq!(fleet.registry.commit(&[block()]).unwrap(), [Answer::Devices(blocked.clone())]);
}
