//! Outcomes as they are recorded, and the rows of results that are made of them.

use std::ops::Range;

use fleetform::model::delivery::BatchSizes;
use fleetform::model::device::{ConnectionState, DeviceState};
use fleetform::model::outcome::{Outcome, Reason};
use fleetform::model::patch::Section;
use fleetform::registry::{
    Assignment, Change, Chunk, ImportSpec, NewRun, OutcomeCount, PendingRows, Registry, ResultRow,
};
use serde_json::json;

use super::Fresh;
use super::fleet::{Fleet, after, claim, new_run, now, outcome, spec};

fn rows(fleet: &Fleet, run_id: i64, range: Range<u32>, pending: PendingRows) -> Vec<ResultRow> {
    let ids = fleet.registry.journal().targets(run_id).unwrap();
    let mut rows = Vec::new();
    fleet.registry.journal().each_result(run_id, &ids, range, pending, &mut |row| rows.push(row)).unwrap();
    rows
}

/// A run over five devices, each of which is in another state; with its number.
fn mixed(fresh: Fresh) -> (Fleet, i64) {
    let mut fleet = Fleet::with_devices(fresh, 5);
    let run_id = fleet.run("dim");
    let ids = fleet.target();
    let assignment = Assignment::patch(Section::Desired, json!({"level": 3}));
    let devices = [(3, "d-0003")];
    let chunk = Chunk { run_id, devices: &devices, failures_left: None, awaits_acknowledgement: true, now: after(3) };
    fleet
        .registry
        .commit(&[
            Change::Record { run_id, outcomes: &[outcome(0, Reason::Responded)], ids: &ids },
            Change::Mark { run_id, devices: &[(1, 2), (2, 1)], ids: &ids, at: after(2) },
            Change::Unmark { run_id, ordinals: &[2] },
            Change::Write { assignment: &assignment, chunk },
        ])
        .unwrap();
    (fleet, run_id)
}

/// What a row says of a device without an outcome. The last is how many seconds after [`now`] it was spoken to.
fn said(row: &ResultRow) -> (u32, Reason, &str, u32, Option<i64>) {
    let Outcome { ordinal, reason, code, message, attempts, started_at, finished_at } = &row.outcome;
    assert_eq!((*code, *finished_at), (None, None));
    (*ordinal, *reason, message, *attempts, started_at.map(|at| at.as_second() - now().as_second()))
}

pub fn outcomes_come_in_order(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 5);
    let run_id = fleet.run("dim");
    fleet.record(run_id, &[outcome(3, Reason::Timeout), outcome(1, Reason::Responded)]);
    fleet.record(run_id, &[Outcome { attempts: 4, ..outcome(2, Reason::Offline) }]);
    let mut found = Vec::new();
    let mut keep = |ordinal, reason, attempts| found.push((ordinal, reason, attempts));
    fleet.registry.journal().each_outcome(run_id, &mut keep).unwrap();
    assert_eq!(found, [(1, Reason::Responded, 1), (2, Reason::Offline, 4), (3, Reason::Timeout, 1)]);
}

pub fn outcomes_are_counted_by_batch_and_reason(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 8);
    let (ids, claim) = (fleet.target(), claim("dim", &fleet.target()));
    let sizes = BatchSizes { first: 2, size: 3 };
    let run = Change::Claim(NewRun { sizes, ..new_run(&claim, &ids) });
    let run_id = fleet.registry.write(run).unwrap().into_run();
    fleet.registry.write(Change::Confirm { run_id }).unwrap();
    fleet.record(run_id, &[outcome(0, Reason::Responded), outcome(1, Reason::Timeout), outcome(7, Reason::Timeout)]);
    let assignment = Assignment::patch(Section::Desired, json!({"level": 3}));
    let devices = [(2, "d-0002"), (3, "d-0003"), (5, "d-0005")];
    let chunk = Chunk { run_id, devices: &devices, failures_left: None, awaits_acknowledgement: false, now: after(3) };
    fleet.registry.write(Change::Write { assignment: &assignment, chunk }).unwrap();
    // What is taken back counts nothing.
    let again = [outcome(6, Reason::Timeout), outcome(1, Reason::Timeout)];
    fleet.registry.write(Change::Record { run_id, outcomes: &again, ids: &ids }).unwrap_err();
    fleet.record(run_id, &[outcome(4, Reason::Unchanged)]);
    let counts = |registry: &Registry| registry.journal().outcome_counts(run_id).unwrap();
    let count = |batch, reason, devices| OutcomeCount { batch, reason, devices };
    let expect = [
        count(0, Reason::Responded, 1),
        count(0, Reason::Timeout, 1),
        count(1, Reason::Written, 2),
        count(1, Reason::Unchanged, 1),
        count(2, Reason::Written, 1),
        count(2, Reason::Timeout, 1),
    ];
    assert_eq!(counts(&fleet.registry), expect);
    let open = fleet.registry.journal().open_runs(&|_| false).unwrap();
    let open = open.values().next().unwrap();
    assert_eq!((open.total, open.completed, open.failed, open.unchanged), (8, 5, 2, 1));
    // A copy has the rows, and counts them itself.
    let mut other = Fleet::new(fresh);
    other.registry.copy_from(&fleet.registry).unwrap();
    assert_eq!(counts(&other.registry), expect);
    assert_eq!(other.registry.flaws().unwrap(), []);
    fleet.registry.write(Change::Forget { run_id }).unwrap();
    assert_eq!(counts(&fleet.registry), []);
    assert_eq!(fleet.registry.flaws().unwrap(), []);
}

