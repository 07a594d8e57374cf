//! A policy: what jobs, schedules and imports may do, whoever writes them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;

use super::delivery::Amount;
use super::id::Name;
use super::kind::Kind;

/// The rules of one Policy document. A rule that is `None` or empty does not exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub name: Name,
    pub scope: PolicyScope,
    pub limits: PolicyLimits,
    pub require: PolicyRequire,
    pub forbid: PolicyForbid,
    pub freezes: Vec<Freeze>,
    /// The file that declares it, relative to the fleet's folder.
    pub file: String,
}

/// The documents that a policy applies to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyScope {
    /// Paths of organizations; empty: all.
    pub organizations: Vec<String>,
    /// Empty: all.
    pub kinds: BTreeSet<Kind>,
}

/// The kinds of documents that policies are about.
pub const JUDGED_KINDS: [Kind; 3] = [Kind::Job, Kind::Schedule, Kind::DeviceImport];

impl PolicyScope {
    /// Returns true for a document of a kind whose devices are those of an organization, by its path. One without an
    /// organization may touch any device, and one of an organization those of all below it.
    pub fn has(&self, kind: Kind, organization: Option<&str>) -> bool {
        let has_kind = self.kinds.is_empty() || self.kinds.contains(&kind);
        let is_within = |path: &str, other: &str| {
            path.strip_prefix(other).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let overlaps = |own: &String| organization.is_none_or(|path| is_within(path, own) || is_within(own, path));
        has_kind && (self.organizations.is_empty() || self.organizations.iter().any(overlaps))
    }
}

/// How much one plan, or one day, may do. Percentages are of the devices of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicyLimits {
    pub devices_per_job: Option<Amount>,
    /// Of all jobs that were claimed in the last 24 hours.
    pub devices_per_day: Option<Amount>,
    pub removals_per_import: Option<Amount>,
    pub running_jobs: Option<u32>,
}

/// What a document must say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PolicyRequire {
    /// Jobs, schedules and imports have an `expect`.
    pub expect: bool,
    /// The most devices of the first batch.
    pub canary: Option<u64>,
    /// The most failures that a threshold may allow, of its own scope.
    pub threshold: Option<Amount>,
    /// The most devices of a batch, of the devices of the job.
    pub batch_size: Option<Amount>,
}

/// What no document may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyForbid {
    /// Patterns of desired properties.
    pub properties: Vec<PathPattern>,
    pub tags: Vec<PathPattern>,
    /// Patterns of names of commands, or of a component and a command with `*` between them.
    pub commands: Vec<String>,
    /// Words of the manifest, such as `deviceTemplate`.
    pub actions: Vec<String>,
    /// Words of the manifest: `block` and `delete`.
    pub removed: Vec<String>,
}

/// A pattern of dotted paths: `*` in a part is any text, a part `**` any number of parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    parts: Vec<String>,
}

impl PathPattern {
    /// Returns the pattern of a text such as `network.**`; `None` when a part is empty.
    pub fn parse(text: &str) -> Option<PathPattern> {
        let parts: Vec<String> = text.split('.').map(str::to_string).collect();
        parts.iter().all(|part| !part.is_empty()).then_some(PathPattern { parts })
    }

    /// Returns true when writing at a path changes what the pattern names, what lies below that, or all of what it may
    /// name below the path: who removes `network` removes `network.ssid` too.
    pub fn touches(&self, path: &[String]) -> bool {
        touches(&self.parts, path)
    }
}

impl std::fmt::Display for PathPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.parts.join("."))
    }
}

fn touches(pattern: &[String], path: &[String]) -> bool {
    let (Some((part, rest)), Some((key, below))) = (pattern.split_first(), path.split_first()) else { return true };
    if part == "**" {
        return touches(rest, path) || touches(pattern, below);
    }
    super::text::matches_wildcard(part, key) && touches(rest, below)
}

/// A time in which nothing starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Freeze {
    pub when: FreezeTime,
    pub time_zone: TimeZone,
    /// Why, in the words of its author; may be empty.
    pub reason: String,
}

/// When nothing starts, on the wall clock of the time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FreezeTime {
    /// From the first time to the second, which is not part of it.
    Between(DateTime, DateTime),
    /// On whole days. Not all seven.
    Weekdays(BTreeSet<i8>),
}

