//! The port that every kind of registry implements.

use std::path::Path;
use std::rc::Rc;

use jiff::Timestamp;

use super::{
    Answer, BranchCopy, Change, Devices, Fence, Flaw, Imports, Journal, KeptFile, RegistryError, RowSink, RowSource,
};
use crate::model::secret::SecretKey;

/// An open registry. There is a trait of reads for each noun. Writes go through [`Store::commit`], except for
/// [`Store::keep_files`], whose files are too many to hold in memory.
///
/// One thread uses a store. Staged imports, and the overlay of them for a plan, belong to the open store alone.
pub trait Store {
    fn devices(&self) -> &dyn Devices;
    fn journal(&self) -> &dyn Journal;
    fn imports(&self) -> &dyn Imports;
    fn imports_mut(&mut self) -> &mut dyn Imports;
    fn branch_copy(&self) -> &dyn BranchCopy;

    /// Writes changes in one transaction and returns the answer to each. Durable when it returns.
    ///
    /// # Errors
    /// [`RegistryError::Fenced`] when a later epoch was noted; otherwise the registry cannot be written. In both cases
    /// nothing was written.
    fn commit(&mut self, fence: Fence, changes: &[Change<'_>]) -> Result<Vec<Answer>, RegistryError>;

    /// Keeps the files that `next` returns in the place of older ones, in one transaction. Returns false, and keeps
    /// nothing, when `next` gives up before the last one.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn keep_files(&mut self, fence: Fence, next: &mut NextFile<'_>) -> Result<bool, RegistryError>;

    /// Notes the epoch of a lease, and returns the fence for writing under it.
    ///
    /// # Errors
    /// [`RegistryError::Fenced`] when a later epoch is noted already; otherwise the registry cannot be written.
    fn enter_epoch(&mut self, epoch: u64) -> Result<Fence, RegistryError>;

    /// Returns the latest epoch that was noted; 0 when none was.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn noted_epoch(&self) -> Result<u64, RegistryError>;

    /// Returns which registry this is.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn identity(&self) -> Result<RegistryIdentity, RegistryError>;

    /// Returns the key of the marks of secrets; `None` before [`Change::MakeSecretKey`].
    ///
    /// # Errors
    /// The registry cannot be read.
    fn secret_key(&self) -> Result<Option<SecretKey>, RegistryError>;

    /// Returns a copy for this process alone, which does not survive it. A commit that another process makes meanwhile
    /// is in the copy completely or not at all.
    ///
    /// # Errors
    /// The registry cannot be read, or there is no room for the copy.
    fn scratch_copy(&self) -> Result<Box<dyn Store>, RegistryError>;

    /// Writes a new file that opens as a registry for reading: what is in this one at one moment, without the keys of
    /// devices, the key and the marks of secrets, and anything that was deleted.
    ///
    /// # Errors
    /// The registry cannot be read, or the file cannot be written.
    fn write_keyless(&self, path: &Path) -> Result<(), RegistryError>;

    /// Gives every row of the registry to a sink, as they are at one moment. Staged imports are not among them.
    ///
    /// # Errors
    /// The registry cannot be read; or the error of the sink.
    fn unload(&self, sink: &mut RowSink<'_>) -> Result<(), RegistryError>;

    /// Returns the rows that contradict each other, of each kind how many there are.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn flaws(&self) -> Result<Vec<Flaw>, RegistryError>;

    /// Takes every row of another registry, with its identity, in one transaction.
    ///
    /// # Errors
    /// [`RegistryError::Occupied`] when there is something already; the registry cannot be written; or the error of the
    /// source. Nothing was written then.
    fn load(&mut self, source: &mut RowSource<'_>) -> Result<(), RegistryError>;

    /// Lets the registry grow by at most this many pages of 4 KiB while it is open; a write that needs more fails as on
    /// a full disk.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn limit_growth(&mut self, pages: u32) -> Result<(), RegistryError>;
}

/// Which registry it is, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryIdentity {
    /// Drawn when the registry was made, 32 hex digits; that of a lost one, when it was made in its place.
    pub id: String,
    /// How often devices were marked as sent. A copy that is put back has fewer than the one that was lost.
    pub sends: u64,
    /// Another server has taken the place of the one that had it, or a backup was put back, and commits that were
    /// acknowledged may be missing. [`Change::CatchUp`] settles it.
    pub may_lack: bool,
    /// `None` for a registry that no copy was made of, nor is one.
    pub moved: Option<Moved>,
}

/// What a copy has left to do, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// It is a copy of the registry with this identity, and waits to get that.
    CopyOf(String),
    /// It had this identity; a copy at a place, for people, has it now or is about to get it.
    GaveUp { identity: String, to: String },
}

impl Moved {
    /// Returns what the rows [`COPY_OF`] and [`GAVE_UP`] of `meta` say.
    pub(super) fn of_values(copy_of: Option<String>, gave_up: Option<&str>) -> Option<Moved> {
        let given = || {
            let (identity, to) = gave_up?.split_once(' ')?;
            Some(Moved::GaveUp { identity: identity.to_string(), to: to.to_string() })
        };
        copy_of.map(Moved::CopyOf).or_else(given)
    }
}

/// Returns the next file to keep, `None` after the last one; an error cancels the transaction.
pub type NextFile<'a> = dyn FnMut() -> Result<Option<KeptFile>, GivenUp> + 'a;

/// The caller's error: it could not return the next file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp;

/// The place of a registry that is not open.
pub trait StorePlace {
    /// Returns where it is, for people: a path, or an address without secrets.
    fn location(&self) -> String;

    /// Returns true when there is a registry.
    ///
    /// # Errors
    /// It cannot be known.
    fn is_there(&self) -> Result<bool, RegistryError>;

    /// Opens the registry for writing; makes it when it does not exist.
    ///
    /// # Errors
    /// It cannot be made or written, belongs to another fleet or is of a newer version.
    fn open(&self) -> Result<Box<dyn Store>, RegistryError>;

    /// Opens the registry for reading; one that does not exist yet reads as empty, and nothing is made.
    ///
    /// # Errors
    /// As [`StorePlace::open`].
    fn open_for_reading(&self) -> Result<Box<dyn Store>, RegistryError>;

    /// Has connections stay open that are no longer used, to be lent by the next [`StorePlace::open`] and
    /// [`StorePlace::open_for_reading`]. What these return is the same: a registry that was replaced, or is of another
    /// fleet or version now, is opened anew. While connections are open, the registry of a file may have others beside
    /// it, so a process that rests closes them.
    fn keep_open(&self);

    /// Closes the connections that stay open and are not in use.
    fn close_kept(&self);

    /// Returns what tells the content of the registry now from any other one; `None` where it cannot be told. It has to
    /// be asked before what is read.
    fn state(&self, now: Timestamp) -> Option<String>;

    /// Returns the name of the process that has the exclusive right to work on the registry now, empty when it is not
    /// known; `None` when no process has. Nothing is made or changed.
    fn holder(&self) -> Option<String>;

    /// Takes the exclusive right to work on the registry, for an owner of this name, until the result is dropped or the
    /// process ends.
    ///
    /// # Errors
    /// Another process has the right, or it cannot be taken.
    fn exclude(&self, owner: &str) -> Result<Rc<dyn Exclusive>, ExclusionFailure>;

    /// Takes the right to be the one daemon that listens to the devices, also while it has nothing to do, for an owner
    /// of this name, until the result is dropped or the process ends. It gives no right to work.
    ///
    /// # Errors
    /// As [`StorePlace::exclude`].
    fn listen(&self, owner: &str) -> Result<Rc<dyn Listening>, ExclusionFailure>;
}

/// The right to be the one daemon that listens, held until it is dropped.
pub trait Listening {
    /// Returns true once another process has it: this one stood still for too long.
    fn is_lost(&self) -> bool;
}

/// The exclusive right to work on a registry, held until it is dropped.
pub trait Exclusive {
    /// Returns the former owners, back to the last one that had taken the lease of the fleet. None of them works on the
    /// registry any more.
    fn former(&self) -> Vec<String>;

    /// Forgets the former owners, because this owner has the lease of the fleet now.
    ///
    /// # Errors
    /// It cannot be noted.
    fn forget_former(&self) -> Result<(), RegistryError>;
}

/// Why the right to work could not be taken.
#[derive(Debug)]
pub enum ExclusionFailure {
    /// Another process has it; `None` when its name is not known.
    Held(Option<String>),
    Failed(RegistryError),
}
