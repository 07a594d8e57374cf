//! A witness beside the registry: what a copy of the registry that is put back cannot know.
//!
//! The witness is a file in the folder that git keeps the repository in, and another one beside the registry, for other
//! clones that share it, unless that is a database. A backup of the registry has neither, or not both:
//!
//! 1. The registry commits that it marks devices as sent, and counts that.
//! 2. The witness is written, durably: the count, and for each run the highest device that was marked.
//! 3. The devices are spoken to.
//!
//! So whatever was sent, the witness knows of it. A registry whose count is less than that of the witness was put back
//! from a copy, or lost its last writes. Devices of its open runs below the highest one may have been sent to, and are
//! not sent to again unless that is harmless. A registry that is ahead of its witness died between the first two steps.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Repo, ResultsBranch};

/// What is known of the registry that works on a fleet from this repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witness {
    /// The identity of the registry.
    pub registry: String,
    /// The process that works with it, or did last.
    pub process: String,
    /// The absolute path of the file that it is in, to know whether it is gone; or the address of its database, without
    /// secrets.
    pub place: String,
    /// How often it had marked devices as sent.
    pub sends: u64,
    /// The end of the ordinals that were marked, of each run that is open, by `job/run`.
    pub runs: BTreeMap<String, u32>,
    /// When it was written last.
    pub at: Timestamp,
}

impl Witness {
    /// Returns the path of the witness of a fleet, which all work trees of a repository share.
    pub fn path(repo: &Repo, branch: &ResultsBranch<'_>) -> PathBuf {
        repo.common_folder().join("fleetform").join(format!("{}.json", branch.name().replace('/', "-")))
    }

    /// Reads a witness; `None` when there is none that can be read.
    pub fn read(path: &Path) -> Option<Witness> {
        let document: Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        let text = |member: &str| document[member].as_str().map(str::to_string);
        let runs = document["runs"].as_object()?.iter();
        let end = |end: &Value| end.as_u64().and_then(|end| u32::try_from(end).ok());
        Some(Witness {
            registry: text("registry")?,
            process: text("process")?,
            place: text("place")?,
            sends: document["sends"].as_u64()?,
            runs: runs.filter_map(|(run, ordinal)| Some((run.clone(), end(ordinal)?))).collect(),
            at: text("at")?.parse().ok()?,
        })
    }

    /// Returns the file that the registry is in; `None` for one in a database.
    pub fn file(&self) -> Option<PathBuf> {
        Some(PathBuf::from(&self.place)).filter(|path| path.is_absolute())
    }

    /// Returns true when the file of the registry is gone. Of a database that cannot be known.
    pub fn is_gone(&self) -> bool {
        self.file().is_some_and(|file| !file.exists())
    }

    /// Returns true when the registry was copied to a place: the file that it was in is there too, and another one.
    pub fn was_copied_to(&self, place: &Path) -> bool {
        let there = Path::new(&self.place);
        there != place && there.exists() && !is_same_file(there, place)
    }

    /// Takes over what another witness of the same registry knows.
    pub fn learn(&mut self, other: &Witness) {
        if other.registry != self.registry {
            return;
        }
        (self.sends, self.at) = (self.sends.max(other.sends), self.at.max(other.at));
        for (run, end) in &other.runs {
            let known = self.runs.entry(run.clone()).or_default();
            *known = (*known).max(*end);
        }
    }

    /// Writes the witness to several places.
    ///
    /// # Errors
    /// As [`Witness::write`].
    pub fn write_all(&self, paths: &[PathBuf]) -> std::io::Result<()> {
        paths.iter().try_for_each(|path| self.write(path))
    }

    /// Writes the witness; durable when it returns.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let Witness { registry, process, place, sends, runs, at } = self;
        let at = at.to_string();
        let document = json!({
            "registry": registry,
            "process": process,
            "place": place,
            "sends": sends,
            "runs": runs,
            "at": at,
        });
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let unfinished = path.with_extension("unfinished");
        let mut file = File::create(&unfinished)?;
        file.write_all(document.to_string().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    }
}

/// Returns true when two paths lead to one file, by links or by mounts.
pub fn is_same_file(one: &Path, two: &Path) -> bool {
    #[cfg(unix)]
    {
        file_id(one).is_some() && file_id(one) == file_id(two)
    }
    #[cfg(not(unix))]
    {
        one.canonicalize().ok() == two.canonicalize().ok()
    }
}

/// Returns device and inode of the file that a path leads to; `None` when there is none, or the system has no such
/// numbers.
pub fn file_id(path: &Path) -> Option<(u64, u64)> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        path.metadata().map(|found| (found.dev(), found.ino())).ok()
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_reads_back_and_a_broken_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleetform/results.json");
        assert_eq!(Witness::read(&path), None);
        let runs = [("reboot/1".to_string(), 7)].into();
        let (registry, place, at) = ("9f".to_string(), "fleet.db".to_string(), Timestamp::UNIX_EPOCH);
        let process = "plant-7/1/0".to_string();
        let witness = Witness { registry, process, place, sends: 3, runs, at };
        witness.write(&path).unwrap();
        assert_eq!(Witness::read(&path), Some(witness));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(Witness::read(&path), None);
    }
}
