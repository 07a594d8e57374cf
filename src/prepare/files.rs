//! The declared files of a fleet: which tree they are read from, and what of them can be used.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::kept::KeptFiles;
use super::load::{load, load_valid_again, load_valid_without};
use super::passed_over::PassedOver;
use super::verified::{Trust, Verified};
use super::verify::verify;
use super::{Findings, PrepareError, Workspace};
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::manifest::{Loaded, ParsedFiles, ValidSubset, may_mention, outline};
use crate::model::access::Sight;
use crate::model::fleet::{Declared, HeldDocuments, Hold};
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::repo::{Entry, FLEET_FILE, FleetTree, Repo, RepoError};

/// What the text of a file with an Access document has in it.
const ACCESS: &str = "Access";

/// Which files to look at.
#[derive(Debug, Clone, Copy)]
pub enum TreeChoice<'a> {
    /// The commit that is checked out.
    Head,
    /// The work tree; in a bare repository, `HEAD`.
    WorkTree,
    /// A commit, by any name that git understands.
    Revision(&'a str),
    /// The work tree as it would be with these bytes at a path, relative to the fleet's folder.
    WorkTreeWith { path: &'a str, bytes: &'a [u8] },
    /// `HEAD` where it is valid, else the work tree where that is, else the first of the work tree, `HEAD` and the
    /// commits before it of which something can be used: for commands that look at what was done.
    Newest,
}

/// What to do about documents with errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// Fail.
    Refuse,
    /// Leave them out, with those that need them.
    Hold,
}

/// The declared files of one tree, and what of them can be used. A clone shares what was read.
#[derive(Clone)]
pub struct Files<'w> {
    pub tree: FleetTree<'w>,
    /// All that was read, with all that was found; what it declares is in `declared`.
    pub loaded: Arc<Loaded>,
    /// What can be used; `None` when the Fleet document cannot.
    pub declared: Option<Arc<Declared>>,
    /// What cannot.
    pub held: Arc<HeldDocuments>,
    /// The newer commit in place of which these files were read, because it cannot be used; what is wrong with it is
    /// in `held`. `None` for the files that were asked for.
    pub passed_over: Option<Arc<PassedOver>>,
}

