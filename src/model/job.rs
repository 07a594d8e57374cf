//! A job: which devices, what to do with them, how to reach them.

use std::collections::BTreeMap;
use std::sync::Arc;
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
    /// Words for people and tools, which change nothing.
    pub labels: Arc<BTreeMap<String, String>>,
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
    /// Tags and desired properties at once: a device gets both or none of them.
    Twin {
        tags: Patch,
        desired: Patch,
    },
    Command(Command),
    DeviceTemplate(Name),
    EdgeManifest(Name),
}

/// The word of each action, as [`Action::word`] returns it.
pub const ACTION_WORDS: [&str; 7] =
    ["property", "cloudProperty", "tags", "twin", "command", "deviceTemplate", "edgeManifest"];

impl Action {
    /// Returns the word of the manifest.
    pub fn word(&self) -> &'static str {
        self.words()[0]
    }

    /// Returns the words of all that it does: one that sets tags and properties at once counts as each of these, too.
    pub fn words(&self) -> &'static [&'static str] {
        match self {
            Action::Property(_) => &["property"],
            Action::CloudProperty(_) => &["cloudProperty"],
            Action::Tags(_) => &["tags"],
            Action::Twin { .. } => &["twin", "tags", "property"],
            Action::Command(_) => &["command"],
            Action::DeviceTemplate(_) => &["deviceTemplate"],
            Action::EdgeManifest(_) => &["edgeManifest"],
        }
    }

    /// Returns true for actions that only IoT Edge devices (`capabilities.iotEdge`) can take.
    pub fn needs_edge(&self) -> bool {
        matches!(self, Action::EdgeManifest(_))
    }

    /// Returns the sections of the twin that it writes, each with its patch.
    pub fn patches(&self) -> Vec<SectionPatch<'_>> {
        let one = |section, patch, pointer| vec![SectionPatch { section, patch, pointer }];
        match self {
            Action::Property(patch) => one(Section::Desired, patch, "/spec/action/property"),
            Action::CloudProperty(patch) => one(Section::Cloud, patch, "/spec/action/cloudProperty"),
            Action::Tags(patch) => one(Section::Tags, patch, "/spec/action/tags"),
            Action::Twin { tags, desired } => vec![
                SectionPatch { section: Section::Tags, patch: tags, pointer: "/spec/action/twin/tags" },
                SectionPatch { section: Section::Desired, patch: desired, pointer: "/spec/action/twin/property" },
            ],
            Action::Command(_) | Action::DeviceTemplate(_) | Action::EdgeManifest(_) => Vec::new(),
        }
    }

    /// Returns the place, below `/spec/action/`, of what device templates decide about.
    pub fn templated_place(&self) -> &'static str {
        match self {
            Action::Twin { .. } => "twin/property",
            other => other.word(),
        }
    }

    /// Returns the desired properties that it sets, which devices are told and may acknowledge.
    pub fn desired(&self) -> Option<&Patch> {
        match self {
            Action::Property(patch) | Action::Twin { desired: patch, .. } => Some(patch),
            Action::CloudProperty(_)
            | Action::Tags(_)
            | Action::Command(_)
            | Action::DeviceTemplate(_)
            | Action::EdgeManifest(_) => None,
        }
    }
}

/// A section of the twin and what an action makes of it.
#[derive(Debug, Clone, Copy)]
pub struct SectionPatch<'a> {
    pub section: Section,
    pub patch: &'a Patch,
    /// Where it is in the document, such as `/spec/action/tags`.
    pub pointer: &'static str,
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
