//! The ledger: what the results branch and the journal say together.

use std::collections::BTreeMap;

use serde_json::Value;

use super::remembered::remembered_documents;
use crate::ledger::{Claim, FORMAT_VERSION, ImportReport, Ledger, RunRecord, claim_path};
use crate::model::digest::Digest;
use crate::model::fleet::Declared;
use crate::model::id::{Name, RunToken};
use crate::registry::{Registry, RegistryError};
use crate::repo::{Audit, RepoError, ResultsBranch};

/// Why the history cannot be trusted; each is a hold: nothing is touched.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error(transparent)]
    Repo(#[from] RepoError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("`{path}` on the branch {branch} cannot be used: {what}")]
    Malformed { branch: String, path: String, what: String },
    #[error("the branch {branch} was rewritten: the commit {seen} that was its tip is no longer part of it")]
    Rewritten { branch: String, seen: String },
    #[error("the branch {branch} lacks `{path}`, which was claimed here: it was put back to an earlier commit")]
    ClaimMissing { branch: String, path: String },
    #[error("history was rewound: the commit {head} does not come after {last}, which was applied last")]
    Rewound { head: String, last: String },
    #[error("the branch {branch} has the commit {commit}, which fleetform did not write")]
    Foreign { branch: String, commit: String },
    #[error("the branch {branch} holds the results of the fleet `{found}`, and this is the fleet `{fleet}`")]
    OtherFleet { branch: String, found: String, fleet: String },
    #[error(
        "there is no branch {branch} and no registry that remembers, so nobody knows which of the {jobs} declared jobs have run before"
    )]
    Unknown { branch: String, jobs: usize },
}

impl HistoryError {
    /// Returns what to do about it.
    pub fn help(&self) -> String {
        match self {
            HistoryError::Repo(error) => error.help(),
            HistoryError::Registry(error) => error.help().to_string(),
            HistoryError::Malformed { .. } => {
                "Somebody edited the results branch: restore it with `git reflog` or from another clone.".to_string()
            }
            HistoryError::Rewritten { branch, seen } => {
                format!(
                    "Put it back where it was: `git branch -f {branch} {seen}`, or fetch it from another clone. {}",
                    help_republish(branch)
                )
            }
            HistoryError::ClaimMissing { branch, .. } => {
                format!("Put it back where it was (`git reflog {branch}`). {}", help_republish(branch))
            }
            HistoryError::Rewound { .. } => {
                "Look at `git reflog` and `fleetform plan`; if this is meant, apply with --accept-rewind.".to_string()
            }
            HistoryError::Foreign { branch, commit } => {
                format!("Put the branch back to the commit before: `git branch -f {branch} {commit}~1`.")
            }
            HistoryError::OtherFleet { .. } => {
                "Give each fleet a branch of its own in `spec.results.branch`.".to_string()
            }
            HistoryError::Unknown { branch, .. } => format!(
                "In a repository that is new, run `fleetform init`. Otherwise fetch the branch: \
                 `git fetch origin {branch}:{branch}`. When both are lost for good, `fleetform adopt --mark-done` runs \
                 nothing that is declared now, and `fleetform adopt --run` all of it."
            ),
        }
    }
}

/// Returns the way out when the commits of a branch are lost for good, and the registry is not.
fn help_republish(branch: &str) -> String {
    format!(
        "When that commit is lost, the registry still remembers: delete the branch (`git branch -D {branch}`) and what remotes had of \
         it (`git update-ref -d refs/remotes/origin/{branch}`), and the next apply publishes it again."
    )
}

