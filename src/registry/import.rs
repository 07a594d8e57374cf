//! Device imports: a CSV file is staged beside the devices, compared with them, and laid over them (for a plan) or written
//! (by an apply). Rows stream through; a file of any length needs the same memory.
//!
//! Format: the bulk import of IoT Central (`IOTC_DEVICEID`, `IOTC_DEVICENAME`, and as its export has them
//! `IOTC_SASKEY_PRIMARY` and `IOTC_SASKEY_SECONDARY`), with a byte-order mark and CRLF as its published sample has,
//! and our columns `TAG.<path>` and `CLOUD.<path>`. The file owns what it has a column for: an empty cell of a `TAG.` or `CLOUD.`
//! column removes the value. Everything else of a device is left alone.

mod record;
mod row;
mod staged;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::Read;

use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, OptionalExtension, Statement, params};
use serde_json::{Map, Value};

use super::{Registry, RegistryError};
use crate::model::digest::Digest;
use crate::model::fleet::Removed;
use crate::model::limits;
use crate::model::patch::{Section, violations};
use record::Records;
use row::{Column, Row, column_of, parse_row};
use staged::{forget_staged, stage_removed};

/// What an import says about all of its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportSpec {
    pub name: String,
    pub template: Option<String>,
    /// The path of an organization.
    pub organization: Option<String>,
    pub simulated: bool,
    pub removed: Removed,
    /// The other imports that are declared: their devices are not this one's to take. A device of an import that is no longer declared is.
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
    /// Devices of this import whose row left the file, and that are blocked or deleted for it.
    pub removed: u64,
    /// Devices whose row left the file and that stay: as the import says, or because rows were rejected and nobody knows what they were.
    pub kept: u64,
    pub rejected: u64,
    pub rows: u64,
    /// The first rejected rows, at most [`limits::IMPORT_ERRORS_MAX`], in file order.
    pub errors: Vec<RowError>,
    /// The file has columns with keys in it.
    pub has_keys: bool,
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
    /// The file itself: its header, or bytes that are no CSV.
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
}

impl Registry {
    /// Stages a file: compares each row with the registry and keeps the result beside it until [`Registry::apply_staged`] or the end
    /// of the connection. Nothing of the registry's file changes.
    ///
    /// # Errors
    /// The file is no CSV with an `IOTC_DEVICEID` column, or the registry fails.
    pub fn stage_import(&mut self, spec: &ImportSpec, file: impl Read) -> Result<StagedImport, ImportFailure> {
        let fail = |e| RegistryError::from_sqlite(&self.path, "stage an import", e);
        self.connection.execute_batch(STAGE).map_err(fail)?;
        let path = self.path.clone();
        // A transaction of the temporary database only: the registry's file is read.
        let transaction = self.connection.transaction().map_err(fail)?;
        let mut staged = Stager::new(&transaction, spec, &path)?.run(file)?;
        let removal = if staged.rejected > 0 { Removed::Keep } else { spec.removed };
        let gone = stage_removed(&transaction, &spec.name, removal)
            .map_err(|e| RegistryError::from_sqlite(&path, "find removed devices", e))?;
        match removal {
            Removed::Keep => staged.kept = gone,
            Removed::Block | Removed::Delete => staged.removed = gone,
        }
        transaction.commit().map_err(|e| RegistryError::from_sqlite(&path, "stage an import", e))?;
        Ok(staged)
    }