pub fn a_device_that_is_deleted_meanwhile_keeps_its_name(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 5);
    let run_id = fleet.run("dim");
    let before = rows(&fleet, run_id, 0..2, PendingRows::UnderWay);
    fleet.registry.write(Change::Delete { device_ids: &["d-0001".to_string()] }).unwrap();
    assert!(!before[1].device_name.is_empty());
    assert_eq!(rows(&fleet, run_id, 0..2, PendingRows::UnderWay), before);
}

pub fn a_recorded_outcome_reads_back(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 20);
    let run_id = fleet.run("dim");
    let terminal = Reason::ALL.into_iter().filter(|reason| *reason as u8 >= Reason::Written as u8);
    let mut outcomes: Vec<Outcome> = (0..).zip(terminal).map(|(ordinal, reason)| outcome(ordinal, reason)).collect();
    outcomes[0].started_at = None;
    outcomes[0].finished_at = None;
    outcomes[1].code = Some(65_535);
    outcomes[1].message = "it's \"fine\", naïve 😀".to_string();
    outcomes[1].attempts = 100;
    outcomes[1].started_at = Some("2026-11-20T10:00:00.000001Z".parse().unwrap());
    outcomes[1].finished_at = Some("2026-11-20T10:00:00.999999Z".parse().unwrap());
    fleet.record(run_id, &outcomes);
    let found: Vec<Outcome> =
        rows(&fleet, run_id, 0..20, PendingRows::Omitted).into_iter().map(|row| row.outcome).collect();
    assert_eq!(found, outcomes);
}

pub fn an_answer_says_that_its_device_is_connected(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let spec = ImportSpec { template: Some("lamp".to_string()), ..spec("a") };
    fleet.import(&spec, "IOTC_DEVICEID\nd-0000\nd-0001\nd-0002\nd-0003\n");
    let run_id = fleet.run("dim");
    fleet.record(
        run_id,
        &[
            outcome(0, Reason::Responded),
            outcome(1, Reason::Acknowledged),
            outcome(2, Reason::Rejected),
            outcome(3, Reason::Timeout),
        ],
    );
    for id in ["d-0000", "d-0001", "d-0002"] {
        let device = fleet.device(id);
        assert_eq!(device.connection_state, ConnectionState::Connected, "{id}");
        assert_eq!((device.last_activity, device.state), (Some(after(1)), DeviceState::Provisioned), "{id}");
    }
    let device = fleet.device("d-0003");
    assert_eq!((device.last_activity, device.state), (None, DeviceState::Registered));
}

pub fn a_device_that_was_not_reached_is_disconnected(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    let run_id = fleet.run("dim");
    fleet.record(run_id, &[outcome(0, Reason::Responded)]);
    let other = fleet.run("other");
    fleet.record(other, &[outcome(0, Reason::Offline)]);
    let device = fleet.device("d-0000");
    assert_eq!((device.connection_state, device.last_activity), (ConnectionState::Disconnected, Some(after(1))));
}

pub fn devices_without_an_outcome_are_pending(fresh: Fresh) {
    let (fleet, run_id) = mixed(fresh);
    let pending = fleet.registry.journal().pending_targets(run_id).unwrap();
    assert_eq!(pending.iter().collect::<Vec<_>>(), ["d-0001", "d-0002", "d-0003", "d-0004"]);
}

