//! The git repository: reads the fleet's tree at a commit or in the work tree, and writes results.
//!
//! Reading never checks anything out, and results are written straight into the object database: a person's work tree
//! and index stay untouched. Uses git2 (libgit2) for objects and local references.

mod audit;
mod commits;
mod declare;
mod file_state;
mod folder;
mod format;
mod known;
mod mirror;
mod order;
mod owner;
mod read;
mod remote;
mod root;
mod scratch;
mod sign;
mod signatures;
mod touched;
mod tracked;
mod tree;
mod upstream;
mod witness;
mod work;
mod write;
mod writer;

use std::path::{Path, PathBuf};

pub use crate::model::entry::Entry;
pub use audit::{Audit, Behind};
pub use commits::CommitInfo;
pub use declare::{DeclaredCommit, DeclaredFile};
pub use folder::ResultsFolder;
pub use mirror::{MIRRORED, is_branch_name, source_reference};
pub use order::LastChange;
pub use owner::{FLEET_JSON, Owner};
pub use read::FleetTree;
pub use remote::{Call, Move, Pulse, Remote, RemoteError, init_mirror, without_secrets};
pub use sign::check_signing_key;
pub use signatures::{Signature, SigningKeys};
pub use touched::NamedCommit;
pub use tracked::Tracking;
pub use upstream::{Beside, Exchange, Landed, Outgoing, Sent, StillRenewed, Tip, UpstreamError};
pub use witness::{Witness, file_id, is_same_file};
pub use work::work_tree_taking;
pub use write::{BlobId, Changes, Content, FileChange, ResultsBranch};

/// The name of the Fleet document's file, at the root of each fleet.
pub const FLEET_FILE: &str = "fleetform.yaml";

/// A failure of git or of the repository. `Display` says what happened; [`RepoError::help`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    #[error("there is no folder {}", path.display())]
    NoFolder { path: PathBuf },
    /// Git is configured to sign commits, and cannot.
    #[error("git cannot sign the commit, as it is configured to: {why}")]
    Unsigned { why: String },
    #[error("{} is not inside a git repository", path.display())]
    NoRepository { path: PathBuf },
    #[error("there is no fleet at {}: no {FLEET_FILE} in it", path.display())]
    NoFleet { path: PathBuf, around: Option<PathBuf> },
    #[error("the revision {revision} has no fleet: no {FLEET_FILE} in the folder of this one")]
    NoFleetAt { revision: String },
    #[error("{} holds a mirror of {address}", path.display())]
    Mirror { path: PathBuf, address: String },
    #[error("{} lies in a git repository", path.display())]
    InsideRepository { path: PathBuf },
    /// Of another work tree of the repository.
    #[error("the branch is checked out at {}, whose files would not follow", path.display())]
    CheckedOut { path: PathBuf },
    #[error("the repository has no commit yet")]
    NoCommit,
    #[error("the revision `{revision}` is not a commit of this repository")]
    NoRevision { revision: String },
    #[error("`{path}` is {what}")]
    NotAFile { path: String, what: &'static str },
    #[error("`{path}` has {size} bytes, and at most {max} are read")]
    TooLarge { path: String, size: u64, max: u64 },
    #[error("`{path}` exists on the results branch already")]
    AlreadyWritten { path: String },
    #[error("the branch {branch} is gone")]
    Gone { branch: String },
    #[error(
        "another registry works on this fleet: the branch {branch} is that of the registry {} on {}", short(registry),
        if host.is_empty() { "another machine" } else { host }
    )]
    NotOwner { branch: String, registry: String, host: String },
    #[error("the branch `{other}` is in the way of `{branch}`, to which the results go: git keeps one or the other")]
    InTheWay { branch: String, other: String },
    #[error("the branch {branch} kept moving while results were written to it")]
    Contended { branch: String },
    #[error("the branch {branch} is locked: {} is there", path.display())]
    Locked { branch: String, path: PathBuf },
    #[error("the repository {} cannot be written", path.display())]
    ReadOnly { path: PathBuf },
    #[error("the disk is full: the repository {} cannot grow", path.display())]
    Full { path: PathBuf },
    #[error("`{path}` on the results branch cannot be used: {what}")]
    Malformed { path: String, what: String },
    #[error("the repository {} has the format extension {extension}, which fleetform cannot read", path.display())]
    Extension { path: PathBuf, extension: String },
    #[error("git failed to {doing}")]
    Git { doing: String, source: git2::Error },
    #[error("{} cannot be {doing}", path.display())]
    Io { path: PathBuf, doing: &'static str, source: std::io::Error },
}