    /// Forgets what is staged: the next plan stages anew.
    ///
    /// # Errors
    /// The temporary tables cannot be emptied.
    pub fn clear_staged(&mut self) -> Result<(), RegistryError> {
        self.is_overlaid = false;
        let clear = "DELETE FROM temp.staged; DELETE FROM temp.staged_import; DELETE FROM temp.staged_rejected;
                     DELETE FROM temp.staged_removed;";
        let cleared = self.connection.execute_batch(STAGE).and_then(|()| self.connection.execute_batch(clear));
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
            transaction.execute("INSERT INTO main.device SELECT * FROM temp.staged_new WHERE import = ?1", [name])?;
            transaction.execute(
                "INSERT INTO main.device_key (device_id, primary_key, secondary_key)
                 SELECT s.device_id, coalesce(s.primary_key, fleetform_new_key()),
                        coalesce(s.secondary_key, fleetform_new_key())
                 FROM temp.staged AS s CROSS JOIN temp.staged_import AS i ON i.import_id = s.import_id
                 WHERE i.name = ?1 AND s.kind = 2
                 ON CONFLICT (device_id) DO NOTHING",
                [name],
            )?;
            transaction.execute(
                "INSERT OR REPLACE INTO main.device SELECT * FROM temp.staged_updated WHERE import = ?1",
                [name],
            )?;
            for removal in [
                "UPDATE main.device SET blocked = 1 WHERE device_id IN
                 (SELECT device_id FROM temp.staged_removed WHERE policy = 'block') AND import = ?1",
                "DELETE FROM main.device_key WHERE device_id IN
                 (SELECT r.device_id FROM temp.staged_removed AS r JOIN main.device AS d USING (device_id)
                  WHERE r.policy = 'delete' AND d.import = ?1)",
                "DELETE FROM main.device WHERE device_id IN
                 (SELECT device_id FROM temp.staged_removed WHERE policy = 'delete') AND import = ?1",
            ] {
                transaction.execute(removal, [name])?;
            }
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

struct Stager<'a> {
    connection: &'a Connection,
    spec: &'a ImportSpec,
    path: &'a std::path::Path,
    /// `None` when the registry has no device, so that there is nothing to compare with.
    look: Option<Statement<'a>>,
    insert: Statement<'a>,
    import_id: i64,
    found: StagedImport,
}

const LOOK: &str = "SELECT device_name, template, organization, simulated, tags, cloud, import, state
    FROM main.device WHERE device_id = ?1";
const INSERT: &str = "INSERT INTO temp.staged VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
    ON CONFLICT (device_id) DO NOTHING";

impl<'a> Stager<'a> {
    fn new(
        connection: &'a Connection,
        spec: &'a ImportSpec,
        path: &'a std::path::Path,
    ) -> Result<Stager<'a>, ImportFailure> {
        let prepare = || {
            connection.execute(
                "INSERT INTO temp.staged_import (name, template, organization, simulated) VALUES (?1, ?2, ?3, ?4)",
                params![spec.name, spec.template, spec.organization, spec.simulated],
            )?;
            let has_devices: bool =
                connection.query_row("SELECT EXISTS (SELECT 1 FROM main.device)", [], |row| row.get(0))?;
            Ok(Stager {
                connection,
                spec,
                path,
                look: if has_devices { Some(connection.prepare(LOOK)?) } else { None },
                insert: connection.prepare(INSERT)?,
                import_id: connection.last_insert_rowid(),
                found: StagedImport::default(),
            })
        };
        prepare().map_err(|e| RegistryError::from_sqlite(path, "stage an import", e).into())
    }

    fn run(mut self, file: impl Read) -> Result<StagedImport, ImportFailure> {
        let mut records = Records::new(file);
        let mut record = csv::ByteRecord::new();
        let Some(line) = records.read(&mut record)? else {
            let help = Some("Its first line must name the columns, with IOTC_DEVICEID among them.".to_string());
            return Err(ImportFailure::File { line: 1, message: "the file is empty".to_string(), help });
        };
        let columns = self.header(&record, line)?;
        while let Some(line) = records.read(&mut record)? {
            self.found.rows += 1;
            if let Err(message) = self.row(&columns, &record)? {
                self.reject(&columns, &record, line, message)
                    .map_err(|e| RegistryError::from_sqlite(self.path, "stage an import", e))?;
            }
        }
        Ok(self.found)
    }

