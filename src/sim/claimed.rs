//! What holds of each claimed run: its counts, its rows and its end.

use std::collections::{BTreeMap, BTreeSet};

use super::DeclaredJob;
use super::ledger::Run;
use crate::model::delivery::ThresholdScope;
use crate::model::outcome::DeviceStatus;

/// The state of a run at its claim.
pub(super) struct Claimed {
    pub job: DeclaredJob,
    pub targets: BTreeSet<String>,
    /// The auditor's `losses` at the claim.
    pub losses: u32,
}

/// Checks the branch's files of one run.
pub(super) fn check_run(run: &Run, claimed: &Claimed) -> Result<(), String> {
    let total = claimed.targets.len() as u64;
    let counts = [run.count("completed"), run.count("failed"), run.count("pending")];
    if run.count("total") != total || counts.iter().try_fold(0_u64, |sum, n| sum.checked_add(*n)) != Some(total) {
        return Err(format!("its counts {counts:?} do not add up to {total}"));
    }
    let batches = run.record["per_batch"].as_array().map_or(&[][..], Vec::as_slice);
    for (at, field) in ["completed", "failed", "pending"].iter().enumerate() {
        let sum: u64 = batches.iter().map(|batch| batch[*field].as_u64().unwrap_or_default()).sum();
        if !batches.is_empty() && sum != counts[at] {
            return Err(format!("its batches have {sum} {field}, and it has {}", counts[at]));
        }
    }
    let sizes = claimed.job.batch_sizes(total);
    let mut seen = BTreeSet::new();
    for row in &run.rows {
        if !claimed.targets.contains(&row.device_id) {
            return Err(format!("{} is not meant", row.device_id));
        }
        let place = claimed.targets.range(..row.device_id.clone()).count() as u64;
        if u64::from(row.batch) != sizes.batch_of(place) + 1 {
            return Err(format!(
                "{} was in the batch {}, and batches were claimed with {sizes:?}",
                row.device_id, row.batch
            ));
        }
        if !seen.insert(&row.device_id) {
            return Err(format!("{} has two rows", row.device_id));
        }
        if u64::from(row.attempts) > claimed.job.retries + 1 {
            return Err(format!("{} was tried {} times", row.device_id, row.attempts));
        }
        if row.status == DeviceStatus::Pending && !run.is_final() {
            return Err(format!("{} is published as pending", row.device_id));
        }
    }
    if !run.is_final() || run.is_lost() || run.is_missed() {
        return Ok(());
    }
    if seen.len() as u64 != total {
        return Err(format!("it has {} rows for {total} devices", seen.len()));
    }
    let states = [DeviceStatus::Completed, DeviceStatus::Failed, DeviceStatus::Pending];
    let rows = states.map(|status| run.rows.iter().filter(|row| row.status == status).count() as u64);
    if rows != counts {
        return Err(format!("its rows are {rows:?}, and its counts {counts:?}"));
    }
    if run.status() == "completed" && counts[2] > 0 {
        return Err(format!("it is completed, and {} devices are pending", counts[2]));
    }
    check_threshold(run, &claimed.job, total)
}

/// Checks that a run is canceled if and only if more devices failed than the threshold allows, of those that count for
/// it; a run whose time was up has failed.
fn check_threshold(run: &Run, job: &DeclaredJob, total: u64) -> Result<(), String> {
    let counted = || run.rows.iter().filter(|row| row.reason.counts_for_threshold());
    let has_crossed = job.threshold.is_some_and(|threshold| match threshold.per {
        ThresholdScope::Job => counted().count() as u64 > threshold.allowed(total),
        ThresholdScope::Batch => {
            let sizes = job.batch_sizes(total);
            let mut failed: BTreeMap<u32, u64> = BTreeMap::new();
            for row in counted() {
                *failed.entry(row.batch).or_default() += 1;
            }
            failed.iter().any(|(batch, failed)| {
                let range = sizes.range(u64::from(batch - 1), total);
                *failed > threshold.allowed(range.end - range.start)
            })
        }
    });
    match (run.status(), has_crossed) {
        ("canceled", true) | ("completed", false) => Ok(()),
        ("failed", _) if job.max_execution.is_some() => Ok(()),
        (status, _) => Err(format!("it is {status}, and its threshold is {:?}", job.threshold)),
    }
}
