//! When schedules run, against another implementation that shares no code with ours: Python's `zoneinfo` and `dateutil`
//! (`tests/oracle/occurrences.py`), over every time zone of the system's database.
//!
//! `FLEETFORM_ORACLE_SCHEDULES=20000 cargo test --test it occurrences` compares more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fleetform::model::delivery::Delivery;
use fleetform::model::digest::Digest;
use fleetform::model::id::Name;
use fleetform::model::job::{Action, Selector, Target};
use fleetform::model::patch::Patch;
use fleetform::model::schedule::{
    End, Missed, Occurrence, Overlap, Recurrence, Schedule, ScheduledJob, occurrence_instant, occurrence_token,
    weekday_word,
};
use fleetform::schedule::Occurrences;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Where Python and jiff both find the rules of time zones.
const ZONES: &str = "/usr/share/zoneinfo";
const MISSING: &str = "this test compares with another implementation: install `python3`, its module `dateutil` \
    (python3-dateutil) and `tzdata`";
/// Zones with half an hour of summer time, without summer time, with a skipped day, with summer time that pauses for a
/// month, and at the extremes.
const ALWAYS: [&str; 8] = [
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "Pacific/Apia",
    "Africa/Casablanca",
    "Europe/Amsterdam",
    "America/New_York",
    "Pacific/Kiritimati",
    "Antarctica/Troll",
];

