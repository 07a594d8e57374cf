//! The mark of a process that moves a branch: that of the results, or that of declared documents. With it, the next
//! process can tell a lock that a dead fleetform left from the lock of a running program.
//!
//! Git locks a reference with the file `<reference>.lock`, which stays when the process is killed before the rename.
//! The file does not name its owner, so a writer keeps a mark beside it:
//!
//! 1. A takes the operating system's lock on the mark, which ends with the process, and writes the id of its commit
//!    into the mark.
//! 2. A makes `results.lock` and is killed.
//! 3. B takes the lock of the mark and finds an id: the writer before it died. A `results.lock` that holds this id, or
//!    is still empty, was left by A. B removes it.
//!
//! Where a branch has files, its mark also has the commit that A came from. B takes the files of A's commit out of the
//! index and the work tree again, when the branch did not get there. The lock of an index, `index.lock`, has no id:
//! before A writes an index its mark says so, and B removes a lock that was made right then.
//!
//! The mark is not synced: after a power cut it may be empty. Then a person must remove the lock, as for any other
//! lock.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use git2::Oid;

/// How long to wait between two tries.
const PAUSE: Duration = Duration::from_millis(20);
/// How often to try. A program that makes a git lock writes an id into it at once, so a lock that stays empty this long
/// has no owner.
const LOOKS_MAX: u32 = 10;

/// What a mark begins with while an index is written.
const INDEX: &str = "index ";
/// An index is written so soon after its mark, or later by somebody else.
const INDEX_TIME_MAX: Duration = Duration::from_secs(2);

/// The right to move a reference, respected by fleetform only; given back when dropped. Compare-and-swap keeps two
/// writers apart; a writer without this right only cannot clean up.
pub(super) struct Writer {
    /// `None` when the mark cannot be taken: another writer is slow, or the folder cannot be written, which the move
    /// then reports.
    mark: Option<File>,
    /// The move that a writer died in.
    died: Option<BranchMove>,
    is_kept: bool,
}

/// A move of a branch whose files are checked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BranchMove {
    pub from: Oid,
    pub to: Oid,
}

impl BranchMove {
    fn text(&self) -> String {
        format!("{} {}", self.to, self.from)
    }

    fn parse(text: &str) -> Option<BranchMove> {
        let (to, from) = text.strip_prefix(INDEX).unwrap_or(text).split_once(' ')?;
        Some(BranchMove { from: Oid::from_str(from).ok()?, to: Oid::from_str(to).ok()? })
    }
}

impl Writer {
    /// Takes the mark of a reference, and removes the lock of a writer that died.
    pub fn begin(repository: &Path, reference: &str) -> Writer {
        Writer::after(repository, reference, None)
    }

    /// As [`Writer::begin`], for a reference whose files are checked out: it also removes the lock of an index that a
    /// writer was about to write when it died.
    pub fn begin_with_index(repository: &Path, reference: &str, index_lock: &Path) -> Writer {
        Writer::after(repository, reference, Some(index_lock))
    }

    fn after(repository: &Path, reference: &str, index_lock: Option<&Path>) -> Writer {
        let mut mark = open(&mark_path(repository, reference));
        let clean_up = |mark| clean_up(mark, &lock_path(repository, reference), index_lock);
        let died = mark.as_mut().and_then(clean_up);
        Writer { died: died.as_deref().and_then(BranchMove::parse), mark, is_kept: false }
    }

