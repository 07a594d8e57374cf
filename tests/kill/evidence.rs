//! What a fleet leaves behind, read by a stranger: the results branch, the registry's tables and the devices' journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Stdio};

use fleetform::results::{Row, read_shard};
use rusqlite::Connection;
use serde_json::Value;

use crate::fleet::{BRANCH, Fleet, JOBS, Kind};

/// Job and run token.
pub type Key = (String, String);

/// The results branch.
#[derive(Default)]
pub struct Branch {
    pub tip: Option<git2::Oid>,
    pub files: BTreeMap<String, Vec<u8>>,
    pub claims: BTreeSet<Key>,
    pub records: BTreeMap<Key, Value>,
    /// Of all shards of a run, in order.
    pub rows: BTreeMap<Key, Vec<Row>>,
}

impl Branch {
    /// Reads it.
    ///
    /// # Errors
    /// A file on it cannot be read.
    pub fn read(fleet: &Fleet) -> Result<Branch, String> {
        let repository = git2::Repository::open(fleet.path(".")).unwrap();
        let reference = repository.find_reference(&format!("refs/heads/{BRANCH}")).map_err(|e| e.to_string())?;
        let mut branch = Branch { tip: reference.target(), ..Branch::default() };
        let tree = reference.peel_to_tree().map_err(|e| e.to_string())?;
        tree.walk(git2::TreeWalkMode::PreOrder, |folder, entry| {
            if entry.kind() == Some(git2::ObjectType::Blob) {
                let blob = repository.find_blob(entry.id()).unwrap();
                branch.files.insert(format!("{folder}{}", entry.name().unwrap()), blob.content().to_vec());
            }
            git2::TreeWalkResult::Ok
        })
        .map_err(|e| e.to_string())?;
        for (path, bytes) in &branch.files {
            let wrong = |what: String| format!("{path}: {what}");
            match path.split('/').collect::<Vec<_>>().as_slice() {
                ["claims", job, file] => {
                    branch.claims.insert(((*job).to_string(), file.trim_end_matches(".json").to_string()));
                }
                ["runs", job, run, file] => {
                    let key = ((*job).to_string(), (*run).to_string());
                    if *file == "run.json" {
                        let record = serde_json::from_slice(bytes).map_err(|e| wrong(e.to_string()))?;
                        branch.records.insert(key, record);
                    } else {
                        let rows = branch.rows.entry(key).or_default();
                        read_shard(bytes, |row| rows.push(row)).map_err(wrong)?;
                    }
                }
                _ => {}
            }
        }
        Ok(branch)
    }

    /// Checks that a branch only grew since it was last read: its tip descends from the one before, and claims and
    /// shards keep their bytes.
    ///
    /// # Errors
    /// It did not.
    pub fn check_growth(&self, before: &Branch, fleet: &Fleet) -> Result<(), String> {
        let repository = git2::Repository::open(fleet.path(".")).unwrap();
        if let (Some(now), Some(then)) = (self.tip, before.tip)
            && now != then
            && !repository.graph_descendant_of(now, then).map_err(|e| e.to_string())?
        {
            return Err(format!("the results branch was at {then} and is at {now}, which does not descend from it"));
        }
        for (path, bytes) in &before.files {
            let is_immutable = path.starts_with("claims/") || path.contains("/devices-");
            if is_immutable && self.files.get(path) != Some(bytes) {
                return Err(format!("{path} was changed"));
            }
        }
        Ok(())
    }
}

/// The registry's tables, as far as they say where a process was.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tables {
    devices: i64,
    /// The digest of the import that was applied last.
    import: String,
    letters: i64,
    unclaimed: i64,
    claimed: i64,
    /// Open runs with devices that have an outcome and others that have none, by job.
    halfway: BTreeSet<String>,
    sent: i64,
    outcomes: i64,
    /// Runs that have ended and are not known to be on the results branch.
    ended: i64,
    closed: i64,
}