/// Returns the ledger of a fleet.
///
/// # Errors
/// The branch or the registry cannot be read, or holds what it should not.
pub fn read_ledger(
    branch: &ResultsBranch<'_>,
    registry: &Registry,
    declared: &Declared,
) -> Result<Ledger, HistoryError> {
    let fleet = &declared.fleet.name;
    let documents = documents(branch, registry, declared)?;
    let gone_branch = branch.tip()?.is_none().then(|| branch.name().to_string());
    let mut ledger = Ledger { gone_branch, ..Ledger::default() };
    let claimed = registry.claim_documents()?;
    for (path, bytes) in &documents {
        let malformed =
            |what: String| HistoryError::Malformed { branch: branch.name().into(), path: path.clone(), what };
        let document: Value = serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if path == "fleet.json" {
            check_fleet(branch, &document, fleet).map_err(|error| match error {
                Ok(other) => other,
                Err(what) => malformed(what),
            })?;
        } else if path.starts_with("claims/") {
            let claim = Claim::from_json(&document).map_err(malformed)?;
            if claimed.get(path).is_some_and(|text| text.as_bytes() != bytes) {
                return Err(malformed("it is not what was claimed".to_string()));
            }
            check_place(path, &claim_path(&claim.job, &claim.run)).map_err(malformed)?;
            ledger.claims.insert((claim.job.clone(), claim.run.clone()), claim);
        } else if is_record(path) {
            let record = RunRecord::from_json(&document).map_err(malformed)?;
            check_place(path, &format!("runs/{}/{}/run.json", record.job, record.run)).map_err(malformed)?;
            ledger.records.insert((record.job.clone(), record.run.clone()), record);
        } else {
            let report = ImportReport::from_json(&document).map_err(malformed)?;
            let mut parts = path.split('/').skip(1);
            let (name, digest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let name = Name::parse(name).map_err(|error| malformed(format!("its folder {error}")))?;
            ledger.reports.insert((name, digest.to_string()), report);
        }
    }
    check_history(branch, registry)?;
    if let Some(path) = claimed.keys().find(|path| !documents.contains_key(*path)) {
        return Err(HistoryError::ClaimMissing { branch: branch.name().into(), path: path.clone() });
    }
    ledger.open = registry.open_runs(|run| {
        let path = claim_path(&run.job, &run.run);
        documents.get(&path).is_some_and(|bytes| bytes == run.claim.as_bytes())
    })?;
    ledger.applied_imports = applied_imports(registry)?;
    Ok(ledger)
}

/// Returns the records of all runs, those that are open with what the journal knows of them, sorted by job and run.
pub fn records_of(ledger: &Ledger) -> Vec<RunRecord> {
    let mut records: BTreeMap<(Name, RunToken), RunRecord> = ledger.records.clone();
    for (key, open) in &ledger.open {
        let Some(claim) = ledger.claims.get(key) else { continue };
        if records.get(key).is_some_and(|record| record.status.is_final()) {
            continue;
        }
        let known = records.get(key).cloned();
        let counts = crate::model::outcome::Counts {
            total: open.total,
            completed: open.completed,
            failed: open.failed,
            unchanged: open.unchanged,
        };
        let record = RunRecord {
            job: claim.job.clone(),
            run: claim.run.clone(),
            status: open.status,
            reason: known.as_ref().and_then(|record| record.reason.clone()),
            counts,
            started_at: open.started_at,
            finished_at: None,
            source_commit: claim.source_commit.clone(),
            plan_id: claim.plan_id.clone(),
            spec_digest: claim.spec_digest,
            per_batch: known.as_ref().map_or_else(Vec::new, |record| record.per_batch.clone()),
            published: known.map_or_else(Default::default, |record| record.published),
            late: open.late,
        };
        records.insert(key.clone(), record);
    }
    records.into_values().collect()
}

/// Returns the claims, records and reports of a fleet by their path on the results branch; when that is gone, as the registry
/// remembers them.
fn documents(
    branch: &ResultsBranch<'_>,
    registry: &Registry,
    declared: &Declared,
) -> Result<BTreeMap<String, Vec<u8>>, HistoryError> {
    let wanted = |path: &str| path == "fleet.json" || path.starts_with("claims/") || is_record(path) || is_report(path);
    if branch.tip()?.is_some() {
        let documents = branch.read_all(wanted)?;
        return match documents.contains_key("fleet.json") {
            true => Ok(documents),
            false => Err(HistoryError::Malformed {
                branch: branch.name().into(),
                path: "fleet.json".into(),
                what: "it is missing".into(),
            }),
        };
    }
    match registry.remembers()? {
        true => remembered_documents(registry, wanted),
        false => Err(HistoryError::Unknown { branch: branch.name().into(), jobs: declared.jobs.len() }),
    }
}

/// Holds when somebody else has written to the branch or rewritten it since it was last used here.
fn check_history(branch: &ResultsBranch<'_>, registry: &Registry) -> Result<(), HistoryError> {
    let seen = registry.results_tip()?;
    match branch.audit(seen.as_deref())? {
        Audit::Sound => Ok(()),
        Audit::Rewritten => {
            Err(HistoryError::Rewritten { branch: branch.name().into(), seen: seen.unwrap_or_default() })
        }
        Audit::Foreign { commit } => Err(HistoryError::Foreign { branch: branch.name().into(), commit }),
    }
}

fn is_record(path: &str) -> bool {
    path.starts_with("runs/") && path.ends_with("/run.json")
}

fn is_report(path: &str) -> bool {
    path.starts_with("imports/") && path.ends_with("/report.json")
}

fn check_place(path: &str, expected: &str) -> Result<(), String> {
    if path == expected { Ok(()) } else { Err(format!("it says that it is `{expected}`")) }
}

/// The inner error: another fleet's branch, or what is malformed.
fn check_fleet(branch: &ResultsBranch<'_>, document: &Value, fleet: &Name) -> Result<(), Result<HistoryError, String>> {
    let version = document.get("format_version").and_then(Value::as_u64);
    if version.is_none_or(|version| version > u64::from(FORMAT_VERSION)) {
        return Err(Err(format!("its format version is not one up to {FORMAT_VERSION}: use a newer fleetform")));
    }
    match document.get("fleet").and_then(Value::as_str) {
        Some(found) if found == fleet.as_str() => Ok(()),
        Some(found) => Err(Ok(HistoryError::OtherFleet {
            branch: branch.name().into(),
            found: found.into(),
            fleet: fleet.to_string(),
        })),
        None => Err(Err("`fleet` is missing".to_string())),
    }
}

fn applied_imports(registry: &Registry) -> Result<BTreeMap<Name, Digest>, HistoryError> {
    let mut applied = BTreeMap::new();
    for (name, digest) in registry.applied_imports()? {
        if let (Ok(name), Some(digest)) = (Name::parse(&name), Digest::parse(&digest)) {
            applied.insert(name, digest);
        }
    }
    Ok(applied)
}
