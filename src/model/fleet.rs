//! The fleet and the documents beside its jobs: organizations, templates, groups, edge manifests and imports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::access::Access;
use super::alert::AlertConfig;
pub use super::broker::MqttLinkConfig;
use super::digest::Digest;
use super::hub::HubLinkConfig;
use super::id::{DeviceId, Name};
use super::job::{Action, Job};
use super::kind::Kind;
use super::marks::Marks;
use super::outcome::{DeviceStatus, Reason};
use super::policy::Policy;
use super::schedule::Schedule;

/// The one Fleet document.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    pub name: Name,
    pub registry: RegistryConfig,
    pub link: LinkConfig,
    pub results: ResultsConfig,
    pub limits: FleetLimits,
    /// An IANA time-zone name that has been checked, for schedules that name none; `None` when the fleet names none
    /// either.
    pub time_zone: Option<String>,
    /// Who is told when something goes wrong, by name.
    pub alerts: Vec<AlertConfig>,
}

/// Where the devices are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryConfig {
    /// A SQLite file, relative to the fleet's folder unless absolute.
    Sqlite { path: String },
    /// A PostgreSQL database, whose URL is in a variable of the environment.
    Postgres { variable: String },
}

impl Default for RegistryConfig {
    fn default() -> RegistryConfig {
        RegistryConfig::Sqlite { path: ".fleetform/fleet.db".to_string() }
    }
}

/// A probability in millionths: `1%` is 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Probability {
    pub per_million: u32,
}

/// The way to the devices, and its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkConfig {
    Simulated(SimulatedLink),
    Mqtt(Box<MqttLinkConfig>),
    Hub(Box<HubLinkConfig>),
    /// A device is reached where it was seen last.
    Both {
        mqtt: Box<MqttLinkConfig>,
        hub: Box<HubLinkConfig>,
    },
}

impl LinkConfig {
    /// Returns true for a link that has connections: it stays open while nothing is to be done.
    pub fn has_connections(&self) -> bool {
        !matches!(self, LinkConfig::Simulated(_))
    }

    /// Returns the broker that devices are behind, if any are.
    pub fn mqtt(&self) -> Option<&MqttLinkConfig> {
        match self {
            LinkConfig::Mqtt(mqtt) | LinkConfig::Both { mqtt, .. } => Some(mqtt),
            LinkConfig::Simulated(_) | LinkConfig::Hub(_) => None,
        }
    }

    /// Returns how devices connect to a gateway, if any do.
    pub fn hub(&self) -> Option<&HubLinkConfig> {
        match self {
            LinkConfig::Hub(hub) | LinkConfig::Both { hub, .. } => Some(hub),
            LinkConfig::Simulated(_) | LinkConfig::Mqtt(_) => None,
        }
    }

    /// Returns true when devices are reached in the same way: what back ends may do is no matter of theirs.
    pub fn reaches_like(&self, other: &LinkConfig) -> bool {
        match (self.hub(), other.hub()) {
            (Some(one), Some(two)) => {
                let of = |hub: &HubLinkConfig| {
                    (hub.host_name.clone(), hub.device_authorities.clone(), hub.telemetry.clone())
                };
                of(one) == of(two) && self.mqtt() == other.mqtt()
            }
            _ => self == other,
        }
    }
}

impl Default for LinkConfig {
    fn default() -> LinkConfig {
        LinkConfig::Simulated(SimulatedLink::default())
    }
}

/// What all topics of a fleet begin with that names nothing.
pub const TOPIC_PREFIX_DEFAULT: &str = "fleetform";

/// Simulated devices: their behaviour is a function of the seed and the device id, so every run meets the same devices.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulatedLink {
    pub seed: u64,
    /// The mean time between a request and its answer.
    pub latency: Duration,
    /// Devices that answer a command with 500.
    pub failures: Probability,
    /// Devices that are not connected.
    pub offline: Probability,
    /// Devices that behave in a way of their own, whatever the probabilities say.
    pub devices: BTreeMap<DeviceId, DeviceBehaviour>,
    /// A file, relative to the fleet's folder, to which each device appends what it executed before it answers.
    pub journal: Option<String>,
}

