//! Device imports: a file is staged in temporary tables, and laid over the devices (for a plan) or written (by an
//! apply). The tables are of one connection: when it is lost, the caller begins again.

mod binary;
mod keys;
mod staged;
mod tables;

use std::io::Read;

use super::super::staging::{Failure, Stager, each_id, note_gone, removal};
use super::super::{ImportFailure, ImportSpec, RegistryError, StagedImport};
use super::PostgresStore;
use super::connection::Connection;
use super::fault::Fault;
use super::json::{read_text, stored_text};
use super::rows::first_column;
use crate::model::fleet::ImportFormat;
use crate::model::id::DeviceId;
use crate::model::text::sanitize_line;
use staged::{forget_staged, id_of, refuse_all, reject_refused, stage_removed, take_back, write_staged};
use tables::Tables;

/// The temporary tables of staged imports and the views over them.
const STAGE: &str = include_str!("import/stage.sql");
/// Begins to stage: the devices are read as they are at one moment. A session that is set up for reading alone may
/// write its temporary tables all the same, and makes an index on them.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE";
/// Ids that an owner of devices is asked about at once.
const ASKED_AT_ONCE: usize = 2_000;

impl PostgresStore {
    pub(super) fn stage_file(&mut self, spec: &ImportSpec, file: &mut dyn Read) -> Result<StagedImport, ImportFailure> {
        let doing = "stage an import";
        let location = &self.settings.location;
        self.read(doing, |connection| make_tables(connection, location))?;
        let connection = self.connection().map_err(|fault| self.error(doing, fault))?;
        let begun = connection.batch(BEGIN).map_err(Failure::Tables);
        let staged = begun.and_then(|()| stage(&connection, spec, file));
        let ended = connection.batch(if staged.is_ok() { "COMMIT" } else { "ROLLBACK" });
        let staged = staged.map_err(|failure| failure.into_import(|fault| self.error(doing, fault).into()))?;
        ended.map_err(|fault| self.error(doing, fault))?;
        self.has_staged.set(true);
        Ok(staged)
    }

    pub(super) fn unasked_owners(&self) -> Result<Vec<String>, RegistryError> {
        self.read("find devices that move", |connection| {
            if !has_tables(connection)? {
                return Ok(Vec::new());
            }
            let text = "SELECT DISTINCT owner FROM pg_temp.staged_wanted
                WHERE owner NOT IN (SELECT name FROM pg_temp.staged_import) ORDER BY owner";
            let owners = first_column::<String>(&connection.rows(text, &[])?)?;
            Ok(owners.into_iter().map(read_text).collect())
        })
    }

    pub(super) fn ask(&mut self, owner: &str, format: ImportFormat, file: &mut dyn Read) -> Result<(), RegistryError> {
        let connection = self.connection().map_err(|fault| self.error("keep devices", fault))?;
        let kept = connection.transaction(|connection| match keep_owned(connection, owner, format, file) {
            Ok(()) => Ok(()),
            Err(Failure::Tables(fault)) => Err(fault),
            Err(Failure::File(_)) => refuse_all(connection, owner),
        });
        kept.map_err(|fault| self.error("keep devices", fault))
    }

    pub(super) fn settle_import(&mut self, spec: &ImportSpec, staged: &mut StagedImport) -> Result<(), RegistryError> {
        let connection = self.connection().map_err(|fault| self.error("find removed devices", fault))?;
        let settled = connection.transaction(|connection| {
            let import_id = id_of(connection, &spec.name)?;
            reject_refused(connection, import_id, staged)?;
            let removal = removal(spec, staged);
            let gone = stage_removed(connection, (import_id, &spec.name), removal)?;
            note_gone(staged, removal, gone);
            Ok(())
        });
        settled.map_err(|fault| self.error("find removed devices", fault))
    }

    pub(super) fn clear_staged(&mut self) -> Result<(), RegistryError> {
        self.is_overlaid = false;
        self.has_staged.set(false);
        let connection = std::rc::Rc::clone(&self.connection.borrow());
        if connection.is_closed() {
            return Ok(());
        }
        let cleared = has_tables(&connection)
            .and_then(|has_tables| if has_tables { define(&connection, staged::CLEAR) } else { Ok(()) });
        match cleared {
            // Its tables are gone with it.
            Err(fault) if fault.is_lost() => {
                self.forget_connection();
                Ok(())
            }
            cleared => cleared.map_err(|fault| self.error("forget staged imports", fault)),
        }
    }

