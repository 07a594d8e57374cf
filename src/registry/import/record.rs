//! Reading an import file record by record, in bounded memory whatever is in it.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use super::ImportFailure;
use crate::model::limits;

/// Reads the next record; false at the end.
pub fn read_record<R: Read>(
    reader: &mut csv::Reader<R>,
    record: &mut csv::ByteRecord,
    since_row: &Rc<Cell<usize>>,
) -> Result<bool, ImportFailure> {
    since_row.set(0);
    reader.read_byte_record(record).map_err(|error| {
        let line = reader.position().line();
        let message = match error.kind() {
            csv::ErrorKind::Io(error) => error.to_string(),
            _ => "it is not a CSV file".to_string(),
        };
        ImportFailure::File { line, message, help: Some("Look for a quote that is never closed.".to_string()) }
    })
}

/// Refuses to read on when one row does not end: an open quote would otherwise take the whole file into memory.
pub struct BoundedRows<R> {
    pub inner: R,
    pub since_row: Rc<Cell<usize>>,
}

impl<R: Read> Read for BoundedRows<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        // What is read ahead for the next rows counts too; the buffer of the reader is far below the bound.
        if self.since_row.get() > limits::IMPORT_ROW_BYTES_MAX {
            return Err(std::io::Error::other(format!("a row is longer than {} bytes", limits::IMPORT_ROW_BYTES_MAX)));
        }
        let read = self.inner.read(buffer)?;
        self.since_row.set(self.since_row.get() + read);
        Ok(read)
    }
}
