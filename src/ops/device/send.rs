//! A message to one device: it waits in the registry until the gateway has handed it over.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::change::publish;
use super::missing;
use crate::execute::direct_entry;
use crate::model::limits;
use crate::ops::{Environment, OpsError, Workspace};
use crate::prepare::{Files, OnError, TreeChoice, owner};
use crate::registry::{Answer, Change, Enqueued, GivenMessage, Registry};
use crate::results::DirectRow;

/// Queues a message to a device, at once. Who did it goes to the results branch, without what it says.
///
/// # Errors
/// There is no such device, as many wait already as may, the message is too large, or the devices of the fleet get no
/// messages.
pub fn send(
    environment: &Environment,
    device_id: &str,
    (text, properties): (&str, &[(String, String)]),
    expires_after: Option<Duration>,
    now: Timestamp,
) -> Result<(), OpsError> {
    let usage = |what: String, help: &str| OpsError::Usage { what, help: help.to_string() };
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let declared = files.usable()?;
    if declared.fleet.link.hub().is_none() {
        let help = "Messages are for devices of IoT Hub, at a gateway. `fleetform device call` reaches all devices.";
        return Err(usage("the fleet has no `spec.link.iotHub`, so nobody would get the message".to_string(), help));
    }
    let properties = properties.iter().map(|(name, value)| (name.clone(), Value::String(value.clone())));
    let given = GivenMessage {
        message_id: None,
        properties: properties.collect::<Map<String, Value>>(),
        body: text.as_bytes().to_vec(),
        expires_at: expires_after.map(|time| now.checked_add(time).unwrap_or(Timestamp::MAX)),
    };
    let message = given.checked(now).map_err(|fault| usage(fault.to_string(), "Send less, or for a shorter time."))?;
    let full = || {
        let what = format!(
            "{} messages wait for the device `{}` already",
            limits::MESSAGES_MAX,
            crate::diag::shown(device_id)
        );
        usage(what, "Wait until the device has connected and taken them.")
    };
    let own = workspace.own_registry(&declared.fleet)?;
    let mut registry = Registry::new(own.open_for_writing()?);
    if registry.devices().get(device_id)?.is_none() {
        return Err(missing(&registry, device_id, &environment.sight)?);
    }
    // What would be refused is not noted as done.
    if registry.devices().messages(device_id, now)?.len() as u64 >= limits::MESSAGES_MAX {
        return Err(full());
    }
    let who = workspace.repo.person();
    let row = DirectRow { at: now, who: &who, action: "send", device_id, reason: "" };
    let entry = direct_entry(&[row], &format!("device send: {device_id}"));
    let about = format!("direct/{now}/{}", owner());
    let queue = Change::Enqueue { device_id, message: &message, at: now };
    let answers = registry.commit(&[queue, Change::Report { about: &about, entry: &entry }])?;
    publish(&workspace, &declared.fleet, &own, &mut registry);
    match answers.into_iter().next().map_or(Enqueued::Unknown, Answer::into_enqueued) {
        Enqueued::Queued(_) => Ok(()),
        Enqueued::Unknown => Err(missing(&registry, device_id, &environment.sight)?),
        Enqueued::Full => Err(full()),
    }
}
