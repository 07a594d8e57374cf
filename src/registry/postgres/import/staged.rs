//! Staging beyond the rows of a file: devices that move from one import to another, devices that left their file, and
//! the end of staging.

use super::super::connection::Connection;
use super::super::fault::Fault;
use super::super::json::{read_text, stored_text};
use super::super::rows::number_of;
use super::super::status;
use crate::model::fleet::Removed;
use crate::registry::StagedImport;
use crate::registry::staging::{RowKind, Wanted, refuse};

/// Devices from which the statistics of the registry are made anew behind an import that has added a tenth of them:
/// until the server does it by itself, it would plan for a small registry.
const ANALYZED_MIN: u64 = 1_000;

/// The memory for sorts and joins of many rows, until the transaction ends; the usual 4 MB would go through files.
const MEMORY: &str = "SET LOCAL work_mem = '64MB'";

/// Returns the number of a staged import.
pub fn id_of(connection: &Connection, name: &str) -> Result<i32, Fault> {
    let text = "SELECT import_id FROM pg_temp.staged_import WHERE name = $1";
    Ok(connection.one(text, &[&stored_text(name).as_ref()])?.try_get(0)?)
}

/// Refuses staged rows of other imports that want devices, because this import still has them.
pub fn take_back(connection: &Connection, owner: &str, device_ids: &[String]) -> Result<(), Fault> {
    let text = "UPDATE pg_temp.staged_wanted SET is_refused = true WHERE owner = $1 AND device_id = ANY($2)
        RETURNING device_id";
    let refused = connection.rows(text, &[&stored_text(owner).as_ref(), &device_ids])?;
    if refused.is_empty() {
        return Ok(());
    }
    let refused = super::super::rows::first_column::<String>(&refused)?;
    connection.execute("DELETE FROM pg_temp.staged WHERE device_id = ANY($1)", &[&refused]).map(drop)
}

/// Refuses all staged rows that want devices of an import.
pub fn refuse_all(connection: &Connection, owner: &str) -> Result<(), Fault> {
    let text = "UPDATE pg_temp.staged_wanted SET is_refused = true WHERE owner = $1";
    connection.execute(text, &[&stored_text(owner).as_ref()]).map(drop)
}

/// Rejects the rows of an import whose devices another import still has, in its file or in a rejected row.
pub fn reject_refused(connection: &Connection, import_id: i32, found: &mut StagedImport) -> Result<(), Fault> {
    let text = "UPDATE pg_temp.staged_wanted AS w SET is_refused = true
        FROM pg_temp.staged_rejected AS r JOIN pg_temp.staged_import AS i ON i.import_id = r.import_id
        WHERE r.device_id = w.device_id AND i.name = w.owner AND NOT w.is_refused";
    connection.execute(text, &[])?;
    let text = "WITH refused AS (
            DELETE FROM pg_temp.staged AS s USING pg_temp.staged_wanted AS w
            WHERE w.import_id = $1 AND w.is_refused AND s.device_id = w.device_id AND s.import_id = $1)
        INSERT INTO pg_temp.staged_rejected (device_id, import_id)
        SELECT device_id, import_id FROM pg_temp.staged_wanted WHERE import_id = $1 AND is_refused";
    connection.execute(text, &[&import_id])?;
    let text = "SELECT device_id, owner, line, kind, is_renamed, is_blocked FROM pg_temp.staged_wanted
        WHERE import_id = $1 AND is_refused ORDER BY line";
    connection.stream(text, [import_id], |row| {
        let owner = read_text(row.try_get(1)?);
        let kind: i16 = row.try_get(3)?;
        let wanted = Wanted {
            device_id: row.try_get(0)?,
            owner: &owner,
            line: number_of(row, 2)?,
            kind: RowKind::of(u8::try_from(kind).unwrap_or_default()),
            is_renamed: row.try_get(4)?,
            is_blocked: row.try_get(5)?,
        };
        refuse(found, &wanted);
        Ok(())
    })
}

/// Finds the devices of an import that have no row in its file and in no other that is staged.
pub fn stage_removed(connection: &Connection, (import_id, name): (i32, &str), removal: Removed) -> Result<u64, Fault> {
    let name = stored_text(name);
    let gone = "FROM fleetform.device AS d WHERE d.import = $1
        AND NOT EXISTS (SELECT 1 FROM pg_temp.staged AS s WHERE s.device_id = d.device_id)
        AND NOT EXISTS (SELECT 1 FROM pg_temp.staged_rejected AS r WHERE r.device_id = d.device_id)";
    let into = "INSERT INTO pg_temp.staged_removed (device_id, import_id, policy) SELECT d.device_id, $2";
    let count = match removal {
        Removed::Keep => {
            return number_of(&connection.one(&format!("SELECT count(*) {gone}"), &[&name.as_ref()])?, 0);
        }
        Removed::Block => {
            let text = format!("{into}, 'block' {gone} AND NOT d.blocked ON CONFLICT DO NOTHING");
            connection.execute(&text, &[&name.as_ref(), &import_id])?
        }
        Removed::Delete => {
            let text = format!("{into}, 'delete' {gone} ON CONFLICT DO NOTHING");
            connection.execute(&text, &[&name.as_ref(), &import_id])?
        }
    };
    if count > 0 {
        connection.batch("ANALYZE pg_temp.staged_removed")?;
    }
    Ok(count)
}

