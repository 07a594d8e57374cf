//! What devices say at any time: that they are there, and their reported properties.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;

use super::super::{Heard, HeardOf, Reported};
use super::connections;
use super::marks::{SEEN_OFFLINE, SEEN_ONLINE};
use crate::model::patch::{Section, counted_size};
use crate::model::secret::SecretKey;

/// Notes that a device has been connected for some time: device.
const WAS_ONLINE: &str =
    "UPDATE device SET connection_state = 'Connected' WHERE device_id = ?1 AND connection_state <> 'Connected'";
/// Merges a patch into a reported section: device, patch, time.
const REPORT: &str = "UPDATE device SET reported = json_patch(reported, ?2), reported_version = reported_version + 1,
            connection_state = 'Connected', last_activity = ?3,
            state = CASE state WHEN 'registered' THEN 'provisioned' ELSE state END
     WHERE device_id = ?1 RETURNING reported, reported_version";
/// Keeps what the session of a device listens to: device, subscriptions.
const KEEP_SESSION: &str = "INSERT INTO device_session (device_id, subscriptions)
        SELECT device_id, ?2 FROM device WHERE device_id = ?1
        ON CONFLICT (device_id) DO UPDATE SET subscriptions = excluded.subscriptions";
const BEFORE: &str = "SELECT blocked, reported, reported_version FROM device WHERE device_id = ?1";
/// Puts a reported section back: device, section, version.
const PUT_BACK: &str = "UPDATE device SET reported = ?2, reported_version = ?3 WHERE device_id = ?1";

/// Writes messages from devices, and returns what came of each report, in order.
pub(super) fn hear(transaction: &Transaction<'_>, from: &[Heard<'_>]) -> rusqlite::Result<Vec<Reported>> {
    let key = super::secrets::key(transaction)?;
    let mut online = transaction.prepare_cached(SEEN_ONLINE)?;
    let mut was_online = transaction.prepare_cached(WAS_ONLINE)?;
    let mut offline = transaction.prepare_cached(SEEN_OFFLINE)?;
    let mut reported = Vec::new();
    for Heard { device_id, at, what } in from {
        match what {
            HeardOf::Presence { is_online, is_news } => {
                connections::note(transaction, device_id, *at, *is_online)?;
                match (is_online, is_news) {
                    (true, true) => online.execute(params![device_id, at.to_string()])?,
                    (true, false) => was_online.execute(params![device_id])?,
                    (false, _) => offline.execute(params![device_id])?,
                };
            }
            HeardOf::Session { subscriptions: Some(subscriptions) } => {
                transaction.prepare_cached(KEEP_SESSION)?.execute(params![device_id, subscriptions.bits()])?;
            }
            HeardOf::Session { subscriptions: None } => {
                transaction.prepare_cached("DELETE FROM device_session WHERE device_id = ?1")?.execute([device_id])?;
            }
            HeardOf::Report { patch } => {
                // A device that reports is there.
                connections::note(transaction, device_id, *at, true)?;
                reported.push(report(transaction, key.as_ref(), device_id, patch, *at)?);
            }
        }
    }
    Ok(reported)
}

fn report(
    transaction: &Transaction<'_>,
    key: Option<&SecretKey>,
    device_id: &str,
    patch: &Value,
    at: Timestamp,
) -> rusqlite::Result<Reported> {
    let mut before = transaction.prepare_cached(BEFORE)?;
    let row = before.query_row([device_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let (old, old_version): (String, u64) = match row {
        None => return Ok(Reported::Unknown),
        Some((true, _, _)) => return Ok(Reported::Blocked),
        Some((false, old, version)) => (old, version),
    };
    let text = match key {
        Some(key) => super::secrets::marked_report(transaction, key, device_id, patch)?.to_string(),
        None => patch.to_string(),
    };
    let mut write = transaction.prepare_cached(REPORT)?;
    let (text, version): (String, u64) =
        write.query_row(params![device_id, text, at.to_string()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let section: Value = serde_json::from_str(&text).map_err(|_| super::rows::malformed(0, &text))?;
    if counted_size(&section) > Section::Reported.size_max() {
        transaction.prepare_cached(PUT_BACK)?.execute(params![device_id, old, old_version])?;
        return Ok(Reported::TooLarge);
    }
    Ok(Reported::Written { section, version })
}
