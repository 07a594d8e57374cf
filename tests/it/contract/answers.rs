//! Answers of devices that are kept whole, beside the outcomes that they are.

use fleetform::model::limits;
use fleetform::model::outcome::Reason;
use fleetform::registry::{Change, WholeAnswer};

use super::Fresh;
use super::fleet::{Fleet, after, outcome};

fn answer(ordinal: u32, payload: &[u8], seconds: i64) -> WholeAnswer {
    WholeAnswer { ordinal, code: 200 + u16::try_from(ordinal).unwrap(), payload: payload.to_vec(), at: after(seconds) }
}

fn keep(fleet: &mut Fleet, run_id: i64, answers: &[WholeAnswer]) {
    fleet.registry.write(Change::KeepAnswers { run_id, answers }).unwrap();
}

fn kept(fleet: &Fleet, run_id: i64, range: std::ops::Range<u32>) -> Vec<WholeAnswer> {
    let mut answers = Vec::new();
    fleet.registry.journal().each_answer(run_id, range, &mut |answer| answers.push(answer)).unwrap();
    answers
}

pub fn an_answer_is_kept_whole_beside_its_outcome(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 4);
    let (run_id, other) = (fleet.run("dim"), fleet.run("other"));
    let ids = fleet.target();
    let large: Vec<u8> = (0..limits::PAYLOAD_BYTES_MAX).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let answers = [answer(3, b"", 3), answer(0, &large, 1), answer(2, b"{\"a\": \"\\u0000\"}", 2)];
    let outcomes = [0, 2, 3].map(|ordinal| outcome(ordinal, Reason::Responded));
    let record = Change::Record { run_id, outcomes: &outcomes, ids: &ids };
    fleet.registry.commit(&[record, Change::KeepAnswers { run_id, answers: &answers }]).unwrap();
    keep(&mut fleet, other, &[answer(1, b"1", 9)]);
    let fleet = fleet.reopened();
    assert_eq!(kept(&fleet, run_id, 0..4), [answers[1].clone(), answers[2].clone(), answers[0].clone()]);
    assert_eq!(kept(&fleet, run_id, 1..3), [answers[2].clone()], "they are those of a range");
    assert_eq!(kept(&fleet, run_id, 4..u32::MAX), []);
    assert_eq!(kept(&fleet, other, 0..4), [answer(1, b"1", 9)], "they are of their run");
}

pub fn a_second_answer_takes_the_commit_back(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 2);
    let run_id = fleet.run("dim");
    keep(&mut fleet, run_id, &[answer(0, b"first", 1)]);
    let ids = fleet.target();
    let record = Change::Record { run_id, outcomes: &[outcome(0, Reason::Responded)], ids: &ids };
    let again = Change::KeepAnswers { run_id, answers: &[answer(0, b"second", 2)] };
    assert!(fleet.registry.commit(&[record, again]).is_err());
    assert_eq!(fleet.outcomes(run_id), []);
    assert_eq!(kept(&fleet, run_id, 0..2), [answer(0, b"first", 1)]);
}

pub fn answers_are_forgotten_with_time_and_with_their_run(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let (run_id, other) = (fleet.run("dim"), fleet.run("other"));
    keep(&mut fleet, run_id, &[answer(0, b"a", 1), answer(1, b"b", 5), answer(2, b"c", 6)]);
    keep(&mut fleet, other, &[answer(0, b"d", 4), answer(1, b"e", 7)]);
    let dropped =
        |fleet: &mut Fleet, before| fleet.registry.write(Change::DropAnswers { before }).unwrap().into_count();
    assert_eq!(dropped(&mut fleet, after(5)), 2);
    assert_eq!(dropped(&mut fleet, after(5)), 0);
    assert_eq!(kept(&fleet, run_id, 0..3), [answer(1, b"b", 5), answer(2, b"c", 6)]);
    fleet.registry.write(Change::Forget { run_id }).unwrap();
    assert_eq!(kept(&fleet, run_id, 0..3), []);
    assert_eq!(kept(&fleet, other, 0..3), [answer(1, b"e", 7)]);
    assert_eq!(fleet.registry.flaws().unwrap(), []);
}
