//! Judges a world from the outside: by the declared files, the devices' own journal and the results branch.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::claimed::{Claimed, check_run};
use super::ledger::{Branch, Execution, Key, Run, execution_id, executions};
use super::schedules::{Promise, Promises, check_occurrence, check_overlap};
use super::world::WorldFiles;
use super::{DeclaredJob, Doubt, Ended, Faults, JobKind, People, RemoteFault, World};
use crate::execute::Clock as _;
use crate::model::outcome::{DeviceStatus, Reason};
use crate::ops::OpsError;
use crate::registry::RegistryError;
use crate::repo::{RepoError, UpstreamError};

/// The invariants of a world, and what was seen so far.
#[derive(Default)]
pub struct Auditor {
    claimed: BTreeMap<Key, Claimed>,
    /// WorldFiles that must keep their bytes.
    immutable: BTreeMap<String, Vec<u8>>,
    tip: Option<String>,
    /// All files of the branch as it was last seen.
    files: WorldFiles,
    /// The tip and the files that the last process left on a branch that was put back, when it died or was refused: all
    /// that was there before need not be back yet, so `tip` and `files` are still those from before. It may have sent
    /// commands and claimed runs all the same, which the next process has not done.
    left: Option<(Option<String>, WorldFiles)>,
    /// Bytes of the devices' journal when the last process had ended.
    executed: usize,
    /// How often the registry was deleted.
    losses: u32,
    /// A backup of the registry was put back: runs may have been lost with what came after it, or be open in it.
    was_put_back: bool,
    /// The registry was deleted, and no apply has completed since: it may not know yet what the branch knows.
    is_behind: bool,
    /// The branch was deleted and was not seen since.
    is_branch_lost: bool,
    /// The tip that the branch was put back to, if no other one was seen since.
    put_back_to: Option<String>,
    declared: BTreeMap<String, DeclaredThen>,
    /// The commits that may be applied: one, or those that a daemon may have seen.
    heads: BTreeSet<String>,
    promises: Promises,
}

/// The declarations at a commit.
struct DeclaredThen {
    jobs: BTreeMap<String, DeclaredJob>,
    devices: u64,
    schedules: BTreeMap<String, Promise>,
}

impl Auditor {
    /// Notes that the registry was deleted.
    pub fn lose_registry(&mut self) {
        self.losses += 1;
        self.is_behind = true;
    }

    /// Notes that a backup of the registry was put back.
    pub fn put_back_registry(&mut self) {
        self.was_put_back = true;
        self.is_behind = true;
    }

    /// Returns true when the registry knows all that is on the branch: then the branch may be lost.
    pub fn may_lose_branch(&self) -> bool {
        // One that was put back lacks what was published of runs that are still open.
        !self.is_behind && !self.is_branch_lost() && !self.was_put_back
    }

    /// Returns true when the branch has not been seen since it was deleted or put back.
    pub fn is_branch_lost(&self) -> bool {
        self.is_branch_lost || self.put_back_to.is_some()
    }

    /// Notes that the results branch was deleted.
    pub fn lose_branch(&mut self) {
        self.is_branch_lost = true;
    }

    /// Notes that the results branch was put back to a tip that it had.
    pub fn put_back_branch(&mut self, tip: &str) {
        self.put_back_to = Some(tip.to_string()).filter(|_| self.tip.as_deref() != Some(tip));
    }

    /// Notes what people have committed before an apply looks at it.
    pub fn note_declared(&mut self, world: &World, people: &People) {
        self.heads.clear();
        self.note_declared_meanwhile(world, people);
    }

    /// Notes what people have committed while a daemon looks at it.
    pub fn note_declared_meanwhile(&mut self, world: &World, people: &People) {
        self.promises.note(&people.schedules, world.clock.now());
        let schedules = self.promises.now.clone();
        let then = DeclaredThen { jobs: people.jobs.clone(), devices: people.devices, schedules };
        self.heads.insert(world.head());
        self.declared.insert(world.head(), then);
    }

