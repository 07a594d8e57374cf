//! The daemon's status: what it last saw and did, and what it holds. The daemon writes it; its pages, its metrics and
//! `status` show it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::limits::STATUS_ROWS_MAX;
use super::outcome::{Reason, RunStatus};

/// The version of [`Snapshot`] as JSON; an incompatible change makes it 2.
pub const STATUS_FORMAT_VERSION: u32 = 1;

/// The daemon at one moment. All times are UTC; all counts are of this process, from its start.
///
/// As JSON it has these names as keys, times in RFC 3339, and `null` for what has not happened. A reader ignores
/// unknown keys and takes an absent one for "not yet" or zero. Untrusted texts (errors, addresses) are unescaped: the
/// view that shows them makes them safe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`STATUS_FORMAT_VERSION`].
    pub format_version: u32,
    /// The version of fleetform.
    pub version: String,
    /// The name of the fleet.
    pub fleet: String,
    #[serde(default)]
    pub source: FollowedSource,
    pub started_at: Timestamp,
    /// When the source was last fetched, or read when there is no remote; `None` before.
    #[serde(default)]
    pub last_fetch_at: Option<Timestamp>,
    /// Why the last attempt to fetch failed; `None` when it succeeded.
    #[serde(default)]
    pub last_fetch_error: Option<String>,
    /// When a reconcile last succeeded; `None` before.
    #[serde(default)]
    pub last_reconcile_at: Option<Timestamp>,
    /// Why the last reconcile failed; `None` when it succeeded.
    #[serde(default)]
    pub last_reconcile_error: Option<String>,
    /// What it waits for, a sentence: another process that works on the fleet, or a person who has to decide; `None`
    /// when it waits for nobody.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// It waits for another process, and takes over when that is gone.
    #[serde(default)]
    pub stands_by: bool,
    /// Reconciles that ended, well or not.
    #[serde(default)]
    pub reconciles: u64,
    /// The runs that are going on, sorted by job and run.
    #[serde(default)]
    pub running: Vec<RunningRun>,
    /// Held documents, with the reasons, sorted by address; at most [`STATUS_ROWS_MAX`], see [`Snapshot::set_held`].
    #[serde(default)]
    pub held: Vec<HeldDocument>,
    /// The number of held documents, including those beyond `held`.
    #[serde(default)]
    pub held_count: u64,
    /// When each schedule is due next, the soonest first; at most [`STATUS_ROWS_MAX`], see [`Snapshot::set_next_due`].
    #[serde(default)]
    pub next_due: Vec<Due>,
    #[serde(default)]
    pub outbox: Outbox,
    /// The lease on the results branch as this daemon knows it; `None` while no process runs jobs.
    #[serde(default)]
    pub lease: Option<Lease>,
    /// How the way to the devices is; `None` when none is open, or it cannot be unwell.
    #[serde(default)]
    pub link: Option<LinkStatus>,
    #[serde(default)]
    pub counters: Counters,
}

/// How the way to the devices is, and what it has refused since it was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Connections that are up, and all of them.
    #[serde(default)]
    pub connected: u64,
    #[serde(default)]
    pub connections: u64,
    /// What is in the way of the others, a phrase about the broker.
    #[serde(default)]
    pub fault: Option<String>,
    /// Devices that are online, as they or the broker said last.
    #[serde(default)]
    pub online: u64,
    /// Messages that are none of the protocol, answers to requests that were not made, and patches that are none.
    #[serde(default)]
    pub malformed: u64,
    /// Messages of devices that the registry does not have, or that are blocked.
    #[serde(default)]
    pub refused: u64,
    /// Messages of telemetry that devices have sent to the gateway.
    #[serde(default)]
    pub telemetry: u64,
    /// Those of them that were to be passed on and were not.
    #[serde(default)]
    pub telemetry_lost: u64,
}

/// Where declared files come from, and the last ones that the daemon acted on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowedSource {
    /// The remote, without credentials, or the folder.
    #[serde(default)]
    pub address: String,
    #[serde(default)]
    pub branch: String,
    /// The commit at the branch's tip when it was last read, else the newest before it that can be used; `None` before.
    #[serde(default)]
    pub commit: Option<String>,
    /// The commit at the branch's tip when its Fleet document cannot be used: `commit` stays in force, and the document
    /// is among those that are held. `None` when the tip can be used.
    #[serde(default)]
    pub passed_over: Option<String>,
    /// The digest of the declared tree that the last successful reconcile acted on.
    #[serde(default)]
    pub tree_digest: Option<String>,
}

