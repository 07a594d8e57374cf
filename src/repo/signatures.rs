//! Who signed commits, by git itself and the keys that a tree has.
//!
//! The keys are those of the caller alone: neither the user's allowed signers nor the user's key ring counts. What the
//! operator has configured as the program that checks signatures does (`gpg.ssh.program`, `gpg.program`).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::remote::Git;
use super::{Repo, RepoError};

/// Commits that are checked by one process of git.
const AT_ONCE: usize = 200;
/// Processes of git at once.
const THREADS_MAX: usize = 4;
/// How long git may take for these; each starts a program of its own.
const TIME_MAX: Duration = Duration::from_secs(300);

/// The public keys of those who may sign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SigningKeys {
    /// A file in git's format of allowed signers (ssh-keygen(1), ALLOWED SIGNERS).
    pub allowed_signers: Option<Vec<u8>>,
    /// OpenPGP public keys, armored or not.
    pub openpgp: Option<Vec<u8>>,
}

/// What git says of the signature of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// There is none.
    None,
    /// Of a known key, by the name that the key has: a principal, or the address of an OpenPGP key.
    Good { signer: String },
    /// Of a key that is not known.
    UnknownKey { key: String },
    /// Of a known key whose time is over, or that was revoked.
    Expired { signer: String },
    /// It does not fit the commit, or cannot be checked.
    Bad,
}

impl Repo {
    /// Returns the signatures of commits, by their ids. The keys are written into a folder for git, which is empty, and
    /// which only this user can read.
    ///
    /// # Errors
    /// Git cannot be started or takes too long, or the keys cannot be written for it.
    pub fn signatures(
        &self,
        commits: &[String],
        keys: &SigningKeys,
        path: &Path,
    ) -> Result<BTreeMap<String, Signature>, RepoError> {
        let io = |source| RepoError::Io { path: path.to_path_buf(), doing: "written", source };
        let signers = path.join("allowed_signers");
        std::fs::write(&signers, keys.allowed_signers.as_deref().unwrap_or_default()).map_err(io)?;
        let ring = path.join("gnupg");
        std::fs::create_dir(&ring).map_err(io)?;
        restrict(&ring).map_err(io)?;
        std::fs::write(ring.join("gpg.conf"), "no-auto-key-retrieve\nno-autostart\n").map_err(io)?;
        if let Some(openpgp) = &keys.openpgp {
            let file = path.join("keys");
            std::fs::write(&file, openpgp).map_err(io)?;
            // Without the program, or with a file that has no keys, no signature of the kind is good.
            let mut command = std::process::Command::new("gpg");
            command.arg("--homedir").arg(&ring).args(["--batch", "--quiet", "--import"]).arg(&file);
            drop(command.stdin(std::process::Stdio::null()).output());
        }
        let known = fingerprints(keys.allowed_signers.as_deref().unwrap_or_default());
        let keys = Keys { signers: &signers, ring: &ring, known: &known };
        // Nearly all of the time goes into programs that git starts, one for each commit.
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let share = commits.len().div_ceil(threads).max(1);
        let repository = self.git_folder();
        let parts = std::thread::scope(|scope| {
            let begun: Vec<_> =
                commits.chunks(share).map(|part| scope.spawn(move || checked(repository, part, keys))).collect();
            let ended =
                begun.into_iter().map(|thread| thread.join().map_err(|_| std::io::Error::other("a thread died")));
            ended.map(|part| part.and_then(|part| part)).collect::<std::io::Result<Vec<_>>>()
        });
        let fail = |source| RepoError::Io { path: repository.to_path_buf(), doing: "read by git", source };
        Ok(parts.map_err(fail)?.into_iter().flatten().collect())
    }
}

/// What signatures are checked with.
#[derive(Clone, Copy)]
struct Keys<'a> {
    signers: &'a Path,
    ring: &'a Path,
    /// The principals of the keys, by fingerprint.
    known: &'a BTreeMap<String, String>,
}

