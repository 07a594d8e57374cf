//! What is to be done about a schedule now.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::occurrences::{Occurrences, number_after};
use crate::model::limits;
use crate::model::schedule::{MissedPolicy, Occurrence, Overlap, Schedule};
use crate::model::text;

/// How late an occurrence may start and still be on time. A daemon looks at least once a minute and may be in the
/// middle of a commit; a later start is reported.
pub const ON_TIME: Duration = Duration::from_secs(60);

/// An occurrence of a schedule that was started. It holds its place from its instant on, however late it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instance {
    pub instant: Timestamp,
    /// `None` while it is under way.
    pub finished_at: Option<Timestamp>,
}

impl Instance {
    /// Returns true when it was under way at an instant after its own.
    fn was_open_at(&self, instant: Timestamp) -> bool {
        self.instant < instant && self.finished_at.is_none_or(|finished_at| finished_at > instant)
    }
}

/// What is to be done about a schedule now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// To be claimed and started.
    pub start: Option<Occurrence>,
    /// Due, but another occurrence is under way: ask again when that has ended. Never set together with `start`.
    pub waiting: Option<Occurrence>,
    /// Will not run any more, oldest first: at most [`limits::MISSED_OCCURRENCES_MAX`], the newest.
    pub missed: Vec<(Occurrence, MissedWhy)>,
    /// Missed nominal occurrences before those of `missed`.
    pub missed_before: u64,
    /// The first occurrence after now; `None` when there is none or when the schedule is suspended.
    pub next: Option<Occurrence>,
    /// All occurrences up to this time are decided once `missed` is recorded: the `since` of the next call. It is right
    /// before `start` or `waiting`, else now; never before the `since` of this call.
    pub decided_until: Timestamp,
}

impl Due {
    /// Returns a sentence about the missed occurrences that are not listed one by one; `None` when there are none.
    pub fn missed_before_sentence(&self) -> Option<String> {
        match self.missed_before {
            0 => None,
            1 => Some("1 older occurrence was missed too.".to_string()),
            count => Some(format!("{count} older occurrences were missed too.")),
        }
    }
}

/// Why an occurrence does not run. `Display` is a sentence for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissedWhy {
    /// Nothing started it in time.
    Late {
        /// How late it could have started.
        allowed: Duration,
        policy: MissedPolicy,
    },
    /// Nothing started it before the next one was due: only the newest runs late.
    Superseded { by: Timestamp },
    /// Another occurrence was under way at its time, or when it was to start late (`overlap: skip`).
    Overlap { running: Timestamp },
}

impl MissedWhy {
    /// Returns the word for JSON and other formats.
    pub fn word(self) -> &'static str {
        match self {
            MissedWhy::Late { .. } => "late",
            MissedWhy::Superseded { .. } => "superseded",
            MissedWhy::Overlap { .. } => "overlap",
        }
    }
}

impl std::fmt::Display for MissedWhy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MissedWhy::Late { allowed, policy } => write!(
                f,
                "Nothing started it within {} of its time (`missed.policy: {}`).",
                text::duration(*allowed),
                policy.word()
            ),
            MissedWhy::Superseded { by } => {
                write!(f, "It had not started when that of {by} was due: only the newest runs late.")
            }
            MissedWhy::Overlap { running } => {
                write!(f, "The occurrence of {running} was still under way (`overlap: skip`).")
            }
        }
    }
}

