//! Sent marks: who was spoken to and has no outcome. And the answers that came after it.

use fleetform::model::outcome::{Reason, SentMark};
use fleetform::registry::{Answer, Change, LateAnswer, OpenBatch, Waits};

use super::Fresh;
use super::fleet::{Fleet, after, now, outcome};

/// Ten devices and a run over them; with its number.
fn claimed(fresh: Fresh) -> (Fleet, i64) {
    let mut fleet = Fleet::with_devices(fresh, 10);
    let run_id = fleet.run("dim");
    (fleet, run_id)
}

fn mark(fleet: &mut Fleet, run_id: i64, devices: &[(u32, u32)]) {
    let ids = fleet.target();
    fleet.registry.write(Change::Mark { run_id, devices, ids: &ids, at: now() }).unwrap();
}

fn marks(fleet: &Fleet, run_id: i64) -> Vec<(u32, u32)> {
    let marks = fleet.registry.journal().sent_marks(run_id).unwrap();
    marks.into_iter().map(|mark| (mark.ordinal, mark.attempt)).collect()
}

fn waiting(fleet: &Fleet, run_id: i64, waits: Waits) -> (u64, Vec<u32>) {
    fleet.registry.journal().waiting(run_id, waits, 100).unwrap()
}

pub fn marks_are_sorted_and_have_the_last_attempt(fresh: Fresh) {
    let (mut fleet, run_id) = claimed(fresh);
    mark(&mut fleet, run_id, &[(7, 1), (2, 1)]);
    mark(&mut fleet, run_id, &[(5, 1), (2, 2)]);
    assert_eq!(marks(&fleet, run_id), [(2, 2), (5, 1), (7, 1)]);
}

pub fn a_mark_has_the_time_at_which_the_device_was_spoken_to(fresh: Fresh) {
    let (mut fleet, run_id) = claimed(fresh);
    mark(&mut fleet, run_id, &[(1, 1)]);
    let ids = fleet.target();
    fleet.registry.write(Change::Mark { run_id, devices: &[(2, 3)], ids: &ids, at: after(5) }).unwrap();
    let marks = fleet.registry.journal().sent_marks(run_id).unwrap();
    let expect = [(1, 1, now()), (2, 3, after(5))].map(|(ordinal, attempt, at)| SentMark { ordinal, attempt, at });
    assert_eq!(marks, expect);
}

pub fn a_device_that_was_blocked_or_deleted_meanwhile_is_not_marked(fresh: Fresh) {
    let (mut fleet, run_id) = claimed(fresh);
    let ids = fleet.target();
    fleet.block(&["d-0002"]);
    fleet.delete(&["d-0004"]);
    let change = Change::Mark { run_id, devices: &[(1, 1), (2, 1), (3, 1), (4, 1)], ids: &ids, at: now() };
    let answer = fleet.registry.write(change).unwrap();
    assert_eq!(answer, Answer::Withheld(vec![(2, Reason::Blocked), (4, Reason::Deleted)]));
    assert_eq!(marks(&fleet, run_id), [(1, 1), (3, 1)]);
}

pub fn the_batch_that_was_opened_last_is_noted(fresh: Fresh) {
    let (mut fleet, run_id) = claimed(fresh);
    let opened = |fleet: &Fleet| fleet.registry.journal().unclosed().unwrap()[0].open_batch;
    assert_eq!(opened(&fleet), None);
    for batch in 0..2 {
        let opened = OpenBatch { batch, at: after(i64::from(batch)) };
        fleet.registry.write(Change::OpenBatch { run_id, opened }).unwrap();
    }
    assert_eq!(opened(&fleet), Some(OpenBatch { batch: 1, at: after(1) }));
}

pub fn an_unmarked_device_waits_to_connect(fresh: Fresh) {
    let (mut fleet, run_id) = claimed(fresh);
    mark(&mut fleet, run_id, &[(1, 1), (2, 1), (3, 1)]);
    fleet.registry.write(Change::Unmark { run_id, ordinals: &[3, 1] }).unwrap();
    assert_eq!(marks(&fleet, run_id), [(2, 1)]);
    assert_eq!(waiting(&fleet, run_id, Waits::ToConnect), (2, vec![1, 3]));
    assert_eq!(waiting(&fleet, run_id, Waits::ToAnswer), (1, vec![2]));
    assert_eq!(waiting(&fleet, run_id, Waits::ToAcknowledge), (0, vec![]));
}

pub fn a_device_that_is_marked_again_waits_to_answer(fresh: Fresh) {
    let (mut fleet, run_id) = claimed(fresh);
    mark(&mut fleet, run_id, &[(1, 1)]);
    fleet.registry.write(Change::Unmark { run_id, ordinals: &[1] }).unwrap();
    mark(&mut fleet, run_id, &[(1, 2)]);
    assert_eq!(marks(&fleet, run_id), [(1, 2)]);
    assert_eq!(waiting(&fleet, run_id, Waits::ToConnect), (0, vec![]));
}

pub fn waiting_devices_are_counted_beyond_those_that_are_listed(fresh: Fresh) {
    let (mut fleet, run_id) = claimed(fresh);
    mark(&mut fleet, run_id, &[(8, 1), (1, 1), (4, 1)]);
    let found = fleet.registry.journal().waiting(run_id, Waits::ToAnswer, 2).unwrap();
    assert_eq!(found, (3, vec![1, 4]));
}

pub fn an_outcome_takes_the_mark(fresh: Fresh) {
    let (mut fleet, run_id) = claimed(fresh);
    mark(&mut fleet, run_id, &[(1, 1), (2, 1), (3, 1)]);
    fleet.registry.write(Change::Unmark { run_id, ordinals: &[3] }).unwrap();
    fleet.record(run_id, &[outcome(1, Reason::Responded), outcome(3, Reason::Expired)]);
    assert_eq!(marks(&fleet, run_id), [(2, 1)]);
    assert_eq!(waiting(&fleet, run_id, Waits::ToConnect), (0, vec![]));
}

pub fn marks_are_of_their_run(fresh: Fresh) {
    let (mut fleet, run_id) = claimed(fresh);
    let other = fleet.run("other");
    mark(&mut fleet, run_id, &[(1, 1)]);
    mark(&mut fleet, other, &[(2, 1)]);
    fleet.record(other, &[outcome(1, Reason::Responded)]);
    assert_eq!(marks(&fleet, run_id), [(1, 1)]);
    assert_eq!(marks(&fleet, other), [(2, 1)]);
}

pub fn late_answers_come_in_order_and_change_no_outcome(fresh: Fresh) {
    let (mut fleet, run_id) = claimed(fresh);
    fleet.record(run_id, &[outcome(1, Reason::Timeout), outcome(2, Reason::Timeout)]);
    for (ordinal, code, seconds) in [(2, 500, 3), (1, 200, 5), (2, 200, 8)] {
        let at = after(seconds);
        fleet.registry.write(Change::Late { run_id, ordinal, code, message: "so late", at }).unwrap();
    }
    let late =
        |ordinal, code, seconds| LateAnswer { ordinal, code, message: "so late".to_string(), at: after(seconds) };
    assert_eq!(fleet.registry.journal().count_late(run_id).unwrap(), 3);
    let first = fleet.registry.journal().late_answers(run_id, 2).unwrap();
    assert_eq!(first, [late(2, 500, 3), late(1, 200, 5)]);
    assert_eq!(fleet.outcomes(run_id), [(1, Reason::Timeout), (2, Reason::Timeout)]);
}
