//! What a daemon shows of itself: to its pages, to `status` and to the service manager.

use std::time::Duration;

use jiff::Timestamp;

use crate::cli::view::held as view;
use crate::cli::view::log::WATCH;
use crate::execute::Progress;
use crate::listen::{ServiceManager, StatusHandle};
use crate::model::status::{Due, HeldDocument, Lease, LinkStatus, RunningRun, Snapshot};
use crate::model::text::sanitize_line;
use crate::ops::status::DaemonLock;
use crate::ops::watch::{Look, Note};
use crate::ops::{OpsError, PassedOver};

/// The shortest time between two writes of the file that `status` shows.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// The state of the daemon that its pages and `status` show.
pub(super) struct Shown {
    seat: DaemonLock,
    handle: StatusHandle,
    manager: ServiceManager,
    is_ready: bool,
    /// What is held of the commit that is in force.
    held: Vec<HeldDocument>,
    /// The newest commit that cannot be used, and its document.
    passed_over: Option<PassedOver>,
    alive_at: Option<Timestamp>,
    written_at: Option<Timestamp>,
}

impl Shown {
    pub fn new(seat: DaemonLock, handle: StatusHandle) -> Shown {
        Shown {
            seat,
            handle,
            manager: ServiceManager::from_environment(),
            is_ready: false,
            held: Vec::new(),
            passed_over: None,
            alive_at: None,
            written_at: None,
        }
    }

    /// Takes up what the daemon has said.
    pub fn note(&mut self, note: &Note<'_>) {
        self.take(note);
        let is_frequent = matches!(
            note,
            Note::Reconciling
                | Note::Looked(Look { is_reconciled: false, .. })
                | Note::Progress(Progress::Advanced { .. } | Progress::BatchFinished { .. })
        );
        if !is_frequent {
            self.write();
        }
        // After what it is about was written: a page that is told reads that.
        let is_quiet = matches!(note, Note::Reconciling | Note::Looked(Look { is_reconciled: false, .. }));
        if !is_quiet {
            self.handle.events().add(run_of(note));
        }
    }

    fn take(&mut self, note: &Note<'_>) {
        match note {
            Note::Started { fleet_branch } => {
                self.handle.update(|snapshot| snapshot.source.branch = fleet_branch.to_string());
            }
            Note::Fetched { error, at, .. } => {
                self.handle.update(|snapshot| snapshot.fetched(*at, error.map(ToString::to_string)));
            }
            Note::Progress(progress) => self.handle.update(|snapshot| take_progress(snapshot, progress)),
            Note::TakenUp { fleet, held, .. } => {
                self.held = held.rows().map(view::row).collect();
                self.handle.update(|snapshot| snapshot.fleet = fleet.name.to_string());
                self.show_held();
            }
            // Another process is at work, which is normal with several daemons.
            Note::Trouble { error: error @ OpsError::AtWork { .. }, .. } => {
                self.handle.update(|snapshot| snapshot.stand_by(error.to_string()));
                self.is_ready_now();
            }
            Note::Trouble { error: error @ OpsError::Held { .. }, .. } => {
                self.handle.update(|snapshot| snapshot.wait_for(error.to_string()));
            }
            // It is held, as other documents are: what was declared before goes on.
            Note::Trouble { passed_over: Some(newest), .. } => {
                self.passed_over = Some(PassedOver::clone(newest));
                self.show_held();
            }
            Note::Trouble { error, at, .. } => {
                self.handle.update(|snapshot| snapshot.reconciled(*at, Some(error.to_string())));
            }
            Note::Looked(look) => self.looked(look),
            Note::Missed { .. } => self.handle.update(|snapshot| snapshot.counters.missed += 1),
            Note::Link { status } => self.handle.update(|snapshot| snapshot.link = Some(LinkStatus::clone(status))),
            Note::Recovered => self.handle.update(Snapshot::wait_no_more),
            Note::Reconciling => self.handle.set_reconciling(true),
            Note::NoEvents { .. } => {}
        }
    }

    /// Shows what is held, with the Fleet document of a commit that is passed over.
    fn show_held(&self) {
        let newest = self.passed_over.as_ref().map(|one| view::row((one.address(), &one.hold)));
        let is_other = |row: &&HeldDocument| newest.as_ref().is_none_or(|newest| newest.address != row.address);
        let rows = self.held.iter().filter(is_other).cloned().chain(newest.clone()).collect();
        let commit = self.passed_over.as_ref().map(|one| one.commit.clone());
        self.handle.update(|snapshot| {
            snapshot.set_held(rows);
            snapshot.source.passed_over = commit;
        });
    }

