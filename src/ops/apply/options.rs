//! How to apply: what the command line or a simulation asks for.

use std::time::Duration;

use crate::execute::Ports;
use crate::ledger::LEASE_TIME;
use crate::plan::SavedPlan;
use crate::prepare::Trust;
use crate::reconcile::ReconcileOptions;
use crate::repo::Pulse;

/// How to apply.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// A saved plan: only its changes are made, and only when nothing about them has moved.
    pub saved: Option<SavedPlan>,
    /// Stay for devices that wait to come online.
    pub waits: bool,
    /// Apply although the history was rewound since the last apply.
    pub accepts_rewind: bool,
    /// Work on a fleet on which another registry works: it is lost, or given up.
    pub takes_over: bool,
    /// Whose commits count.
    pub trust: Trust,
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
    /// For simulations.
    pub ports: Ports,
}

impl Default for ApplyOptions {
    fn default() -> ApplyOptions {
        ApplyOptions {
            saved: None,
            waits: false,
            accepts_rewind: false,
            takes_over: false,
            trust: Trust { introduction: None, remembers: true },
            grace: Duration::from_secs(10),
            remote_time_max: None,
            pulse: None,
            lease_time: LEASE_TIME,
            growth: None,
            ports: Ports::REAL,
        }
    }
}

impl ApplyOptions {
    pub(super) fn reconcile(&self) -> ReconcileOptions {
        ReconcileOptions {
            gateway: None,
            waits: self.waits,
            outlasts_outages: false,
            accepts_rewind: self.accepts_rewind,
            takes_over: self.takes_over,
            overrules: false,
            grace: self.grace,
            remote_time_max: self.remote_time_max,
            pulse: self.pulse.clone(),
            lease_time: self.lease_time,
            growth: self.growth,
            ports: self.ports.clone(),
        }
    }
}