/// A run that is going on, with the keys of `job list`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunningRun {
    pub job: String,
    pub run: String,
    pub total: u64,
    pub completed: u64,
    pub failed: u64,
    pub pending: u64,
}

/// A document that is not acted on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HeldDocument {
    /// Such as `job/dim-line-3`; `file/` and the path of a file for content that is no document of a known name.
    pub address: String,
    /// The code of the diagnostic, such as `FF201`; `None` without one.
    #[serde(default)]
    pub code: Option<String>,
    /// Where the diagnostic points: a path from the fleet's folder. `None` when it points nowhere.
    #[serde(default)]
    pub file: Option<String>,
    /// The line in `file`, from 1.
    #[serde(default)]
    pub line: Option<u64>,
    /// A sentence.
    pub reason: String,
}

/// When a schedule is due next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Due {
    pub at: Timestamp,
    pub schedule: String,
}

/// Commits that are recorded locally and not yet on the remote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outbox {
    /// Commits that wait to be pushed.
    #[serde(default)]
    pub waiting: u64,
    /// When a push last succeeded.
    #[serde(default)]
    pub last_push_at: Option<Timestamp>,
    /// Why the last push failed; `None` when it succeeded.
    #[serde(default)]
    pub last_push_error: Option<String>,
    /// The remote refused the last push: no new run is claimed until it takes one.
    #[serde(default)]
    pub denied: bool,
}

/// The process that runs jobs, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub owner: String,
    pub epoch: u64,
    pub until: Timestamp,
}

/// Counters, which only grow while the process lives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Runs that ended, by [`RunStatus`]'s words; zeros are left out.
    #[serde(default)]
    pub runs: BTreeMap<String, u64>,
    /// Devices that ended in a run, by [`Reason`]'s words; zeros are left out.
    #[serde(default)]
    pub devices: BTreeMap<String, u64>,
    /// Occurrences of schedules that did not run because they could not start on time.
    #[serde(default)]
    pub missed: u64,
    #[serde(default)]
    pub fetches: Attempts,
    #[serde(default)]
    pub pushes: Attempts,
    #[serde(default)]
    pub reconciles: Attempts,
    #[serde(default)]
    pub webhooks: WebhookCounts,
}

/// Numbers of attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    #[serde(default)]
    pub ok: u64,
    #[serde(default)]
    pub failed: u64,
}

/// Calls of webhooks, by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookCounts {
    /// They woke the daemon.
    #[serde(default)]
    pub accepted: u64,
    /// Valid pings, which do not wake the daemon.
    #[serde(default)]
    pub pinged: u64,
    /// Without a valid signature or token, too large or too slow.
    #[serde(default)]
    pub refused: u64,
    /// Valid, and too many of them in a minute.
    #[serde(default)]
    pub limited: u64,
}

/// A reason why the daemon is not ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unready {
    /// A word to match on, such as `fetch_failed`.
    pub code: &'static str,
    /// A sentence for people.
    pub message: String,
}

impl Snapshot {
    /// Returns a daemon that has started and seen nothing yet.
    pub fn new(version: &str, fleet: &str, started_at: Timestamp) -> Snapshot {
        Snapshot {
            format_version: STATUS_FORMAT_VERSION,
            version: version.to_string(),
            fleet: fleet.to_string(),
            source: FollowedSource::default(),
            started_at,
            last_fetch_at: None,
            last_fetch_error: None,
            last_reconcile_at: None,
            last_reconcile_error: None,
            waits_for: None,
            stands_by: false,
            reconciles: 0,
            running: Vec::new(),
            held: Vec::new(),
            held_count: 0,
            next_due: Vec::new(),
            outbox: Outbox::default(),
            lease: None,
            link: None,
            counters: Counters::default(),
        }
    }

