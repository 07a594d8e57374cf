//! Measures fleetform: each number is shown with its raw floor from the same run, as a ratio.
//!
//! ```text
//! cargo bench --bench fleet                         # 1,000,000 devices
//! cargo bench --bench fleet -- --devices 10000      # a smoke test
//! cargo bench --bench fleet -- --imports            # the imports only
//! cargo bench --bench fleet -- --reconciles         # the daemon only
//! cargo bench --bench fleet -- --mqtt               # commands through Mosquitto only, to 100,000 devices
//! cargo bench --bench fleet -- --gateway            # devices and back ends of IoT Hub only: 10,000 devices connect
//! cargo bench --bench fleet -- --twins              # the last part of it only: pages of twins
//! cargo bench --bench fleet -- --pages              # the pages only; `--runs 10000` says of how many runs
//! cargo bench --bench fleet -- --postgres           # a registry in PostgreSQL only; see `fleet/postgres.rs`
//! ```
//!
//! Each measurement is a separate process, so that its peak memory is its own. The floors do by hand, with the same
//! libraries and the same durability (WAL, `synchronous = FULL`), only what the operation cannot do without:
//!
//! * plan: a scan of the devices that reads the paths which the job writes, with its condition written by hand;
//! * apply: one update and one outcome row a device, 1,000 a transaction, then a CSV of the outcomes, then its commit;
//! * import: one insert of the device and one of its keys a row, in one transaction; of CSV, and of the JSON lines of
//!   an IoT Hub with twins, `$metadata` and keys, where the floor parses each line into the values that it inserts and
//!   nothing else;
//! * simulate: the apply of the same job, a property and a command (whose devices take 20 ms each to answer); what it
//!   must reach is a time, not a ratio;
//! * validate: parsing 10,000 files into values with the YAML library, and nothing else;
//! * reconcile: resolving the reference; with one file changed also the comparison of the two trees, and the file. What
//!   it must reach is a time, with 10,000 files;
//! * commands: the same messages to the same devices through the same broker, and their answers, with the same window;
//! * the gateway: the same devices on TLS, at a listener that speaks the protocol and keeps nothing; of a method job also
//!   the same methods through Mosquitto on plain TCP; of a page of twins the select of its rows and the making of its
//!   JSON, in one process;
//! * pages: the same rows by SQL, or the same files of the results branch; what they must reach is a time;
//! * group by a tag: the ids of the devices with one of 50 values, by the same condition written by hand, with the
//!   index that an apply makes and (another tag, one of 7 values) without one.

#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark prints and looks at the clock")]

#[path = "fleet/broker.rs"]
mod broker;
#[path = "fleet/gateway.rs"]
mod gateway;
#[path = "fleet/idle.rs"]
mod idle;
#[path = "fleet/mqtt.rs"]
mod mqtt;
#[path = "fleet/pages.rs"]
mod pages;
#[path = "fleet/postgres.rs"]
mod postgres;
#[path = "fleet/reconcile.rs"]
mod reconcile;
#[path = "fleet/twins.rs"]
mod twins;

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use fleetform::execute::{Inbox, SystemClock};
use fleetform::model::fleet::Probability;
use fleetform::ops::apply::{ApplyOptions, apply};
use fleetform::ops::plan::{PlanOptions, plan};
use fleetform::ops::rehearse::{RehearsalOptions, ScratchFolder, rehearse};
use fleetform::ops::validate::validate;
use fleetform::ops::{Environment, init};
use fleetform::query;
use fleetform::registry::{Answer, Change, Request, Selection, sqlite};
use fleetform::repo::Repo;
use reconcile::Mix;
use rusqlite::Connection;

