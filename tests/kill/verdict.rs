//! Judges a fleet whose applies were killed beside one whose were not.

use std::collections::{BTreeMap, BTreeSet};

use fleetform::ledger::RunKey;
use fleetform::model::id::{Name, RunToken};
use fleetform::model::outcome::{DeviceStatus, Reason};
use fleetform::results::Row;
use serde_json::Value;

use crate::evidence::{Branch, Key, executions};
use crate::fleet::{FLEET, Fleet, JOBS, Kind, TRIP_FAILURES};

/// What was counted.
#[derive(Debug, Default)]
pub struct Verdict {
    pub runs: usize,
    pub outcomes: usize,
    pub executions: usize,
    /// Devices of which nobody knows whether they executed: sent, and the process died before the answer.
    pub unknown: usize,
    /// What a device did that its run does not tell, or that it tells and nobody did.
    pub lost: Vec<String>,
    pub duplicates: Vec<String>,
    /// Everything else that is not as it must be.
    pub wrong: Vec<String>,
}

/// Judges all runs up to a generation.
///
/// # Errors
/// Something cannot be read.
pub fn judge(killed: &Fleet, undisturbed: &Fleet, generations: u64) -> Result<Verdict, String> {
    let (branch, reference) = (Branch::read(killed)?, Branch::read(undisturbed)?);
    let executed = executions(killed)?;
    let mut verdict = Verdict { executions: executed.len(), ..Verdict::default() };
    let twice = executed.iter().filter(|(_, count)| **count > 1);
    verdict.duplicates = twice.map(|((device, id), count)| format!("{device} executed {id} {count} times")).collect();
    for key in &branch.claims {
        if !branch.records.get(key).is_some_and(is_final) {
            verdict.wrong.push(format!("{key:?} is claimed and has no final run.json"));
        }
    }
    for job in JOBS {
        let runs: BTreeSet<u64> = (1..=generations).filter_map(|generation| job.run(generation)).collect();
        for run in runs {
            let key: Key = (job.name.to_string(), run.to_string());
            match (branch.records.get(&key), reference.records.get(&key)) {
                (Some(record), Some(expected)) => {
                    let empty = Vec::new();
                    let rows = branch.rows.get(&key).unwrap_or(&empty);
                    let expected = (expected, reference.rows.get(&key).unwrap_or(&empty).as_slice());
                    Run { key: &key, kind: job.kind, record, rows }.judge(expected, &executed, &mut verdict);
                }
                (record, _) => {
                    let place = if record.is_none() { "here" } else { "in the undisturbed fleet" };
                    verdict.wrong.push(format!("{key:?} has no run.json {place}"));
                }
            }
        }
    }
    Ok(verdict)
}

fn is_final(record: &Value) -> bool {
    matches!(record["status"].as_str(), Some("completed" | "failed" | "canceled"))
}

fn counts(record: &Value) -> [Option<u64>; 5] {
    ["total", "completed", "failed", "pending", "unchanged"].map(|field| record[field].as_u64())
}

struct Run<'a> {
    key: &'a Key,
    kind: Kind,
    record: &'a Value,
    rows: &'a [Row],
}

impl Run<'_> {
    fn judge(
        &self,
        (expected, expected_rows): (&Value, &[Row]),
        executed: &BTreeMap<(String, String), u64>,
        verdict: &mut Verdict,
    ) {
        let Run { key, kind, record, rows } = self;
        verdict.runs += 1;
        verdict.outcomes += rows.len();
        let mut wrong = |what: String| verdict.wrong.push(format!("{key:?}: {what}"));
        if record["status"] != expected["status"] {
            wrong(format!("it is {} and should be {}", record["status"], expected["status"]));
        }
        let mut tally = [rows.len() as u64, 0, 0, 0, 0];
        for row in *rows {
            match row.reason.status() {
                DeviceStatus::Completed => tally[1] += 1,
                DeviceStatus::Failed => tally[2] += 1,
                DeviceStatus::Pending => tally[3] += 1,
            }
            tally[4] += u64::from(row.reason == Reason::Unchanged);
        }
        if tally.map(Some) != counts(record) {
            wrong(format!("its rows are {tally:?}, and its counts {:?}", counts(record)));
        }
        if counts(record)[0] != counts(expected)[0] {
            wrong(format!("it has {:?} devices and should have {:?}", counts(record)[0], counts(expected)[0]));
        }
        let knows_all = matches!(kind, Kind::Write | Kind::Idempotent);
        if knows_all && counts(record) != counts(expected) {
            wrong(format!("its counts are {:?} and should be {:?}", counts(record), counts(expected)));
        }
        if *kind == Kind::Once && tally[1] + tally[2] != tally[0] {
            wrong(format!("{} devices are pending", tally[3]));
        }
        if *kind == Kind::Canceled && tally[2] <= TRIP_FAILURES {
            wrong(format!("it is canceled with {} failures", tally[2]));
        }
        let devices = |rows: &[Row]| rows.iter().map(|row| row.device_id.clone()).collect::<Vec<_>>();
        if devices(rows) != devices(expected_rows) {
            wrong("its rows are not one for each device, in order".to_string());
            return;
        }
        for (row, expected) in rows.iter().zip(expected_rows) {
            self.judge_row(row, expected, executed, verdict);
        }
    }

    fn judge_row(&self, row: &Row, expected: &Row, executed: &BTreeMap<(String, String), u64>, verdict: &mut Verdict) {
        let Run { key, kind, .. } = self;
        let told = format!("{key:?} on {}: {} {:?}", row.device_id, row.reason.as_str(), row.code);
        let may_differ = match row.reason {
            Reason::OutcomeUnknown => !matches!(kind, Kind::Write | Kind::Idempotent),
            // Where the threshold is crossed depends on the moment.
            Reason::Queued => *kind == Kind::Canceled,
            _ => *kind == Kind::Canceled && expected.reason == Reason::Queued,
        };
        if !may_differ && (row.reason, row.code) != (expected.reason, expected.code) {
            verdict.wrong.push(format!("{told}, and should be {} {:?}", expected.reason.as_str(), expected.code));
        }
        verdict.unknown += usize::from(row.reason == Reason::OutcomeUnknown);
        if *kind == Kind::Write {
            return;
        }
        let name = |text: &str| Name::parse(text).unwrap();
        let run = RunToken::parse(&key.1).unwrap();
        let id = RunKey { fleet: name(FLEET), job: name(&key.0), run }.execution_id(&row.device_id);
        let count = executed.get(&(row.device_id.clone(), id.to_string())).copied().unwrap_or_default();
        let is_fine = match row.reason {
            Reason::Responded | Reason::Rejected => count == 1,
            Reason::OutcomeUnknown | Reason::Timeout => count <= 1,
            _ => count == 0,
        };
        if !is_fine {
            verdict.lost.push(format!("{told}, executed {count} times"));
        }
    }
}