    fn looked(&mut self, look: &Look<'_>) {
        self.handle.beat();
        self.handle.set_reconciling(false);
        if self.passed_over.as_ref() != look.passed_over {
            self.passed_over = look.passed_over.cloned();
            self.show_held();
        }
        self.handle.update(|snapshot| take_look(snapshot, look));
        if look.is_reconciled {
            self.is_ready_now();
        }
        let is_old = |then: Option<Timestamp>, age: Duration| {
            // A clock that was put back makes everything old.
            then.is_none_or(|then| look.at.duration_since(then).unsigned_abs() >= age)
        };
        if self.manager.watchdog_interval().is_some_and(|interval| is_old(self.alive_at, interval)) {
            self.manager.alive();
            self.alive_at = Some(look.at);
        }
        if is_old(self.written_at, WRITE_INTERVAL) {
            self.written_at = Some(look.at);
            self.write();
        }
    }

    /// After the end, no run goes on and no lease is held.
    pub fn end(&mut self) {
        self.handle.update(|snapshot| {
            snapshot.running.clear();
            snapshot.lease = None;
        });
        self.write();
    }

    /// Tells the service manager that the daemon does what it is for: it has reconciled, or stands by.
    fn is_ready_now(&mut self) {
        if !std::mem::replace(&mut self.is_ready, true) {
            self.manager.ready(&status_line(&self.handle.snapshot()));
        }
    }

    fn write(&mut self) {
        let snapshot = self.handle.snapshot();
        self.manager.status(&status_line(&snapshot));
        if let Err(error) = self.seat.write(&snapshot) {
            tracing::warn!(target: WATCH, error = %sanitize_line(&error.to_string()), "what `status` shows cannot be \
                written");
        }
    }
}

/// Returns the run that a note is about; `None` when it is about more.
fn run_of(note: &Note<'_>) -> Option<(String, String)> {
    let Note::Progress(Progress::Advanced { job, run, .. } | Progress::BatchFinished { job, run, .. }) = note else {
        return None;
    };
    Some((job.to_string(), run.to_string()))
}

fn take_progress(snapshot: &mut Snapshot, progress: &Progress) {
    let row = |job: &str, run: &str, counts: &crate::model::outcome::Counts| RunningRun {
        job: job.to_string(),
        run: run.to_string(),
        total: counts.total,
        completed: counts.completed,
        failed: counts.failed,
        pending: counts.pending(),
    };
    match progress {
        Progress::RunStarted { job, run, counts, .. } => {
            // It may have been started before something failed.
            snapshot.running.retain(|old| (old.job.as_str(), old.run.as_str()) != (job.as_str(), run.as_str()));
            snapshot.running.push(row(job.as_str(), run.as_str(), counts));
            snapshot.running.sort();
        }
        Progress::Advanced { job, run, counts, reasons, .. } => {
            let new = row(job.as_str(), run.as_str(), counts);
            // The last one comes after the end.
            if let Some(old) = snapshot.running.iter_mut().find(|old| (&old.job, &old.run) == (&new.job, &new.run)) {
                *old = new;
            }
            reasons.iter().for_each(|(reason, devices)| snapshot.count_devices(*reason, *devices));
        }
        Progress::RunFinished { record } | Progress::RunPaused { record, .. } => {
            snapshot
                .running
                .retain(|old| (old.job.as_str(), old.run.as_str()) != (record.job.as_str(), record.run.as_str()));
            if matches!(progress, Progress::RunFinished { .. }) {
                snapshot.count_run(record.status);
            }
        }
        _ => {}
    }
}

fn take_look(snapshot: &mut Snapshot, look: &Look<'_>) {
    snapshot.source.commit = look.commit.map(str::to_string);
    if look.is_reconciled {
        snapshot.reconciled(look.at, None);
        snapshot.source.tree_digest.clone_from(&look.digest);
    }
    if look.is_local {
        snapshot.last_fetch_at = Some(look.at);
    }
    let due = look.next_due.iter().map(|(name, at)| Due { at: *at, schedule: name.to_string() });
    snapshot.set_next_due(due.collect());
    snapshot.lease =
        look.lease.map(|lease| Lease { owner: lease.owner.clone(), epoch: lease.epoch, until: lease.until });
    if look.pushes.ok > snapshot.counters.pushes.ok {
        snapshot.outbox.last_push_at = Some(look.at);
    }
    snapshot.counters.pushes = look.pushes;
    snapshot.link.clone_from(&look.link);
    snapshot.outbox.waiting = look.unpushed as u64;
    snapshot.outbox.last_push_error = look.push_failure.map(str::to_string);
    snapshot.outbox.denied = look.is_push_denied;
}

/// Returns what `systemctl status` shows.
fn status_line(snapshot: &Snapshot) -> String {
    let commit = snapshot.source.commit.as_deref().map_or("nothing yet", |commit| &commit[..commit.len().min(12)]);
    let mut line = format!("{} at {commit}, {} running", snapshot.source.branch, snapshot.running.len());
    if let Some(newest) = &snapshot.source.passed_over {
        line.push_str(&format!(", {} passed over", &newest[..newest.len().min(12)]));
    }
    if snapshot.stands_by {
        line.push_str(", standing by");
    }
    if snapshot.held_count > 0 {
        line.push_str(&format!(", {} held", snapshot.held_count));
    }
    if snapshot.outbox.waiting > 0 {
        line.push_str(&format!(", {} commits to push", snapshot.outbox.waiting));
    }
    line
}
