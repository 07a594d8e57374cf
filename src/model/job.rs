//! A job: which devices, what to do with them, how to reach them.

use std::time::Duration;

use serde_json::Value;

use super::delivery::Delivery;
use super::digest::Digest;
use super::id::{DeviceId, Name, RunToken};
use super::outcome::{DeviceStatus, Reason};
use super::patch::{Patch, Section};

/// A job as declared, defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub name: Name,
    /// The name that it had before it was renamed on purpose.
    pub previous_names: Vec<Name>,
    pub run: RunToken,
    pub suspend: bool,
    /// SHA-256 of the canonical JSON of the spec as written, without the fields that may change while it runs (design:
    /// identity).
    pub spec_digest: Digest,
    pub organization: Option<Name>,
    pub target: Target,
    /// Jobs that must have completed first, in the order written.
    pub after: Vec<Name>,
    pub action: Action,
    pub delivery: Delivery,
    /// The file that declares it, relative to the fleet's folder.
    pub file: String,
}

/// The devices of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    pub selector: Selector,
    pub expect: Option<Expect>,
}

/// How the devices are named; all but `OfRun` select from the registry.
#[derive(Debug, Clone, PartialEq)]
pub enum Selector {
    Group(Name),
    /// A condition of the query language that has been checked.
    Query(String),
    /// Sorted, without duplicates, not empty.
    Devices(Vec<DeviceId>),
    /// The devices of a run of another job that failed in it, or that it left pending.
    OfRun(DevicesOfRun),
}

/// Some devices of a run that has ended or was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicesOfRun {
    pub job: Name,
    pub run: RunToken,
    pub left: Left,
    /// Only devices with one of these reasons; with any when there are none.
    pub reasons: Vec<Reason>,
}

/// How a run left its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    Failed,
    Pending,
}

impl Left {
    /// Returns the field of the manifest: `failedOf` or `pendingOf`.
    pub fn field(self) -> &'static str {
        match self {
            Left::Failed => "failedOf",
            Left::Pending => "pendingOf",
        }
    }

    /// Returns the word before "devices".
    pub fn word(self) -> &'static str {
        match self {
            Left::Failed => "failed",
            Left::Pending => "pending",
        }
    }

    /// Returns the status of the devices.
    pub fn status(self) -> DeviceStatus {
        match self {
            Left::Failed => DeviceStatus::Failed,
            Left::Pending => DeviceStatus::Pending,
        }
    }
}

impl DevicesOfRun {
    /// Returns true when a device with this reason is meant.
    pub fn takes(&self, reason: Reason) -> bool {
        reason.status() == self.left.status() && (self.reasons.is_empty() || self.reasons.contains(&reason))
    }
}

/// The number of devices that the author expects in the target, both ends inclusive. Blocked devices and devices that
/// the job does not fit count too; a plan reports them separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect {
    pub min: Option<u64>,
    pub max: Option<u64>,
}

impl Expect {
    /// Returns true when `count` is as expected.
    pub fn holds(self, count: u64) -> bool {
        self.min.is_none_or(|min| count >= min) && self.max.is_none_or(|max| count <= max)
    }
}

/// What a job does to each of its devices.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Desired properties.
    Property(Patch),
    CloudProperty(Patch),
    Tags(Patch),
    Command(Command),
    DeviceTemplate(Name),
    EdgeManifest(Name),
}

/// The word of each action, as [`Action::word`] returns it.
pub const ACTION_WORDS: [&str; 6] = ["property", "cloudProperty", "tags", "command", "deviceTemplate", "edgeManifest"];

impl Action {
    /// Returns the word of the manifest.
    pub fn word(&self) -> &'static str {
        match self {
            Action::Property(_) => "property",
            Action::CloudProperty(_) => "cloudProperty",
            Action::Tags(_) => "tags",
            Action::Command(_) => "command",
            Action::DeviceTemplate(_) => "deviceTemplate",
            Action::EdgeManifest(_) => "edgeManifest",
        }
    }

    /// Returns true for actions that only IoT Edge devices (`capabilities.iotEdge`) can take.
    pub fn needs_edge(&self) -> bool {
        matches!(self, Action::EdgeManifest(_))
    }

    /// Returns the twin section and the patch of a property-like action.
    pub fn patch(&self) -> Option<(Section, &Patch)> {
        match self {
            Action::Property(patch) => Some((Section::Desired, patch)),
            Action::CloudProperty(patch) => Some((Section::Cloud, patch)),
            Action::Tags(patch) => Some((Section::Tags, patch)),
            Action::Command(_) | Action::DeviceTemplate(_) | Action::EdgeManifest(_) => None,
        }
    }
}

/// A direct method call (IoT Hub) or command (DTDL).
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    pub name: String,
    /// The DTDL component that has the command; on the wire the method is then `component*name`.
    pub component: Option<String>,
    /// Any JSON; `Null` when there is none.
    pub payload: Value,
    /// How long to wait for the device to connect, 1 s to 300 s.
    pub connect_timeout: Duration,
    /// How long to wait for the answer once it was sent, 1 s to 300 s.
    pub response_timeout: Duration,
    /// True when sending it twice is harmless; only then is it ever sent twice.
    pub idempotent: bool,
}

impl Command {
    /// Returns the method name on the wire, IoT plug-and-play's `component*command` for a component.
    pub fn method(&self) -> String {
        match &self.component {
            Some(component) => format!("{component}*{}", self.name),
            None => self.name.clone(),
        }
    }
}
