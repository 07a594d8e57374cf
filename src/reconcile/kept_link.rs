//! The way to the devices, which may stay open while there is nothing to do.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{ReconcileError, ReconcileOptions};
use crate::execute::{Hearing, Waker, Wakeup};
use crate::link::{BrokerError, Credentials, DeviceLink, LinkError, PolicyKeys, Surroundings};
use crate::model::fleet::{Fleet, LinkConfig, MqttLinkConfig, SimulatedLink};
use crate::model::hub::{HubLinkConfig, HubRight, TelemetrySink};
use crate::model::id::Name;
use crate::model::secret::{SecretRef, SecretText};
use crate::model::text::sanitize_line;
use crate::prepare::{KeyedPolicy, OwnRegistry, SecretFault, View, Workspace};
use crate::registry::{Listening, Registry, RegistryError};

/// How often the registry is looked at for what devices log in with.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often the policies of a hub are read again.
const POLICIES_INTERVAL: Duration = Duration::from_secs(2);

/// The way to the devices.
pub(super) struct KeptLink {
    config: LinkConfig,
    fleet: Name,
    pub link: Box<dyn DeviceLink>,
    /// The registry that what devices say goes to; `None` for a rehearsal.
    own: Option<OwnRegistry>,
    /// It, while nothing else has it open.
    registry: Option<Registry>,
    /// What the registry said of its admissions when it was looked at last, and when.
    looked: Option<(Option<String>, Timestamp)>,
    /// The highest number of a message that was seen to be queued.
    message: i64,
    /// When the policies of a hub were read last, and why some cannot be used; `None` for a process that lets nobody in.
    policies: Option<(Timestamp, Vec<String>)>,
    /// The right to listen, of a daemon whose link stays open: a broker lets one client of its name in.
    seat: Option<Rc<dyn Listening>>,
}

impl KeptLink {
    /// Returns the link of a rehearsal.
    pub fn rehearsed(fleet: &Fleet, link: Box<dyn DeviceLink>) -> KeptLink {
        let (config, fleet) = (fleet.link.clone(), fleet.name.clone());
        KeptLink {
            config,
            fleet,
            link,
            own: None,
            registry: None,
            looked: None,
            message: 0,
            policies: None,
            seat: None,
        }
    }

    /// Takes the right to listen for a daemon that is about to open a link that stays open; `None` for all others.
    ///
    /// # Errors
    /// Another daemon has it.
    pub fn seat(
        link: Option<&KeptLink>,
        fleet: &Fleet,
        own: &OwnRegistry,
        (owner, options): (&str, &ReconcileOptions),
    ) -> Result<Option<Rc<dyn Listening>>, ReconcileError> {
        let is_needed = link.is_none() && options.outlasts_outages && fleet.link.has_connections();
        Ok(if is_needed { Some(own.listen(owner)?) } else { None })
    }

