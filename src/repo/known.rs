//! References that were read before: while its file is the same, a reference leads to the same commit.
//!
//! To read a reference takes ten times as long as to look at its file, and tells everybody who watches the folder.

use std::cell::RefCell;
use std::collections::BTreeMap;

use git2::{Oid, Repository};

use super::file_state::FileState;

/// The most references that are known.
const KNOWN_MAX: usize = 16;
/// How many names lead on to other names at most.
const LINKS_MAX: usize = 5;
/// The references of a repository that were read before, by name.
#[derive(Debug, Default)]
pub(super) struct KnownReferences(RefCell<BTreeMap<String, (FileState, Target)>>);

#[derive(Debug, Clone)]
enum Target {
    Commit(Oid),
    /// Another reference, by name.
    Name(String),
}

impl KnownReferences {
    /// Returns what a full name of a reference leads to, as `git2::Repository::refname_to_id` does.
    ///
    /// # Errors
    /// There is no such reference, or it cannot be read.
    pub fn id_of(&self, repository: &Repository, name: &str) -> Result<Oid, git2::Error> {
        let mut name = name.to_string();
        for _ in 0..LINKS_MAX {
            match self.target_of(repository, &name)? {
                Some(Target::Commit(id)) => return Ok(id),
                Some(Target::Name(next)) => name = next,
                None => break,
            }
        }
        repository.refname_to_id(&name)
    }

    fn target_of(&self, repository: &Repository, name: &str) -> Result<Option<Target>, git2::Error> {
        // Work trees share all references but those at the top.
        let folder = if name.contains('/') { repository.commondir() } else { repository.path() };
        // Before it is read: what comes meanwhile is another file.
        let file = FileState::of(&folder.join(name));
        let known = self.0.borrow().get(name).filter(|(of, _)| Some(*of) == file).map(|(_, target)| target.clone());
        if known.is_some() {
            return Ok(known);
        }
        let reference = repository.find_reference(name)?;
        let next = reference.symbolic_target().ok().flatten().map(|next| Target::Name(next.to_string()));
        let target = reference.target().map(Target::Commit).or(next);
        let mut known = self.0.borrow_mut();
        match (file.filter(FileState::is_left_alone), &target) {
            (Some(file), Some(target)) if known.len() < KNOWN_MAX || known.contains_key(name) => {
                known.insert(name.to_string(), (file, target.clone()));
            }
            _ => drop(known.remove(name)),
        }
        Ok(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(unix)]
    use crate::repo::file_state::LEFT_ALONE;

    #[test]
    fn a_reference_that_moves_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::init(folder.path()).unwrap();
        let person = git2::Signature::now("n", "n@example.com").unwrap();
        let tree = repository.find_tree(repository.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let commit = |text: &str| repository.commit(None, &person, &person, text, &tree, &[]).unwrap();
        let (one, two) = (commit("one"), commit("two"));
        let head = repository.find_reference("HEAD").unwrap();
        let branch = head.symbolic_target().unwrap().unwrap().to_string();
        let known = KnownReferences::default();
        let find = |name: &str| known.id_of(&repository, name).ok();
        assert_eq!((find("HEAD"), find(&branch)), (None, None));
        let set = |id: Oid| repository.reference(&branch, id, true, "test").unwrap();
        set(one);
        assert_eq!((find("HEAD"), find(&branch)), (Some(one), Some(one)));
        set(two);
        assert_eq!((find("HEAD"), find(&branch)), (Some(two), Some(two)), "moved at once");
        #[cfg(unix)]
        {
            std::thread::sleep(LEFT_ALONE);
            assert_eq!(find("HEAD"), Some(two));
            assert_eq!(known.0.borrow().len(), 2, "both are known now");
        }
        assert_eq!(find("HEAD"), Some(two));
        set(one);
        assert_eq!((find("HEAD"), find(&branch)), (Some(one), Some(one)));
        // Git may keep it in another file.
        let packed = format!("{two} {branch}\n");
        std::fs::write(repository.path().join("packed-refs"), packed).unwrap();
        std::fs::remove_file(repository.path().join(&branch)).unwrap();
        assert_eq!((find("HEAD"), find(&branch)), (Some(two), Some(two)));
        repository.set_head_detached(one).unwrap();
        assert_eq!((find("HEAD"), find(&branch)), (Some(one), Some(two)));
    }
}