/// Writes what is staged of an import.
pub fn write_staged(connection: &Connection, import_id: i32) -> Result<(), Fault> {
    let columns = "device_id, device_name, template, organization, state, blocked, simulated, iot_edge,
        connection_state, last_activity, edge_manifest, edge_manifest_digest, tags, cloud, desired, desired_version,
        reported, reported_version, import";
    connection.batch(MEMORY)?;
    // Devices are read and written in the order of their ids, so they lie in it; and an index grows fastest at its end.
    let text = "SELECT is_sorted FROM pg_temp.staged_import WHERE import_id = $1";
    let order = if connection.one(text, &[&import_id])?.try_get(0)? { "" } else { "ORDER BY device_id" };
    let text = format!(
        "INSERT INTO fleetform.device ({columns})
         SELECT {columns} FROM pg_temp.staged_new WHERE import_id = $1 {order}"
    );
    let new = connection.execute(&text, &[&import_id])?;
    super::keys::write_keys(connection, import_id, order)?;
    for text in [
        "UPDATE fleetform.device AS d SET
             device_name = coalesce(s.device_name, d.device_name), template = s.template,
             organization = coalesce(s.organization, i.organization), state = s.state,
             blocked = coalesce(s.blocked, d.blocked), simulated = i.simulated,
             iot_edge = coalesce(s.iot_edge, d.iot_edge), tags = coalesce(s.tags, d.tags),
             cloud = coalesce(s.cloud, d.cloud), desired = coalesce(s.desired, d.desired),
             desired_version = d.desired_version + (s.desired IS NOT NULL)::int, import = i.name
         FROM pg_temp.staged AS s JOIN pg_temp.staged_import AS i ON i.import_id = s.import_id
         WHERE s.import_id = $1 AND s.kind = 1 AND d.device_id = s.device_id",
        "UPDATE fleetform.device AS d SET blocked = true FROM pg_temp.staged_removed AS r
         WHERE r.import_id = $1 AND r.policy = 'block' AND d.device_id = r.device_id",
        "INSERT INTO fleetform.left_device (device_id)
         SELECT device_id FROM pg_temp.staged_removed WHERE import_id = $1 AND policy = 'block' ON CONFLICT DO NOTHING",
        "DELETE FROM fleetform.left_device AS l USING pg_temp.staged AS s
         WHERE s.import_id = $1 AND s.kind = 1 AND l.device_id = s.device_id",
    ] {
        connection.execute(text, &[&import_id])?;
    }
    let mut deleted = 0;
    for table in ["device_key", "device"] {
        let text = format!(
            "DELETE FROM fleetform.{table} AS t USING (
                 SELECT device_id FROM pg_temp.staged_removed WHERE import_id = $1 AND policy = 'delete'
                 UNION ALL SELECT device_id FROM pg_temp.staged WHERE import_id = $1 AND kind = 3) AS gone
             WHERE t.device_id = gone.device_id"
        );
        deleted = connection.execute(&text, &[&import_id])?;
    }
    status::count(connection, new, deleted)?;
    analyze(connection, new)
}

/// Makes the statistics anew when many of the devices are new.
fn analyze(connection: &Connection, new: u64) -> Result<(), Fault> {
    if new < ANALYZED_MIN {
        return Ok(());
    }
    let text = "SELECT reltuples::bigint FROM pg_catalog.pg_class WHERE oid = 'fleetform.device'::regclass";
    let before: i64 = connection.one(text, &[])?.try_get(0)?;
    if u64::try_from(before).is_ok_and(|before| before / 10 > new) {
        return Ok(());
    }
    connection.batch("ANALYZE fleetform.device; ANALYZE fleetform.device_key")
}

/// Empties what is staged.
pub const CLEAR: &str = "TRUNCATE pg_temp.staged, pg_temp.staged_import, pg_temp.staged_wanted,
    pg_temp.staged_rejected, pg_temp.staged_removed";

/// Removes a written import from the staging tables. The last one empties the tables, which is far cheaper than
/// deleting rows.
pub fn forget_staged(connection: &Connection, import_id: i32) -> Result<(), Fault> {
    let text = "SELECT EXISTS (SELECT 1 FROM pg_temp.staged_import WHERE import_id <> $1)";
    if !connection.one(text, &[&import_id])?.try_get::<_, bool>(0)? {
        return connection.batch(CLEAR);
    }
    for table in ["staged", "staged_wanted", "staged_rejected", "staged_removed", "staged_import"] {
        connection.execute(&format!("DELETE FROM pg_temp.{table} WHERE import_id = $1"), &[&import_id])?;
    }
    Ok(())
}
