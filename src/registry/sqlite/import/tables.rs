//! The temporary tables in which the rows of a file are staged.

use rusqlite::{Connection, OptionalExtension, Statement, params};
use serde_json::{Map, Value};

use crate::registry::sqlite::devices::{KEY_COLUMNS, keys_of_row};
use crate::registry::staging::{AlikeTables, DeviceState, Inserted, JsonTexts, StagedRow, StagingTables, Wanted};
use crate::registry::{Alike, ImportSpec};

const INSERT: &str = "INSERT INTO temp.staged VALUES
    (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
    ON CONFLICT (device_id) DO NOTHING";

/// The tables, and which import is staged.
pub struct Tables<'a> {
    connection: &'a Connection,
    /// The name of the import.
    name: &'a str,
    /// `None` when the registry has no device, so that there is nothing to compare with.
    look: Option<Statement<'a>>,
    /// The look reads identities too.
    looks_at_identities: bool,
    insert: Statement<'a>,
    import_id: i64,
}

impl<'a> Tables<'a> {
    /// Begins to stage an import.
    pub fn new(
        connection: &'a Connection,
        spec: &'a ImportSpec,
        looks_at_identities: bool,
    ) -> rusqlite::Result<Tables<'a>> {
        connection.execute(
            "INSERT INTO temp.staged_import (name, template, organization, simulated) VALUES (?1, ?2, ?3, ?4)",
            params![spec.name, spec.template, spec.organization, spec.simulated],
        )?;
        let import_id = connection.last_insert_rowid();
        let look = prepare_look(connection, looks_at_identities)?;
        let insert = connection.prepare(INSERT)?;
        Ok(Tables { connection, name: &spec.name, look, looks_at_identities, insert, import_id })
    }

    fn try_insert(&mut self, row: &StagedRow<'_>) -> rusqlite::Result<bool> {
        let StagedRow { device_id, kind, name, template, organization, state, .. } = row;
        let StagedRow { tags, cloud, is_blocked, iot_edge, desired, desired_version, .. } = row;
        let StagedRow { reported, reported_version, keys, .. } = row;
        let changed = self.insert.execute(params![
            device_id,
            self.import_id,
            *kind as u8,
            name,
            template,
            organization,
            state,
            tags,
            cloud,
            is_blocked,
            iot_edge,
            desired,
            desired_version,
            reported,
            reported_version,
            keys.map(|keys| keys.authentication.as_str()),
            keys.and_then(|keys| keys.primary_key.as_ref()),
            keys.and_then(|keys| keys.secondary_key.as_ref()),
            keys.and_then(|keys| keys.primary_thumbprint.as_ref()),
            keys.and_then(|keys| keys.secondary_thumbprint.as_ref()),
        ])?;
        Ok(changed == 1)
    }
}

impl StagingTables for Tables<'_> {
    /// A look is a call in this process.
    const ROWS_AT_ONCE: usize = 1;
    const JSON: JsonTexts = JsonTexts {
        read: |text| serde_json::from_str(text).ok(),
        written: |members: &Map<String, Value>| {
            serde_json::to_string(members).expect("a map with text as keys is JSON")
        },
    };

    fn has_devices(&self) -> bool {
        self.look.is_some()
    }

    fn known(&mut self, device_id: &str) -> rusqlite::Result<Option<DeviceState>> {
        let looks_at_identities = self.looks_at_identities;
        let Some(look) = &mut self.look else { return Ok(None) };
        look.query_row([device_id], |found| known_of_row(found, looks_at_identities)).optional()
    }

    fn insert(&mut self, row: &StagedRow<'_>) -> rusqlite::Result<Inserted> {
        if self.try_insert(row)? {
            return Ok(Inserted::Staged);
        }
        let mut look = self.connection.prepare_cached(
            "SELECT i.name FROM temp.staged AS s JOIN temp.staged_import AS i USING (import_id) WHERE s.device_id = ?1",
        )?;
        let owner: String = look.query_row([row.device_id], |found| found.get(0))?;
        if owner == self.name {
            return Ok(Inserted::Twice);
        }
        if super::staged::take_back(self.connection, row.device_id, self.name)? {
            // The device was about to move to an import that was staged before this one, and is still here.
            self.try_insert(row)?;
            return Ok(Inserted::Staged);
        }
        Ok(Inserted::Elsewhere(owner))
    }

    fn note_wanted(&mut self, wanted: &Wanted<'_>) -> rusqlite::Result<()> {
        let Wanted { device_id, owner, line, kind, is_renamed, is_blocked } = wanted;
        let mut note = self.connection.prepare_cached(
            "INSERT INTO temp.staged_wanted (device_id, import_id, owner, line, kind, is_renamed, is_blocked)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        note.execute(params![device_id, self.import_id, owner, line, *kind as u8, is_renamed, is_blocked]).map(drop)
    }

    fn note_rejected(&mut self, device_id: &str) -> rusqlite::Result<()> {
        super::staged::note_rejected(self.connection, self.import_id, device_id)
    }
}

