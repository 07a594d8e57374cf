//! Device imports: a file is staged beside the devices, compared with them, and laid over them (for a plan) or written
//! (by an apply). Rows stream through; a file of any length needs the same memory, but for eight bytes an id.
//!
//! The file owns the values that it sets: an empty cell of a `TAG.` or `CLOUD.` column removes the value, and so does a
//! `null` of a JSON line. All other values of a device stay as they are.
//!
//! A device belongs to one import. It can move: a row may take a device of another declared import when the file of
//! that import no longer has it. Staging notes such rows; [`Imports::settle`](super::super::Imports::settle) decides
//! about them when all files are known.

mod alike;
mod staged;
mod stager;
mod watched;

use std::cell::RefCell;
use std::io::Read;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, Transaction, params};

use super::super::file::{Reader, RowEntry};
use super::super::{ImportFailure, ImportSpec, RegistryError, RowError, StagedImport};
use super::{SqliteStore, failure};
use crate::model::fleet::{ImportFormat, Removed};
use staged::{forget_staged, reject_refused, stage_removed, take_back, write_staged};
use stager::Stager;

/// The temporary tables of staged imports and the views over them.
const STAGE: &str = include_str!("import/stage.sql");

/// What a staged row does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RowKind {
    Unchanged = 0,
    Updated = 1,
    New = 2,
    Deleted = 3,
}

impl RowKind {
    /// Returns the kind of a number of the tables.
    fn of(number: u8) -> RowKind {
        match number {
            1 => RowKind::Updated,
            2 => RowKind::New,
            3 => RowKind::Deleted,
            _ => RowKind::Unchanged,
        }
    }
}

impl SqliteStore {
    pub(super) fn stage_file(&mut self, spec: &ImportSpec, file: &mut dyn Read) -> Result<StagedImport, ImportFailure> {
        let location = self.location.clone();
        let fail = |e| failure(&location, "stage an import", e);
        self.connection.execute_batch(STAGE).map_err(fail)?;
        // The transaction writes the temporary database only: the registry's file is just read.
        let transaction = self.connection.transaction().map_err(fail)?;
        let staged = Stager::new(&transaction, spec, &location)?.run(file)?;
        transaction.commit().map_err(fail)?;
        Ok(staged)
    }

    pub(super) fn unasked_owners(&self) -> Result<Vec<String>, RegistryError> {
        let read = || {
            self.connection.execute_batch(STAGE)?;
            let mut look = self.connection.prepare(
                "SELECT DISTINCT owner FROM temp.staged_wanted
                 WHERE owner NOT IN (SELECT name FROM temp.staged_import) ORDER BY owner",
            )?;
            look.query_map([], |row| row.get(0))?.collect::<Result<Vec<_>, _>>()
        };
        read().map_err(|e| self.error("find devices that move", e))
    }

    pub(super) fn ask(&mut self, owner: &str, format: ImportFormat, file: &mut dyn Read) -> Result<(), RegistryError> {
        match self.keep_owned(owner, format, file) {
            Ok(()) => Ok(()),
            Err(ImportFailure::Registry(error)) => Err(error),
            Err(ImportFailure::File { .. }) => {
                let text = "UPDATE temp.staged_wanted SET is_refused = 1 WHERE owner = ?1";
                self.connection.execute(text, [owner]).map(drop).map_err(|e| self.error("keep devices", e))
            }
        }
    }

    fn keep_owned(&self, owner: &str, format: ImportFormat, file: &mut dyn Read) -> Result<(), ImportFailure> {
        let mut source = Reader::open(format, file)?;
        while let Some(RowEntry { row, .. }) = source.next()? {
            let device_id = match row {
                Ok(row) => row.device_id,
                Err(rejected) => rejected.device_id,
            };
            take_back(&self.connection, &device_id, owner).map_err(|e| self.error("keep devices", e))?;
        }
        Ok(())
    }

    pub(super) fn settle_import(&mut self, spec: &ImportSpec, staged: &mut StagedImport) -> Result<(), RegistryError> {
        let location = &self.location;
        let fail = |e| failure(location, "find removed devices", e);
        let transaction = self.connection.transaction().map_err(fail)?;
        let text = "SELECT import_id FROM temp.staged_import WHERE name = ?1";
        let import_id: i64 = transaction.query_row(text, [&spec.name], |row| row.get(0)).map_err(fail)?;
        reject_refused(&transaction, import_id, staged).map_err(fail)?;
        let removal = if staged.rejected > 0 { Removed::Keep } else { spec.removed };
        let gone = stage_removed(&transaction, (import_id, &spec.name), removal).map_err(fail)?;
        match removal {
            Removed::Keep => staged.kept = gone,
            Removed::Block | Removed::Delete => staged.removed = gone,
        }
        transaction.commit().map_err(fail)
    }

    pub(super) fn clear_staged(&mut self) -> Result<(), RegistryError> {
        self.is_overlaid = false;
        let cleared = self.connection.execute_batch(STAGE).and_then(|()| self.connection.execute_batch(staged::CLEAR));
        cleared.map_err(|e| self.error("forget staged imports", e))
    }

    pub(super) fn overlay_staged(&mut self) -> Result<(), RegistryError> {
        self.connection.execute_batch(STAGE).map_err(|e| self.error("lay imports over the devices", e))?;
        self.is_overlaid = true;
        Ok(())
    }

    pub(super) fn applied_imports(&self) -> Result<Vec<(String, String)>, RegistryError> {
        let read = || {
            let mut statement = self.connection.prepare_cached("SELECT name, digest FROM import ORDER BY name")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<Vec<_>, _>>()
        };
        read().map_err(|e| self.error("read what was imported", e))
    }
}

/// Writes what is staged of one import, notes its digest and fills the outbox.
pub(super) fn apply(
    transaction: &Transaction<'_>,
    spec: &ImportSpec,
    at: jiff::Timestamp,
    outbox: &str,
) -> rusqlite::Result<()> {
    let name = spec.name.as_str();
    write_staged(transaction, name)?;
    forget_staged(transaction, name)?;
    transaction.execute(
        "INSERT INTO import (name, digest, applied_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, applied_at = excluded.applied_at",
        params![name, spec.digest.to_string(), at.to_string()],
    )?;
    super::outbox::put(transaction, name, outbox)
}

/// Registers `fleetform_new_key()`: 32 bytes from the operating system's source of randomness.
pub(super) fn register_functions(connection: &Connection) -> rusqlite::Result<()> {
    let pool = RefCell::new(Vec::new());
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("fleetform_new_key", 0, flags, move |_| {
        let mut pool = pool.try_borrow_mut().map_err(|e| rusqlite::Error::UserFunctionError(Box::new(e)))?;
        if pool.len() < 32 {
            pool.resize(4096, 0);
            getrandom::fill(&mut pool).map_err(|e| rusqlite::Error::UserFunctionError(e.to_string().into()))?;
        }
        let rest = pool.len() - 32;
        Ok(pool.split_off(rest))
    })
}
