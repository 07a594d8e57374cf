//! What the clients of Azure IoT Hub find here: devices, and back ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::broker::MqttLinkConfig;
use super::secret::SecretRef;

/// The label of a job that a back end of IoT Hub has made: the id that it goes by there.
pub const JOB_LABEL: &str = "iothub/job";

/// Devices of Azure IoT Hub, which connect to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubLinkConfig {
    /// What the connection strings of the devices say, in lower case and without a port.
    pub host_name: String,
    /// PEM files with the authorities that may have signed certificates of devices, relative to the folder of the fleet;
    /// those of enrolment groups are among them.
    pub device_authorities: Vec<String>,
    /// Where telemetry goes; `None` for nowhere: it is counted and dropped.
    pub telemetry: Option<TelemetrySink>,
    /// What back ends may do.
    pub api: HubApi,
}

/// Where the telemetry of devices goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TelemetrySink {
    /// A file, relative to the folder of the fleet, to which lines of JSON are appended.
    File {
        path: String,
    },
    Broker(Box<MqttLinkConfig>),
}

/// What back ends may do that use the REST API of IoT Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubApi {
    /// By name; `None` for those that this machine has made.
    pub policies: Option<BTreeMap<String, HubPolicy>>,
    /// Single devices are not changed or called without a commit.
    pub refuses_direct: bool,
    /// A device of a method job that has answered 400 or more reads as completed.
    pub completes_failures: bool,
    /// The folder of the jobs, relative to the fleet's, without a slash at its end.
    pub jobs_folder: String,
    /// The branch on which each job is reviewed, with `{name}` for the job's; `None` for the branch that is followed.
    pub review_branch: Option<String>,
    /// How long the id of a job is taken, and answers of devices are kept whole.
    pub retention: Duration,
    /// How new devices register themselves; `None` for not at all.
    pub provisioning: Option<Provisioning>,
}

/// How new devices register themselves, as with the Device Provisioning Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioning {
    pub id_scope: String,
    /// By name.
    pub groups: BTreeMap<String, EnrolmentGroup>,
}

/// Devices that prove in one way that they may register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolmentGroup {
    pub attestation: Attestation,
    /// What a new device gets: the name or path of an organization, a device template, and tags.
    pub organization: Option<String>,
    pub template: Option<String>,
    pub tags: serde_json::Map<String, serde_json::Value>,
}

/// What the devices of a group prove with that they are of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attestation {
    /// Keys that were derived from one of these.
    Keys { primary: SecretRef, secondary: Option<SecretRef> },
    /// Certificates that were signed by an authority of a PEM file, relative to the folder of the fleet.
    Authority { file: String },
}

impl Default for HubApi {
    fn default() -> HubApi {
        HubApi {
            policies: None,
            refuses_direct: false,
            completes_failures: false,
            jobs_folder: "jobs/hub".to_string(),
            review_branch: None,
            // As long as IoT Hub keeps its jobs.
            retention: Duration::from_secs(30 * 86_400),
            provisioning: None,
        }
    }
}

/// Who has one of its keys may do what its rights say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubPolicy {
    pub primary: SecretRef,
    pub secondary: Option<SecretRef>,
    pub rights: BTreeSet<HubRight>,
    /// The most devices of one of its jobs.
    pub devices_max: Option<u64>,
}

/// What a policy allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HubRight {
    RegistryRead,
    RegistryWrite,
    ServiceConnect,
    DeviceConnect,
}

impl HubRight {
    /// Every right.
    pub const ALL: [HubRight; 4] =
        [HubRight::RegistryRead, HubRight::RegistryWrite, HubRight::ServiceConnect, HubRight::DeviceConnect];

    /// Returns IoT Hub's word.
    pub fn as_str(self) -> &'static str {
        match self {
            HubRight::RegistryRead => "registryRead",
            HubRight::RegistryWrite => "registryWrite",
            HubRight::ServiceConnect => "serviceConnect",
            HubRight::DeviceConnect => "deviceConnect",
        }
    }

    /// Returns the right of a word, or `None`.
    pub fn parse(word: &str) -> Option<HubRight> {
        HubRight::ALL.into_iter().find(|right| right.as_str() == word)
    }
}
