//! Queries over devices: which are selected, what they have, and which cannot be started.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};

use jiff::Timestamp;

use super::{DeviceKeys, IdentityRow, QueuedMessage, RegistryError, Statistics, TwinRow};
use crate::model::device::Device;
use crate::model::digest::Digest;
use crate::model::id::Name;
use crate::model::marks::Marks;
use crate::model::observation::{DeviceIds, Observation};
use crate::model::outcome::Reason;
use crate::model::patch::{Assignment as PathAssignment, Section};
use crate::query::{PathRef, Query};

/// The most stray properties that an observation names.
pub(super) const STRAYS_NAMED: usize = 5;

/// Reads devices, and writes nothing.
pub trait Devices {
    /// Returns the observation of one job: the ids of its devices in order, and their values at the paths that it
    /// touches, in one scan.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn observe(&self, request: &Request) -> Result<Observation, RegistryError>;

    /// Returns how many devices a request selects, and how many it passes over, in one scan.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn count(&self, request: &Request) -> Result<Tally, RegistryError>;

    /// Returns true when a request selects every device of the registry.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn selects_all(&self, request: &Request) -> Result<bool, RegistryError>;

    /// Calls `visit` for each device that the filter selects, in the order of their ids, until it breaks.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn each(
        &self,
        filter: &DeviceFilter,
        visit: &mut dyn FnMut(Device) -> ControlFlow<()>,
    ) -> Result<(), RegistryError>;

    /// Calls `visit` for each device that the filter selects, with what its twin shows beside it, as [`Devices::each`].
    /// Messages that have expired at a time are not counted.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn each_twin(
        &self,
        filter: &DeviceFilter,
        now: Timestamp,
        visit: &mut dyn FnMut(&TwinRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), RegistryError>;

    /// Returns one device; `None` when it is not there.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn get(&self, device_id: &str) -> Result<Option<Device>, RegistryError>;

    /// Returns the keys of a device; those of one that has none are empty.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn keys(&self, device_id: &str) -> Result<DeviceKeys, RegistryError>;

    /// Returns the identity of a device; `None` when it is not there. Staged imports do not count.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn identity(&self, device_id: &str) -> Result<Option<IdentityRow>, RegistryError>;

    /// Returns identities in the order of their ids, at most `limit`: those with an id behind `after`, which need not
    /// exist. Staged imports do not count.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn identities(&self, after: Option<&str>, limit: u64) -> Result<Vec<IdentityRow>, RegistryError>;

    /// Returns the messages that wait for a device and have not expired at a time, in the order in which it is to get
    /// them; at most [`limits::MESSAGES_MAX`](crate::model::limits::MESSAGES_MAX).
    ///
    /// # Errors
    /// The registry cannot be read.
    fn messages(&self, device_id: &str, now: Timestamp) -> Result<Vec<QueuedMessage>, RegistryError>;

    /// Returns the numbers of messages above one, with their devices, the lowest first; at most
    /// [`limits::MESSAGES_NAMED_MAX`](crate::model::limits::MESSAGES_NAMED_MAX). It costs one look-up when there are
    /// none.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn messages_after(&self, sequence: i64) -> Result<Vec<(i64, String)>, RegistryError>;

    /// Returns when a device connected, and when its connections ended, the newest first; at most
    /// [`limits::CONNECTIONS_KEPT_MAX`](crate::model::limits::CONNECTIONS_KEPT_MAX).
    ///
    /// # Errors
    /// The registry cannot be read.
    fn connections(&self, device_id: &str) -> Result<Vec<ConnectionChange>, RegistryError>;

    /// Returns how many such messages wait for each of some devices; devices that have none are absent.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn message_counts(&self, device_ids: &[String], now: Timestamp) -> Result<BTreeMap<String, u64>, RegistryError>;

    /// Returns how many devices there are. No twin is read: it takes a number that is kept, and a walk over the ids of
    /// the blocked devices and of those that are connected, in indexes of these alone: some 50 ms for each million of
    /// these.
    /// Staged imports do not count.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn statistics(&self) -> Result<Statistics, RegistryError>;

    /// Returns a text that is another one whenever what devices log in with may have changed: devices were imported,
    /// blocked, unblocked or deleted. It costs one look-up.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn admissions(&self) -> Result<Option<String>, RegistryError>;

    /// Returns the digest of the edge manifest of a device, 64 hex digits; `None` when the device has none or the
    /// digest is not known.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn edge_manifest_digest(&self, device_id: &str) -> Result<Option<String>, RegistryError>;

    /// Returns the imports that brought some devices, by device id; devices that no import brought are absent.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn imports_of(&self, device_ids: &[String]) -> Result<BTreeMap<String, String>, RegistryError>;

    /// Returns the device templates of some devices, by device id; devices without one are absent.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn templates_of(&self, device_ids: &[String]) -> Result<BTreeMap<String, String>, RegistryError>;

    /// Returns the versions of the desired sections of some devices, by device id; devices that are gone are absent.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn desired_versions(&self, device_ids: &[String]) -> Result<BTreeMap<String, u64>, RegistryError>;

    /// Returns ids similar to one that may be mistyped: ids that differ only in the case of letters, and those before
    /// and after it in order.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn ids_near(&self, device_id: &str) -> Result<Vec<String>, RegistryError>;

    /// Returns those of some devices that a job cannot be started on, as (ordinal, reason, message), ascending, each
    /// once.
    ///
    /// # Errors
    /// The registry cannot be read.
    ///
    /// # Panics
    /// When the range is empty or not one of `ids`.
    fn ineligible(
        &self,
        needs: &Needs<'_>,
        ids: &DeviceIds,
        range: Range<u32>,
    ) -> Result<Vec<(u32, Reason, &'static str)>, RegistryError>;

    /// Returns what [`Change::Index`](super::Change::Index) would do for the paths that conditions search by, the most
    /// wanted first.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn index_changes(&self, wanted: &[PathRef]) -> Result<IndexChanges, RegistryError>;
}

