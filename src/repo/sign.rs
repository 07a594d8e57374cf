//! Signs commits: those of a daemon with a key of its own, those of a person as git is configured to.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use git2::{Commit, Oid, Repository, Signature, Tree};

use super::remote::Git;
use super::{Repo, RepoError, ResultsBranch};

/// How long git may take to sign a commit: a person may have to type.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Checks that a key can sign, so that a daemon does not learn it from its first result.
///
/// # Errors
/// Why it cannot: a sentence.
pub fn check_signing_key(key: &Path) -> Result<(), String> {
    ssh_signature(key, b"fleetform").map(drop)
}

/// Writes a commit with a signature of an SSH key; without a key, one without. No reference moves.
pub(super) fn write_commit(
    repository: &Repository,
    key: Option<&Path>,
    (author, committer): (&Signature<'_>, &Signature<'_>),
    message: &str,
    tree: &Tree<'_>,
    parents: &[&Commit<'_>],
) -> Result<Oid, git2::Error> {
    let Some(key) = key else { return repository.commit(None, author, committer, message, tree, parents) };
    let content = repository.commit_create_buffer(author, committer, message, tree, parents)?;
    let text = std::str::from_utf8(&content).map_err(|_| git2::Error::from_str("the commit is not UTF-8"))?;
    let signature = ssh_signature(key, text.as_bytes()).map_err(|what| git2::Error::from_str(&what))?;
    repository.commit_signed(text, &signature, Some("gpgsig"))
}

/// Returns the signature of bytes in the namespace of git (ssh-keygen(1), `-Y sign`).
fn ssh_signature(key: &Path, bytes: &[u8]) -> Result<String, String> {
    let cannot = |what: &str| format!("the key {} cannot sign: {what}", key.display());
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-Y", "sign", "-n", "git", "-f"]).arg(key);
    // A key that needs a word has nobody to ask; an agent may have it.
    command.env("SSH_ASKPASS", "false").env("SSH_ASKPASS_REQUIRE", "force");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| cannot(&format!("ssh-keygen cannot be started: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // When it does not read, it says why.
        drop(stdin.write_all(bytes));
    }
    let output = child.wait_with_output().map_err(|error| cannot(&error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
    match (output.status.success(), String::from_utf8(output.stdout)) {
        (true, Ok(signature)) if signature.starts_with("-----BEGIN SSH SIGNATURE-----") => Ok(signature),
        _ => Err(cannot(if said.is_empty() { "ssh-keygen has not said why" } else { &said })),
    }
}

impl<'a> ResultsBranch<'a> {
    /// Signs its commits with a key.
    pub(super) fn signed_with(mut self, key: Option<&Path>) -> ResultsBranch<'a> {
        self.signing_key = key.map(Path::to_path_buf);
        self
    }

    /// Writes a commit, signed when there is a key. No reference moves.
    pub(super) fn write_commit(
        &self,
        people: (&Signature<'_>, &Signature<'_>),
        message: &str,
        tree: &Tree<'_>,
        parents: &[&Commit<'_>],
    ) -> Result<Oid, git2::Error> {
        write_commit(self.repository(), self.signing_key.as_deref(), people, message, tree, parents)
    }
}

impl Repo {
    /// Signs the commits of results with an SSH key from now on.
    pub fn sign_with(&mut self, key: Option<&Path>) {
        self.signing_key = key.map(Path::to_path_buf);
    }

    /// Writes a commit on `HEAD` as git would: signed when it is configured to sign.
    ///
    /// # Errors
    /// The repository cannot be written, or git cannot sign.
    pub(super) fn commit_on_head(
        &self,
        message: &str,
        tree: &Tree<'_>,
        parent: Option<&Commit<'_>>,
    ) -> Result<Oid, RepoError> {
        let fail = |e| RepoError::git("commit the files", self.repository.path(), e);
        let signature = self.repository.signature();
        let author = signature.or_else(|_| Signature::now("fleetform", "fleetform@localhost")).map_err(fail)?;
        let parents: Vec<&Commit<'_>> = parent.into_iter().collect();
        let signs = self.repository.config().and_then(|config| config.get_bool("commit.gpgsign")).unwrap_or(false);
        if !signs {
            return self.repository.commit(Some("HEAD"), &author, &author, message, tree, &parents).map_err(fail);
        }
        let commit = self.signed_by_git(message, tree, parent, &author)?;
        let log = format!("commit: {}", message.lines().next().unwrap_or_default());
        let move_head = || {
            let head = self.repository.find_reference("HEAD")?;
            match (head.symbolic_target().ok().flatten(), parent) {
                (Some(branch), Some(parent)) => {
                    self.repository.reference_matching(branch, commit, true, parent.id(), &log)
                }
                (Some(branch), None) => self.repository.reference(branch, commit, false, &log),
                (None, _) => self.repository.reference("HEAD", commit, true, &log),
            }
        };
        move_head().map_err(fail)?;
        Ok(commit)
    }

    fn signed_by_git(
        &self,
        message: &str,
        tree: &Tree<'_>,
        parent: Option<&Commit<'_>>,
        author: &Signature<'_>,
    ) -> Result<Oid, RepoError> {
        let text = |text: Result<&str, git2::Error>| text.unwrap_or_default().to_string();
        let environment = [("GIT_AUTHOR", author), ("GIT_COMMITTER", author)].map(|(prefix, person)| {
            [
                (format!("{prefix}_NAME").into(), text(person.name()).into()),
                (format!("{prefix}_EMAIL").into(), text(person.email()).into()),
            ]
        });
        let environment = environment.concat();
        let git = Git { repository: self.git_folder(), environment: &environment, time_max: TIME_MAX, pulse: None };
        let (tree, parent) = (tree.id().to_string(), parent.map(|parent| parent.id().to_string()));
        let mut arguments = vec!["commit-tree", "-S", "-m", message];
        arguments.extend(parent.iter().flat_map(|parent| ["-p", parent.as_str()]));
        arguments.push(&tree);
        let refuse = |why: &str| RepoError::Unsigned { why: why.to_string() };
        let output = git.run(&[], &arguments).map_err(|error| refuse(&error.to_string()))?;
        let said = output.stderr.trim();
        let refused = || {
            let why = if said.is_empty() { "git has not said why" } else { said };
            refuse(why)
        };
        if !output.is_success() {
            return Err(refused());
        }
        Oid::from_str(output.stdout.trim()).map_err(|_| refused())
    }
}