fn schedule(start: DateTime, zone: &str, recurrence: Recurrence, end: Option<End>) -> Schedule {
    let patch = Patch::new(serde_json::Map::from_iter([("a".to_string(), json!(1))])).unwrap();
    Schedule {
        name: Name::parse("nightly").unwrap(),
        previous_names: Vec::new(),
        labels: Default::default(),
        start,
        time_zone: TimeZone::get(zone).unwrap(),
        time_zone_name: zone.to_string(),
        recurrence,
        end,
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

/// Numbers that look random and are the same every time (SplitMix64).
struct Draw(u64);

impl Draw {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: i64) -> i64 {
        i64::try_from(self.number() % u64::try_from(bound).unwrap()).unwrap()
    }
}

/// A schedule and the part of its occurrences that is compared.
struct Question {
    schedule: Schedule,
    after: Timestamp,
    take: usize,
}

impl Question {
    /// Draws a schedule from 2010 to 2040. Half of them are made so that an occurrence falls into, or right beside, a
    /// change of the clock.
    fn draw(zone: &str, draw: &mut Draw) -> Question {
        let rules = TimeZone::get(zone).unwrap();
        let (first, last): (Date, Date) = ("2010-01-01".parse().unwrap(), "2039-06-30".parse().unwrap());
        let days = first.duration_until(last).as_hours() / 24;
        let mut start = first.checked_add(Span::new().days(draw.below(days))).unwrap().at(
            i8::try_from(draw.below(24)).unwrap(),
            i8::try_from(draw.below(60)).unwrap(),
            i8::try_from(draw.below(4) * draw.below(20)).unwrap(),
            0,
        );
        let recurrence = match draw.below(16) {
            0 => Recurrence::Once,
            1..=6 => Recurrence::Daily,
            7..=10 => {
                let days = draw.below(127) + 1;
                let is_drawn = |weekday: &Weekday| days >> weekday.to_monday_zero_offset() & 1 == 1;
                Recurrence::Weekly { weekdays: Weekday::Monday.cycle_forward().take(7).filter(is_drawn).collect() }
            }
            _ => Recurrence::Monthly,
        };
        let mut is_near_change = false;
        let instant = rules.to_ambiguous_timestamp(start).compatible().unwrap();
        if draw.below(2) == 0
            && let Some(change) = rules.following(instant).nth(usize::try_from(draw.below(2)).unwrap())
        {
            is_near_change = true;
            // The local time right before the change, or up to an hour from there, a few occurrences earlier.
            let before = rules.to_datetime(change.timestamp().checked_sub(Span::new().seconds(1)).unwrap());
            let near = before.checked_add(Span::new().minutes(draw.below(120) - 60).seconds(1)).unwrap();
            let back = draw.below(5);
            start = match &recurrence {
                Recurrence::Once => near,
                Recurrence::Daily => near.checked_sub(Span::new().days(back)).unwrap(),
                Recurrence::Weekly { .. } => near.checked_sub(Span::new().weeks(back)).unwrap(),
                Recurrence::Monthly => near.checked_sub(Span::new().months(back)).unwrap(),
            };
        }
        let end = match draw.below(4) {
            0 => Some(End::After(u64::try_from(draw.below(60) + 1).unwrap())),
            1 => Some(End::Until(start.date().checked_add(Span::new().days(draw.below(900))).unwrap())),
            _ => None,
        };
        let schedule = schedule(start, zone, recurrence, end);
        // From before the start to long after it, but not so long that the other implementation, which walks there,
        // takes much time.
        let walked = match schedule.recurrence {
            // The change comes first.
            _ if is_near_change => 4,
            Recurrence::Once | Recurrence::Daily => 200,
            Recurrence::Weekly { .. } => 700,
            Recurrence::Monthly => 6_000,
        };
        let from = start.checked_add(Span::new().days(draw.below(walked + 100) - 100)).unwrap();
        let after = TimeZone::UTC.to_timestamp(from).unwrap();
        Question { schedule, after, take: usize::try_from(draw.below(40) + 1).unwrap() }
    }

    fn to_json(&self) -> Value {
        let schedule = &self.schedule;
        let weekdays: Vec<&str> = match &schedule.recurrence {
            Recurrence::Weekly { weekdays } => weekdays.iter().copied().map(weekday_word).collect(),
            Recurrence::Once | Recurrence::Daily | Recurrence::Monthly => Vec::new(),
        };
        let (until, count) = match schedule.end {
            Some(End::Until(date)) => (Some(date.to_string()), None),
            Some(End::After(count)) => (None, Some(count)),
            None => (None, None),
        };
        json!({
            "zone": schedule.time_zone_name,
            "start": schedule.start.to_string(),
            "recurrence": schedule.recurrence.word(),
            "weekdays": weekdays,
            "until": until,
            "count": count,
            "after": self.after.as_second(),
            // One more, because two of one instant are one here.
            "take": self.take + 1,
        })
    }

    /// Returns ours in the form of the other implementation's.
    fn answer(&self) -> Vec<(String, i64)> {
        let pair = |one: Occurrence| (one.nominal.to_string(), one.instant.as_second());
        Occurrences::after(&self.schedule, self.after).take(self.take).map(pair).collect()
    }
}

/// Returns the answers of the other implementation. Of several nominal occurrences at one instant only the last is
/// kept.
fn ask(questions: &[Question]) -> Vec<Vec<(String, i64)>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/occurrences.py");
    let mut child = Command::new("python3")
        .arg(script)
        .env("PYTHONTZPATH", ZONES)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{MISSING} ({error})"));
    let lines: String = questions.iter().map(|question| format!("{}\n", question.to_json())).collect();
    let mut stdin = child.stdin.take().unwrap();
    // Its answers would fill the pipe while it is still asked.
    let writer = std::thread::spawn(move || drop(stdin.write_all(lines.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{MISSING}:\n{stderr}");
    let answers: Vec<Vec<(String, i64)>> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let merged = |answer: Vec<(String, i64)>| {
        let mut merged: BTreeMap<i64, String> = BTreeMap::new();
        answer.into_iter().for_each(|(nominal, instant)| drop(merged.insert(instant, nominal)));
        merged.into_iter().map(|(instant, nominal)| (nominal, instant)).collect()
    };
    answers.into_iter().map(merged).collect()
}

#[test]
fn occurrences_are_those_of_another_implementation() {
    assert!(Path::new(ZONES).join("Europe/Amsterdam").exists(), "{MISSING}");
    let count: usize = std::env::var("FLEETFORM_ORACLE_SCHEDULES").map_or(2_000, |text| text.parse().unwrap());
    let zones: BTreeSet<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
    let zones: Vec<&str> = zones.iter().map(String::as_str).filter(|zone| !is_of_this_machine(zone)).collect();
    assert!(zones.len() > 400, "every zone of the database: {}", zones.len());
    let mut draw = Draw(20_261_201);
    let often = ALWAYS.iter().cycle().take(ALWAYS.len() * 20).chain(zones.iter().cycle()).take(count);
    let mut questions: Vec<Question> = often.map(|zone| Question::draw(zone, &mut draw)).collect();
    questions.extend(apia());
    let answers = ask(&questions);
    assert_eq!(answers.len(), questions.len(), "there is an answer to each");
    let (mut compared, mut skipped, mut doubled, mut seen) = (0, 0, 0, BTreeSet::new());
    for (question, theirs) in questions.iter().zip(answers) {
        let ours = question.answer();
        let theirs: Vec<(String, i64)> = theirs.into_iter().take(question.take).collect();
        assert_eq!(ours, theirs, "{}", question.to_json());
        for (nominal, _) in &ours {
            let read = question.schedule.time_zone.to_ambiguous_timestamp(nominal.parse().unwrap());
            skipped += usize::from(matches!(read.offset(), AmbiguousOffset::Gap { .. }));
            doubled += usize::from(matches!(read.offset(), AmbiguousOffset::Fold { .. }));
        }
        compared += ours.len();
        seen.insert(question.schedule.time_zone_name.as_str());
    }
    assert!(zones.iter().all(|zone| seen.contains(zone)), "every zone is among them");
    assert!(compared > count * 5, "{compared} occurrences say something");
    assert!(skipped.min(doubled) > count / 40, "{skipped} of them are skipped by a clock, {doubled} come twice");
    eprintln!(
        "{count} schedules of {} zones, {compared} occurrences, {skipped} skipped by a clock, {doubled} twice",
        seen.len()
    );
}

/// Entries of the database's folder that mean another zone on every machine, or none.
fn is_of_this_machine(zone: &str) -> bool {
    matches!(zone, "localtime" | "posixrules" | "Factory")
}

/// The day that Apia left out, by all recurrences.
fn apia() -> Vec<Question> {
    let week = Weekday::Monday.cycle_forward().take(7).collect();
    let recurrences = [Recurrence::Once, Recurrence::Daily, Recurrence::Weekly { weekdays: week }, Recurrence::Monthly];
    let ends = [None, Some(End::After(2)), Some(End::Until("2011-12-30".parse().unwrap()))];
    let mut questions = Vec::new();
    for recurrence in recurrences {
        for start in ["2011-12-30T00:00:00", "2011-12-29T12:34:56", "2011-11-30T23:59:59"] {
            for end in ends {
                let schedule = schedule(start.parse().unwrap(), "Pacific/Apia", recurrence.clone(), end);
                questions.push(Question { schedule, after: "2011-11-01T00:00:00Z".parse().unwrap(), take: 40 });
            }
        }
    }
    questions
}

fn schedules() -> impl Strategy<Value = Schedule> {
    let zones: Vec<String> =
        jiff::tz::db().available().map(|zone| zone.to_string()).filter(|zone| !is_of_this_machine(zone)).collect();
    let zone = prop_oneof![prop::sample::select(ALWAYS.map(str::to_string).to_vec()), prop::sample::select(zones)];
    let start = (1970_i16..=9_990, 1_i8..=12, 1_i8..=31, 0_i8..24, 0_i8..60, 0_i8..60);
    let start = start.prop_map(|(year, month, day, hour, minute, second)| {
        let first = jiff::civil::date(year, month, 1);
        jiff::civil::date(year, month, day.min(first.days_in_month())).at(hour, minute, second, 0)
    });
    let weekdays = prop::sample::subsequence(Weekday::Monday.cycle_forward().take(7).collect::<Vec<_>>(), 1..=7);
    let recurrence = prop_oneof![
        Just(Recurrence::Once),
        Just(Recurrence::Daily),
        weekdays.prop_map(|weekdays| Recurrence::Weekly { weekdays }),
        Just(Recurrence::Monthly),
    ];
    let end = prop_oneof![
        Just(None),
        (1_u64..2_000).prop_map(|count| Some(End::After(count))),
        (-2_i64..4_000)
            .prop_map(|days| Some(End::Until(jiff::civil::date(2000, 1, 1).saturating_add(Span::new().days(days))))),
    ];
    (zone, start, recurrence, end).prop_map(|(zone, start, recurrence, end)| {
        // An end by date is drawn as days from the start.
        let end = end.map(|end| match end {
            End::Until(date) => {
                let days = jiff::civil::date(2000, 1, 1).duration_until(date).as_hours() / 24;
                End::Until(start.date().saturating_add(Span::new().days(days)))
            }
            End::After(count) => End::After(count),
        });
        schedule(start, &zone, recurrence, end)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// The occurrences from any instant on are the tail of all occurrences.
    #[test]
    fn from_any_instant_they_are_the_tail_of_all(schedule in schedules(), at in 0_usize..400, beside in -1_i64..=1, far in any::<i64>()) {
        let all: Vec<Occurrence> = Occurrences::all(&schedule).take(450).collect();
        prop_assert!(all.windows(2).all(|pair| pair[0].instant < pair[1].instant), "each instant once, in order");
        prop_assert!(all.windows(2).all(|pair| pair[0].nominal < pair[1].nominal));
        for one in all.iter().take(3) {
            prop_assert_eq!(occurrence_instant(&occurrence_token(one.instant)), Some(one.instant));
        }
        let middle = all.get(at).or(all.last()).map_or(Timestamp::UNIX_EPOCH, |one| one.instant);
        let near = middle.checked_add(jiff::SignedDuration::from_secs(beside)).unwrap_or(middle);
        let far = Timestamp::from_second(far.rem_euclid(Timestamp::MAX.as_second())).unwrap_or(near);
        for instant in [near, far, Timestamp::MIN, Timestamp::MAX] {
            let after: Vec<Occurrence> = Occurrences::after(&schedule, instant).take(20).collect();
            let at_or_after: Vec<Occurrence> = Occurrences::at_or_after(&schedule, instant).take(20).collect();
            let tail = |is_wanted: &dyn Fn(Timestamp) -> bool| -> Vec<Occurrence> {
                all.iter().copied().filter(|one| is_wanted(one.instant)).take(20).collect()
            };
            let (tail_after, tail_at) = (tail(&|one| one > instant), tail(&|one| one >= instant));
            // For a long schedule only the beginning is known.
            let (known_after, known_at) = match all.len() < 450 {
                true => (after.as_slice(), at_or_after.as_slice()),
                false => (&after[..tail_after.len().min(after.len())], &at_or_after[..tail_at.len().min(at_or_after.len())]),
            };
            prop_assert_eq!(known_after, tail_after.as_slice());
            prop_assert_eq!(known_at, tail_at.as_slice());
            prop_assert!(after.iter().all(|one| one.instant > instant));
            prop_assert!(at_or_after.iter().all(|one| one.instant >= instant));
        }
    }
}