impl RepoError {
    /// Returns what to do about it, one sentence.
    pub fn help(&self) -> String {
        match self {
            RepoError::NoFolder { .. } => {
                "Name the fleet's folder with -C; `fleetform init` makes a new one.".to_string()
            }
            RepoError::Unsigned { .. } => {
                "Name a key that can sign (`git config user.signingkey KEY`), or switch signing off (`git config \
                    commit.gpgsign false`); with `--global` for all repositories."
                    .to_string()
            }
            RepoError::NoRepository { .. } => "Run `fleetform init` to make a fleet repository here.".to_string(),
            RepoError::NoFleet { around: Some(around), .. } => {
                format!("It is inside the fleet at {}: name that with -C.", around.display())
            }
            RepoError::NoFleetAt { .. } => "Name a revision of the branch that has the fleet's files.".to_string(),
            RepoError::NoFleet { .. } => {
                "Go to the fleet's folder or name it with -C; `fleetform init` makes a new one.".to_string()
            }
            RepoError::Mirror { address, .. } => format!(
                "Commit in a clone and push it there; follow it with `watch --remote {address}`. Give each daemon a \
                    folder of its own with -C."
            ),
            RepoError::InsideRepository { .. } => {
                "Give the daemon that follows a remote a folder of its own with -C, outside of any repository."
                    .to_string()
            }
            RepoError::CheckedOut { .. } => {
                "Check out another branch there, or run the gateway with --remote, in a folder of its own.".to_string()
            }
            RepoError::NoCommit => "Commit the fleet's files first: `git add . && git commit`.".to_string(),
            RepoError::NoRevision { .. } => "Name a branch, a tag or a commit.".to_string(),
            RepoError::NotAFile { .. } => "Put a plain file in its place.".to_string(),
            RepoError::TooLarge { .. } => "Split the file.".to_string(),
            RepoError::AlreadyWritten { .. } | RepoError::Contended { .. } => {
                "Another fleetform works on this fleet: the next try takes up what that has done.".to_string()
            }
            RepoError::NotOwner { .. } => {
                "This one looks and plans. Apply there; when that registry is lost or given up, `fleetform apply \
                    --take-over` closes what it had under way, and sends nothing again."
                    .to_string()
            }
            RepoError::InTheWay { other, .. } => {
                format!("Name another one in `spec.results.branch`, or rename `{other}` with `git branch -m`.")
            }
            RepoError::Gone { .. } => {
                "Nothing is lost: the next try publishes it again from what the registry remembers.".to_string()
            }
            RepoError::Locked { .. } => {
                "When no git and no fleetform is running, a process died and left that file: remove it.".to_string()
            }
            RepoError::ReadOnly { .. } => "Check the permissions of its .git folder; nothing was lost.".to_string(),
            RepoError::Full { .. } => {
                "Make room on the disk: the next try goes on where this one was, nothing is lost.".to_string()
            }
            RepoError::Malformed { .. } => {
                "Somebody edited the results branch: restore it with `git reflog` or from a clone.".to_string()
            }
            RepoError::Extension { extension, .. } => format::help(extension).to_string(),
            RepoError::Git { .. } => "Look at the repository with `git fsck` and `git status`.".to_string(),
            RepoError::Io { .. } => "Check the path and its permissions.".to_string(),
        }
    }

    fn git(doing: impl Into<String>, path: &Path, source: git2::Error) -> RepoError {
        let text = source.message();
        let (path, doing) = (path.to_path_buf(), doing.into());
        if text.contains("No space left") {
            RepoError::Full { path }
        } else if text.contains("Permission denied") || text.contains("Read-only file system") {
            RepoError::ReadOnly { path }
        } else {
            RepoError::Git { doing, source }
        }
    }
}

