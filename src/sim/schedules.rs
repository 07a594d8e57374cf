//! The schedules that people declare, and the invariants of their occurrences.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use serde_json::Value;

use super::job::random_job;
use super::ledger::{Branch, Key, Run};
use super::{DeclaredJob, Random};
use crate::model::id::RunToken;
use crate::model::schedule::{occurrence_instant, occurrence_token};

/// How late an occurrence may start that must not run late.
const ON_TIME: SignedDuration = SignedDuration::from_secs(60);

/// A schedule as its file declares it; times are UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredSchedule {
    /// Its work; the run is its edition.
    pub job: DeclaredJob,
    pub start: DateTime,
    /// The days between two occurrences: 1 or 7; `None` for a single occurrence.
    pub days: Option<i64>,
    pub suspend: bool,
    /// True when an occurrence waits for the one before it instead of being missed.
    pub queues: bool,
    /// The hours that an occurrence may start late; `None` when it must not.
    pub within: Option<i64>,
}

impl DeclaredSchedule {
    /// Returns a schedule that begins within a day.
    pub fn random(name: &str, devices: u64, now: Timestamp, random: &mut Random) -> DeclaredSchedule {
        let mut job = random_job(name, devices, random);
        // Some occurrences are under way when the next one is due.
        if random.chance(60) {
            (job.waits_online, job.expires_after) = (true, 30);
        }
        DeclaredSchedule {
            job,
            start: DeclaredSchedule::random_start(now, random),
            days: *random.pick(&[Some(1), Some(1), Some(1), Some(1), Some(7), None]),
            suspend: random.chance(10),
            queues: random.chance(30),
            within: random.chance(40).then(|| random.between(1, 30) as i64),
        }
    }

    /// Returns a start that is near, before or after now.
    pub fn random_start(now: Timestamp, random: &mut Random) -> DateTime {
        let minutes = random.between(0, 1_440) as i64 - 300;
        let start = now + SignedDuration::from_mins(minutes);
        start.to_zoned(TimeZone::UTC).datetime().with().subsec_nanosecond(0).build().expect("it is a time")
    }

    /// Returns the path of its file.
    pub fn path(&self) -> String {
        format!("schedules/{}.yaml", self.job.name)
    }

    /// Returns the text of its file.
    pub fn text(&self) -> String {
        let recurrence = match self.days {
            None => "once".to_string(),
            Some(1) => "daily".to_string(),
            Some(_) => {
                let day = crate::model::schedule::weekday_word(self.start.weekday());
                format!("weekly, weekdays: [{day}]")
            }
        };
        let mut fields = vec![format!("start: {}", self.start), "timeZone: UTC".to_string()];
        fields.push(format!("recurrence: {recurrence}"));
        if self.suspend {
            fields.push("suspend: true".to_string());
        }
        if self.queues {
            fields.push("overlap: queue".to_string());
        }
        if let Some(hours) = self.within {
            fields.push(format!("missed: {{policy: runOnce, within: {hours}h}}"));
        }
        let delivery = format!("delivery: {{{}}}", self.job.delivery().join(", "));
        let work: Vec<String> = self.job.work().into_iter().chain([delivery]).collect();
        fields.push(format!("job: {{{}}}", work.join(", ")));
        let head = format!("apiVersion: fleetform/v1\nkind: Schedule\nmetadata: {{name: {}}}\n", self.job.name);
        format!("{head}spec: {{{}}}\n", fields.join(", "))
    }

    /// Returns the timing of the schedule.
    fn timing(&self) -> Timing {
        (self.start, self.days, self.suspend)
    }

    /// Returns the occurrences after a time and up to another, ignoring suspension.
    fn occurrences(&self, after: Timestamp, to: Timestamp) -> Vec<Timestamp> {
        let mut found = Vec::new();
        let mut at = self.start;
        while let Ok(instant) = TimeZone::UTC.to_timestamp(at) {
            if instant > to {
                break;
            }
            if instant > after {
                found.push(instant);
            }
            match self.days {
                Some(days) => at += days.days(),
                None => break,
            }
        }
        found
    }
}

/// The timing of a schedule: its start, its days, and whether it is suspended.
type Timing = (DateTime, Option<i64>, bool);

