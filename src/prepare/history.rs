//! The ledger: what the results branch and the journal say together.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::HistoryError;
use super::recorded::{Documents, Recorded, is_wanted};
use super::remembered::remembered_documents;
use crate::ledger::{Ledger, RunRecord, claim_path};
use crate::model::digest::Digest;
use crate::model::fleet::Declared;
use crate::model::id::{Name, RunToken};
use crate::registry::{Noted, Registry};
use crate::repo::{Audit, BlobId, RepoError, ResultsBranch};

/// Returns the ledger of a fleet.
///
/// # Errors
/// The branch or the registry cannot be read, or holds what it should not.
pub fn read_ledger(
    branch: &ResultsBranch<'_>,
    registry: &Registry,
    declared: &Declared,
) -> Result<Ledger, HistoryError> {
    read_ledger_again(branch, registry, declared, &mut Recorded::default())
}

/// Returns what [`read_ledger`] returns. What was read before and has not changed is not read again.
///
/// # Errors
/// As [`read_ledger`].
pub fn read_ledger_again(
    branch: &ResultsBranch<'_>,
    registry: &Registry,
    declared: &Declared,
    recorded: &mut Recorded,
) -> Result<Ledger, HistoryError> {
    let tip = branch.tip()?;
    if declared.fleet.results.remote.is_none()
        && let Some(remote) = branch.stands_in()?
        && !registry.branch_copy().exists()?
    {
        return Err(HistoryError::StaleCopy { branch: branch.name().into(), remote });
    }
    let (documents, is_known) = match &tip {
        Some(tip) => recorded.of_branch(branch, tip, &declared.fleet.name)?,
        None => {
            recorded.forget();
            if !registry.branch_copy().exists()? {
                if let Some(other) = branch.in_the_way() {
                    return Err(RepoError::InTheWay { branch: branch.name().into(), other }.into());
                }
                let jobs = declared.jobs.len();
                return Err(HistoryError::Unknown { branch: branch.name().into(), jobs });
            }
            let files = remembered_documents(registry, is_wanted)?;
            (Documents::of_files(branch.name(), &files)?, false)
        }
    };
    let version = registry.journal().claims_version()?;
    if !is_known || version.is_none() || recorded.agreed != version {
        recorded.agreed = None;
        check_claims(branch, registry, &documents, recorded)?;
        recorded.agreed = version;
    }
    check_history(branch, registry, recorded)?;
    let open = registry.journal().open_runs(&|run| {
        let path = claim_path(&run.job, &run.run);
        documents.claim_ids.get(&path) == Some(&BlobId::of_bytes(run.claim.as_bytes()))
    })?;
    let Documents { claims, records, reports, renames, order, unfinished, claim_ids: _ } = documents;
    let gone_branch = tip.is_none().then(|| branch.name().to_string());
    let applied_imports = applied_imports(registry)?;
    Ok(Ledger { claims, records, reports, renames, order, unfinished, open, applied_imports, gone_branch })
}

/// Holds when the branch does not have a run as it was claimed here.
fn check_claims(
    branch: &ResultsBranch<'_>,
    registry: &Registry,
    documents: &Documents,
    recorded: &mut Recorded,
) -> Result<(), HistoryError> {
    let mut missing = None;
    for (path, text) in registry.journal().claim_documents()? {
        match documents.claim_ids.get(&path) {
            Some(id) if *id == BlobId::of_bytes(text.as_bytes()) => {}
            Some(_) => {
                let what = "it is not what was claimed".to_string();
                return Err(HistoryError::Malformed { branch: branch.name().into(), path, what });
            }
            None => drop(missing.get_or_insert(path)),
        }
    }
    match missing {
        // That it was put back to where it was before is the better answer, where it holds.
        Some(path) => {
            check_history(branch, registry, recorded)?;
            Err(HistoryError::ClaimMissing { branch: branch.name().into(), path })
        }
        None => Ok(()),
    }
}

