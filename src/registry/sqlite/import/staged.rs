//! Staging beyond the rows of a file: rejected rows, devices that move from one import to another, devices that left
//! their file, and the end of staging.

use rusqlite::{Connection, params};

use super::super::status;
use super::StagedImport;
use crate::model::fleet::Removed;
use crate::registry::staging::{RowKind, Wanted, refuse};

/// Notes the device of a rejected row.
pub fn note_rejected(connection: &Connection, import_id: i64, device_id: &str) -> rusqlite::Result<()> {
    let mut note = connection.prepare_cached("INSERT OR IGNORE INTO temp.staged_rejected VALUES (?1, ?2)")?;
    note.execute(params![device_id, import_id]).map(drop)
}

/// Refuses a staged row of another import that wants a device, because this import still has it. Returns false when
/// there is no such row.
pub fn take_back(connection: &Connection, device_id: &str, owner: &str) -> rusqlite::Result<bool> {
    let mut refuse = connection
        .prepare_cached("UPDATE temp.staged_wanted SET is_refused = 1 WHERE device_id = ?1 AND owner = ?2")?;
    if refuse.execute([device_id, owner])? == 0 {
        return Ok(false);
    }
    connection.prepare_cached("DELETE FROM temp.staged WHERE device_id = ?1")?.execute([device_id])?;
    Ok(true)
}

/// Refuses rows that want devices whose owner has them in a rejected row: they are still in its file.
fn refuse_rejected(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE temp.staged_wanted SET is_refused = 1 WHERE EXISTS (
             SELECT 1 FROM temp.staged_rejected AS r JOIN temp.staged_import AS i USING (import_id)
             WHERE r.device_id = staged_wanted.device_id AND i.name = staged_wanted.owner)",
        [],
    )?;
    Ok(())
}

/// Rejects the rows of an import whose devices another import still has.
pub fn reject_refused(connection: &Connection, import_id: i64, found: &mut StagedImport) -> rusqlite::Result<()> {
    refuse_rejected(connection)?;
    let mut look = connection.prepare_cached(
        "SELECT device_id, owner, line, kind, is_renamed, is_blocked FROM temp.staged_wanted
         WHERE import_id = ?1 AND is_refused = 1 ORDER BY line",
    )?;
    let mut rows = look.query([import_id])?;
    while let Some(row) = rows.next()? {
        let (device_id, owner): (String, String) = (row.get(0)?, row.get(1)?);
        let mut forget =
            connection.prepare_cached("DELETE FROM temp.staged WHERE device_id = ?1 AND import_id = ?2")?;
        forget.execute(params![device_id, import_id])?;
        note_rejected(connection, import_id, &device_id)?;
        let wanted = Wanted {
            device_id: &device_id,
            owner: &owner,
            line: row.get(2)?,
            kind: RowKind::of(row.get(3)?),
            is_renamed: row.get(4)?,
            is_blocked: row.get(5)?,
        };
        refuse(found, &wanted);
    }
    Ok(())
}

/// Finds the devices of an import that have no row in its file and in no other that is staged.
pub fn stage_removed(
    connection: &Connection,
    (import_id, name): (i64, &str),
    removal: Removed,
) -> rusqlite::Result<u64> {
    let gone = "FROM main.device AS d WHERE d.import = ?1
        AND NOT EXISTS (SELECT 1 FROM temp.staged AS s WHERE s.device_id = d.device_id)
        AND NOT EXISTS (SELECT 1 FROM temp.staged_rejected AS r WHERE r.device_id = d.device_id)";
    let into = "INSERT OR IGNORE INTO temp.staged_removed";
    match removal {
        Removed::Keep => connection.query_row(&format!("SELECT count(*) {gone}"), [name], |row| row.get(0)),
        Removed::Block => {
            let text = format!("{into} SELECT d.device_id, ?2, 'block' {gone} AND d.blocked = 0");
            Ok(connection.execute(&text, params![name, import_id])? as u64)
        }
        Removed::Delete => {
            let text = format!("{into} SELECT d.device_id, ?2, 'delete' {gone}");
            Ok(connection.execute(&text, params![name, import_id])? as u64)
        }
    }
}

