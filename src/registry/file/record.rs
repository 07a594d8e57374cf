//! Reading an import file record by record, in bounded memory whatever is in it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::Read;
use std::rc::Rc;

use super::ImportFailure;
use crate::model::limits;

/// The records of a file, each with the line on which it starts.
pub struct Records<R> {
    reader: csv::Reader<BoundedRows<R>>,
    lines: Rc<LineFeeds>,
}

impl<R: Read> Records<R> {
    /// Returns the records of a file, the header among them.
    pub fn new(file: R) -> Records<R> {
        let lines = Rc::new(LineFeeds::default());
        let bounded = BoundedRows { inner: file, lines: Rc::clone(&lines) };
        let reader = csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(bounded);
        Records { reader, lines }
    }

    /// Reads the next record and returns its line, from 1; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or a record does not end.
    pub fn read(&mut self, record: &mut csv::ByteRecord) -> Result<Option<u64>, ImportFailure> {
        self.lines.since_row.set(0);
        let found = self.reader.read_byte_record(record).map_err(|error| {
            let line = self.reader.position().line();
            let message = match error.kind() {
                csv::ErrorKind::Io(error) => error.to_string(),
                _ => "it is not a CSV file".to_string(),
            };
            ImportFailure::File { line, message, help: Some("Look for a quote that is never closed.".to_string()) }
        })?;
        Ok(found.then(|| self.lines.pass(self.reader.position().byte(), record)))
    }
}

/// The positions of the line feeds of a file. The CSV reader reports the end of the record before as the position of a
/// record: it leaves the line feed of a CRLF and blank lines to the next record.
#[derive(Default)]
struct LineFeeds {
    /// Bytes read since the last record was asked for.
    since_row: Cell<usize>,
    /// Bytes read from the file.
    offset: Cell<u64>,
    /// Line feeds that were read and that no record has passed: those of one buffer and one row at most.
    ahead: RefCell<VecDeque<u64>>,
    /// Line feeds that records have passed.
    passed: Cell<u64>,
}

impl LineFeeds {
    /// Notes what was read.
    fn note(&self, bytes: &[u8]) {
        let offset = self.offset.get();
        let feeds = (offset..).zip(bytes).filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        self.ahead.borrow_mut().extend(feeds);
        self.offset.set(offset + bytes.len() as u64);
        self.since_row.set(self.since_row.get() + bytes.len());
    }

    /// Notes that a record ends before the byte `end`, and returns the line on which it starts.
    fn pass(&self, end: u64, record: &csv::ByteRecord) -> u64 {
        let mut ahead = self.ahead.borrow_mut();
        let count = ahead.partition_point(|at| *at < end);
        let is_terminated = ahead.drain(..count).next_back().is_some_and(|last| last + 1 == end);
        self.passed.set(self.passed.get() + count as u64);
        let inside = record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        1 + self.passed.get().saturating_sub(inside + u64::from(is_terminated))
    }
}

/// Refuses to read on when one row does not end: an open quote would otherwise take the whole file into memory.
struct BoundedRows<R> {
    inner: R,
    lines: Rc<LineFeeds>,
}

impl<R: Read> Read for BoundedRows<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        // Bytes that are read ahead for the next rows count too; the buffer of the reader is far below the bound.
        if self.lines.since_row.get() > limits::IMPORT_ROW_BYTES_MAX {
            return Err(std::io::Error::other(format!("a row is longer than {} bytes", limits::IMPORT_ROW_BYTES_MAX)));
        }
        let read = self.inner.read(buffer)?;
        self.lines.note(&buffer[..read]);
        Ok(read)
    }
}
