//! A connected device, as its connection knows it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::dialect::Dialect;
use super::exchange::Receipt;
use super::kept_session::KeptSession;
use super::telemetry::{Sink, Telemetry};
use crate::link::DeviceMessage;
use crate::link::protocol::versioned;
use crate::model::limits;
use crate::model::patch::{Section, violations};
use crate::model::text::sanitize_line;

/// Reported patches a second, beyond which they are refused (IoT Hub throttles them, too).
const REPORTS_PER_SECOND_MAX: u32 = 50;

/// Who is connected.
pub struct Device {
    pub id: String,
    pub dialect: Dialect,
    pub session: u64,
    pub bad_filters: u32,
    /// Reported patches of the second that began then.
    pub reports: (Instant, u32),
    /// Its session, as the registry has it.
    pub kept: KeptSession,
    /// The messages that it has not acknowledged, by the number of their packet.
    pub unacknowledged: BTreeMap<u16, i64>,
    /// Messages that it does not take yet.
    pub later: VecDeque<DeviceMessage>,
    /// A message was dropped that is larger than it takes.
    pub has_dropped: bool,
    pub sink: Option<Arc<Sink>>,
}

impl Device {
    /// Notes that a message was dropped that is larger than the device takes; warned of once for a connection.
    pub fn dropped(&mut self) {
        if !std::mem::replace(&mut self.has_dropped, true) {
            let device = sanitize_line(&self.id);
            tracing::warn!(%device, "a message is larger than the device takes, and is dropped");
        }
    }

    /// Passes telemetry on; false when too much waits already, and `None` when it goes nowhere.
    pub fn pass_on(&self, properties: String, payload: &[u8], receipt: Option<Receipt>) -> Option<bool> {
        let (device_id, at) = (self.id.clone(), Timestamp::now());
        let one = |payload: &[u8]| Telemetry { device_id, properties, payload: payload.to_vec(), at, receipt };
        self.sink.as_ref().map(|sink| sink.pass(one(payload)))
    }

    /// Returns the patch of a report, or the status with which it is refused.
    pub fn reported(&mut self, payload: &[u8]) -> Result<serde_json::Value, u16> {
        let (since, count) = &mut self.reports;
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
        if *count > REPORTS_PER_SECOND_MAX {
            return Err(429);
        }
        if payload.len() > limits::PATCH_BYTES_MAX {
            return Err(413);
        }
        let (members, _) = versioned(payload).map_err(|_| 400_u16)?;
        match violations(&members, Section::Reported).is_empty() {
            true => Ok(serde_json::Value::Object(members)),
            false => Err(400),
        }
    }
}
