//! Rows in the binary format of COPY (<https://www.postgresql.org/docs/current/sql-copy.html>): no value is escaped,
//! and the server parses no number.

use crate::registry::postgres::connection::{Connection, Copy};
use crate::registry::postgres::fault::Fault;
use crate::registry::postgres::json::stored_text;

/// What comes before the first row: a signature, no flags, and no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What comes after the last row.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// Bytes of rows that are sent at once.
const SENT_AT_ONCE: usize = 64 << 10;
/// The version of the binary format of a `jsonb`.
const JSONB: u8 = 1;

/// Rows of one COPY.
#[derive(Default)]
pub struct Rows {
    bytes: Vec<u8>,
}

impl Rows {
    /// Begins a row of so many columns, which must follow in their order.
    pub fn begin(&mut self, columns: i16) -> &mut Rows {
        self.bytes.extend(columns.to_be_bytes());
        self
    }

    pub fn text(&mut self, text: Option<&str>) -> &mut Rows {
        match text {
            Some(text) => self.value(&[], stored_text(text).as_bytes()),
            None => self.null(),
        }
    }

    /// Adds JSON that [`stored`](crate::registry::postgres::json::stored) wrote.
    pub fn json(&mut self, text: Option<&str>) -> &mut Rows {
        match text {
            Some(text) => self.value(&[JSONB], text.as_bytes()),
            None => self.null(),
        }
    }

    pub fn bytes(&mut self, bytes: Option<&[u8]>) -> &mut Rows {
        match bytes {
            Some(bytes) => self.value(&[], bytes),
            None => self.null(),
        }
    }

    pub fn boolean(&mut self, value: Option<bool>) -> &mut Rows {
        match value {
            Some(value) => self.value(&[], &[u8::from(value)]),
            None => self.null(),
        }
    }

    pub fn smallint(&mut self, number: i16) -> &mut Rows {
        self.value(&[], &number.to_be_bytes())
    }

    pub fn integer(&mut self, number: i32) -> &mut Rows {
        self.value(&[], &number.to_be_bytes())
    }

    /// Adds a number that is below 2^63.
    pub fn bigint(&mut self, number: Option<u64>) -> &mut Rows {
        match number {
            Some(number) => self.value(&[], &i64::try_from(number).unwrap_or(i64::MAX).to_be_bytes()),
            None => self.null(),
        }
    }

    fn value(&mut self, prefix: &[u8], value: &[u8]) -> &mut Rows {
        let length = i32::try_from(prefix.len() + value.len()).expect("a value of a row is below 2 GiB");
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend_from_slice(prefix);
        self.bytes.extend_from_slice(value);
        self
    }

    fn null(&mut self) -> &mut Rows {
        self.bytes.extend((-1_i32).to_be_bytes());
        self
    }
}

/// A COPY that begins when there are rows to send.
pub struct Upload {
    text: &'static str,
    rows: Rows,
    copy: Option<Copy>,
}

impl Upload {
    /// Returns the upload of a `COPY … FROM STDIN (FORMAT binary)`.
    pub fn new(text: &'static str) -> Upload {
        Upload { text, rows: Rows::default(), copy: None }
    }

    /// Returns the rows that are not sent, to add others.
    pub fn rows(&mut self) -> &mut Rows {
        &mut self.rows
    }

    /// Returns true when there is more to send than should be kept in memory.
    pub fn is_large(&self) -> bool {
        self.rows.bytes.len() >= SENT_AT_ONCE
    }

    /// Sends the rows. Nothing else can be asked until the upload is finished.
    pub fn send(&mut self, connection: &Connection) -> Result<(), Fault> {
        if self.rows.bytes.is_empty() {
            return Ok(());
        }
        if self.copy.is_none() {
            let mut copy = connection.begin_copy(self.text)?;
            connection.send_copy(&mut copy, HEADER)?;
            self.copy = Some(copy);
        }
        if let Some(copy) = &mut self.copy {
            connection.send_copy(copy, &self.rows.bytes)?;
        }
        self.rows.bytes.clear();
        Ok(())
    }

    /// Sends what is left, and ends the COPY.
    pub fn finish(&mut self, connection: &Connection) -> Result<(), Fault> {
        self.send(connection)?;
        let Some(mut copy) = self.copy.take() else { return Ok(()) };
        connection.send_copy(&mut copy, &TRAILER)?;
        connection.finish_copy(copy).map(drop)
    }
}
