//! Runs in the journal: how far each is.

use fleetform::ledger::OpenRun;
use fleetform::model::id::RunToken;
use fleetform::model::outcome::{Reason, RunStatus};
use fleetform::model::patch::Section;
use fleetform::registry::{Assignment, Change, Chunk, JournaledRun};
use serde_json::json;

use super::Fresh;
use super::fleet::{Fleet, after, name, now, outcome};

/// The only run that is not closed.
fn only(fleet: &Fleet) -> JournaledRun {
    let mut runs = fleet.registry.journal().unclosed().unwrap();
    assert_eq!(runs.len(), 1);
    runs.remove(0)
}

fn end(fleet: &mut Fleet, run_id: i64, status: RunStatus, reason: Option<&str>) {
    fleet.registry.write(Change::End { run_id, status, reason, at: after(60) }).unwrap();
}

pub fn a_run_starts_once_and_goes_on(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let run_id = fleet.run("dim");
    fleet.registry.write(Change::Start { run_id, at: now() }).unwrap();
    assert_eq!((only(&fleet).status, only(&fleet).started_at), (RunStatus::Running, Some(now())));
    end(&mut fleet, run_id, RunStatus::Stopped, None);
    fleet.registry.write(Change::Start { run_id, at: after(90) }).unwrap();
    assert_eq!((only(&fleet).status, only(&fleet).started_at), (RunStatus::Running, Some(now())));
}

pub fn a_final_status_keeps_its_time(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let run_id = fleet.run("dim");
    end(&mut fleet, run_id, RunStatus::Canceled, Some("2 of 3 devices failed"));
    let run = only(&fleet);
    assert_eq!((run.status, run.finished_at), (RunStatus::Canceled, Some(after(60))));
    assert_eq!(run.reason.as_deref(), Some("2 of 3 devices failed"));
}

pub fn a_status_that_is_not_final_has_no_time(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let run_id = fleet.run("dim");
    end(&mut fleet, run_id, RunStatus::Stopped, Some("by a person"));
    let run = only(&fleet);
    assert_eq!((run.status, run.reason.as_deref(), run.finished_at), (RunStatus::Stopped, Some("by a person"), None));
    end(&mut fleet, run_id, RunStatus::Pending, None);
    assert_eq!((only(&fleet).status, only(&fleet).reason), (RunStatus::Pending, None));
}

pub fn a_closed_run_is_found_and_not_open(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let run_id = fleet.run("dim");
    fleet.run("other");
    fleet.registry.write(Change::Confirm { run_id }).unwrap();
    end(&mut fleet, run_id, RunStatus::Completed, None);
    fleet.registry.write(Change::Close { run_id }).unwrap();
    assert_eq!(only(&fleet).job, name("other"));
    assert!(fleet.registry.journal().open_runs(&|_| false).unwrap().is_empty());
    let found = fleet.registry.journal().find(&name("dim"), &RunToken::default()).unwrap().unwrap();
    assert_eq!((found.run_id, found.status), (run_id, RunStatus::Completed));
}

pub fn the_counts_of_an_open_run_add_up(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 10);
    let run_id = fleet.run("dim");
    // A run beside it, whose devices are not counted.
    let other = fleet.run("other");
    fleet.record(other, &[outcome(7, Reason::Timeout)]);
    let ids = fleet.target();
    let outcomes = [outcome(0, Reason::Written), outcome(1, Reason::Unchanged), outcome(2, Reason::Rejected)];
    let assignment = Assignment::patch(Section::Desired, json!({"level": 3}));
    let devices = [(5, "d-0005")];
    let chunk = Chunk { run_id, devices: &devices, failures_left: None, awaits_acknowledgement: true, now: now() };
    fleet
        .registry
        .commit(&[
            Change::Confirm { run_id },
            Change::Start { run_id, at: now() },
            Change::Mark { run_id, devices: &[(2, 1), (3, 1), (4, 1)], ids: &ids, at: now() },
            Change::Unmark { run_id, ordinals: &[4] },
            Change::Record { run_id, outcomes: &outcomes, ids: &ids },
            Change::Write { assignment: &assignment, chunk },
            Change::Late { run_id, ordinal: 2, code: 200, message: "", at: now() },
        ])
        .unwrap();
    let open = fleet.registry.journal().open_runs(&|_| false).unwrap();
    let expect = OpenRun {
        status: RunStatus::Running,
        total: 10,
        completed: 2,
        failed: 1,
        unchanged: 1,
        in_flight: 1,
        waiting: 2,
        late: 1,
        started_at: Some(now()),
    };
    assert_eq!(open.into_iter().collect::<Vec<_>>(), [((name("dim"), RunToken::default()), expect)]);
}

pub fn an_unconfirmed_run_is_open_when_its_claim_is_published(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    fleet.run("dim");
    fleet.run("other");
    let open = fleet.registry.journal().open_runs(&|run| run.job == name("other")).unwrap();
    let jobs: Vec<String> = open.keys().map(|(job, _)| job.to_string()).collect();
    assert_eq!(jobs, ["other"]);
}

pub fn a_forgotten_run_leaves_nothing_behind(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 10);
    let (run_id, other) = (fleet.run("dim"), fleet.run("other"));
    let ids = fleet.target();
    for run_id in [run_id, other] {
        fleet.record(run_id, &[outcome(0, Reason::Written)]);
        fleet.registry.write(Change::Mark { run_id, devices: &[(1, 1)], ids: &ids, at: now() }).unwrap();
    }
    fleet.registry.write(Change::Forget { run_id }).unwrap();
    let open = fleet.registry.journal().unclosed().unwrap();
    assert_eq!(open.iter().map(|run| run.run_id).collect::<Vec<_>>(), [other]);
    assert_eq!((fleet.outcomes(run_id), fleet.marked(run_id)), (vec![], vec![]));
    assert_eq!((fleet.outcomes(other).len(), fleet.marked(other)), (1, vec![1]));
    assert_eq!(fleet.registry.journal().targets(run_id).unwrap().len(), 0);
}