/// Writes what is staged of an import.
pub fn write_staged(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    // The key of a device that proves itself with one is made where the file has none.
    let key = |column: &str| {
        format!(
            "CASE coalesce(s.authentication, 'sas') WHEN 'sas' THEN coalesce(s.{column}, fleetform_new_key()) ELSE \
                s.{column} END"
        )
    };
    let (primary, secondary) = (key("primary_key"), key("secondary_key"));
    let keys = format!(
        "INSERT INTO main.device_key
             (device_id, primary_key, secondary_key, primary_thumbprint, secondary_thumbprint, authentication)
         SELECT s.device_id, {primary}, {secondary}, s.primary_thumbprint, s.secondary_thumbprint,
                coalesce(s.authentication, 'sas')
         FROM temp.staged AS s CROSS JOIN temp.staged_import AS i ON i.import_id = s.import_id
         WHERE i.name = ?1 AND (s.kind = 2 OR s.kind = 1 AND s.authentication IS NOT NULL)
         ON CONFLICT (device_id) DO UPDATE SET primary_key = excluded.primary_key,
             secondary_key = excluded.secondary_key, primary_thumbprint = excluded.primary_thumbprint,
             secondary_thumbprint = excluded.secondary_thumbprint, authentication = excluded.authentication"
    );
    let of_import = "(SELECT import_id FROM temp.staged_import WHERE name = ?1)";
    let deleted = format!(
        "(SELECT device_id FROM temp.staged_removed WHERE policy = 'delete' AND import_id = {of_import}
          UNION ALL SELECT device_id FROM temp.staged WHERE kind = 3 AND import_id = {of_import})"
    );
    let made = connection.execute("INSERT INTO main.device SELECT * FROM temp.staged_new WHERE import = ?1", [name])?;
    for text in [
        keys.as_str(),
        "INSERT OR REPLACE INTO main.device SELECT * FROM temp.staged_updated WHERE import = ?1",
        &format!(
            "UPDATE main.device SET blocked = 1 WHERE device_id IN
             (SELECT device_id FROM temp.staged_removed WHERE policy = 'block' AND import_id = {of_import})"
        ),
        &format!(
            "INSERT OR IGNORE INTO main.left_device
             SELECT device_id FROM temp.staged_removed WHERE policy = 'block' AND import_id = {of_import}"
        ),
        &format!(
            "DELETE FROM main.left_device WHERE device_id IN
             (SELECT device_id FROM temp.staged WHERE kind = 1 AND import_id = {of_import})"
        ),
        &format!("DELETE FROM main.device_key WHERE device_id IN {deleted}"),
    ] {
        connection.execute(text, [name])?;
    }
    let deleted = connection.execute(&format!("DELETE FROM main.device WHERE device_id IN {deleted}"), [name])?;
    status::count(connection, made, deleted)
}

/// Empties what is staged.
pub const CLEAR: &str = "DELETE FROM temp.staged; DELETE FROM temp.staged_import; DELETE FROM temp.staged_wanted;
    DELETE FROM temp.staged_rejected; DELETE FROM temp.staged_removed;";

/// Removes a written import from the staging tables. The last one empties the tables, which is far cheaper than
/// deleting rows.
pub fn forget_staged(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let others: i64 =
        connection.query_row("SELECT count(*) FROM temp.staged_import WHERE name <> ?1", [name], |row| row.get(0))?;
    if others == 0 {
        return connection.execute_batch(CLEAR);
    }
    for table in ["staged", "staged_wanted", "staged_rejected", "staged_removed", "staged_import"] {
        let text = format!(
            "DELETE FROM temp.{table} WHERE import_id = (SELECT import_id FROM temp.staged_import WHERE name = ?1)"
        );
        connection.execute(&text, [name])?;
    }
    Ok(())
}
