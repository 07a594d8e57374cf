//! The queues of messages to devices.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::super::{Enqueued, NewMessage, QueuedMessage, RegistryError};
use super::SqliteStore;
use super::rows::{json_of, time_of};
use crate::model::limits;

/// The number of messages of a device that have not expired: device, time.
const COUNT: &str = "SELECT count(*) FROM message WHERE device_id = ?1 AND expires_at > ?2";

impl SqliteStore {
    pub(super) fn queued(&self, device_id: &str, now: Timestamp) -> Result<Vec<QueuedMessage>, RegistryError> {
        let read = || {
            let text = "SELECT sequence, deliveries, message_id, properties, body, expires_at FROM message
                WHERE device_id = ?1 AND expires_at > ?2 ORDER BY sequence";
            let mut statement = self.connection.prepare_cached(text)?;
            let rows = statement.query_map(params![device_id, now.as_microsecond()], message_of_row)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.error("read messages", e))
    }

    pub(super) fn queued_after(&self, sequence: i64) -> Result<Vec<(i64, String)>, RegistryError> {
        let read = || {
            let text = "SELECT sequence, device_id FROM message WHERE sequence > ?1 ORDER BY sequence LIMIT ?2";
            let mut statement = self.connection.prepare_cached(text)?;
            let named = statement
                .query_map(params![sequence, limits::MESSAGES_NAMED_MAX], |row| Ok((row.get(0)?, row.get(1)?)))?;
            named.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.error("read messages", e))
    }

    pub(super) fn queue_lengths(
        &self,
        device_ids: &[String],
        now: Timestamp,
    ) -> Result<BTreeMap<String, u64>, RegistryError> {
        let read = || {
            let mut count = self.connection.prepare_cached(COUNT)?;
            let mut counts = BTreeMap::new();
            for id in device_ids {
                let found: u64 = count.query_row(params![id, now.as_microsecond()], |row| row.get(0))?;
                if found > 0 {
                    counts.insert(id.clone(), found);
                }
            }
            Ok(counts)
        };
        read().map_err(|e: rusqlite::Error| self.error("count messages", e))
    }
}

/// Queues a message, and returns what came of it.
pub(super) fn enqueue(
    transaction: &Transaction<'_>,
    device_id: &str,
    message: &NewMessage,
    at: Timestamp,
) -> rusqlite::Result<Enqueued> {
    let mut look = transaction.prepare_cached("SELECT 1 FROM device WHERE device_id = ?1")?;
    if look.query_row([device_id], |_| Ok(())).optional()?.is_none() {
        return Ok(Enqueued::Unknown);
    }
    // Nobody gets them any more.
    let expired = "DELETE FROM message WHERE device_id = ?1 AND expires_at <= ?2";
    transaction.prepare_cached(expired)?.execute(params![device_id, at.as_microsecond()])?;
    let waiting: u64 =
        transaction.prepare_cached(COUNT)?.query_row(params![device_id, at.as_microsecond()], |row| row.get(0))?;
    if waiting >= limits::MESSAGES_MAX {
        return Ok(Enqueued::Full);
    }
    let text = "INSERT INTO message (device_id, message_id, properties, expires_at, body) VALUES (?1, ?2, ?3, ?4, ?5)";
    let NewMessage { message_id, properties, body, expires_at } = message;
    let row = params![device_id, message_id, properties.to_string(), expires_at.as_microsecond(), body];
    transaction.prepare_cached(text)?.execute(row)?;
    Ok(Enqueued::Queued(transaction.last_insert_rowid()))
}

/// Counts a delivery of messages, and returns those that may be handed over; the others are removed.
pub(super) fn hand_over(transaction: &Transaction<'_>, sequences: &[i64]) -> rusqlite::Result<Vec<i64>> {
    let text = "UPDATE message SET deliveries = deliveries + 1 WHERE sequence = ?1 AND deliveries < ?2";
    let mut count = transaction.prepare_cached(text)?;
    let mut remove = transaction.prepare_cached("DELETE FROM message WHERE sequence = ?1")?;
    let mut handed = Vec::with_capacity(sequences.len());
    for sequence in sequences {
        match count.execute(params![sequence, limits::DELIVERIES_MAX])? {
            0 => drop(remove.execute([sequence])?),
            _ => handed.push(*sequence),
        }
    }
    Ok(handed)
}

/// Removes messages that their devices have.
pub(super) fn settle(transaction: &Transaction<'_>, sequences: &[i64]) -> rusqlite::Result<()> {
    let mut remove = transaction.prepare_cached("DELETE FROM message WHERE sequence = ?1")?;
    sequences.iter().try_for_each(|sequence| remove.execute([sequence]).map(drop))
}

/// Empties the queue of a device, and returns how many of its messages had not expired.
pub(super) fn purge(transaction: &Transaction<'_>, device_id: &str, at: Timestamp) -> rusqlite::Result<u64> {
    let count = transaction.query_row(COUNT, params![device_id, at.as_microsecond()], |row| row.get(0))?;
    transaction.execute("DELETE FROM message WHERE device_id = ?1", [device_id])?;
    Ok(count)
}

fn message_of_row(row: &Row<'_>) -> rusqlite::Result<QueuedMessage> {
    let message = NewMessage {
        message_id: row.get(2)?,
        properties: json_of(row, 3)?,
        body: row.get(4)?,
        expires_at: time_of(row, 5)?,
    };
    Ok(QueuedMessage { sequence: row.get(0)?, deliveries: row.get(1)?, message })
}
