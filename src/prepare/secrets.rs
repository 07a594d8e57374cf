//! Secrets on this machine: which ones its operator lets a fleet use, and their values.
//!
//! A pull request is untrusted, and a reference in it could name any variable and any file: what a fleet may read is
//! said outside of its repository, and nothing is read that was not. Messages name the reference, never the value.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::model::job::{Action, Job};
use crate::model::limits;
use crate::model::patch::Patch;
use crate::model::secret::{Masks, SecretKey, SecretRef, SecretText, Secrets, each};

/// What the operator of a machine lets its fleet use.
#[derive(Debug, Clone, Default)]
pub struct AllowedSecrets {
    /// Variables with their values, as the process began.
    variables: BTreeMap<String, Result<SecretText, SecretFault>>,
    /// In the order in which they were given.
    places: Vec<AllowedPlace>,
}

/// An absolute path below which, or at which, a secret may be.
#[derive(Debug, Clone)]
enum AllowedPlace {
    /// A relative reference means it when the path ends with it.
    File(PathBuf),
    /// A relative reference is looked up in it.
    Folder(PathBuf),
}

impl AllowedSecrets {
    /// Allows what a text names: `env:NAME`, `file:/absolute/path`, or `file:/absolute/folder/` for all files below it.
    /// `variable` reads a variable of the environment.
    ///
    /// # Errors
    /// The text is none of them, a sentence.
    pub fn allow(&mut self, text: &str, variable: &dyn Fn(&str) -> Option<OsString>) -> Result<(), String> {
        let wrong = || {
            "it is none of `env:NAME`, `file:/absolute/path` and `file:/absolute/folder/` (with a slash at its end)"
                .to_string()
        };
        let is_legal = |reference: &SecretRef| SecretRef::of(&reference.to_json()).is_some();
        match text.split_once(':') {
            Some(("env", name)) if is_legal(&SecretRef::Env(name.to_string())) => {
                let value = match variable(name) {
                    None => Err(SecretFault::Unset),
                    Some(value) => SecretText::new(value.into_encoded_bytes()).map_err(SecretFault::Unusable),
                };
                self.variables.insert(name.to_string(), value);
                Ok(())
            }
            Some(("file", path)) if path.starts_with('/') => {
                let bare = path.strip_suffix('/').unwrap_or(path);
                if !bare.is_empty() && !is_legal(&SecretRef::File(bare.to_string())) || bare.is_empty() {
                    return Err(wrong());
                }
                self.places.push(match path.ends_with('/') {
                    true => AllowedPlace::Folder(PathBuf::from(bare)),
                    false => AllowedPlace::File(PathBuf::from(bare)),
                });
                Ok(())
            }
            _ => Err(wrong()),
        }
    }

    /// Reads the value of a secret.
    fn read(&self, reference: &SecretRef) -> Result<SecretText, SecretFault> {
        let path = match reference {
            SecretRef::Env(name) => return self.variables.get(name).cloned().unwrap_or(Err(SecretFault::NotAllowed)),
            SecretRef::File(path) => Path::new(path),
        };
        let mut fault = SecretFault::NotAllowed;
        for place in &self.places {
            let found = match place {
                AllowedPlace::File(file) if file == path || path.is_relative() && file.ends_with(path) => {
                    read_file(file, None)
                }
                // An absolute path takes the place of the folder.
                AllowedPlace::Folder(folder) if folder.join(path).starts_with(folder) => {
                    read_file(&folder.join(path), Some(folder))
                }
                AllowedPlace::File(_) | AllowedPlace::Folder(_) => continue,
            };
            match found {
                // It may be in the next one.
                Err(missing @ SecretFault::Missing) => fault = missing,
                found => return found,
            }
        }
        Err(fault)
    }
}

/// Reads a file. One of a folder must lie in it, whatever links lead to it.
fn read_file(path: &Path, folder: Option<&Path>) -> Result<SecretText, SecretFault> {
    let real = path.canonicalize().map_err(|error| SecretFault::of(&error))?;
    if let Some(folder) = folder {
        let folder = folder.canonicalize().map_err(|error| SecretFault::of(&error))?;
        if !real.starts_with(folder) {
            return Err(SecretFault::Outside);
        }
    }
    // A pipe would keep the fleet waiting.
    if !real.metadata().map_err(|error| SecretFault::of(&error))?.is_file() {
        return Err(SecretFault::NoFile);
    }
    let mut bytes = Vec::new();
    // A line end, and one byte more than is allowed.
    let most = limits::SECRET_BYTES_MAX as u64 + 3;
    let file = File::open(&real).map_err(|error| SecretFault::of(&error))?;
    file.take(most).read_to_end(&mut bytes).map_err(|error| SecretFault::of(&error))?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    SecretText::new(bytes).map_err(SecretFault::Unusable)
}