impl FreezeTime {
    /// Returns the freeze of whole days of the week.
    pub fn on(weekdays: impl IntoIterator<Item = Weekday>) -> FreezeTime {
        FreezeTime::Weekdays(weekdays.into_iter().map(Weekday::to_monday_zero_offset).collect())
    }
}

impl Freeze {
    /// Returns when the freeze ends that a time is in; `None` when it is in none.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let local = now.to_zoned(self.time_zone.clone());
        match &self.when {
            FreezeTime::Between(from, until) => {
                let instant = |time: &DateTime| time.to_zoned(self.time_zone.clone()).map(|zoned| zoned.timestamp());
                let (from, until) = (instant(from).ok()?, instant(until).ok()?);
                (from <= now && now < until).then_some(until)
            }
            FreezeTime::Weekdays(weekdays) => {
                let is_frozen = |day: &jiff::Zoned| weekdays.contains(&day.weekday().to_monday_zero_offset());
                if !is_frozen(&local) {
                    return None;
                }
                let mut day = local.start_of_day().ok()?;
                // A week has a day that is not frozen.
                for _ in 0..7 {
                    day = day.tomorrow().and_then(|next| next.start_of_day()).ok()?;
                    if !is_frozen(&day) {
                        return Some(day.timestamp());
                    }
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_touches_what_it_names_and_what_is_around_it() {
        let check = |pattern: &str, path: &str, expect: bool| {
            let path: Vec<String> = path.split('.').map(str::to_string).collect();
            assert_eq!(PathPattern::parse(pattern).unwrap().touches(&path), expect, "{pattern} {path:?}");
        };
        check("network.**", "network.ssid", true);
        check("network.**", "network", true);
        check("network", "network.wifi.ssid", true);
        check("network.wifi.**", "network.lte", false);
        check("**.password", "network.wifi.password", true);
        check("**.password", "password", true);
        check("**.password", "network.wifi.ssid", true);
        check("net*.ssid", "network.ssid", true);
        check("net*.ssid", "light.ssid", false);
        check("*", "anything.at.all", true);
        check("owner", "owners", false);
        assert!(PathPattern::parse("network..ssid").is_none() && PathPattern::parse("").is_none());
    }

    #[test]
    fn a_policy_of_an_organization_applies_where_its_devices_may_be() {
        let scope = PolicyScope { organizations: vec!["acme/eu".into()], kinds: BTreeSet::new() };
        assert!(scope.has(Kind::Job, Some("acme/eu")) && scope.has(Kind::Job, Some("acme/eu/nl")));
        assert!(scope.has(Kind::Job, Some("acme")) && scope.has(Kind::Job, None));
        assert!(!scope.has(Kind::Job, Some("acme/us")) && !scope.has(Kind::Job, Some("acme/europe")));
        let imports = PolicyScope { kinds: [Kind::DeviceImport].into(), ..PolicyScope::default() };
        assert!(imports.has(Kind::DeviceImport, Some("acme")) && !imports.has(Kind::Job, Some("acme")));
    }

    #[test]
    fn a_freeze_ends_on_the_wall_clock_of_its_zone() {
        let time_zone = TimeZone::get("Europe/Amsterdam").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (from, until) = ("2026-12-20T00:00:00".parse().unwrap(), "2027-01-03T00:00:00".parse().unwrap());
        let holidays = Freeze {
            when: FreezeTime::Between(from, until),
            time_zone: time_zone.clone(),
            reason: "holidays".to_string(),
        };
        assert_eq!(holidays.until(at("2026-12-19T22:59:59Z")), None);
        assert_eq!(holidays.until(at("2026-12-19T23:00:00Z")), Some(at("2027-01-02T23:00:00Z")));
        assert_eq!(holidays.until(at("2027-01-02T23:00:00Z")), None);
        let when = FreezeTime::on([Weekday::Saturday, Weekday::Sunday]);
        let weekend = Freeze { when, time_zone, reason: String::new() };
        assert_eq!(weekend.until(at("2026-12-04T12:00:00Z")), None);
        assert_eq!(weekend.until(at("2026-12-04T23:30:00Z")), Some(at("2026-12-06T23:00:00Z")));
        // The clocks change on the Sunday.
        assert_eq!(weekend.until(at("2026-10-24T12:00:00Z")), Some(at("2026-10-25T23:00:00Z")));
    }
}
