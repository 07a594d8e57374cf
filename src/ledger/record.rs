//! The record of a run: `run.json`.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::claim::{check_version, digest, number, text, timestamp};
use super::{Claim, FORMAT_VERSION, RunCause};
use crate::model::digest::Digest;
use crate::model::id::{Name, RunToken};
use crate::model::outcome::{Counts, RunStatus};

/// A run as `job list` shows it and as `run.json` keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    pub job: Name,
    pub run: RunToken,
    pub status: RunStatus,
    /// Why the run has its status, a sentence with the numbers; `None` when the status says it all.
    pub reason: Option<String>,
    /// The same for programs; `None` where there is nothing to say, and in records of an older fleetform.
    pub cause: Option<RunCause>,
    pub counts: Counts,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub source_commit: String,
    pub plan_id: String,
    pub spec_digest: Digest,
    /// The counts of each batch in order; the first is batch 1.
    pub per_batch: Vec<BatchRecord>,
    /// How much of the results is on the branch: devices (by their place in the sorted target) and shards.
    pub published: Published,
    /// Answers that came after their device had an outcome; they change none.
    pub late: u64,
}

/// How much of a run's results is on the branch. `run.json` holds it, committed together with the shards, so that a
/// restart never writes a shard again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    pub devices: u32,
    pub shards: u32,
}

/// The counts of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchRecord {
    pub counts: Counts,
}

impl RunRecord {
    /// Returns the record of a run of which only the claim is known: pending, with the claimed number of devices. Every
    /// record begins here; other knowledge replaces fields.
    pub fn of_claim(claim: &Claim) -> RunRecord {
        RunRecord {
            job: claim.job.clone(),
            run: claim.run.clone(),
            status: RunStatus::Pending,
            reason: None,
            cause: None,
            counts: Counts { total: claim.total, ..Counts::default() },
            started_at: None,
            finished_at: None,
            source_commit: claim.source_commit.clone(),
            plan_id: claim.plan_id.clone(),
            spec_digest: claim.spec_digest,
            per_batch: Vec::new(),
            published: Published::default(),
            late: 0,
        }
    }

    /// Returns batches with these counts.
    pub fn batches_of(counts: &[Counts]) -> Vec<BatchRecord> {
        counts.iter().map(|counts| BatchRecord { counts: *counts }).collect()
    }

    /// Returns the keys of `job list`: what every view of a run shows.
    pub fn to_summary_json(&self) -> Value {
        json!({
            "job": self.job.as_str(),
            "run": self.run.as_str(),
            "status": self.status.as_str(),
            "reason": self.reason,
            "total": self.counts.total,
            "completed": self.counts.completed,
            "failed": self.counts.failed,
            "pending": self.counts.pending(),
            "unchanged": self.counts.unchanged,
            "batches": self.per_batch.len(),
            "started_at": self.started_at.map(|time| time.to_string()),
            "finished_at": self.finished_at.map(|time| time.to_string()),
            "source_commit": self.source_commit,
        })
    }

