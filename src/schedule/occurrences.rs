//! The occurrences of a schedule, from any instant on.
//!
//! The nominal occurrences are numbered from 0, and the wall clock of each is computed from its number alone; so no
//! function walks from the start. `end.after: N` ends before number N, `end.until` after the last number of that date.

use jiff::civil::{Date, DateTime};
use jiff::{Span, Timestamp};

use crate::model::schedule::{End, Occurrence, Recurrence, Schedule};

/// An upper bound, in days, of the difference between the nominal time of an occurrence and the local time of its
/// instant: a clock that is set forward moves an occurrence by the length of the gap, which has never been above a day
/// (Apia 2011, Manila 1844).
const GAP_DAYS_MAX: i64 = 3;

/// The occurrences of a schedule, in order; each instant once.
///
/// Two nominal occurrences have one instant when a day is left out (Apia had no 2011-12-30: the clock was set forward
/// by 24 hours, and a daily schedule's occurrence of that day falls on that of the next). They come as one, with the
/// later nominal time, which exists; `end.after` counts both.
///
/// Ends with the schedule, and at the latest with the year 9999. A suspended schedule has the same occurrences.
#[derive(Debug, Clone)]
pub struct Occurrences<'a> {
    schedule: &'a Schedule,
    /// The number of the next nominal occurrence.
    number: u64,
}

impl<'a> Occurrences<'a> {
    /// Returns all occurrences.
    pub fn all(schedule: &'a Schedule) -> Occurrences<'a> {
        Occurrences { schedule, number: 0 }
    }

    /// Returns the occurrences after an instant.
    pub fn after(schedule: &'a Schedule, instant: Timestamp) -> Occurrences<'a> {
        Occurrences::numbered(schedule, first_number(schedule, instant, |occurrence| occurrence > instant))
    }

    /// Returns the occurrences at or after an instant.
    pub fn at_or_after(schedule: &'a Schedule, instant: Timestamp) -> Occurrences<'a> {
        Occurrences::numbered(schedule, first_number(schedule, instant, |occurrence| occurrence >= instant))
    }

    /// Returns the occurrences from a number on.
    pub(super) fn numbered(schedule: &'a Schedule, number: u64) -> Occurrences<'a> {
        Occurrences { schedule, number }
    }
}

impl Iterator for Occurrences<'_> {
    type Item = Occurrence;

    fn next(&mut self) -> Option<Occurrence> {
        let mut current = occurrence(self.schedule, self.number)?;
        self.number += 1;
        while let Some(next) = occurrence(self.schedule, self.number).filter(|next| next.instant <= current.instant) {
            current = Occurrence { nominal: next.nominal, ..current };
            self.number += 1;
        }
        Some(current)
    }
}

/// Returns the number of the first nominal occurrence after an instant; the number of all of them when there is none.
pub(super) fn number_after(schedule: &Schedule, instant: Timestamp) -> u64 {
    first_number(schedule, instant, |occurrence| occurrence > instant)
}

/// Returns the number of the first nominal occurrence whose instant is wanted, or the number of all of them. Wanted are
/// those from about `instant` on.
fn first_number(schedule: &Schedule, instant: Timestamp, is_wanted: impl Fn(Timestamp) -> bool) -> u64 {
    let local = schedule.time_zone.to_datetime(instant);
    let mut from = local.checked_sub(Span::new().days(GAP_DAYS_MAX)).unwrap_or(DateTime::MIN);
    if let Some(End::Until(date)) = schedule.end {
        // There are no numbers after the end.
        from = from.min(date.tomorrow().unwrap_or(Date::MAX).at(0, 0, 0, 0));
    }
    let mut number = number_near(schedule, from);
    if let Some(End::After(count)) = schedule.end {
        number = number.min(count);
    }
    while let Some(occurrence) = occurrence(schedule, number)
        && !is_wanted(occurrence.instant)
    {
        number += 1;
    }
    number
}

/// Returns a number less than a week or a month before a nominal time; all smaller numbers have nominal times before
/// it.
fn number_near(schedule: &Schedule, nominal: DateTime) -> u64 {
    if nominal <= schedule.start {
        return 0;
    }
    let (start, date) = (schedule.start.date(), nominal.date());
    let days = start.duration_until(date).as_hours() / 24;
    let number = match &schedule.recurrence {
        Recurrence::Once => 0,
        Recurrence::Daily => days,
        Recurrence::Weekly { weekdays } => days / 7 * weekdays.len() as i64,
        Recurrence::Monthly => {
            (i64::from(date.year()) - i64::from(start.year())) * 12 + i64::from(date.month()) - i64::from(start.month())
        }
    };
    u64::try_from(number).unwrap_or(0)
}

/// Returns the occurrence of a number; `None` after the end.
fn occurrence(schedule: &Schedule, number: u64) -> Option<Occurrence> {
    if let Some(End::After(count)) = schedule.end
        && number >= count
    {
        return None;
    }
    let date = date_of(schedule, i64::try_from(number).ok()?)?;
    if let Some(End::Until(last)) = schedule.end
        && date > last
    {
        return None;
    }
    let nominal = date.to_datetime(schedule.start.time());
    let instant = schedule.time_zone.to_ambiguous_timestamp(nominal).compatible().ok()?;
    Some(Occurrence { nominal, instant })
}

/// Returns the nominal date of a number, wherever the schedule ends; `None` after the end of the calendar.
fn date_of(schedule: &Schedule, number: i64) -> Option<Date> {
    let start = schedule.start.date();
    let days_on = |days: i64| start.checked_add(Span::new().try_days(days).ok()?).ok();
    match &schedule.recurrence {
        Recurrence::Once => (number == 0).then_some(start),
        Recurrence::Daily => days_on(number),
        Recurrence::Weekly { weekdays } => {
            let mut offsets: Vec<i64> =
                weekdays.iter().map(|weekday| i64::from(start.weekday().until(*weekday))).collect();
            offsets.sort_unstable();
            let a_week = i64::try_from(offsets.len()).ok()?;
            let offset = offsets.get(usize::try_from(number.checked_rem(a_week)?).ok()?)?;
            days_on((number / a_week).checked_mul(7)?.checked_add(*offset)?)
        }
        // Jiff takes the last day of a month that lacks the day, and counts from the start: the 31st comes back in
        // March.
        Recurrence::Monthly => start.checked_add(Span::new().try_months(number).ok()?).ok(),
    }
}