    /// Takes the mark of a reference that only fleetform moves, through libgit2 or a git that it starts, and removes a
    /// lock that is left. While the mark is held no other fleetform moves the reference; a git that outlived its
    /// fleetform has the lock for less than the time that is waited here.
    pub fn own(repository: &Path, reference: &str) -> Writer {
        let mark = open(&mark_path(repository, reference));
        let lock = lock_path(repository, reference);
        if mark.is_some() {
            for _ in 0..LOOKS_MAX {
                if !lock.exists() {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
            // When the lock cannot be removed, the move reports it.
            drop(std::fs::remove_file(lock));
        }
        Writer { mark, died: None, is_kept: false }
    }

    /// Returns the move that a writer died in, once.
    pub fn take_died(&mut self) -> Option<BranchMove> {
        self.died.take()
    }

    /// Writes the commit that the reference is about to move to into the mark.
    pub fn moves_to(&mut self, commit: Oid) {
        self.says(&commit.to_string());
    }

    /// As [`Writer::moves_to`], for a branch whose files are checked out.
    pub fn moves(&mut self, branch: BranchMove) {
        self.says(&branch.text());
    }

    /// Writes into the mark that an index is about to be written, for a move of its branch.
    pub fn writes_index(&mut self, branch: BranchMove) {
        self.says(&format!("{INDEX}{}", branch.text()));
    }

    /// Leaves the mark as it is: what the writer that died has left is still there.
    pub fn keep_mark(&mut self) {
        self.is_kept = true;
    }

    /// Adds a line to the mark: at no moment it says less than before.
    fn says(&mut self, text: &str) {
        if let Some(mark) = &mut self.mark {
            // When this fails, a person must remove a lock that is left.
            drop(mark.write_all(format!("{text}\n").as_bytes()));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // An idle daemon writes nothing.
        if let Some(mark) = self.mark.as_ref().filter(|_| !self.is_kept)
            && mark.metadata().is_ok_and(|found| found.len() > 0)
        {
            drop(mark.set_len(0));
        }
    }
}

/// Returns the path of git's lock of a reference.
pub(super) fn lock_path(repository: &Path, reference: &str) -> PathBuf {
    repository.join(format!("{reference}.lock"))
}

/// Returns the path of the mark of a reference: it exists once a fleetform has moved the reference here.
pub(super) fn mark_path(repository: &Path, reference: &str) -> PathBuf {
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

/// Removes the locks of a writer that died, and returns what its mark says.
fn clean_up(mark: &mut File, lock: &Path, index_lock: Option<&Path>) -> Option<String> {
    let mut died = String::new();
    // The mark was just opened, so this reads from its start.
    let is_read = mark.read_to_string(&mut died).is_ok();
    let died = last_line(&died).to_string();
    if !is_read || died.is_empty() {
        return None;
    }
    if died.starts_with(INDEX) {
        let marked = mark.metadata().and_then(|found| found.modified());
        if let (Some(lock), Ok(marked)) = (index_lock, marked) {
            clean_up_index(lock, marked);
        }
        return Some(died);
    }
    let wanted = died.split(' ').next().unwrap_or_default();
    let left = |lock: &Path| std::fs::read_to_string(lock).ok();
    for _ in 0..LOOKS_MAX {
        match left(lock) {
            None => return Some(died),
            Some(id) if id.trim_end() == wanted => break,
            Some(_) => std::thread::sleep(PAUSE),
        }
    }
    if left(lock).is_some_and(|id| wanted.starts_with(id.trim_end())) {
        // When the lock cannot be removed, the move reports it.
        drop(std::fs::remove_file(lock));
    }
    Some(died)
}

/// Returns the last line that was written whole, or the text when there is none.
fn last_line(text: &str) -> &str {
    match text.rsplit_once('\n') {
        Some((whole, _)) => whole.rsplit('\n').next().unwrap_or_default(),
        None => text,
    }
}

/// Removes the lock of an index that was made right after a time, and that nobody has changed for a while.
fn clean_up_index(lock: &Path, marked: SystemTime) {
    let written = || std::fs::metadata(lock).and_then(|found| Ok((found.modified()?, found.len()))).ok();
    let Some(left) = written() else { return };
    let is_of_the_dead = left.0.duration_since(marked).is_ok_and(|later| later <= INDEX_TIME_MAX);
    if !is_of_the_dead {
        return;
    }
    std::thread::sleep(PAUSE * LOOKS_MAX);
    if written() == Some(left) {
        // When the lock cannot be removed, the next write of the index reports it.
        drop(std::fs::remove_file(lock));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::{FileChange, Repo, RepoError};

    const REFERENCE: &str = "refs/heads/fleetform/results";
    const DEAD: &str = "0123456789012345678901234567890123456789";

    /// Returns true when a commit to the results branch succeeds beside a mark and a lock with these texts; `None` for
    /// no file.
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

    #[test]
    fn the_lock_of_an_index_is_removed_when_its_writer_died() {
        let folder = tempfile::tempdir().unwrap();
        let lock = folder.path().join("index.lock");
        let is_left = |mark: &str, age: u64| {
            std::fs::write(&lock, "DIRC").unwrap();
            let marked = mark_path(folder.path(), REFERENCE);
            std::fs::write(&marked, mark).unwrap();
            let made = std::fs::metadata(&lock).unwrap().modified().unwrap() - Duration::from_secs(age);
            File::options().write(true).open(&marked).unwrap().set_modified(made).unwrap();
            drop(Writer::begin_with_index(folder.path(), REFERENCE, &lock));
            assert_eq!(std::fs::read(&marked).unwrap(), b"", "the mark is taken back");
            lock.exists()
        };
        let index = format!("{INDEX}{DEAD} {DEAD}");
        assert!(!is_left(&index, 0));
        assert!(!is_left(&index, 1));
        assert!(is_left(&index, 60), "somebody has made it later");
        assert!(is_left(DEAD, 0) && is_left("", 0), "no index was to be written");
        let same = Oid::from_str(DEAD).unwrap();
        assert_eq!(BranchMove::parse(&index), Some(BranchMove { from: same, to: same }));
        assert_eq!((BranchMove::parse(DEAD), BranchMove::parse("index ")), (None, None));
        for (text, line) in [("", ""), ("a", "a"), ("a\n", "a"), ("a\nb", "a"), ("a\nb\n", "b")] {
            assert_eq!(last_line(text), line, "{text:?}");
        }
    }
}
