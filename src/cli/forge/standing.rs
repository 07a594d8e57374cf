//! How the commits stand that a daemon or an apply took up: the status of each, by what it tells of its work.

use std::collections::{BTreeMap, BTreeSet};

use crate::cli::view::counted;
use crate::forge::{Report, State, Status};
use crate::ledger::RunRecord;
use crate::model::id::{Name, RunToken};
use crate::model::limits::FORGE_PENDING_STATUSES_MAX;
use crate::model::outcome::{Counts, RunStatus};
use crate::model::schedule::occurrence_instant;

/// The commits that a process took up, the newest and those with open runs.
#[derive(Debug, Default)]
pub struct Standing {
    /// Where to read more.
    link: Option<String>,
    /// The name of the fleet; `None` until a commit was taken up.
    fleet: Option<String>,
    newest: Option<String>,
    tallies: BTreeMap<String, Tally>,
    /// A run has ended since the last look: what waits for it begins in the next round.
    has_ended: bool,
}

/// What a commit started, and what of it did not start.
#[derive(Debug, Default)]
struct Tally {
    runs: BTreeMap<(Name, RunToken), Run>,
    imports: u64,
    rejected_rows: u64,
    held: u64,
    first_held: Option<String>,
    /// Sentences about what does not start now.
    frozen: BTreeSet<String>,
    /// The last round began nothing more.
    is_settled: bool,
    /// It was the newest when the process began: another one may have said more.
    is_first: bool,
    said: Option<Status>,
    pending_said: u32,
}

#[derive(Debug, Clone)]
struct Run {
    total: u64,
    failed: u64,
    is_open: bool,
    /// Why it ended badly.
    bad: Option<String>,
}

/// What a commit that was taken up does not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undone {
    /// Documents and files that are held.
    pub held: u64,
    /// The first of them, with why.
    pub first: Option<String>,
    /// Sentences about what does not start now.
    pub frozen: BTreeSet<String>,
}

impl Standing {
    /// Returns that of a process that took up nothing yet. `link` is where its statuses lead.
    pub fn new(link: Option<String>) -> Standing {
        Standing { link, ..Standing::default() }
    }

    /// Returns true before the first commit.
    pub fn is_new(&self) -> bool {
        self.newest.is_none()
    }

    /// A commit was taken up, or what it does not do is another than before. `past` are runs of it that ended in a
    /// process before this one.
    pub fn take_up(&mut self, fleet: &str, commit: &str, undone: Undone, past: &[RunRecord]) {
        let is_first = self.is_new();
        self.fleet = Some(fleet.to_string());
        self.newest = Some(commit.to_string());
        let tally = self.tallies.entry(commit.to_string()).or_insert_with(|| Tally { is_first, ..Tally::default() });
        (tally.held, tally.first_held, tally.frozen) = (undone.held, undone.first, undone.frozen);
        tally.is_settled = false;
        for record in past.iter().filter(|record| record.status.is_final() && is_started(&record.run)) {
            tally.runs.insert((record.job.clone(), record.run.clone()), Run::ended(record));
        }
    }

    /// A commit cannot be used at all.
    pub fn pass_over(&mut self, commit: &str, why: &str) {
        if self.fleet.is_some() {
            let tally = self.tallies.entry(commit.to_string()).or_default();
            (tally.held, tally.first_held, tally.is_settled) = (1, Some(why.to_string()), true);
        }
    }

    /// An import was applied.
    pub fn import(&mut self, import: &Name, rejected: u64) {
        if let Some(tally) = self.newest_tally() {
            tally.imports += 1;
            tally.rejected_rows += rejected;
            tally.thaw(import);
        }
    }

    /// A run goes on. The occurrences of schedules are started by the clock, and are no commit's.
    pub fn start(&mut self, job: &Name, run: &RunToken, counts: Counts) {
        if !is_started(run) {
            return;
        }
        let key = (job.clone(), run.clone());
        let is_known = self.tallies.values().any(|tally| tally.runs.get(&key).is_some_and(|run| run.is_open));
        if let Some(tally) = self.newest_tally().filter(|_| !is_known) {
            tally.thaw(job);
            let run = Run { total: counts.total, failed: counts.failed, is_open: true, bad: None };
            tally.runs.insert(key, run);
        }
    }

