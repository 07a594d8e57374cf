//! `device run` and `device fleet`: reference devices, until they are stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::{CommandResult, Output};
use crate::cli::error::{CommandError, sentence};
use crate::cli::exit;
use crate::cli::gadgets::{BrokerAddress, FleetArgs, GadgetArgs, JsonObject, MqttChoice};
use crate::cli::signals::on_signals;
use crate::cli::view::{counted, number};
use crate::device::{DeviceError, MqttVersion, News, Settings, Stop, Tell, run as run_devices};
use crate::model::id::DeviceId;
use crate::model::secret::SecretText;
use crate::model::text::sanitize_line;
use crate::ops::Environment;
use crate::ops::link::broker;

/// How often a fleet says how it is, when something has changed.
const STATUS_EVERY: Duration = Duration::from_secs(2);
/// Devices of one process: each has a port of this machine, of which there are about as many.
const DEVICES_MAX: usize = 60_000;
/// Characters of an execution id that are shown.
const ID_CHARS: usize = 12;
const PREFIX_DEFAULT: &str = "fleetform";

/// `device run --id ID`
pub fn run(environment: &Environment, id: &str, arguments: &GadgetArgs, output: &Output) -> CommandResult {
    let settings = settings(environment, arguments)?;
    let id = legal(id)?;
    output.say(&format!("device {id} at {}, topics below {}", address(&settings), settings.prefix));
    let (is_json, is_quiet) = (output.is_json, output.is_quiet);
    let talk = output.clone();
    let tell: Tell = Arc::new(move |news| {
        if is_json {
            // A reader that is gone is no reason to stop.
            drop(talk.json_line(&news_json(news)));
        } else if !is_quiet {
            talk.say(&news_text(news));
        }
    });
    live(vec![id], &settings, tell)
}

/// `device fleet -n N`
pub fn fleet(environment: &Environment, arguments: &FleetArgs, output: &Output) -> CommandResult {
    let settings = settings(environment, &arguments.gadget)?;
    let ids = match &arguments.ids_from {
        Some(path) => ids_of_file(path, arguments.count)?,
        None => ids_of_count(&arguments.ids, arguments.count.unwrap_or_default())?,
    };
    let devices = ids.len();
    output.say(&format!(
        "{} at {}, topics below {}",
        counted(devices as u64, "device"),
        address(&settings),
        settings.prefix
    ));
    let counts = Arc::new(Counts::default());
    let counting = Arc::clone(&counts);
    let tell: Tell = Arc::new(move |news| counting.take(news));
    let is_over = Arc::new(AtomicBool::new(false));
    let (over, talk) = (Arc::clone(&is_over), output.clone());
    let shown = Arc::clone(&counts);
    let show = move || {
        let mut last = String::new();
        loop {
            std::thread::park_timeout(STATUS_EVERY);
            let is_over = over.load(Ordering::Acquire);
            let text = shown.text(devices as u64);
            if text != last && talk.is_json {
                drop(talk.json_line(&shown.json(devices as u64)));
            } else if text != last {
                talk.say(&text);
            }
            if is_over {
                return;
            }
            last = text;
        }
    };
    let shower = std::thread::Builder::new().name("status".to_string()).spawn(show)?;
    let ended = live(ids, &settings, tell);
    is_over.store(true, Ordering::Release);
    shower.thread().unpark();
    // A thread that panicked has told so.
    drop(shower.join());
    ended
}

/// Runs devices until Ctrl-C or SIGTERM.
fn live(ids: Vec<String>, settings: &Settings, tell: Tell) -> CommandResult {
    let stop = Stop::default();
    let stops = stop.clone();
    on_signals(move || stops.stop())?;
    run_devices(ids, settings, &stop, tell).map_err(|error: DeviceError| CommandError::Unavailable {
        what: sentence(&error),
        help: error.help().to_string(),
    })?;
    Ok(exit::OK)
}

fn usage(what: String, help: &str) -> CommandError {
    CommandError::Usage { what, help: help.to_string() }
}

fn legal(id: &str) -> Result<String, CommandError> {
    let parsed = DeviceId::parse(id);
    let failed = |error| usage(format!("`{}` is no device id: {error}", sanitize_line(id)), "Choose another id.");
    parsed.map(|id| id.to_string()).map_err(failed)
}