/// The devices that a request is about.
#[derive(Debug, Clone)]
pub enum Selection {
    /// All that meet every condition.
    Matching { template: Option<String>, conditions: Vec<Query> },
    /// These, sorted and without duplicates; those that the registry does not have are reported as missing.
    Listed(Vec<String>),
}

/// A selection, bounded by organizations, and the questions about its devices.
#[derive(Debug, Clone)]
pub struct Request {
    pub selection: Selection,
    /// Paths of organizations; a device must be in or below each of them.
    pub within: Vec<String>,
    pub touched: Touched,
    /// Device templates that the job does not fit.
    pub mismatching: BTreeSet<Name>,
    /// For each entry, counts the devices that meet all of its conditions, lie within the same bounds, have the same
    /// template and are not selected. Used with a selection by conditions only.
    pub passed_over: Vec<Vec<Query>>,
}

impl Request {
    /// Returns a request for the devices of a selection, without questions about them.
    pub fn new(selection: Selection, within: Vec<String>) -> Request {
        let (touched, mismatching, passed_over) = (Touched::Nothing, BTreeSet::new(), Vec::new());
        Request { selection, within, touched, mismatching, passed_over }
    }

    /// Returns a request for all devices.
    pub fn all() -> Request {
        Request::new(Selection::Matching { template: None, conditions: Vec::new() }, Vec::new())
    }
}

/// That a device connected, or that its connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionChange {
    pub at: Timestamp,
    pub is_online: bool,
}

/// The number of devices that a request selects, and that it passes over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub selected: u64,
    /// The number of devices for each of [`Request::passed_over`].
    pub passed_over: Vec<u64>,
}

/// The part of a device that a job touches.
#[derive(Debug, Clone)]
pub enum Touched {
    /// A device whose template gets no mark at a path of `marks` counts as one that has it.
    Sections {
        assignments: Vec<(Section, PathAssignment)>,
        marks: Marks,
    },
    /// `desired_names` are the desired properties that have a place in the wanted template.
    Template {
        wanted: String,
        desired_names: BTreeSet<String>,
    },
    /// An edge manifest, for IoT Edge devices only. `digest` is the digest of its content.
    EdgeManifest {
        wanted: String,
        digest: Digest,
    },
    Nothing,
}

impl Touched {
    /// Returns paths of one section, without marks.
    pub fn section(section: Section, assignments: Vec<PathAssignment>) -> Touched {
        let assignments = assignments.into_iter().map(|one| (section, one)).collect();
        Touched::Sections { assignments, marks: Marks::default() }
    }
}

/// What a device must be for a job to start on it. It must also not be blocked.
#[derive(Debug, Clone, Copy)]
pub struct Needs<'a> {
    /// Templates that the job does not fit.
    pub mismatching: &'a BTreeSet<Name>,
    /// The device must be an IoT Edge device.
    pub edge: bool,
    /// The device must be in the registry. A write checks this itself, but a command would be sent to a device that is
    /// gone.
    pub presence: bool,
}

impl Needs<'_> {
    /// The message for a device that cannot have an edge manifest.
    pub const NOT_EDGE: &'static str = "it is no IoT Edge device: its capabilities.iotEdge is false";
}

/// Which devices to list.
#[derive(Debug, Clone, Default)]
pub struct DeviceFilter {
    pub query: Option<Query>,
    /// The path of an organization; devices in or below it.
    pub organization: Option<String>,
    /// Only devices whose id comes after this one, which need not exist.
    pub after: Option<String>,
    /// At most this many, in the order of their ids.
    pub limit: Option<u64>,
}

impl DeviceFilter {
    /// Returns the request for what the filter selects, ignoring `after` and `limit`.
    pub fn request(&self) -> Request {
        let selection = Selection::Matching { template: None, conditions: self.query.iter().cloned().collect() };
        Request::new(selection, self.organization.iter().cloned().collect())
    }
}

/// Planned or completed changes of indexes, with paths as a condition writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexChanges {
    pub make: Vec<String>,
    /// Paths that no declared condition searches by any more.
    pub drop: Vec<String>,
    /// Paths that conditions search by without an index, because there are
    /// [`limits::QUERY_INDEXES_MAX`](crate::model::limits::QUERY_INDEXES_MAX) already, or the store cannot index the
    /// path.
    pub left_out: Vec<String>,
}

impl IndexChanges {
    /// Returns true when there is nothing to make and nothing to drop.
    pub fn is_empty(&self) -> bool {
        self.make.is_empty() && self.drop.is_empty()
    }
}

/// Returns the column of a section, which has one name in every store.
pub(super) fn section_column(section: Section) -> &'static str {
    match section {
        Section::Tags => "tags",
        Section::Cloud => "cloud",
        Section::Desired => "desired",
        Section::Reported => "reported",
    }
}

/// Returns the column of the version that counts the writes of a section; `None` when nobody counts them.
pub(super) fn version_column(section: Section) -> Option<&'static str> {
    match section {
        Section::Desired => Some("desired_version"),
        Section::Reported => Some("reported_version"),
        Section::Tags | Section::Cloud => None,
    }
}
