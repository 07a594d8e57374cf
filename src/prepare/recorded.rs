//! What the results branch records, document by document, and how a process that reads it again and again reads only
//! what came after.
//!
//! The branch only grows: files are added, `run.json` is replaced, and nothing ever goes. Whatever else is found
//! between two tips is a reason to read all of it again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::HistoryError;
use crate::ledger::{Claim, FORMAT_VERSION, ImportReport, OrderedRun, RENAMES_FOLDER, Renamed, RunRecord, claim_path};
use crate::model::id::{Name, RunToken};
use crate::repo::{BlobId, ResultsBranch};

/// What the results branch said when it was read last, to be handed in when it is read again. Its size is that of the
/// ledger, with which it shares all but the paths of the claims.
#[derive(Default)]
pub struct Recorded {
    /// What was read, with where.
    read: Option<(BranchState, Documents)>,
    /// What the registry's claims were when they were found to be those of the branch at the tip of `read`.
    pub(super) agreed: Option<String>,
    /// The tip of a branch up to which its history was found to be sound, with the tip that the registry had seen.
    pub(super) sound: Option<((String, Option<String>), String)>,
}

/// What of which branch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BranchState {
    branch: String,
    fleet: Name,
    tip: String,
}

/// The documents of a branch.
#[derive(Debug, Clone, Default)]
pub(super) struct Documents {
    pub claims: Arc<BTreeMap<(Name, RunToken), Claim>>,
    pub records: Arc<BTreeMap<(Name, RunToken), RunRecord>>,
    pub reports: Arc<BTreeMap<(Name, String), ImportReport>>,
    pub renames: Arc<BTreeMap<Name, Vec<Name>>>,
    /// The runs, as [`crate::ledger::Ledger::order`] has them.
    pub order: Arc<BTreeSet<OrderedRun>>,
    /// The runs that have no end here.
    pub unfinished: Arc<BTreeSet<(Name, RunToken)>>,
    /// The content of each claim, by its path.
    pub claim_ids: Arc<BTreeMap<String, BlobId>>,
}

impl Recorded {
    /// Returns the documents of a branch, and whether they are the very ones that were returned before.
    pub(super) fn of_branch(
        &mut self,
        branch: &ResultsBranch<'_>,
        tip: &str,
        fleet: &Name,
    ) -> Result<(Documents, bool), HistoryError> {
        let place = BranchState { branch: branch.name().to_string(), fleet: fleet.clone(), tip: tip.to_string() };
        // Out of the way while it is worked on: an error leaves nothing that is half up to date.
        let documents = match self.read.take() {
            Some((before, documents)) if before == place => {
                self.read = Some((before, documents.clone()));
                return Ok((documents, true));
            }
            Some((before, documents)) if (&before.branch, &before.fleet) == (&place.branch, &place.fleet) => {
                grown(documents, branch, &before.tip, tip)?
            }
            Some(_) | None => None,
        };
        self.agreed = None;
        let documents = match documents {
            Some(documents) => documents,
            None => Documents::of_branch(branch, tip, fleet)?,
        };
        self.read = Some((place, documents.clone()));
        Ok((documents, false))
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        *self = Recorded::default();
    }
}

/// Returns the documents of a tip from those of one before it; `None` when the branch did more than grow, or with
/// something that cannot be used: then it is to be read as a whole, which tells the first of what is wrong.
fn grown(
    mut documents: Documents,
    branch: &ResultsBranch<'_>,
    before: &str,
    tip: &str,
) -> Result<Option<Documents>, HistoryError> {
    let Some(changes) = branch.changes(before, tip)? else { return Ok(None) };
    for (path, blob) in changes {
        if !is_wanted(&path) {
            continue;
        }
        let Some(blob) = blob.filter(|_| path != "fleet.json") else { return Ok(None) };
        let bytes = branch.read_document(blob)?;
        if documents.add(&path, &bytes, blob).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(documents))
}