    /// Checks the world after an apply, with some faults, of what people had declared before it.
    ///
    /// # Errors
    /// Describes the violated invariant.
    pub fn look(&mut self, world: &World, people: &People, ended: &Ended, faults: &Faults) -> Result<(), String> {
        let branch = Branch::read(world)?;
        let journal = world.journal();
        // Each process answers for itself, also when the one before it was not judged (`left`).
        let has_sent = journal.len() > std::mem::replace(&mut self.executed, journal.len());
        let was_lost = self.is_branch_lost;
        let has_written = !was_lost && self.has_written(&branch);
        match ended {
            Ended::Panicked(what) => return Err(format!("it panicked: {what}")),
            // An apply with nothing to do makes the push that an earlier apply could not make.
            Ended::Applied(applied) if applied.was_empty && (has_sent || (has_written && world.remote.is_none())) => {
                return Err("there was nothing to do, and something was done".to_string());
            }
            // A site that has never worked knows nothing before the first push.
            Ended::Refused(error) if matches!(**error, OpsError::History(_)) && branch.tip.is_none() && !was_lost => {}
            Ended::Refused(error) if matches!(**error, OpsError::History(_)) && self.put_back_to.is_some() => {}
            Ended::Refused(error) => check_refusal(error, world, people, faults, has_sent)?,
            Ended::Watched { troubles, .. } if *troubles > 0 && faults.is_quiet() && self.put_back_to.is_none() => {
                return Err("a daemon was in trouble, and nothing was wrong".to_string());
            }
            Ended::Applied(_) | Ended::Died(_) | Ended::Watched { .. } => {}
        }
        world.check_remote()?;
        if let Ended::Applied(applied) = ended
            && faults.remote.is_none()
        {
            world.check_pushed(!applied.was_empty)?;
        }
        self.is_behind &= !matches!(ended, Ended::Applied(_) | Ended::Watched { troubles: 0, .. });
        let may_come_later = matches!(ended, Ended::Died(_) | Ended::Refused(_));
        if was_lost && branch.tip.is_none() {
            return match ended {
                Ended::Watched { .. } => Err("a daemon left the branch as it was".to_string()),
                _ if may_come_later && !has_sent => Ok(()),
                _ => Err("it went on although the branch is gone".to_string()),
            };
        }
        if self.put_back_to.is_some() && branch.tip == self.put_back_to {
            // It goes on only where nothing is missing, which is looked for below.
            if !has_sent && (may_come_later || matches!(ended, Ended::Watched { .. })) {
                return Ok(());
            }
        } else if self.put_back_to.is_some() && may_come_later {
            // Some of it may be back, and the rest comes later.
            self.left = Some((branch.tip, branch.files));
            return Ok(());
        }
        let was_put_back = self.put_back_to.take().is_some();
        if was_put_back {
            self.forget_unused_claims(&branch)?;
        }
        if was_lost || was_put_back {
            self.check_republished(&branch, people)?;
            self.is_branch_lost = false;
        } else {
            self.check_immutable(&branch)?;
        }
        self.note_immutable(&branch);
        self.note_claims(&branch, !was_lost && !was_put_back)?;
        for (key, run) in &branch.runs {
            let claimed = self.claimed.get(key).ok_or_else(|| format!("{key:?} has results and no claim"))?;
            check_run(run, claimed).map_err(|what| format!("{key:?}: {what}"))?;
            if run.is_lost() && claimed.losses == self.losses && !self.was_put_back {
                return Err(format!("{key:?} counts as lost, and the registry was there all the time"));
            }
        }
        check_overlap(&branch)?;
        check_told(&branch, ended, faults)?;
        self.check_executions(&branch, &executions(&journal)?)?;
        if let Ended::Watched { looked_at: Some(looked_at), troubles: 0 } = ended {
            self.promises.check(&branch, *looked_at, false)?;
        }
        (self.tip, self.files) = (branch.tip, branch.files);
        Ok(())
    }

    /// Returns true when the last process has written more than reports to the branch.
    fn has_written(&mut self, branch: &Branch) -> bool {
        let left = self.left.take();
        let (tip, files) = left.as_ref().map_or((&self.tip, &self.files), |(tip, files)| (tip, files));
        branch.tip != *tip && !only_reports_differ(&branch.files, files)
    }