/// That of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1)).cloned();
    if let (Some(phase), Some(folder)) = (after("--phase"), after("--folder")) {
        return run_phase(&phase, Path::new(&folder));
    }
    let devices: u32 = after("--devices").map_or(Ok(1_000_000), |text| text.parse())?;
    let folder = scratch_folder()?;
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let result = if has("--imports") {
        measure_imports(&folder, devices)
    } else if has("--reconciles") {
        measure_reconciles(&folder, devices)
    } else if has("--mqtt") {
        mqtt::measure(&folder, devices.min(100_000))
    } else if has("--gateway") {
        gateway::measure(&folder, devices)
    } else if has("--twins") {
        twins::measure(&folder.join("twins"), devices)
    } else if has("--pages") {
        let runs: u32 = after("--runs").map_or(Ok(10_000), |text| text.parse())?;
        pages::measure(&folder, devices, runs)
    } else if has("--postgres") {
        let rounds: u32 = after("--rounds").map_or(Ok(2), |text| text.parse())?;
        match has("--alone") {
            true => postgres::measure_alone(&folder, devices),
            false => postgres::measure(&folder, devices, rounds),
        }
    } else {
        measure(&folder, devices).and_then(|()| measure_reconciles(&folder, devices))
    };
    std::fs::remove_dir_all(&folder)?;
    result
}