fn settings(environment: &Environment, arguments: &GadgetArgs) -> Result<Settings, CommandError> {
    let GadgetArgs { broker, prefix, username, password_file, ca, state, .. } = arguments;
    let GadgetArgs { methods, reported, mqtt, journal, latency, answers, .. } = arguments;
    let Place { address: BrokerAddress { host, port, is_tls }, ca: ca_of_fleet, prefix: prefix_of_fleet } = match broker
    {
        Some(address) => Place { address: address.clone(), ca: None, prefix: None },
        None => of_fleet(environment)?,
    };
    if ca.is_some() && !is_tls {
        let what = "`--ca` is for an encrypted connection, and the address says `mqtt://`".to_string();
        return Err(usage(what, "Write `mqtts://`, or leave it out."));
    }
    let mut commands = BTreeMap::new();
    for (name, command) in methods {
        if commands.insert(name.clone(), command.clone()).is_some() {
            let what = format!("the method `{}` has two commands", sanitize_line(name));
            return Err(usage(what, "Give it one."));
        }
    }
    Ok(Settings {
        host,
        port,
        is_tls,
        ca: ca.clone().or(ca_of_fleet),
        prefix: prefix.clone().or(prefix_of_fleet).unwrap_or_else(|| PREFIX_DEFAULT.to_string()),
        username: username.clone(),
        password: password_file.as_deref().map(password).transpose()?,
        version: mqtt.map(|version| match version {
            MqttChoice::V5 => MqttVersion::V5,
            MqttChoice::V311 => MqttVersion::V311,
        }),
        methods: commands,
        latency: *latency,
        status: *answers,
        reported: reported.clone().map(|JsonObject(members)| members).unwrap_or_default(),
        state: state.clone(),
        journal: journal.clone(),
    })
}

/// What a fleet says of its broker.
struct Place {
    address: BrokerAddress,
    ca: Option<std::path::PathBuf>,
    prefix: Option<String>,
}

fn of_fleet(environment: &Environment) -> Result<Place, CommandError> {
    const HELP: &str = "Name it with `--broker mqtt://HOST:PORT`, or go to a fleet with `spec.link.mqtt`. A gateway is \
                        named `--broker mqtts://HOST:8883 --username '{id}' --password-file KEY`.";
    let config = broker(environment).map_err(|error| {
        usage(format!("no broker is named, and there is no fleet to ask: {}", sentence(&error)), HELP)
    })?;
    let Some(config) = config else {
        return Err(usage("no broker is named, and the fleet here has none".to_string(), HELP));
    };
    let address = BrokerAddress { host: config.host, port: config.port, is_tls: config.is_tls };
    let ca = config.ca.map(|ca| environment.folder.join(ca));
    Ok(Place { address, ca, prefix: Some(config.topic_prefix) })
}

fn password(path: &Path) -> Result<SecretText, CommandError> {
    let unusable = |reason: &dyn std::fmt::Display| {
        usage(
            format!("the password of {} cannot be used: it {reason}", path.display()),
            "Write the password to the file.",
        )
    };
    let mut bytes = std::fs::read(path).map_err(|error| unusable(&format!("cannot be read: {error}")))?;
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    SecretText::new(bytes).map_err(|fault| unusable(&fault))
}

fn ids_of_count(prefix: &str, count: usize) -> Result<Vec<String>, CommandError> {
    check_count(count)?;
    let width = count.to_string().len().max(4);
    let ids = (1..=count).map(|n| legal(&format!("{prefix}{n:0width$}")));
    ids.collect()
}

fn ids_of_file(path: &Path, count: Option<usize>) -> Result<Vec<String>, CommandError> {
    const COLUMN: &str = "IOTC_DEVICEID";
    let failed = |reason: &dyn std::fmt::Display| {
        usage(format!("the ids of {} cannot be read: {reason}", path.display()), "Write an id a line, or a CSV file.")
    };
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    let text = text.trim_start_matches('\u{feff}');
    let is_table = text.lines().next().is_some_and(|line| line.contains(COLUMN));
    let found: Vec<String> = if is_table {
        let mut rows = csv::Reader::from_reader(text.as_bytes());
        let headers = rows.headers().map_err(|error| failed(&error))?;
        let at = headers.iter().position(|name| name.trim() == COLUMN);
        let at = at.ok_or_else(|| failed(&format!("it has no column {COLUMN}")))?;
        let cells = rows.records().map(|row| row.map(|row| row.get(at).unwrap_or_default().trim().to_string()));
        cells.collect::<Result<_, _>>().map_err(|error| failed(&error))?
    } else {
        text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect()
    };
    let mut seen = BTreeSet::new();
    let mut ids = Vec::new();
    for id in found.into_iter().take(count.unwrap_or(usize::MAX)) {
        let id = legal(&id)?;
        if seen.insert(id.clone()) {
            ids.push(id);
        }
    }
    check_count(ids.len())?;
    Ok(ids)
}

fn check_count(count: usize) -> Result<(), CommandError> {
    if (1..=DEVICES_MAX).contains(&count) {
        return Ok(());
    }
    let most = number(DEVICES_MAX as u64);
    Err(usage(
        format!("{} cannot be run by one process", counted(count as u64, "device")),
        &format!("Run 1 to {most}."),
    ))
}

fn address(settings: &Settings) -> String {
    let Settings { host, port, is_tls, .. } = settings;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    format!("mqtt{}://{host}:{port}", if *is_tls { "s" } else { "" })
}

