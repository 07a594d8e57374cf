//! Claims and import reports: the immutable documents of the results branch.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{FORMAT_VERSION, RunKey};
use crate::model::digest::Digest;
use crate::model::id::{Name, RunToken};

/// Says that a run belongs to its writer. Written before the first device is touched, and never changed or deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    pub job: Name,
    pub run: RunToken,
    pub spec_digest: Digest,
    /// The number of devices, fixed here for good.
    pub total: u64,
    /// The digest of the sorted device ids.
    pub targets_digest: Digest,
    /// The commit whose tree declared the job.
    pub source_commit: String,
    pub plan_id: String,
    pub claimed_at: Timestamp,
}

impl Claim {
    /// Returns the identity of the claimed run.
    pub fn key(&self, fleet: &Name) -> RunKey {
        RunKey { fleet: fleet.clone(), job: self.job.clone(), run: self.run.clone() }
    }

    /// Returns the document.
    pub fn to_json(&self, fleet: &Name) -> Value {
        let Claim { job, run, spec_digest, total, targets_digest, source_commit, plan_id, claimed_at } = self;
        json!({
            "format_version": FORMAT_VERSION,
            "fleet": fleet.as_str(),
            "kind": "Job",
            "job": job.as_str(),
            "run": run.as_str(),
            "spec_digest": spec_digest.to_string(),
            "targets": {"count": total, "digest": targets_digest.to_string()},
            "source_commit": source_commit,
            "plan_id": plan_id,
            "claimed_at": claimed_at.to_string(),
        })
    }

    /// Reads a document back.
    ///
    /// # Errors
    /// Names the field that is missing or malformed, or the format version that is too new.
    pub fn from_json(document: &Value) -> Result<Claim, String> {
        check_version(document)?;
        let targets = document.get("targets").ok_or("`targets` is missing")?;
        Ok(Claim {
            job: Name::parse(text(document, "job")?).map_err(|error| format!("`job` {error}"))?,
            run: RunToken::parse(text(document, "run")?).map_err(|error| format!("`run` {error}"))?,
            spec_digest: digest(document, "spec_digest")?,
            total: targets.get("count").and_then(Value::as_u64).ok_or("`targets.count` is not a number")?,
            targets_digest: digest(targets, "digest")?,
            source_commit: text(document, "source_commit")?.to_string(),
            plan_id: text(document, "plan_id")?.to_string(),
            claimed_at: timestamp(document, "claimed_at")?.ok_or("`claimed_at` is missing")?,
        })
    }
}

/// The outcome of applying a device import once, in rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportReport {
    pub plan_id: String,
    pub source_commit: String,
    /// Devices that were new.
    pub imported: u64,
    pub updated: u64,
    pub unchanged: u64,
    /// Devices of this import whose row left the file, and devices that a row deletes.
    pub removed: u64,
    pub rejected: u64,
    /// Rows of the file without its header and blank lines: imported + updated + unchanged + rejected, and those that
    /// delete.
    pub rows: u64,
}

impl ImportReport {
    /// Returns the document.
    pub fn to_json(&self) -> Value {
        let ImportReport { plan_id, source_commit, imported, updated, unchanged, removed, rejected, rows } = self;
        json!({
            "format_version": FORMAT_VERSION,
            "plan_id": plan_id,
            "source_commit": source_commit,
            "imported": imported,
            "updated": updated,
            "unchanged": unchanged,
            "removed": removed,
            "rejected": rejected,
            "rows": rows,
        })
    }

    /// Reads a document back.
    ///
    /// # Errors
    /// Names the field that is missing or malformed, or the format version that is too new.
    pub fn from_json(document: &Value) -> Result<ImportReport, String> {
        check_version(document)?;
        Ok(ImportReport {
            plan_id: text(document, "plan_id")?.to_string(),
            source_commit: text(document, "source_commit")?.to_string(),
            imported: number(document, "imported")?,
            updated: number(document, "updated")?,
            unchanged: number(document, "unchanged")?,
            removed: number(document, "removed")?,
            rejected: number(document, "rejected")?,
            rows: number(document, "rows")?,
        })
    }
}

pub(super) fn check_version(document: &Value) -> Result<(), String> {
    match document.get("format_version").and_then(Value::as_u64) {
        Some(version) if version <= u64::from(FORMAT_VERSION) => Ok(()),
        Some(version) => Err(format!(
            "its format version is {version}, and this fleetform reads up to {FORMAT_VERSION}: use a newer fleetform"
        )),
        None => Err("`format_version` is missing".to_string()),
    }
}

pub(super) fn text<'a>(document: &'a Value, field: &str) -> Result<&'a str, String> {
    document.get(field).and_then(Value::as_str).ok_or_else(|| format!("`{field}` is not a text"))
}

pub(super) fn number(document: &Value, field: &str) -> Result<u64, String> {
    document.get(field).and_then(Value::as_u64).ok_or_else(|| format!("`{field}` is not a whole number"))
}

pub(super) fn digest(document: &Value, field: &str) -> Result<Digest, String> {
    Digest::parse(text(document, field)?).ok_or_else(|| format!("`{field}` is not 64 hex digits"))
}

/// Returns the time of a field, `None` when it is null or absent.
pub(super) fn timestamp(document: &Value, field: &str) -> Result<Option<Timestamp>, String> {
    match document.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => match text.parse() {
            Ok(time) => Ok(Some(time)),
            Err(_) => Err(format!("`{field}` is not a time in RFC 3339")),
        },
        Some(_) => Err(format!("`{field}` is not a time in RFC 3339")),
    }
}
