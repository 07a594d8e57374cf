use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Due, Instance, Occurrences, due};
use crate::model::delivery::Delivery;
use crate::model::digest::Digest;
use crate::model::id::Name;
use crate::model::job::{Action, Selector, Target};
use crate::model::limits;
use crate::model::patch::Patch;
use crate::model::schedule::{End, Missed, MissedPolicy, Overlap, Recurrence, Schedule, ScheduledJob};

fn schedule(start: &str, zone: &str, recurrence: Recurrence) -> Schedule {
    let patch = Patch::new(serde_json::Map::from_iter([("a".to_string(), 1.into())])).unwrap();
    Schedule {
        name: Name::parse("nightly").unwrap(),
        previous_names: Vec::new(),
        labels: Default::default(),
        start: start.parse().unwrap(),
        time_zone: TimeZone::get(zone).unwrap(),
        time_zone_name: zone.to_string(),
        recurrence,
        end: None,
        is_suspended: false,
        missed: Missed::default(),
        overlap: Overlap::Skip,
        job: ScheduledJob {
            spec: "{}".into(),
            spec_digest: Digest::of_bytes(b"job"),
            organization: None,
            target: Target { selector: Selector::Query("*".to_string()), expect: None },
            action: Action::Tags(patch),
            delivery: Delivery::default(),
        },
        file: "schedules/nightly.yaml".to_string(),
    }
}