/// Returns the signatures of commits.
fn checked(repository: &Path, commits: &[String], keys: Keys<'_>) -> std::io::Result<BTreeMap<String, Signature>> {
    let mut found = BTreeMap::new();
    let environment = [
        (OsString::from("GNUPGHOME"), keys.ring.as_os_str().to_os_string()),
        // A commit is what its id says, whatever was put in its place here.
        (OsString::from("GIT_NO_REPLACE_OBJECTS"), OsString::from("1")),
    ];
    let git = Git { repository, environment: &environment, time_max: TIME_MAX, pulse: None };
    let setting = format!("gpg.ssh.allowedSignersFile={}", keys.signers.display());
    for part in commits.chunks(AT_ONCE) {
        let mut arguments =
            vec!["log", "--no-walk=unsorted", "--format=%H%x1f%G?%x1f%GS%x1f%GK%x1e", "--end-of-options"];
        arguments.extend(part.iter().map(String::as_str));
        let output = git.run(&[&setting], &arguments)?;
        if !output.is_success() {
            let said = output.stderr.trim();
            return Err(std::io::Error::other(if said.is_empty() { "git took too long" } else { said }.to_string()));
        }
        for record in output.stdout.split('\u{1e}') {
            let fields: Vec<&str> = record.trim_start_matches('\n').split('\u{1f}').collect();
            let [commit, verdict, signer, key] = fields[..] else { continue };
            let mut one = signature(verdict, signer, key);
            if let Signature::UnknownKey { key } = &one
                && let Some(signer) = keys.known.get(key)
            {
                // It is listed, and was not valid at the time of the commit.
                one = Signature::Expired { signer: signer.clone() };
            }
            found.insert(commit.to_string(), one);
        }
    }
    Ok(found)
}

/// Returns the principals of the keys of a file of allowed signers, by the fingerprints of the keys as git shows them
/// (RFC 4716 and OpenSSH: `SHA256:` and the digest of the key in base64 without padding).
fn fingerprints(signers: &[u8]) -> BTreeMap<String, String> {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    use sha2::Digest as _;

    let text = String::from_utf8_lossy(signers);
    let of_line = |line: &str| {
        let mut words = line.split_whitespace();
        let principals = words.next().filter(|word| !word.starts_with('#'))?;
        // The key follows its type, whatever options stand before.
        let key = words.find_map(|word| STANDARD.decode(word).ok().filter(|key| key.starts_with(&[0, 0, 0])))?;
        let fingerprint = format!("SHA256:{}", STANDARD_NO_PAD.encode(sha2::Sha256::digest(key)));
        Some((fingerprint, principals.to_string()))
    };
    text.lines().filter_map(of_line).collect()
}

/// Returns the signature for the letter of `%G?` (git-log(1), PRETTY FORMATS).
fn signature(verdict: &str, signer: &str, key: &str) -> Signature {
    let signer = address(signer).to_string();
    match verdict {
        "N" => Signature::None,
        // All keys of the ring are those of the caller, whatever gpg thinks of them; an unknown key of SSH has no name.
        "G" | "U" if !signer.is_empty() => Signature::Good { signer },
        "X" | "Y" | "R" => Signature::Expired { signer },
        "G" | "U" | "E" => Signature::UnknownKey { key: key.to_string() },
        _ => Signature::Bad,
    }
}

/// Returns the address of a user id of OpenPGP, such as `Ann <ann@example.com>`; any other name as it is.
fn address(signer: &str) -> &str {
    let between = signer.rsplit_once('<').and_then(|(_, rest)| rest.strip_suffix('>'));
    between.unwrap_or(signer)
}

#[cfg(unix)]
fn restrict(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn restrict(_: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_letters_of_git_are_read() {
        let good = |signer: &str| Signature::Good { signer: signer.to_string() };
        assert_eq!(signature("G", "ops@example.com", "SHA256:x"), good("ops@example.com"));
        assert_eq!(signature("G", "Ann Example <ann@example.com>", "1234"), good("ann@example.com"));
        assert_eq!(signature("U", "", "SHA256:x"), Signature::UnknownKey { key: "SHA256:x".to_string() });
        assert_eq!(signature("N", "", ""), Signature::None);
        assert_eq!(signature("B", "", ""), Signature::Bad);
        assert_eq!(signature("Y", "a@b", "k"), Signature::Expired { signer: "a@b".to_string() });
    }
}
