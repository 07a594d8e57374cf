//! The queues of messages to devices.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tokio_postgres::Row;

use super::super::{Enqueued, NewMessage, QueuedMessage};
use super::connection::Connection;
use super::fault::Fault;
use super::json::{read_text, stored, stored_text};
use super::rows::{first_column, json_of, malformed, number_of, time_of};
use crate::model::limits;

/// Returns the messages of a device that have not expired, in their order.
pub(super) fn queued(connection: &Connection, device_id: &str, now: Timestamp) -> Result<Vec<QueuedMessage>, Fault> {
    let text = "SELECT sequence, deliveries, message_id, properties::text, body, expires_at FROM message
        WHERE device_id = $1 AND expires_at > $2 ORDER BY sequence";
    let rows = connection.rows(text, &[&stored_text(device_id), &now.as_microsecond()])?;
    rows.iter().map(message_of_row).collect()
}

/// Returns numbers of messages above one, with their devices.
pub(super) fn queued_after(connection: &Connection, sequence: i64) -> Result<Vec<(i64, String)>, Fault> {
    let text = "SELECT sequence, device_id FROM message WHERE sequence > $1 ORDER BY sequence LIMIT $2";
    let most = i64::try_from(limits::MESSAGES_NAMED_MAX).unwrap_or(i64::MAX);
    let rows = connection.rows(text, &[&sequence, &most])?;
    rows.iter().map(|row| Ok((row.try_get(0)?, read_text(row.try_get(1)?)))).collect()
}

/// Returns how many messages wait for devices, of those that have some.
pub(super) fn lengths(
    connection: &Connection,
    device_ids: &[String],
    now: Timestamp,
) -> Result<BTreeMap<String, u64>, Fault> {
    let text = "SELECT device_id, count(*) FROM message WHERE device_id = ANY($1) AND expires_at > $2 GROUP BY 1";
    let ids: Vec<_> = device_ids.iter().map(|id| stored_text(id)).collect();
    let rows = connection.rows(text, &[&ids, &now.as_microsecond()])?;
    rows.iter().map(|row| Ok((row.try_get(0)?, number_of(row, 1)?))).collect()
}

/// Queues a message, and returns what came of it.
pub(super) fn enqueue(
    connection: &Connection,
    device_id: &str,
    message: &NewMessage,
    at: Timestamp,
) -> Result<Enqueued, Fault> {
    // Messages of one device come one after the other, so their numbers are in the order of the commits.
    let id = stored_text(device_id);
    if connection.row("SELECT 1 FROM device WHERE device_id = $1 FOR NO KEY UPDATE", &[&id])?.is_none() {
        return Ok(Enqueued::Unknown);
    }
    // Nobody gets the expired ones any more.
    let expired = "DELETE FROM message WHERE device_id = $1 AND expires_at <= $2";
    connection.execute(expired, &[&id, &at.as_microsecond()])?;
    if number_of::<u64>(&connection.one("SELECT count(*) FROM message WHERE device_id = $1", &[&id])?, 0)?
        >= limits::MESSAGES_MAX
    {
        return Ok(Enqueued::Full);
    }
    let text = "INSERT INTO message (device_id, message_id, properties, expires_at, body)
        VALUES ($1, $2, $3::text::jsonb, $4, $5) RETURNING sequence";
    let NewMessage { message_id, properties, body, expires_at } = message;
    let (message_id, properties) = (message_id.as_deref().map(stored_text), stored(properties));
    let row = connection.one(text, &[&id, &message_id, &properties, &expires_at.as_microsecond(), body])?;
    Ok(Enqueued::Queued(row.try_get(0)?))
}

/// Counts a delivery of messages, and returns those that may be handed over; the others are removed.
pub(super) fn hand_over(connection: &Connection, sequences: &[i64]) -> Result<Vec<i64>, Fault> {
    let text = "DELETE FROM message WHERE sequence = ANY($1) AND deliveries >= $2";
    let most = i32::try_from(limits::DELIVERIES_MAX).unwrap_or(i32::MAX);
    connection.execute(text, &[&sequences, &most])?;
    let text = "UPDATE message SET deliveries = deliveries + 1 WHERE sequence = ANY($1) RETURNING sequence";
    let counted: Vec<i64> = first_column(&connection.rows(text, &[&sequences])?)?;
    Ok(sequences.iter().filter(|sequence| counted.contains(sequence)).copied().collect())
}

/// Removes messages that their devices have.
pub(super) fn settle(connection: &Connection, sequences: &[i64]) -> Result<(), Fault> {
    connection.execute("DELETE FROM message WHERE sequence = ANY($1)", &[&sequences]).map(drop)
}

/// Empties the queue of a device, and returns how many of its messages had not expired.
pub(super) fn purge(connection: &Connection, device_id: &str, at: Timestamp) -> Result<u64, Fault> {
    let text = "WITH gone AS (DELETE FROM message WHERE device_id = $1 RETURNING expires_at)
        SELECT count(*) FROM gone WHERE expires_at > $2";
    number_of(&connection.one(text, &[&stored_text(device_id), &at.as_microsecond()])?, 0)
}

fn message_of_row(row: &Row) -> Result<QueuedMessage, Fault> {
    let deliveries: i32 = row.try_get(1)?;
    let message = NewMessage {
        message_id: row.try_get::<_, Option<String>>(2)?.map(read_text),
        properties: json_of(row, 3)?,
        body: row.try_get(4)?,
        expires_at: time_of(row, 5)?,
    };
    let deliveries = u32::try_from(deliveries).map_err(|_| malformed(&deliveries.to_string()))?;
    Ok(QueuedMessage { sequence: row.try_get(0)?, deliveries, message })
}
