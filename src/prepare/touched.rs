//! The documents that a commit adds, edits or deletes, and those whose files it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::PrepareError;
use crate::access::{Reach, Touched};
use crate::manifest::{Outline, Outlined, is_yaml, outline};
use crate::model::access::Access;
use crate::model::entry::ContentId;
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::repo::{FLEET_FILE, FleetTree, Repo};

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
    known: BTreeMap<(String, ContentId), Rc<Outline>>,
    /// The files of the commits that were looked at last, two at most.
    trees: Vec<(String, FleetTree<'a>)>,
}

impl<'a> Outlines<'a> {
    pub fn new(repo: &'a Repo) -> Outlines<'a> {
        Outlines { repo, known: BTreeMap::new(), trees: Vec::new() }
    }

    /// Returns the documents that a commit has otherwise than another one, its parent on the line.
    ///
    /// # Errors
    /// A commit is not there.
    pub fn changes(&mut self, before: Option<&str>, after: &str) -> Result<Vec<Change>, PrepareError> {
        let mut changes: BTreeMap<Change, Vec<Touched>> = BTreeMap::new();
        let mut paths = BTreeSet::new();
        for path in self.repo.changed_paths(before, after)? {
            if let Some(folder) = folder_of_fleet(&path) {
                // It hides what lies in its folder from this fleet, or brings it in.
                let change = Change { kind: None, name: None, path: path.clone(), touched: Vec::new() };
                changes.entry(change).or_default().push(unknown(folder));
            } else if self.has(before, &path) || self.has(Some(after), &path) {
                paths.insert(path);
            }
        }
        for path in paths.iter().filter(|path| is_yaml(path)) {
            let old = before
                .map(|before| self.file(before, path))
                .unwrap_or_else(|| Rc::new(Outline { documents: Vec::new(), is_whole: true }));
            let new = self.file(after, path);
            for change in self.of_file(path, (before, &old), (after, &new)) {
                changes.entry(Change { touched: Vec::new(), ..change.clone() }).or_default().extend(change.touched);
            }
        }
        if !paths.is_empty() {
            for (commit, document, path) in self.naming(before, after, &paths) {
                let touched = self.touched(&commit, &document);
                let (kind, name) = (Some(document.kind), document.name.clone());
                changes.entry(Change { kind, name, path, touched: Vec::new() }).or_default().push(touched);
            }
        }
        Ok(changes.into_iter().map(|(change, touched)| Change { touched, ..change }).collect())
    }

    /// Returns true for a file of the fleet at a commit: not one of a fleet in a folder of it.
    fn has(&mut self, commit: Option<&str>, path: &str) -> bool {
        commit.and_then(|commit| self.tree_at(commit)).is_some_and(|tree| tree.entries.contains_key(path))
    }

    /// Returns the Access document of a commit, its organizations as they are written; `None` when it has none that can
    /// be read.
    pub fn access_at(&mut self, commit: &str) -> Option<Access> {
        self.of_kind(commit, Kind::Access).into_iter().find(|one| one.is_usable)?.access
    }

    /// Returns it with the paths that its organizations have at a commit.
    pub fn placed(&mut self, access: &Access, commit: &str) -> Access {
        let mut access = access.clone();
        for grant in &mut access.grants {
            if let Some(text) = grant.organization.take() {
                // One that is not declared is the place of nothing.
                grant.organization = Some(self.place(commit, &text).unwrap_or(text));
            }
        }
        access
    }

    /// Returns true when a commit may have an Access document, one that can be read or not.
    pub fn has_access(&mut self, commit: &str) -> bool {
        !self.of_kind(commit, Kind::Access).is_empty()
    }

    /// Returns what a file declares at a commit; nothing when it is not there.
    fn file(&mut self, commit: &str, path: &str) -> Rc<Outline> {
        let nothing = || Rc::new(Outline { documents: Vec::new(), is_whole: true });
        let Some(tree) = self.tree_at(commit) else { return nothing() };
        let Some(entry) = tree.entries.get(path) else { return nothing() };
        // A link, a submodule, or a file that is too large: what it declares is not known.
        let (Some(id), Ok(bytes)) = (entry.id(), tree.read(path, limits::YAML_FILE_BYTES_MAX as u64)) else {
            return Rc::new(Outline { documents: Vec::new(), is_whole: false });
        };
        Rc::clone(self.known.entry((path.to_string(), id)).or_insert_with(|| Rc::new(outline(path, bytes))))
    }

    /// Returns what all YAML files of a commit declare.
    fn files(&mut self, commit: &str) -> Vec<(String, Rc<Outline>)> {
        let Some(tree) = self.tree_at(commit) else { return Vec::new() };
        let mut found = Vec::new();
        for (path, entry) in tree.entries.iter().filter(|(path, _)| is_yaml(path)) {
            let known = entry.id().and_then(|id| self.known.get(&(path.clone(), id)).cloned());
            found.push((path.clone(), known.unwrap_or_else(|| self.file(commit, path))));
        }
        found
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
                changes.push(Change { kind: None, name: None, path: path.to_string(), touched: vec![unknown(path)] });
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
        let files = self.files(commit);
        files.iter().flat_map(|(_, file)| &file.documents).filter(|one| one.kind == kind).cloned().collect()
    }

    fn tree_at(&mut self, commit: &str) -> Option<FleetTree<'a>> {
        if let Some((_, tree)) = self.trees.iter().find(|(of, _)| of == commit) {
            return Some(tree.clone());
        }
        let tree = self.repo.tree_after(commit, self.trees.last().map(|(_, tree)| tree)).ok()?;
        if self.trees.len() > 1 {
            self.trees.remove(0);
        }
        self.trees.push((commit.to_string(), tree.clone()));
        Some(tree)
    }

    /// Returns the documents that name one of some files, as they are before or after a commit.
    fn naming(
        &mut self,
        before: Option<&str>,
        after: &str,
        files: &BTreeSet<String>,
    ) -> Vec<(String, Outlined, String)> {
        let mut found = Vec::new();
        for commit in before.into_iter().chain([after]) {
            for (path, outline) in self.files(commit) {
                let names = |document: &Outlined| document.files.iter().any(|file| files.contains(file));
                let documents = outline.documents.iter().filter(|document| names(document));
                found.extend(documents.map(|document| (commit.to_string(), document.clone(), path.clone())));
            }
        }
        found
    }
}

/// Returns the folder of another fleet that a path makes or ends: that of a Fleet document's file below the root.
fn folder_of_fleet(path: &str) -> Option<&str> {
    let marker = format!("/{FLEET_FILE}");
    let at = path.find(&marker)?;
    let rest = &path[at + marker.len()..];
    (rest.is_empty() || rest.starts_with('/')).then(|| &path[..at])
}

/// Returns what is changed where the documents are not known: only an administrator may.
fn unknown(name: &str) -> Touched {
    Touched {
        kind: Kind::Fleet,
        name: name.to_string(),
        reach: Reach::Fleet,
        action: None,
        command: None,
        is_known: false,
    }
}