impl Default for SimulatedLink {
    fn default() -> SimulatedLink {
        SimulatedLink {
            seed: 1,
            latency: Duration::from_millis(20),
            failures: Probability::default(),
            offline: Probability::default(),
            devices: BTreeMap::new(),
            journal: None,
        }
    }
}

/// What one simulated device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeviceBehaviour {
    /// The status it answers commands with; 400 or more is a failure.
    pub answers: Option<u16>,
    /// Not connected.
    pub offline: bool,
    /// Connected, but it never answers.
    pub silent: bool,
    /// An offline device connects so long after it was first asked for something.
    pub connects_after: Option<Duration>,
    pub latency: Option<Duration>,
}

/// Which devices have rows in the results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultDevices {
    All,
    Failures,
}

impl ResultDevices {
    /// Returns true when a device with a reason has a row.
    pub fn has(self, reason: Reason) -> bool {
        match self {
            ResultDevices::All => true,
            ResultDevices::Failures => reason.status() == DeviceStatus::Failed,
        }
    }
}

/// Where the results go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultsConfig {
    /// The branch without `refs/heads/`.
    pub branch: String,
    pub devices: ResultDevices,
    /// The name of the git remote that the branch is pushed to; `None` keeps it in the repository.
    pub remote: Option<String>,
}

/// The limits that a fleet may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetLimits {
    pub running_jobs: u32,
    pub in_flight: u32,
}

/// A node of the tree of organizations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    pub name: Name,
    pub parent: Option<Name>,
    /// The names from the root to this one with `/` between them.
    pub path: String,
}

impl Organization {
    /// Returns true for its name and for its path.
    pub fn is_called(&self, text: &str) -> bool {
        self.name.as_str() == text || self.path == text
    }
}

/// A device template: a DTDL interface and the cloud properties beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceTemplate {
    pub name: Name,
    /// The `@id` of the DTDL interface, such as `dtmi:contoso:Thermostat;1`.
    pub model_id: String,
    /// The DTDL document: the interface, or a list of interfaces that refer to each other.
    pub model: Value,
    /// The names of the interface's components.
    pub components: BTreeSet<String>,
    /// Cloud property name to the word of its DTDL schema.
    pub cloud_properties: BTreeMap<String, String>,
}

/// A saved selection of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceGroup {
    pub name: Name,
    pub template: Option<Name>,
    /// The path of an organization; the group has the devices of it and of all below it.
    pub organization: Option<String>,
    /// A condition of the query language that has been checked.
    pub query: String,
}

/// An edge deployment manifest (`modulesContent`).
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeManifest {
    pub name: Name,
    pub content: Map<String, Value>,
    /// The digest of the canonical JSON of `modulesContent`, which identifies an assignment.
    pub digest: Digest,
}

/// What happens to devices whose row left the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    Keep,
    Block,
    Delete,
}

impl Removed {
    /// Returns the word of the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Removed::Keep => "keep",
            Removed::Block => "block",
            Removed::Delete => "delete",
        }
    }
}

/// How an import file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportFormat {
    /// A CSV file of IoT Central.
    Csv,
    /// One `ExportImportDevice` of IoT Hub a line, as JSON.
    IotHub,
}

impl ImportFormat {
    /// Returns the format for the name of a file: `*.csv`, `*.jsonl`, or `devices.txt` as IoT Hub names it; `None` for
    /// any other.
    pub fn of_path(path: &str) -> Option<ImportFormat> {
        let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
        if name.ends_with(".csv") {
            Some(ImportFormat::Csv)
        } else if name.ends_with(".jsonl") || name == "devices.txt" {
            Some(ImportFormat::IotHub)
        } else {
            None
        }
    }
}