impl<'w> Files<'w> {
    /// Reads the files of a tree. With [`OnError::Refuse`] all of them can be used, and `declared` is there.
    ///
    /// # Errors
    /// The tree cannot be read, or has no fleet in the folder; with [`OnError::Refuse`], a file is invalid.
    pub fn read(
        workspace: &'w Workspace,
        choice: TreeChoice<'_>,
        on_error: OnError,
    ) -> Result<Files<'w>, PrepareError> {
        if let TreeChoice::Newest = choice {
            if let Some(files) = Files::kept(workspace, on_error)? {
                return Ok(files);
            }
            let files = Files::read_newest(workspace, on_error)?;
            files.keep(workspace);
            return Ok(files);
        }
        let files = Files::read_all(workspace, choice, on_error)?;
        if on_error == OnError::Refuse {
            files.declared()?;
        }
        Ok(files)
    }

    /// Reads the files of a tree with all that is wrong with them.
    ///
    /// # Errors
    /// The tree cannot be read, or has no fleet in the folder.
    pub fn read_all(
        workspace: &'w Workspace,
        choice: TreeChoice<'_>,
        on_error: OnError,
    ) -> Result<Files<'w>, PrepareError> {
        let tree = workspace.tree(choice)?;
        let branch = workspace.repo.head_branch();
        Ok(Files::of_tree(tree, (&workspace.repo, branch.as_deref()), on_error, &mut ParsedFiles::default()))
    }

    /// Returns what was read before, where it still holds.
    fn kept(workspace: &'w Workspace, on_error: OnError) -> Result<Option<Files<'w>>, PrepareError> {
        let repo = &workspace.repo;
        let Some(kept) = workspace.kept().files() else { return Ok(None) };
        let is_taken = !kept.is_partial || (repo.is_bare() && on_error == OnError::Hold);
        // Another branch may have come in the way of the results.
        let is_in_the_way = || repo.branch_in_the_way(&kept.declared.fleet.results.branch).is_some();
        if !is_taken || kept.branch != repo.head_branch() || is_in_the_way() {
            return Ok(None);
        }
        let tree = repo.tree_again(&repo.head()?, (&kept.tree, &kept.entries))?;
        Ok(tree.map(|tree| Files {
            tree,
            loaded: Arc::clone(&kept.loaded),
            declared: Some(Arc::clone(&kept.declared)),
            held: Arc::clone(&kept.held),
            passed_over: None,
        }))
    }

    /// Keeps what was read of a commit: a work tree may be another one at the next look.
    fn keep(&self, workspace: &Workspace) {
        let (Some(tree), Some(declared)) = (&self.tree.tree, &self.declared) else { return };
        if !workspace.kept().keeps() || self.puts_results_on_source() || self.passed_over.is_some() {
            return;
        }
        workspace.kept().keep_files(KeptFiles {
            tree: tree.clone(),
            branch: workspace.repo.head_branch(),
            is_partial: self.loaded.diagnostics.has_errors(),
            entries: Arc::clone(&self.tree.entries),
            loaded: Arc::clone(&self.loaded),
            declared: Arc::clone(declared),
            held: Arc::clone(&self.held),
        });
    }

    /// Reads the files of a tree that is followed as `branch`. What is in `parsed` and has not changed is not read
    /// again.
    pub fn of_tree(
        tree: FleetTree<'w>,
        (repo, branch): (&Repo, Option<&str>),
        on_error: OnError,
        parsed: &mut ParsedFiles,
    ) -> Files<'w> {
        let ValidSubset { mut loaded, held } = match on_error {
            OnError::Refuse => ValidSubset { loaded: load(&tree), held: HeldDocuments::default() },
            OnError::Hold => load_valid_again(&tree, parsed),
        };
        refuse_results_on(branch, repo, &mut loaded);
        let declared = loaded.declared.take().map(Arc::new);
        Files { tree, loaded: Arc::new(loaded), declared, held: Arc::new(held), passed_over: None }
    }

    /// Verifies the history of a commit, when the fleet restricts who may change what. With a change, the commits that it
    /// adds to that.
    ///
    /// # Errors
    /// The history or the keys cannot be read, or git cannot check signatures.
    pub fn verify(
        &self,
        repo: &Repo,
        (head, change): (&str, Option<&str>),
        trust: &Trust,
    ) -> Result<Verified, PrepareError> {
        let declares = self.loaded.spans.files_of(&[Kind::Access]).next().is_some();
        // A file that cannot be read may be the one.
        let may_declare = |path: &String| mentions_access(&self.tree, path);
        let declared = declares || self.held.files.keys().any(may_declare);
        // What is to be merged may take it away.
        let is_restricted = declared || change.is_some() && self.is_restricted_by(repo, head)?;
        verify(repo, (head, change), trust, is_restricted)
    }

    /// Returns true when a commit may declare an Access document that these files have not.
    fn is_restricted_by(&self, repo: &Repo, commit: &str) -> Result<bool, PrepareError> {
        let there = repo.tree_after(commit, Some(&self.tree))?;
        let is_other = |path: &String, entry: &Entry| {
            entry.id().is_none() || self.tree.entries.get(path).and_then(|own| own.id()) != entry.id()
        };
        let mentions = |path: &String| mentions_access(&there, path);
        let mut entries = there.entries.iter().filter(|(path, _)| crate::manifest::is_yaml(path));
        Ok(entries.any(|(path, entry)| is_other(path, entry) && mentions(path)))
    }

    /// Returns true when an Access document is declared, or was once verified.
    pub fn may_be_governed(&self, repo: &Repo) -> bool {
        self.loaded.spans.files_of(&[Kind::Access]).next().is_some() || super::verify::has_verified(repo)
    }

    /// Leaves out what commits have changed that were not allowed to, and what needs it; says so in the findings.
    pub fn hold(
        self,
        verified: &Verified,
        (repo, branch): (&Repo, Option<&str>),
        parsed: &mut ParsedFiles,
    ) -> Files<'w> {
        if verified.is_whole() {
            return self;
        }
        let Files { tree, .. } = self;
        let ValidSubset { mut loaded, held } = load_valid_without(&tree, parsed, &verified.holds());
        refuse_results_on(branch, repo, &mut loaded);
        loaded.diagnostics.extend(verified.diagnostics(&loaded));
        let declared = loaded.declared.take().filter(|_| verified.distrust().is_none()).map(Arc::new);
        Files { tree, loaded: Arc::new(loaded), declared, held: Arc::new(held), passed_over: None }
    }

    /// Returns what is declared, all of it valid.
    ///
    /// # Errors
    /// Something is not.
    pub fn declared(&self) -> Result<&Arc<Declared>, PrepareError> {
        self.declared.as_ref().filter(|_| !self.loaded.diagnostics.has_errors()).ok_or_else(|| self.invalid())
    }

    /// Returns what can be used.
    ///
    /// # Errors
    /// The Fleet document cannot.
    pub fn usable(&self) -> Result<&Arc<Declared>, PrepareError> {
        self.declared.as_ref().ok_or_else(|| self.invalid())
    }

    /// Returns what was found, and `later` findings about the same files.
    pub fn findings(&self, later: Diagnostics) -> Findings {
        Findings::of(&self.loaded, later)
    }

    /// Returns all that was found, as an error.
    pub fn invalid(&self) -> PrepareError {
        PrepareError::Invalid(Box::new(self.findings(Diagnostics::new())))
    }

    /// Returns true when a daemon takes up the commit of these files.
    pub fn is_usable(&self) -> bool {
        self.declared.is_some() && !self.puts_results_on_source()
    }

    /// Returns true when the results would go to the branch that the files are declared on, or cannot go to theirs.
    pub fn puts_results_on_source(&self) -> bool {
        let codes = [code::RESULTS_ON_SOURCE, code::BRANCH_IN_THE_WAY];
        self.loaded.diagnostics.iter().any(|found| codes.contains(&found.code))
    }

    /// Returns what cannot be used of what may be looked at. A file that cannot be read may be about any device.
    pub fn held_within(&self, sight: &Sight, declared: &Declared) -> HeldDocuments {
        if sight.is_whole() {
            return HeldDocuments::clone(&self.held);
        }
        let is_seen = |kind: Kind, name: &Name, hold: &Hold| {
            let path = &hold.place.as_ref()?.path;
            let bytes = self.tree.read(path, limits::YAML_FILE_BYTES_MAX as u64).ok()?;
            Some(sight.has(Some(organization_said((path, bytes), (kind, name), declared)?)))
        };
        let documents = self.held.documents.iter();
        let documents = documents.filter(|((kind, name), hold)| is_seen(*kind, name, hold).unwrap_or_default());
        HeldDocuments {
            documents: documents.map(|(key, hold)| (key.clone(), hold.clone())).collect(),
            ..HeldDocuments::default()
        }
    }

    /// Returns true when a document that cannot be used is of a kind and name, or may be.
    pub fn may_hold(&self, kind: Kind, name: &str) -> bool {
        self.held.is_partial || self.held.of_kind(kind).any(|(held, _)| held.as_str() == name)
    }
}