    /// A run has ended, or was stopped.
    pub fn end(&mut self, record: &RunRecord) {
        if !is_started(&record.run) {
            return;
        }
        let key = (record.job.clone(), record.run.clone());
        let newest = self.newest.clone();
        let open = self.tallies.iter_mut().find(|(_, tally)| tally.runs.contains_key(&key));
        let tally = match (open, newest) {
            (Some((_, tally)), _) => tally,
            // It ended as it began.
            (None, Some(newest)) => self.tallies.entry(newest).or_default(),
            (None, None) => return,
        };
        tally.is_settled = false;
        tally.runs.insert(key, Run::ended(record));
        self.has_ended = true;
    }

    /// A round of work is over; `is_reconciled` when everything that could begin has begun. Returns what is to be said
    /// now that was not said before.
    pub fn look(&mut self, is_reconciled: bool) -> Vec<Report> {
        let has_ended = std::mem::take(&mut self.has_ended);
        let Some(fleet) = &self.fleet else { return Vec::new() };
        let context = format!("fleetform/{fleet}");
        let mut reports = Vec::new();
        for (commit, tally) in &mut self.tallies {
            tally.is_settled |= is_reconciled && !has_ended;
            let Some((state, description)) = tally.status() else { continue };
            let status = Status { context: context.clone(), state, description, link: self.link.clone() };
            if tally.is_news(&status) {
                tally.said = Some(status.clone());
                let is_late = tally.is_first && tally.has_started_nothing();
                reports.push(Report { commit: commit.clone(), status, is_late });
            }
        }
        let newest = self.newest.as_ref();
        self.tallies.retain(|commit, tally| Some(commit) == newest || !tally.is_quiet());
        reports
    }

    fn newest_tally(&mut self) -> Option<&mut Tally> {
        self.tallies.get_mut(self.newest.as_ref()?)
    }
}

impl Run {
    fn ended(record: &RunRecord) -> Run {
        let Counts { total, failed, .. } = record.counts;
        let is_over = record.status.is_final() || record.status == RunStatus::Stopped;
        let bad = record.status.has_ended_badly().then(|| {
            let reason = record.reason.as_deref().map_or(String::new(), |reason| format!(": {reason}"));
            format!("job {} {}{reason}", record.job, record.status.as_str())
        });
        Run { total, failed, is_open: !is_over, bad }
    }
}

impl Tally {
    /// Forgets that something does not start: it has.
    fn thaw(&mut self, name: &Name) {
        let quoted = format!("`{name}` does not start");
        self.frozen.retain(|sentence| !sentence.contains(&quoted));
    }

    fn has_started_nothing(&self) -> bool {
        self.imports == 0 && !self.runs.values().any(|run| run.is_open) && self.pending_said == 0
    }

    /// Returns true when nothing of it goes on, and nothing more begins.
    fn is_quiet(&self) -> bool {
        self.is_settled && !self.runs.values().any(|run| run.is_open)
    }

    /// Returns how it stands; `None` while there is nothing to say.
    fn status(&self) -> Option<(State, String)> {
        let (counts, bad) = (self.counts(), self.runs.values().filter_map(|run| run.bad.as_ref()).next());
        if self.held > 0 {
            let first = self.first_held.as_deref().unwrap_or_default();
            let counts = if counts.is_empty() { String::new() } else { format!("; {counts}") };
            return Some((State::Failure, format!("{} held: {first}{counts}", counted(self.held, "document"))));
        }
        if let Some(bad) = bad {
            return Some((State::Failure, format!("{counts}; {bad}")));
        }
        let frozen = self.frozen.first();
        match (self.is_quiet() && frozen.is_none(), counts.is_empty()) {
            (true, true) => Some((State::Success, "nothing to start".to_string())),
            (true, false) => Some((State::Success, counts)),
            (false, is_empty) => match frozen {
                Some(sentence) if is_empty => Some((State::Pending, sentence.clone())),
                Some(sentence) => Some((State::Pending, format!("{counts}; {sentence}"))),
                None if is_empty => None,
                None => Some((State::Pending, counts)),
            },
        }
    }

