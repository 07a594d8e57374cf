//! What back ends ask for that were written for IoT Hub: jobs, the rows of their devices, queries, twins and
//! identities, in values of ours. The REST API is around it.
//!
//! A job is work: it becomes a document and a commit before it is answered, is planned and judged as one of a pull
//! request, and the daemon runs it. A twin or an identity is state: it is written at once, and who did it goes to the
//! results branch.
//!
//! A [`Desk`] is what one thread answers with. It reads what the daemon writes, and shares nothing with it but the
//! repository and the registry.

mod desk;
mod devices;
mod error;
mod job;
mod making;
mod messages;
mod names;
mod policies;
mod provisioning;
mod publish;
mod request;
mod review;
mod rows;
mod standstill;

pub use crate::prepare::KeyedPolicy;
pub use crate::registry::{DeviceKeys, GivenMessage, IdentityRow, TwinRow};
pub use desk::{Desk, Followed};
pub use devices::{Expected, GivenIdentity, HubTwin, NotedCall, TwinPatch, TwinWritten};
pub use error::HubError;
pub use job::{HubJob, HubStatistics, HubStatus};
pub use making::GivenJob;
pub use policies::{connection_string, make_policies};
pub use provisioning::{NotRegistered, Registration, Shown};
pub use request::{HubAction, JobRequest, timeout};
pub use rows::{RowPage, job_type};

use serde_json::Value;

/// Who asks, as it goes into commits and logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of its policy.
    pub policy: String,
    /// Its address.
    pub address: String,
    /// The most devices of a job of its.
    pub devices_max: Option<u64>,
    /// What it calls its request; empty when it does not say.
    pub request_id: String,
}

/// Returns the whole number that a value is, or that its text is: `az` sends numbers as texts.
pub fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => {
            number.as_i64().or_else(|| number.as_f64().filter(|real| real.fract() == 0.0).map(|real| real as i64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}
