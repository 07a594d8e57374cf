//! When schedules run: lists, and the next occurrences of one.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};

use super::{Environment, OpsError, Workspace};
use crate::model::fleet::HeldDocuments;
use crate::model::kind::Kind;
use crate::model::outcome::RunStatus;
use crate::model::schedule::{Occurrence, Schedule, occurrence_instant};
use crate::prepare::{Files, OnError, TreeChoice, View, open_records, record_in};
use crate::schedule::Occurrences;

/// A schedule of a list.
#[derive(Debug, Clone)]
pub struct ListedSchedule {
    pub schedule: Schedule,
    /// `None` when it is suspended or has ended.
    pub next: Option<Occurrence>,
    pub last: Option<LastOccurrence>,
}

/// The newest occurrence that was claimed, under the name of the schedule or its previous one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastOccurrence {
    pub instant: Timestamp,
    /// `None` when the journal of its run was lost and nothing has closed it yet.
    pub status: Option<RunStatus>,
    /// The word of what kept it from its devices, such as `missed`.
    pub cause: Option<&'static str>,
}

/// A schedule with its occurrences before and after now.
#[derive(Debug, Clone)]
pub struct ScheduleOccurrences {
    pub listed: ListedSchedule,
    /// Soonest first; empty when it is suspended or has ended.
    pub next: Vec<Occurrence>,
    /// Those that were claimed, the newest first, with what became of them.
    pub past: Vec<LastOccurrence>,
}

/// The next occurrences of a schedule.
#[derive(Debug, Clone)]
pub struct NextOccurrences {
    pub schedule: Schedule,
    /// Whether or not it is suspended.
    pub occurrences: Vec<Occurrence>,
    /// What else cannot be used of the files.
    pub held: HeldDocuments,
}

/// Returns the schedules that the work tree declares, by name, and what cannot be used of it: schedules in that are not
/// listed.
///
/// # Errors
/// The Fleet document is invalid, or something cannot be read.
pub fn list(environment: &Environment, now: Timestamp) -> Result<(Vec<ListedSchedule>, HeldDocuments), OpsError> {
    let (found, held) = occurrences(environment, TreeChoice::WorkTree, (1, 1), now)?;
    Ok((found.into_iter().map(|one| one.listed).collect(), held))
}

/// Returns the schedules as they are carried out, by name, each with at most so many occurrences after and before
/// `now`, and what cannot be used of the files.
///
/// # Errors
/// As [`list`].
pub fn around(
    environment: &Environment,
    (next, past): (usize, usize),
    now: Timestamp,
) -> Result<(Vec<ScheduleOccurrences>, HeldDocuments), OpsError> {
    occurrences(environment, TreeChoice::Newest, (next, past), now)
}

fn occurrences(
    environment: &Environment,
    choice: TreeChoice<'_>,
    (most_next, most_past): (usize, usize),
    now: Timestamp,
) -> Result<(Vec<ScheduleOccurrences>, HeldDocuments), OpsError> {
    let workspace = Workspace::open(environment)?;
    let view = View::open(&workspace, choice, OnError::Hold)?;
    let (declared, ledger) = (&view.declared, &view.ledger);
    let open = open_records(ledger);
    let past = |schedule: &Schedule| {
        let claims = ledger.claims.iter().filter(|(_, claim)| schedule.owns(&claim.job, &claim.run));
        let mut claimed: Vec<_> =
            claims.filter_map(|(key, claim)| Some((occurrence_instant(&claim.run)?, key))).collect();
        claimed.sort_by_key(|(instant, _)| std::cmp::Reverse(*instant));
        let occurrence = |(instant, key)| {
            let record = record_in(ledger, &open, key);
            let cause = record.as_ref().and_then(|record| record.hindrance());
            LastOccurrence { instant, status: record.map(|record| record.status), cause }
        };
        claimed.into_iter().take(most_past).map(occurrence).collect::<Vec<_>>()
    };
    let sight = &environment.sight;
    let shown = declared.schedules.values().filter(|one| sight.has(declared.path_of(one.job.organization.as_ref())));
    let listed = shown.map(|schedule| {
        let next: Vec<Occurrence> = match schedule.is_suspended {
            true => Vec::new(),
            false => Occurrences::after(schedule, now).take(most_next).collect(),
        };
        let past = past(schedule);
        let listed =
            ListedSchedule { next: next.first().copied(), last: past.first().cloned(), schedule: schedule.clone() };
        ScheduleOccurrences { listed, next, past }
    });
    Ok((listed.collect(), view.files.held_within(sight, declared)))
}

/// Returns at most `count` occurrences of a schedule at or after a time: a date, a time of the schedule's wall clock,
/// or an instant; after `now` without one. The schedule is that of the work tree: its author sees what the edit
/// does.
///
/// # Errors
/// The schedule or the Fleet document is invalid, there is no such schedule, or the time is none.
pub fn next(
    environment: &Environment,
    name: &str,
    count: u64,
    from: Option<&str>,
    now: Timestamp,
) -> Result<NextOccurrences, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::WorkTree, OnError::Hold)?;
    let declared = files.usable()?;
    let Some(schedule) = declared.schedules.get(name) else {
        // It may be what cannot be read.
        if files.may_hold(Kind::Schedule, name) {
            return Err(files.invalid().into());
        }
        let names = declared.schedules.keys().map(|name| name.as_str());
        let near = crate::diag::nearest(name, names).map(|near| format!("Did you mean `{near}`?"));
        return Err(OpsError::NotFound {
            what: format!("there is no schedule `{}`", crate::diag::shown(name)),
            help: near.unwrap_or_else(|| "`fleetform schedule list` shows the schedules.".to_string()),
        });
    };
    let occurrences = match from {
        Some(text) => Occurrences::at_or_after(schedule, instant_of(text, schedule)?),
        None => Occurrences::after(schedule, now),
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let held = HeldDocuments::clone(&files.held);
    Ok(NextOccurrences { schedule: schedule.clone(), occurrences: occurrences.take(count).collect(), held })
}

/// Returns the instant that a person means: of a date its first moment, of a local time what the schedule would read it
/// as.
fn instant_of(text: &str, schedule: &Schedule) -> Result<Timestamp, OpsError> {
    let instant = text.parse::<Timestamp>().ok().or_else(|| {
        // Jiff leaves an offset of a civil time unread, and without a date it is no time at all.
        let has_offset = text.get(11..).is_some_and(|rest| rest.contains(['+', '-', '[']));
        let time = match text.len() {
            10 => text.parse::<Date>().ok()?.to_datetime(jiff::civil::Time::midnight()),
            _ if has_offset => return None,
            _ => text.parse::<DateTime>().ok()?,
        };
        schedule.time_zone.to_ambiguous_timestamp(time).compatible().ok()
    });
    instant.ok_or_else(|| OpsError::Usage {
        what: format!("`{}` is not a time", crate::diag::shown(text)),
        help:
            "Write a date, a time of the schedule's wall clock or an instant, such as 2027-03-01, 2027-03-01T02:30 or \
               2027-03-01T01:30:00Z."
                .to_string(),
    })
}
