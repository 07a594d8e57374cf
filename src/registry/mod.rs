//! The device registry and the journal of runs: a port, and the stores behind it.
//!
//! [`Store`] is the port: [`Devices`], [`Journal`], [`Imports`] and [`BranchCopy`] read, one for each noun, and a
//! transaction is a list of values ([`Change`]), committed under a [`Fence`]. No database type, path or SQL appears in
//! a signature or an error. `sqlite` is the store of one file on one machine, `postgres` that of a database. `file`
//! reads the files of imports, and `staging` decides what their rows do. `sql` lowers the conditions of the query
//! language to a dialect of SQL.
//!
//! Keys are in a separate table, so that no query over devices can show one. A registry write and its outcome row share
//! a transaction, so a crash loses both or neither. The store compares devices with the desired values, so twins leave
//! this module only one at a time.

mod bounds;
mod branch_copy;
mod change;
mod closer_look;
mod contents;
mod devices;
mod entries;
mod error;
mod etag;
mod file;
mod flaws;
mod identities;
mod imports;
mod journal;
mod keys;
mod marks;
mod messages;
mod meta;
mod outcome_counts;
mod path_indexes;
pub mod postgres;
pub mod snapshot;
pub mod sql;
pub mod sqlite;
mod staging;
mod store;
mod transfer;
mod twin_row;
mod twin_write;

use std::path::Path;

pub use branch_copy::{BranchCopy, KeptFile, Noted, OutboxEntry, RememberedRun};
pub use change::{Answer, Change, Fence, Heard, HeardOf, Reported};
pub use contents::Contents;
use devices::STRAYS_NAMED;
pub use devices::{ConnectionChange, DeviceFilter, Devices, IndexChanges, Needs, Request, Selection, Tally, Touched};
pub use error::RegistryError;
pub use etag::{Identity, twin_etag};
pub use file::{RowNames, check_file};
pub use flaws::{Flaw, FlawKind};
pub use identities::{IdentityRow, IdentityWrite, IfMatch, NewIdentity, Statistics};
pub use imports::{
    Alike, ChangedTag, CloudCell, ImportFailure, ImportSpec, Imports, PaddedCell, RowError, StagedImport,
};
pub use journal::{
    Assignment, Chunk, Journal, JournaledRun, LateAnswer, NewRun, OpenBatch, PendingRows, ResultRow, Waits, WholeAnswer,
};
pub use keys::DeviceKeys;
pub use messages::{Enqueued, GivenMessage, MessageFault, NewMessage, QueuedMessage};
pub use outcome_counts::OutcomeCount;
pub use store::{
    ExclusionFailure, Exclusive, GivenUp, Listening, Moved, NextFile, RegistryIdentity, Store, StorePlace,
};
pub use transfer::{Cell, ColumnKind, RowSink, RowSource, TABLES, Table};
pub use twin_row::TwinRow;
pub use twin_write::TwinWrite;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::model::device::Device;
use crate::model::secret::SecretKey;

/// An open registry: a store, and the fence for writing to it.
pub struct Registry {
    store: Box<dyn Store>,
    fence: Fence,
}

impl Registry {
    /// Returns a registry that writes without a lease until [`Registry::enter_epoch`] is called.
    pub fn new(store: Box<dyn Store>) -> Registry {
        Registry { store, fence: Fence::NONE }
    }

    pub fn devices(&self) -> &dyn Devices {
        self.store.devices()
    }

    pub fn journal(&self) -> &dyn Journal {
        self.store.journal()
    }

    pub fn imports(&self) -> &dyn Imports {
        self.store.imports()
    }

    pub fn imports_mut(&mut self) -> &mut dyn Imports {
        self.store.imports_mut()
    }

    pub fn branch_copy(&self) -> &dyn BranchCopy {
        self.store.branch_copy()
    }

    /// Returns the store, for wrapping.
    pub fn into_store(self) -> Box<dyn Store> {
        self.store
    }

    /// Writes changes in one transaction, as [`Store::commit`].
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn commit(&mut self, changes: &[Change<'_>]) -> Result<Vec<Answer>, RegistryError> {
        let answers = self.store.commit(self.fence, changes)?;
        assert_eq!(answers.len(), changes.len(), "a store answers each change");
        Ok(answers)
    }

    /// Writes one change, and returns its answer.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub fn write(&mut self, change: Change<'_>) -> Result<Answer, RegistryError> {
        let mut answers = self.commit(std::slice::from_ref(&change))?;
        Ok(answers.pop().expect("a store answers each change"))
    }

    /// Writes under a lease from now on: notes its epoch, and refuses writes once a later epoch is noted.
    ///
    /// # Errors
    /// As [`Store::enter_epoch`].
    pub fn enter_epoch(&mut self, epoch: u64) -> Result<(), RegistryError> {
        // Already here: a process that is refused writes nothing from here on.
        self.fence = Fence::of(epoch);
        self.fence = self.store.enter_epoch(epoch)?;
        Ok(())
    }

    /// Returns which registry this is.
    ///
    /// # Errors
    /// As [`Store::identity`].
    pub fn identity(&self) -> Result<RegistryIdentity, RegistryError> {
        self.store.identity()
    }