    /// Opens the link of a fleet.
    ///
    /// # Errors
    /// Its settings cannot be used.
    pub fn open(
        fleet: &Fleet,
        (workspace, own, seat, registry): (&Workspace, OwnRegistry, Option<Rc<dyn Listening>>, &str),
        options: &ReconcileOptions,
        waker: &Waker,
    ) -> Result<KeptLink, ReconcileError> {
        let config = &fleet.link;
        if let LinkConfig::Simulated(SimulatedLink { journal: Some(journal), .. }) = config {
            workspace.refuse_tracked_link(Path::new(journal))?;
        }
        let read = |broker: Option<&MqttLinkConfig>, place| match broker {
            Some(broker) => credentials(broker, place, workspace),
            None => Ok(Credentials::default()),
        };
        // Of a process that is a gateway.
        let hub = config.hub().filter(|_| options.gateway.is_some());
        let telemetry = match hub.and_then(|hub| hub.telemetry.as_ref()) {
            Some(TelemetrySink::Broker(broker)) => Some(&**broker),
            Some(TelemetrySink::File { path }) => {
                workspace.refuse_tracked_link(Path::new(path))?;
                None
            }
            None => None,
        };
        let telemetry = read(telemetry, "iotHub.telemetry.mqtt")?;
        let (policies, faults) = match hub {
            Some(hub) => policy_keys(hub, workspace),
            None => (PolicyKeys::default(), Vec::new()),
        };
        tell_faults(&faults);
        let policies_read = options.gateway.as_ref().map(|_| (Timestamp::MIN, faults));
        let waker = waker.clone();
        let surroundings = Surroundings {
            folder: workspace.repo.folder(),
            registry,
            role: if options.outlasts_outages { "watch" } else { "apply" },
            credentials: read(config.mqtt(), "mqtt")?,
            telemetry,
            policies,
            gateway: options.gateway.clone(),
            wake: Arc::new(move || waker.wake(Wakeup::Link)),
        };
        let link = options.ports.link(crate::link::open(config, surroundings)?);
        let (config, fleet) = (config.clone(), fleet.name.clone());
        let (own, registry, looked) = (Some(own), None, None);
        Ok(KeptLink { config, fleet, link, own, registry, looked, message: 0, policies: policies_read, seat })
    }

    /// Returns true for the link of other settings.
    pub fn is_other(&self, config: &LinkConfig) -> bool {
        !self.config.reaches_like(config)
    }

    /// Returns true when what devices say goes to this registry.
    pub fn is_of(&self, registry: &OwnRegistry) -> bool {
        self.own.as_ref().is_none_or(|own| own.is_same(registry))
    }

    /// Returns true when it stays open while there is nothing to do.
    pub fn stays(&self) -> bool {
        self.config.has_connections()
    }

    /// Returns true when it stays open although something failed: what is not written down is returned again.
    pub fn outlasts(&self, error: &ReconcileError) -> bool {
        self.link.hears_alone() && matches!(error, ReconcileError::Registry(_))
    }

    /// Closes the registry: a session opens it.
    pub fn give_way(&mut self) {
        self.registry = None;
    }

    /// Returns when to look at the registry again although no device speaks; `None` for a link that lets nobody in.
    pub fn look_at(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.link.hears_alone() {
            return None;
        }
        self.looked.as_ref().map_or(Some(now), |(_, at)| at.checked_add(LOOK_INTERVAL).ok())
    }