/// A git repository and the folder of one fleet in it.
pub struct Repo {
    repository: git2::Repository,
    /// The fleet's folder from the root of the repository, with `/` at its end; empty at the root.
    prefix: String,
    /// The fleet's folder on disk; `None` in a bare repository.
    folder: Option<PathBuf>,
    /// The folder that a daemon works in, with the repository as its mirror in it.
    home: Option<PathBuf>,
    /// The SSH key that signs the commits of results.
    signing_key: Option<PathBuf>,
    /// The references that were read before.
    known: known::KnownReferences,
}

impl Repo {
    /// Opens the repository around a folder that is the root of a fleet.
    ///
    /// # Errors
    /// There is no repository around the folder.
    pub fn open(folder: &Path) -> Result<Repo, RepoError> {
        set_up_libgit2();
        let absolute = folder.canonicalize().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => RepoError::NoFolder { path: folder.to_path_buf() },
            _ => RepoError::Io { path: folder.to_path_buf(), doing: "opened", source },
        })?;
        // A mirror inside a repository would be a file that the author of any change can add.
        let Some(repository) = discover(&absolute)? else {
            let mirror = Repo::open_mirror(&absolute)?;
            return mirror.ok_or(RepoError::NoRepository { path: absolute });
        };
        let root = repository.workdir().map(Path::to_path_buf);
        let Some(root) = root else {
            return Ok(Repo::of(repository, String::new(), None));
        };
        let root = root.canonicalize().unwrap_or(root);
        let inner = absolute.strip_prefix(&root).unwrap_or(Path::new(""));
        let mut prefix: String = inner.iter().map(|part| format!("{}/", part.to_string_lossy())).collect();
        if inner.as_os_str().is_empty() {
            prefix.clear();
        }
        Ok(Repo::of(repository, prefix, Some(absolute)))
    }

    fn of(repository: git2::Repository, prefix: String, folder: Option<PathBuf>) -> Repo {
        Repo { repository, prefix, folder, home: None, signing_key: None, known: known::KnownReferences::default() }
    }

    /// Returns the fleet's folder on disk; for a mirror the daemon's folder, for another bare repository its own
    /// folder.
    pub fn folder(&self) -> &Path {
        let folder = self.folder.as_deref().or(self.home.as_deref());
        folder.unwrap_or_else(|| self.repository.path())
    }

    /// Returns the full name of the branch that is checked out; `None` for a commit.
    pub fn checked_out_branch(&self) -> Option<String> {
        let head = self.repository.head().ok()?;
        if head.is_branch() { head.name().ok().map(str::to_string) } else { None }
    }

    /// Returns true when the repository's configuration has a remote of this name.
    pub fn has_remote(&self, name: &str) -> bool {
        self.repository.find_remote(name).is_ok_and(|remote| remote.url().is_ok_and(|url| !url.is_empty()))
    }

    /// Returns the address of a remote of the repository's configuration; `None` when there is none of this name.
    pub fn remote_address(&self, name: &str) -> Option<String> {
        self.repository.find_remote(name).ok()?.url().ok().map(str::to_string)
    }

    /// Returns the fleet's folder in the main work tree, which is the same for all work trees of the repository: there
    /// they share what belongs to this machine. Work trees of a bare repository share a folder in that.
    pub fn shared_folder(&self) -> PathBuf {
        match self.main_root() {
            Some(root) => root.join(&self.prefix),
            None => self.folder().to_path_buf(),
        }
    }

    /// Returns the root of the main work tree, for another work tree of its repository.
    fn main_root(&self) -> Option<PathBuf> {
        if !self.repository.is_worktree() {
            return None;
        }
        let common = self.repository.commondir();
        let common = common.canonicalize().unwrap_or_else(|_| common.to_path_buf());
        match common.parent() {
            Some(root) if common.ends_with(".git") => Some(root.to_path_buf()),
            Some(_) | None => Some(common),
        }
    }

    /// Returns the folder that all work trees of the repository share; it holds the references.
    pub fn common_folder(&self) -> &Path {
        self.repository.commondir()
    }

    /// Returns true for a clone with only part of the history.
    pub fn is_shallow(&self) -> bool {
        self.repository.is_shallow()
    }

    /// Returns true for the mirror of a daemon.
    pub fn is_mirror(&self) -> bool {
        self.home.is_some()
    }

    /// Returns the folder that git keeps the repository in: `.git`, or a bare one itself.
    pub fn git_folder(&self) -> &Path {
        self.repository.path()
    }

    /// Returns the nearest folder above the fleet's, inside the repository, that is the root of a fleet.
    pub fn fleet_around(&self) -> Option<PathBuf> {
        let root = self.repository.workdir()?.canonicalize().ok()?;
        let above = self.folder.as_deref()?.ancestors().skip(1).take_while(|folder| folder.starts_with(&root));
        above.into_iter().find(|folder| folder.join(FLEET_FILE).exists()).map(Path::to_path_buf)
    }

    /// Returns the fleet's folder from the root of the repository, with `/` at its end; empty at the root.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns true when the repository has no work tree.
    pub fn is_bare(&self) -> bool {
        self.folder.is_none()
    }

    /// Returns the results branch of the fleet.
    pub fn results<'a>(&'a self, branch: &str) -> ResultsBranch<'a> {
        ResultsBranch::new(&self.repository, branch).signed_with(self.signing_key.as_deref())
    }

    /// Returns the id of the commit that a revision names.
    ///
    /// # Errors
    /// It names no commit.
    pub fn resolve(&self, revision: &str) -> Result<String, RepoError> {
        let missing = || RepoError::NoRevision { revision: revision.to_string() };
        // Nearly every branch leads to a commit, and is asked for again and again.
        if revision.starts_with("refs/")
            && let Ok(id) = self.known.id_of(&self.repository, revision)
            && self.repository.find_commit(id).is_ok()
        {
            return Ok(id.to_string());
        }
        let object = self.repository.revparse_single(revision).map_err(|_| missing())?;
        let commit = object.peel_to_commit().map_err(|_| missing())?;
        Ok(commit.id().to_string())
    }

    /// Returns the commit that two commits come from; `None` where their histories do not meet in this repository, as in
    /// a shallow clone.
    pub fn merge_base(&self, one: &str, other: &str) -> Option<String> {
        let (one, other) = (git2::Oid::from_str(one).ok()?, git2::Oid::from_str(other).ok()?);
        Some(self.repository.merge_base(one, other).ok()?.to_string())
    }

    /// Returns true when a commit is another one or comes after it; `None` when one of them is not there.
    pub fn descends(&self, commit: &str, from: &str) -> Option<bool> {
        let (commit, from) = (git2::Oid::from_str(commit).ok()?, git2::Oid::from_str(from).ok()?);
        self.repository.find_commit(from).ok()?;
        Some(commit == from || self.repository.graph_descendant_of(commit, from).ok()?)
    }

    /// Returns the branch that is checked out, or that `HEAD` of a bare repository names; `None` when it is no branch.
    pub fn head_branch(&self) -> Option<String> {
        let head = self.repository.find_reference("HEAD").ok()?;
        let target = head.symbolic_target().ok().flatten()?;
        target.strip_prefix("refs/heads/").map(str::to_string)
    }

    /// Returns a branch because of which one of this name cannot exist: git keeps a branch in a file, and `a` and `a/b`
    /// would be a file and a folder.
    pub fn branch_in_the_way(&self, name: &str) -> Option<String> {
        branch_in_the_way(&self.repository, name)
    }

    /// Returns the id of the commit of `HEAD`.
    ///
    /// # Errors
    /// There is no commit yet.
    pub fn head(&self) -> Result<String, RepoError> {
        let id = self.known.id_of(&self.repository, "HEAD");
        let head = id.and_then(|id| self.repository.find_commit(id));
        head.map(|commit| commit.id().to_string()).map_err(|_| RepoError::NoCommit)
    }
}

