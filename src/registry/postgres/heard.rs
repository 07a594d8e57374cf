//! What devices say at any time: that they are there, and their reported properties.

use jiff::Timestamp;
use serde_json::Value;

use super::super::{Heard, HeardOf, Reported};
use super::connection::Connection;
use super::connections;
use super::fault::Fault;
use super::json::stored;
use super::rows::{json_of, number_of};
use crate::model::patch::{Section, counted_size, merge};
use crate::model::secret::{SecretKey, marked_if};

/// Writes messages from devices, and returns what came of each report, in order.
pub(super) fn hear(connection: &Connection, from: &[Heard<'_>]) -> Result<Vec<Reported>, Fault> {
    let key = super::secrets::key(connection)?;
    let online = "UPDATE device SET connection_state = 'Connected', last_activity = $2,
            state = CASE state WHEN 'registered' THEN 'provisioned' ELSE state END
        WHERE device_id = $1";
    let was_online =
        "UPDATE device SET connection_state = 'Connected' WHERE device_id = $1 AND connection_state <> 'Connected'";
    let offline = "UPDATE device SET connection_state = 'Disconnected'
        WHERE device_id = $1 AND connection_state <> 'Disconnected'";
    let keep = "INSERT INTO device_session (device_id, subscriptions)
        SELECT device_id, $2 FROM device WHERE device_id = $1
        ON CONFLICT (device_id) DO UPDATE SET subscriptions = excluded.subscriptions";
    let mut reported = Vec::new();
    for Heard { device_id, at, what } in from {
        match what {
            HeardOf::Presence { is_online, is_news } => {
                connections::note(connection, device_id, *at, *is_online)?;
                match (is_online, is_news) {
                    (true, true) => connection.execute(online, &[device_id, &at.to_string()])?,
                    (true, false) => connection.execute(was_online, &[device_id])?,
                    (false, _) => connection.execute(offline, &[device_id])?,
                };
            }
            HeardOf::Session { subscriptions: Some(subscriptions) } => {
                connection.execute(keep, &[device_id, &subscriptions.bits()])?;
            }
            HeardOf::Session { subscriptions: None } => {
                connection.execute("DELETE FROM device_session WHERE device_id = $1", &[device_id])?;
            }
            HeardOf::Report { patch } => {
                // A device that reports is there.
                connections::note(connection, device_id, *at, true)?;
                reported.push(report(connection, key.as_ref(), device_id, patch, *at)?);
            }
        }
    }
    Ok(reported)
}

fn report(
    connection: &Connection,
    key: Option<&SecretKey>,
    device_id: &str,
    patch: &Value,
    at: Timestamp,
) -> Result<Reported, Fault> {
    let text =
        "SELECT reported::text, desired::text, blocked, reported_version FROM device WHERE device_id = $1 FOR UPDATE";
    let Some(row) = connection.row(text, &[&device_id])? else { return Ok(Reported::Unknown) };
    if row.try_get(2)? {
        return Ok(Reported::Blocked);
    }
    let mut section = json_of(&row, 0)?;
    match key {
        // Devices report what they took over, and this process may not know the values.
        Some(key) => {
            let desired: &str = row.try_get(1)?;
            merge(&mut section, &marked_if(patch, key, &|mark| desired.contains(mark)));
        }
        None => merge(&mut section, patch),
    }
    if counted_size(&section) > Section::Reported.size_max() {
        return Ok(Reported::TooLarge);
    }
    let text = "UPDATE device SET reported = $2::text::jsonb, reported_version = $3, connection_state = 'Connected',
            last_activity = $4, state = CASE state WHEN 'registered' THEN 'provisioned' ELSE state END
        WHERE device_id = $1";
    let version: u64 = number_of::<u64>(&row, 3)? + 1;
    let next = i64::try_from(version).unwrap_or(i64::MAX);
    connection.execute(text, &[&device_id, &stored(&section), &next, &at.to_string()])?;
    Ok(Reported::Written { section, version })
}