    /// Returns the latest epoch that was noted; 0 when none was.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn noted_epoch(&self) -> Result<u64, RegistryError> {
        self.store.noted_epoch()
    }

    /// Returns the key of the marks of secrets, as [`Store::secret_key`].
    ///
    /// # Errors
    /// As [`Store::secret_key`].
    pub fn secret_key(&self) -> Result<Option<SecretKey>, RegistryError> {
        self.store.secret_key()
    }

    /// Returns a copy for this process alone, as [`Store::scratch_copy`].
    ///
    /// # Errors
    /// As [`Store::scratch_copy`].
    pub fn scratch_copy(&self) -> Result<Registry, RegistryError> {
        Ok(Registry::new(self.store.scratch_copy()?))
    }

    /// Writes a file for [`snapshot`], as [`Store::write_keyless`].
    ///
    /// # Errors
    /// As [`Store::write_keyless`].
    pub fn write_keyless(&self, path: &Path) -> Result<(), RegistryError> {
        self.store.write_keyless(path)
    }

    /// Gives every row to a sink, as [`Store::unload`].
    ///
    /// # Errors
    /// As [`Store::unload`].
    pub fn unload(&self, sink: &mut RowSink<'_>) -> Result<(), RegistryError> {
        self.store.unload(sink)
    }

    /// Returns the rows that contradict each other, as [`Store::flaws`].
    ///
    /// # Errors
    /// As [`Store::flaws`].
    pub fn flaws(&self) -> Result<Vec<Flaw>, RegistryError> {
        self.store.flaws()
    }

    /// Takes rows, as [`Store::load`].
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn load(&mut self, source: &mut RowSource<'_>) -> Result<(), RegistryError> {
        self.store.load(source)
    }

    /// Takes every row of another registry, as [`Store::load`].
    ///
    /// # Errors
    /// As [`Store::load`] and [`Store::unload`].
    pub fn copy_from(&mut self, other: &Registry) -> Result<(), RegistryError> {
        self.store.load(&mut |sink| other.store.unload(sink))
    }

    /// Takes every row of another registry but its identity, as [`Store::load`]: it waits to get that
    /// ([`Moved::CopyOf`]). `watch` is called for each row. Returns what was taken.
    ///
    /// # Errors
    /// As [`Store::load`] and [`Store::unload`]; or the error of `watch`.
    pub fn become_copy_of(
        &mut self,
        other: &Registry,
        watch: &mut dyn FnMut(&'static Table) -> Result<(), RegistryError>,
    ) -> Result<Contents, RegistryError> {
        let (identity, mut contents) = (other.identity()?.id, Contents::default());
        self.store.load(&mut |sink| {
            contents = Contents::default();
            let mut last = None;
            other.store.unload(&mut |table, cells| {
                contents.add(table, &cells);
                watch(table)?;
                last = Some(table);
                match transfer::names_one(table, &cells) {
                    true => Ok(()),
                    false => sink(table, cells),
                }
            })?;
            let meta = last.expect("a registry has an identity");
            sink(meta, vec![Cell::Text(meta::COPY_OF.to_string()), Cell::Text(identity.clone())])
        })?;
        Ok(contents)
    }

    /// Limits the growth of the registry, as [`Store::limit_growth`].
    ///
    /// # Errors
    /// As [`Store::limit_growth`].
    pub fn limit_growth(&mut self, pages: u32) -> Result<(), RegistryError> {
        self.store.limit_growth(pages)
    }

    /// Calls `visit` for each device that the filter selects, in the order of their ids, until it fails.
    ///
    /// # Errors
    /// The registry cannot be read; or the error of `visit`.
    pub fn each_device<E: From<RegistryError>>(
        &self,
        filter: &DeviceFilter,
        mut visit: impl FnMut(Device) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut failure = None;
        self.devices().each(filter, &mut |device| or_break(visit(device), &mut failure))?;
        failure.map_or(Ok(()), Err)
    }

    /// Calls `visit` for the kept files of the results branch that `wanted` picks by their path, sorted by path, until
    /// it fails.
    ///
    /// # Errors
    /// The registry cannot be read; or the error of `visit`.
    pub fn each_kept_file<E: From<RegistryError>>(
        &self,
        wanted: impl Fn(&str) -> bool,
        mut visit: impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut failure = None;
        let mut visit = |path: &str, content: &[u8]| or_break(visit(path, content), &mut failure);
        self.branch_copy().each_file(&wanted, &mut visit)?;
        failure.map_or(Ok(()), Err)
    }

    /// Returns the kept files of the results branch that `wanted` picks by their path.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn kept_files(&self, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Vec<u8>>, RegistryError> {
        let mut files = BTreeMap::new();
        self.each_kept_file::<RegistryError>(wanted, |path, content| {
            files.insert(path.to_string(), content.to_vec());
            Ok(())
        })?;
        Ok(files)
    }

    /// Keeps files in the place of older ones: all of them or, on an error, none.
    ///
    /// # Errors
    /// As [`Store::commit`]; or the first error among the files.
    pub fn keep_files<E: From<RegistryError>>(
        &mut self,
        files: impl Iterator<Item = Result<KeptFile, E>>,
    ) -> Result<(), E> {
        let (mut files, mut failure) = (files, None);
        let mut next = || match files.next().transpose() {
            Ok(file) => Ok(file),
            Err(error) => {
                failure = Some(error);
                Err(GivenUp)
            }
        };
        let is_kept = self.store.keep_files(self.fence, &mut next)?;
        assert!(is_kept == failure.is_none(), "files are kept unless one of them cannot be had");
        failure.map_or(Ok(()), Err)
    }
}

/// Breaks on a failure, and keeps it.
fn or_break<E>(result: Result<(), E>, failure: &mut Option<E>) -> ControlFlow<()> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            *failure = Some(error);
            ControlFlow::Break(())
        }
    }
}
