//! The fence: whoever works on the registry in the name of a lease writes only while no later lease has been seen here.
//!
//! 1. A works with epoch 4 and is suspended, say with its machine.
//! 2. Its lease runs out. B takes it over with epoch 5 and notes that here.
//! 3. A wakes up and writes: every transaction of its begins with a look at the epoch, finds 5 and is refused.

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::{Registry, RegistryError};

/// The key in `meta`.
const KEY: &str = "epoch";

/// Why a transaction was not begun.
#[derive(Debug, thiserror::Error)]
#[error("a later lease was noted")]
pub(super) struct Fenced;

impl Registry {
    /// Works in the name of a lease from here on: notes its epoch, and writes nothing any more once a later one is noted.
    ///
    /// # Errors
    /// [`RegistryError::Fenced`] when a later one is noted already; the registry cannot be written.
    pub fn enter_epoch(&mut self, epoch: u64) -> Result<(), RegistryError> {
        self.epoch = None;
        let path = self.path.clone();
        let noted = self.in_transaction("note the lease", |transaction| {
            let noted = noted_epoch(transaction)?;
            if noted > epoch {
                return Ok(false);
            }
            transaction.execute(
                "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                rusqlite::params![KEY, epoch.to_string()],
            )?;
            Ok(true)
        })?;
        if !noted {
            return Err(RegistryError::Fenced { path });
        }
        self.epoch = Some(epoch);
        Ok(())
    }
}

impl Registry {
    /// Returns the latest epoch that was noted here; 0 when none was.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn noted_epoch(&self) -> Result<u64, RegistryError> {
        noted_epoch(&self.connection).map_err(|e| self.error("read the lease", e))
    }
}

/// Begins a transaction that writes, unless it comes too late.
pub(super) fn begin(connection: &mut Connection, epoch: Option<u64>) -> rusqlite::Result<Transaction<'_>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some(epoch) = epoch
        && noted_epoch(&transaction)? > epoch
    {
        return Err(rusqlite::Error::ToSqlConversionFailure(Box::new(Fenced)));
    }
    Ok(transaction)
}

/// Returns true for the failure of [`begin`] that says that a later lease was noted.
pub(super) fn is_fenced(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::ToSqlConversionFailure(inner) if inner.is::<Fenced>())
}

fn noted_epoch(connection: &Connection) -> rusqlite::Result<u64> {
    let text = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?1";
    Ok(connection.prepare_cached(text)?.query_row([KEY], |row| row.get(0)).optional()?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writes_of_an_old_lease_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.db");
        let (mut old, mut new) = (Registry::open(&path, "acme").unwrap(), Registry::open(&path, "acme").unwrap());
        old.enter_epoch(4).unwrap();
        old.note_results_tip("a").unwrap();
        new.enter_epoch(5).unwrap();
        let files =
            || std::iter::once(Ok(crate::registry::KeptFile { path: "a".into(), content: vec![1], blob_id: None }));
        for refused in [
            old.note_results_tip("b"),
            old.set_blocked(&["d-1".to_string()], true).map(drop),
            old.keep_files::<RegistryError>(files()),
            old.close_run(1),
            old.enter_epoch(4),
        ] {
            assert!(matches!(refused, Err(RegistryError::Fenced { .. })), "{refused:?}");
        }
        new.note_results_tip("c").unwrap();
        new.keep_files::<RegistryError>(files()).unwrap();
        assert_eq!(new.results_tip().unwrap().as_deref(), Some("c"));
    }
}