    pub(super) fn overlay_staged(&mut self) -> Result<(), RegistryError> {
        let has_staged = self.read("lay imports over the devices", has_staged)?;
        self.is_overlaid = has_staged;
        Ok(())
    }

    pub(super) fn applied_imports(&self) -> Result<Vec<(String, String)>, RegistryError> {
        self.read("read what was imported", |connection| {
            let rows = connection.rows("SELECT name, digest FROM import ORDER BY name", &[])?;
            rows.iter().map(|row| Ok((read_text(row.try_get(0)?), row.try_get(1)?))).collect()
        })
    }

    /// Looks whether anything is still staged, once an import is committed. If not, a lost connection loses nothing.
    pub(super) fn note_imported(&mut self) {
        let connection = std::rc::Rc::clone(&self.connection.borrow());
        if has_staged(&connection).is_ok_and(|has_staged| !has_staged) {
            self.has_staged.set(false);
            self.is_overlaid = false;
        }
    }
}

/// Makes the temporary tables, unless this connection has them.
fn make_tables(connection: &Connection, location: &str) -> Result<(), Fault> {
    if has_tables(connection)? {
        return Ok(());
    }
    let text = "SELECT pg_is_in_recovery(), has_database_privilege(current_database(), 'TEMPORARY'),
        current_user::text, current_database()::text";
    let row = connection.one(text, &[])?;
    let unfit = |what, help| Err(RegistryError::Unfit { location: location.to_string(), what, help }.into());
    if row.try_get(0)? {
        return unfit(
            "its server is a standby, and imports are staged in temporary tables, which a standby has not".to_string(),
            "Name the primary server in the URL of the registry.",
        );
    }
    if !row.try_get(1)? {
        let (user, database): (&str, &str) = (row.try_get(2)?, row.try_get(3)?);
        let (user, database) = (sanitize_line(user), sanitize_line(database));
        return unfit(
            format!(
                "the user `{user}` lacks the right TEMPORARY on the database `{database}`, and imports are staged in \
                 temporary tables"
            ),
            "Give it the right with `GRANT TEMPORARY ON DATABASE … TO …`.",
        );
    }
    define(connection, STAGE)
}

/// Changes what temporary tables there are, or empties them, also in a session that is set up for reading alone.
fn define(connection: &Connection, text: &str) -> Result<(), Fault> {
    connection.transaction(|connection| connection.batch(&format!("SET TRANSACTION READ WRITE; {text}")))
}

fn has_tables(connection: &Connection) -> Result<bool, Fault> {
    Ok(connection.one("SELECT to_regclass('pg_temp.fleet') IS NOT NULL", &[])?.try_get(0)?)
}

fn has_staged(connection: &Connection) -> Result<bool, Fault> {
    if !has_tables(connection)? {
        return Ok(false);
    }
    Ok(connection.one("SELECT EXISTS (SELECT 1 FROM pg_temp.staged_import)", &[])?.try_get(0)?)
}

fn stage(connection: &Connection, spec: &ImportSpec, file: &mut dyn Read) -> Result<StagedImport, Failure<Fault>> {
    let stager = Stager::open(spec, file)?;
    let mut tables = Tables::new(connection, spec, stager.has_identities()).map_err(Failure::Tables)?;
    stager.run(&mut tables)
}

fn keep_owned(
    connection: &Connection,
    owner: &str,
    format: ImportFormat,
    file: &mut dyn Read,
) -> Result<(), Failure<Fault>> {
    let mut ids = Vec::new();
    each_id(format, file, |device_id| {
        // What is no id is that of no device.
        if DeviceId::parse(&device_id).is_ok() {
            ids.push(device_id);
        }
        if ids.len() < ASKED_AT_ONCE { Ok(()) } else { take_back(connection, owner, &std::mem::take(&mut ids)) }
    })?;
    take_back(connection, owner, &ids).map_err(Failure::Tables)
}

/// Writes what is staged of one import, notes its digest and fills the outbox.
pub(super) fn apply(
    connection: &Connection,
    spec: &ImportSpec,
    at: jiff::Timestamp,
    outbox: &str,
) -> Result<(), Fault> {
    super::single::note_admissions(connection)?;
    let import_id = id_of(connection, &spec.name)?;
    write_staged(connection, import_id)?;
    forget_staged(connection, import_id)?;
    let text = "INSERT INTO import (name, digest, applied_at) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, applied_at = excluded.applied_at";
    let name = stored_text(&spec.name);
    connection.execute(text, &[&name.as_ref(), &spec.digest.to_string(), &at.to_string()])?;
    super::outbox::put(connection, &spec.name, outbox)
}
