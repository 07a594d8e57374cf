//! Device imports: a file is staged in temporary tables, and laid over the devices (for a plan) or written (by an
//! apply).

mod staged;
mod tables;

use std::cell::RefCell;
use std::io::Read;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, Transaction, params};

use super::super::staging::{Stager, each_id, note_gone, removal};
use super::super::{ImportFailure, ImportSpec, RegistryError, StagedImport};
use super::{SqliteStore, failure};
use crate::model::fleet::ImportFormat;
use staged::{forget_staged, reject_refused, stage_removed, take_back, write_staged};
use tables::Tables;

/// The temporary tables of staged imports and the views over them.
const STAGE: &str = include_str!("import/stage.sql");

impl SqliteStore {
    pub(super) fn stage_file(&mut self, spec: &ImportSpec, file: &mut dyn Read) -> Result<StagedImport, ImportFailure> {
        let location = self.location.clone();
        let fail = |e| failure(&location, "stage an import", e);
        // What is staged belongs to who staged it.
        self.connection.close_afterwards();
        self.connection.execute_batch(STAGE).map_err(fail)?;
        // The transaction writes the temporary database only: the registry's file is just read.
        let transaction = self.connection.transaction().map_err(fail)?;
        let stager = Stager::open(spec, file)?;
        let mut tables = Tables::new(&transaction, spec, stager.has_identities()).map_err(fail)?;
        let staged = stager.run(&mut tables).map_err(|failure| failure.into_import(|e| fail(e).into()))?;
        drop(tables);
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
        let kept = each_id(format, file, |device_id| take_back(&self.connection, &device_id, owner).map(drop));
        kept.map_err(|failure| failure.into_import(|e| self.error("keep devices", e).into()))
    }

    pub(super) fn settle_import(&mut self, spec: &ImportSpec, staged: &mut StagedImport) -> Result<(), RegistryError> {
        let location = &self.location;
        let fail = |e| failure(location, "find removed devices", e);
        let transaction = self.connection.transaction().map_err(fail)?;
        let text = "SELECT import_id FROM temp.staged_import WHERE name = ?1";
        let import_id: i64 = transaction.query_row(text, [&spec.name], |row| row.get(0)).map_err(fail)?;
        reject_refused(&transaction, import_id, staged).map_err(fail)?;
        let removal = removal(spec, staged);
        let gone = stage_removed(&transaction, (import_id, &spec.name), removal).map_err(fail)?;
        note_gone(staged, removal, gone);
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
    super::single::note_admissions(transaction)?;
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
