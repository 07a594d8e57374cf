//! The Schedule document.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use serde_json::Value;

use super::job::spec_digest;
use super::{Draft, Lowering};
use crate::diag::{Diagnostic, code, nearest, shown};
use crate::manifest::v1::{self, NOT_SCHEDULED};
use crate::model::digest::canonical_json;
use crate::model::id::Name;
use crate::model::schedule::{End, Missed, MissedPolicy, Overlap, Recurrence, Schedule, ScheduledJob, weekday_word};

/// The first year of a start: a run token has four digits for it, and nothing was scheduled earlier.
const START_YEAR_MIN: i16 = 1970;
/// A start and a date as an example of how they are written.
const START_EXAMPLE: &str = "2026-12-01T02:30:00";
const DATE_EXAMPLE: &str = "2027-03-31";

impl Lowering<'_> {
    pub(super) fn schedule(
        &mut self,
        (name, previous_names, labels): (Name, Vec<Name>, BTreeMap<String, String>),
        spec: v1::ScheduleSpec,
        mut written: Value,
    ) -> Draft {
        let v1::ScheduleSpec { start, time_zone, recurrence, weekdays, end, suspend, missed, overlap, job } = spec;
        let start = self.start(&start.0);
        let has_time_zone = time_zone.is_some();
        let (time_zone, time_zone_name) = match time_zone {
            Some(name) => self.time_zone(&name, "/spec/timeZone"),
            // The fleet's time zone is filled in when all documents have been read.
            None => (TimeZone::UTC, "UTC".to_string()),
        };
        let recurrence = self.recurrence(recurrence, weekdays.as_deref(), start);
        let end = end.and_then(|end| self.end(end, start));
        let missed = self.missed(missed.unwrap_or_default(), &recurrence);
        let (job, organization) = self.scheduled_job(job, written["spec"]["job"].take());
        let schedule = Schedule {
            name,
            previous_names,
            labels: Arc::new(labels),
            start: start.unwrap_or(DateTime::constant(START_YEAR_MIN, 1, 1, 0, 0, 0, 0)),
            time_zone,
            time_zone_name,
            recurrence,
            end,
            is_suspended: suspend,
            missed,
            overlap: match overlap {
                None | Some(v1::Overlap::Skip) => Overlap::Skip,
                Some(v1::Overlap::Queue) => Overlap::Queue,
            },
            job,
            file: self.path.to_string(),
        };
        Draft::Schedule { schedule: Box::new(schedule), organization, has_time_zone }
    }

    fn scheduled_job(&mut self, job: v1::ScheduledJobSpec, written: Value) -> (ScheduledJob, Option<String>) {
        self.is_scheduled = true;
        for field in NOT_SCHEDULED {
            let place = self.root.locate(&format!("{}/{field}", super::SCHEDULED_SPEC));
            if place.is_exact {
                let why = match field {
                    "run" => "each occurrence is a run of its own, and its token is the time of the occurrence",
                    "suspend" => "the schedule has a `suspend` of its own, one level up",
                    _ => "its occurrences start by the clock, and a job that ran once has completed for all of them",
                };
                let detail = format!("The job of a schedule has no `{field}`: {why}.");
                let diagnostic = Diagnostic::new(code::SCHEDULED_FIELD, place.key_span(), detail);
                self.diagnostics.push(diagnostic.with_help("Remove it."));
            }
        }
        let v1::ScheduledJobSpec { organization, target, action, delivery, .. } = job;
        let written = self.written_spec(written);
        let lowered = ScheduledJob {
            spec: canonical_json(&Value::Object(written.clone())).into(),
            spec_digest: spec_digest(None, written),
            organization: None,
            target: self.target(target),
            action: self.action(action),
            delivery: self.delivery(delivery.unwrap_or_default()),
        };
        let organization = self.organization_reference(organization, "/spec/organization");
        self.is_scheduled = false;
        (lowered, organization)
    }

    /// Returns the time zone at a pointer and its name; UTC, with a diagnostic, when the database has none of the name.
    pub(super) fn time_zone(&mut self, name: &str, pointer: &str) -> (TimeZone, String) {
        // `get` also accepts POSIX rules such as `EST5EDT4`, and names in any case; only names of the database can be
        // looked up.
        let found = TimeZone::get(name).ok();
        let spelling = found.as_ref().and_then(TimeZone::iana_name).map(str::to_string);
        match (found, spelling) {
            (Some(zone), Some(spelling)) if spelling == name && !is_of_this_machine(name) => return (zone, spelling),
            (_, Some(spelling)) if spelling != name && !is_of_this_machine(&spelling) => {
                let detail = format!("The IANA database of time zones spells `{}` otherwise.", shown(name));
                let diagnostic = Diagnostic::new(code::TIME_ZONE, super::span(self.root, pointer), detail);
                self.diagnostics.push(diagnostic.with_help(format!("Write `{spelling}`.")));
            }
            (_, _) => {
                let detail = format!("`{}` is not the name of a time zone of the IANA database.", shown(name));
                let mut diagnostic = Diagnostic::new(code::TIME_ZONE, super::span(self.root, pointer), detail);
                let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
                if name.contains(|c: char| c.is_ascii_digit()) {
                    let help =
                        "Write the zone of a city, such as `Europe/Amsterdam`: an offset holds for one season only.";
                    diagnostic = diagnostic.with_help(help);
                } else if let Some(near) = nearest_zone(name, &known) {
                    diagnostic = diagnostic.with_help(format!("Did you mean `{near}`?"));
                }
                self.diagnostics.push(diagnostic);
            }
        }
        (TimeZone::UTC, "UTC".to_string())
    }

    /// Returns the start; `None`, with a diagnostic, when it is no time of a wall clock.
    fn start(&mut self, text: &str) -> Option<DateTime> {
        let (detail, help) = match wall_clock(text) {
            Ok(start) if start.year() >= START_YEAR_MIN => return Some(start),
            Ok(_) => (format!("A schedule starts in the year {START_YEAR_MIN} at the earliest."), None),
            Err(WallClockError::Offset { without }) => (
                format!(
                    "`{}` has an offset. `start` is what a clock on the wall shows in `timeZone`, in summer and in \
                        winter, so it has none.",
                    shown(text)
                ),
                without.map(|without| format!("Write what the clock there shows, such as `{without}`.")),
            ),
            Err(WallClockError::NoTime) => {
                (format!("`{}` has no time of day.", shown(text)), Some(format!("Add it: `{}T00:00:00`.", shown(text))))
            }
            Err(WallClockError::Malformed) => (
                format!("`{}` is not a date with a time of day.", shown(text)),
                Some(last_day(text).unwrap_or_else(|| format!("Write it as `{START_EXAMPLE}`."))),
            ),
        };
        let mut diagnostic = Diagnostic::new(code::SCHEDULE_START, super::span(self.root, "/spec/start"), detail);
        diagnostic.help = help;
        self.diagnostics.push(diagnostic);
        None
    }

    fn recurrence(
        &mut self,
        recurrence: v1::Recurrence,
        weekdays: Option<&[v1::Weekday]>,
        start: Option<DateTime>,
    ) -> Recurrence {
        let plain = match recurrence {
            v1::Recurrence::Weekly => {
                let default = start.map_or(Weekday::Monday, DateTime::weekday);
                return Recurrence::Weekly { weekdays: self.weekdays(weekdays, default) };
            }
            v1::Recurrence::Once => Recurrence::Once,
            v1::Recurrence::Daily => Recurrence::Daily,
            v1::Recurrence::Monthly => Recurrence::Monthly,
        };
        if weekdays.is_some() {
            let detail = format!("Only a weekly schedule has weekdays, and this one is `{}`.", plain.word());
            let span = self.root.locate("/spec/weekdays").key_span();
            let diagnostic = Diagnostic::new(code::WEEKDAYS, span, detail);
            self.diagnostics.push(diagnostic.with_help("Remove them, or write `recurrence: weekly`."));
        }
        plain
    }

    fn weekdays(&mut self, given: Option<&[v1::Weekday]>, default: Weekday) -> Vec<Weekday> {
        let Some(given) = given else { return vec![default] };
        if given.is_empty() {
            let detail = "The list of weekdays is empty, so the schedule would never run.";
            let diagnostic = Diagnostic::new(code::WEEKDAYS, super::span(self.root, "/spec/weekdays"), detail);
            let help = format!("Name one, such as `[{}]`, or remove the field.", weekday_word(default));
            self.diagnostics.push(diagnostic.with_help(help));
            return vec![default];
        }
        let mut found: Vec<(Weekday, usize)> = Vec::new();
        for (at, weekday) in given.iter().enumerate() {
            let weekday = weekday_of(*weekday);
            let place = |at: usize| super::span(self.root, &format!("/spec/weekdays/{at}"));
            if let Some((_, first)) = found.iter().find(|(known, _)| *known == weekday) {
                let detail = format!("`{}` is already in this list.", weekday_word(weekday));
                let diagnostic = Diagnostic::new(code::WEEKDAYS, place(at), detail);
                self.diagnostics.push(diagnostic.with_label(place(*first), "first listed here"));
            } else {
                found.push((weekday, at));
            }
        }
        found.sort_by_key(|(weekday, _)| weekday.to_monday_zero_offset());
        found.into_iter().map(|(weekday, _)| weekday).collect()
    }

    fn end(&mut self, end: v1::End, start: Option<DateTime>) -> Option<End> {
        let v1::End { until, after } = end;
        self.exactly_one("/spec/end", &["until", "after"]);
        let until = until.and_then(|until| self.until(&until.0, start));
        let after = after.and_then(|after| match after {
            0 => {
                let detail = "A schedule that ends after 0 occurrences would never run.";
                self.report(code::SCHEDULE_END, "/spec/end/after", detail);
                None
            }
            after => Some(End::After(after)),
        });
        until.or(after)
    }

    fn until(&mut self, text: &str, start: Option<DateTime>) -> Option<End> {
        let pointer = "/spec/end/until";
        let Some(until) = date(text) else {
            let detail = format!("`{}` is not a date.", shown(text));
            let mut diagnostic = Diagnostic::new(code::SCHEDULE_END, super::span(self.root, pointer), detail);
            diagnostic.help = Some(match text.get(..10).filter(|head| date(head).is_some()) {
                Some(head) => {
                    format!("The end is the last day, whatever the time: write `{head}`.")
                }
                None => last_day(text).unwrap_or_else(|| format!("Write it as `{DATE_EXAMPLE}`.")),
            });
            self.diagnostics.push(diagnostic);
            return None;
        };
        if let Some(start) = start
            && until < start.date()
        {
            let detail = format!("The end lies before the start ({}), so the schedule would never run.", start.date());
            let diagnostic = Diagnostic::new(code::SCHEDULE_END, super::span(self.root, pointer), detail);
            let label = super::span(self.root, "/spec/start");
            self.diagnostics.push(diagnostic.with_label(label, "the start"));
        }
        Some(End::Until(until))
    }

    fn missed(&mut self, missed: v1::Missed, recurrence: &Recurrence) -> Missed {
        let v1::Missed { policy, within } = missed;
        let default = Missed::default();
        let policy = match policy {
            None | Some(v1::MissedPolicy::Skip) => MissedPolicy::Skip,
            Some(v1::MissedPolicy::RunOnce) => MissedPolicy::RunOnce,
        };
        let pointer = "/spec/missed/within";
        let within = self.duration(within.as_ref(), pointer, default.within);
        if policy == MissedPolicy::Skip && within != default.within {
            let detail = "With `policy: skip` nothing starts late, so `within` has no effect.";
            let span = super::span(self.root, pointer);
            let help = "Write `policy: runOnce`, or remove it.";
            self.diagnostics.push(Diagnostic::new(code::NO_EFFECT, span, detail).with_help(help));
        } else if let Some(period) = period(recurrence).filter(|period| within > *period) {
            let detail = format!(
                "The schedule repeats after {}, and only the newest occurrence runs late: one can never start later \
                    than that.",
                crate::model::text::duration(period)
            );
            self.report(code::MISSED_WITHIN, pointer, detail);
        }
        Missed { policy, within }
    }
}