    /// Checks a world that was healed and has come to rest. `watched_until` is the time of a daemon's last look, `None`
    /// without a daemon.
    ///
    /// # Errors
    /// Describes the violated invariant.
    pub fn look_at_rest(
        &mut self,
        world: &World,
        people: &People,
        watched_until: Option<Timestamp>,
    ) -> Result<(), String> {
        let branch = Branch::read(world)?;
        for (key, claimed) in &self.claimed {
            let run = branch.runs.get(key);
            let is_it = |job: &DeclaredJob| job.had_name(&key.0) && job.run.to_string() == key.1;
            let is_declared = people.jobs.values().any(is_it);
            let is_stopped = run.is_some_and(|run| run.status() == "stopped");
            let is_held = !is_declared && is_stopped && (claimed.losses == self.losses || self.was_put_back);
            if !run.is_some_and(Run::is_final) && !is_held {
                let status = run.map_or("none", |run| run.status());
                return Err(format!("{key:?} is neither ended nor held at rest: {status}"));
            }
        }
        for job in people.jobs.values().filter(|job| job.after.is_none()) {
            let run = job.run.to_string();
            if !branch.claims.keys().any(|key| job.had_name(&key.0) && key.1 == run) {
                return Err(format!("{} run {run} was never run", job.name));
            }
        }
        if !branch.files.keys().any(|path| path.starts_with("imports/all/") && path.ends_with("/report.json")) {
            return Err("the import has no report".to_string());
        }
        world.check_remote_at_rest()?;
        if let Some(looked_at) = watched_until {
            self.promises.check(&branch, looked_at, true)?;
        }
        self.check_twins(world, &branch)
    }

    fn check_immutable(&mut self, branch: &Branch) -> Result<(), String> {
        for (path, bytes) in &self.immutable {
            match branch.files.get(path) {
                Some(now) if now == bytes => {}
                Some(_) => return Err(format!("{path} was changed")),
                None => return Err(format!("{path} is gone")),
            }
        }
        Ok(())
    }

    /// Forgets claims that a branch that was put back lacks: the process that made them died before it knew of them, so
    /// it has sent nothing.
    fn forget_unused_claims(&mut self, branch: &Branch) -> Result<(), String> {
        let mut before = Branch::of(self.tip.clone(), std::mem::take(&mut self.files))?;
        for key in before.claims.keys().filter(|key| !before.runs.contains_key(*key)) {
            let path = format!("claims/{}/{}.json", key.0, key.1);
            if branch.files.get(&path) != before.files.get(&path) {
                self.claimed.remove(key);
                before.files.remove(&path);
            }
        }
        self.files = before.files;
        Ok(())
    }

    /// Checks that a republished branch has every claim, every end of a run and every row, however they are cut into
    /// files.
    fn check_republished(&self, branch: &Branch, people: &People) -> Result<(), String> {
        let before = Branch::of(self.tip.clone(), self.files.clone())?;
        for (path, bytes) in &before.files {
            let is_kept = match path.split('/').next() {
                Some("claims") => branch.files.get(path) == Some(bytes),
                Some("imports" | "schedules" | "fleet.json") => branch.files.contains_key(path),
                _ => true,
            };
            if !is_kept {
                return Err(format!("{path} did not come back as it was"));
            }
        }
        for (key, run) in &before.runs {
            let Some(now) = branch.runs.get(key) else {
                // That it was stopped is of no interest when it goes on, and no row was published.
                if run.status() == "stopped" && run.rows.is_empty() && people.lets_go_on(key) {
                    continue;
                }
                return Err(format!("the results of {key:?} did not come back"));
            };
            if run.is_final() && run.outcome() != now.outcome() {
                return Err(format!("{key:?} ended otherwise: {} and then {}", run.record, now.record));
            }
            if let Some(row) = run.rows.iter().find(|row| !now.rows.contains(row)) {
                return Err(format!("{key:?} lost the row {row:?}"));
            }
        }
        Ok(())
    }

    fn note_immutable(&mut self, branch: &Branch) {
        let fresh = branch.files.iter().filter(|(path, _)| branch.is_immutable(path));
        self.immutable = fresh.map(|(path, bytes)| (path.clone(), bytes.clone())).collect();
    }