/// Why a secret has no value here; `Display` goes on after "it".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    #[error("is not allowed here")]
    NotAllowed,
    #[error("is not set")]
    Unset,
    #[error("does not exist")]
    Missing,
    #[error("is no regular file")]
    NoFile,
    #[error("leads out of the folder that is allowed")]
    Outside,
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    #[error("{0}")]
    Unusable(&'static str),
}

impl SecretFault {
    fn of(error: &io::Error) -> SecretFault {
        match error.kind() {
            io::ErrorKind::NotFound => SecretFault::Missing,
            kind => SecretFault::Unreadable(kind),
        }
    }

    /// Returns what the operator can do about it, a sentence.
    pub fn help(self, reference: &SecretRef) -> String {
        match (self, reference) {
            (SecretFault::NotAllowed, SecretRef::File(path)) if !path.starts_with('/') => {
                format!(
                    "If this fleet may send it to devices, name the file where fleetform runs: `--allow-secret \
                     file:/absolute/{path}`, or the folder that has it, with a slash at its end."
                )
            }
            (SecretFault::NotAllowed, reference) => {
                format!("If this fleet may send it to devices, add `--allow-secret {reference}` where fleetform runs.")
            }
            (_, SecretRef::Env(_)) => "Set the variable for the process of fleetform.".to_string(),
            (_, SecretRef::File(_)) => {
                "Check the file and its rights on the machine on which fleetform runs.".to_string()
            }
        }
    }
}

/// The secrets of a fleet that is open.
#[derive(Debug, Default)]
pub struct SecretStore {
    allowed: AllowedSecrets,
    /// What was read last, also of what cannot be read any more: a run that goes on needs it.
    known: RefCell<BTreeMap<SecretRef, SecretText>>,
    /// All that this process may have sent, with its marks.
    masks: RefCell<Masks>,
    /// Nothing is read: each secret has a value of its own that is none.
    is_rehearsal: bool,
}

impl SecretStore {
    pub fn new(allowed: AllowedSecrets) -> SecretStore {
        SecretStore { allowed, ..SecretStore::default() }
    }

    /// Returns the store of a rehearsal, which reads no secret.
    pub fn pretended() -> SecretStore {
        SecretStore { is_rehearsal: true, ..SecretStore::default() }
    }

    /// Reads the secrets of a value anew.
    pub fn read(&self, value: &Value) -> BTreeMap<SecretRef, Result<SecretText, SecretFault>> {
        let mut wanted = BTreeSet::new();
        each(value, &mut |_, reference| {
            wanted.insert(reference.clone());
        });
        let mut known = self.known.borrow_mut();
        let read = |reference: SecretRef| {
            let found = match self.is_rehearsal {
                true => SecretText::new(format!("rehearsed {reference}").into_bytes()).map_err(SecretFault::Unusable),
                false => self.allowed.read(&reference),
            };
            if let Ok(text) = &found {
                known.insert(reference.clone(), text.clone());
            }
            (reference, found)
        };
        wanted.into_iter().map(read).collect()
    }

    /// Reads one secret anew.
    pub fn one(&self, reference: &SecretRef) -> Result<SecretText, SecretFault> {
        self.allowed.read(reference)
    }

    /// Returns true for a secret that was read before.
    pub fn has(&self, reference: &SecretRef) -> bool {
        self.known.borrow().contains_key(reference)
    }

    /// Returns the secrets of a value as they were read last; what never was is left out.
    pub fn last(&self, value: &Value, key: &SecretKey) -> Secrets {
        let (known, mut secrets) = (self.known.borrow(), Secrets::default());
        each(value, &mut |_, reference| {
            if let Some(text) = known.get(reference) {
                secrets.insert(reference.clone(), text.clone(), key);
            }
        });
        secrets
    }

    /// Returns the secrets that a job is about to send, as they were read last, and masks them from now on.
    /// `None` when one is missing.
    pub fn to_send(&self, job: &Job, key: &SecretKey) -> Option<Secrets> {
        let sent = sent_by(job);
        let secrets = self.last(&sent, key);
        self.masks.borrow_mut().add(&secrets);
        secrets.has_all(&sent).then_some(secrets)
    }

    /// Reads the secrets of a job anew, and masks them from now on. What cannot be read is passed over.
    pub fn read_to_send(&self, job: &Job, key: &SecretKey) {
        let sent = sent_by(job);
        drop(self.read(&sent));
        self.masks.borrow_mut().add(&self.last(&sent, key));
    }

    /// Returns the masks of all that this process may have sent.
    pub fn masks(&self) -> Masks {
        self.masks.borrow().clone()
    }
}

/// Returns what a job sends to devices and may have secrets in it; `Null` when it sends nothing of the kind.
pub(super) fn sent_by(job: &Job) -> Value {
    match &job.action {
        Action::Command(command) => command.payload.clone(),
        other => other.desired().map_or(Value::Null, Patch::to_value),
    }
}