/// The expected results of an import; both ends of a range are included, and `None` allows any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportExpect {
    /// The devices of the file: rows that are not rejected and do not delete.
    pub min: Option<u64>,
    pub max: Option<u64>,
    /// The most devices that are blocked or deleted.
    pub removed: Option<u64>,
    /// The most rows that are rejected.
    pub rejected: Option<u64>,
}

impl ImportExpect {
    /// Returns true when a file with so many devices, which blocks or deletes so many and has so many rejected rows, is as
    /// expected.
    pub fn allows(&self, devices: u64, removed: u64, rejected: u64) -> bool {
        let ImportExpect { min, max, removed: removed_max, rejected: rejected_max } = *self;
        min.is_none_or(|min| devices >= min)
            && max.is_none_or(|max| devices <= max)
            && removed_max.is_none_or(|most| removed <= most)
            && rejected_max.is_none_or(|most| rejected <= most)
    }
}

/// Devices from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceImport {
    pub name: Name,
    /// The path of the file from the fleet's folder, resolved against the document's own folder.
    pub file: String,
    pub format: ImportFormat,
    pub template: Option<Name>,
    /// The path of an organization.
    pub organization: Option<String>,
    /// A row may name its own template.
    pub rows_have_template: bool,
    /// A row may name its own organization, within that of the import.
    pub rows_have_organization: bool,
    pub simulated: bool,
    pub removed: Removed,
    pub expect: ImportExpect,
    /// The digest of the canonical JSON of the spec, without the file's content.
    pub spec_digest: Digest,
}

/// Everything that a tree declares, all references checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    pub fleet: Fleet,
    pub organizations: BTreeMap<Name, Organization>,
    pub templates: BTreeMap<Name, DeviceTemplate>,
    pub groups: BTreeMap<Name, DeviceGroup>,
    pub edge_manifests: BTreeMap<Name, EdgeManifest>,
    /// The digests that were claimed last of manifests that occurrences under way assign and that are no longer
    /// declared.
    pub kept_manifests: BTreeMap<Name, Digest>,
    pub imports: BTreeMap<Name, DeviceImport>,
    /// Shared, because a daemon declares the same jobs again with each commit.
    pub jobs: BTreeMap<Name, Arc<Job>>,
    /// No schedule has the name of a job.
    pub schedules: BTreeMap<Name, Schedule>,
    pub policies: BTreeMap<Name, Policy>,
    pub access: Option<Access>,
}

impl Declared {
    /// Returns the former names of a job or a schedule.
    pub fn previous_names(&self, name: &Name) -> &[Name] {
        match (self.jobs.get(name), self.schedules.get(name)) {
            (Some(job), _) => &job.previous_names,
            (None, Some(schedule)) => &schedule.previous_names,
            (None, None) => &[],
        }
    }

    /// Returns the organization that a text calls by its name or its path.
    pub fn organization(&self, called: &str) -> Option<&Organization> {
        self.organizations.values().find(|one| one.is_called(called))
    }

    /// Returns the path of an organization; `None` for none.
    pub fn path_of(&self, organization: Option<&Name>) -> Option<&str> {
        self.organizations.get(organization?).map(|one| one.path.as_str())
    }

    /// Gives a job or a schedule, and an occurrence of it, other former names.
    pub fn set_previous_names(&mut self, name: &Name, names: &[Name]) {
        if let Some(job) = self.jobs.get_mut(name) {
            Arc::make_mut(job).previous_names = names.to_vec();
        }
        if let Some(schedule) = self.schedules.get_mut(name) {
            schedule.previous_names = names.to_vec();
        }
    }

    /// Returns the marks that an action leaves out of what it writes to components.
    pub fn marks(&self, action: &Action) -> Marks {
        let Some(patch) = action.desired() else { return Marks::default() };
        Marks::of(patch, |name| {
            let with_it = self.templates.values().filter(|template| template.components.contains(name));
            with_it.map(|template| template.name.clone()).collect()
        })
    }