    /// Returns the numbers, such as `3 jobs on 1,240 devices, 9 failed`; empty when it started nothing.
    fn counts(&self) -> String {
        let mut parts = Vec::new();
        if self.imports > 0 {
            parts.push(counted(self.imports, "import"));
        }
        if self.rejected_rows > 0 {
            parts.push(format!("{} rejected", counted(self.rejected_rows, "row")));
        }
        if !self.runs.is_empty() {
            let (jobs, devices) = (self.runs.len() as u64, self.runs.values().map(|run| run.total).sum());
            parts.push(format!("{} on {}", counted(jobs, "job"), counted(devices, "device")));
            let failed: u64 = self.runs.values().map(|run| run.failed).sum();
            // While it goes on it is no number to keep.
            if failed > 0 && self.is_quiet() {
                parts.push(format!("{} failed", crate::cli::view::number(failed)));
            }
        }
        parts.join(", ")
    }

    /// Returns true when a status is to be sent: another state, the last word, or one of a bounded number between.
    fn is_news(&mut self, status: &Status) -> bool {
        let is_other_state = self.said.as_ref().is_none_or(|said| said.state != status.state);
        if self.said.as_ref() == Some(status) {
            return false;
        }
        if is_other_state || self.is_quiet() {
            self.pending_said += u32::from(status.state == State::Pending);
            return true;
        }
        self.pending_said += 1;
        self.pending_said <= FORGE_PENDING_STATUSES_MAX
    }
}

