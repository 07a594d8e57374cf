//! Claims in the journal: journaled before the branch has them, confirmed once it has, dropped when another was faster.

use std::collections::BTreeMap;

use fleetform::ledger::claim_path;
use fleetform::model::delivery::BatchSizes;
use fleetform::model::digest::Digest;
use fleetform::model::id::RunToken;
use fleetform::model::observation::DeviceIds;
use fleetform::model::outcome::{Reason, RunStatus};
use fleetform::registry::{Change, JournaledRun, NewRun, Noted, Registry};

use super::Fresh;
use super::fleet::{Fleet, claim, document, name, new_run, now, outcome};

fn version(registry: &Registry) -> String {
    registry.journal().claims_version().unwrap().expect("an open registry keeps one")
}

fn jobs(registry: &Registry) -> Vec<String> {
    registry.journal().unclosed().unwrap().iter().map(|run| run.job.to_string()).collect()
}

pub fn a_claim_is_journaled_with_all_that_it_says(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let ids: DeviceIds = ["d-1", "d-2", "d-3"].into_iter().collect();
    let mut claim = claim("dim", &ids);
    claim.run = RunToken::parse("20261201T013000Z").unwrap();
    let new = NewRun {
        claim: &claim,
        document: document(&claim),
        spec: Some(r#"{"action":{}}"#),
        manifest: Some(Digest::of_bytes(b"manifest")),
        ids: &ids,
        sizes: BatchSizes { first: 2, size: 2 },
        keeps_answers: true,
    };
    let run_id = fleet.registry.write(Change::Claim(new)).unwrap().into_run();
    let expect = JournaledRun {
        run_id,
        job: name("dim"),
        run: claim.run.clone(),
        is_claimed: false,
        status: RunStatus::Pending,
        reason: None,
        total: 3,
        sizes: BatchSizes { first: 2, size: 2 },
        claim: document(&claim),
        spec: Some(r#"{"action":{}}"#.to_string()),
        manifest: Some(Digest::of_bytes(b"manifest")),
        started_at: None,
        finished_at: None,
        open_batch: None,
        keeps_answers: true,
    };
    assert_eq!(fleet.registry.journal().unclosed().unwrap(), [expect]);
    assert_eq!(fleet.registry.journal().targets(run_id).unwrap(), ids);
}

/// More devices than one row, or one transaction, has.
pub fn a_target_is_journaled_in_order(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let texts: Vec<String> = (0..2_500).map(|n| format!("d-{n:04}")).collect();
    let ids: DeviceIds = texts.iter().map(String::as_str).collect();
    let run_id = fleet.run_over("dim", &ids);
    assert_eq!(fleet.registry.journal().targets(run_id).unwrap(), ids);
}

pub fn a_run_is_found_once_its_claim_is_confirmed(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let run_id = fleet.run("dim");
    let find = |fleet: &Fleet, job: &str, run: &str| {
        fleet.registry.journal().find(&name(job), &RunToken::parse(run).unwrap()).unwrap()
    };
    assert_eq!(find(&fleet, "dim", "1"), None);
    fleet.registry.write(Change::Confirm { run_id }).unwrap();
    let found = find(&fleet, "dim", "1").unwrap();
    assert_eq!((found.run_id, found.is_claimed), (run_id, true));
    assert_eq!(find(&fleet, "dim", "2"), None);
    assert_eq!(find(&fleet, "lit", "1"), None);
}

pub fn runs_are_in_the_order_in_which_they_were_journaled(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    for job in ["dim", "z", "a", "m"] {
        fleet.run(job);
    }
    assert_eq!(jobs(&fleet.registry), ["dim", "z", "a", "m"]);
}

pub fn a_dropped_run_is_gone_and_can_be_claimed_again(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let run_id = fleet.run("dim");
    let at = "2026-11-20T10:00:00Z".parse().unwrap();
    // A backup that was put back: whether the run was sent is not known.
    fleet.registry.write(Change::CatchUp { sends: 3, runs: &[(run_id, 3)], at }).unwrap();
    fleet.registry.write(Change::Drop { run_id }).unwrap();
    assert_eq!(fleet.registry.journal().unclosed().unwrap(), []);
    assert_eq!(fleet.registry.journal().sent_marks(run_id).unwrap(), []);
    assert!(fleet.registry.journal().targets(run_id).unwrap().is_empty());
    let ids: DeviceIds = ["d-0001"].into_iter().collect();
    let again = fleet.run_over("dim", &ids);
    assert_eq!(jobs(&fleet.registry), ["dim"]);
    assert_eq!(fleet.registry.journal().targets(again).unwrap(), ids);
    assert_eq!(fleet.registry.journal().sent_marks(again).unwrap(), [], "also when it has the same number");
}

pub fn a_confirmed_run_is_not_dropped(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let run_id = fleet.run("dim");
    fleet.registry.write(Change::Confirm { run_id }).unwrap();
    fleet.registry.write(Change::Drop { run_id }).unwrap();
    assert_eq!(jobs(&fleet.registry), ["dim"]);
    assert_eq!(fleet.registry.journal().targets(run_id).unwrap(), fleet.target());
}

pub fn claim_documents_are_those_of_confirmed_claims(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let run_id = fleet.run("dim");
    fleet.run("other");
    fleet.registry.commit(&[Change::Confirm { run_id }, Change::Close { run_id }]).unwrap();
    let documents = fleet.registry.journal().claim_documents().unwrap();
    let expect = BTreeMap::from([(claim_path("dim", "1"), document(&claim("dim", &fleet.target())))]);
    assert_eq!(documents, expect);
}

pub fn the_version_of_claims_changes_whenever_claims_do(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let mut seen = vec![version(&fleet.registry)];
    let mut note = |registry: &Registry| {
        let version = version(registry);
        assert!(!seen.contains(&version), "{version} among {seen:?}");
        seen.push(version);
    };
    let kept = fleet.run("dim");
    note(&fleet.registry);
    fleet.registry.write(Change::Confirm { run_id: kept }).unwrap();
    note(&fleet.registry);
    let dropped = fleet.run("other");
    note(&fleet.registry);
    fleet.registry.write(Change::Drop { run_id: dropped }).unwrap();
    note(&fleet.registry);
    // The same claims as before the last two, and still another version: they have changed in between.
    fleet.run("other");
    note(&fleet.registry);
}

pub fn the_version_of_claims_stays_while_claims_do(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let run_id = fleet.run("dim");
    fleet.registry.write(Change::Confirm { run_id }).unwrap();
    let before = version(&fleet.registry);
    let ids = fleet.target();
    fleet
        .registry
        .commit(&[
            Change::Start { run_id, at: now() },
            Change::Mark { run_id, devices: &[(0, 1)], ids: &ids, at: now() },
            Change::Record { run_id, outcomes: &[outcome(0, Reason::Responded)], ids: &ids },
            Change::End { run_id, status: RunStatus::Stopped, reason: None, at: now() },
            Change::Note { what: Noted::ResultsTip, commit: "c1" },
            Change::Close { run_id },
        ])
        .unwrap();
    assert_eq!(version(&fleet.registry), before);
    assert_eq!(version(&fleet.reopened().registry), before);
}

pub fn the_version_of_claims_is_the_same_for_everybody(fresh: Fresh) {
    let fleet = Fleet::with_devices(fresh, 3);
    let reader = fleet.reader();
    let before = version(&reader);
    assert_eq!(before, version(&fleet.registry));
    let ids = fleet.target();
    let claim = claim("dim", &ids);
    fleet.another().write(Change::Claim(new_run(&claim, &ids))).unwrap();
    assert_ne!(version(&reader), before);
    assert_eq!(version(&reader), version(&fleet.registry));
}
