//! The files of device imports, whatever the store: from bytes to checked rows, in bounded memory.
//!
//! Files have two forms, told by the name of the file: the CSV of IoT Central, which is its bulk import
//! (`IOTC_DEVICEID`, `IOTC_DEVICENAME`) and its export (`IOTC_SASKEY_…`, `IOTC_X509THUMBPRINT_…`), with a byte-order
//! mark and CRLF as its published sample has, and our columns `TAG.<path>` and `CLOUD.<path>`; and the JSON lines of
//! IoT Hub's export (`hub`).

mod hub;
mod lines;
mod members;
mod names;
mod reader;
mod record;
mod row;
mod table;

use std::io::Read;

use super::{CloudCell, ImportFailure, PaddedCell, RowError, StagedImport};
use crate::model::fleet::ImportFormat;
use crate::model::limits;
use crate::model::text::shorten;

pub use names::{Named, RowNames};
pub use reader::Reader;
pub use row::{Mode, Row, RowEntry};

/// Looks at the header and at most `rows_max` rows of a file, without a registry: what it would do is not known, only
/// which rows no registry takes.
///
/// # Errors
/// [`ImportFailure::File`]: the file is not of its form.
pub fn check_file(
    format: ImportFormat,
    names: RowNames<'_>,
    file: impl Read,
    rows_max: u64,
) -> Result<StagedImport, ImportFailure> {
    let mut found = StagedImport::default();
    let mut source = Reader::open(format, file)?;
    while found.rows < rows_max
        && let Some(RowEntry { line, row }) = source.next()?
    {
        found.rows += 1;
        let (device_id, message) = match row {
            Ok(row) => match names.named(&row) {
                Ok(_) => continue,
                Err(message) => (row.device_id, message),
            },
            Err(rejected) => (rejected.device_id, rejected.message),
        };
        found.rejected += 1;
        if found.errors.len() < limits::IMPORT_ERRORS_MAX {
            let device_id = shorten(&device_id, limits::DEVICE_ID_CHARS_MAX).into_owned();
            found.errors.push(RowError { line, device_id, message });
        }
    }
    found.padded = source.take_padded();
    Ok(found)
}