    /// Looks as [`KeptLink::look`] does while a session is open, which has the newest settings.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn look_in(&mut self, workspace: &Workspace, view: &View, now: Timestamp) -> Result<(), RegistryError> {
        let config = &view.declared.fleet.link;
        if self.config != *config && !self.is_other(config) {
            self.config = config.clone();
        }
        self.look(workspace, &view.registry, now)
    }

    /// Reads the policies of a hub again when it is time, and hands them to the link.
    fn look_at_policies(&mut self, workspace: &Workspace, now: Timestamp) {
        let (Some(hub), Some((read_at, told))) = (self.config.hub(), &mut self.policies) else { return };
        if *read_at <= now && read_at.checked_add(POLICIES_INTERVAL).is_ok_and(|due| due > now) {
            return;
        }
        let (keys, faults) = policy_keys(hub, workspace);
        if *told != faults {
            tell_faults(&faults);
        }
        (*read_at, *told) = (now, faults);
        self.link.take_policies(keys);
    }

    /// Looks whether another process has blocked or deleted devices, or given them other keys: who is connected and
    /// would not be let in any more loses its connection. And whether one has queued messages.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn look(&mut self, workspace: &Workspace, registry: &Registry, now: Timestamp) -> Result<(), RegistryError> {
        // A clock that was put back makes it due.
        let is_due = |at: Timestamp| now < at || at.checked_add(LOOK_INTERVAL).is_ok_and(|due| due <= now);
        if !self.link.hears_alone() || !self.looked.as_ref().is_none_or(|(_, at)| is_due(*at)) {
            return Ok(());
        }
        self.look_at_policies(workspace, now);
        let admissions = registry.devices().admissions()?;
        if self.looked.as_ref().is_none_or(|(before, _)| *before != admissions) {
            self.link.look_again();
        }
        self.looked = Some((admissions, now));
        let named = registry.devices().messages_after(self.message)?;
        if let Some((last, _)) = named.last() {
            self.message = *last;
            let devices: Vec<String> = named.into_iter().map(|(_, device_id)| device_id).collect();
            self.link.messages_wait(&devices);
        }
        Ok(())
    }

    /// Writes what devices have said into the registry and answers them. Returns true when they had said something.
    ///
    /// # Errors
    /// The registry or the link failed.
    pub fn hear(
        &mut self,
        workspace: &Workspace,
        options: &ReconcileOptions,
        now: Timestamp,
    ) -> Result<bool, ReconcileError> {
        let Some(own) = self.own.as_ref().filter(|_| self.config.has_connections()) else {
            return Ok(false);
        };
        if self.seat.as_ref().is_some_and(|seat| seat.is_lost()) {
            return Err(ReconcileError::AtWork {
                what: "another daemon listens to the devices now: this one had stood still".to_string(),
                help: "This one goes on when the other one ends.".to_string(),
            });
        }
        let opened = match self.registry.take() {
            Some(registry) => registry,
            None => options.ports.registry(own.open_for_writing()?),
        };
        let is_beside = !self.link.hears_alone() && own.is_worked_on();
        self.look(workspace, &opened, now)?;
        let registry = self.registry.insert(opened);
        let masks = workspace.masks();
        let heard = Hearing { fleet: &self.fleet, registry, link: &mut *self.link, masks: &masks }.hear(is_beside, now);
        if !matches!(heard, Ok(true)) {
            // It may be put back from a backup, or moved, while devices are silent.
            self.registry = None;
        }
        Ok(heard?)
    }
}

/// Returns the keys with which any device of a hub may log in, and why some cannot be used.
fn policy_keys(hub: &HubLinkConfig, workspace: &Workspace) -> (PolicyKeys, Vec<String>) {
    match workspace.hub_policies(&hub.api) {
        Ok((policies, faults)) => {
            let connects = |policy: &KeyedPolicy| policy.rights.contains(&HubRight::DeviceConnect);
            let keys = policies.into_iter().filter(|(_, policy)| connects(policy));
            (PolicyKeys(keys.map(|(name, policy)| (name, policy.keys)).collect()), faults)
        }
        Err(error) => (PolicyKeys::default(), vec![error.to_string()]),
    }
}

fn tell_faults(faults: &[String]) {
    for fault in faults {
        tracing::warn!(fault = %sanitize_line(fault), "devices cannot log in with a policy");
    }
}

/// Reads what the settings of a broker refer to.
fn credentials(config: &MqttLinkConfig, place: &str, workspace: &Workspace) -> Result<Credentials, ReconcileError> {
    let read = |field: &str, reference: &SecretRef| -> Result<SecretText, ReconcileError> {
        workspace.secret(reference).map_err(|fault| {
            let (what, reason) = (format!("`spec.link.{place}.{field}`"), format!("{reference} {fault}"));
            let help = match fault {
                SecretFault::NotAllowed => format!("Allow it where fleetform runs: `--allow-secret {reference}`."),
                other => other.help(reference),
            };
            let address = format!("{}:{}", config.host, config.port);
            LinkError::Broker { address, source: BrokerError::Settings { what, reason, help } }.into()
        })
    };
    let username = config.username.as_ref().map(|reference| read("username", reference)).transpose()?;
    let password = config.password.as_ref().map(|reference| read("password", reference)).transpose()?;
    Ok(Credentials { username: username.map(|name| name.as_str().to_string()), password })
}
