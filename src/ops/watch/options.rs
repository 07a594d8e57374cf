//! How to follow a branch: what the command line or a simulation asks for.

use std::time::Duration;

use crate::execute::Ports;
use crate::link::GatewayOptions;
use crate::prepare::Trust;
use crate::reconcile::ReconcileOptions;
use crate::repo::Pulse;

/// The branch that is followed of a remote when none is named.
const BRANCH_DEFAULT: &str = "main";

/// What to follow, and how.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Another repository to follow; `None` for the one of the environment's folder. With one, the folder holds a
    /// mirror of it.
    pub remote: Option<RemoteSource>,
    /// The branch with the declared files; `None` for `HEAD`, and `main` of a remote.
    pub branch: Option<String>,
    /// The longest time between two looks.
    pub interval: Duration,
    /// How long devices in flight are awaited after a signal.
    pub grace: Duration,
    /// How long the right to work lasts that is not renewed, with a remote.
    pub lease_time: Duration,
    /// Told that the daemon is alive while a call of the remote keeps it waiting.
    pub pulse: Option<Pulse>,
    /// Take up a history that was rewound since the last apply.
    pub accepts_rewind: bool,
    /// Whose commits count.
    pub trust: Trust,
    /// Have the system tell of new commits in the repository itself; without, the interval has to do.
    pub has_events: bool,
    /// Where this process listens for devices; `None` for one that is no gateway.
    pub gateway: Option<GatewayOptions>,
    /// For simulations.
    pub ports: Ports,
}

/// A repository to follow.
#[derive(Debug, Clone)]
pub struct RemoteSource {
    /// A URL or a path.
    pub address: String,
    /// The folder of the fleet in it; empty for its root.
    pub path: String,
    /// How long one call of it may take; `None` for the usual.
    pub time_max: Option<Duration>,
}

impl WatchOptions {
    /// Returns the branch of a remote that is followed.
    pub(super) fn branch_followed(&self) -> String {
        self.branch.clone().unwrap_or_else(|| BRANCH_DEFAULT.to_string())
    }

    pub(super) fn reconcile(&self) -> ReconcileOptions {
        ReconcileOptions {
            takes_over: false,
            waits: true,
            outlasts_outages: true,
            accepts_rewind: self.accepts_rewind,
            overrules: true,
            grace: self.grace,
            remote_time_max: self.remote.as_ref().and_then(|remote| remote.time_max),
            pulse: self.pulse.clone(),
            lease_time: self.lease_time,
            growth: None,
            gateway: self.gateway.clone(),
            ports: self.ports.clone(),
        }
    }
}