    /// Returns the word of what kept a run from its devices, `missed` or `journal-lost`; `None` for any other run.
    pub fn hindrance(&self) -> Option<&'static str> {
        let cause = self.cause.filter(|cause| matches!(cause, RunCause::Missed | RunCause::JournalLost { .. }))?;
        Some(cause.word())
    }

    /// Returns the document `run.json`.
    pub fn to_json(&self) -> Value {
        let mut document = self.to_summary_json();
        let members = document.as_object_mut().expect("a summary is an object");
        members.insert("format_version".into(), json!(FORMAT_VERSION));
        members.insert("plan_id".into(), json!(self.plan_id));
        members.insert("spec_digest".into(), json!(self.spec_digest.to_string()));
        members.insert("late".into(), json!(self.late));
        if let Some(cause) = &self.cause {
            members.insert("cause".into(), cause.to_json());
        }
        let published = json!({"devices": self.published.devices, "shards": self.published.shards});
        members.insert("published".into(), published);
        let per_batch = self.per_batch.iter().enumerate().map(|(at, batch)| {
            json!({
                "batch": at + 1,
                "total": batch.counts.total,
                "completed": batch.counts.completed,
                "failed": batch.counts.failed,
                "pending": batch.counts.pending(),
                "unchanged": batch.counts.unchanged,
            })
        });
        members.insert("per_batch".into(), per_batch.collect());
        document
    }

    /// Reads `run.json` back.
    ///
    /// # Errors
    /// Names the field that is missing or malformed, counts that do not add up, or the format version that is too new.
    pub fn from_json(document: &Value) -> Result<RunRecord, String> {
        check_version(document)?;
        let status = text(document, "status")?;
        let per_batch = document.get("per_batch").and_then(Value::as_array).ok_or("`per_batch` is not a list")?;
        Ok(RunRecord {
            job: Name::parse(text(document, "job")?).map_err(|error| format!("`job` {error}"))?,
            run: RunToken::parse(text(document, "run")?).map_err(|error| format!("`run` {error}"))?,
            status: RunStatus::parse(status).ok_or_else(|| format!("`status` is {status:?}, which is no status"))?,
            reason: document.get("reason").and_then(Value::as_str).map(str::to_string),
            cause: document.get("cause").and_then(RunCause::from_json),
            counts: counts(document)?,
            published: published(document)?,
            // Records from before late answers were counted have no such field.
            late: document.get("late").and_then(Value::as_u64).unwrap_or(0),
            started_at: timestamp(document, "started_at")?,
            finished_at: timestamp(document, "finished_at")?,
            source_commit: text(document, "source_commit")?.to_string(),
            plan_id: text(document, "plan_id")?.to_string(),
            spec_digest: digest(document, "spec_digest")?,
            per_batch: per_batch
                .iter()
                .map(|batch| counts(batch).map(|counts| BatchRecord { counts }))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn published(document: &Value) -> Result<Published, String> {
    let member = document.get("published").ok_or("`published` is missing")?;
    let narrow =
        |field| number(member, field).and_then(|n| u32::try_from(n).map_err(|_| format!("`{field}` is too large")));
    Ok(Published { devices: narrow("devices")?, shards: narrow("shards")? })
}

fn counts(document: &Value) -> Result<Counts, String> {
    let counts = Counts {
        total: number(document, "total")?,
        completed: number(document, "completed")?,
        failed: number(document, "failed")?,
        unchanged: number(document, "unchanged")?,
    };
    let pending = number(document, "pending")?;
    let sum = counts.completed.checked_add(counts.failed).and_then(|sum| sum.checked_add(pending));
    if sum != Some(counts.total) || counts.unchanged > counts.completed {
        return Err("its counts do not add up to `total`".to_string());
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> RunRecord {
        let counts = Counts { total: 10, completed: 6, failed: 2, unchanged: 1 };
        RunRecord {
            job: Name::parse("dim").unwrap(),
            run: RunToken::default(),
            status: RunStatus::Canceled,
            reason: Some("2 of 10 devices failed, and at most 1 may".into()),
            cause: Some(RunCause::JournalLost { unknown: 1, total: 10 }),
            counts,
            started_at: Some("2026-11-20T10:00:00Z".parse().unwrap()),
            finished_at: None,
            source_commit: "c".into(),
            plan_id: "p".into(),
            spec_digest: Digest::of_bytes(b""),
            per_batch: vec![BatchRecord { counts }],
            published: Published { devices: 10, shards: 1 },
            late: 3,
        }
    }

    #[test]
    fn a_record_reads_back() {
        assert_eq!(RunRecord::from_json(&record().to_json()), Ok(record()));
        let mut older = record().to_json();
        older.as_object_mut().unwrap().remove("late");
        assert_eq!(RunRecord::from_json(&older), Ok(RunRecord { late: 0, ..record() }));
    }

    #[test]
    fn a_record_of_the_future_or_with_wrong_counts_is_refused() {
        let mut newer = record().to_json();
        newer["format_version"] = json!(2);
        assert!(RunRecord::from_json(&newer).unwrap_err().contains("use a newer fleetform"));
        let mut wrong = record().to_json();
        wrong["pending"] = json!(3);
        assert!(RunRecord::from_json(&wrong).unwrap_err().contains("do not add up"));
    }
}
