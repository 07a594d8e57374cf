//! The documents that a commit adds, edits or deletes, and those whose files it changes.

use std::collections::{BTreeMap, BTreeSet};

use super::PrepareError;
use crate::access::{Reach, Touched};
use crate::manifest::{Outline, Outlined, is_yaml, outline};
use crate::model::access::Access;
use crate::model::entry::ContentId;
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::repo::{FleetTree, Repo};

/// A document that is changed; two changes of one document are equal.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// `None` for a file of which the documents are not known.
    pub kind: Option<Kind>,
    pub name: Option<Name>,
    pub path: String,
    /// As it was, and as it is.
    pub touched: Vec<Touched>,
}

impl Change {
    fn key(&self) -> (Option<Kind>, Option<&Name>, Option<&str>) {
        // Where a document is does not matter.
        let path = self.name.is_none().then_some(self.path.as_str());
        (self.kind, self.name.as_ref(), path)
    }
}

impl PartialEq for Change {
    fn eq(&self, other: &Change) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Change {}

impl PartialOrd for Change {
    fn partial_cmp(&self, other: &Change) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Change {
    fn cmp(&self, other: &Change) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// The outlines of files, each read once.
pub(super) struct Outlines<'a> {
    repo: &'a Repo,
    /// By path and content.
    known: BTreeMap<(String, Vec<u8>), Outline>,
    /// Whether the content of a file has a text in it.
    texts: BTreeMap<(ContentId, String), bool>,
    /// The files of the commit that was looked at last.
    tree: Option<(String, FleetTree<'a>)>,
}

impl<'a> Outlines<'a> {
    pub fn new(repo: &'a Repo) -> Outlines<'a> {
        Outlines { repo, known: BTreeMap::new(), texts: BTreeMap::new(), tree: None }
    }

    /// Returns the documents that a commit has otherwise than its first parent.
    ///
    /// # Errors
    /// A commit is not there.
    pub fn changes(&mut self, before: Option<&str>, after: &str) -> Result<Vec<Change>, PrepareError> {
        let paths = self.repo.changed_paths(before, after)?;
        let mut changes: BTreeMap<Change, Vec<Touched>> = BTreeMap::new();
        let mut others = BTreeSet::new();
        for path in paths {
            if !is_yaml(&path) {
                others.insert(path);
                continue;
            }
            let old = before.map(|before| self.file(before, &path)).unwrap_or_default();
            let new = self.file(after, &path);
            for change in self.of_file(&path, (before, &old), (after, &new)) {
                changes.entry(Change { touched: Vec::new(), ..change.clone() }).or_default().extend(change.touched);
            }
        }
        if !others.is_empty() {
            for (commit, document, path) in self.naming(before, after, &others)? {
                let touched = self.touched(&commit, &document);
                let (kind, name) = (Some(document.kind), document.name.clone());
                changes.entry(Change { kind, name, path, touched: Vec::new() }).or_default().push(touched);
            }
        }
        Ok(changes.into_iter().map(|(change, touched)| Change { touched, ..change }).collect())
    }

    /// Returns the Access document of a commit, with the paths of its organizations; `None` when it has none that can be
    /// read.
    pub fn access_at(&mut self, commit: &str) -> Option<Access> {
        let documents = self.of_kind(commit, Kind::Access);
        let mut access = documents.into_iter().find(|one| one.is_usable)?.access?;
        for at in 0..access.grants.len() {
            if let Some(text) = access.grants[at].organization.clone() {
                // One that is not declared is the place of nothing.
                access.grants[at].organization = Some(self.place(commit, &text).unwrap_or(text));
            }
        }
        Some(access)
    }

    /// Returns true when a commit may have an Access document, one that can be read or not.
    pub fn has_access(&mut self, commit: &str) -> bool {
        !self.of_kind(commit, Kind::Access).is_empty()
    }

    /// Returns what a file declares at a commit; nothing when it is not there.
    fn file(&mut self, commit: &str, path: &str) -> Outline {
        let Some(bytes) = self.repo.file_at(commit, path, limits::YAML_FILE_BYTES_MAX) else {
            return Outline { documents: Vec::new(), is_whole: true };
        };
        let key = (path.to_string(), crate::model::digest::Digest::of_bytes(&bytes).to_string().into_bytes());
        self.known.entry(key).or_insert_with(|| outline(path, bytes)).clone()
    }

    fn of_file(&mut self, path: &str, old: (Option<&str>, &Outline), new: (&str, &Outline)) -> Vec<Change> {
        let mut changes = Vec::new();
        for (commit, one, other) in [(old.0, old.1, new.1), (Some(new.0), new.1, old.1)] {
            let Some(commit) = commit else { continue };
            for document in &one.documents {
                let is_same = |there: &&Outlined| {
                    (there.kind, &there.name, there.digest) == (document.kind, &document.name, document.digest)
                };
                if document.name.is_some() && other.documents.iter().any(|there| is_same(&there)) {
                    continue;
                }
                let touched = vec![self.touched(commit, document)];
                let (kind, name) = (Some(document.kind), document.name.clone());
                changes.push(Change { kind, name, path: path.to_string(), touched });
            }
            if !one.is_whole {
                let unknown = Touched {
                    kind: Kind::Fleet,
                    name: path.to_string(),
                    reach: Reach::Fleet,
                    action: None,
                    command: None,
                    is_known: false,
                };
                changes.push(Change { kind: None, name: None, path: path.to_string(), touched: vec![unknown] });
            }
        }
        changes
    }

    fn touched(&mut self, commit: &str, document: &Outlined) -> Touched {
        let reach = match &document.organization {
            None => Reach::Fleet,
            Some(text) => self.place(commit, text).map_or(Reach::Fleet, Reach::Within),
        };
        Touched {
            kind: document.kind,
            name: document.name.as_ref().map(Name::to_string).unwrap_or_default(),
            reach,
            action: document.action,
            command: document.command.clone(),
            is_known: document.is_usable,
        }
    }

    /// Returns the path of an organization at a commit; `None` when it is not declared.
    fn place(&mut self, commit: &str, text: &str) -> Option<String> {
        let parents: BTreeMap<String, Option<String>> = self
            .of_kind(commit, Kind::Organization)
            .into_iter()
            .filter_map(|one| Some((one.name?.to_string(), one.parent.map(|parent| parent.to_string()))))
            .collect();
        let name = text.rsplit('/').next().unwrap_or(text);
        let (mut parts, mut next) = (Vec::new(), Some(name.to_string()));
        while let Some(name) = next.take() {
            next.clone_from(parents.get(&name)?);
            if parts.len() > limits::ORGANIZATION_DEPTH_MAX {
                return None;
            }
            parts.push(name);
        }
        parts.reverse();
        let path = parts.join("/");
        (text == name || text == path).then_some(path)
    }

    /// Returns the documents of a kind at a commit, and those of its files that cannot be read.
    fn of_kind(&mut self, commit: &str, kind: Kind) -> Vec<Outlined> {
        let paths = self.yaml_with(commit, kind.as_str());
        let files: Vec<Outline> = paths.iter().map(|path| self.file(commit, path)).collect();
        files.into_iter().flat_map(|file| file.documents).filter(|one| one.kind == kind).collect()
    }

    /// Returns the YAML files of a commit that have a text in them.
    fn yaml_with(&mut self, commit: &str, text: &str) -> Vec<String> {
        let Some(tree) = self.tree_at(commit) else { return Vec::new() };
        let max = limits::YAML_FILE_BYTES_MAX as u64;
        let mut found = Vec::new();
        for (path, entry) in tree.entries.iter().filter(|(path, _)| is_yaml(path)) {
            let Some(id) = entry.id() else { continue };
            let has = *self.texts.entry((id, text.to_string())).or_insert_with(|| {
                tree.read(path, max).is_ok_and(|bytes| bytes.windows(text.len()).any(|part| part == text.as_bytes()))
            });
            if has {
                found.push(path.clone());
            }
        }
        found
    }

    fn tree_at(&mut self, commit: &str) -> Option<FleetTree<'a>> {
        if let Some((of, tree)) = &self.tree
            && of == commit
        {
            return Some(tree.clone());
        }
        let before = self.tree.take().map(|(_, tree)| tree);
        let tree = self.repo.tree_after(commit, before.as_ref()).ok()?;
        self.tree = Some((commit.to_string(), tree.clone()));
        Some(tree)
    }

    /// Returns the documents that name one of some files, as they are before or after a commit.
    fn naming(
        &mut self,
        before: Option<&str>,
        after: &str,
        files: &BTreeSet<String>,
    ) -> Result<Vec<(String, Outlined, String)>, PrepareError> {
        let mut found = Vec::new();
        for commit in before.into_iter().chain([after]) {
            let names: BTreeSet<&str> = files.iter().filter_map(|path| path.rsplit('/').next()).collect();
            let mut paths = BTreeSet::new();
            for name in names {
                paths.extend(self.yaml_with(commit, name));
            }
            for path in paths {
                for document in self.file(commit, &path).documents {
                    if document.files.iter().any(|file| files.contains(file)) {
                        found.push((commit.to_string(), document, path.clone()));
                    }
                }
            }
        }
        Ok(found)
    }
}