    /// Records the end of an attempt to fetch.
    pub fn fetched(&mut self, at: Timestamp, error: Option<String>) {
        self.counters.fetches.count(error.is_none());
        if error.is_none() {
            self.last_fetch_at = Some(at);
        }
        self.last_fetch_error = error;
    }

    /// Records the end of a reconcile.
    pub fn reconciled(&mut self, at: Timestamp, error: Option<String>) {
        self.reconciles += 1;
        self.counters.reconciles.count(error.is_none());
        if error.is_none() {
            self.last_reconcile_at = Some(at);
        }
        self.last_reconcile_error = error;
        self.wait_no_more();
    }

    /// Records that another process works on the fleet, as a sentence says.
    pub fn stand_by(&mut self, sentence: String) {
        (self.waits_for, self.stands_by) = (Some(sentence), true);
    }

    /// Records that a person has to decide, as a sentence says.
    pub fn wait_for(&mut self, sentence: String) {
        (self.waits_for, self.stands_by) = (Some(sentence), false);
    }

    /// Records that it waits for nobody.
    pub fn wait_no_more(&mut self) {
        (self.waits_for, self.stands_by) = (None, false);
    }

    /// Records the end of an attempt to push, and how many commits still wait; `is_denied` when the remote refused it.
    pub fn pushed(&mut self, at: Timestamp, error: Option<String>, is_denied: bool, waiting: u64) {
        self.counters.pushes.count(error.is_none());
        if error.is_none() {
            self.outbox.last_push_at = Some(at);
        }
        self.outbox.denied = is_denied && error.is_some();
        self.outbox.last_push_error = error;
        self.outbox.waiting = waiting;
    }

    /// Counts a run that ended.
    pub fn count_run(&mut self, status: RunStatus) {
        *self.counters.runs.entry(status.as_str().to_string()).or_default() += 1;
    }

    /// Counts devices that ended in a run.
    pub fn count_devices(&mut self, reason: Reason, devices: u64) {
        if devices > 0 {
            *self.counters.devices.entry(reason.as_str().to_string()).or_default() += devices;
        }
    }

    /// Replaces the held documents: all are counted, and the first by address are listed.
    pub fn set_held(&mut self, mut held: Vec<HeldDocument>) {
        self.held_count = held.len() as u64;
        held.sort();
        held.truncate(STATUS_ROWS_MAX);
        self.held = held;
    }

    /// Replaces the times when schedules are due: the soonest are listed.
    pub fn set_next_due(&mut self, mut due: Vec<Due>) {
        due.sort();
        due.truncate(STATUS_ROWS_MAX);
        self.next_due = due;
    }

    /// Returns the reasons why the daemon is not ready; empty when it is.
    ///
    /// Held documents are not among the reasons: their authors mend them, and the other jobs go on. Nor is standing by:
    /// the other process does the work.
    pub fn unready(&self) -> Vec<Unready> {
        let mut reasons = Vec::new();
        let mut say = |code, message: String| reasons.push(Unready { code, message });
        match (&self.last_fetch_error, self.last_fetch_at) {
            (Some(error), _) => say("fetch_failed", format!("The source cannot be fetched: {error}.")),
            (None, None) => say("not_fetched", "The source was not fetched yet.".to_string()),
            (None, Some(_)) => {}
        }
        match (&self.last_reconcile_error, self.last_reconcile_at) {
            (Some(error), _) => say("reconcile_failed", format!("The last reconcile failed: {error}.")),
            (None, None) if self.stands_by => {}
            (None, None) => say("not_reconciled", "No reconcile has ended yet.".to_string()),
            (None, Some(_)) => {}
        }
        match (&self.outbox.last_push_error, self.outbox.denied) {
            (Some(error), true) => say("push_denied", format!("The remote refuses results: {error}.")),
            (Some(error), false) => say("push_failed", format!("Results cannot be pushed: {error}.")),
            (None, _) => {}
        }
        if let Some(LinkStatus { fault: Some(fault), .. }) = &self.link {
            say("broker_away", format!("The broker is not there: {fault}."));
        }
        reasons
    }
}