    fn header(&mut self, record: &csv::ByteRecord, line: u64) -> Result<Vec<Column>, ImportFailure> {
        let fail = |message: String, help: Option<String>| Err(ImportFailure::File { line, message, help });
        let mut columns = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for (at, name) in record.iter().enumerate() {
            let name = if at == 0 { name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name) } else { name };
            let Ok(name) = std::str::from_utf8(name) else {
                return fail(format!("the name of column {} is not UTF-8", at + 1), None);
            };
            let name = name.trim();
            if !seen.insert(name.to_string()) {
                return fail(format!("the column `{}` is there twice", crate::model::text::sanitize(name)), None);
            }
            match column_of(name) {
                Ok(column) => columns.push(column),
                Err((message, help)) => return fail(message, help),
            }
        }
        self.found.has_keys = columns.iter().any(|c| matches!(c, Column::PrimaryKey | Column::SecondaryKey));
        if !columns.iter().any(|column| matches!(column, Column::Id)) {
            let help = Some("Its first line must name the columns, with IOTC_DEVICEID among them.".to_string());
            return fail("the file has no column `IOTC_DEVICEID`".to_string(), help);
        }
        Ok(columns)
    }

    fn reject(
        &mut self,
        columns: &[Column],
        record: &csv::ByteRecord,
        line: u64,
        message: String,
    ) -> rusqlite::Result<()> {
        self.found.rejected += 1;
        let at = columns.iter().position(|column| matches!(column, Column::Id));
        let id = at.and_then(|at| record.get(at)).map(String::from_utf8_lossy).unwrap_or_default();
        let id = crate::model::text::shorten(&id, limits::DEVICE_ID_CHARS_MAX).into_owned();
        let mut note = self.connection.prepare_cached("INSERT OR IGNORE INTO temp.staged_rejected VALUES (?1)")?;
        note.execute([&id])?;
        if self.found.errors.len() < limits::IMPORT_ERRORS_MAX {
            self.found.errors.push(RowError { line, device_id: id, message });
        }
        Ok(())
    }

    /// Stages one row; the inner error says why it is rejected.
    fn row(&mut self, columns: &[Column], record: &csv::ByteRecord) -> Result<Result<(), String>, ImportFailure> {
        match parse_row(columns, record) {
            Ok(row) => {
                let staged = self.stage(&row);
                staged.map_err(|e| RegistryError::from_sqlite(self.path, "stage an import", e).into())
            }
            Err(message) => Ok(Err(message)),
        }
    }

    fn stage(&mut self, row: &Row) -> rusqlite::Result<Result<(), String>> {
        let known = match &mut self.look {
            Some(look) => look.query_row([&row.device_id], known_of_row).optional()?,
            None => None,
        };
        if let Some(owner) = known.as_ref().and_then(|known| known.import.as_ref())
            && self.spec.others.contains(owner)
        {
            return Ok(Err(format!("the device belongs to import/{owner} already")));
        }
        match self.next_state(row, known.as_ref()) {
            Ok(next) => self.insert(row, &next),
            Err(message) => Ok(Err(message)),
        }
    }

    /// Returns what the device will be.
    fn next_state(&self, row: &Row, known: Option<&Known>) -> Result<Next, String> {
        let (tags, tags_change) = section_after(known.map(|known| known.tags.as_str()), &row.tags, Section::Tags)?;
        let (cloud, cloud_changes) =
            section_after(known.map(|known| known.cloud.as_str()), &row.cloud, Section::Cloud)?;
        // A device that has a template keeps it: moving it to another is a job's work.
        let template = known.and_then(|known| known.template.clone()).or_else(|| self.spec.template.clone());
        let state = match (known, &template) {
            (None, None) => "unassociated".to_string(),
            (None, Some(_)) => "registered".to_string(),
            (Some(known), Some(_)) if known.state == "unassociated" => "registered".to_string(),
            (Some(known), _) => known.state.clone(),
        };
        let (kind, renamed) = match known {
            None => (RowKind::New, false),
            Some(known) => {
                let renamed = known.name != row.name;
                let changed = renamed
                    || known.template != template
                    || known.organization != self.spec.organization
                    || known.simulated != self.spec.simulated
                    || tags_change
                    || cloud_changes
                    || known.import.as_ref() != Some(&self.spec.name);
                (if changed { RowKind::Updated } else { RowKind::Unchanged }, renamed)
            }
        };
        Ok(Next { kind, renamed, template, state, tags, cloud })
    }

    fn insert(&mut self, row: &Row, next: &Next) -> rusqlite::Result<Result<(), String>> {
        let no_cloud = next.cloud == "{}";
        let of_import = next.kind == RowKind::New;
        let inserted = self.insert.execute(params![
            row.device_id,
            self.import_id,
            next.kind as u8,
            row.name,
            if of_import { None } else { next.template.as_ref() },
            if of_import { None } else { Some(&next.state) },
            next.tags,
            if no_cloud { None } else { Some(&next.cloud) },
            row.primary_key,
            row.secondary_key,
        ])?;
        if inserted == 0 {
            let mut look = self.connection.prepare_cached(
                "SELECT i.name FROM temp.staged AS s JOIN temp.staged_import AS i USING (import_id) WHERE s.device_id = ?1",
            )?;
            let owner: String = look.query_row([&row.device_id], |found| found.get(0))?;
            return Ok(Err(if owner == self.spec.name {
                "the device is in this file twice; the first row is used".to_string()
            } else {
                format!("the device is in import/{owner} too, and can be in one import only")
            }));
        }
        match next.kind {
            RowKind::New => self.found.new += 1,
            RowKind::Unchanged => self.found.unchanged += 1,
            RowKind::Updated => self.found.updated += 1,
        }
        self.found.renamed += u64::from(next.renamed);
        Ok(Ok(()))
    }
}

/// Returns a section after the row's patch, and whether that changes it; the error says which rule it would break.
fn section_after(before: Option<&str>, patch: &Map<String, Value>, section: Section) -> Result<(String, bool), String> {
    let before = before.unwrap_or("{}");
    if patch.is_empty() {
        return Ok((before.to_string(), false));
    }
    let old: Value = serde_json::from_str(before).unwrap_or_else(|_| Value::Object(Map::new()));
    let mut new = old.clone();
    crate::model::patch::merge_members(&mut new, patch);
    match new.as_object().map(|members| violations(members, section)).unwrap_or_default().first() {
        Some(broken) => Err(format!("{}: {}", section.root(), broken.rule)),
        None if new == old => Ok((before.to_string(), false)),
        None => Ok((new.to_string(), true)),
    }
}

fn known_of_row(found: &rusqlite::Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known {
        name: found.get(0)?,
        template: found.get(1)?,
        organization: found.get(2)?,
        simulated: found.get(3)?,
        tags: found.get(4)?,
        cloud: found.get(5)?,
        import: found.get(6)?,
        state: found.get(7)?,
    })
}

/// What the registry has of a device that an import can change.
struct Known {
    name: String,
    template: Option<String>,
    organization: Option<String>,
    simulated: bool,
    tags: String,
    cloud: String,
    import: Option<String>,
    state: String,
}

/// What a device will be.
struct Next {
    kind: RowKind,
    renamed: bool,
    template: Option<String>,
    state: String,
    tags: String,
    cloud: String,
}
