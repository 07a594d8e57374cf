//! Tables as CSV (RFC 4180), whole and written while they are read: the memory of a download is that of a part of it.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{Stream, unfold};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};

use super::LOG_TARGET;
use super::fault::Fault;
use crate::listen::{READS_PAGES, lower_priority};
use crate::model::limits::{DOWNLOAD_PATIENCE, DOWNLOADS_MAX};
use crate::ops::{Environment, OpsError};
use crate::results::defuse;

/// Bytes that are given to the connection together.
const PART_BYTES: usize = 64 * 1024;
/// Parts that wait for a slow reader.
const PARTS_WAITING: usize = 4;

/// A part of a table; `None` is its end, without which nobody takes what there is for the whole.
type Part = Result<Option<Bytes>, Fault>;

/// A row of a table, of which a page shows some and a download all.
pub trait Row: Serialize {
    /// The columns of the download, members of the row as JSON.
    const COLUMNS: &'static [&'static str];
}

/// Where the rows of a download go.
pub struct Sink {
    writer: csv::Writer<Vec<u8>>,
    parts: mpsc::Sender<Part>,
    has_header: bool,
}

/// The places of downloads.
#[derive(Clone)]
pub struct Downloads {
    places: Arc<Semaphore>,
    environment: Environment,
}

impl Sink {
    fn new(parts: mpsc::Sender<Part>) -> Sink {
        Sink { writer: writer(), parts, has_header: false }
    }

    /// Writes a row, after the header when it is the first.
    ///
    /// # Errors
    /// The reader is gone, or too slow.
    pub fn push<R: Row>(&mut self, row: &R) -> Result<(), OpsError> {
        self.begin::<R>()?;
        let value = serde_json::to_value(row).map_err(|error| gone(std::io::Error::other(error)))?;
        let cells = R::COLUMNS.iter().map(|column| cell(value.get(column).unwrap_or(&Value::Null)));
        self.writer.write_record(cells).map_err(|error| gone(std::io::Error::other(error)))?;
        if self.writer.get_ref().len() >= PART_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes the header, also of a table without rows.
    ///
    /// # Errors
    /// As [`Sink::push`].
    pub fn begin<R: Row>(&mut self) -> Result<(), OpsError> {
        if !std::mem::replace(&mut self.has_header, true) {
            self.writer.write_record(R::COLUMNS).map_err(|error| gone(std::io::Error::other(error)))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OpsError> {
        let part = std::mem::replace(&mut self.writer, writer()).into_inner();
        self.send(Some(Bytes::from(part.map_err(|_| gone(std::io::Error::other("memory is gone")))?)))
    }

    /// Writes the rest, and that it is the rest.
    fn end(&mut self) -> Result<(), OpsError> {
        self.flush()?;
        self.send(None)
    }

    fn send(&self, part: Option<Bytes>) -> Result<(), OpsError> {
        let runtime = tokio::runtime::Handle::current();
        let sent = runtime.block_on(tokio::time::timeout(DOWNLOAD_PATIENCE, self.parts.send(Ok(part))));
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(gone(std::io::ErrorKind::BrokenPipe.into())),
        }
    }
}

impl Downloads {
    /// Returns the places, all of them free.
    pub fn new(environment: Environment) -> Downloads {
        Downloads { places: Arc::new(Semaphore::new(DOWNLOADS_MAX)), environment }
    }

    /// Answers with a table, which `write` writes on a thread of its own. What fails before the first part is the
    /// answer; what fails later cuts the download, so that nobody takes a part for the whole.
    ///
    /// # Errors
    /// Every place is taken, or nothing of the table can be read.
    pub async fn answer(
        &self,
        name: &str,
        write: impl FnOnce(&Environment, &mut Sink) -> Result<(), Fault> + Send + 'static,
    ) -> Result<Response, Fault> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Fault::Busy)?;
        let (sender, mut parts) = mpsc::channel::<Part>(PARTS_WAITING);
        let environment = self.environment.clone();
        tokio::task::spawn_blocking(move || {
            let _place = place;
            lower_priority(READS_PAGES);
            let mut sink = Sink::new(sender.clone());
            let ended = write(&environment, &mut sink).and_then(|()| Ok(sink.end()?));
            if let Err(fault) = ended {
                // Without room for it the missing end says the same: nobody waits here for a reader that is gone.
                drop(sender.try_send(Err(fault)));
            }
        });
        let first = parts.recv().await.unwrap_or(Err(Fault::Busy))?;
        let kind = (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_string());
        let safe: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
        let disposition = (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{safe}.csv\""));
        Ok((StatusCode::OK, [kind, disposition], Body::from_stream(body(first, parts))).into_response())
    }
}

/// Returns the parts up to the end. What has no end fails, whatever kept the rest from being written.
fn body(first: Option<Bytes>, parts: mpsc::Receiver<Part>) -> impl Stream<Item = std::io::Result<Bytes>> {
    unfold(Some((first, parts)), async |state| {
        let (first, mut parts) = state?;
        let part = match first {
            Some(first) => Ok(Some(first)),
            None => parts.recv().await.unwrap_or(Err(Fault::Busy)),
        };
        match part {
            Ok(Some(part)) => Some((Ok(part), Some((None, parts)))),
            Ok(None) => None,
            Err(_) => {
                tracing::debug!(target: LOG_TARGET, "a download is cut: the rest of it cannot be read");
                Some((Err(std::io::Error::other("the rest of the table cannot be read")), None))
            }
        }
    })
}

fn writer() -> csv::Writer<Vec<u8>> {
    csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new())
}

fn gone(source: std::io::Error) -> OpsError {
    OpsError::Output { what: "the download cannot be written".to_string(), source }
}

/// Returns a value as a cell that no spreadsheet runs as a formula.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => defuse(text).into_owned(),
        Value::Array(items) => defuse(&items.iter().map(cell).collect::<Vec<_>>().join(" ")).into_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_table_without_its_end_is_cut() {
        let part = || Ok(Some(Bytes::from_static(b"a\r\n")));
        for (last, is_whole) in [(Some(Ok(None)), true), (None, false), (Some(Err(Fault::Busy)), false)] {
            let (sender, mut parts) = mpsc::channel::<Part>(PARTS_WAITING);
            for part in [part(), part()].into_iter().chain(last) {
                sender.try_send(part).unwrap();
            }
            drop(sender);
            let first = parts.recv().await.unwrap().unwrap();
            let found: Vec<bool> = body(first, parts).map(|part| part.is_ok()).collect().await;
            let expect: &[bool] = if is_whole { &[true, true] } else { &[true, true, false] };
            assert_eq!(found, expect);
        }
    }

    #[test]
    fn a_reader_that_takes_nothing_holds_no_thread() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        let (sender, parts) = mpsc::channel::<Part>(1);
        let mut sink = Sink::new(sender.clone());
        sink.flush().unwrap();
        assert!(sender.try_send(Err(Fault::Busy)).is_err(), "there is no room");
        drop(parts);
        assert!(sink.end().is_err());
    }
}
