//! What is staged beyond the rows of a file: devices that left it, and the end of staging.

use rusqlite::Connection;

use crate::model::fleet::Removed;

/// Finds the devices of the import that have no row in its file.
pub fn stage_removed(connection: &Connection, name: &str, removal: Removed) -> rusqlite::Result<u64> {
    let gone = "FROM main.device AS d WHERE d.import = ?1
        AND NOT EXISTS (SELECT 1 FROM temp.staged AS s WHERE s.device_id = d.device_id)
        AND NOT EXISTS (SELECT 1 FROM temp.staged_rejected AS r WHERE r.device_id = d.device_id)";
    let into = "INSERT OR IGNORE INTO temp.staged_removed";
    match removal {
        Removed::Keep => connection.query_row(&format!("SELECT count(*) {gone}"), [name], |row| row.get(0)),
        Removed::Block => {
            let text = format!("{into} SELECT d.device_id, 'block' {gone} AND d.blocked = 0");
            Ok(connection.execute(&text, [name])? as u64)
        }
        Removed::Delete => {
            Ok(connection.execute(&format!("{into} SELECT d.device_id, 'delete' {gone}"), [name])? as u64)
        }
    }
}

/// Takes an import that was written out of what is staged. The last one takes everything along: emptying a table is far cheaper
/// than deleting its rows.
pub fn forget_staged(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    let others: i64 =
        connection.query_row("SELECT count(*) FROM temp.staged_import WHERE name <> ?1", [name], |row| row.get(0))?;
    if others == 0 {
        return connection.execute_batch(
            "DELETE FROM temp.staged; DELETE FROM temp.staged_import; DELETE FROM temp.staged_rejected;
             DELETE FROM temp.staged_removed;",
        );
    }
    connection.execute(
        "DELETE FROM temp.staged WHERE import_id = (SELECT import_id FROM temp.staged_import WHERE name = ?1)",
        [name],
    )?;
    connection.execute("DELETE FROM temp.staged_import WHERE name = ?1", [name])?;
    Ok(())
}