/// Returns what is to be done about the occurrences after `since` and up to `now`.
///
/// | the occurrence | what becomes of it |
/// | --- | --- |
/// | has a claim (`settled`) | nothing: it is done, or under way |
/// | is older than another one that is due | missed, whatever the policy: only the newest runs late |
/// | is at most [`ON_TIME`] late, or at most `missed.within` with `runOnce` | started |
/// | is later than that | missed |
/// | another one was under way at its time, or is now; `overlap: skip` | missed |
/// | another one is under way now; `overlap: queue` | waits |
/// | another one was under way at its time and has ended; `overlap: queue` | started, however late |
///
/// `instances` are the occurrences that were started, in any order; those that ended before `since` need not be among
/// them. The caller records the missed ones and remembers [`Due::decided_until`]. A suspended schedule has no due and
/// no missed occurrences: the time passes.
pub fn due(
    schedule: &Schedule,
    since: Timestamp,
    settled: &BTreeSet<Timestamp>,
    instances: &[Instance],
    now: Timestamp,
) -> Due {
    let mut due = Due {
        start: None,
        waiting: None,
        missed: Vec::new(),
        missed_before: 0,
        next: None,
        decided_until: since.max(now),
    };
    if schedule.is_suspended {
        return due;
    }
    due.next = Occurrences::after(schedule, now).next();
    let (first, behind) = (number_after(schedule, since), number_after(schedule, now));
    let listed = behind.saturating_sub(limits::MISSED_OCCURRENCES_MAX).max(first);
    let passed = Occurrences::numbered(schedule, listed).take_while(|occurrence| occurrence.instant <= now);
    let mut passed: Vec<Occurrence> = passed.collect();
    if let Some(oldest) = passed.first().filter(|_| listed > first) {
        let is_one = |instant: &&Timestamp| {
            Occurrences::at_or_after(schedule, **instant).next().is_some_and(|found| found.instant == **instant)
        };
        let claimed = settled.range(since..oldest.instant).filter(|instant| **instant > since).filter(is_one).count();
        due.missed_before = (listed - first).saturating_sub(claimed as u64);
    }
    let Some(newest) = passed.pop() else { return due };
    for older in passed.into_iter().filter(|occurrence| !settled.contains(&occurrence.instant)) {
        due.missed.push((older, why_superseded(schedule, older, newest, instances)));
    }
    if !settled.contains(&newest.instant) {
        match decide(schedule, newest, instances, now) {
            Decision::Start => due.start = Some(newest),
            Decision::Wait => due.waiting = Some(newest),
            Decision::Miss(why) => due.missed.push((newest, why)),
        }
    }
    if let Some(open) = due.start.or(due.waiting) {
        let before = open.instant.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(open.instant);
        due.decided_until = before.max(since);
    }
    due
}

/// Returns why an occurrence is missed when a newer one is due.
fn why_superseded(schedule: &Schedule, older: Occurrence, newest: Occurrence, instances: &[Instance]) -> MissedWhy {
    match (schedule.overlap, running_at(older, instances)) {
        (Overlap::Skip, Some(running)) => MissedWhy::Overlap { running: running.instant },
        (Overlap::Skip | Overlap::Queue, _) => MissedWhy::Superseded { by: newest.instant },
    }
}

enum Decision {
    Start,
    Wait,
    Miss(MissedWhy),
}

fn decide(schedule: &Schedule, newest: Occurrence, instances: &[Instance], now: Timestamp) -> Decision {
    let open_now = instances.iter().find(|one| one.finished_at.is_none() && one.instant != newest.instant);
    let running = running_at(newest, instances);
    match schedule.overlap {
        Overlap::Skip => {
            if let Some(running) = running.or(open_now) {
                return Decision::Miss(MissedWhy::Overlap { running: running.instant });
            }
        }
        Overlap::Queue => {
            if open_now.is_some() {
                return Decision::Wait;
            }
            if running.is_some() {
                return Decision::Start;
            }
        }
    }
    let policy = schedule.missed.policy;
    let allowed = match policy {
        MissedPolicy::Skip => ON_TIME,
        MissedPolicy::RunOnce => schedule.missed.within.max(ON_TIME),
    };
    let late_by = Duration::try_from(now.duration_since(newest.instant)).unwrap_or_default();
    if late_by <= allowed { Decision::Start } else { Decision::Miss(MissedWhy::Late { allowed, policy }) }
}

/// Returns the newest instance that was under way when an occurrence was due.
fn running_at(occurrence: Occurrence, instances: &[Instance]) -> Option<&Instance> {
    instances.iter().filter(|one| one.was_open_at(occurrence.instant)).max_by_key(|one| one.instant)
}