impl Workspace {
    /// Returns the files of a tree.
    ///
    /// # Errors
    /// It cannot be read, or has no fleet in the folder.
    fn tree(&self, choice: TreeChoice<'_>) -> Result<FleetTree<'_>, PrepareError> {
        let no_fleet = || {
            let (path, around) = (self.repo.folder().to_path_buf(), self.repo.fleet_around());
            RepoError::NoFleet { path, around }
        };
        let commit = match choice {
            TreeChoice::Head | TreeChoice::Newest => self.repo.head()?,
            TreeChoice::Revision(revision) => self.repo.resolve(revision)?,
            TreeChoice::WorkTree | TreeChoice::WorkTreeWith { .. } => {
                let mut tree = self.repo.work_tree()?;
                if !is_fleet(&tree) {
                    return Err(no_fleet().into());
                }
                if let TreeChoice::WorkTreeWith { path, bytes } = choice {
                    tree = tree.with(path, bytes);
                }
                return Ok(tree);
            }
        };
        let tree = self.repo.tree_at(&commit)?;
        if !is_fleet(&tree) {
            let is_declared = self.repo.folder().join(FLEET_FILE).exists();
            return Err(if is_declared { RepoError::NoFleetAt { revision: commit } } else { no_fleet() }.into());
        }
        Ok(tree)
    }

    /// Refuses when the work tree declares something else than these files of `HEAD`: what would run is not what the
    /// person sees.
    ///
    /// # Errors
    /// [`PrepareError::Held`]: a declared file is not committed.
    pub fn refuse_uncommitted(&self, files: &Files<'_>) -> Result<(), PrepareError> {
        if self.repo.is_bare() {
            return Ok(());
        }
        let (tree, work) = (&files.tree, self.repo.work_tree()?);
        let here = load(&work);
        let paths: BTreeSet<&String> = files.loaded.declared_files.iter().chain(&here.declared_files).collect();
        let mut differing = Vec::new();
        for path in paths {
            let committed = tree.entries.contains_key(path).then(|| tree.content_id(path)).transpose();
            let present = work.entries.contains_key(path).then(|| work.content_id(path)).transpose();
            match (committed, present) {
                (Ok(one), Ok(two)) if one == two => {}
                _ => differing.push(path.clone()),
            }
        }
        if differing.is_empty() {
            return Ok(());
        }
        let shown = differing.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = differing.len().saturating_sub(5);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(PrepareError::Held {
            what: format!("declared files are not committed: {shown}{more}"),
            help: "Commit them, or put them aside with `git stash -u`: apply executes what is committed.".to_string(),
        })
    }
}

/// Returns true for a file that may have an Access document in it.
fn mentions_access(tree: &FleetTree<'_>, path: &str) -> bool {
    tree.read(path, limits::YAML_FILE_BYTES_MAX as u64).is_ok_and(|bytes| may_mention(&bytes, &[ACCESS]))
}

fn is_fleet(tree: &FleetTree<'_>) -> bool {
    tree.entries.contains_key(FLEET_FILE) || tree.entries.contains_key("fleetform.yml")
}

/// Adds an error when results would go to the branch that the files are declared on, or to one that another branch
/// keeps from existing.
fn refuse_results_on(source: Option<&str>, repo: &Repo, loaded: &mut Loaded) {
    let Some(fleet) = loaded.declared.as_ref().map(|declared| &declared.fleet) else { return };
    let branch = &fleet.results.branch;
    let span = loaded.spans.span_of(Kind::Fleet, &fleet.name, "/spec/results/branch");
    let is_within = |name: &str, other: &str| name.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
    let followed = source.filter(|source| is_within(branch, source) || is_within(source, branch));
    if let Some(other) = followed.map(str::to_string).or_else(|| repo.branch_in_the_way(branch)) {
        let detail = format!("The branch `{other}` is in the way of `{branch}`: git keeps one or the other.");
        let help = format!(
            "Name another one in `spec.results.branch`, such as `results/{}`, or rename `{other}` with `git branch \
             -m`.",
            fleet.name
        );
        loaded.diagnostics.push(Diagnostic::new(code::BRANCH_IN_THE_WAY, span, detail).with_help(help));
        return;
    }
    if source != Some(branch.as_str()) {
        return;
    }
    let detail = format!("`{branch}` is the branch that this file is declared on.");
    let help = "Give the results a branch of their own, such as `fleetform/results`, and run `fleetform init`.";
    loaded.diagnostics.push(Diagnostic::new(code::RESULTS_ON_SOURCE, span, detail).with_help(help));
}

/// Returns the path of the organization that a document says in a file, as it is declared now.
pub fn organization_said<'d>(
    (path, bytes): (&str, Vec<u8>),
    (kind, name): (Kind, &Name),
    declared: &'d Declared,
) -> Option<&'d str> {
    let documents = outline(path, bytes).documents;
    let one = documents.into_iter().find(|one| one.kind == kind && one.name.as_ref() == Some(name))?;
    Some(&declared.organization(&one.organization?)?.path)
}
