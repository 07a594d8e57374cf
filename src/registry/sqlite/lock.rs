//! The lock file beside a registry: the process that works on it now, and its former owners.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use super::super::{ExclusionFailure, Exclusive, Listening, RegistryError};
use crate::model::text::sanitize_line;

/// The most names that the file keeps. When that many processes die before they get to work, it is no accident.
const OWNERS_MAX: usize = 64;
/// The most bytes of the file that are read. A name is a host, a process and eight digits.
const OWNER_BYTES_MAX: u64 = 64 << 10;

/// How long a look at a lock may keep it from being taken, in tries: it holds it for microseconds.
const LOOKS_MAX: u32 = 3;
const LOOK_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

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
        let locked = try_lock(&file);
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

    /// Returns the name of the process that has a lock, empty when the file does not say; `None` when none has.
    pub fn holder(path: &Path) -> Option<String> {
        let file = File::open(path).ok()?;
        if !matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)) {
            return None;
        }
        let mut text = String::new();
        drop((&file).take(OWNER_BYTES_MAX).read_to_string(&mut text));
        Some(text.lines().next().map_or_else(String::new, |name| sanitize_line(name).into_owned()))
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

impl Listening for LockFile {
    fn is_lost(&self) -> bool {
        // The system releases it when the process ends, and not before.
        false
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // Closing the file is not enough: a process that is being started holds a copy of it until it executes its
        // program.
        drop(self.file.unlock());
    }
}

/// Takes a lock; tries again while somebody only looks whether it is taken.
fn try_lock(file: &File) -> Result<(), std::fs::TryLockError> {
    for _ in 0..LOOKS_MAX {
        match file.try_lock() {
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(LOOK_PAUSE),
            other => return other,
        }
    }
    file.try_lock()
}

fn failed(location: &str, doing: &'static str, source: std::io::Error) -> RegistryError {
    RegistryError::Failed { location: location.to_string(), doing, source: source.into() }
}
