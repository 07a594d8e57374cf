//! Reads the results branch and the devices' journal without fleetform's own readers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::FLEET;
use super::World;
use super::world::WorldFiles;
use crate::ledger::RunKey;
use crate::model::id::{Name, RunToken};
use crate::results::{Row, read_shard};

/// Job and run token.
pub(super) type Key = (String, String);

/// The content of the results branch.
pub(super) struct Branch {
    pub tip: Option<String>,
    pub files: WorldFiles,
    pub claims: BTreeMap<Key, Value>,
    pub runs: BTreeMap<Key, Run>,
}

/// The content of the branch about one run.
#[derive(Default)]
pub(super) struct Run {
    /// `run.json`; null when there are only shards.
    pub record: Value,
    /// The rows of all shards, in order.
    pub rows: Vec<Row>,
}

impl Run {
    pub fn status(&self) -> &str {
        self.record["status"].as_str().unwrap_or("none")
    }

    pub fn is_final(&self) -> bool {
        matches!(self.status(), "completed" | "failed" | "canceled")
    }

    /// Returns true when the run's journal was lost: then the branch has no rows for some devices.
    pub fn is_lost(&self) -> bool {
        self.record["reason"].as_str().is_some_and(|reason| reason.starts_with("journal-lost"))
    }

    /// Returns true for an occurrence that did not run.
    pub fn is_missed(&self) -> bool {
        self.record["reason"].as_str().is_some_and(|reason| reason.starts_with("missed: "))
    }

    /// Returns the outcome: `run.json` without the number of shards.
    pub fn outcome(&self) -> Value {
        let mut record = self.record.clone();
        if let Some(shards) = record.pointer_mut("/published/shards") {
            shards.take();
        }
        record
    }

    pub fn count(&self, field: &str) -> u64 {
        self.record[field].as_u64().unwrap_or(u64::MAX)
    }
}

impl Branch {
    /// Reads the branch of a world.
    pub fn read(world: &World) -> Result<Branch, String> {
        let (tip, files) = world.results().map_err(|error| error.to_string())?;
        Branch::of(tip, files)
    }

    /// Reads the files of a branch.
    pub fn of(tip: Option<String>, files: WorldFiles) -> Result<Branch, String> {
        let mut branch = Branch { tip, files, claims: BTreeMap::new(), runs: BTreeMap::new() };
        for (path, bytes) in &branch.files {
            let parts: Vec<&str> = path.split('/').collect();
            let json = || serde_json::from_slice(bytes).map_err(|error| format!("{path}: {error}"));
            match parts.as_slice() {
                ["claims", job, file] => {
                    let run = file.strip_suffix(".json").ok_or_else(|| format!("{path} is no claim"))?;
                    branch.claims.insert(((*job).to_string(), run.to_string()), json()?);
                }
                ["runs", job, run, file] => {
                    let run = branch.runs.entry(((*job).to_string(), (*run).to_string())).or_default();
                    if *file == "run.json" {
                        run.record = json()?;
                    } else {
                        read_shard(bytes, |row| run.rows.push(row)).map_err(|what| format!("{path}: {what}"))?;
                    }
                }
                _ => {}
            }
        }
        Ok(branch)
    }

    /// Returns true when a file must keep its bytes for ever.
    pub fn is_immutable(&self, path: &str) -> bool {
        if path.starts_with("claims/") || path.contains("/devices-") {
            return true;
        }
        let parts: Vec<&str> = path.split('/').collect();
        let ["runs", job, run, "run.json"] = parts.as_slice() else { return false };
        self.runs.get(&((*job).to_string(), (*run).to_string())).is_some_and(Run::is_final)
    }
}

/// One execution by a device.
pub(super) struct Execution {
    pub device_id: String,
    pub method: String,
    pub execution_id: String,
}

/// Returns what the devices executed, in order.
pub(super) fn executions(journal: &str) -> Result<Vec<Execution>, String> {
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).map_err(|error| format!("the devices' journal: {error}"))?;
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_string();
        Ok(Execution { device_id: text("device_id"), method: text("method"), execution_id: text("execution_id") })
    };
    journal.lines().map(read).collect()
}

/// Returns the id under which a device is asked to execute a run.
pub(super) fn execution_id(key: &Key, device_id: &str) -> String {
    let name = |text: &str| Name::parse(text).expect("people give legal names");
    let run = RunToken::parse(&key.1).expect("people give legal tokens");
    RunKey { fleet: name(FLEET), job: name(&key.0), run }.execution_id(device_id).to_string()
}