fn scratch_folder() -> Result<PathBuf, Failure> {
    let folder = std::env::temp_dir().join(format!("fleetform-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Imports one fleet from CSV and another from JSON lines.
fn measure_imports(folder: &Path, devices: u32) -> Result<(), Failure> {
    println!("{devices} devices, twins of about 200 bytes\n");
    println!(
        "{:<26} {:>9} {:>9} {:>7} {:>11} {:>11}",
        "what", "floor s", "ours s", "ratio", "must reach", "memory MiB"
    );
    make_fleet(folder, devices)?;
    let floor = phase("raw-import", folder)?;
    let ours = phase("import", folder)?;
    row("import", &floor, &ours, "3.0");
    make_lines(folder, devices)?;
    let floor = phase("raw-import-lines", folder)?;
    let ours = phase("import-lines", folder)?;
    row("import of JSONL", &floor, &ours, "3.0");
    for gone in ["hub", "raw-import.db", "raw-import-lines.db"] {
        let path = folder.join(gone);
        if path.is_dir() { std::fs::remove_dir_all(path)? } else { std::fs::remove_file(path)? }
    }
    Ok(())
}

/// Runs all phases and prints the table.
fn measure(folder: &Path, devices: u32) -> Result<(), Failure> {
    measure_imports(folder, devices)?;
    give_twins(folder)?;
    let floor = phase("raw-scan", folder)?;
    let ours = phase("scan", folder)?;
    row("group by a tag", &floor, &ours, "2.0");
    let making = phase("make-index", folder)?;
    let floor = phase("raw-index", folder)?;
    let ours = phase("index", folder)?;
    row("group by an indexed tag", &floor, &ours, "2.0");
    println!("{:<26} {:>19.2}", "  making its index", making.took.as_secs_f64());
    declare_job(folder)?;
    let floor = phase("raw-plan", folder)?;
    let ours = phase("plan", folder)?;
    row("plan of one property job", &floor, &ours, "3.0");
    std::fs::copy(folder.join("fleet/.fleetform/fleet.db"), folder.join("raw.db"))?;
    let simulated = phase("simulate", folder)?;
    let floor = phase("raw-apply", folder)?;
    let ours = phase("apply", folder)?;
    row("apply of it", &floor, &ours, "2.0");
    row("simulate of it", &ours, &simulated, "10 s");
    declare_command(folder)?;
    let simulated = phase("simulate", folder)?;
    let ours = phase("apply", folder)?;
    row("simulate of a command", &ours, &simulated, "10 s");
    for (name, raw, phase_name) in [
        ("plan of a group, two paths", "raw-plan-group", "plan-group"),
        ("plan of two tags by or", "raw-plan-or", "plan-or"),
    ] {
        declare_alone(folder, phase_name)?;
        let floor = phase(raw, folder)?;
        let ours = phase("plan", folder)?;
        withdraw(folder)?;
        row(name, &floor, &ours, "3.0");
    }
    make_small_jobs(folder)?;
    let ours = phase("plan", folder)?;
    withdraw(folder)?;
    println!("{:<26} {:>19.2} {:>19}", "plan of 4,000 small jobs", ours.took.as_secs_f64(), "3 s");
    make_jobs(folder)?;
    let floor = phase("raw-validate", folder)?;
    let ours = phase("validate", folder)?;
    row("validate 10,000 files", &floor, &ours, "2.0");
    println!("\nmemory must stay below 200 MiB for the plan and 300 MiB for the apply (all of the process is counted)");
    Ok(())
}

/// Runs the daemon over two fleets that have nothing to do.
fn measure_reconciles(folder: &Path, devices: u32) -> Result<(), Failure> {
    let fleet = folder.join("fleet");
    if fleet.exists() {
        std::fs::remove_dir_all(&fleet)?;
    }
    make_fleet(folder, devices)?;
    phase("import", folder)?;
    copy_folder(&fleet, &folder.join("fresh"))?;
    println!("\n{devices} devices");
    for (mix, name) in [(Mix::Jobs, "reconcile-jobs"), (Mix::Halves, "reconcile-halves")] {
        std::fs::remove_dir_all(&fleet)?;
        copy_folder(&folder.join("fresh"), &fleet)?;
        reconcile::make(&fleet, mix)?;
        reconcile::heading(mix);
        print!("{}", output_of(name, folder)?);
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let (entry, target) = (entry?, to.to_path_buf());
        let target = target.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

struct Measured {
    took: Duration,
    peak_kib: u64,
}

fn row(name: &str, floor: &Measured, ours: &Measured, must: &str) {
    let ratio = ours.took.as_secs_f64() / floor.took.as_secs_f64();
    println!(
        "{name:<26} {:>9.2} {:>9.2} {ratio:>7.2} {must:>11} {:>11.0}",
        floor.took.as_secs_f64(),
        ours.took.as_secs_f64(),
        ours.peak_kib as f64 / 1024.0
    );
}

/// Runs one phase in a process of its own.
fn phase(name: &str, folder: &Path) -> Result<Measured, Failure> {
    let text = output_of(name, folder)?;
    let (micros, peak) = text.trim().split_once(' ').ok_or("a phase prints two numbers")?;
    Ok(Measured { took: Duration::from_micros(micros.parse()?), peak_kib: peak.parse()? })
}

fn output_of(name: &str, folder: &Path) -> Result<String, Failure> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--phase", name, "--folder"])
        .arg(folder)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the phase {name} failed").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn run_phase(name: &str, folder: &Path) -> Result<(), Failure> {
    if name.starts_with("pg-") {
        return postgres::run_phase(name, folder);
    }
    let start = Instant::now();
    match name {
        "reconcile-jobs" => return reconcile::measure(&folder.join("fleet"), Mix::Jobs),
        "reconcile-halves" => return reconcile::measure(&folder.join("fleet"), Mix::Halves),
        "mqtt-devices" => return mqtt::devices(folder, false),
        "mqtt-devices-slow" => return mqtt::devices(folder, true),
        "hub-devices" => return gateway::devices(folder, gateway::At::Hub),
        "broker-devices" => return gateway::devices(folder, gateway::At::Broker),
        "broker-back-end" => return broker::back_end(folder),
        "raw-twins" => return twins::raw(folder),
        "bare-hub" => return gateway::bare(folder),
        "raw-mqtt" => mqtt::raw_round_trips(folder)?,
        "raw-import" => raw_import(folder)?,
        "raw-plan" => raw_plan(folder)?,
        "raw-plan-group" => raw_plan_of(folder, GROUP_SCAN)?,
        "raw-plan-or" => raw_plan_of(folder, OR_SCAN)?,
        "plan" => plan_fleet(folder)?,
        "raw-apply" => raw_apply(folder)?,
        "raw-import-lines" => raw_import_lines(folder)?,
        "import-lines" => apply_at(&hub(folder))?,
        "import" | "apply" => apply_at(&environment(folder))?,
        "simulate" => simulate_fleet(folder)?,
        "raw-scan" => raw_group(folder, LINE)?,
        "scan" => group(folder, LINE)?,
        "make-index" => make_index(folder)?,
        "raw-index" => raw_group(folder, BUILDING)?,
        "index" => group(folder, BUILDING)?,
        "raw-validate" => raw_validate(folder)?,
        "validate" => validate_jobs(folder)?,
        other => return Err(format!("there is no phase {other}").into()),
    }
    println!("{} {}", start.elapsed().as_micros(), peak_kib());
    Ok(())
}

/// Returns the peak resident memory of this process (`VmHWM`, proc(5)); 0 where there is no /proc.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn environment(folder: &Path) -> Environment {
    Environment { folder: folder.join("fleet"), ..Environment::default() }
}

fn hub(folder: &Path) -> Environment {
    Environment { folder: folder.join("hub"), ..Environment::default() }
}

/// A fleet with one import of JSON lines, as `az iot hub device-identity export` writes them with twins and keys.
fn make_lines(folder: &Path, devices: u32) -> Result<(), Failure> {
    let fleet = hub(folder).folder;
    init::init(&fleet, init::InitOptions::default())?;
    let mut file = std::io::BufWriter::new(std::fs::File::create(fleet.join("devices.jsonl"))?);
    let at = "2026-03-01T10:00:00.1234567Z";
    for n in 0..devices {
        let key = base64::engine::general_purpose::STANDARD.encode([(n % 251) as u8; 32]);
        let metadata =
            |name: &str| serde_json::json!({"$lastUpdated": at, name: {"$lastUpdated": at, "$lastUpdatedVersion": 2}});
        let line = serde_json::json!({
            "id": format!("device-{n:07}"),
            "eTag": "MA==",
            "status": "enabled",
            "authentication": {
                "symmetricKey": {"primaryKey": key, "secondaryKey": key},
                "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
                "type": "sas",
            },
            "capabilities": {"iotEdge": false},
            "twinETag": "AAAAAAAAAAE=",
            "tags": {"building": (n % 50).to_string(), "line": (n % 7).to_string(), "ring": "stable"},
            "properties": {
                "desired": {
                    "light": {"threshold": 1 + n % 2, "level": 40},
                    "telemetryConfig": {"sendFrequency": "5m"},
                    "$metadata": metadata("light"),
                    "$version": 2,
                },
                "reported": {
                    "battery": 20 + n % 80, "firmware": "1.4.2", "$metadata": metadata("battery"), "$version": 3,
                },
            },
        });
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    let import = "apiVersion: fleetform/v1\nkind: DeviceImport\nmetadata: {name: all}\nspec: {file: devices.jsonl}\n";
    commit(&fleet, "import.yaml", import, &["devices.jsonl"])
}

/// A fleet with one import and no job.
fn make_fleet(folder: &Path, devices: u32) -> Result<(), Failure> {
    let fleet = folder.join("fleet");
    init::init(&fleet, init::InitOptions::default())?;
    let mut csv = String::from("IOTC_DEVICEID,IOTC_DEVICENAME,TAG.building,TAG.line,TAG.ring\r\n");
    for n in 0..devices {
        let ring = if n % 10 == 0 { "canary" } else { "stable" };
        csv.push_str(&format!("device-{n:07},Device {n},{},{},{ring}\r\n", n % 50, n % 7));
    }
    std::fs::write(fleet.join("devices.csv"), csv)?;
    let import = "apiVersion: fleetform/v1\nkind: DeviceImport\nmetadata: {name: all}\nspec: {file: devices.csv}\n";
    commit(&fleet, "import.yaml", import, &["devices.csv"])
}

/// Twins as a fleet has them after a while: about 200 bytes.
fn give_twins(folder: &Path) -> Result<(), Failure> {
    let connection = Connection::open(folder.join("fleet/.fleetform/fleet.db"))?;
    connection.execute_batch(
        "UPDATE device SET
           desired = json_object('light', json_object('threshold', 1 + (CAST(substr(device_id, 8) AS INTEGER) % 2),
                                                      'level', 40),
                                 'telemetryConfig', json_object('sendFrequency', '5m')),
           reported = json_object('battery', 20 + CAST(substr(device_id, 8) AS INTEGER) % 80, 'firmware', '1.4.2');
         PRAGMA wal_checkpoint(TRUNCATE);",
    )?;
    Ok(())
}

fn declare_job(folder: &Path) -> Result<(), Failure> {
    let job = "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: dim}\nspec:\n  \
               target: {query: \"tags.ring IN ['canary', 'stable']\"}\n  \
               action: {property: {light: {threshold: 3}}}\n";
    commit(&folder.join("fleet"), "job.yaml", job, &[])
}

fn declare_command(folder: &Path) -> Result<(), Failure> {
    let job = "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: reboot}\nspec:\n  target: {query: '*'}\n  \
               action: {command: {name: reboot}}\n  delivery: {batchSize: 10%}\n";
    commit(&folder.join("fleet"), "command.yaml", job, &[])
}

fn commit(fleet: &Path, path: &str, text: &str, more: &[&str]) -> Result<(), Failure> {
    std::fs::write(fleet.join(path), text)?;
    let paths: Vec<String> = std::iter::once(path).chain(more.iter().copied()).map(str::to_string).collect();
    Repo::open(fleet)?.commit_files(&paths, "bench")?;
    Ok(())
}

fn plan_fleet(folder: &Path) -> Result<(), Failure> {
    let planned = plan(&environment(folder), &PlanOptions::default(), jiff::Timestamp::now())?;
    assert!(planned.plan.has_changes(), "there is something to do");
    Ok(())
}

fn apply_at(environment: &Environment) -> Result<(), Failure> {
    let (options, inbox) = (ApplyOptions::default(), Inbox::new());
    let applied = apply(environment, &options, &SystemClock, &inbox, &mut |_, _| true, &mut |_| {})?;
    assert!(!applied.was_empty, "there was something to do");
    Ok(())
}

/// With devices that fail and devices that are not connected.
fn simulate_fleet(folder: &Path) -> Result<(), Failure> {
    let percent = |percent: u32| Some(Probability { per_million: percent * 10_000 });
    let options = RehearsalOptions { failures: percent(5), offline: percent(2), ..RehearsalOptions::default() };
    let (environment, scratch) = (environment(folder), ScratchFolder::make()?);
    let rehearsed = rehearse(&environment, &options, &scratch, jiff::Timestamp::now(), &mut |_| {})?;
    assert!(!rehearsed.was_empty, "there was something to do");
    Ok(())
}

/// One row a device and one of its keys, in one transaction.
fn raw_import(folder: &Path) -> Result<(), Failure> {
    let mut connection = open_raw(&folder.join("raw-import.db"))?;
    connection.execute_batch(include_str!("../src/registry/sqlite/migrations/001.sql"))?;
    let transaction = connection.transaction()?;
    {
        let mut device = transaction.prepare(
            "INSERT INTO device VALUES (?1, ?2, NULL, NULL, 'unassociated', 0, 0, 0, 'Disconnected', NULL, NULL, ?3,
                                        '{}', '{}', 1, '{}', 1, 'all')",
        )?;
        let mut key = transaction.prepare("INSERT INTO device_key VALUES (?1, ?2, ?3, NULL, NULL)")?;
        let mut reader = csv::Reader::from_path(folder.join("fleet/devices.csv"))?;
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record)? {
            let (building, line, ring) = (&record[2], &record[3], &record[4]);
            let tags = format!("{{\"building\":\"{building}\",\"line\":\"{line}\",\"ring\":\"{ring}\"}}");
            device.execute((&record[0], &record[1], tags))?;
            key.execute((&record[0], [1_u8; 32], [2_u8; 32]))?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// A line as the floor reads it: what it does not name is skipped by the parser.
#[derive(serde::Deserialize)]
struct RawLine<'a> {
    id: &'a str,
    #[serde(borrow)]
    authentication: RawAuthentication<'a>,
    tags: serde_json::Map<String, serde_json::Value>,
    properties: RawProperties,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAuthentication<'a> {
    #[serde(borrow)]
    symmetric_key: RawKeys<'a>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawKeys<'a> {
    primary_key: &'a str,
    secondary_key: &'a str,
}

#[derive(serde::Deserialize)]
struct RawProperties {
    desired: serde_json::Map<String, serde_json::Value>,
    reported: serde_json::Map<String, serde_json::Value>,
}

/// One row a device and one of its keys, in one transaction, from the JSON lines.
fn raw_import_lines(folder: &Path) -> Result<(), Failure> {
    let mut connection = open_raw(&folder.join("raw-import-lines.db"))?;
    connection.execute_batch(include_str!("../src/registry/sqlite/migrations/001.sql"))?;
    let transaction = connection.transaction()?;
    {
        let mut device = transaction.prepare(
            "INSERT INTO device VALUES (?1, ?1, NULL, NULL, 'unassociated', 0, 0, 0, 'Disconnected', NULL, NULL, ?2,
                                        '{}', ?3, 2, ?4, 3, 'all')",
        )?;
        let mut key = transaction.prepare("INSERT INTO device_key VALUES (?1, ?2, ?3, NULL, NULL)")?;
        let mut reader = std::io::BufReader::new(std::fs::File::open(hub(folder).folder.join("devices.jsonl"))?);
        let mut text = String::new();
        while reader.read_line(&mut text)? > 0 {
            let line: RawLine = serde_json::from_str(&text)?;
            let section = |mut members: serde_json::Map<String, serde_json::Value>| {
                members.retain(|key, _| !key.starts_with('$'));
                serde_json::to_string(&members)
            };
            let RawProperties { desired, reported } = line.properties;
            device.execute((line.id, section(line.tags)?, section(desired)?, section(reported)?))?;
            let keys = line.authentication.symmetric_key;
            let decode = |key: &str| base64::engine::general_purpose::STANDARD.decode(key);
            key.execute((line.id, decode(keys.primary_key)?, decode(keys.secondary_key)?))?;
            text.clear();
        }
    }
    transaction.commit()?;
    Ok(())
}

fn raw_plan(folder: &Path) -> Result<(), Failure> {
    let connection = Connection::open(folder.join("fleet/.fleetform/fleet.db"))?;
    let mut statement = connection.prepare(
        "SELECT device_id, json_extract(desired, '$.light.threshold') FROM device
         WHERE json_extract(tags, '$.ring') IN ('canary', 'stable')",
    )?;
    let mut rows = statement.query([])?;
    let mut differing = 0_u64;
    while let Some(row) = rows.next()? {
        let id = row.get_ref(0)?.as_str()?;
        let value: i64 = row.get(1)?;
        differing += u64::from(value != 3 && !id.is_empty());
    }
    assert!(differing > 0, "there is something to do");
    Ok(())
}

/// What a plan of [`GROUP_JOB`] cannot do without.
const GROUP_SCAN: &str =
    "SELECT device_id, json_extract(desired, '$.light.threshold'), json_extract(desired, '$.light.level')
     FROM device WHERE template = 'lamp' AND json_extract(tags, '$.ring') = 'stable'";
/// What a plan of [`OR_JOB`] cannot do without.
const OR_SCAN: &str = "SELECT device_id, json_extract(desired, '$.light.threshold'), 0 FROM device
     WHERE json_extract(tags, '$.line') = '3' OR json_extract(tags, '$.building') IS NOT '1'";
/// A group with a template, and a job that writes two paths of it.
const GROUP_JOB: &str = "apiVersion: fleetform/v1\nkind: DeviceTemplate\nmetadata: {name: lamp}\nspec: {model: \
    lamp.json}\n---\n\
     apiVersion: fleetform/v1\nkind: DeviceGroup\nmetadata: {name: stable}\nspec: {template: lamp, query: \"tags.ring \
     = 'stable'\"}\n---\n\
     apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: level}\nspec:\n  target: {group: stable}\n  \
     action: {property: {light: {threshold: 4, level: 50}}}\n";
/// A condition that no index serves.
const OR_JOB: &str = "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: level}\nspec:\n  \
     target: {query: \"tags.line = '3' OR tags.building != '1'\"}\n  action: {property: {light: {threshold: 3}}}\n";
/// The interface of the template.
const MODEL: &str = r#"{"@context": "dtmi:dtdl:context;2", "@id": "dtmi:acme:Lamp;1", "@type": "Interface", "contents": [
     {"@type": "Property", "name": "light", "writable": true, "schema": {"@type": "Object", "fields": [
       {"name": "threshold", "schema": "integer"}, {"name": "level", "schema": "integer"}]}},
     {"@type": "Property", "name": "telemetryConfig", "writable": true, "schema": {"@type": "Object", "fields": [
       {"name": "sendFrequency", "schema": "string"}]}}]}"#;

/// Writes the files of one job, which is planned and not committed. All devices get the template.
fn declare_alone(folder: &Path, name: &str) -> Result<(), Failure> {
    let fleet = folder.join("fleet");
    std::fs::create_dir_all(fleet.join("alone"))?;
    std::fs::write(fleet.join("alone/lamp.json"), MODEL)?;
    std::fs::write(fleet.join("alone/job.yaml"), if name == "plan-or" { OR_JOB } else { GROUP_JOB })?;
    Connection::open(registry_path(folder))?
        .execute("UPDATE device SET template = 'lamp' WHERE template IS NULL", [])?;
    Ok(())
}

/// Writes 4,000 jobs of one device each.
fn make_small_jobs(folder: &Path) -> Result<(), Failure> {
    let jobs = folder.join("fleet/alone");
    std::fs::create_dir_all(&jobs)?;
    for n in 0..4_000 {
        let job = format!(
            "apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: small-{n}}}\nspec:\n  target: {{devices: \
                [device-{n:07}]}}\n  \
             action: {{property: {{light: {{threshold: {n}}}}}}}\n"
        );
        std::fs::write(jobs.join(format!("{n}.yaml")), job)?;
    }
    Ok(())
}

/// Removes what was written and not committed.
fn withdraw(folder: &Path) -> Result<(), Failure> {
    Ok(std::fs::remove_dir_all(folder.join("fleet/alone"))?)
}

/// The ids and values of the devices of a job, and how many of them differ.
fn raw_plan_of(folder: &Path, scan: &str) -> Result<(), Failure> {
    let connection = Connection::open(registry_path(folder))?;
    let mut statement = connection.prepare(scan)?;
    let mut rows = statement.query([])?;
    let mut differing = 0_u64;
    while let Some(row) = rows.next()? {
        let id = row.get_ref(0)?.as_str()?;
        let (first, second): (i64, i64) = (row.get(1)?, row.get(2)?);
        differing += u64::from((first != 3 || second != 50) && !id.is_empty());
    }
    assert!(differing > 0, "there is something to do");
    Ok(())
}

/// A tag and one of its values.
type Tag = (&'static str, &'static str);

/// One device in seven; never indexed.
const LINE: Tag = ("line", "3");
/// One device in fifty.
const BUILDING: Tag = ("building", "43");

fn registry_path(folder: &Path) -> PathBuf {
    folder.join("fleet/.fleetform/fleet.db")
}

/// Resolves a group as a plan does.
fn group(folder: &Path, (tag, value): Tag) -> Result<(), Failure> {
    let registry = sqlite::open_for_reading(&registry_path(folder), "fleet")?;
    let condition = query::parse(&format!("tags.{tag} = '{value}'")).map_err(|errors| errors[0].to_string())?;
    let selection = Selection::Matching { template: None, conditions: vec![condition] };
    let found = registry.devices().observe(&Request::new(selection, Vec::new()))?;
    assert!(!found.ids.is_empty(), "the group has devices");
    Ok(())
}

/// The same by hand: the ids, sorted, in memory.
fn raw_group(folder: &Path, (tag, value): Tag) -> Result<(), Failure> {
    let connection = Connection::open(registry_path(folder))?;
    let text = format!("SELECT device_id FROM device WHERE json_extract(tags,'$.\"{tag}\"') = ?1 ORDER BY device_id");
    let mut statement = connection.prepare(&text)?;
    let ids: Vec<String> = statement.query_map([value], |row| row.get(0))?.collect::<Result<_, _>>()?;
    assert!(!ids.is_empty(), "the group has devices");
    Ok(())
}

fn make_index(folder: &Path) -> Result<(), Failure> {
    let mut registry = sqlite::open(&registry_path(folder), "fleet")?;
    let condition = query::parse("tags.building = '43'").map_err(|errors| errors[0].to_string())?;
    let wanted = query::searched_paths(&condition);
    let made = registry.write(Change::Index { wanted: &wanted, changed: 0 }).map(Answer::into_indexes)?;
    assert_eq!(made.make.len(), 1, "there is one to make");
    Ok(())
}

/// One update and one outcome row a device, 1,000 a transaction; a CSV of the outcomes; one commit.
fn raw_apply(folder: &Path) -> Result<(), Failure> {
    let mut connection = open_raw(&folder.join("raw.db"))?;
    let ids: Vec<String> = {
        let mut statement = connection.prepare("SELECT device_id FROM device ORDER BY device_id")?;
        statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    let now = jiff::Timestamp::now();
    for (chunk, part) in ids.chunks(1_000).enumerate() {
        let transaction = connection.transaction()?;
        {
            let mut update = transaction.prepare_cached(
                "UPDATE device SET desired = json_patch(desired, '{\"light\":{\"threshold\":3}}'),
                        desired_version = desired_version + 1 WHERE device_id = ?1",
            )?;
            let mut outcome =
                transaction.prepare_cached("INSERT INTO outcome VALUES (1, ?1, 10, NULL, NULL, 1, ?2, ?2)")?;
            for (at, id) in part.iter().enumerate() {
                update.execute([id])?;
                outcome.execute((chunk * 1_000 + at, now.as_microsecond()))?;
            }
        }
        transaction.commit()?;
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    let text = now.to_string();
    for id in &ids {
        writer.write_record([id.as_str(), "Device", "completed", "written", "", "", "1", "1", &text, &text])?;
    }
    let repository = git2::Repository::init(folder.join("raw-git"))?;
    let blob = repository.blob(&writer.into_inner()?)?;
    let mut tree = repository.treebuilder(None)?;
    tree.insert("devices.csv", blob, 0o100_644)?;
    let tree = repository.find_tree(tree.write()?)?;
    let author = git2::Signature::now("bench", "bench@localhost")?;
    repository.commit(Some("refs/heads/results"), &author, &author, "results", &tree, &[])?;
    Ok(())
}

/// A fleet of its own with 10,000 job files.
fn make_jobs(folder: &Path) -> Result<(), Failure> {
    let fleet = folder.join("many");
    init::init(&fleet, init::InitOptions::default())?;
    std::fs::create_dir(fleet.join("jobs"))?;
    for n in 0..10_000 {
        let job = format!(
            "apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: job-{n}}}\nspec:\n  target:\n    \
             query: \"tags.line = '{n}'\"\n    expect: {{min: 1, max: 5000}}\n  action:\n    \
             property: {{light: {{threshold: {n}}}, mode: eco}}\n  delivery: {{batchSize: 10%, expiresAfter: 24h}}\n"
        );
        std::fs::write(fleet.join(format!("jobs/{n}.yaml")), job)?;
    }
    Ok(())
}

fn raw_validate(folder: &Path) -> Result<(), Failure> {
    for n in 0..10_000 {
        let text = std::fs::read_to_string(folder.join(format!("many/jobs/{n}.yaml")))?;
        let value: serde_json::Value = serde_yaml::from_str(&text)?;
        assert!(value.is_object(), "a job is an object");
    }
    Ok(())
}

fn validate_jobs(folder: &Path) -> Result<(), Failure> {
    let validated = validate(&Environment { folder: folder.join("many"), ..Environment::default() })?;
    assert!(!validated.findings.diagnostics.has_errors(), "the jobs are valid");
    Ok(())
}

fn open_raw(path: &Path) -> Result<Connection, Failure> {
    let connection = Connection::open(path)?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    Ok(connection)
}