/// Returns the shortest time from one occurrence to the next by the calendar; `None` when it does not repeat.
fn period(recurrence: &Recurrence) -> Option<Duration> {
    let days = match recurrence {
        Recurrence::Once => return None,
        Recurrence::Daily => 1,
        Recurrence::Weekly { weekdays } => {
            let next = weekdays.iter().cycle().skip(1);
            let gaps = weekdays.iter().zip(next).map(|(one, next)| match one.until(*next) {
                0 => 7,
                days => u64::try_from(days).unwrap_or(7),
            });
            gaps.min().unwrap_or(7)
        }
        // The longest month, which allows the most.
        Recurrence::Monthly => 31,
    };
    Some(Duration::from_secs(days * 86_400))
}

/// Returns true for entries of the database's folder that mean another zone on every machine, or none.
fn is_of_this_machine(name: &str) -> bool {
    matches!(name, "localtime" | "posixrules" | "Factory")
}

/// Returns the nearest name, or the one that ends with the word: people write `Amsterdam`.
fn nearest_zone<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let wanted = name.replace(' ', "_");
    let is_city = |zone: &&str| zone.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&wanted));
    let names = || known.iter().map(String::as_str).filter(|zone| !is_of_this_machine(zone));
    nearest(&wanted, names()).or_else(|| names().find(is_city))
}

