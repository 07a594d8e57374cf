//! Why a run has its status: `cause` in `run.json`. Its `Display` is the sentence for people, `reason`.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::model::delivery::{Amount, Crossing, Threshold, ThresholdScope};
use crate::model::text;

/// Why a run has its status, where the status does not say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunCause {
    /// Too many devices failed.
    Threshold(Crossing),
    /// `maxExecutionTime` was over before all devices were attempted. `limit` is `None` when it is not known any more.
    MaxExecutionTime { limit: Option<Duration>, unattempted: u64, total: u64 },
    /// Nothing declares it any more.
    Undeclared,
    /// The registry's journal of it is gone, and with it the outcome of `unknown` devices.
    JournalLost { unknown: u64, total: u64 },
    /// An occurrence of a schedule that did not run.
    Missed,
    /// `fleetform adopt` marked it as done.
    Adopted,
}

impl RunCause {
    /// Returns the word of the `kind` field.
    pub fn word(&self) -> &'static str {
        match self {
            RunCause::Threshold(_) => "threshold",
            RunCause::MaxExecutionTime { .. } => "max-execution-time",
            RunCause::Undeclared => "undeclared",
            RunCause::JournalLost { .. } => "journal-lost",
            RunCause::Missed => "missed",
            RunCause::Adopted => "adopted",
        }
    }

    /// Returns the object of `cause` in `run.json`. Batches count from 1; a threshold is a number of devices or a
    /// percentage, `"5%"`.
    pub fn to_json(&self) -> Value {
        let mut object = match self {
            RunCause::Threshold(crossing) => {
                let Crossing { threshold, failed, allowed, total, batch } = crossing;
                let failures = match threshold.failures {
                    Amount::Count(count) => json!(count),
                    Amount::Percent(percent) => json!(format!("{percent}%")),
                };
                json!({
                    "failures": failures,
                    "per": threshold.per.as_str(),
                    "failed": failed,
                    "allowed": allowed,
                    "total": total,
                    "batch": batch.map(|batch| batch + 1),
                })
            }
            RunCause::MaxExecutionTime { limit, unattempted, total } => {
                json!({"limit_seconds": limit.map(|limit| limit.as_secs()), "unattempted": unattempted, "total": total})
            }
            RunCause::JournalLost { unknown, total } => json!({"unknown": unknown, "total": total}),
            RunCause::Undeclared | RunCause::Missed | RunCause::Adopted => json!({}),
        };
        object["kind"] = json!(self.word());
        object
    }

    /// Reads the object back; `None` for a kind of a newer fleetform, or with a field that is missing.
    pub fn from_json(object: &Value) -> Option<RunCause> {
        let number = |field: &str| object.get(field).and_then(Value::as_u64);
        Some(match object.get("kind")?.as_str()? {
            "threshold" => {
                let failures = match object.get("failures")? {
                    Value::String(percent) => Amount::Percent(percent.strip_suffix('%')?.parse().ok()?),
                    count => Amount::Count(count.as_u64()?),
                };
                let per = ThresholdScope::parse(object.get("per")?.as_str()?)?;
                let batch = match number("batch") {
                    Some(batch) => Some(u32::try_from(batch.checked_sub(1)?).ok()?),
                    None => None,
                };
                RunCause::Threshold(Crossing {
                    threshold: Threshold { failures, per },
                    failed: number("failed")?,
                    allowed: number("allowed")?,
                    total: number("total")?,
                    batch,
                })
            }
            "max-execution-time" => RunCause::MaxExecutionTime {
                limit: number("limit_seconds").map(Duration::from_secs),
                unattempted: number("unattempted")?,
                total: number("total")?,
            },
            "undeclared" => RunCause::Undeclared,
            "journal-lost" => RunCause::JournalLost { unknown: number("unknown")?, total: number("total")? },
            "missed" => RunCause::Missed,
            "adopted" => RunCause::Adopted,
            _ => return None,
        })
    }
}

impl fmt::Display for RunCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunCause::Threshold(crossing) => crossing.fmt(f),
            RunCause::MaxExecutionTime { limit, unattempted, total } => {
                let limit = limit.map_or_else(|| "its time".to_string(), text::duration);
                write!(f, "maxExecutionTime: {limit} were over before {unattempted} of {total} devices were attempted")
            }
            RunCause::Undeclared => f.write_str("its document is not declared any more"),
            RunCause::JournalLost { unknown, total } => write!(
                f,
                "journal-lost: the registry's journal of this run is gone, and the outcome of {unknown} of {total} \
                    devices is unknown"
            ),
            RunCause::Missed => f.write_str("missed: the occurrence did not run"),
            RunCause::Adopted => f.write_str("adopted: marked as done without running, by `fleetform adopt`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_read_back() {
        let mut causes = vec![
            RunCause::MaxExecutionTime { limit: Some(Duration::from_secs(90)), unattempted: 3, total: 9 },
            RunCause::MaxExecutionTime { limit: None, unattempted: 3, total: 9 },
            RunCause::Undeclared,
            RunCause::JournalLost { unknown: 7, total: 10 },
            RunCause::Missed,
            RunCause::Adopted,
        ];
        for failures in [Amount::Count(0), Amount::Count(1_234), Amount::Percent(100)] {
            for (per, batch) in [(ThresholdScope::Job, None), (ThresholdScope::Batch, Some(0))] {
                let threshold = Threshold { failures, per };
                causes.push(RunCause::Threshold(Crossing { threshold, failed: 3, allowed: 2, total: 9, batch }));
            }
        }
        for cause in causes {
            assert_eq!(RunCause::from_json(&cause.to_json()), Some(cause), "{}", cause.to_json());
        }
        assert_eq!(RunCause::from_json(&json!({"kind": "of a newer fleetform"})), None);
        assert_eq!(RunCause::from_json(&json!({"kind": "journal-lost"})), None);
    }
}
