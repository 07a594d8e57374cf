//! Device imports: a file is staged beside the devices, compared with them, and laid over them (for a plan) or written
//! (by an apply). Rows stream through; a file of any length needs the same memory, but for eight bytes an id.
//!
//! Two forms, told by the name of the file. The CSV of IoT Central: its bulk import (`IOTC_DEVICEID`, `IOTC_DEVICENAME`) and its export
//! (`IOTC_SASKEY_…`, `IOTC_X509THUMBPRINT_…`), with a byte-order mark and CRLF as its published sample has, and our columns
//! `TAG.<path>` and `CLOUD.<path>`. And the JSON lines of IoT Hub's export (`hub`). The file owns what it says: an empty cell of a
//! `TAG.` or `CLOUD.` column removes the value, as a `null` of a JSON line does. Everything else of a device is left alone.
//!
//! A device is of one import. It can move to another: a row may have a device of another declared import when the file of that one
//! has it no more. Staging notes such rows; [`Registry::settle_staged`] decides about them when all files are known.

mod alike;
mod hub;
mod lines;
mod record;
mod row;
mod staged;
mod stager;
mod table;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Read;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, params};

use super::{Registry, RegistryError};
use crate::model::digest::Digest;
use crate::model::fleet::{ImportFormat, Removed};
pub use alike::Alike;
use row::{Entry, Source};
use staged::{forget_staged, reject_refused, stage_removed, take_back, write_staged};
use stager::Stager;

/// What an import says about all of its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportSpec {
    pub name: String,
    pub format: ImportFormat,
    pub template: Option<String>,
    /// The path of an organization.
    pub organization: Option<String>,
    pub simulated: bool,
    pub removed: Removed,
    /// The other imports that are declared: their devices are not this one's to take while their files have them. A device of an import
    /// that is no longer declared is.
    pub others: BTreeSet<String>,
    /// Of the spec and of the content of the file.
    pub digest: Digest,
}

/// What staging a file found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StagedImport {
    pub new: u64,
    pub updated: u64,
    /// Of the updated ones.
    pub renamed: u64,
    pub unchanged: u64,
    /// Rows that delete their device (`importMode`).
    pub deleted: u64,
    /// Devices of this import whose row left the file, and that are blocked or deleted for it.
    pub removed: u64,
    /// Devices whose row left the file and that stay: as the import says, or because rows were rejected and nobody knows what they were.
    pub kept: u64,
    pub rejected: u64,
    /// Without blank lines and module identities.
    pub rows: u64,
    /// The first rejected rows, at most [`IMPORT_ERRORS_MAX`](crate::model::limits::IMPORT_ERRORS_MAX), in file order.
    pub errors: Vec<RowError>,
    /// The file has columns with keys in it, or lines with keys.
    pub has_keys: bool,
    /// Lines of module identities, which are passed over.
    pub modules: u64,
    /// Ids that differ only in the case of letters; `None` when there are none.
    pub alike: Option<Alike>,
    /// New devices whose ids differ only so from those of devices that are in the registry; `None` when there are none.
    pub alike_registered: Option<Alike>,
    /// For each column of cloud properties with text in it, the first of it; in the order in which they were met.
    pub cloud_cells: Vec<CloudCell>,
}

/// A cell of a column of cloud properties: what the column is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudCell {
    /// The keys of the property, at least one.
    pub path: Vec<String>,
    /// The line of the file on which its row starts, from 1.
    pub line: u64,
    /// As in the file: untrusted, never empty.
    pub text: String,
}

/// A row that was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// The line of the file on which the row starts, from 1.
    pub line: u64,
    /// As in the file: untrusted.
    pub device_id: String,
    pub message: String,
}

/// Why a file cannot be staged at all.
#[derive(Debug)]
pub enum ImportFailure {
    Registry(RegistryError),
    /// The file itself: its header, or bytes that are not of its form.
    File {
        line: u64,
        message: String,
        help: Option<String>,
    },
}

impl From<RegistryError> for ImportFailure {
    fn from(error: RegistryError) -> ImportFailure {
        ImportFailure::Registry(error)
    }
}

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

