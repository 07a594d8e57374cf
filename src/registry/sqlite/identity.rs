//! Which registry this is: rows of `meta`.

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};

use super::super::meta::{COPY_OF, GAVE_UP, IDENTITY};
use super::super::{Moved, RegistryIdentity};
use super::remembered::value_of;

/// Returns the identity of a registry.
pub(super) fn read(connection: &Connection) -> rusqlite::Result<RegistryIdentity> {
    let value = |key: &str| -> rusqlite::Result<String> {
        connection.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0))
    };
    let sends = value("sends")?;
    let sends = sends.parse().map_err(|_| super::rows::malformed(0, &sends))?;
    let moved = Moved::of_values(value_of(connection, COPY_OF)?, value_of(connection, GAVE_UP)?.as_deref());
    Ok(RegistryIdentity { id: value(IDENTITY)?, sends, may_lack: false, moved })
}

/// Counts a commit that marks devices as sent.
pub(super) fn count_sends(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let text = "UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE key = 'sends'";
    transaction.prepare_cached(text)?.execute([]).map(drop)
}

/// Takes the identity of another registry.
pub(super) fn inherit(transaction: &Transaction<'_>, identity: &str) -> rusqlite::Result<()> {
    transaction.execute("UPDATE meta SET value = ?1 WHERE key = ?2", [identity, IDENTITY])?;
    transaction.execute("DELETE FROM meta WHERE key IN (?1, ?2)", [COPY_OF, GAVE_UP]).map(drop)
}

/// Takes a new identity in the place of one that a copy gets.
pub(super) fn give_up(transaction: &Transaction<'_>, identity: &str, to: &str) -> rusqlite::Result<()> {
    let text = "INSERT OR REPLACE INTO meta (key, value) SELECT ?1, value || ' ' || ?2 FROM meta WHERE key = ?3";
    transaction.execute(text, [GAVE_UP, to, IDENTITY])?;
    transaction.execute("UPDATE meta SET value = ?1 WHERE key = ?2", [identity, IDENTITY])?;
    transaction.execute("DELETE FROM meta WHERE key = ?1", [COPY_OF]).map(drop)
}

/// Marks devices as sent of which it is not known whether they were, given as (run, end of the ordinals), and counts as
/// many sends as a lost registry had.
pub(super) fn catch_up(
    transaction: &Transaction<'_>,
    sends: u64,
    runs: &[(i64, u32)],
    at: Timestamp,
) -> rusqlite::Result<()> {
    let mut mark = transaction.prepare(
        "INSERT INTO sent (run_id, ordinal, attempt, sent_at)
         WITH RECURSIVE ordinals (ordinal) AS (
             SELECT 0 WHERE ?2 > 0 UNION ALL SELECT ordinal + 1 FROM ordinals WHERE ordinal + 1 < ?2
         )
         SELECT ?1, ordinal, 1, ?3 FROM ordinals
         WHERE ordinal NOT IN (SELECT ordinal FROM outcome WHERE run_id = ?1)
         ON CONFLICT (run_id, ordinal) DO UPDATE SET waits = 0",
    )?;
    for (run_id, end) in runs {
        mark.execute(params![run_id, end, at.as_microsecond()])?;
    }
    let text = "UPDATE meta SET value = ?1 WHERE key = 'sends' AND CAST(value AS INTEGER) < ?1";
    transaction.execute(text, [i64::try_from(sends).unwrap_or(i64::MAX)]).map(drop)
}
