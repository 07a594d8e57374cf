//! The rows of an import file, whatever its format.

use std::io::Read;

use super::hub::HubLines;
use super::row::RowEntry;
use super::table::CsvTable;
use super::{CloudCell, ImportFailure, PaddedCell};
use crate::model::fleet::ImportFormat;

/// The rows of a file.
pub enum Reader<R> {
    Csv(CsvTable<R>),
    IotHub(HubLines<R>),
}

impl<R: Read> Reader<R> {
    /// Returns the rows of a file.
    ///
    /// # Errors
    /// The file is of another form.
    pub fn open(format: ImportFormat, file: R) -> Result<Reader<R>, ImportFailure> {
        match format {
            ImportFormat::Csv => CsvTable::open(file).map(Reader::Csv),
            ImportFormat::IotHub => Ok(Reader::IotHub(HubLines::new(file))),
        }
    }

    /// Returns the next row; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read on.
    pub fn next(&mut self) -> Result<Option<RowEntry>, ImportFailure> {
        match self {
            Reader::Csv(table) => table.next(),
            Reader::IotHub(lines) => lines.next(),
        }
    }

    /// Returns true when rows may say more than a name, tags and cloud properties.
    pub fn has_identities(&self) -> bool {
        match self {
            Reader::Csv(table) => table.has_keys || table.has_blocked,
            Reader::IotHub(_) => true,
        }
    }

    /// Returns true when the rows so far had keys, or could have had.
    pub fn has_keys(&self) -> bool {
        match self {
            Reader::Csv(table) => table.has_keys,
            Reader::IotHub(lines) => lines.has_keys,
        }
    }

    /// Returns the first text of each column of cloud properties, and takes it away.
    pub fn take_cloud_cells(&mut self) -> Vec<CloudCell> {
        match self {
            Reader::Csv(table) => std::mem::take(&mut table.cloud_cells),
            Reader::IotHub(_) => Vec::new(),
        }
    }

    /// Returns the first text of the rows so far that begins or ends with a space, and takes it away.
    pub fn take_padded(&mut self) -> Option<PaddedCell> {
        match self {
            Reader::Csv(table) => table.padded.take().map(|cell| *cell),
            // Quotes say where a text begins and ends.
            Reader::IotHub(_) => None,
        }
    }

    /// Returns the number of module identities among the rows so far.
    pub fn modules(&self) -> u64 {
        match self {
            Reader::Csv(_) => 0,
            Reader::IotHub(lines) => lines.modules,
        }
    }
}
