//! Device imports: a file is staged beside the devices, compared with them, and laid over them (for a plan) or written
//! (by [`Change::Import`](super::Change::Import)).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::RegistryError;
use super::file::RowNames;
use crate::model::digest::Digest;
use crate::model::fleet::{ImportFormat, Removed};
use crate::model::policy::PathPattern;

/// Stages imports. Staged rows belong to the open store alone, and the registry does not change until they are applied.
pub trait Imports {
    /// Stages a file: compares each row with the registry and keeps the result. [`Imports::settle`] finds the devices
    /// that left the file.
    ///
    /// # Errors
    /// The file is not of its form, or the registry fails.
    fn stage(&mut self, spec: &ImportSpec, file: &mut dyn Read) -> Result<StagedImport, ImportFailure>;

    /// Returns the imports that are not staged and own devices that a staged file wants. Call [`Imports::ask_owner`]
    /// with their files.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn owners_to_ask(&self) -> Result<Vec<String>, RegistryError>;

    /// Refuses the devices that an import still has in its file to other imports that want them. A file that cannot be
    /// used keeps all of its devices.
    ///
    /// # Errors
    /// The registry fails.
    fn ask_owner(&mut self, owner: &str, format: ImportFormat, file: &mut dyn Read) -> Result<(), RegistryError>;

    /// Settles what depends on several files, when all files are staged and all owners asked. Rejects rows whose
    /// devices another import still has. Keeps, blocks or deletes devices that left this file without moving to
    /// another. When a row was rejected, keeps them all, because it may have been the row of any of them.
    ///
    /// # Errors
    /// The registry fails.
    fn settle(&mut self, spec: &ImportSpec, staged: &mut StagedImport) -> Result<(), RegistryError>;

    /// Forgets the staged rows: the next plan stages anew.
    ///
    /// # Errors
    /// The staged rows cannot be removed.
    fn clear(&mut self) -> Result<(), RegistryError>;

    /// Lays all staged imports over the devices for all later reads, so that a plan sees them.
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

/// The declaration of an import, which holds for all of its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportSpec {
    pub name: String,
    pub format: ImportFormat,
    pub template: Option<String>,
    /// The path of an organization.
    pub organization: Option<String>,
    /// The declared templates, when rows may name one of them.
    pub templates: Option<BTreeSet<String>>,
    /// The paths of the declared organizations by name, when rows may name one of them.
    pub organizations: Option<BTreeMap<String, String>>,
    pub simulated: bool,
    pub removed: Removed,
    /// The other declared imports: this import cannot take their devices while their files have them. It can take
    /// devices of an import that is no longer declared.
    pub others: BTreeSet<String>,
    /// Tags of which is told whether the file changes them. They decide nothing.
    pub watched_tags: Vec<PathPattern>,
    /// Devices of others are for this import only when they are in its organization or below it; without one, all are.
    pub is_confined: bool,
    /// The digest of the spec and of the content of the file.
    pub digest: Digest,
}

impl ImportSpec {
    /// Returns true for a device that rows may be about, by the import that has it now and its organization.
    pub fn reaches(&self, import: Option<&str>, organization: Option<&str>) -> bool {
        let Some(own) = self.organization.as_deref().filter(|_| self.is_confined) else { return true };
        let is_within =
            |path: &str| path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        import == Some(self.name.as_str()) || organization.is_some_and(is_within)
    }

    /// Returns what a row may name.
    pub fn row_names(&self) -> RowNames<'_> {
        RowNames {
            organization: self.organization.as_deref(),
            templates: self.templates.as_ref(),
            organizations: self.organizations.as_ref(),
        }
    }
}

/// The result of staging a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StagedImport {
    pub new: u64,
    pub updated: u64,
    /// Devices with a new name; they are also counted in `updated`.
    pub renamed: u64,
    /// Existing devices that were not blocked and that their row blocks; they are also counted in `updated`.
    pub blocked: u64,
    pub unchanged: u64,
    /// Rows that delete their device (`importMode`).
    pub deleted: u64,
    /// Devices of this import whose row left the file, and that are blocked or deleted because of that.
    pub removed: u64,
    /// Devices whose row left the file and that stay: because the import says so, or because rows were rejected that
    /// may have been theirs.
    pub kept: u64,
    pub rejected: u64,
    /// Rows of the file without blank lines and module identities.
    pub rows: u64,
    /// The first rejected rows, at most [`IMPORT_ERRORS_MAX`](crate::model::limits::IMPORT_ERRORS_MAX), in file order.
    pub errors: Vec<RowError>,
    /// The file has columns with keys in it, or lines with keys.
    pub has_keys: bool,
    /// Lines of module identities, which are passed over.
    pub modules: u64,
    /// Ids that differ only in the case of letters; `None` when there are none.
    pub alike: Option<Alike>,
    /// New devices whose ids differ only in case from ids in the registry; `None` when there are none.
    pub alike_registered: Option<Alike>,
    /// The first text of each column of cloud properties that has any, in the order in which they were found.
    pub cloud_cells: Vec<CloudCell>,
    /// The first text of the file that begins or ends with a space; `None` when there is none.
    pub padded: Option<PaddedCell>,
    /// The watched tags that rows change, at most one for each pattern, in the order of the patterns.
    pub changed_tags: Vec<ChangedTag>,
}

/// Tags of a watched pattern that rows change; new devices that get one are among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedTag {
    pub pattern: PathPattern,
    /// Rows that change one.
    pub rows: u64,
    /// Of the first of them: the keys of the tag, at least one, and the line of the file on which the row starts, from 1.
    pub path: Vec<String>,
    pub line: u64,
}

/// Ids that are alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alike {
    /// Groups of such ids.
    pub groups: u64,
    /// Two ids of the first group; the second is the registry's id when a registered device is alike.
    pub sample: [String; 2],
}

/// A cell of a column of cloud properties, as a sample of the column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudCell {
    /// The keys of the property, at least one.
    pub path: Vec<String>,
    /// The line of the file on which its row starts, from 1.
    pub line: u64,
    /// As in the file: untrusted, never empty.
    pub text: String,
}

/// A cell whose text begins or ends with a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddedCell {
    /// The name of its column, untrusted.
    pub column: String,
    /// The line of the file on which its row starts, from 1.
    pub line: u64,
    /// As in the file: untrusted.
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