fn branch_in_the_way(repository: &git2::Repository, name: &str) -> Option<String> {
    let exists = |name: &str| repository.refname_to_id(&format!("refs/heads/{name}")).is_ok();
    let above = name.match_indices('/').map(|(at, _)| &name[..at]).find(|above| exists(above));
    above.map(str::to_string).or_else(|| {
        let mut below = repository.references_glob(&format!("refs/heads/{name}/*")).ok()?;
        let first = below.names().next()?.ok()?.strip_prefix("refs/heads/")?.to_string();
        Some(first)
    })
}

/// Returns the repository of a folder: of the nearest folder above that has a `.git`, else the bare repository that the
/// folder is; `None` when there is neither. The files of a bare repository inside a work tree may have come with a
/// commit: they count only when git tracks none of them, they lie apart from a fleet's files, and the folder is named
/// as a bare repository is, with `.git` at its end. A `.git` that leads into the folder that has it is passed over: what
/// it leads to are files of the fleet.
pub(super) fn discover(folder: &Path) -> Result<Option<git2::Repository>, RepoError> {
    let mut around = None;
    let has_git = |above: &&Path| above.join(".git").symlink_metadata().is_ok() && !leads_inside(above);
    for above in folder.ancestors().filter(has_git) {
        match git2::Repository::open_ext(above, git2::RepositoryOpenFlags::NO_SEARCH, std::iter::empty::<&Path>()) {
            Ok(repository) => {
                around = Some(repository);
                break;
            }
            Err(error) if error.code() == git2::ErrorCode::NotFound => {}
            Err(error) => return Err(format::open_error(above, error)),
        }
    }
    if folder.join(FLEET_FILE).exists() {
        return Ok(around);
    }
    let is_named_so = folder.extension().is_some_and(|extension| extension == "git");
    let may_be_bare = around.as_ref().is_none_or(|around| is_named_so && !tracks(around, folder));
    let flags = git2::RepositoryOpenFlags::NO_SEARCH | git2::RepositoryOpenFlags::BARE;
    match git2::Repository::open_ext(folder, flags, std::iter::empty::<&Path>()) {
        // Of a work tree it would be the `.git` in it.
        Ok(bare) if may_be_bare && bare.path().canonicalize().is_ok_and(|path| path == folder) => Ok(Some(bare)),
        Ok(_) => Ok(around),
        Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(around),
        Err(error) if around.is_none() => Err(format::open_error(folder, error)),
        Err(_) => Ok(around),
    }
}