/// Returns the records of all runs, those that are open with what the journal knows of them, sorted by job and run.
pub fn records_of(ledger: &Ledger) -> Vec<RunRecord> {
    let mut records: BTreeMap<(Name, RunToken), RunRecord> = ledger.records.as_ref().clone();
    for (key, claim) in ledger.claims.iter() {
        // Nothing but the claim is on the branch yet.
        records.entry(key.clone()).or_insert_with(|| RunRecord::of_claim(claim));
    }
    records.extend(open_records(ledger));
    records.into_values().collect()
}

/// Returns the records of the runs that are open, with what the journal knows of them.
pub fn open_records(ledger: &Ledger) -> BTreeMap<(Name, RunToken), RunRecord> {
    let mut records = BTreeMap::new();
    for (key, open) in &ledger.open {
        let Some(claim) = ledger.claims.get(key) else { continue };
        if ledger.has_end(key) {
            continue;
        }
        let known = ledger.records.get(key);
        let counts = crate::model::outcome::Counts {
            total: open.total,
            completed: open.completed,
            failed: open.failed,
            unchanged: open.unchanged,
        };
        let record = RunRecord {
            status: open.status,
            reason: known.and_then(|record| record.reason.clone()),
            cause: known.and_then(|record| record.cause),
            counts,
            started_at: open.started_at,
            per_batch: known.map_or_else(Vec::new, |record| record.per_batch.clone()),
            published: known.map_or_else(Default::default, |record| record.published),
            late: open.late,
            ..RunRecord::of_claim(claim)
        };
        records.insert(key.clone(), record);
    }
    records
}

/// Returns the record of a run as [`records_of`] has it; `open` are those of [`open_records`].
pub fn record_in<'a>(
    ledger: &'a Ledger,
    open: &'a BTreeMap<(Name, RunToken), RunRecord>,
    key: &(Name, RunToken),
) -> Option<Cow<'a, RunRecord>> {
    let known = open.get(key).or_else(|| ledger.records.get(key)).map(Cow::Borrowed);
    known.or_else(|| ledger.claims.get(key).map(|claim| Cow::Owned(RunRecord::of_claim(claim))))
}

/// Returns the records of the runs that have not ended, sorted by job and run.
pub fn unfinished_of(ledger: &Ledger) -> Vec<RunRecord> {
    let open = open_records(ledger);
    let records = ledger.unfinished.iter().filter_map(|key| record_in(ledger, &open, key));
    records.filter(|record| !record.status.is_final()).map(Cow::into_owned).collect()
}

/// Holds when another program has written to the branch or rewritten it since it was last used here.
fn check_history(branch: &ResultsBranch<'_>, registry: &Registry, recorded: &mut Recorded) -> Result<(), HistoryError> {
    let seen = registry.branch_copy().noted(Noted::ResultsTip)?;
    let Some(tip) = branch.tip()? else { return Ok(()) };
    let place = (branch.name().to_string(), seen.clone());
    let sound = recorded.sound.take().filter(|(known, _)| *known == place).map(|(_, tip)| tip);
    match branch.audit_of(&tip, seen.as_deref(), sound.as_deref())? {
        Audit::Sound => {
            recorded.sound = Some((place, tip));
            Ok(())
        }
        Audit::Rewritten => {
            Err(HistoryError::Rewritten { branch: branch.name().into(), seen: seen.unwrap_or_default() })
        }
        Audit::PutBack => Err(HistoryError::PutBack { branch: branch.name().into(), seen: seen.unwrap_or_default() }),
        Audit::Behind { is_on_remote } => {
            let (branch, seen) = (branch.name().into(), seen.unwrap_or_default());
            Err(HistoryError::Behind { branch, seen, is_on_remote })
        }
        Audit::Foreign { commit } => Err(HistoryError::Foreign { branch: branch.name().into(), commit }),
    }
}

fn applied_imports(registry: &Registry) -> Result<BTreeMap<Name, Digest>, HistoryError> {
    let mut applied = BTreeMap::new();
    for (name, digest) in registry.imports().applied()? {
        if let (Ok(name), Some(digest)) = (Name::parse(&name), Digest::parse(&digest)) {
            applied.insert(name, digest);
        }
    }
    Ok(applied)
}
