//! From changed files to a tree: few as objects of their own, many as one pack.
//!
//! Each object of its own is a file that is synced with the disk. A commit of thousands of files (adopted jobs, a branch
//! that is published again) would wait for the disk thousands of times; a pack is synced once.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use git2::build::TreeUpdateBuilder;
use git2::{FileMode, ObjectType, Oid, PackBuilder, Repository, Tree};

use super::{Content, FileChange, RepoError, ResultsBranch, scratch};

/// From so many new files on they are written as a pack.
const PACKED_MIN: usize = 64;
/// Bytes of new files up to which they are: a pack is made in memory.
const PACKED_BYTES_MAX: usize = 64 << 20;
/// How old a pack is that nobody finishes any more: one is written in seconds.
const UNFINISHED_AGE_MAX: Duration = Duration::from_secs(3_600);

impl ResultsBranch<'_> {
    /// Writes a tree with changes on those of another, with its blobs, and returns it. Durable when it returns.
    ///
    /// # Errors
    /// The object database cannot be written.
    pub(super) fn tree_with(&self, before: &Tree<'_>, changes: &[FileChange]) -> Result<Oid, RepoError> {
        let repository = self.repository();
        let new = changes.iter().filter_map(|change| match &change.content {
            Content::Bytes(bytes) => Some(bytes.len()),
            Content::Blob(_) => None,
        });
        let (count, size) = new.fold((0, 0), |(count, size), bytes| (count + 1, size + bytes));
        let is_packed = count >= PACKED_MIN && size <= PACKED_BYTES_MAX;
        let memory = if is_packed { in_memory(repository, before, changes) } else { None };
        let written = match memory {
            Some(memory) => packed(repository, &memory, before.id(), changes),
            None => updated(repository, before, changes).map(|(tree, _)| tree),
        };
        written.map_err(|error| self.error("write results", error))
    }
}

/// Returns the repository with new objects in memory; `None` for one that is in memory already.
fn in_memory(repository: &Repository, before: &Tree<'_>, changes: &[FileChange]) -> Option<Repository> {
    let memory = scratch::in_memory(repository).ok()?;
    {
        let objects = memory.odb().ok()?;
        // What a rehearsal has written is nowhere else.
        let is_there = |change: &FileChange| match &change.content {
            Content::Bytes(_) => true,
            Content::Blob(blob) => objects.exists(blob.0),
        };
        if !(before.is_empty() || objects.exists(before.id())) || !changes.iter().all(is_there) {
            return None;
        }
    }
    Some(memory)
}

/// Writes the blobs of changes and the tree with them; returns the tree and the blobs that are new.
fn updated(repository: &Repository, before: &Tree<'_>, changes: &[FileChange]) -> Result<(Oid, Vec<Oid>), git2::Error> {
    let (mut update, mut new) = (TreeUpdateBuilder::new(), Vec::new());
    for change in changes {
        let id = match &change.content {
            Content::Blob(blob) => blob.0,
            Content::Bytes(bytes) => {
                let id = repository.blob(bytes)?;
                new.push(id);
                id
            }
        };
        update.upsert(change.path.as_str(), id, FileMode::Blob);
    }
    Ok((update.create_updated(repository, before)?, new))
}

/// Makes the tree in memory, and writes what is new of it as a pack.
fn packed(
    repository: &Repository,
    memory: &Repository,
    before: Oid,
    changes: &[FileChange],
) -> Result<Oid, git2::Error> {
    // An empty tree may have been written nowhere.
    let before = memory.find_tree(before).or_else(|_| memory.find_tree(memory.treebuilder(None)?.write()?))?;
    let (after, blobs) = updated(memory, &before, changes)?;
    let mut pack = memory.packbuilder()?;
    for blob in blobs {
        pack.insert_object(blob, None)?;
    }
    insert_trees(memory, Some(&before), &memory.find_tree(after)?, &mut pack)?;
    write_pack(repository, &mut pack)?;
    Ok(after)
}

/// Writes a pack. It is durable when this returns.
///
/// # Errors
/// The object database cannot be written.
pub(super) fn write_pack(repository: &Repository, pack: &mut PackBuilder<'_>) -> Result<(), git2::Error> {
    sweep(&repository.commondir().join("objects/pack"), UNFINISHED_AGE_MAX);
    let objects = repository.odb()?;
    let mut writer = objects.packwriter()?;
    let mut failure = None;
    let streamed = pack.foreach(|bytes| {
        failure = writer.write_all(bytes).err();
        failure.is_none()
    });
    match failure {
        Some(error) => return Err(git2::Error::from_str(&error.to_string())),
        None => streamed?,
    }
    writer.commit().map(drop)
}

/// Removes what libgit2 has begun to write in a folder of packs, and a process that died did not finish. Git does not.
fn sweep(folder: &Path, age_max: Duration) {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("pack_git2_")) {
        let age = entry.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age >= age_max) {
            // It is only in the way.
            drop(std::fs::remove_file(entry.path()));
        }
    }
}

/// Adds a tree and those in it that are not in the tree before.
pub(super) fn insert_trees(
    repository: &Repository,
    before: Option<&Tree<'_>>,
    after: &Tree<'_>,
    pack: &mut PackBuilder<'_>,
) -> Result<(), git2::Error> {
    pack.insert_object(after.id(), None)?;
    for entry in after.iter().filter(|entry| entry.kind() == Some(ObjectType::Tree)) {
        let there = before.and_then(|tree| tree.get_name_bytes(entry.name_bytes())).map(|entry| entry.id());
        if there == Some(entry.id()) {
            continue;
        }
        let there = there.and_then(|id| repository.find_tree(id).ok());
        insert_trees(repository, there.as_ref(), &repository.find_tree(entry.id())?, pack)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_began_to_write_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pack_git2_a", "pack_git2_bidx.lock", "pack-c.pack"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let left = |age| {
            sweep(folder.path(), age);
            std::fs::read_dir(folder.path()).unwrap().count()
        };
        assert_eq!(left(UNFINISHED_AGE_MAX), 3, "it may go on");
        assert_eq!(left(Duration::ZERO), 1);
        sweep(&folder.path().join("absent"), Duration::ZERO);
    }
}
