//! The published rows of a run beside those of the journal, one shard in memory at a time.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::vec::IntoIter;

use super::super::OpsError;
use crate::prepare::{HistoryError, published_row};
use crate::registry::{Registry, RememberedRun};
use crate::repo::{BlobId, ResultsBranch};
use crate::results::{Row, read_shard};

/// How rows differ.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Differences {
    /// How many rows of the journal are missing on the branch, or are others there.
    pub count: u64,
    /// How many rows of the branch the journal does not have.
    pub extra: u64,
    /// The first device of them.
    pub first: String,
}

impl Differences {
    fn note(&mut self, device_id: &str, is_extra: bool) {
        if self.count + self.extra == 0 {
            self.first = device_id.to_string();
        }
        let counted = if is_extra { &mut self.extra } else { &mut self.count };
        *counted += 1;
    }
}

/// Compares the shards of a run on the branch with what the journal says they have. Names do not count: they are those
/// of the time at which a shard was written.
///
/// # Errors
/// The registry or a shard cannot be read.
pub(super) fn compare(
    registry: &Registry,
    run: &RememberedRun,
    (branch, entries): (&ResultsBranch<'_>, &BTreeMap<String, BlobId>),
) -> Result<Differences, OpsError> {
    let mut shards = Shards::of(branch, entries, &format!("{}/devices-", run.results_folder()));
    let (mut found, mut failure) = (Differences::default(), None);
    registry.branch_copy().each_published(run, &mut |row, batch| {
        if failure.is_some() {
            return;
        }
        let expected = published_row(row, batch);
        if let Err(error) = shards.meet(&expected, &mut found) {
            failure = Some(error);
        }
    })?;
    failure.map_or(Ok(()), Err)?;
    while let Some(row) = shards.next()? {
        found.note(&row.device_id, true);
    }
    Ok(found)
}

/// The rows of shards, in order.
struct Shards<'a> {
    branch: &'a ResultsBranch<'a>,
    left: IntoIter<(&'a String, BlobId)>,
    rows: IntoIter<Row>,
    /// A row that was looked at, and is not past yet.
    ahead: Option<Row>,
}

impl<'a> Shards<'a> {
    fn of(branch: &'a ResultsBranch<'a>, entries: &'a BTreeMap<String, BlobId>, prefix: &str) -> Shards<'a> {
        let after = entries.range(prefix.to_string()..).take_while(|(path, _)| path.starts_with(prefix));
        let left: Vec<(&String, BlobId)> = after.map(|(path, blob)| (path, *blob)).collect();
        Shards { branch, left: left.into_iter(), rows: Vec::new().into_iter(), ahead: None }
    }

    fn next(&mut self) -> Result<Option<Row>, OpsError> {
        if let Some(row) = self.ahead.take() {
            return Ok(Some(row));
        }
        loop {
            if let Some(row) = self.rows.next() {
                return Ok(Some(row));
            }
            let Some((path, blob)) = self.left.next() else { return Ok(None) };
            let (bytes, mut rows) = (self.branch.read_blob(blob)?, Vec::new());
            read_shard(&bytes, |row| rows.push(row)).map_err(|what| HistoryError::Malformed {
                branch: self.branch.name().to_string(),
                path: path.clone(),
                what,
            })?;
            self.rows = rows.into_iter();
        }
    }

    /// Goes to where a row of the journal should be.
    fn meet(&mut self, expected: &Row, found: &mut Differences) -> Result<(), OpsError> {
        while let Some(row) = self.next()? {
            match row.device_id.cmp(&expected.device_id) {
                Ordering::Less => found.note(&row.device_id, true),
                Ordering::Equal => {
                    if (Row { device_name: String::new(), ..row })
                        != (Row { device_name: String::new(), ..expected.clone() })
                    {
                        found.note(&expected.device_id, false);
                    }
                    return Ok(());
                }
                Ordering::Greater => {
                    self.ahead = Some(row);
                    break;
                }
            }
        }
        found.note(&expected.device_id, false);
        Ok(())
    }
}
