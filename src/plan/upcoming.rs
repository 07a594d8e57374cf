//! What a plan says of schedules: when they run next. Nothing that an apply would do.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::change::{ActionKind, Change, Subject};
use crate::model::fleet::Declared;
use crate::model::schedule::{Occurrence, Schedule};
use crate::schedule::Occurrences;

/// Occurrences that a plan tells of each schedule.
const SHOWN: usize = 3;

/// The next occurrences of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Upcoming {
    pub time_zone: TimeZone,
    /// At most three; none when the schedule has ended or is suspended.
    pub occurrences: Vec<Occurrence>,
}

/// Returns the change of each schedule, by name.
pub fn schedule_changes(declared: &Declared, now: Timestamp) -> Vec<Change> {
    declared.schedules.values().map(|schedule| change_of(schedule, now)).collect()
}

fn change_of(schedule: &Schedule, now: Timestamp) -> Change {
    let mut next: Vec<Occurrence> = Occurrences::after(schedule, now).take(SHOWN + 1).collect();
    let has_more = next.len() > SHOWN;
    next.truncate(SHOWN);
    let reason = match next.split_first() {
        _ if schedule.is_suspended => {
            next.clear();
            "(suspended)".to_string()
        }
        Some((first, others)) => told(schedule, first, others, has_more),
        None => match Occurrences::all(schedule).next() {
            Some(_) => "(ended)".to_string(),
            None => "(never)".to_string(),
        },
    };
    let mut change = Change::new(Subject::Schedule(schedule.name.clone()), ActionKind::Schedule, reason);
    change.work = Some(schedule.job.action.word());
    change.declared_digest = Some(schedule.job.spec_digest);
    change.upcoming = Some(Upcoming { time_zone: schedule.time_zone.clone(), occurrences: next });
    change
}

/// Returns `2026-12-01 02:30 Europe/Amsterdam (01:30Z), then 12-08, 12-15 …`: what is the same as in the first is left out.
fn told(schedule: &Schedule, first: &Occurrence, others: &[Occurrence], has_more: bool) -> String {
    let local = |occurrence: &Occurrence| occurrence.instant.to_zoned(schedule.time_zone.clone());
    let (first, utc) = (local(first), first.instant.to_zoned(TimeZone::UTC));
    let day = if utc.date() == first.date() { String::new() } else { format!("{} ", utc.date()) };
    let mut text = format!("{} {} {} ({day}{}Z)", first.date(), clock(&first), schedule.time_zone_name, clock(&utc));
    for (at, other) in others.iter().map(local).enumerate() {
        text.push_str(if at == 0 { ", then " } else { ", " });
        let day = if other.year() == first.year() { "%m-%d" } else { "%F" };
        text.push_str(&other.strftime(day).to_string());
        // A change of the clock has moved it.
        if other.time() != first.time() {
            text.push_str(&format!(" {}", clock(&other)));
        }
    }
    if has_more {
        text.push_str(" …");
    }
    text
}

/// Returns `02:30`, with seconds when there are some.
fn clock(time: &Zoned) -> String {
    time.strftime(if time.second() == 0 { "%H:%M" } else { "%T" }).to_string()
}
