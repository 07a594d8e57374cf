//! The log of the commands that simulated devices executed, one line of JSON for each. A line is written before the
//! answer, so that a device that is asked again after a crash recognises what it has done.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::LinkError;
use crate::model::digest::Digest;

/// An execution, as the journal keeps it: no payload, which may hold secrets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Execution<'a> {
    pub device_id: &'a str,
    pub method: &'a str,
    pub execution_id: Digest,
    pub at: Timestamp,
}

/// The journal of all devices of a fleet.
pub(super) struct DeviceJournal {
    file: File,
    path: PathBuf,
    /// The file's name as the fleet declares it, for messages.
    name: String,
    /// The last line has no end: a process died, or the disk was full, in the middle of it. No device has answered for
    /// it.
    is_torn: bool,
    /// The ids that were executed before, 32 bytes each; `None` until they are needed, which most fleets never do.
    known: Option<BTreeSet<Digest>>,
}

/// The most bytes of the first line that are looked at. A line has an id, a method and two short values.
const FIRST_LINE_MAX: u64 = 4 << 10;

/// Refuses a file that is no journal: nothing is appended to it.
fn check_content(file: &File) -> std::io::Result<()> {
    let mut first = String::new();
    let is_text = BufReader::new(file.take(FIRST_LINE_MAX)).read_line(&mut first).is_ok();
    let value: Option<Value> = serde_json::from_str(&first).ok();
    // A process may have died in the middle of the first line.
    let is_begun = r#"{"device_id":"#.starts_with(&first)
        || first.starts_with(r#"{"at":"#)
        || first.starts_with(r#"{"device_id":"#);
    if is_text && (is_begun || value.is_some_and(|value| value.get("execution_id").is_some())) {
        return Ok(());
    }
    Err(std::io::Error::other("it is not a journal of devices: nothing is written to it"))
}

impl DeviceJournal {
    /// Opens a journal; makes it when it does not exist.
    ///
    /// # Errors
    /// The file cannot be opened or read.
    pub fn open(folder: &Path, name: &str) -> Result<DeviceJournal, LinkError> {
        let path = folder.join(name);
        let fail = |source| LinkError::Journal { path: name.to_string(), source };
        let mut file = File::options().create(true).append(true).read(true).open(&path).map_err(fail)?;
        check_content(&file).map_err(fail)?;
        let mut is_torn = false;
        // A file without a length (a pipe, `/dev/null`) has no last line.
        if file.metadata().map_err(fail)?.len() > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map_err(fail)?;
            is_torn = last != *b"\n";
        }
        Ok(DeviceJournal { file, path, name: name.to_string(), is_torn, known: None })
    }

    /// Appends an execution.
    ///
    /// # Errors
    /// The file cannot be written; then the device has not executed.
    pub fn append(&mut self, execution: Execution<'_>) -> Result<(), LinkError> {
        let Execution { device_id, method, execution_id, at } = execution;
        let line = json!({
            "device_id": device_id,
            "method": method,
            "execution_id": execution_id.to_string(),
            "at": at.to_string(),
        });
        let torn = if self.is_torn { "\n" } else { "" };
        // Each line is a single write, so an execution is in the journal before the device answers, even when the
        // process dies.
        let written = self.file.write_all(format!("{torn}{line}\n").as_bytes());
        self.is_torn = written.is_err();
        written.map_err(|source| LinkError::Journal { path: self.name.clone(), source })
    }

    /// Appends an execution unless the device has executed it before, in this process or an earlier one.
    ///
    /// # Errors
    /// The file cannot be read or written; then the device has not executed.
    pub fn append_once(&mut self, execution: Execution<'_>) -> Result<(), LinkError> {
        if self.known.is_none() {
            let known = self.read_known();
            self.known = Some(known.map_err(|source| LinkError::Journal { path: self.name.clone(), source })?);
        }
        if self.known.as_ref().is_some_and(|known| known.contains(&execution.execution_id)) {
            return Ok(());
        }
        self.append(execution)?;
        if let Some(known) = &mut self.known {
            known.insert(execution.execution_id);
        }
        Ok(())
    }

    /// Reads the ids of all whole lines. Torn lines are skipped, also after a line feed was added: the beginning of a
    /// line is never valid JSON. A line that lacks only its line feed is whole.
    fn read_known(&self) -> std::io::Result<BTreeSet<Digest>> {
        let mut known = BTreeSet::new();
        if !self.file.metadata()?.is_file() {
            return Ok(known);
        }
        let mut reader = BufReader::new(File::open(&self.path)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if let Ok(value) = serde_json::from_slice::<Value>(&line)
                && let Some(id) = value.get("execution_id").and_then(Value::as_str).and_then(Digest::parse)
            {
                known.insert(id);
            }
            line.clear();
        }
        Ok(known)
    }
}
