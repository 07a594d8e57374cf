//! The mark of a process that moves the results branch, so that the next one can tell a lock that a dead fleetform left from one that
//! a program at work holds.
//!
//! Git locks a reference by making the file `<reference>.lock`, which stays when the process is killed before it is renamed. Who made
//! it, it does not say. So a writer says it beside:
//!
//! 1. A takes the operating system's lock on the mark, which ends with the process, and writes the id of its commit into it.
//! 2. A makes `results.lock` and is killed.
//! 3. B takes the lock of the mark and finds an id: somebody died before it was done. The `results.lock` that is there, with that
//!    id in it or with nothing yet, is what is left of A. B removes it.
//!
//! The mark is not synced: after a power cut it may be empty, and then a person is asked, as for any other lock.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::Oid;

/// How long to wait between two looks at a lock.
const PAUSE: Duration = Duration::from_millis(20);
/// How often to look: whoever makes a lock of git writes an id into it at once, so one that is empty for so long is of nobody.
const LOOKS_MAX: u32 = 10;

/// The right to move a reference, as far as this program is asked for it; given back when dropped. Compare-and-swap is what keeps
/// two writers apart: without the right one only cannot clean up.
pub(super) struct Writer {
    /// `None` when the mark cannot be had: another writer is slow, or the folder cannot be written, which the move will say.
    mark: Option<File>,
}

impl Writer {
    /// Takes the mark of a reference, and removes the lock of a writer that died.
    pub fn begin(repository: &Path, reference: &str) -> Writer {
        let mut mark = open(&mark_path(repository, reference));
        if let Some(mark) = &mut mark {
            clean_up(mark, &lock_path(repository, reference));
        }
        Writer { mark }
    }

    /// Notes what the reference is about to be moved to.
    pub fn moves_to(&mut self, commit: Oid) {
        if let Some(mark) = &mut self.mark {
            // Without it a lock that is left needs a person, no more.
            drop(mark.set_len(0).and_then(|()| mark.write_all(commit.to_string().as_bytes())));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(mark) = &self.mark {
            drop(mark.set_len(0));
        }
    }
}

/// Returns the path of git's lock of a reference.
pub(super) fn lock_path(repository: &Path, reference: &str) -> PathBuf {
    repository.join(format!("{reference}.lock"))
}

fn mark_path(repository: &Path, reference: &str) -> PathBuf {
    let name = reference.trim_start_matches("refs/heads/").replace('/', "-");
    repository.join(format!("{name}.writer"))
}

fn open(path: &Path) -> Option<File> {
    let file = File::options().create(true).append(true).read(true).open(path).ok()?;
    for _ in 0..LOOKS_MAX {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(std::fs::TryLockError::Error(_)) => return None,
        }
    }
    None
}

fn clean_up(mark: &mut File, lock: &Path) {
    let mut died = String::new();
    // The mark is read from its start: it was only just opened.
    let is_read = mark.read_to_string(&mut died).is_ok();
    if !is_read || died.is_empty() {
        return;
    }
    let left = |lock: &Path| std::fs::read_to_string(lock).ok();
    for _ in 0..LOOKS_MAX {
        match left(lock) {
            None => return,
            Some(id) if id.trim_end() == died => break,
            Some(_) => std::thread::sleep(PAUSE),
        }
    }
    if left(lock).is_some_and(|id| died.starts_with(id.trim_end())) {
        // When it cannot be removed, the move says that it is there.
        drop(std::fs::remove_file(lock));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::{FileChange, Repo, RepoError};

    const REFERENCE: &str = "refs/heads/fleetform/results";
    const DEAD: &str = "0123456789012345678901234567890123456789";

    /// Says how a commit to the results branch ends when a mark and a lock with these texts are there; `None` for no such file.
    fn commits(mark: Option<&str>, lock: Option<&str>) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let repo = Repo::open_or_init(folder.path()).unwrap();
        let branch = repo.results("fleetform/results");
        branch.create(&[FileChange::bytes("a", b"1".to_vec())], "first").unwrap();
        let git = folder.path().join(".git");
        let lock_file = lock_path(&git, REFERENCE);
        if let Some(text) = mark {
            std::fs::write(mark_path(&git, REFERENCE), text).unwrap();
        }
        if let Some(text) = lock {
            std::fs::write(&lock_file, text).unwrap();
        }
        let committed = branch.commit(&[FileChange::bytes("a", b"2".to_vec())], "second");
        assert_eq!(std::fs::read(mark_path(&git, REFERENCE)).unwrap(), b"", "the mark is taken back");
        match committed {
            Ok(_) => {
                assert!(!lock_file.exists());
                true
            }
            Err(RepoError::Locked { path, .. }) => {
                assert_eq!(path.canonicalize().unwrap(), lock_file.canonicalize().unwrap());
                assert_eq!(std::fs::read_to_string(&lock_file).unwrap(), lock.unwrap(), "it is left as it was");
                false
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_lock_of_a_writer_that_died_is_removed() {
        assert!(commits(Some(DEAD), Some(&format!("{DEAD}\n"))));
        assert!(commits(Some(DEAD), Some("")), "it died before it wrote its id");
        assert!(commits(Some(DEAD), Some(&DEAD[..7])), "it died while it wrote its id");
        assert!(commits(Some(DEAD), None), "it died after the move");
    }

    #[test]
    fn the_lock_of_anybody_else_stays() {
        assert!(!commits(None, Some("")));
        assert!(!commits(Some(""), Some("")));
        assert!(!commits(Some(""), Some(DEAD)));
        assert!(!commits(Some(DEAD), Some("9999999999999999999999999999999999999999\n")));
    }
}
