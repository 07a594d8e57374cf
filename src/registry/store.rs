//! The port: what any registry can do, whatever it is made of.

use std::rc::Rc;

use super::{Answer, BranchCopy, Change, Devices, Fence, Imports, Journal, KeptFile, RegistryError};

/// A registry that is open. Reading goes by noun; writing goes through [`Store::commit`], but for [`Store::keep_files`], whose files are
/// too many to be held.
///
/// One thread uses a store. Staged imports and what lies over the devices for a plan are of the open store alone.
pub trait Store {
    fn devices(&self) -> &dyn Devices;
    fn journal(&self) -> &dyn Journal;
    fn imports(&self) -> &dyn Imports;
    fn imports_mut(&mut self) -> &mut dyn Imports;
    fn branch_copy(&self) -> &dyn BranchCopy;

    /// Writes changes in one transaction and returns what each came to. Durable when it returns.
    ///
    /// # Errors
    /// [`RegistryError::Fenced`] when a later epoch was noted; the registry cannot be written. Then nothing was.
    fn commit(&mut self, fence: Fence, changes: &[Change<'_>]) -> Result<Vec<Answer>, RegistryError>;

    /// Keeps the files that `next` returns in the place of older ones, in one transaction; false, and nothing kept, when it gives up
    /// before the last one.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn keep_files(&mut self, fence: Fence, next: &mut NextFile<'_>) -> Result<bool, RegistryError>;

    /// Notes the epoch of a lease, and returns the fence to write with in its name.
    ///
    /// # Errors
    /// [`RegistryError::Fenced`] when a later one is noted already; the registry cannot be written.
    fn enter_epoch(&mut self, epoch: u64) -> Result<Fence, RegistryError>;

    /// Returns the latest epoch that was noted; 0 when none was.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn noted_epoch(&self) -> Result<u64, RegistryError>;

    /// Returns a copy for this process alone, of which nothing survives. What others commit meanwhile is in it as a whole or not at
    /// all.
    ///
    /// # Errors
    /// The registry cannot be read, or there is no room for the copy.
    fn scratch_copy(&self) -> Result<Box<dyn Store>, RegistryError>;

    /// Lets the registry grow by so many pages of 4 KiB at most while it is open; what needs more fails as on a full disk.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn limit_growth(&mut self, pages: u32) -> Result<(), RegistryError>;
}

/// Returns the next file to keep, `None` after the last one; an error gives up.
pub type NextFile<'a> = dyn FnMut() -> Result<Option<KeptFile>, GivenUp> + 'a;

/// Whoever was to hand something over could not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp;

/// The place of a registry that is not open.
pub trait Place {
    /// Opens it for writing; makes it when it does not exist.
    ///
    /// # Errors
    /// It cannot be made or written, belongs to another fleet or is of a newer version.
    fn open(&self) -> Result<Box<dyn Store>, RegistryError>;

    /// Opens it for reading; one that does not exist yet reads as empty, and nothing is made.
    ///
    /// # Errors
    /// As [`Place::open`].
    fn open_for_reading(&self) -> Result<Box<dyn Store>, RegistryError>;

    /// Takes the right to work on it, for an owner of this name, until what is returned is dropped or the process ends.
    ///
    /// # Errors
    /// Another process has it, or it cannot be taken.
    fn exclude(&self, owner: &str) -> Result<Rc<dyn Exclusive>, ExclusionFailure>;
}

/// The exclusive right to work on a registry, for as long as it lives.
pub trait Exclusive {
    /// Returns who had it before, back to the last one that had taken the lease of the fleet; none of them works on the registry any
    /// more.
    fn former(&self) -> Vec<String>;

    /// Forgets who had it before: the lease of the fleet is of this one now.
    ///
    /// # Errors
    /// It cannot be noted.
    fn forget_former(&self) -> Result<(), RegistryError>;
}

/// Why the right to work could not be taken.
#[derive(Debug)]
pub enum ExclusionFailure {
    /// Another process has it; `None` when it does not say who.
    Held(Option<String>),
    Failed(RegistryError),
}
