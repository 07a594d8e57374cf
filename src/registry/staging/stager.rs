//! Stages the rows of one file.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use super::alike::AlikeIds;
use super::next::{Next, next_of};
use super::{Inserted, RowKind, StagedRow, StagingTables, Wanted, watched};
use crate::model::fleet::ImportFormat;
use crate::model::limits;
use crate::registry::file::{Mode, Reader, Row, RowEntry};
use crate::registry::{ImportFailure, ImportSpec, RowError, StagedImport};

/// A file that is being staged.
pub struct Stager<'a, R> {
    spec: &'a ImportSpec,
    source: Reader<Counted<R>>,
    /// Bytes of the file that were read.
    read: Rc<Cell<u64>>,
    alike: AlikeIds,
    found: StagedImport,
}

/// Why a file was not staged.
#[derive(Debug)]
pub enum Failure<E> {
    Tables(E),
    File(ImportFailure),
}

impl<E> From<ImportFailure> for Failure<E> {
    fn from(failure: ImportFailure) -> Failure<E> {
        Failure::File(failure)
    }
}

impl<E> Failure<E> {
    /// Returns the failure for the caller of the port.
    pub fn into_import(self, convert: impl FnOnce(E) -> ImportFailure) -> ImportFailure {
        match self {
            Failure::Tables(error) => convert(error),
            Failure::File(failure) => failure,
        }
    }
}