/// The declaration of a schedule at a commit.
#[derive(Debug, Clone)]
pub(super) struct Promise {
    pub schedule: DeclaredSchedule,
    /// The earliest time since when its times may be these: the daemon does not see a change that is undone between two
    /// looks.
    pub from: Timestamp,
}

/// The history of all schedules.
#[derive(Default)]
pub(super) struct Promises {
    pub now: BTreeMap<String, Promise>,
    known: BTreeMap<String, ScheduleHistory>,
}

/// The history of one schedule.
struct ScheduleHistory {
    /// Its timing from each time on; `None` while it is not declared. Never empty.
    history: Vec<(Timestamp, Option<Timing>)>,
    /// The index in `history` of the entry that a daemon has certainly seen, and the earliest time since when it may
    /// have held.
    seen: (usize, Timestamp),
    /// The time since which the branch follows the schedule, and the length of `history` then.
    followed: Option<(Timestamp, usize)>,
}

impl ScheduleHistory {
    fn note(&mut self, timing: Option<Timing>, now: Timestamp) {
        if self.history.last().is_none_or(|(_, last)| *last != timing) {
            self.history.push((now, timing));
        }
    }

    /// Returns the earliest time since when the timing may be that of an index.
    fn from(&self, place: usize) -> Timestamp {
        let (first, at_first) = self.seen;
        let first_alike = (first..=place).find(|at| self.history[*at].1 == self.history[place].1).unwrap_or(place);
        if first_alike == first { at_first } else { self.history[first_alike].0 }
    }

    /// Notes that a daemon has looked at the declarations before a time.
    fn see(&mut self, looked_at: Timestamp) {
        let before = self.history.iter().rposition(|(at, _)| *at < looked_at);
        if let Some(place) = before.filter(|place| *place > self.seen.0) {
            self.seen = (place, self.from(place));
        }
    }
}

impl Promises {
    /// Notes what is declared now.
    pub fn note(&mut self, schedules: &BTreeMap<String, DeclaredSchedule>, now: Timestamp) {
        for (name, known) in &mut self.known {
            known.note(schedules.get(name).map(DeclaredSchedule::timing), now);
        }
        for (name, schedule) in schedules {
            let first =
                || ScheduleHistory { history: vec![(now, Some(schedule.timing()))], seen: (0, now), followed: None };
            self.known.entry(name.clone()).or_insert_with(first);
        }
        let promise = |(name, schedule): (&String, &DeclaredSchedule)| {
            let known = &self.known[name];
            (name.clone(), Promise { schedule: schedule.clone(), from: known.from(known.history.len() - 1) })
        };
        self.now = schedules.iter().map(promise).collect();
    }

    /// Checks that each occurrence of a followed schedule up to `looked_at`, by the declarations of that time, has a
    /// claim. With `is_rest` also checks that each schedule is followed and each occurrence has ended.
    pub fn check(&mut self, branch: &Branch, looked_at: Timestamp, is_rest: bool) -> Result<(), String> {
        for (name, Promise { schedule, from }) in &self.now {
            let known = self.known.get_mut(name).expect("what is declared now is known");
            known.see(looked_at);
            let Some(since) = since(branch, name)?.filter(|since| since >= from) else {
                if is_rest {
                    return Err(format!("{name} was never followed as it is declared since {from}"));
                }
                continue;
            };
            // When all occurrences up to a time are decided, the schedule is followed from then on.
            let changes = known.history.len();
            let decided =
                known.followed.replace((since, changes)).filter(|(before, then)| *then == changes && *before <= since);
            let from = decided.map_or(since, |(before, _)| before);
            // A declaration after the last look may be due before it.
            if schedule.suspend || (!is_rest && known.seen.0 + 1 != changes) {
                continue;
            }
            for instant in schedule.occurrences(from, looked_at) {
                let key: Key = (name.clone(), occurrence_token(instant).to_string());
                let waits = schedule.queues && !is_rest && has_open(branch, name);
                if !branch.claims.contains_key(&key) && !waits {
                    return Err(format!("{key:?} was due while {name} was followed since {since}, and has no claim"));
                }
            }
        }
        Ok(())
    }
}

