//! Schedules for people and as JSON.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::TextTable;
use crate::model::schedule::{End, Occurrence, Recurrence, Schedule, occurrence_token, weekday_word};
use crate::model::text::duration;
use crate::ops::schedule::{ListedSchedule, NextOccurrences};

/// Returns a table of schedules.
pub fn list(schedules: &[ListedSchedule]) -> String {
    let mut table = TextTable::new(&["SCHEDULE", "RECURRENCE", "ZONE", "NEXT", "LAST", "STATUS"]).sparing(&[
        "STATUS",
        "LAST",
        "RECURRENCE",
    ]);
    for ListedSchedule { schedule, next, last } in schedules {
        let next = match next {
            Some(next) => local(schedule, next.instant),
            None if schedule.is_suspended => "(suspended)".to_string(),
            None => "(ended)".to_string(),
        };
        let status = last.as_ref().and_then(|last| {
            let status = last.status?.as_str();
            Some(last.cause.as_ref().map_or_else(|| status.to_string(), |cause| format!("{status} ({cause})")))
        });
        table.push(vec![
            schedule.name.to_string(),
            schedule.recurrence_phrase(),
            schedule.time_zone_name.clone(),
            next,
            last.as_ref().map_or("-".to_string(), |last| local(schedule, last.instant)),
            status.unwrap_or_else(|| "-".to_string()),
        ]);
    }
    table.render()
}

/// Returns a schedule of a list as an object. Times are in UTC; `last_run` is the run token of `last` for
/// `job show --run`.
pub fn listed_json(listed: &ListedSchedule) -> Value {
    let ListedSchedule { schedule, next, last } = listed;
    let weekdays = match &schedule.recurrence {
        Recurrence::Weekly { weekdays } => weekdays.iter().copied().map(weekday_word).collect(),
        Recurrence::Once | Recurrence::Daily | Recurrence::Monthly => Value::Null,
    };
    let end = match schedule.end {
        Some(End::Until(date)) => json!({"until": date.to_string()}),
        Some(End::After(count)) => json!({"after": count}),
        None => Value::Null,
    };
    let missed = json!({"policy": schedule.missed.policy.word(), "within": duration(schedule.missed.within)});
    json!({
        "schedule": schedule.name.as_str(),
        "recurrence": schedule.recurrence.word(),
        "weekdays": weekdays,
        "start": schedule.start.to_string(),
        "time_zone": schedule.time_zone_name,
        "end": end,
        "suspended": schedule.is_suspended,
        "missed": missed,
        "overlap": schedule.overlap.word(),
        "work": schedule.job.action.word(),
        "next": next.map(|next| next.instant.to_string()),
        "next_local": next.map(|next| zoned(schedule, next.instant)),
        "last": last.as_ref().map(|last| last.instant.to_string()),
        "last_run": last.as_ref().map(|last| occurrence_token(last.instant).to_string()),
        "last_status": last.as_ref().and_then(|last| last.status).map(|status| status.as_str()),
        "last_cause": last.as_ref().and_then(|last| last.cause.as_ref()),
    })
}

/// Returns a table of occurrences. A time that the wall clock does not show on that day has a note.
pub fn occurrences(found: &NextOccurrences) -> String {
    let NextOccurrences { schedule, occurrences, held: _ } = found;
    let mut table = TextTable::new(&["OCCURRENCE", "OFFSET", "UTC", "NOTE"]).cutting(&["NOTE"]);
    for one in occurrences {
        let local = one.instant.to_zoned(schedule.time_zone.clone());
        let note = match local.datetime() == one.nominal {
            true => String::new(),
            false => format!("the clock shows no {} then", one.nominal.strftime("%F %T")),
        };
        table.push(vec![
            local.strftime("%a %F %T").to_string(),
            local.strftime("%:z").to_string(),
            super::instant(one.instant),
            note,
        ]);
    }
    format!("{} ({}), {}\n{}", schedule.name, schedule.time_zone_name, schedule.recurrence_phrase(), table.render())
}

/// Returns an occurrence as an object.
pub fn occurrence_json(schedule: &Schedule, occurrence: &Occurrence) -> Value {
    json!({"occurrence": occurrence.instant.to_string(), "local": zoned(schedule, occurrence.instant)})
}

fn local(schedule: &Schedule, instant: Timestamp) -> String {
    instant.to_zoned(schedule.time_zone.clone()).strftime("%F %T").to_string()
}

fn zoned(schedule: &Schedule, instant: Timestamp) -> String {
    instant.to_zoned(schedule.time_zone.clone()).to_string()
}