impl<'a, R: Read> Stager<'a, R> {
    /// Opens a file.
    ///
    /// # Errors
    /// The file is of another form.
    pub fn open(spec: &'a ImportSpec, file: R) -> Result<Stager<'a, R>, ImportFailure> {
        let read = Rc::<Cell<u64>>::default();
        let source = Reader::open(spec.format, Counted { inner: file, read: Rc::clone(&read) })?;
        Ok(Stager { spec, source, read, alike: AlikeIds::default(), found: StagedImport::default() })
    }

    /// Returns true when rows may say more than a name, tags and cloud properties: then the tables look at identities.
    pub fn has_identities(&self) -> bool {
        self.source.has_identities()
    }

    /// Stages the rows.
    ///
    /// # Errors
    /// The tables fail, or the file cannot be read on.
    pub fn run<T: StagingTables>(mut self, tables: &mut T) -> Result<StagedImport, Failure<T::Error>> {
        let mut rows = Vec::with_capacity(T::ROWS_AT_ONCE);
        while self.read_rows(T::ROWS_AT_ONCE, &mut rows)? {
            tables.look_at(&rows).map_err(Failure::Tables)?;
            for entry in rows.drain(..) {
                self.stage(tables, entry).map_err(Failure::Tables)?;
            }
        }
        self.finish(tables).map_err(Failure::Tables)
    }

    /// Reads the next rows; returns false when there are none.
    fn read_rows(&mut self, most: usize, rows: &mut Vec<RowEntry>) -> Result<bool, ImportFailure> {
        let bytes_max = self.read.get() + limits::IMPORT_LOOK_BYTES_MAX;
        while rows.len() < most && self.read.get() < bytes_max {
            match self.source.next()? {
                Some(entry) => rows.push(entry),
                None => break,
            }
        }
        Ok(!rows.is_empty())
    }

    fn finish<T: StagingTables>(mut self, tables: &mut T) -> Result<StagedImport, T::Error> {
        tables.finish()?;
        self.found.has_keys = self.source.has_keys();
        self.found.modules = self.source.modules();
        self.found.cloud_cells = self.source.take_cloud_cells();
        self.found.padded = self.source.take_padded();
        self.found.alike_registered = self.alike.find_registered(tables)?;
        self.found.alike = self.alike.find(tables)?;
        Ok(self.found)
    }

    /// Stages a row, or rejects it.
    fn stage<T: StagingTables>(&mut self, tables: &mut T, RowEntry { line, row }: RowEntry) -> Result<(), T::Error> {
        self.found.rows += 1;
        let (device_id, message) = match row {
            Ok(row) => match self.stage_row(tables, &row, line)? {
                Ok(()) => return Ok(()),
                Err(message) => (row.device_id, message),
            },
            Err(rejected) => (rejected.device_id, rejected.message),
        };
        let device_id = super::bounded_id(&device_id);
        tables.note_rejected(&device_id)?;
        super::reject(&mut self.found, RowError { line, device_id, message });
        Ok(())
    }

    /// Stages one row; the inner error says why it is rejected.
    fn stage_row<T: StagingTables>(
        &mut self,
        tables: &mut T,
        row: &Row,
        line: u64,
    ) -> Result<Result<(), String>, T::Error> {
        let known = if tables.has_devices() { tables.known(&row.device_id)? } else { None };
        let next = match next_of(row, known.as_ref(), self.spec, T::JSON) {
            Ok(next) => next,
            Err(message) => return Ok(Err(message)),
        };
        match tables.insert(&staged_row(row, &next, self.spec))? {
            Inserted::Staged => {}
            Inserted::Twice => return Ok(Err("the device is in this file twice; the first row is used".to_string())),
            Inserted::Elsewhere(owner) => {
                return Ok(Err(format!("the device is in import/{owner} too, and can be in one import only")));
            }
        }
        let is_blocked = known.is_some() && next.is_blocked == Some(true);
        if let Some(owner) = known.as_ref().and_then(|known| known.import.as_ref())
            && self.spec.others.contains(owner)
        {
            let Next { kind, is_renamed, .. } = next;
            let device_id = &row.device_id;
            tables.note_wanted(&Wanted { device_id, owner, line, kind, is_renamed, is_blocked })?;
        }
        *super::count_of(&mut self.found, next.kind) += 1;
        self.found.renamed += u64::from(next.is_renamed);
        self.found.blocked += u64::from(is_blocked);
        if next.tags.is_some() && !self.spec.watched_tags.is_empty() {
            let before = known.as_ref().and_then(|known| (T::JSON.read)(&known.tags)).unwrap_or_default();
            watched::note(&mut self.found.changed_tags, &self.spec.watched_tags, (&before, &row.tags), line);
        }
        self.alike.note(&row.device_id, next.kind == RowKind::New && tables.has_devices());
        Ok(Ok(()))
    }
}

fn staged_row<'a>(row: &'a Row, next: &'a Next, spec: &ImportSpec) -> StagedRow<'a> {
    let is_new = next.kind == RowKind::New;
    StagedRow {
        device_id: &row.device_id,
        kind: next.kind,
        name: row.name.as_deref().filter(|_| row.mode != Mode::UpdateTwin),
        template: if is_new { row.template.as_deref() } else { next.template.as_deref() },
        organization: next.organization.as_deref().filter(|_| next.organization != spec.organization),
        state: if is_new { None } else { Some(&next.state) },
        tags: next.tags.as_deref(),
        cloud: next.cloud.as_deref(),
        is_blocked: next.is_blocked,
        iot_edge: next.iot_edge,
        desired: next.desired.as_deref(),
        desired_version: if is_new { row.desired_version } else { None },
        reported: next.reported.as_deref(),
        reported_version: if is_new { row.reported_version } else { None },
        keys: next.keys.as_ref(),
    }
}

/// Calls `visit` for the device ids of a file, whatever its rows say; that of a rejected row is as in the file.
///
/// # Errors
/// The file cannot be read, or the error of `visit`.
pub fn each_id<E>(
    format: ImportFormat,
    file: impl Read,
    mut visit: impl FnMut(String) -> Result<(), E>,
) -> Result<(), Failure<E>> {
    let mut source = Reader::open(format, file)?;
    while let Some(RowEntry { row, .. }) = source.next()? {
        let device_id = match row {
            Ok(row) => row.device_id,
            Err(rejected) => rejected.device_id,
        };
        visit(device_id).map_err(Failure::Tables)?;
    }
    Ok(())
}

/// Counts what is read of a file, with what is read ahead.
struct Counted<R> {
    inner: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}
