//! The crossing of a threshold, replayed from the recorded devices: which failure was one too many, and what came after
//! it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::history::History;
use super::{OpsError, Row};
use crate::ledger::{RunCause, RunRecord};
use crate::model::delivery::{Threshold, ThresholdScope};
use crate::model::outcome::{DeviceStatus, Reason};

/// Failures before the crossing that are named, when they are too many for all.
const FAILURES_MAX: usize = 5;
/// Devices after the crossing that are named.
const AFTER_MAX: usize = 5;

/// How a threshold was crossed.
#[derive(Debug, Clone, PartialEq)]
pub struct Crossed {
    pub threshold: Threshold,
    /// Devices in scope, fixed at the claim.
    pub total: u64,
    /// The most failures that were allowed in scope.
    pub allowed: u64,
    /// The batch, from 1, when the scope is a batch.
    pub batch: Option<u32>,
    /// The first failures in scope in the order in which they were recorded, and the one that crossed, which is the
    /// last.
    pub failures: Vec<CountedFailure>,
    pub after: After,
    /// Failed devices of the job that do not count: those of which the outcome is not known, and deleted ones.
    pub excused: u64,
    /// Devices that stay pending: their number, and how many of them had been written or waited to come online.
    pub pending: u64,
    pub pending_waiting: u64,
}

/// One failure of the count.
#[derive(Debug, Clone, PartialEq)]
pub struct CountedFailure {
    /// How many had failed in scope with it, from 1.
    pub count: u64,
    pub row: Row,
}

/// What was in flight at the crossing and ended after it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct After {
    /// `None` when the results keep failures only.
    pub completed: Option<u64>,
    pub failed: u64,
    /// The first of them, by time.
    pub sample: Vec<Row>,
}

/// A failure, as little of it as the order needs. The order of its fields is the order of recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct OrderedFailure {
    finished_at: Option<Timestamp>,
    /// The place among the rows, which are sorted by id.
    place: u64,
    batch: u32,
}

/// Replays the crossing of a canceled run; `None` when its threshold is not known any more, or the rows do not cross
/// it.
pub(super) fn replay(history: &History<'_>, record: &RunRecord) -> Result<Option<Crossed>, OpsError> {
    let Some(tree) = history.tree_of(record)? else { return replay_rows(history, record) };
    let declared = history.declared_job(record).and_then(|job| job.delivery.threshold);
    let key = format!("crossing {tree} {declared:?}");
    let found = history.view.workspace.kept().derived(&key, || replay_rows(history, record))?;
    Ok(Option::clone(&found))
}

fn replay_rows(history: &History<'_>, record: &RunRecord) -> Result<Option<Crossed>, OpsError> {
    let declared = history.declared_job(record).and_then(|job| job.delivery.threshold);
    let recorded = match record.cause {
        Some(RunCause::Threshold(crossing)) => Some(crossing.threshold),
        _ => None,
    };
    let Some(threshold) = recorded.or(declared) else { return Ok(None) };
    let (mut failures, mut completed, mut excused, mut place) = (Vec::new(), 0, 0, 0);
    history.published_rows(record, &mut |row| {
        match row.status {
            DeviceStatus::Failed if !row.reason.counts_for_threshold() => excused += 1,
            DeviceStatus::Failed => {
                failures.push(OrderedFailure { finished_at: row.finished_at, place, batch: row.batch });
            }
            DeviceStatus::Completed => completed += 1,
            DeviceStatus::Pending => {}
        }
        place += 1;
    })?;
    failures.sort_unstable();
    let Some(found) = find(&failures, threshold, record) else { return Ok(None) };
    let has_completed = completed == record.counts.completed;
    let mut crossed = found.crossed;
    collect(history, record, &found.shown, found.crossing, &mut crossed)?;
    if !has_completed {
        crossed.after.completed = None;
    }
    crossed.pending = record.counts.pending();
    crossed.excused = excused;
    Ok(Some(crossed))
}

struct Found {
    crossing: OrderedFailure,
    /// The failures to name: place and running count.
    shown: BTreeMap<u64, u64>,
    crossed: Crossed,
}

/// Counts failures in their order until one is above what is allowed in its scope.
fn find(failures: &[OrderedFailure], threshold: Threshold, record: &RunRecord) -> Option<Found> {
    let scope_of = |failure: &OrderedFailure| match threshold.per {
        ThresholdScope::Job => None,
        ThresholdScope::Batch => Some(failure.batch),
    };
    let total_of = |scope: Option<u32>| match scope {
        None => Some(record.counts.total),
        Some(batch) => Some(record.per_batch.get((batch as usize).checked_sub(1)?)?.counts.total),
    };
    let mut counts: BTreeMap<Option<u32>, u64> = BTreeMap::new();
    for failure in failures {
        let scope = scope_of(failure);
        let count = counts.entry(scope).or_default();
        *count += 1;
        let total = total_of(scope)?;
        let allowed = threshold.allowed(total);
        if *count <= allowed {
            continue;
        }
        let in_scope: Vec<&OrderedFailure> =
            failures.iter().filter(|other| scope_of(other) == scope && *other <= failure).collect();
        let last = in_scope.len() - 1;
        let is_shown = |at: usize| in_scope.len() <= 2 * FAILURES_MAX || at < FAILURES_MAX || at == last;
        let shown = in_scope.iter().enumerate().filter(|(at, _)| is_shown(*at));
        return Some(Found {
            crossing: *failure,
            shown: shown.map(|(at, failure)| (failure.place, at as u64 + 1)).collect(),
            crossed: Crossed {
                threshold,
                total,
                allowed,
                batch: scope,
                failures: Vec::new(),
                after: After { completed: Some(0), ..After::default() },
                excused: 0,
                pending: 0,
                pending_waiting: 0,
            },
        });
    }
    None
}

/// Reads the rows that are named, and counts what ended after the crossing.
fn collect(
    history: &History<'_>,
    record: &RunRecord,
    shown: &BTreeMap<u64, u64>,
    crossing: OrderedFailure,
    crossed: &mut Crossed,
) -> Result<(), OpsError> {
    let (mut place, mut completed) = (0, 0);
    let mut first_after: BTreeSet<(Option<Timestamp>, u64)> = BTreeSet::new();
    let mut rows_after: BTreeMap<u64, Row> = BTreeMap::new();
    history.published_rows(record, &mut |row| {
        let is_after = (row.finished_at, place) > (crossing.finished_at, crossing.place);
        match row.status {
            DeviceStatus::Pending => crossed.pending_waiting += u64::from(row.reason == Reason::Waiting),
            DeviceStatus::Completed | DeviceStatus::Failed if is_after => {
                match row.status {
                    DeviceStatus::Failed => crossed.after.failed += 1,
                    DeviceStatus::Completed | DeviceStatus::Pending => completed += 1,
                }
                first_after.insert((row.finished_at, place));
                rows_after.insert(place, row);
                if first_after.len() > AFTER_MAX
                    && let Some((_, last)) = first_after.pop_last()
                {
                    rows_after.remove(&last);
                }
            }
            DeviceStatus::Completed | DeviceStatus::Failed => {
                if let Some(count) = shown.get(&place) {
                    crossed.failures.push(CountedFailure { count: *count, row });
                }
            }
        }
        place += 1;
    })?;
    crossed.failures.sort_by_key(|failure| failure.count);
    crossed.after.completed = Some(completed);
    crossed.after.sample = first_after.iter().filter_map(|(_, place)| rows_after.remove(place)).collect();
    Ok(())
}
