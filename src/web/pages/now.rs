//! What runs, waits and is held now, and what is due next.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Notes, Page, RunRow};
use crate::model::limits::PAGE_ROWS;
use crate::model::status::{HeldDocument, Snapshot};
use crate::ops::job::{JobFilter, list};
use crate::ops::status::{FleetStatus, Status, changed, status};
use crate::ops::{Environment, OpsError, PassedOver, schedule};
use crate::web::table::Row;

/// The page `/`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Now {
    pub fleet: Option<String>,
    /// The newest commit that declares something.
    pub commit: Option<String>,
    /// The commit that was applied last; null before the first.
    pub applied_commit: Option<String>,
    /// The process that works on the fleet.
    pub at_work: Option<String>,
    /// Commits of results that the remote does not have yet; null without a remote.
    pub outbox: Option<u64>,
    /// What the registry lacks that was put back from a backup.
    pub lacks: Option<String>,
    /// Runs that go on.
    pub running: Vec<RunRow>,
    /// Runs that are claimed and do not go on now: they wait, or were stopped or interrupted.
    pub waiting: Vec<RunRow>,
    /// Documents that are not acted on; the first of them.
    pub held: Vec<HeldRow>,
    pub held_total: u64,
    /// When schedules are due next, the soonest first; the first of them.
    pub due: Vec<DueRow>,
    /// What the daemon of this folder says; null when there was none.
    pub daemon: Option<DaemonRow>,
    #[serde(flatten)]
    pub notes: Notes,
}

/// A document that is not acted on.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct HeldRow {
    /// Such as `job/dim-line-3`.
    pub address: String,
    /// The code of the diagnostic, such as `FF201`.
    pub code: Option<String>,
    pub file: Option<String>,
    pub line: Option<u64>,
    pub reason: String,
    /// When its file was changed last, and so how long it may be held; null where the history does not tell.
    pub changed_at: Option<String>,
    pub changed_by: Option<String>,
    /// The commit that changed it.
    pub changed_in: Option<String>,
}

/// When a schedule is due next.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DueRow {
    pub schedule: String,
    pub at: String,
    /// On the clock of the schedule.
    pub local: String,
}

/// The daemon of the folder.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DaemonRow {
    pub is_alive: bool,
    pub version: String,
    pub branch: String,
    pub started_at: String,
    pub last_fetch_at: Option<String>,
    pub last_fetch_error: Option<String>,
    pub last_reconcile_at: Option<String>,
    pub last_reconcile_error: Option<String>,
    /// What it waits for, a sentence.
    pub waits_for: Option<String>,
    pub last_push_error: Option<String>,
    /// The process that has the right to run jobs, and until when.
    pub lease_owner: Option<String>,
    pub lease_until: Option<String>,
    /// Connections to the devices that are up, and all of them; null where there are none.
    pub link_connected: Option<u64>,
    pub link_connections: Option<u64>,
    pub link_fault: Option<String>,
}

impl Page for Now {
    const TEMPLATE: &'static str = "now.html";
    const IS_LIVE: bool = true;

    fn title(&self) -> String {
        "Now".to_string()
    }
}

impl Row for RunRow {
    const COLUMNS: &'static [&'static str] = &[
        "job",
        "run",
        "status",
        "reason",
        "cause",
        "total",
        "completed",
        "failed",
        "pending",
        "unchanged",
        "started_at",
        "finished_at",
        "source_commit",
    ];
}

/// Reads the page. `live` is what the daemon of this process says; that of the folder counts where there is none. Where
/// not everything is in sight, `sees` tells which jobs and schedules are.
///
/// # Errors
/// There is neither a fleet nor a daemon.
pub fn read(
    environment: &Environment,
    live: Option<Snapshot>,
    sees: &dyn Fn(&str) -> bool,
    now: jiff::Timestamp,
) -> Result<Now, OpsError> {
    let Status { daemon, is_alive, fleet } = status(environment)?;
    let (daemon, is_alive) = live.map_or((daemon, is_alive), |snapshot| (Some(snapshot), true));
    let daemon = daemon.map(|snapshot| match environment.sight.is_whole() {
        true => snapshot,
        false => in_sight(snapshot, sees),
    });
    let mut notes = Notes::default();
    let fleet = fleet.map_err(|error| notes.notes.push(format!("The fleet cannot be read: {error}."))).ok();
    let others = daemon.as_ref().filter(|_| is_alive).zip(fleet.as_ref()).and_then(other_branch);
    notes.notes.extend(others);
    let newest = fleet.as_ref().and_then(|fleet| fleet.passed_over.as_deref());
    notes.notes.extend(newest.map(|newest| passed_over(newest, environment.sight.is_whole())));
    let (mut held, mut held_total) = (Vec::new(), 0);
    let (mut running, mut waiting, mut due) = (Vec::new(), Vec::new(), Vec::new());
    if fleet.is_some() {
        let mut tell = |caveats: &crate::ops::Caveats| {
            held_total = caveats.held.count() as u64;
            held = caveats.held.rows().map(|row| held_row(row.0, row.1)).take(PAGE_ROWS).collect();
            notes.take(&crate::ops::Caveats { held: crate::model::fleet::HeldDocuments::default(), ..caveats.clone() });
        };
        let filter = JobFilter { is_open: true, ..JobFilter::default() };
        for run in list(environment, &filter, &mut tell)? {
            let row = RunRow::of(&run.record, &run.life);
            if row.status == "running" { running.push(row) } else { waiting.push(row) }
        }
        let (schedules, _) = schedule::around(environment, (1, 0), now)?;
        due = schedules
            .iter()
            .filter_map(|one| {
                let next = one.listed.next?;
                let local = next.instant.to_zoned(one.listed.schedule.time_zone.clone());
                Some(DueRow {
                    schedule: one.listed.schedule.name.to_string(),
                    at: next.instant.to_string(),
                    local: local.strftime("%a %F %T %:z").to_string(),
                })
            })
            .collect();
        due.sort_by(|left: &DueRow, right| left.at.cmp(&right.at));
        due.truncate(PAGE_ROWS);
    }
    // What the daemon of this process holds may be more than what cannot be read: suspended or stopped, too.
    if let Some(snapshot) = daemon.as_ref().filter(|_| is_alive) {
        held_total = snapshot.held_count;
        held = snapshot.held.iter().take(PAGE_ROWS).cloned().map(HeldRow::from).collect();
    }
    add_changes(environment, &mut held);
    Ok(Now {
        fleet: fleet.as_ref().map(|fleet| fleet.name.clone()),
        commit: fleet.as_ref().map(|fleet| fleet.head.clone()),
        applied_commit: fleet.as_ref().and_then(|fleet| fleet.applied.clone()),
        at_work: fleet.as_ref().and_then(|fleet| fleet.worker.clone()),
        outbox: fleet.as_ref().and_then(|fleet| fleet.unpushed),
        lacks: fleet.as_ref().and_then(|fleet| fleet.lacks.clone()),
        running,
        waiting,
        held,
        held_total,
        due,
        daemon: daemon.map(|snapshot| daemon_row(snapshot, is_alive)),
        notes,
    })
}

