//! Messages to single devices, from back ends and operators: they wait in the registry until their device has them.

use jiff::Timestamp;

use super::desk::Desk;
use super::devices::{Noted, about, no_device};
use super::{Caller, HubError};
use crate::model::limits;
use crate::registry::{Answer, Change, Enqueued, GivenMessage, MessageFault};

impl From<MessageFault> for HubError {
    fn from(fault: MessageFault) -> HubError {
        let sentence = fault.to_string();
        if fault.is_size() { HubError::TooLarge(sentence) } else { HubError::Argument(sentence) }
    }
}

impl Desk<'_> {
    /// Queues a message to a device.
    ///
    /// # Errors
    /// There is no such device, as many wait already as may, or the message is too large.
    pub fn send_message(
        &mut self,
        device_id: &str,
        given: GivenMessage,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<(), HubError> {
        let message = given.checked(now)?;
        let mut registry = self.registry_to_write()?;
        // What would be refused is not noted as done.
        if registry.devices().get(device_id)?.is_none() {
            return Err(no_device(device_id));
        }
        if registry.devices().messages(device_id, now)?.len() as u64 >= limits::MESSAGES_MAX {
            return Err(HubError::QueueFull(crate::diag::shown(device_id)));
        }
        let (note, about) = (Noted::new("send", device_id, "", caller), about(now));
        let entry = note.entry(now);
        let queue = Change::Enqueue { device_id, message: &message, at: now };
        let answers = registry.commit(&[queue, Change::Report { about: &about, entry: &entry }])?;
        match answers.into_iter().next().map_or(Enqueued::Unknown, Answer::into_enqueued) {
            Enqueued::Queued(_) => Ok(()),
            Enqueued::Unknown => Err(no_device(device_id)),
            Enqueued::Full => Err(HubError::QueueFull(crate::diag::shown(device_id))),
        }
    }

    /// Removes all messages to a device, and returns how many they were.
    ///
    /// # Errors
    /// There is no such device, or the registry cannot be written.
    pub fn purge_messages(&mut self, device_id: &str, caller: &Caller, now: Timestamp) -> Result<u64, HubError> {
        let mut registry = self.registry_to_write()?;
        if registry.devices().get(device_id)?.is_none() {
            return Err(no_device(device_id));
        }
        let (note, about) = (Noted::new("purge", device_id, "", caller), about(now));
        let entry = note.entry(now);
        let purge = Change::Purge { device_id, at: now };
        let answers = registry.commit(&[purge, Change::Report { about: &about, entry: &entry }])?;
        Ok(answers.into_iter().next().map_or(0, Answer::into_count))
    }

    /// Returns how many messages wait for each of some devices, in their order.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn message_counts(&mut self, device_ids: &[String], now: Timestamp) -> Result<Vec<u64>, HubError> {
        let counts = self.registry()?.devices().message_counts(device_ids, now)?;
        Ok(device_ids.iter().map(|id| counts.get(id).copied().unwrap_or_default()).collect())
    }
}