fn weekly(days: &[i8]) -> Recurrence {
    let weekday = |day: &i8| jiff::civil::Weekday::from_monday_one_offset(*day).unwrap();
    Recurrence::Weekly { weekdays: days.iter().map(weekday).collect() }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Local nominal times and instants, one occurrence a line.
fn shown(occurrences: impl Iterator<Item = crate::model::schedule::Occurrence>) -> String {
    occurrences.map(|one| format!("{} {}", one.nominal, one.instant)).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_time_in_a_gap_is_read_with_the_offset_before_it_and_one_that_is_twice_is_the_first() {
    let daily = schedule("2026-03-28T02:30:00", "Europe/Amsterdam", Recurrence::Daily);
    insta::assert_snapshot!(shown(Occurrences::all(&daily).take(3)), @r"
    2026-03-28T02:30:00 2026-03-28T01:30:00Z
    2026-03-29T02:30:00 2026-03-29T01:30:00Z
    2026-03-30T02:30:00 2026-03-30T00:30:00Z
    ");
    let autumn = Occurrences::after(&daily, time("2026-10-24T12:00:00Z"));
    insta::assert_snapshot!(shown(autumn.take(2)), @r"
    2026-10-25T02:30:00 2026-10-25T00:30:00Z
    2026-10-26T02:30:00 2026-10-26T01:30:00Z
    ");
    let lord_howe = schedule("2026-10-03T02:15:00", "Australia/Lord_Howe", Recurrence::Daily);
    insta::assert_snapshot!(shown(Occurrences::all(&lord_howe).take(3)), @r"
    2026-10-03T02:15:00 2026-10-02T15:45:00Z
    2026-10-04T02:15:00 2026-10-03T15:45:00Z
    2026-10-05T02:15:00 2026-10-04T15:15:00Z
    ");
}

#[test]
fn a_day_that_was_left_out_falls_on_the_next_and_counts() {
    let mut apia = schedule("2011-12-29T12:00:00", "Pacific/Apia", Recurrence::Daily);
    insta::assert_snapshot!(shown(Occurrences::all(&apia).take(3)), @r"
    2011-12-29T12:00:00 2011-12-29T22:00:00Z
    2011-12-31T12:00:00 2011-12-30T22:00:00Z
    2012-01-01T12:00:00 2011-12-31T22:00:00Z
    ");
    apia.end = Some(End::After(3));
    assert_eq!(Occurrences::all(&apia).count(), 2);
    apia.end = Some(End::Until("2011-12-30".parse().unwrap()));
    insta::assert_snapshot!(shown(Occurrences::all(&apia)), @r"
    2011-12-29T12:00:00 2011-12-29T22:00:00Z
    2011-12-30T12:00:00 2011-12-30T22:00:00Z
    ");
}

#[test]
fn a_month_that_lacks_the_day_has_it_on_its_last() {
    let monthly = schedule("2027-12-31T00:00:00", "Asia/Kolkata", Recurrence::Monthly);
    insta::assert_snapshot!(shown(Occurrences::all(&monthly).take(5)), @r"
    2027-12-31T00:00:00 2027-12-30T18:30:00Z
    2028-01-31T00:00:00 2028-01-30T18:30:00Z
    2028-02-29T00:00:00 2028-02-28T18:30:00Z
    2028-03-31T00:00:00 2028-03-30T18:30:00Z
    2028-04-30T00:00:00 2028-04-29T18:30:00Z
    ");
}

#[test]
fn a_start_on_another_weekday_is_no_occurrence() {
    let mut twice_a_week = schedule("2026-12-01T02:30:00", "UTC", weekly(&[1, 4]));
    insta::assert_snapshot!(shown(Occurrences::all(&twice_a_week).take(3)), @r"
    2026-12-03T02:30:00 2026-12-03T02:30:00Z
    2026-12-07T02:30:00 2026-12-07T02:30:00Z
    2026-12-10T02:30:00 2026-12-10T02:30:00Z
    ");
    twice_a_week.end = Some(End::Until("2026-12-07".parse().unwrap()));
    assert_eq!(Occurrences::all(&twice_a_week).count(), 2);
    twice_a_week.end = Some(End::After(7));
    assert_eq!(Occurrences::all(&twice_a_week).count(), 7);
    assert_eq!(Occurrences::after(&twice_a_week, time("2500-01-01T00:00:00Z")).next(), None);
}

#[test]
fn what_runs_once_runs_once() {
    let once = schedule("2026-12-01T02:30:00", "UTC", Recurrence::Once);
    let at = time("2026-12-01T02:30:00Z");
    assert_eq!(Occurrences::all(&once).count(), 1);
    assert_eq!(Occurrences::at_or_after(&once, at).count(), 1);
    assert_eq!(Occurrences::after(&once, at).count(), 0);
    assert_eq!(Occurrences::after(&once, Timestamp::MIN).count(), 1);
    assert_eq!(Occurrences::after(&once, Timestamp::MAX).count(), 0);
}

#[test]
fn the_end_of_the_calendar_is_an_end() {
    for recurrence in [Recurrence::Once, Recurrence::Daily, weekly(&[1, 5]), Recurrence::Monthly] {
        for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Niue"] {
            let late = schedule("9999-12-03T23:59:59", zone, recurrence.clone());
            assert!(Occurrences::all(&late).count() <= 31);
            assert!(Occurrences::after(&late, Timestamp::MAX).next().is_none());
            assert!(Occurrences::after(&late, Timestamp::MIN).next().is_some());
        }
    }
}

#[test]
fn a_job_of_an_occurrence_has_its_token() {
    let nightly = schedule("2026-12-01T02:30:00", "Europe/Amsterdam", Recurrence::Daily);
    let job = nightly.job_at(Occurrences::all(&nightly).next().unwrap().instant);
    assert_eq!((job.name.as_str(), job.run.as_str()), ("nightly", "20261201T013000Z"));
    assert_eq!(job.spec_digest, nightly.job.spec_digest);
    assert!(nightly.owns(&job.name, &job.run));
    assert!(!nightly.owns(&job.name, &crate::model::id::RunToken::default()));
}

/// A daily schedule at midnight of UTC, from 2026-12-01 on.
fn midnight() -> Schedule {
    schedule("2026-12-01T00:00:00", "UTC", Recurrence::Daily)
}

/// Returns what is due at a time, as text; the last look was the second before the start.
fn told(schedule: &Schedule, settled: &[&str], instances: &[(&str, Option<&str>)], now: &str) -> String {
    let settled: BTreeSet<Timestamp> = settled.iter().map(|text| time(text)).collect();
    let instances: Vec<Instance> = instances
        .iter()
        .map(|(instant, finished)| Instance { instant: time(instant), finished_at: finished.map(time) })
        .collect();
    let since = time("2026-11-30T23:59:59Z");
    let found = due(schedule, since, &settled, &instances, time(now));
    let Due { start, waiting, missed, missed_before, next, decided_until } = found;
    let mut lines = Vec::new();
    let mut line = |word: &str, occurrence: Option<crate::model::schedule::Occurrence>| {
        lines.extend(occurrence.map(|one| format!("{word} {}", one.instant)));
    };
    line("start", start);
    line("waiting", waiting);
    line("next", next);
    lines.extend(missed.iter().map(|(one, why)| format!("missed {}: {} {why}", one.instant, why.word())));
    lines.extend((missed_before > 0).then(|| format!("{missed_before} before")));
    lines.push(format!("decided until {decided_until}"));
    lines.join("\n")
}

#[test]
fn an_occurrence_starts_when_it_is_on_time() {
    insta::assert_snapshot!(told(&midnight(), &[], &[], "2026-12-01T00:01:00Z"), @r"
    start 2026-12-01T00:00:00Z
    next 2026-12-02T00:00:00Z
    decided until 2026-11-30T23:59:59.999999999Z
    ");
    insta::assert_snapshot!(told(&midnight(), &[], &[], "2026-12-01T00:01:01Z"), @r"
    next 2026-12-02T00:00:00Z
    missed 2026-12-01T00:00:00Z: late Nothing started it within 1m of its time (`missed.policy: skip`).
    decided until 2026-12-01T00:01:01Z
    ");
    insta::assert_snapshot!(told(&midnight(), &["2026-12-01T00:00:00Z"], &[], "2026-12-01T00:00:30Z"), @r"
    next 2026-12-02T00:00:00Z
    decided until 2026-12-01T00:00:30Z
    ");
}

#[test]
fn the_newest_runs_late_when_it_may_and_the_older_ones_are_missed() {
    let mut patient = midnight();
    patient.missed = Missed { policy: MissedPolicy::RunOnce, within: Duration::from_secs(3_600) };
    insta::assert_snapshot!(told(&patient, &[], &[], "2026-12-03T01:00:00Z"), @r"
    start 2026-12-03T00:00:00Z
    next 2026-12-04T00:00:00Z
    missed 2026-12-01T00:00:00Z: superseded It had not started when that of 2026-12-03T00:00:00Z was due: only the newest runs late.
    missed 2026-12-02T00:00:00Z: superseded It had not started when that of 2026-12-03T00:00:00Z was due: only the newest runs late.
    decided until 2026-12-02T23:59:59.999999999Z
    ");
    insta::assert_snapshot!(told(&patient, &[], &[], "2026-12-01T01:00:01Z"), @r"
    next 2026-12-02T00:00:00Z
    missed 2026-12-01T00:00:00Z: late Nothing started it within 1h of its time (`missed.policy: runOnce`).
    decided until 2026-12-01T01:00:01Z
    ");
    // The newest is done: an older one does not start behind it.
    insta::assert_snapshot!(told(&patient, &["2026-12-02T00:00:00Z"], &[], "2026-12-02T00:00:30Z"), @r"
    next 2026-12-03T00:00:00Z
    missed 2026-12-01T00:00:00Z: superseded It had not started when that of 2026-12-02T00:00:00Z was due: only the newest runs late.
    decided until 2026-12-02T00:00:30Z
    ");
    // On time is on time, however impatient the policy.
    patient.missed.within = Duration::ZERO;
    insta::assert_snapshot!(told(&patient, &[], &[], "2026-12-01T00:00:59Z"), @r"
    start 2026-12-01T00:00:00Z
    next 2026-12-02T00:00:00Z
    decided until 2026-11-30T23:59:59.999999999Z
    ");
}

#[test]
fn an_occurrence_is_skipped_while_the_one_before_it_runs() {
    let first = "2026-12-01T00:00:00Z";
    insta::assert_snapshot!(told(&midnight(), &[first], &[(first, None)], "2026-12-02T00:00:10Z"), @r"
    next 2026-12-03T00:00:00Z
    missed 2026-12-02T00:00:00Z: overlap The occurrence of 2026-12-01T00:00:00Z was still under way (`overlap: skip`).
    decided until 2026-12-02T00:00:10Z
    ");
    // It ended between the time of the next one and now: the decision depends on those times only.
    let ended = [(first, Some("2026-12-02T00:00:05Z"))];
    insta::assert_snapshot!(told(&midnight(), &[first], &ended, "2026-12-02T00:00:10Z"), @r"
    next 2026-12-03T00:00:00Z
    missed 2026-12-02T00:00:00Z: overlap The occurrence of 2026-12-01T00:00:00Z was still under way (`overlap: skip`).
    decided until 2026-12-02T00:00:10Z
    ");
    let ended = [(first, Some("2026-12-02T00:00:00Z"))];
    insta::assert_snapshot!(told(&midnight(), &[first], &ended, "2026-12-02T00:00:10Z"), @r"
    start 2026-12-02T00:00:00Z
    next 2026-12-03T00:00:00Z
    decided until 2026-12-01T23:59:59.999999999Z
    ");
}

#[test]
fn an_occurrence_waits_in_a_queue_of_one() {
    let mut queued = midnight();
    queued.overlap = Overlap::Queue;
    let first = "2026-12-01T00:00:00Z";
    insta::assert_snapshot!(told(&queued, &[first], &[(first, None)], "2026-12-02T00:00:10Z"), @r"
    waiting 2026-12-02T00:00:00Z
    next 2026-12-03T00:00:00Z
    decided until 2026-12-01T23:59:59.999999999Z
    ");
    insta::assert_snapshot!(told(&queued, &[first], &[(first, None)], "2026-12-03T05:00:00Z"), @r"
    waiting 2026-12-03T00:00:00Z
    next 2026-12-04T00:00:00Z
    missed 2026-12-02T00:00:00Z: superseded It had not started when that of 2026-12-03T00:00:00Z was due: only the newest runs late.
    decided until 2026-12-02T23:59:59.999999999Z
    ");
    let ended = [(first, Some("2026-12-03T06:00:00Z"))];
    insta::assert_snapshot!(told(&queued, &[first], &ended, "2026-12-03T06:00:01Z"), @r"
    start 2026-12-03T00:00:00Z
    next 2026-12-04T00:00:00Z
    missed 2026-12-02T00:00:00Z: superseded It had not started when that of 2026-12-03T00:00:00Z was due: only the newest runs late.
    decided until 2026-12-02T23:59:59.999999999Z
    ");
    let ended = [(first, Some("2026-12-01T06:00:00Z"))];
    insta::assert_snapshot!(told(&queued, &[first], &ended, "2026-12-02T06:00:01Z"), @r"
    next 2026-12-03T00:00:00Z
    missed 2026-12-02T00:00:00Z: late Nothing started it within 1m of its time (`missed.policy: skip`).
    decided until 2026-12-02T06:00:01Z
    ");
}

#[test]
fn a_suspended_schedule_misses_nothing() {
    let mut suspended = midnight();
    suspended.is_suspended = true;
    insta::assert_snapshot!(told(&suspended, &[], &[], "2027-12-01T00:00:00Z"), @r"decided until 2027-12-01T00:00:00Z");
}

#[test]
fn a_long_absence_is_told_in_bounds() {
    let found = |settled: &BTreeSet<Timestamp>| {
        due(&midnight(), time("2026-11-30T23:59:59Z"), settled, &[], time("9000-01-01T12:00:00Z"))
    };
    let days = (time("9000-01-01T00:00:00Z").as_second() - time("2026-12-01T00:00:00Z").as_second()) as u64 / 86_400;
    let all = found(&BTreeSet::new());
    assert_eq!(all.missed.len() as u64, limits::MISSED_OCCURRENCES_MAX);
    assert_eq!(all.missed.len() as u64 + all.missed_before, days + 1);
    let sentence = all.missed_before_sentence().unwrap();
    assert_eq!(sentence, format!("{} older occurrences were missed too.", days + 1 - limits::MISSED_OCCURRENCES_MAX));
    // One that has a claim was not missed; a claim of another time is none of them.
    let settled = BTreeSet::from([time("2026-12-05T00:00:00Z"), time("2026-12-05T00:00:01Z")]);
    assert_eq!(found(&settled).missed_before, all.missed_before - 1);
}