/// Returns that the files of another branch are shown than those which the daemon follows, a sentence.
fn other_branch((daemon, fleet): (&Snapshot, &FleetStatus)) -> Option<String> {
    let (followed, shown) = (daemon.source.branch.as_str(), fleet.checked_out.as_deref()?);
    // One that follows `HEAD` follows whatever is checked out.
    (!["", "HEAD", shown].contains(&followed)).then(|| {
        format!("The daemon follows {followed}, and {shown} is checked out here: the pages show the files of {shown}.")
    })
}

/// Returns that the newest commit cannot be used, a sentence; why, where everything is in sight.
fn passed_over(newest: &PassedOver, is_whole: bool) -> String {
    let why = if is_whole { format!(": {}", newest.reason()) } else { ".".to_string() };
    format!("The newest commit cannot be used, and what was declared before it goes on{why}")
}

/// Returns what a daemon says without what may be about devices, jobs and documents that are not in sight.
fn in_sight(snapshot: Snapshot, sees: &dyn Fn(&str) -> bool) -> Snapshot {
    let mut snapshot = snapshot;
    let is_seen = |address: &str| {
        let name = address.strip_prefix("job/").or_else(|| address.strip_prefix("schedule/"));
        name.is_some_and(sees)
    };
    snapshot.held.retain(|held| is_seen(&held.address));
    snapshot.held_count = snapshot.held.len() as u64;
    snapshot.waits_for = None;
    snapshot.last_fetch_error = None;
    snapshot.last_reconcile_error = None;
    snapshot.outbox.last_push_error = None;
    snapshot.link = None;
    snapshot
}

/// Adds who changed the files of held documents last.
fn add_changes(environment: &Environment, held: &mut [HeldRow]) {
    let files: BTreeSet<String> = held.iter().filter_map(|row| row.file.clone()).collect();
    if files.is_empty() {
        return;
    }
    // The page is of use without it.
    let Ok(changes) = changed(environment, &files) else { return };
    for row in held {
        let Some(change) = row.file.as_ref().and_then(|file| changes.get(file)) else { continue };
        row.changed_at = Some(change.at.to_string());
        row.changed_by = Some(change.author.clone());
        row.changed_in = Some(change.id.clone());
    }
}

fn held_row(address: String, hold: &crate::model::fleet::Hold) -> HeldRow {
    HeldRow {
        address,
        code: hold.code.map(str::to_string),
        file: hold.place.as_ref().map(|place| place.path.clone()),
        line: hold.place.as_ref().map(|place| place.line),
        reason: hold.why.clone(),
        changed_at: None,
        changed_by: None,
        changed_in: None,
    }
}

impl From<HeldDocument> for HeldRow {
    fn from(held: HeldDocument) -> HeldRow {
        let HeldDocument { address, code, file, line, reason } = held;
        HeldRow { address, code, file, line, reason, changed_at: None, changed_by: None, changed_in: None }
    }
}

fn daemon_row(snapshot: Snapshot, is_alive: bool) -> DaemonRow {
    let text = |at: Option<jiff::Timestamp>| at.map(|at| at.to_string());
    let lease = snapshot.lease.filter(|_| is_alive);
    DaemonRow {
        is_alive,
        version: snapshot.version,
        branch: snapshot.source.branch,
        started_at: snapshot.started_at.to_string(),
        last_fetch_at: text(snapshot.last_fetch_at),
        last_fetch_error: snapshot.last_fetch_error,
        last_reconcile_at: text(snapshot.last_reconcile_at),
        last_reconcile_error: snapshot.last_reconcile_error,
        waits_for: snapshot.waits_for,
        last_push_error: snapshot.outbox.last_push_error,
        lease_owner: lease.as_ref().map(|lease| lease.owner.clone()),
        lease_until: lease.as_ref().map(|lease| lease.until.to_string()),
        link_connected: snapshot.link.as_ref().map(|link| link.connected),
        link_connections: snapshot.link.as_ref().map(|link| link.connections),
        link_fault: snapshot.link.and_then(|link| link.fault),
    }
}
