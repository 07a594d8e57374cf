//! The devices of a run by pages, each found by the id that it comes after: a page costs the same wherever it is.

use std::ops::{Bound, ControlFlow, Range};

use super::history::{History, with_history};
use super::{Environment, OpsError, RunChoice};
use crate::ledger::RunRecord;
use crate::model::id::Name;
use crate::model::limits;
use crate::model::observation::{DeviceIds, first_place};
use crate::model::outcome::{DeviceStatus, Reason, RunStatus};
use crate::model::text::matches_wildcard;
use crate::prepare::Caveats;
use crate::results::Row;

/// Devices of a journal that are read together.
const CHUNK: u32 = 1_000;

/// Which devices of a run a page shows.
#[derive(Debug, Clone, Default)]
pub struct GridChoice {
    /// Only ids that come after this one, which need not be there.
    pub after: Option<String>,
    pub status: Option<DeviceStatus>,
    pub reason: Option<Reason>,
    /// Device ids with `*` and `?`.
    pub pattern: Option<String>,
    /// The most devices of the page.
    pub limit: usize,
}

/// A page of the devices of a run.
#[derive(Debug, Clone, Default)]
pub struct Grid {
    /// Sorted by id.
    pub rows: Vec<Row>,
    /// The id that the next page comes after; `None` when this is the last one. A page looks at
    /// [`limits::GRID_ROWS_LOOKED_AT_MAX`] devices, so one with few rows, or none, may have a next one.
    pub next: Option<String>,
}

/// What became of a device in a run.
#[derive(Debug, Clone)]
pub struct Fate {
    pub job: Name,
    pub run: crate::model::id::RunToken,
    pub run_status: RunStatus,
    /// `None` when the results keep failures only, and it is not among them.
    pub row: Option<Row>,
}

impl GridChoice {
    fn takes(&self, row: &Row) -> bool {
        self.status.is_none_or(|status| row.status == status)
            && self.reason.is_none_or(|reason| row.reason == reason)
            && self.pattern.as_ref().is_none_or(|pattern| matches_wildcard(pattern, &row.device_id))
    }
}

/// Returns what became of a device in the newest runs that it was in, the newest first, and whether all runs were looked
/// at. At most `most` are returned, of `looked_at` runs.
///
/// # Errors
/// The Fleet document is invalid, or something cannot be read.
pub fn fates(
    environment: &Environment,
    device_id: &str,
    (most, looked_at): (usize, usize),
    tell: &mut dyn FnMut(&Caveats),
) -> Result<(Vec<Fate>, bool), OpsError> {
    with_history(environment, tell, |history| {
        let mut found = Vec::new();
        for (at, record) in history.newest_first().enumerate() {
            if at == looked_at || found.len() == most {
                return Ok((found, false));
            }
            if let Some(row) = history.fate(&record, device_id)? {
                let (job, run) = (record.job.clone(), record.run.clone());
                found.push(Fate { job, run, run_status: record.status, row });
            }
        }
        Ok((found, true))
    })
}

/// Returns a page of the devices of a run.
///
/// # Errors
/// There is no such run, or something cannot be read.
pub fn grid(
    environment: &Environment,
    choice: &RunChoice,
    wanted: &GridChoice,
    tell: &mut dyn FnMut(&Caveats),
) -> Result<Grid, OpsError> {
    with_history(environment, tell, |history| {
        let record = history.find(choice)?;
        history.grid(&record, wanted)
    })
}