impl Documents {
    /// Reads all of a tip of a branch.
    fn of_branch(branch: &ResultsBranch<'_>, tip: &str, fleet: &Name) -> Result<Documents, HistoryError> {
        let entries = branch.entries_at(tip, is_wanted)?;
        let malformed = |path: &str, what: String| HistoryError::Malformed {
            branch: branch.name().into(),
            path: path.to_string(),
            what,
        };
        if !entries.contains_key("fleet.json") {
            return Err(malformed("fleet.json", "it is missing".into()));
        }
        let mut documents = Documents::default();
        for (path, blob) in entries {
            let bytes = branch.read_document(blob)?;
            if path == "fleet.json" {
                check_fleet(branch, &bytes, fleet).map_err(|error| match error {
                    Ok(other) => other,
                    Err(what) => malformed(&path, what),
                })?;
            } else {
                documents.add(&path, &bytes, blob).map_err(|what| malformed(&path, what))?;
            }
        }
        Ok(documents)
    }

    /// Takes in what the registry remembers of a branch that is gone.
    pub(super) fn of_files(branch: &str, files: &BTreeMap<String, Vec<u8>>) -> Result<Documents, HistoryError> {
        let mut documents = Documents::default();
        for (path, bytes) in files {
            documents.add(path, bytes, BlobId::of_bytes(bytes)).map_err(|what| HistoryError::Malformed {
                branch: branch.to_string(),
                path: path.clone(),
                what,
            })?;
        }
        Ok(documents)
    }

    /// Takes a document in, in the place of an older one; the error says what is wrong with it.
    fn add(&mut self, path: &str, bytes: &[u8], blob: BlobId) -> Result<(), String> {
        let document: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if path.starts_with("claims/") {
            let claim = Claim::from_json(&document)?;
            check_place(path, &claim_path(&claim.job, &claim.run))?;
            Arc::make_mut(&mut self.claim_ids).insert(path.to_string(), blob);
            let key = (claim.job.clone(), claim.run.clone());
            let order = Arc::make_mut(&mut self.order);
            if let Some(before) = self.claims.get(&key).map(|before| before.claimed_at) {
                order.remove(&(Reverse(before), key.0.clone(), key.1.clone()));
            }
            order.remove(&(Reverse(Timestamp::UNIX_EPOCH), key.0.clone(), key.1.clone()));
            order.insert((Reverse(claim.claimed_at), key.0.clone(), key.1.clone()));
            if self.records.get(&key).is_none_or(|record| !record.status.is_final()) {
                Arc::make_mut(&mut self.unfinished).insert(key.clone());
            }
            Arc::make_mut(&mut self.claims).insert(key, claim);
        } else if is_record(path) {
            let record = RunRecord::from_json(&document)?;
            check_place(path, &format!("runs/{}/{}/run.json", record.job, record.run))?;
            let key = (record.job.clone(), record.run.clone());
            if !self.claims.contains_key(&key) {
                let ordered = (Reverse(Timestamp::UNIX_EPOCH), key.0.clone(), key.1.clone());
                Arc::make_mut(&mut self.order).insert(ordered);
            }
            match record.status.is_final() {
                true if !self.unfinished.contains(&key) => {}
                true => drop(Arc::make_mut(&mut self.unfinished).remove(&key)),
                false => drop(Arc::make_mut(&mut self.unfinished).insert(key.clone())),
            }
            Arc::make_mut(&mut self.records).insert(key, record);
        } else if path.starts_with(RENAMES_FOLDER) {
            let renamed = Renamed::from_json(&document)?;
            check_place(path, &renamed.path())?;
            Arc::make_mut(&mut self.renames).insert(renamed.name, renamed.previous_names);
        } else {
            let report = ImportReport::from_json(&document)?;
            let mut parts = path.split('/').skip(1);
            let (name, digest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let name = Name::parse(name).map_err(|error| format!("its folder {error}"))?;
            Arc::make_mut(&mut self.reports).insert((name, digest.to_string()), report);
        }
        Ok(())
    }
}

/// Returns true for the files that the ledger is made of.
pub(super) fn is_wanted(path: &str) -> bool {
    path == "fleet.json"
        || path.starts_with("claims/")
        || path.starts_with(RENAMES_FOLDER)
        || is_record(path)
        || is_report(path)
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
fn check_fleet(branch: &ResultsBranch<'_>, bytes: &[u8], fleet: &Name) -> Result<(), Result<HistoryError, String>> {
    let document: Value = serde_json::from_slice(bytes).map_err(|error| Err(error.to_string()))?;
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