fn version(version: MqttVersion) -> &'static str {
    match version {
        MqttVersion::V5 => "5",
        MqttVersion::V311 => "3.1.1",
    }
}

/// Returns what happened to a device as a line.
fn news_text(news: &News<'_>) -> String {
    let text = match news {
        News::Connected { device_id, version: spoken } => format!("{device_id}: connected, MQTT {}", version(*spoken)),
        News::Lost { device_id, fault, again_in, was_joined } => {
            let what = if *was_joined { "the connection to the broker is gone" } else { "no connection to the broker" };
            format!("{device_id}: {what}: {fault}; trying again in {:.1} s", again_in.as_secs_f64())
        }
        News::Executed { device_id, method, execution_id, status, is_again } => {
            let id: String = execution_id.chars().take(ID_CHARS).collect();
            let what = if *is_again { "was executed before, answered again with" } else { "answered with" };
            format!("{device_id}: {method} {what} {status}, execution {id}")
        }
        News::Desired { device_id, version } => format!("{device_id}: desired properties of version {version}"),
        News::Refused { device_id, status } => {
            let why = match status {
                403 => "the device is blocked",
                404 => "the registry does not have the device",
                413 => "it was too large",
                _ => "it is not valid",
            };
            format!("{device_id}: a request was refused with {status}: {why}")
        }
        News::Unwritten { device_id, error } => format!("{device_id}: the state file cannot be written: {error}"),
    };
    sanitize_line(&text).into_owned()
}

fn news_json(news: &News<'_>) -> Value {
    match news {
        News::Connected { device_id, version: spoken } => {
            json!({"event": "connected", "device_id": device_id, "mqtt": version(*spoken)})
        }
        News::Lost { device_id, fault, again_in, .. } => json!({
            "event": "lost", "device_id": device_id, "fault": fault.to_string(), "again_in_ms": again_in.as_millis() as u64
        }),
        News::Executed { device_id, method, execution_id, status, is_again } => json!({
            "event": "answered", "device_id": device_id, "method": method, "execution_id": execution_id,
            "status": status, "again": is_again
        }),
        News::Desired { device_id, version } => json!({"event": "desired", "device_id": device_id, "version": version}),
        News::Refused { device_id, status } => json!({"event": "refused", "device_id": device_id, "status": status}),
        News::Unwritten { device_id, error } => {
            json!({"event": "unwritten", "device_id": device_id, "error": error.to_string()})
        }
    }
}

/// What happened to the devices of a fleet, in numbers.
#[derive(Debug, Default)]
struct Counts {
    connected: AtomicU64,
    executed: AtomicU64,
    again: AtomicU64,
    desired: AtomicU64,
    lost: AtomicU64,
    refused: AtomicU64,
    /// What was in the way of the last connection that failed.
    fault: Mutex<String>,
}

impl Counts {
    fn take(&self, news: &News<'_>) {
        let add = |count: &AtomicU64| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        match news {
            News::Connected { .. } => add(&self.connected),
            News::Lost { fault, was_joined, .. } => {
                if *was_joined {
                    self.connected.fetch_sub(1, Ordering::Relaxed);
                    add(&self.lost);
                }
                *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault.to_string();
            }
            News::Executed { is_again: false, .. } => add(&self.executed),
            News::Executed { is_again: true, .. } => add(&self.again),
            News::Desired { .. } => add(&self.desired),
            News::Refused { .. } => add(&self.refused),
            News::Unwritten { error, .. } => {
                *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
            }
        }
    }

    fn values(&self) -> [u64; 6] {
        let counts = [&self.connected, &self.executed, &self.again, &self.desired, &self.lost, &self.refused];
        counts.map(|count| count.load(Ordering::Relaxed))
    }

    fn fault(&self) -> String {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn text(&self, devices: u64) -> String {
        let [connected, executed, again, desired, lost, refused] = self.values();
        let mut text = format!("{} of {} connected", number(connected), counted(devices, "device"));
        let counts = [
            (executed, "methods executed"),
            (again, "answered again"),
            (desired, "desired patches"),
            (lost, "connections lost"),
            (refused, "requests refused"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            text.push_str(&format!(", {} {what}", number(count)));
        }
        let fault = self.fault();
        if connected < devices && !fault.is_empty() {
            text.push_str(&format!("; the last fault: {}", sanitize_line(&fault)));
        }
        text
    }

    fn json(&self, devices: u64) -> Value {
        let [connected, executed, again, desired, lost, refused] = self.values();
        let fault = Some(self.fault()).filter(|fault| !fault.is_empty());
        json!({
            "devices": devices, "connected": connected, "executed": executed, "answered_again": again,
            "desired": desired, "lost": lost, "refused": refused, "fault": fault
        })
    }
}
