//! The file of tokens: who may look, a line each, `name sha256:<64 hex digits>`.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::LOG_TARGET;
use crate::model::encoding::hex;
use crate::model::limits::TOKEN_FILE_BYTES_MAX;
use crate::model::text::sanitize_line;

/// Bytes of a new token: nobody guesses it.
const TOKEN_BYTES: usize = 32;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 100;

/// Those who have a token.
pub struct Tokens {
    file: PathBuf,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    changed: Option<(SystemTime, u64)>,
    people: Vec<(String, [u8; 32])>,
}

impl Tokens {
    /// Reads a file of tokens.
    ///
    /// # Errors
    /// It cannot be read, or a line is none; the error says which.
    pub fn open(file: &Path) -> Result<Tokens, String> {
        let read = Read { changed: changed(file), people: read(file)? };
        Ok(Tokens { file: file.to_path_buf(), read: Mutex::new(read) })
    }

    /// Returns who has a token. A file that was edited is read again; while it cannot be, what it had counts.
    pub fn name_of(&self, token: &str) -> Option<String> {
        self.name_by(&digest_of(token))
    }

    /// Returns who has the token of a digest, as [`Tokens::name_of`] does.
    pub fn name_by(&self, digest: &[u8; 32]) -> Option<String> {
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let now = changed(&self.file);
        if now != known.changed {
            match read(&self.file) {
                Ok(people) => known.people = people,
                Err(error) => tracing::warn!(target: LOG_TARGET, %error, "the tokens are those from before"),
            }
            known.changed = now;
        }
        let mut found = None;
        // All are compared: how long it takes says nothing.
        for (name, other) in &known.people {
            if bool::from(digest.ct_eq(other)) {
                found = Some(name.clone());
            }
        }
        found
    }
}

/// Returns the digest of a token.
pub fn digest_of(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Returns a new token, and the line of the file for it.
///
/// # Errors
/// The name is none for the file, or the system has no randomness.
pub fn new_token(name: &str) -> Result<(String, String), String> {
    if !is_name(name) {
        return Err(format!("the name `{}` has a space, or is empty or too long", sanitize_line(name)));
    }
    let mut drawn = [0; TOKEN_BYTES];
    getrandom::fill(&mut drawn).map_err(|error| format!("the system has no randomness: {error}"))?;
    let token = hex(&drawn);
    let line = format!("{name} sha256:{}", hex(&digest_of(&token)));
    Ok((token, line))
}

fn is_name(name: &str) -> bool {
    let is_safe = |c: char| !c.is_whitespace() && !c.is_control();
    !name.is_empty() && name.chars().count() <= NAME_CHARS_MAX && name.chars().all(is_safe) && !name.starts_with('#')
}

fn changed(file: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(file: &Path) -> Result<Vec<(String, [u8; 32])>, String> {
    let fail = |error: io::Error| format!("{} cannot be read: {error}", file.display());
    let mut text = String::new();
    File::open(file).map_err(fail)?.take(TOKEN_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(fail)?;
    if text.len() as u64 > TOKEN_FILE_BYTES_MAX {
        return Err(format!("{} has more than {TOKEN_FILE_BYTES_MAX} bytes", file.display()));
    }
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let person = |(number, line)| {
        person(line)
            .ok_or_else(|| format!("line {number} of {} is not `name sha256:` and 64 hex digits", file.display()))
    };
    lines.map(person).collect()
}

fn person(line: &str) -> Option<(String, [u8; 32])> {
    let (name, rest) = line.split_once(char::is_whitespace)?;
    let digits = rest.trim().strip_prefix("sha256:").filter(|digits| digits.len() == 64 && digits.is_ascii())?;
    let mut digest = [0; 32];
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    is_name(name).then(|| (name.to_string(), digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_that_of_its_line_and_a_file_that_was_edited_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        let ((ann, first), (bob, second)) = (new_token("ann").unwrap(), new_token("bob").unwrap());
        std::fs::write(&file, format!("# who may look\n\n{first}\n")).unwrap();
        let tokens = Tokens::open(&file).unwrap();
        assert_eq!((tokens.name_of(&ann).as_deref(), tokens.name_of(&bob)), (Some("ann"), None));
        std::fs::write(&file, format!("{first}\n{second}\n")).unwrap();
        assert_eq!(tokens.name_of(&bob).as_deref(), Some("bob"));
        std::fs::write(&file, "no line\n").unwrap();
        assert_eq!(tokens.name_of(&bob).as_deref(), Some("bob"), "what it had counts");
        let error = Tokens::open(&file).err().unwrap();
        assert!(error.contains("line 1 of"), "{error}");
        assert!(!first.contains(&ann) && ann != bob && ann.len() == 64);
    }

    #[test]
    fn a_line_is_a_name_and_a_digest() {
        let digits = "0f".repeat(32);
        let check = |line: &str, is_one: bool| assert_eq!(person(line).is_some(), is_one, "{line}");
        check(&format!("ann sha256:{digits}"), true);
        check(&format!("ann\tsha256:{digits}"), true);
        check(&format!("ann sha1:{digits}"), false);
        check(&format!("ann sha256:{digits}0"), false);
        check("ann sha256:é", false);
        check(&format!("sha256:{digits}"), false);
        for name in ["", "a b", "a\nb", "#a", &"x".repeat(101)] {
            assert!(new_token(name).is_err(), "{name}");
        }
    }
}