    /// Checks that each claim matches the declarations at the commit that it names, and the devices at that time. With
    /// `is_new` this is the commit that was applied. A republished branch may also have claims that were only
    /// journaled.
    fn note_claims(&mut self, branch: &Branch, is_new: bool) -> Result<(), String> {
        for (key, claim) in &branch.claims {
            if self.claimed.contains_key(key) {
                continue;
            }
            let source = claim["source_commit"].as_str().unwrap_or_default();
            if is_new && !self.heads.contains(source) {
                return Err(format!("{key:?} was claimed for the commit {source}, and applied is {:?}", self.heads));
            }
            let unknown = || format!("{key:?} was claimed for the commit {source}, which nobody made");
            let DeclaredThen { jobs, devices, schedules } = self.declared.get(source).ok_or_else(unknown)?;
            let declared = match (jobs.get(&key.0).filter(|job| job.run.to_string() == key.1), schedules.get(&key.0)) {
                (Some(job), _) => Some(job.clone()),
                (None, Some(promise)) => Some(check_occurrence(key, claim, promise, branch)?),
                (None, None) => None,
            };
            let job = declared.ok_or_else(|| format!("{key:?} was claimed and is not declared"))?;
            let same = |(other, claimed): &(&Key, &Claimed)| other.1 == key.1 && claimed.job.label == job.label;
            if let Some((other, _)) = self.claimed.iter().find(same) {
                return Err(format!("{key:?} was claimed, and {other:?} is the same job under another name"));
            }
            if job.suspend {
                return Err(format!("{key:?} was claimed and is suspended"));
            }
            let is_missed = branch.runs.get(key).is_some_and(Run::is_missed);
            let targets = if is_missed { BTreeSet::new() } else { job.target.ids(*devices) };
            let total = claim["targets"]["count"].as_u64();
            if total != Some(targets.len() as u64) {
                return Err(format!("{key:?} was claimed for {total:?} devices, and {} are meant", targets.len()));
            }
            self.claimed.insert(key.clone(), Claimed { job, targets, losses: self.losses });
        }
        Ok(())
    }

    fn check_executions(&self, branch: &Branch, executions: &[Execution]) -> Result<(), String> {
        let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for Execution { device_id, execution_id, .. } in executions {
            *counts.entry((device_id, execution_id)).or_default() += 1;
        }
        let mut known: BTreeMap<(String, String), &str> = BTreeMap::new();
        for (key, Claimed { job, targets, .. }) in &self.claimed {
            let JobKind::Command { idempotent } = job.kind else { continue };
            let rows = branch.runs.get(key).map_or(&[][..], |run| &run.rows);
            let rows: BTreeMap<&str, Reason> = rows.iter().map(|row| (row.device_id.as_str(), row.reason)).collect();
            for device_id in targets {
                let id = execution_id(key, device_id);
                let count = counts.get(&(device_id.as_str(), id.as_str())).copied().unwrap_or_default();
                let reason = rows.get(device_id.as_str()).copied();
                if count > 1 && !idempotent {
                    return Err(format!("{key:?} was executed {count} times on {device_id}"));
                }
                let is_fine = match reason {
                    Some(Reason::Responded | Reason::Rejected) => count > 0,
                    Some(Reason::Queued | Reason::Blocked | Reason::Deleted) => count == 0,
                    Some(Reason::Offline) => count == 0 || idempotent,
                    Some(_) | None => true,
                };
                if !is_fine {
                    return Err(format!("{key:?} on {device_id} is {reason:?} and was executed {count} times"));
                }
                known.insert((device_id.clone(), id), &job.label);
            }
        }
        for Execution { device_id, method, execution_id } in executions {
            if known.get(&(device_id.clone(), execution_id.clone())) != Some(&method.as_str()) {
                return Err(format!("{device_id} executed {method} for no claim that means it"));
            }
        }
        Ok(())
    }