impl History<'_> {
    /// Returns a page of the devices of a run.
    pub(super) fn grid(&self, record: &RunRecord, wanted: &GridChoice) -> Result<Grid, OpsError> {
        let from = wanted.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let (mut rows, mut looked_at, mut next) = (Vec::new(), 0, None);
        let mut last: Option<String> = None;
        self.rows_from(record, from, &mut |row| {
            if rows.len() >= wanted.limit || looked_at >= limits::GRID_ROWS_LOOKED_AT_MAX {
                next = last.take();
                return ControlFlow::Break(());
            }
            looked_at += 1;
            last = Some(row.device_id.clone());
            if wanted.takes(&row) {
                rows.push(row);
            }
            ControlFlow::Continue(())
        })?;
        Ok(Grid { rows, next })
    }

    /// Returns what became of a device in a run; `None` when it was not in it.
    pub(super) fn fate(&self, record: &RunRecord, device_id: &str) -> Result<Option<Option<Row>>, OpsError> {
        let mut found = None;
        if let Some(run) = self.journal_of(record)? {
            let ids = self.targets(&run)?;
            let Some(at) = ids.find(device_id) else { return Ok(None) };
            let ordinal = u32::try_from(at).expect("a target is bounded by the arena of its ids");
            self.journaled_rows_in(&run, &ids, ordinal..ordinal + 1, &mut |row| found = Some(row))?;
            return Ok(Some(found));
        }
        // Results that keep failures only have nothing else: any other row says that they have all devices.
        let (mut has_all, mut behind) = (false, 0);
        let first = self.shard_with(record, Bound::Included(device_id))?;
        self.published_rows_from(record, (first, Bound::Unbounded), &mut |row| {
            has_all |= row.status != DeviceStatus::Failed;
            behind += u32::from(row.device_id.as_str() > device_id);
            if row.device_id == device_id {
                found = Some(row);
            }
            if found.is_some() || (behind > 0 && has_all) || behind == CHUNK {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        if found.is_some() {
            return Ok(Some(found));
        }
        if has_all {
            return Ok(None);
        }
        // The devices that were meant are in the journal, if anywhere.
        let Some(run) = self.view.registry.journal().find(&record.job, &record.run)? else { return Ok(None) };
        let is_meant = self.targets(&run)?.find(device_id).is_some();
        Ok(is_meant.then_some(None))
    }

    /// Calls `visit` for the devices of a run from an id on, sorted, until it breaks.
    fn rows_from(
        &self,
        record: &RunRecord,
        from: Bound<&str>,
        visit: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), OpsError> {
        if let Some(run) = self.journal_of(record)? {
            let ids = self.targets(&run)?;
            let mut start = first_from(&ids, from);
            while start < run.total {
                let end = run.total.min(start + CHUNK);
                let mut flow = ControlFlow::Continue(());
                self.journaled_rows_in(&run, &ids, Range { start, end }, &mut |row| {
                    if flow.is_continue() {
                        flow = visit(row);
                    }
                })?;
                if flow.is_break() {
                    return Ok(());
                }
                start = end;
            }
            return Ok(());
        }
        let first = self.shard_with(record, from)?;
        self.published_rows_from(record, (first, from), visit)
    }

    /// Returns the number of the shard that has the first device from an id on: shards are sorted among each other.
    fn shard_with(&self, record: &RunRecord, from: Bound<&str>) -> Result<u32, OpsError> {
        let (Bound::Included(id) | Bound::Excluded(id)) = from else { return Ok(1) };
        let (mut low, mut high) = (1, record.published.shards);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            let first = self.first_of_shard(record, middle)?;
            if first.is_some_and(|first| *first <= *id) { low = middle } else { high = middle - 1 }
        }
        Ok(low)
    }
}

/// Returns the place of the first device from an id on.
fn first_from(ids: &DeviceIds, from: Bound<&str>) -> u32 {
    let place = first_place(ids.len(), |at| match from {
        Bound::Unbounded => true,
        Bound::Included(least) => ids.get(at) >= least,
        Bound::Excluded(before) => ids.get(at) > before,
    });
    u32::try_from(place).expect("a target is bounded by the arena of its ids")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_device_is_found_at_any_depth() {
        let mut ids = DeviceIds::new();
        (0..100).for_each(|n| ids.push(&format!("d-{n:03}")));
        let check = |from: Bound<&str>, expect: u32| assert_eq!(first_from(&ids, from), expect, "{from:?}");
        check(Bound::Unbounded, 0);
        check(Bound::Included("d-050"), 50);
        check(Bound::Excluded("d-050"), 51);
        check(Bound::Excluded("d-0500"), 51);
        check(Bound::Included("a"), 0);
        check(Bound::Excluded("d-099"), 100);
    }
}
