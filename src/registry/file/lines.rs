//! Reading a file line by line, in bounded memory whatever is in it.

use std::io::{BufRead as _, BufReader, Read};

use crate::model::limits;

/// The lines of a file.
pub struct Lines<R> {
    reader: BufReader<R>,
    /// Lines that were read.
    count: u64,
    bytes: Vec<u8>,
}

/// A line without its line feed.
pub struct Line<'a> {
    /// From 1.
    pub number: u64,
    /// `None`: it is longer than [`limits::IMPORT_LINE_BYTES_MAX`].
    pub bytes: Option<&'a [u8]>,
    /// False: the file ends with it, and not with a line feed.
    pub is_ended: bool,
}

impl<R: Read> Lines<R> {
    /// Returns the lines of a file.
    pub fn new(file: R) -> Lines<R> {
        Lines { reader: BufReader::with_capacity(64 * 1024, file), count: 0, bytes: Vec::new() }
    }

    /// Returns the next line; `None` at the end. A byte-order mark is no part of the first one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next(&mut self) -> std::io::Result<Option<Line<'_>>> {
        self.bytes.clear();
        let (mut is_long, mut is_ended, mut has_any) = (false, false, false);
        while !is_ended {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            has_any = true;
            let end = memchr::memchr(b'\n', buffer);
            let part = &buffer[..end.unwrap_or(buffer.len())];
            is_long = is_long || self.bytes.len() + part.len() > limits::IMPORT_LINE_BYTES_MAX;
            if !is_long {
                self.bytes.extend_from_slice(part);
            }
            is_ended = end.is_some();
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.reader.consume(used);
        }
        if !has_any {
            return Ok(None);
        }
        self.count += 1;
        let bytes = if self.count == 1 {
            self.bytes.strip_prefix(b"\xef\xbb\xbf".as_slice()).unwrap_or(&self.bytes)
        } else {
            &self.bytes
        };
        Ok(Some(Line { number: self.count, bytes: (!is_long).then_some(bytes), is_ended }))
    }
}
