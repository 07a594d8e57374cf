//! Device imports: what became of their files, and the rows that were rejected.

use super::{Environment, OpsError, Workspace};
use crate::ledger::{ImportReport, Ledger};
use crate::model::fleet::DeviceImport;
use crate::model::id::Name;
use crate::prepare::{Caveats, OnError, TreeChoice, View};

/// An import of a list.
#[derive(Debug, Clone)]
pub struct ListedImport {
    pub import: DeviceImport,
    /// The report of the state that the registry has; without one, the only report there is. `None` before the first.
    pub report: Option<ImportReport>,
    /// The digest of that state, 64 hex digits.
    pub digest: Option<String>,
}

/// An import with its rejected rows.
#[derive(Debug, Clone)]
pub struct ShownImport {
    pub import: ListedImport,
    /// The rejected rows, as CSV with the columns `line`, `device_id` and `message`; empty when there are none.
    pub rejected: Vec<u8>,
}

/// Returns the imports, sorted by name, and tells first what the look does not show.
///
/// # Errors
/// The Fleet document is invalid, or something cannot be read.
pub fn list(environment: &Environment, tell: &mut dyn FnMut(&Caveats)) -> Result<Vec<ListedImport>, OpsError> {
    let workspace = Workspace::open(environment)?;
    let view = View::open(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let sight = &environment.sight;
    tell(&Caveats::of(view.files.held_within(sight, &view.declared), &view.branch)?);
    let shown = view.declared.imports.values().filter(|import| sight.has(import.organization.as_deref()));
    Ok(shown.map(|import| listed(import, &view.ledger)).collect())
}

/// Returns one import with its rejected rows.
///
/// # Errors
/// There is no such import; otherwise as [`list`].
pub fn show(environment: &Environment, name: &str, tell: &mut dyn FnMut(&Caveats)) -> Result<ShownImport, OpsError> {
    let workspace = Workspace::open(environment)?;
    let view = View::open(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let sight = &environment.sight;
    tell(&Caveats::of(view.files.held_within(sight, &view.declared), &view.branch)?);
    let shown = || view.declared.imports.values().filter(|import| sight.has(import.organization.as_deref()));
    let Some(import) = shown().find(|import| import.name.as_str() == name) else {
        return Err(OpsError::not_declared("import", name, shown().map(|import| import.name.as_str())));
    };
    let import = listed(import, &view.ledger);
    let rejected = match &import.digest {
        Some(digest) => view.branch.read(&format!("imports/{name}/{digest}/errors.csv"))?.unwrap_or_default(),
        None => Vec::new(),
    };
    Ok(ShownImport { import, rejected })
}

fn listed(import: &DeviceImport, ledger: &Ledger) -> ListedImport {
    let of_import: Vec<(&String, &ImportReport)> = ledger
        .reports
        .iter()
        .filter(|((name, _), _)| *name == import.name)
        .map(|((_, digest), one)| (digest, one))
        .collect();
    let applied = ledger.applied_imports.get(&import.name).map(ToString::to_string);
    let found = match (&applied, &*of_import) {
        (Some(applied), all) => all.iter().find(|(digest, _)| *digest == applied),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let (digest, report) = found.map(|(digest, report)| ((*digest).clone(), (*report).clone())).unzip();
    ListedImport { import: import.clone(), report, digest }
}

impl ListedImport {
    /// Returns the name of the import.
    pub fn name(&self) -> &Name {
        &self.import.name
    }
}
