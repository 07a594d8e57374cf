//! Staging the files of imports, whatever the store: each row is compared with the device that the registry has, and
//! what it makes of that is staged. Here is decided what the tables of a store hold; [`StagingTables`] are these.
//!
//! Rows stream through; a file of any length needs the same memory, but for a few bytes an id.
//!
//! The file owns the values that it sets: an empty cell of a `TAG.` or `CLOUD.` column removes the value, and so does a
//! `null` of a JSON line. All other values of a device stay as they are.
//!
//! A device belongs to one import. It can move: a row may take a device of another declared import when the file of
//! that import no longer has it. Staging notes such rows; [`Imports::settle`](super::Imports::settle) decides about
//! them when all files are known.

mod alike;
mod next;
mod stager;
mod watched;

use super::file::RowEntry;
use super::{DeviceKeys, ImportSpec, RowError, StagedImport};
use crate::model::fleet::Removed;
use crate::model::limits;
use crate::model::text::shorten;

pub use alike::AlikeTables;
pub use next::{DeviceState, JsonTexts};
pub use stager::{Failure, Stager, each_id};

/// The tables of a store in which the rows of one file are staged.
pub trait StagingTables: AlikeTables {
    /// The most rows that are looked at together.
    const ROWS_AT_ONCE: usize;
    /// How the store keeps JSON.
    const JSON: JsonTexts;

    /// Returns true when the registry has devices to compare with.
    fn has_devices(&self) -> bool;

    /// Looks at rows, in their order; the calls that follow are about them.
    ///
    /// # Errors
    /// The store fails.
    fn look_at(&mut self, _rows: &[RowEntry]) -> Result<(), Self::Error> {
        Ok(())
    }

    /// Returns the device that the registry has.
    ///
    /// # Errors
    /// The store fails.
    fn known(&mut self, device_id: &str) -> Result<Option<DeviceState>, Self::Error>;

    /// Stages a row unless its device is staged. A row of another import that wants a device of this one gives way, and
    /// is refused.
    ///
    /// # Errors
    /// The store fails.
    fn insert(&mut self, row: &StagedRow<'_>) -> Result<Inserted, Self::Error>;

    /// Notes that a staged row wants a device of another import.
    ///
    /// # Errors
    /// The store fails.
    fn note_wanted(&mut self, wanted: &Wanted<'_>) -> Result<(), Self::Error>;

    /// Notes the device of a rejected row: it is in the file, so it has not left it.
    ///
    /// # Errors
    /// The store fails.
    fn note_rejected(&mut self, device_id: &str) -> Result<(), Self::Error>;

    /// Ends the staging of the rows: the tables have them all.
    ///
    /// # Errors
    /// The store fails.
    fn finish(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// What a staged row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    Unchanged = 0,
    Updated = 1,
    New = 2,
    Deleted = 3,
}

impl RowKind {
    /// Returns the kind of a number of the tables.
    pub fn of(number: u8) -> RowKind {
        match number {
            1 => RowKind::Updated,
            2 => RowKind::New,
            3 => RowKind::Deleted,
            _ => RowKind::Unchanged,
        }
    }
}

/// What became of a row that was to be staged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    Staged,
    /// The file has the device twice.
    Twice,
    /// The file of another import has it, which was staged before.
    Elsewhere(String),
}

/// A row as it is staged. `None` is what the device has, or what a new one begins with, unless something else is said.
#[derive(Debug)]
pub struct StagedRow<'a> {
    pub device_id: &'a str,
    pub kind: RowKind,
    /// Of a new device `None` is its id.
    pub name: Option<&'a str>,
    /// Of a new device `None` is that of the import.
    pub template: Option<&'a str>,
    /// `None` is that of the import.
    pub organization: Option<&'a str>,
    /// `None` for a new device.
    pub state: Option<&'a str>,
    /// As the store keeps JSON.
    pub tags: Option<&'a str>,
    pub cloud: Option<&'a str>,
    pub is_blocked: Option<bool>,
    pub iot_edge: Option<bool>,
    pub desired: Option<&'a str>,
    pub desired_version: Option<u64>,
    pub reported: Option<&'a str>,
    pub reported_version: Option<u64>,
    pub keys: Option<&'a DeviceKeys>,
}

/// A staged row that wants a device of another declared import.
#[derive(Debug)]
pub struct Wanted<'a> {
    pub device_id: &'a str,
    pub owner: &'a str,
    /// The line of the file on which the row starts, from 1.
    pub line: u64,
    pub kind: RowKind,
    pub is_renamed: bool,
    pub is_blocked: bool,
}

/// Returns the counter for rows of a kind.
fn count_of(found: &mut StagedImport, kind: RowKind) -> &mut u64 {
    match kind {
        RowKind::New => &mut found.new,
        RowKind::Unchanged => &mut found.unchanged,
        RowKind::Updated => &mut found.updated,
        RowKind::Deleted => &mut found.deleted,
    }
}

/// Counts a rejected row, whose id was made as short as one can be kept.
fn reject(found: &mut StagedImport, error: RowError) {
    found.rejected += 1;
    if found.errors.len() < limits::IMPORT_ERRORS_MAX {
        found.errors.push(error);
    }
}

/// Returns a device id of a file in a length that can be kept.
fn bounded_id(device_id: &str) -> String {
    shorten(device_id, limits::DEVICE_ID_CHARS_MAX).into_owned()
}

/// Rejects staged rows whose devices another import still has. They must come in the order of their lines.
pub fn refuse(found: &mut StagedImport, wanted: &Wanted<'_>) {
    *count_of(found, wanted.kind) -= 1;
    found.renamed -= u64::from(wanted.is_renamed);
    found.blocked -= u64::from(wanted.is_blocked);
    let message = format!("the device belongs to import/{}, whose file has it too", wanted.owner);
    reject(found, RowError { line: wanted.line, device_id: wanted.device_id.to_string(), message });
}

/// Returns what becomes of devices that left the file: when a row was rejected they stay, because it may have been the
/// row of any of them.
pub fn removal(spec: &ImportSpec, found: &StagedImport) -> Removed {
    if found.rejected > 0 { Removed::Keep } else { spec.removed }
}

/// Notes how many devices left the file.
pub fn note_gone(found: &mut StagedImport, removal: Removed, gone: u64) {
    found.errors.sort_by_key(|error| error.line);
    match removal {
        Removed::Keep => found.kept = gone,
        Removed::Block | Removed::Delete => found.removed = gone,
    }
}
