//! What a plan says of schedules: when they run next. Nothing that an apply would do.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::Plan;
use super::change::{PlannedChange, ScheduleStep, Step, Subject, Upcoming};
use super::refusal::Notice;
use crate::model::fleet::Declared;
use crate::model::id::Name;
use crate::model::job::Selector;
use crate::model::schedule::{Occurrence, Schedule};
use crate::query::{self, Root};
use crate::schedule::Occurrences;

/// Occurrences that a plan tells of each schedule.
const SHOWN: usize = 3;

/// Plans each schedule, by name, with how many devices it would select now as far as that was looked at.
pub fn plan_schedules(declared: &Declared, counts: &BTreeMap<Name, u64>, plan: &mut Plan) {
    for schedule in declared.schedules.values() {
        let devices = counts.get(&schedule.name).copied();
        plan.changes.push(change_of(schedule, devices, plan.observed_at));
        let expect = schedule.job.target.expect;
        let is_odd = |count: &u64| match expect {
            Some(expect) => !expect.holds(*count),
            None => *count == 0 && !comes_and_goes(&schedule.job.target.selector, declared),
        };
        if let Some(count) = devices.filter(is_odd) {
            plan.notices.push(Notice::Unexpected { schedule: schedule.name.clone(), count, expect });
        }
    }
}

/// Returns true when whom a target means changes by itself, by what the devices report and whether they are connected:
/// that no device is selected now is no sign of a mistake then.
fn comes_and_goes(selector: &Selector, declared: &Declared) -> bool {
    let condition = match selector {
        Selector::Query(condition) => condition,
        Selector::Group(name) => match declared.groups.get(name) {
            Some(group) => &group.query,
            None => return false,
        },
        // Usually there is none.
        Selector::OfRun(_) => return true,
        Selector::Devices(_) => return false,
    };
    let query = query::parse(condition).expect("queries were checked with the files");
    query::paths(&query).iter().any(|path| match path.root {
        Root::ConnectionState | Root::LastActivityTime | Root::Reported | Root::ReportedVersion => true,
        Root::DeviceId
        | Root::DeviceName
        | Root::Template
        | Root::Organization
        | Root::Model
        | Root::Status
        | Root::Simulated
        | Root::Blocked
        | Root::IotEdge
        | Root::Provisioned
        | Root::Tags
        | Root::Cloud
        | Root::Desired
        | Root::DesiredVersion
        | Root::ModuleId
        | Root::Configurations => false,
    })
}

fn change_of(schedule: &Schedule, devices: Option<u64>, now: Timestamp) -> PlannedChange {
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
    let step = Step::Schedule(Box::new(ScheduleStep {
        work: schedule.job.action.word(),
        declared_digest: schedule.job.spec_digest,
        upcoming: Upcoming { time_zone: schedule.time_zone.clone(), occurrences: next, devices },
    }));
    PlannedChange::new(Subject::Schedule(schedule.name.clone()), step, reason)
}

/// Returns `2026-12-01 02:30 Europe/Amsterdam (01:30Z), then 12-08, 12-15 …`: what is the same as in the first is left
/// out.
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