impl Attempts {
    /// Counts one.
    pub fn count(&mut self, is_ok: bool) {
        if is_ok {
            self.ok += 1;
        } else {
            self.failed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn codes(snapshot: &Snapshot) -> Vec<&'static str> {
        snapshot.unready().into_iter().map(|reason| reason.code).collect()
    }

    #[test]
    fn it_is_ready_once_all_went_well_and_as_long_as_the_last_did() {
        let mut snapshot = Snapshot::new("0.1.0", "acme", at(0));
        assert_eq!(codes(&snapshot), ["not_fetched", "not_reconciled"]);
        snapshot.fetched(at(1), None);
        assert_eq!(codes(&snapshot), ["not_reconciled"]);
        snapshot.wait_for("another registry works on this fleet".to_string());
        assert_eq!(codes(&snapshot), ["not_reconciled"]);
        snapshot.stand_by("another process works on this fleet".to_string());
        assert_eq!((codes(&snapshot), snapshot.stands_by), (vec![], true));
        snapshot.reconciled(at(2), None);
        assert_eq!((codes(&snapshot), &snapshot.waits_for, snapshot.stands_by), (vec![], &None, false));
        snapshot.fetched(at(3), Some("no route to host".to_string()));
        snapshot.reconciled(at(3), Some("the registry is locked".to_string()));
        snapshot.pushed(at(3), Some("protected branch".to_string()), true, 2);
        assert_eq!(codes(&snapshot), ["fetch_failed", "reconcile_failed", "push_denied"]);
        assert_eq!((snapshot.last_fetch_at, snapshot.last_reconcile_at), (Some(at(1)), Some(at(2))));
        snapshot.pushed(at(4), Some("timeout".to_string()), false, 2);
        assert_eq!(codes(&snapshot), ["fetch_failed", "reconcile_failed", "push_failed"]);
        snapshot.fetched(at(5), None);
        snapshot.reconciled(at(5), None);
        snapshot.pushed(at(5), None, false, 0);
        assert_eq!(codes(&snapshot), [""; 0]);
        assert_eq!(snapshot.counters.fetches, Attempts { ok: 2, failed: 1 });
        assert_eq!(snapshot.counters.pushes, Attempts { ok: 1, failed: 2 });
        assert_eq!((snapshot.reconciles, snapshot.counters.reconciles), (3, Attempts { ok: 2, failed: 1 }));
    }

    #[test]
    fn lists_are_bounded_and_counts_exact() {
        let mut snapshot = Snapshot::new("0.1.0", "acme", at(0));
        let held = |n| HeldDocument {
            address: format!("job/{n:05}"),
            code: None,
            file: None,
            line: None,
            reason: "It is suspended.".to_string(),
        };
        snapshot.set_held((0..2_000).rev().map(held).collect());
        assert_eq!((snapshot.held.len(), snapshot.held_count), (STATUS_ROWS_MAX, 2_000));
        assert_eq!(snapshot.held[0].address, "job/00000");
        let due = |n: i64| Due { at: at(n), schedule: format!("s-{}", 3_000 - n) };
        snapshot.set_next_due((0..2_000).rev().map(due).collect());
        assert_eq!((snapshot.next_due.len(), snapshot.next_due[0].at), (STATUS_ROWS_MAX, at(0)));
    }

    #[test]
    fn json_is_read_back_and_a_sparse_one_too() {
        let mut snapshot = Snapshot::new("0.1.0", "acme", at(0));
        snapshot.count_run(RunStatus::Canceled);
        snapshot.count_devices(Reason::Timeout, 7);
        snapshot.count_devices(Reason::Offline, 0);
        snapshot.lease = Some(Lease { owner: "host-1".to_string(), epoch: 3, until: at(60) });
        let text = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), snapshot);
        assert!(text.contains(r#""started_at":"2027-01-15T08:00:00Z""#), "{text}");
        assert!(text.contains(r#""runs":{"canceled":1},"devices":{"timeout":7}"#), "{text}");
        let sparse =
            r#"{"format_version": 1, "version": "9", "fleet": "acme", "started_at": "2027-01-15T08:00:00Z", "new": 1}"#;
        assert_eq!(serde_json::from_str::<Snapshot>(sparse).unwrap(), Snapshot::new("9", "acme", at(0)));
        let held: HeldDocument = serde_json::from_str(r#"{"address": "job/dim", "reason": "It is held."}"#).unwrap();
        assert_eq!((held.code, held.file, held.line), (None, None, None));
    }
}