pub(super) fn weekday_of(weekday: v1::Weekday) -> Weekday {
    match weekday {
        v1::Weekday::Mon => Weekday::Monday,
        v1::Weekday::Tue => Weekday::Tuesday,
        v1::Weekday::Wed => Weekday::Wednesday,
        v1::Weekday::Thu => Weekday::Thursday,
        v1::Weekday::Fri => Weekday::Friday,
        v1::Weekday::Sat => Weekday::Saturday,
        v1::Weekday::Sun => Weekday::Sunday,
    }
}

#[derive(Debug, PartialEq)]
pub(super) enum WallClockError {
    /// The text without its offset, when that is a time.
    Offset {
        without: Option<String>,
    },
    /// It is a date.
    NoTime,
    Malformed,
}

/// Returns the date of `2027-03-31` and nothing else.
fn date(text: &str) -> Option<Date> {
    if has_shape(text, "dddd-dd-dd") { text.parse().ok() } else { None }
}

/// Returns the time of `2026-12-01T02:30:00`; a space for the `T`, and no seconds, are also allowed.
pub(super) fn wall_clock(text: &str) -> Result<DateTime, WallClockError> {
    if date(text).is_some() {
        return Err(WallClockError::NoTime);
    }
    let length = if text.get(16..17) == Some(":") { 19 } else { 16 };
    let head = text.get(..length).ok_or(WallClockError::Malformed)?;
    let shape = if length == 19 { "dddd-dd-ddTdd:dd:dd" } else { "dddd-dd-ddTdd:dd" };
    // Jiff takes a leap second for the one before it: no clock on a wall shows one.
    if !has_shape(&head.replacen(' ', "T", 1), shape) || head.get(17..) == Some("60") {
        return Err(WallClockError::Malformed);
    }
    let time = head.parse().map_err(|_| WallClockError::Malformed)?;
    match &text[length..] {
        "" => Ok(time),
        rest if rest.starts_with(['Z', 'z', '+', '-', '[', ' ']) => {
            Err(WallClockError::Offset { without: Some(head.to_string()) })
        }
        _ => Err(WallClockError::Malformed),
    }
}