    /// Returns the digest of the edge manifest that an action assigns; `None` for any other action, and for a manifest
    /// that is neither declared nor kept.
    pub fn manifest_digest(&self, action: &Action) -> Option<Digest> {
        let Action::EdgeManifest(name) = action else { return None };
        let declared = self.edge_manifests.get(name).map(|manifest| manifest.digest);
        declared.or_else(|| self.kept_manifests.get(name).copied())
    }

    /// Returns a fleet that declares nothing else yet.
    pub fn empty(fleet: Fleet) -> Declared {
        Declared {
            fleet,
            organizations: BTreeMap::new(),
            templates: BTreeMap::new(),
            groups: BTreeMap::new(),
            edge_manifests: BTreeMap::new(),
            kept_manifests: BTreeMap::new(),
            imports: BTreeMap::new(),
            jobs: BTreeMap::new(),
            schedules: BTreeMap::new(),
            policies: BTreeMap::new(),
            access: None,
        }
    }

    /// Returns true when a job or a schedule has the name: no other job or schedule can have it, because both have
    /// runs.
    pub fn has_runs_named(&self, name: &str) -> bool {
        self.jobs.contains_key(name) || self.schedules.contains_key(name)
    }
}

/// Documents of a tree that cannot be used now. Nothing is started for them, and their absence does not mean that they
/// were deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldDocuments {
    /// By kind (the word of the `kind` field) and name.
    pub documents: BTreeMap<(Kind, Name), Hold>,
    /// Files with errors outside of any document with a known name, by path from the fleet's folder. Only the first
    /// error of a file is kept.
    pub files: BTreeMap<String, Hold>,
    /// True when a part of the tree could not be read, so that its declarations are not known.
    pub is_partial: bool,
}

/// Why something is held, and the place of the error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// One sentence.
    pub why: String,
    /// The code of the diagnostic that says it, such as `FF201`; `None` without one.
    pub code: Option<&'static str>,
    /// `None` when it is about no place of a file.
    pub place: Option<FilePlace>,
    /// The commit that has the document as it was before a change that was not allowed; `None` when it is held for
    /// anything else.
    pub former: Option<String>,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilePlace {
    /// From the fleet's folder, with `/` between its parts.
    pub path: String,
    /// From 1.
    pub line: u64,
}

impl HeldDocuments {
    /// Returns why a document is held; `None` when it is not.
    pub fn why(&self, kind: Kind, name: &Name) -> Option<&str> {
        self.documents.get(&(kind, name.clone())).map(|hold| hold.why.as_str())
    }

    /// Returns true when a document may be declared although it is not known.
    pub fn may_have(&self, kind: Kind, name: &Name) -> bool {
        self.is_partial || self.why(kind, name).is_some()
    }

    /// Iterates over the held documents of a kind, by name, with why.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&Name, &str)> {
        self.documents
            .iter()
            .filter(move |((held, _), _)| *held == kind)
            .map(|((_, name), hold)| (name, hold.why.as_str()))
    }

    /// Returns how many documents and files are held.
    pub fn count(&self) -> usize {
        self.documents.len() + self.files.len()
    }

    /// Iterates over all held documents and files with their addresses: documents by kind and name (`job/dim-line-3`),
    /// then files by path (`file/jobs/dim.yaml`).
    pub fn rows(&self) -> impl Iterator<Item = (String, &Hold)> {
        let mut documents: Vec<(String, &Hold)> = self
            .documents
            .iter()
            .map(|((kind, name), hold)| (format!("{}/{name}", kind.as_str().to_lowercase()), hold))
            .collect();
        documents.sort_by(|one, two| one.0.cmp(&two.0));
        documents.into_iter().chain(self.files.iter().map(|(path, hold)| (format!("file/{path}"), hold)))
    }
}
