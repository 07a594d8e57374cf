//! Device imports: a file is staged beside the devices, compared with them, and laid over them (for a plan) or written
//! (by [`Change::Import`](super::Change::Import)).

use std::collections::BTreeSet;
use std::io::Read;

use super::RegistryError;
use crate::model::digest::Digest;
use crate::model::fleet::{ImportFormat, Removed};

/// Stages imports. What is staged belongs to the open store alone, and nothing of the registry changes until it is applied.
pub trait Imports {
    /// Stages a file: compares each row with the registry and keeps the result. What left the file is not known yet: see
    /// [`Imports::settle`].
    ///
    /// # Errors
    /// The file is not of its form, or the registry fails.
    fn stage(&mut self, spec: &ImportSpec, file: &mut dyn Read) -> Result<StagedImport, ImportFailure>;

    /// Returns the imports that are not staged and that have devices which a staged file wants: [`Imports::ask_owner`] must be given
    /// their files.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn owners_to_ask(&self) -> Result<Vec<String>, RegistryError>;

    /// Keeps the devices that an import still has in its file from those that want them. A file that cannot be used keeps them all.
    ///
    /// # Errors
    /// The registry fails.
    fn ask_owner(&mut self, owner: &str, format: ImportFormat, file: &mut dyn Read) -> Result<(), RegistryError>;

    /// Settles what a file alone cannot tell, when all files are staged and all owners asked: rows whose devices another import has
    /// still are rejected, and devices that left this file without moving to another are kept, blocked or deleted. When a row was
    /// rejected it is not known which device it was, and all are kept.
    ///
    /// # Errors
    /// The registry fails.
    fn settle(&mut self, spec: &ImportSpec, staged: &mut StagedImport) -> Result<(), RegistryError>;

    /// Forgets what is staged: the next plan stages anew.
    ///
    /// # Errors
    /// What was staged cannot be removed.
    fn clear(&mut self) -> Result<(), RegistryError>;

    /// Lays all staged imports over the devices for all that is read from here on: what a plan sees.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn overlay(&mut self) -> Result<(), RegistryError>;

    /// Returns the digest of the last applied state of each import, by name.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn applied(&self) -> Result<Vec<(String, String)>, RegistryError>;
}

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
    /// Devices whose row left the file and that stay: as the import says, or because rows were rejected and it is not known what they
    /// were.
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

/// Ids that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alike {
    /// Groups of such ids.
    pub groups: u64,
    /// Two ids of the first group; the second is that of the registry's device where one is.
    pub sample: [String; 2],
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