impl AlikeTables for Tables<'_> {
    type Error = rusqlite::Error;

    fn each_device_id(&mut self, visit: &mut dyn FnMut(&str)) -> rusqlite::Result<()> {
        let mut ids = self.connection.prepare("SELECT device_id FROM main.device ORDER BY device_id")?;
        let mut rows = ids.query([])?;
        while let Some(row) = rows.next()? {
            visit(row.get_ref(0)?.as_str()?);
        }
        Ok(())
    }

    fn new_alike_to(&mut self, device_id: &str) -> rusqlite::Result<Option<String>> {
        let text = "SELECT min(device_id) FROM temp.staged
            WHERE import_id = ?1 AND kind = 2 AND lower(device_id) = lower(?2)";
        self.connection.query_row(text, params![self.import_id, device_id], |row| row.get(0))
    }

    fn alike_in_file(&mut self) -> rusqlite::Result<Option<Alike>> {
        let text = "SELECT count(*), min(one) FROM (
                SELECT min(device_id) AS one FROM temp.staged
                WHERE import_id = ?1 AND kind < 3 GROUP BY lower(device_id) HAVING count(*) > 1)";
        let (groups, one): (u64, Option<String>) =
            self.connection.query_row(text, [self.import_id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let Some(one) = one else { return Ok(None) };
        let text =
            "SELECT max(device_id) FROM temp.staged WHERE import_id = ?1 AND kind < 3 AND lower(device_id) = lower(?2)";
        let other: String = self.connection.query_row(text, params![self.import_id, one], |row| row.get(0))?;
        Ok(Some(Alike { groups, sample: [one, other] }))
    }
}

fn prepare_look(connection: &Connection, looks_at_identities: bool) -> rusqlite::Result<Option<Statement<'_>>> {
    let has_devices: bool = connection.query_row("SELECT EXISTS (SELECT 1 FROM main.device)", [], |row| row.get(0))?;
    if !has_devices {
        return Ok(None);
    }
    let columns = "d.device_name, d.template, d.organization, d.simulated, d.tags, d.cloud, d.import, d.state,
        EXISTS (SELECT 1 FROM main.left_device AS l WHERE l.device_id = d.device_id)";
    let text = if looks_at_identities {
        format!(
            "SELECT {columns}, d.blocked, d.iot_edge, d.desired, {KEY_COLUMNS}
             FROM main.device AS d LEFT JOIN main.device_key AS k ON k.device_id = d.device_id
             WHERE d.device_id = ?1"
        )
    } else {
        format!("SELECT {columns} FROM main.device AS d WHERE d.device_id = ?1")
    };
    connection.prepare(&text).map(Some)
}

fn known_of_row(found: &rusqlite::Row<'_>, looks_at_identities: bool) -> rusqlite::Result<DeviceState> {
    let mut known = DeviceState {
        name: found.get(0)?,
        template: found.get(1)?,
        organization: found.get(2)?,
        simulated: found.get(3)?,
        tags: found.get(4)?,
        cloud: found.get(5)?,
        import: found.get(6)?,
        state: found.get(7)?,
        has_left: found.get(8)?,
        ..DeviceState::default()
    };
    if looks_at_identities {
        known.is_blocked = found.get(9)?;
        known.iot_edge = found.get(10)?;
        known.desired = found.get(11)?;
        known.keys = keys_of_row(found, 12)?;
    }
    Ok(known)
}