/// Returns true when the `.git` of a folder is a link or a file that leads to something in that folder.
fn leads_inside(folder: &Path) -> bool {
    let git = folder.join(".git");
    let is_link = git.symlink_metadata().is_ok_and(|found| found.is_symlink());
    let target = match format::git_link(folder) {
        Some(target) => Some(target),
        None => is_link.then_some(git),
    };
    let target = target.and_then(|target| target.canonicalize().ok());
    let folder = folder.canonicalize().ok();
    target.zip(folder).is_some_and(|(target, folder)| target.starts_with(folder))
}

/// Returns true when git tracks anything in a folder, or that cannot be told.
fn tracks(repository: &git2::Repository, folder: &Path) -> bool {
    let root = repository.workdir().and_then(|root| root.canonicalize().ok());
    let Some(inner) = root.and_then(|root| folder.strip_prefix(root).map(Path::to_path_buf).ok()) else { return true };
    let in_head =
        repository.head().and_then(|head| head.peel_to_tree()).is_ok_and(|tree| tree.get_path(&inner).is_ok());
    let prefix = format!("{}/", inner.to_string_lossy());
    in_head
        || repository
            .index()
            .is_ok_and(|index| index.iter().any(|entry| String::from_utf8_lossy(&entry.path).starts_with(&prefix)))
}

/// The size in bytes of libgit2's cache of commits and small trees. With its default of 256 MiB a daemon would grow to
/// that size over months.
const CACHE_BYTES_MAX: isize = 2 << 20;

/// Makes libgit2 fsync objects and references, because a claim must survive a power cut, and bounds its cache.
fn set_up_libgit2() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: these calls set global switches of libgit2, one that takes an int and one that takes an ssize_t;
        // `git2` initialises the library on first use. git2 0.21 has no safe calls for them.
        #[expect(unsafe_code, reason = "the only way to reach these switches")]
        unsafe {
            libgit2_sys::git_libgit2_opts(libgit2_sys::GIT_OPT_ENABLE_FSYNC_GITDIR as libc_int, 1 as libc_int);
            libgit2_sys::git_libgit2_opts(libgit2_sys::GIT_OPT_SET_CACHE_MAX_SIZE as libc_int, CACHE_BYTES_MAX);
        }
    });
}

#[expect(non_camel_case_types, reason = "the C type of the call above")]
type libc_int = std::ffi::c_int;

/// Returns the beginning of an identity, which is enough to tell it from others.
fn short(identity: &str) -> String {
    crate::model::text::sanitize_line(identity).chars().take(8).collect()
}