impl Registry {
    /// Stages a file: compares each row with the registry and keeps the result beside it until [`Registry::apply_staged`] or the end
    /// of the connection. Nothing of the registry's file changes. What left the file is not known yet: see
    /// [`Registry::settle_staged`].
    ///
    /// # Errors
    /// The file is not of its form, or the registry fails.
    pub fn stage_import(&mut self, spec: &ImportSpec, file: impl Read) -> Result<StagedImport, ImportFailure> {
        let path = self.path.clone();
        let fail = |e| RegistryError::from_sqlite(&path, "stage an import", e);
        self.connection.execute_batch(STAGE).map_err(fail)?;
        // A transaction of the temporary database only: the registry's file is read.
        let transaction = self.connection.transaction().map_err(fail)?;
        let staged = Stager::new(&transaction, spec, &path)?.run(file)?;
        transaction.commit().map_err(fail)?;
        Ok(staged)
    }

    /// Returns the imports that are not staged and that have devices which a staged file wants: [`Registry::ask_owner`] must be given
    /// their files.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn owners_to_ask(&self) -> Result<Vec<String>, RegistryError> {
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

    /// Keeps the devices that an import still has in its file from those that want them. A file that cannot be used keeps them all.
    ///
    /// # Errors
    /// The registry fails.
    pub fn ask_owner(&mut self, owner: &str, format: ImportFormat, file: impl Read) -> Result<(), RegistryError> {
        match self.keep_owned(owner, format, file) {
            Ok(()) => Ok(()),
            Err(ImportFailure::Registry(error)) => Err(error),
            Err(ImportFailure::File { .. }) => {
                let text = "UPDATE temp.staged_wanted SET is_refused = 1 WHERE owner = ?1";
                self.connection.execute(text, [owner]).map(drop).map_err(|e| self.error("keep devices", e))
            }
        }
    }

    fn keep_owned(&self, owner: &str, format: ImportFormat, file: impl Read) -> Result<(), ImportFailure> {
        let mut source = Source::open(format, file)?;
        while let Some(Entry { row, .. }) = source.next()? {
            let device_id = match row {
                Ok(row) => row.device_id,
                Err(rejected) => rejected.device_id,
            };
            take_back(&self.connection, &device_id, owner).map_err(|e| self.error("keep devices", e))?;
        }
        Ok(())
    }

    /// Settles what a file alone cannot tell, when all files are staged and all owners asked: rows whose devices another import has
    /// still are rejected, and devices that left this file without moving to another are kept, blocked or deleted. When a row was
    /// rejected nobody knows which device it was, and all are kept.
    ///
    /// # Errors
    /// The registry fails.
    pub fn settle_staged(&mut self, spec: &ImportSpec, staged: &mut StagedImport) -> Result<(), RegistryError> {
        let path = self.path.clone();
        let fail = |e| RegistryError::from_sqlite(&path, "find removed devices", e);
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

    /// Forgets what is staged: the next plan stages anew.
    ///
    /// # Errors
    /// The temporary tables cannot be emptied.
    pub fn clear_staged(&mut self) -> Result<(), RegistryError> {
        self.is_overlaid = false;
        let cleared = self.connection.execute_batch(STAGE).and_then(|()| self.connection.execute_batch(staged::CLEAR));
        cleared.map_err(|e| self.error("forget staged imports", e))
    }

    /// Lays all staged imports over the devices for the queries of this connection: what a plan sees.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn overlay_staged(&mut self) -> Result<(), RegistryError> {
        self.connection.execute_batch(STAGE).map_err(|e| self.error("lay imports over the devices", e))?;
        self.is_overlaid = true;
        Ok(())
    }

    /// Writes what is staged of one import and notes its digest, in one transaction.
    ///
    /// # Errors
    /// The registry cannot be written; then nothing of the import was.
    pub fn apply_staged(&mut self, spec: &ImportSpec, now: jiff::Timestamp, letter: &str) -> Result<(), RegistryError> {
        let name = spec.name.as_str();
        self.in_transaction("import devices", |transaction| {
            write_staged(transaction, name)?;
            forget_staged(transaction, name)?;
            transaction.execute(
                "INSERT INTO import (name, digest, applied_at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, applied_at = excluded.applied_at",
                params![name, spec.digest.to_string(), now.to_string()],
            )?;
            super::outbox::put(transaction, name, letter)?;
            Ok(())
        })
    }

    /// Returns the digest of the last applied state of each import.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn applied_imports(&self) -> Result<Vec<(String, String)>, RegistryError> {
        let read = || {
            let mut statement = self.connection.prepare_cached("SELECT name, digest FROM import ORDER BY name")?;
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<Vec<_>, _>>()
        };
        read().map_err(|e| self.error("read what was imported", e))
    }
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
