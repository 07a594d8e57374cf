//! How a fleet is reconciled.

use std::time::Duration;

use crate::execute::Ports;
use crate::ledger::LEASE_TIME;
use crate::link::GatewayOptions;
use crate::repo::Pulse;

/// How a fleet is reconciled.
#[derive(Debug, Clone)]
pub struct ReconcileOptions {
    /// Stay for devices that wait to come online.
    pub waits: bool,
    /// Wait until the way to the devices is there again, however long that takes; otherwise the runs that need it are
    /// left after some time.
    pub outlasts_outages: bool,
    /// Go on although the history was rewound since the last apply.
    pub accepts_rewind: bool,
    /// Work on a fleet on which another registry works: it is lost, or given up.
    pub takes_over: bool,
    /// Take over from a process that has the registry's lock and whose right to work has run out.
    pub overrules: bool,
    /// How long devices in flight are awaited after an interrupt.
    pub grace: Duration,
    /// How long one call of the remote may take; `None` for the usual.
    pub remote_time_max: Option<Duration>,
    /// Told that the process is alive while a call of the remote keeps it waiting.
    pub pulse: Option<Pulse>,
    /// How long the right to work lasts that is not renewed, with a remote.
    pub lease_time: Duration,
    /// How many pages of 4 KiB the registry may grow by; `None` for as far as the disk goes.
    pub growth: Option<u32>,
    /// Where this process listens for devices; `None` for one that is no gateway.
    pub gateway: Option<GatewayOptions>,
    /// For simulations.
    pub ports: Ports,
}

impl Default for ReconcileOptions {
    fn default() -> ReconcileOptions {
        ReconcileOptions {
            waits: false,
            outlasts_outages: false,
            accepts_rewind: false,
            takes_over: false,
            overrules: false,
            grace: Duration::from_secs(10),
            remote_time_max: None,
            pulse: None,
            lease_time: LEASE_TIME,
            growth: None,
            gateway: None,
            ports: Ports::REAL,
        }
    }
}
