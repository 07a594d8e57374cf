//! Device imports: their reports and rejected rows.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Notes, Page};
use crate::ops::import::{ListedImport, ShownImport, list, show};
use crate::ops::{Environment, OpsError};
use crate::web::asked::Asked;
use crate::web::fault::Fault;
use crate::web::table::{Row, Sink};

/// The page `/imports`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Imports {
    /// Sorted by name.
    pub imports: Vec<ImportRow>,
    #[serde(flatten)]
    pub notes: Notes,
}

/// An import; its numbers are null before the first time.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ImportRow {
    pub import: String,
    pub file: String,
    /// Rows of the file.
    pub rows: Option<u64>,
    /// Devices that were new.
    pub imported: Option<u64>,
    pub updated: Option<u64>,
    pub unchanged: Option<u64>,
    pub removed: Option<u64>,
    pub rejected: Option<u64>,
    pub source_commit: Option<String>,
}

/// The page `/imports/{name}`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Import {
    #[serde(flatten)]
    pub import: ImportRow,
    /// In the order of the file; the results keep the first 10,000.
    pub errors: Vec<RejectedRow>,
    /// The address of the next page of rejected rows; null on the last one.
    pub next: Option<String>,
    #[serde(flatten)]
    pub notes: Notes,
}

/// A rejected row.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RejectedRow {
    /// The line of the file, from 1.
    pub line: Option<u64>,
    pub device_id: String,
    pub message: String,
}

impl Page for Imports {
    const TEMPLATE: &'static str = "imports.html";

    fn title(&self) -> String {
        "Imports".to_string()
    }
}

impl Page for Import {
    const TEMPLATE: &'static str = "import.html";
    const PARAMETERS: &'static [&'static str] = &["after", "limit"];

    fn title(&self) -> String {
        format!("Import {}", self.import.import)
    }
}

impl Row for ImportRow {
    const COLUMNS: &'static [&'static str] =
        &["import", "file", "rows", "imported", "updated", "unchanged", "removed", "rejected", "source_commit"];
}

impl Row for RejectedRow {
    const COLUMNS: &'static [&'static str] = &["line", "device_id", "message"];
}

fn row(listed: &ListedImport) -> ImportRow {
    let report = listed.report.as_ref();
    ImportRow {
        import: listed.name().to_string(),
        file: listed.import.file.clone(),
        rows: report.map(|report| report.rows),
        imported: report.map(|report| report.imported),
        updated: report.map(|report| report.updated),
        unchanged: report.map(|report| report.unchanged),
        removed: report.map(|report| report.removed),
        rejected: report.map(|report| report.rejected),
        source_commit: report.map(|report| report.source_commit.clone()),
    }
}

fn rejected(shown: &ShownImport) -> Vec<RejectedRow> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(&*shown.rejected);
    let cell = |record: &csv::StringRecord, at: usize| record.get(at).unwrap_or_default().to_string();
    let records = reader.records().map_while(Result::ok);
    records
        .map(|record| RejectedRow {
            line: cell(&record, 0).parse().ok(),
            device_id: cell(&record, 1),
            message: cell(&record, 2),
        })
        .collect()
}

/// Reads the page of all imports.
///
/// # Errors
/// The fleet cannot be read.
pub fn read(environment: &Environment) -> Result<Imports, OpsError> {
    let mut notes = Notes::default();
    let imports = list(environment, &mut |caveats| notes.take(caveats))?;
    Ok(Imports { imports: imports.iter().map(row).collect(), notes })
}

/// Writes all imports.
///
/// # Errors
/// As [`read`].
pub fn write(environment: &Environment, sink: &mut Sink) -> Result<(), Fault> {
    let imports = list(environment, &mut |_| ())?;
    sink.begin::<ImportRow>()?;
    Ok(imports.iter().try_for_each(|import| sink.push(&row(import)))?)
}

/// Reads the page of one import.
///
/// # Errors
/// There is no such import, or the fleet cannot be read.
pub fn read_one(environment: &Environment, name: &str, asked: &Asked) -> Result<Import, Fault> {
    let (limit, after) = (asked.limit()?, asked.number::<usize>("after")?.unwrap_or(0));
    let mut notes = Notes::default();
    let shown = show(environment, name, &mut |caveats| notes.take(caveats))?;
    let mut errors = rejected(&shown);
    errors.drain(..after.min(errors.len()));
    let mut next = None;
    if errors.len() > limit {
        errors.truncate(limit);
        next = Some(asked.address(&[("after", &(after + limit).to_string())]));
    }
    Ok(Import { import: row(&shown.import), errors, next, notes })
}

/// Writes all rejected rows of an import.
///
/// # Errors
/// As [`read_one`].
pub fn write_one(environment: &Environment, name: &str, sink: &mut Sink) -> Result<(), Fault> {
    let shown = show(environment, name, &mut |_| ())?;
    sink.begin::<RejectedRow>()?;
    Ok(rejected(&shown).iter().try_for_each(|row| sink.push(row))?)
}