    /// Checks that a device has at each job's path the value of a run that reached it, or nothing when none did.
    fn check_twins(&self, world: &World, branch: &Branch) -> Result<(), String> {
        let registry = world.registry().map_err(|error| error.to_string())?;
        for (key, Claimed { job, targets, losses }) in &self.claimed {
            if *losses < self.losses || matches!(job.kind, JobKind::Command { .. }) {
                continue;
            }
            let rows = branch.runs.get(key).map_or(&[][..], |run| &run.rows);
            for row in rows.iter().filter(|row| targets.contains(&row.device_id)) {
                let device = registry.devices().get(&row.device_id).map_err(|error| error.to_string())?;
                let device = device.ok_or_else(|| format!("{} is gone", row.device_id))?;
                let at = |section: &Value| section.get(&job.label).and_then(Value::as_u64);
                let value = match job.kind {
                    JobKind::Property | JobKind::Acknowledged => at(&device.desired),
                    JobKind::Tags => at(&device.tags),
                    JobKind::Twin if at(&device.tags) != at(&device.desired) => {
                        return Err(format!("{key:?}: {} has half of it", row.device_id));
                    }
                    JobKind::Twin => at(&device.tags),
                    JobKind::Cloud => at(&device.cloud),
                    JobKind::Command { .. } => continue,
                };
                let runs = self.claimed.values().filter(|claimed| claimed.job.label == job.label);
                let known: BTreeSet<u64> = runs.map(|claimed| claimed.job.value()).collect();
                let is_fine = match value {
                    Some(value) => known.contains(&value),
                    // What was written after the backup is not in it.
                    None => row.status != DeviceStatus::Completed || self.was_put_back,
                };
                if !is_fine {
                    return Err(format!("{key:?}: {} is {:?} and has {value:?}", row.device_id, row.reason));
                }
            }
        }
        Ok(())
    }
}

/// Checks that a refused apply has a reason: one of its faults, or an edit of people.
fn check_refusal(
    error: &OpsError,
    world: &World,
    people: &People,
    faults: &Faults,
    has_sent: bool,
) -> Result<(), String> {
    let fault = faults.remote.map(|(fault, _)| fault);
    let is_fine = match error {
        OpsError::Invalid(_) if !people.edited.is_empty() && !has_sent => true,
        OpsError::Invalid(findings) => return Err(format!("invalid without an edit: {:?}", findings.diagnostics)),
        OpsError::Repo(RepoError::Contended { .. } | RepoError::Locked { .. })
        | OpsError::Upstream(
            UpstreamError::Repo(RepoError::Contended { .. } | RepoError::Locked { .. }) | UpstreamError::Unnoted { .. },
        ) => faults.lock_at.is_some(),
        OpsError::Registry(RegistryError::Full { .. }) => faults.growth.is_some(),
        OpsError::Registry(RegistryError::Unreachable { .. }) => faults.doubted.is_some(),
        OpsError::Registry(RegistryError::Fenced { .. }) => {
            matches!(fault, Some(RemoteFault::TakenOver { .. }))
                || faults.doubted.is_some_and(|doubted| doubted.what == Doubt::Fenced)
        }
        OpsError::Upstream(UpstreamError::Rewritten { .. })
        | OpsError::Unpushed { source: UpstreamError::Rewritten { .. }, .. }
        | OpsError::History(_) => {
            matches!(fault, Some(RemoteFault::Rewinds(_)))
        }
        OpsError::Upstream(UpstreamError::Remote(_)) | OpsError::Unpushed { .. } => {
            fault.is_some_and(RemoteFault::is_failure)
        }
        OpsError::Held { .. } | OpsError::AtWork { .. } => world.is_leased(),
        _ => false,
    };
    if is_fine { Ok(()) } else { Err(format!("it was refused: {error} ({error:?})")) }
}

/// Checks that what an apply has reported is on the branch, or on the remote's when there is one, unless another
/// process has taken over the work.
fn check_told(branch: &Branch, ended: &Ended, faults: &Faults) -> Result<(), String> {
    let Ended::Applied(applied) = ended else { return Ok(()) };
    if matches!(faults.remote, Some((RemoteFault::TakenOver { .. }, _))) {
        return Ok(());
    }
    for record in applied.records.iter().filter(|record| record.status.is_final()) {
        let key = (record.job.to_string(), record.run.to_string());
        if !branch.runs.get(&key).is_some_and(Run::is_final) {
            return Err(format!("an apply told of the end of {key:?}, and the branch does not have it"));
        }
    }
    Ok(())
}

/// Returns true when only reports, ends of runs and renames are new: an apply with nothing to do first publishes what a
/// dead process left, and notes what was renamed.
fn only_reports_differ(now: &WorldFiles, before: &WorldFiles) -> bool {
    now.len() >= before.len()
        && now.iter().all(|(path, bytes)| {
            let is_report = ["imports/", "renames/", "runs/"].iter().any(|folder| path.starts_with(folder));
            is_report || before.get(path) == Some(bytes)
        })
}
