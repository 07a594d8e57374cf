//! The lock file beside a registry: the process that works on it now, and its former owners.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use super::super::{ExclusionFailure, Exclusive, RegistryError};
use crate::model::text::sanitize_line;

/// The most names that the file keeps. When that many processes die before they get to work, it is no accident.
const OWNERS_MAX: usize = 64;
/// The most bytes of the file that are read. A name is a host, a process and eight digits.
const OWNER_BYTES_MAX: u64 = 64 << 10;

/// A lock that the operating system releases when the process ends. The first line of the file names the owner, further
/// lines name former owners, back to the last one that had taken the lease of the fleet.
pub(super) struct LockFile {
    file: File,
    location: String,
    owner: String,
    former: RefCell<Vec<String>>,
}

impl LockFile {
    /// Takes the lock at a path, for an owner of this name.
    pub fn take(path: &Path, owner: &str) -> Result<LockFile, ExclusionFailure> {
        let location = path.display().to_string();
        let fail = |source: std::io::Error| ExclusionFailure::Failed(failed(&location, "make its lock", source));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(fail)?;
        }
        let file = File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(fail)?;
        let locked = file.try_lock();
        let mut text = String::new();
        // A file that is no text names no owner.
        let is_read = (&file).take(OWNER_BYTES_MAX).read_to_string(&mut text).is_ok();
        let names = text.lines().filter(|name| is_read && !name.is_empty() && *name != owner);
        let mut names = names.map(|name| sanitize_line(name).into_owned());
        match locked {
            Ok(()) => {
                let former = RefCell::new(names.collect());
                let lock = LockFile { file, location: location.clone(), owner: owner.to_string(), former };
                if text != lock.text() {
                    lock.write().map_err(fail)?;
                }
                Ok(lock)
            }
            Err(std::fs::TryLockError::WouldBlock) => Err(ExclusionFailure::Held(names.next())),
            Err(std::fs::TryLockError::Error(source)) => Err(fail(source)),
        }
    }

    fn text(&self) -> String {
        let former = self.former.borrow();
        std::iter::once(&self.owner).chain(former.iter()).take(OWNERS_MAX).map(|name| format!("{name}\n")).collect()
    }

    fn write(&self) -> std::io::Result<()> {
        let (mut file, text) = (&self.file, self.text());
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)
    }
}

impl Exclusive for LockFile {
    fn former(&self) -> Vec<String> {
        self.former.borrow().clone()
    }

    fn forget_former(&self) -> Result<(), RegistryError> {
        if self.former.take().is_empty() {
            return Ok(());
        }
        self.write().map_err(|source| failed(&self.location, "write its lock", source))
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is being started holds a copy of it until it executes its
        // program.
        drop(self.file.unlock());
    }
}

fn failed(location: &str, doing: &'static str, source: std::io::Error) -> RegistryError {
    RegistryError::Failed { location: location.to_string(), doing, source: source.into() }
}
