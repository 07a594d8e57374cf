//! Formats of repositories that libgit2 cannot open: it reads neither reftables nor SHA-256.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::RepoError;

/// The size in bytes up to which a `.git` file is read: a path of the longest kind, and `gitdir: `.
const LINK_BYTES_MAX: u64 = 8 << 10;

/// Returns the error for a repository, the one of `folder/.git` or `folder`, that could not be opened.
pub(super) fn open_error(folder: &Path, error: git2::Error) -> RepoError {
    match config_of(folder).and_then(|config| unread_extension(&config)) {
        Some(extension) => RepoError::Extension { path: folder.to_path_buf(), extension },
        None => RepoError::git("open the repository", folder, error),
    }
}

/// Returns what to do about a repository with an extension of its format, as `git config` names it.
pub(super) fn help(extension: &str) -> &'static str {
    match extension {
        "refstorage=reftable" => {
            "Let git keep its references in files (git 2.46 and later): `git refs migrate --ref-format=files`."
        }
        "objectformat=sha256" => {
            "Make the fleet in a repository with SHA-1, `git init --object-format=sha1`, and copy its files there."
        }
        _ => "Make a clone of it, `git clone`, which does not have the extension.",
    }
}

fn config_of(folder: &Path) -> Option<PathBuf> {
    let git = folder.join(".git");
    let bare = folder.join("config");
    if git.is_dir() {
        return Some(git.join("config"));
    }
    let Some(own) = git_link(folder) else { return bare.exists().then_some(bare) };
    // Of a work tree: `<repository>/worktrees/<name>`.
    let shared = own.join(std::fs::read_to_string(own.join("commondir")).ok()?.trim());
    Some(shared.join("config"))
}

/// Returns where the `.git` file of a folder leads; `None` when it is no such file.
pub(super) fn git_link(folder: &Path) -> Option<PathBuf> {
    let git = folder.join(".git");
    // Nothing but a plain file is opened: a pipe would be waited for.
    let file = git.is_file().then(|| File::open(&git).ok()).flatten()?;
    let mut text = String::new();
    file.take(LINK_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(folder.join(text.strip_prefix("gitdir:")?.trim()))
}

/// Returns the extension that keeps libgit2 from reading a repository.
fn unread_extension(config: &Path) -> Option<String> {
    let config = git2::Config::open(config).ok()?;
    let value = |name: &str| config.get_string(&format!("extensions.{name}")).ok();
    let reads = |(name, value): &(&str, String)| {
        (*name == "refstorage" && value == "files") || (*name == "objectformat" && value == "sha1")
    };
    let known = ["refstorage", "objectformat", "relativeworktrees", "compatobjectformat"];
    let set = known.into_iter().filter_map(|name| Some((name, value(name)?)));
    set.filter(|one| !reads(one)).map(|(name, value)| format!("{name}={value}")).next()
}