/// Checks the claim of an occurrence against what was declared, and returns the job that it was for.
pub(super) fn check_occurrence(
    key: &Key,
    claim: &Value,
    promise: &Promise,
    branch: &Branch,
) -> Result<DeclaredJob, String> {
    let Promise { schedule, from } = promise;
    let instant = instant_of(key).ok_or_else(|| format!("{key:?} is no occurrence"))?;
    let claimed_at = time(&claim["claimed_at"]).ok_or_else(|| format!("{key:?} does not say when it was claimed"))?;
    if schedule.suspend {
        return Err(format!("{key:?} was claimed, and the schedule is suspended"));
    }
    if instant <= *from || claimed_at < instant {
        return Err(format!("{key:?} was claimed at {claimed_at}, and the schedule is so since {from}"));
    }
    if !schedule.occurrences(*from, instant).contains(&instant) {
        return Err(format!("{key:?} was claimed, and is no occurrence of {schedule:?}"));
    }
    let allowed = schedule.within.map_or(ON_TIME, |hours| SignedDuration::from_hours(hours).max(ON_TIME));
    let late_by = claimed_at.duration_since(instant);
    // An occurrence under way at its time keeps it from starting, or makes it wait.
    let before = branch.claims.keys().rfind(|other| was_under_way(branch, other, key, instant));
    let is_newest = schedule.occurrences(instant, claimed_at).is_empty();
    let is_missed = branch.runs.get(key).is_some_and(Run::is_missed);
    match (is_missed, before) {
        (false, Some(before)) if !schedule.queues => {
            Err(format!("{key:?} was started, and {before:?} was under way at its time"))
        }
        (false, None) if late_by > allowed => Err(format!("{key:?} was started {late_by} late")),
        (true, Some(before)) if schedule.queues && is_newest => {
            Err(format!("{key:?} did not wait for {before:?}, which was under way at its time"))
        }
        (true, None) if is_newest && late_by <= allowed => Err(format!("{key:?} was missed for no reason")),
        (_, _) => Ok(schedule.job.clone()),
    }
}

/// Returns true when another occurrence of the same schedule was started before an instant and had not ended then.
fn was_under_way(branch: &Branch, other: &Key, key: &Key, instant: Timestamp) -> bool {
    let run = branch.runs.get(other);
    let has_ended = run.filter(|run| run.is_final()).is_some_and(|run| {
        // An occurrence that was missed, or closed without ever starting, was never under way.
        run.record["started_at"].is_null() || time(&run.record["finished_at"]).is_some_and(|at| at <= instant)
    });
    other.0 == key.0 && instant_of(other).is_some_and(|before| before < instant) && !has_ended
}

fn instant_of(key: &Key) -> Option<Timestamp> {
    RunToken::parse(&key.1).ok().as_ref().and_then(occurrence_instant)
}

/// Checks that two occurrences of a schedule are never under way at once.
pub(super) fn check_overlap(branch: &Branch) -> Result<(), String> {
    let is_occurrence = |key: &Key| instant_of(key).is_some();
    let mut before: Option<(&Key, Option<Timestamp>)> = None;
    for (key, claim) in branch.claims.iter().filter(|(key, _)| is_occurrence(key)) {
        let run = branch.runs.get(key);
        if run.is_some_and(Run::is_missed) {
            continue;
        }
        let other = before.filter(|(other, _)| other.0 == key.0);
        if let (Some((other, finished_at)), Some(claimed_at)) = (other, time(&claim["claimed_at"]))
            && finished_at.is_none_or(|finished_at| claimed_at < finished_at)
        {
            return Err(format!("{key:?} was claimed at {claimed_at}, and {other:?} went on until {finished_at:?}"));
        }
        let finished_at = run.filter(|run| run.is_final()).and_then(|run| time(&run.record["finished_at"]));
        before = Some((key, finished_at));
    }
    Ok(())
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(|text| text.parse().ok())
}

fn has_open(branch: &Branch, name: &str) -> bool {
    branch.claims.keys().any(|key| key.0 == name && !branch.runs.get(key).is_some_and(Run::is_final))
}

/// Returns the time since which the branch follows a schedule.
fn since(branch: &Branch, name: &str) -> Result<Option<Timestamp>, String> {
    let path = format!("schedules/{name}.json");
    let Some(bytes) = branch.files.get(&path) else { return Ok(None) };
    let value: Value = serde_json::from_slice(bytes).map_err(|error| format!("{path}: {error}"))?;
    time(&value["since"]).map(Some).ok_or_else(|| format!("{path} does not say since when"))
}