/// Returns the last day of a month, as a sentence, for a text that begins with a later one.
fn last_day(text: &str) -> Option<String> {
    let date = text.get(..10).filter(|date| has_shape(date, "dddd-dd-dd"))?;
    let month = Date::new(date[..4].parse().ok()?, date[5..7].parse().ok()?, 1).ok()?;
    let day: i8 = date[8..].parse().ok()?;
    (day > month.days_in_month()).then(|| format!("The last day of that month is `{}`.", month.last_of_month()))
}

/// Returns true when a text has a digit for each `d` of a shape, and otherwise its characters.
fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(c, wanted): (u8, u8)| if wanted == b'd' { c.is_ascii_digit() } else { c == wanted };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_behind_the_last_one_of_its_month_is_none() {
        let told = |day: &str| Some(format!("The last day of that month is `{day}`."));
        assert_eq!(last_day("2026-11-31T03:00"), told("2026-11-30"));
        assert_eq!(last_day("2026-02-29"), told("2026-02-28"));
        for text in ["2028-02-29T25:00", "2026-13-01T03:00", "2026-11-3", "2026-11-3é", "0000-11-00"] {
            assert_eq!(last_day(text), None, "{text}");
        }
    }

    #[test]
    fn a_start_is_a_time_of_a_wall_clock() {
        let good = |text: &str| wall_clock(text).map(|time| time.to_string());
        assert_eq!(good("2026-12-01T02:30:00").as_deref(), Ok("2026-12-01T02:30:00"));
        assert_eq!(good("2026-12-01 02:30").as_deref(), Ok("2026-12-01T02:30:00"));
        for (text, expect) in [
            ("2026-12-01T02:30:00Z", WallClockError::Offset { without: Some("2026-12-01T02:30:00".into()) }),
            ("2026-12-01T02:30+01:00", WallClockError::Offset { without: Some("2026-12-01T02:30".into()) }),
            (
                "2026-12-01T02:30:00[Europe/Amsterdam]",
                WallClockError::Offset { without: Some("2026-12-01T02:30:00".into()) },
            ),
            ("2026-12-01", WallClockError::NoTime),
            ("2026-02-30T00:00:00", WallClockError::Malformed),
            ("2026-12-01T24:00:00", WallClockError::Malformed),
            ("2026-12-01T02:30:60", WallClockError::Malformed),
            ("2026-12-01T02:30:00.5", WallClockError::Malformed),
            ("20261201T023000", WallClockError::Malformed),
            ("-2026-12-01T02:30:00", WallClockError::Malformed),
            ("tomorrow", WallClockError::Malformed),
            ("", WallClockError::Malformed),
            ("2026-12-01Té2:30", WallClockError::Malformed),
        ] {
            assert_eq!(wall_clock(text), Err(expect), "{text}");
        }
    }
}