/// Returns true for a run that a commit starts, not the clock.
fn is_started(run: &RunToken) -> bool {
    occurrence_instant(run).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Claim;
    use crate::model::digest::Digest;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn counts(total: u64) -> Counts {
        Counts { total, ..Counts::default() }
    }

    /// Returns a record of run 1 of a job.
    fn record(job: &str, status: RunStatus, total: u64, failed: u64) -> RunRecord {
        let digest = Digest::of_bytes(b"");
        let claim = Claim {
            job: name(job),
            run: RunToken::default(),
            spec_digest: digest,
            total,
            targets_digest: digest,
            source_commit: "one".to_string(),
            plan_id: String::new(),
            claimed_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let counts = Counts { total, completed: total - failed, failed, unchanged: 0 };
        RunRecord { status, counts, ..RunRecord::of_claim(&claim) }
    }

    fn undone(first: &str) -> Undone {
        Undone { held: u64::from(!first.is_empty()), first: Some(first.to_string()), frozen: BTreeSet::new() }
    }

    /// Looks, and returns what is to be said as `commit state description`.
    #[track_caller]
    fn check(standing: &mut Standing, is_reconciled: bool, expect: &[&str]) {
        let reports = standing.look(is_reconciled);
        let said: Vec<String> = reports
            .iter()
            .map(|one| format!("{} {} {}", one.commit, one.status.state.word(), one.status.description))
            .collect();
        assert_eq!(said, expect);
    }

    #[test]
    fn a_commit_is_pending_until_all_that_it_started_has_ended() {
        let mut standing = Standing::new(None);
        check(&mut standing, true, &[]);
        standing.take_up("acme", "one", Undone::default(), &[]);
        check(&mut standing, false, &[]);
        standing.start(&name("a"), &RunToken::default(), counts(1_000));
        check(&mut standing, true, &["one pending 1 job on 1,000 devices"]);
        check(&mut standing, true, &[]);
        standing.end(&record("a", RunStatus::Completed, 1_000, 7));
        // What waits for it begins in the next round.
        check(&mut standing, true, &[]);
        standing.start(&name("b"), &RunToken::default(), counts(240));
        check(&mut standing, true, &["one pending 2 jobs on 1,240 devices"]);
        standing.end(&record("b", RunStatus::Completed, 240, 2));
        check(&mut standing, true, &[]);
        check(&mut standing, true, &["one success 2 jobs on 1,240 devices, 9 failed"]);
        check(&mut standing, true, &[]);
    }

    #[test]
    fn each_commit_has_what_it_started_and_the_clock_starts_for_none() {
        let mut standing = Standing::new(None);
        standing.take_up("acme", "one", Undone::default(), &[]);
        standing.start(&name("a"), &RunToken::default(), counts(10));
        standing.take_up("acme", "two", Undone::default(), &[]);
        let occurrence = RunToken::parse("20261201T013000Z").unwrap();
        standing.start(&name("night"), &occurrence, counts(10));
        check(&mut standing, true, &["one pending 1 job on 10 devices", "two success nothing to start"]);
        let mut failed = record("a", RunStatus::Canceled, 10, 4);
        failed.reason = Some("4 of 10 devices failed".to_string());
        standing.end(&failed);
        standing.end(&RunRecord { run: occurrence, ..record("night", RunStatus::Failed, 10, 10) });
        check(&mut standing, true, &["one failure 1 job on 10 devices; job a canceled: 4 of 10 devices failed"]);
        let last = "one failure 1 job on 10 devices, 4 failed; job a canceled: 4 of 10 devices failed";
        check(&mut standing, true, &[last]);
        check(&mut standing, true, &[]);
        assert_eq!(standing.tallies.len(), 1, "what is over is forgotten");
    }

    #[test]
    fn what_is_held_or_frozen_is_said_first() {
        let mut standing = Standing::new(Some("https://x".to_string()));
        standing.take_up("acme", "one", undone("job/a: no group."), &[]);
        standing.start(&name("b"), &RunToken::default(), counts(3));
        check(&mut standing, true, &["one failure 1 document held: job/a: no group.; 1 job on 3 devices"]);
        let frozen = BTreeSet::from(["Job `c` does not start before Monday.".to_string()]);
        standing.take_up("acme", "one", Undone { frozen, ..Undone::default() }, &[]);
        standing.end(&record("b", RunStatus::Stopped, 3, 0));
        check(&mut standing, true, &["one pending 1 job on 3 devices; Job `c` does not start before Monday."]);
        standing.start(&name("c"), &RunToken::default(), counts(3));
        standing.end(&record("c", RunStatus::Completed, 3, 0));
        check(&mut standing, true, &["one pending 2 jobs on 6 devices"]);
        check(&mut standing, true, &["one success 2 jobs on 6 devices"]);
        standing.pass_over("two", "no Fleet");
        check(&mut standing, false, &["two failure 1 document held: no Fleet"]);
        check(&mut standing, false, &[]);
    }

    #[test]
    fn a_process_begins_with_what_is_known_and_says_it_only_where_nothing_is_said() {
        let mut standing = Standing::new(None);
        let past = [record("a", RunStatus::Completed, 5, 1), record("b", RunStatus::Running, 5, 0)];
        standing.take_up("acme", "one", Undone::default(), &past);
        let reports = standing.look(true);
        assert_eq!(reports.len(), 1);
        assert!(reports[0].is_late && reports[0].status.description == "1 job on 5 devices, 1 failed", "{reports:?}");
        // What it starts itself is news.
        standing.start(&name("b"), &RunToken::default(), counts(5));
        let reports = standing.look(true);
        assert!(!reports[0].is_late && reports[0].status.state == State::Pending, "{reports:?}");
    }

    #[test]
    fn a_commit_that_starts_very_much_does_not_flood_the_forge() {
        let mut standing = Standing::new(None);
        standing.take_up("acme", "one", Undone::default(), &[]);
        let mut said = 0;
        for n in 0..1_000 {
            standing.start(&name(&format!("j{n}")), &RunToken::default(), counts(1));
            said += standing.look(true).len();
            standing.end(&record(&format!("j{n}"), RunStatus::Completed, 1, 0));
        }
        assert!(said as u32 <= FORGE_PENDING_STATUSES_MAX + 1, "{said}");
        standing.look(true);
        check(&mut standing, true, &["one success 1,000 jobs on 1,000 devices"]);
    }
}
