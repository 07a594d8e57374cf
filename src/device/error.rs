//! What keeps devices from being run at all. What happens to a connection is no error: a device tries again.

use std::io;

use crate::link::BrokerError;

/// Why no device is run.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error("{path} cannot be used: {source}")]
    File { path: String, source: io::Error },
    #[error("the settings of the broker: {source}")]
    Broker { source: BrokerError },
    #[error("{devices} devices need {needed} open files, and this system allows {allowed} to a process")]
    OpenFiles { devices: usize, needed: u64, allowed: u64 },
    #[error("the system does not give what the devices need: {source}")]
    System { source: io::Error },
}

impl DeviceError {
    /// Returns what to do about it, a whole sentence.
    pub fn help(&self) -> &'static str {
        match self {
            DeviceError::File { .. } => "Check the path and its permissions.",
            DeviceError::Broker { .. } => "Check the files of the options and of `spec.link.mqtt`.",
            DeviceError::OpenFiles { .. } => "Raise the limit (`ulimit -Hn` shows it), or run fewer devices with -n.",
            DeviceError::System { .. } => "Free memory or threads, or run fewer devices with -n.",
        }
    }
}
