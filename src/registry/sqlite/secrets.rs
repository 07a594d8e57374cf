//! The key that the marks of secrets are made with: a row of `meta`, there as soon as a job with a secret was claimed.

use rusqlite::{Connection, OptionalExtension as _, Transaction};
use serde_json::Value;

use super::super::meta::SECRET_KEY;
use crate::model::secret::{SecretKey, marked_if, shown};

/// What every text with a mark has.
const HAS_MARK: &str = "(secret:";

/// Returns the key; `None` when no job with a secret was claimed yet.
pub(super) fn key(connection: &Connection) -> rusqlite::Result<Option<SecretKey>> {
    let Some(hex) = super::remembered::value_of(connection, SECRET_KEY)? else { return Ok(None) };
    // The text is not told: it is the key.
    SecretKey::parse(&hex).map(Some).ok_or_else(|| super::rows::malformed(0, SECRET_KEY))
}

/// Makes the key unless there is one.
pub(super) fn make_key(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let text = "INSERT OR IGNORE INTO meta (key, value) VALUES (?1, lower(hex(fleetform_new_key())))";
    transaction.execute(text, [SECRET_KEY]).map(drop)
}

/// Returns what a device reports, with marks in place of the secrets that its desired properties have: devices report
/// what they took over, and this process may not know the values.
pub(super) fn marked_report(
    transaction: &Transaction<'_>,
    key: &SecretKey,
    device_id: &str,
    patch: &Value,
) -> rusqlite::Result<Value> {
    let text = "SELECT desired FROM device WHERE device_id = ?1 AND instr(desired, ?2) > 0";
    let found = transaction.prepare_cached(text)?.query_row([device_id, HAS_MARK], |row| row.get::<_, String>(0));
    Ok(match found.optional()? {
        Some(desired) => marked_if(patch, key, &|mark| desired.contains(mark)),
        None => patch.clone(),
    })
}

/// Takes the key and all marks out of a copy.
pub(super) fn remove(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM main.meta WHERE key = ?1", [SECRET_KEY])?;
    for column in ["desired", "reported"] {
        let text = format!("SELECT device_id, {column} FROM main.device WHERE instr({column}, ?1) > 0");
        let mut marked = connection.prepare(&text)?;
        let rows = marked.query_map([HAS_MARK], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let rows: Vec<(String, String)> = rows.collect::<rusqlite::Result<_>>()?;
        let mut write = connection.prepare(&format!("UPDATE main.device SET {column} = ?2 WHERE device_id = ?1"))?;
        for (device_id, text) in rows {
            let section: Value = serde_json::from_str(&text).map_err(|_| super::rows::malformed(1, &text))?;
            write.execute([device_id, shown(&section).to_string()])?;
        }
    }
    Ok(())
}
