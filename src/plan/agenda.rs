//! What is due of the schedules: which occurrence starts, which were missed, when the next ones are.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::ledger::{Followed, Ledger};
use crate::model::fleet::{Declared, HeldDocuments};
use crate::model::id::Name;
use crate::model::job::Job;
use crate::model::kind::Kind;
use crate::model::schedule::{Occurrence, Schedule, occurrence_instant};
use crate::schedule::{Instance, MissedWhy, due};

/// How often an occurrence is tried again that could not be claimed. It is longer than an occurrence may be late and
/// still be on time, so that one without `missed.policy: runOnce` is tried once and then missed.
const RETRY_INTERVAL: SignedDuration = SignedDuration::from_secs(61);

/// What is to be done about the schedules now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Agenda {
    /// To be claimed and run, one of a schedule at most.
    pub start: Vec<Job>,
    /// Will not run any more.
    pub missed: Vec<MissedOccurrence>,
    /// Schedules that are new, edited, suspended, taken up again or gone.
    pub follow: Vec<Followed>,
    /// The next occurrence of each schedule that has one, by name.
    pub next: BTreeMap<Name, Timestamp>,
    /// When the agenda is to be looked at again at the latest; `None` when nothing is ever due.
    pub look_again_at: Option<Timestamp>,
}

/// An occurrence that does not run.
#[derive(Debug, Clone, PartialEq)]
pub struct MissedOccurrence {
    pub job: Job,
    pub occurrence: Occurrence,
    /// A sentence that begins with `missed`.
    pub reason: String,
    /// It was due and nothing started it.
    pub is_late: bool,
}

impl Agenda {
    /// Returns true when there is nothing to write.
    pub fn is_settled(&self) -> bool {
        self.missed.is_empty() && self.follow.is_empty()
    }
}

/// Returns the agenda. A schedule is followed from the moment it is first seen on, which may have been before anything
/// could be written; what is held is left as it is.
pub fn agenda(
    declared: &Declared,
    held: &HeldDocuments,
    ledger: &Ledger,
    followed: &BTreeMap<Name, Followed>,
    (seen_at, now): (Timestamp, Timestamp),
) -> Agenda {
    let mut agenda = Agenda::default();
    for schedule in declared.schedules.values() {
        let timing = schedule.timing_digest();
        let since = match followed.get(&schedule.name) {
            Some(known) if known.timing == timing => known.since,
            Some(_) | None => {
                let since = seen_at.min(now);
                agenda.follow.push(Followed { schedule: schedule.name.clone(), timing, since });
                since
            }
        };
        take(schedule, since, ledger, now, &mut agenda);
    }
    let gone = Followed::gone();
    for known in followed.values() {
        let is_declared = declared.schedules.contains_key(&known.schedule);
        if !is_declared && known.timing != gone && !held.may_have(Kind::Schedule, &known.schedule) {
            agenda.follow.push(Followed { schedule: known.schedule.clone(), timing: gone, since: now });
        }
    }
    agenda
}

fn take(schedule: &Schedule, since: Timestamp, ledger: &Ledger, now: Timestamp, agenda: &mut Agenda) {
    let (mut settled, mut instances) = (BTreeSet::new(), Vec::new());
    for name in std::iter::once(&schedule.name).chain(&schedule.previous_names) {
        for claim in ledger.claims_of(name) {
            let Some(instant) = occurrence_instant(&claim.run) else { continue };
            settled.insert(instant);
            let key = (claim.job.clone(), claim.run.clone());
            let record = ledger.records.get(&key).filter(|record| record.status.is_final());
            match record {
                // A missed one was never under way.
                Some(record) if record.started_at.is_none() => {}
                Some(record) => instances.push(Instance { instant, finished_at: record.finished_at }),
                None => instances.push(Instance { instant, finished_at: None }),
            }
        }
    }
    let due = due(schedule, since, &settled, &instances, now);
    if !due.missed.is_empty() {
        // What is told now is not told again.
        let (schedule, timing, since) = (schedule.name.clone(), schedule.timing_digest(), due.decided_until);
        agenda.follow.retain(|one| one.schedule != schedule);
        agenda.follow.push(Followed { schedule, timing, since });
    }
    let mut before = due.missed_before_sentence();
    for (occurrence, why) in &due.missed {
        let mut reason = format!("missed: {why}");
        if let Some(sentence) = before.take() {
            reason.push(' ');
            reason.push_str(&sentence);
        }
        let is_late = matches!(why, MissedWhy::Late { .. });
        agenda.missed.push(MissedOccurrence {
            job: schedule.job_at(occurrence.instant),
            occurrence: *occurrence,
            reason,
            is_late,
        });
    }
    let mut looks = Vec::new();
    if let Some(start) = due.start {
        agenda.start.push(schedule.job_at(start.instant));
        // When something keeps it from being claimed, it is tried again until it is missed.
        looks.extend(now.checked_add(RETRY_INTERVAL));
    }
    if let Some(next) = due.next {
        agenda.next.insert(schedule.name.clone(), next.instant);
        looks.push(next.instant);
    }
    agenda.look_again_at = agenda.look_again_at.into_iter().chain(looks).min();
}