pub fn pending_rows_are_omitted(fresh: Fresh) {
    let (fleet, run_id) = mixed(fresh);
    let found = rows(&fleet, run_id, 0..5, PendingRows::Omitted);
    let expect = ResultRow {
        device_id: "d-0000".to_string(),
        device_name: "d-0000".to_string(),
        outcome: outcome(0, Reason::Responded),
    };
    assert_eq!(found, [expect]);
}

pub fn pending_rows_of_a_run_under_way_say_what_they_wait_for(fresh: Fresh) {
    let (fleet, run_id) = mixed(fresh);
    let found = rows(&fleet, run_id, 0..5, PendingRows::UnderWay);
    assert_eq!(found[0].outcome, outcome(0, Reason::Responded));
    let expect = [
        (1, Reason::InFlight, "", 2, Some(2)),
        (2, Reason::Waiting, "not delivered; it waits to come online", 1, Some(2)),
        (3, Reason::Waiting, "written; not acknowledged yet", 1, Some(3)),
        (4, Reason::Queued, "", 0, None),
    ];
    assert_eq!(found[1..].iter().map(said).collect::<Vec<_>>(), expect);
}

pub fn pending_rows_of_a_run_that_ended_say_what_they_were_left_in(fresh: Fresh) {
    let (fleet, run_id) = mixed(fresh);
    let found = rows(&fleet, run_id, 0..5, PendingRows::Ended);
    assert_eq!(found[0].outcome, outcome(0, Reason::Responded));
    let expect = [
        (1, Reason::InFlight, "", 2, Some(2)),
        (2, Reason::Waiting, "not delivered; the job ended before the device came online", 1, Some(2)),
        (3, Reason::Waiting, "written; the job ended before the device acknowledged it", 1, Some(3)),
        (4, Reason::Queued, "", 0, None),
    ];
    assert_eq!(found[1..].iter().map(said).collect::<Vec<_>>(), expect);
}

pub fn rows_are_those_of_a_range(fresh: Fresh) {
    let (fleet, run_id) = mixed(fresh);
    let ordinals = |range, pending| {
        let rows = rows(&fleet, run_id, range, pending);
        rows.iter().map(|row| (row.outcome.ordinal, row.device_id.clone())).collect::<Vec<_>>()
    };
    let expect = [(1, "d-0001".to_string()), (2, "d-0002".to_string())];
    assert_eq!(ordinals(1..3, PendingRows::UnderWay), expect);
    assert_eq!(ordinals(1..3, PendingRows::Omitted), []);
    assert_eq!(ordinals(2..2, PendingRows::UnderWay), []);
}

pub fn rows_have_the_names_that_devices_have_now(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let header = "IOTC_DEVICEID,IOTC_DEVICENAME\n";
    fleet.import(&spec("a"), &format!("{header}d-1,One\nd-2,Two\nd-3,Three\n"));
    let run_id = fleet.run("dim");
    fleet.record(run_id, &[outcome(0, Reason::Written), outcome(1, Reason::Written)]);
    fleet.import(&spec("a"), &format!("{header}d-1,Uno\nd-2,Two\nd-3,Three\n"));
    fleet.delete(&["d-2", "d-3"]);
    let found = rows(&fleet, run_id, 0..3, PendingRows::UnderWay);
    let named: Vec<(&str, &str)> = found.iter().map(|row| (row.device_id.as_str(), row.device_name.as_str())).collect();
    assert_eq!(named, [("d-1", "Uno"), ("d-2", "Two"), ("d-3", "Three")], "deleted ones have the last one");
}

/// One device in three is in the run, and every tenth of these is gone. It has its name as long as a run is open.
pub fn rows_of_devices_far_apart_have_their_names(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 5_000);
    let targets: Vec<String> = fleet.ids().into_iter().step_by(3).collect();
    let run_id = fleet.run_over("dim", &targets.iter().map(String::as_str).collect());
    let gone: Vec<&str> = targets.iter().map(String::as_str).step_by(10).collect();
    fleet.delete(&gone);
    let end = u32::try_from(targets.len()).unwrap();
    for is_open in [true, false] {
        let found = rows(&fleet, run_id, 0..end, PendingRows::UnderWay);
        assert_eq!(found.len(), targets.len());
        for (row, id) in found.iter().zip(&targets) {
            let name = if gone.contains(&id.as_str()) && !is_open { "" } else { id };
            assert_eq!((&row.device_id, row.device_name.as_str()), (id, name));
        }
        fleet.registry.write(Change::Close { run_id }).unwrap();
    }
}