impl Tables {
    /// Reads them from a copy: who opens a registry that was left in the middle brings it in order, and that is for the
    /// next apply to do.
    ///
    /// # Errors
    /// SQLite finds the copy corrupt.
    pub fn read(fleet: &Fleet) -> Result<Tables, String> {
        let copy = fleet.path("copy.log");
        for suffix in ["", "-wal"] {
            let (from, to) = (format!("{}{suffix}", fleet.registry().display()), format!("{}{suffix}", copy.display()));
            drop(fs::remove_file(&to));
            drop(fs::copy(from, to));
        }
        if !copy.exists() || fs::metadata(&copy).unwrap().len() == 0 {
            return Ok(Tables::default());
        }
        let tables = read_tables(&Connection::open(&copy).map_err(|e| e.to_string())?);
        for suffix in ["", "-wal", "-shm"] {
            drop(fs::remove_file(format!("{}{suffix}", copy.display())));
        }
        tables.map_err(|error| format!("the registry: {error}"))?
    }

    /// Returns the phases that a process was in when it left these tables, having found others.
    pub fn phases(&self, before: &Tables, branch: &Branch, generation: u64) -> BTreeSet<&'static str> {
        let mut phases = BTreeSet::new();
        let claims =
            JOBS.iter().filter(|job| branch.claims.contains(&(job.name.to_string(), generation.to_string()))).count();
        let due = JOBS.iter().filter(|job| job.run(generation) == Some(generation)).count();
        let is_write = |name: &String| JOBS.iter().any(|job| job.name == name && job.kind == Kind::Write);
        let mut add = |holds: bool, phase| {
            if holds {
                phases.insert(phase);
            }
        };
        // Imports and claims come first; one job of all waits for another before it is claimed.
        add(self.letters > 0 || (self.import != before.import && claims == 0), "import");
        add(self.unclaimed > 0 || (1..due - 1).contains(&claims), "claims");
        add(self.halfway.iter().any(is_write), "writes");
        add(self.sent > 0, "commands");
        add(self.ended > 0, "results");
        if phases.is_empty() {
            phases.insert(if self == before { "planning" } else { "between two of them" });
        }
        phases
    }
}

fn read_tables(copy: &Connection) -> rusqlite::Result<Result<Tables, String>> {
    let health: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if health != "ok" {
        return Ok(Err(format!("the registry is corrupt: {health}")));
    }
    let version: i64 = copy.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        return Ok(Ok(Tables::default()));
    }
    let count = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0));
    let import = copy.query_row("SELECT coalesce(max(digest), '') FROM import", [], |row| row.get(0))?;
    let mut halfway = copy.prepare(
        "SELECT job FROM run WHERE is_closed = 0 AND finished_at IS NULL AND EXISTS (SELECT 1 FROM outcome o WHERE \
            o.run_id = run.run_id) \
         AND (SELECT count(*) FROM outcome o WHERE o.run_id = run.run_id) < total",
    )?;
    let halfway = halfway.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(Ok(Tables {
        devices: count("SELECT count(*) FROM device")?,
        import,
        letters: count("SELECT count(*) FROM meta WHERE key LIKE 'outbox:%'")?,
        unclaimed: count("SELECT count(*) FROM run WHERE is_claimed = 0")?,
        claimed: count("SELECT count(*) FROM run WHERE is_claimed = 1")?,
        halfway,
        sent: count("SELECT count(*) FROM sent JOIN run USING (run_id) WHERE finished_at IS NULL")?,
        outcomes: count("SELECT count(*) FROM outcome")?,
        ended: count("SELECT count(*) FROM run WHERE finished_at IS NOT NULL AND is_closed = 0")?,
        closed: count("SELECT count(*) FROM run WHERE is_closed = 1")?,
    }))
}

/// What the devices executed: how often, by device and execution id. A line that a kill left torn is no execution.
///
/// # Errors
/// A line is neither whole nor torn.
pub fn executions(fleet: &Fleet) -> Result<BTreeMap<(String, String), u64>, String> {
    let text = fs::read_to_string(fleet.path("devices.jsonl")).unwrap_or_default();
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            if line.starts_with("{\"") && !line.ends_with('}') {
                continue;
            }
            return Err(format!("the devices' journal has the line {line:?}"));
        };
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_string();
        *counts.entry((text("device_id"), text("execution_id"))).or_default() += 1;
    }
    Ok(counts)
}

/// Checks the object database.
///
/// # Errors
/// `git fsck` complains.
pub fn check_objects(fleet: &Fleet) -> Result<(), String> {
    let mut fsck = Command::new("git");
    fsck.arg("-C").arg(fleet.path(".")).args(["fsck", "--strict", "--no-dangling", "--no-progress"]);
    let output = fsck.stdin(Stdio::null()).output().map_err(|error| format!("git cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("git fsck: {said}")) }
}
