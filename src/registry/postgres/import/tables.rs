//! The temporary tables in which the rows of a file are staged. Rows are looked at and written together: a statement
//! for each would take minutes for a large file.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};

use serde_json::{Map, Value};
use tokio_postgres::Row;

use super::binary::{Rows, Upload};
use crate::registry::file::RowEntry;
use crate::registry::postgres::connection::Connection;
use crate::registry::postgres::devices::{KEY_COLUMNS, keys_of_row};
use crate::registry::postgres::fault::Fault;
use crate::registry::postgres::json::{read, read_text, stored_members, stored_text};
use crate::registry::staging::{AlikeTables, DeviceState, Inserted, JsonTexts, StagedRow, StagingTables, Wanted};
use crate::registry::{Alike, ImportSpec};

/// The columns of `staged`, in the order in which rows are copied.
const COPY_STAGED: &str = "COPY pg_temp.staged (device_id, import_id, kind, device_name, template, organization, state,
    tags, cloud, blocked, iot_edge, desired, desired_version, reported, reported_version, authentication, primary_key,
    secondary_key, primary_thumbprint, secondary_thumbprint) FROM STDIN (FORMAT binary)";
const COPY_WANTED: &str = "COPY pg_temp.staged_wanted (device_id, import_id, owner, line, kind, is_renamed, is_blocked,
    is_refused) FROM STDIN (FORMAT binary)";
const COPY_REJECTED: &str = "COPY pg_temp.staged_rejected (device_id, import_id) FROM STDIN (FORMAT binary)";

/// The tables, and which import is staged.
pub(super) struct Tables<'a> {
    connection: &'a Connection,
    /// The name of the import.
    name: &'a str,
    import_id: i32,
    has_devices: bool,
    looks_at_identities: bool,
    /// Other imports are staged, which may have any device of this file.
    has_others: bool,
    /// The staged rows have their index.
    is_indexed: bool,
    /// Hashes of the ids of the file so far, unless all ids are looked for among the staged rows.
    seen: BTreeSet<u64>,
    /// The devices of the rows that are looked at.
    known: BTreeMap<String, Row>,
    /// Those ids among them that may be staged.
    doubtful: BTreeMap<String, Place>,
    staged: Upload,
    /// Rows in the place of `given_way`.
    moved: Upload,
    wanted: Upload,
    rejected: Upload,
    /// The id of the last row.
    last: String,
    is_sorted: bool,
    /// Devices of this import that a staged row of another one wanted.
    given_way: Vec<String>,
}

/// Where a device is staged.
#[derive(Default)]
struct Place {
    /// The import; `None` when the device is not staged.
    import: Option<String>,
    /// The row there wants the device of this import.
    gives_way: bool,
}

impl<'a> Tables<'a> {
    /// Begins to stage an import.
    pub fn new(
        connection: &'a Connection,
        spec: &'a ImportSpec,
        looks_at_identities: bool,
    ) -> Result<Tables<'a>, Fault> {
        let text = "INSERT INTO pg_temp.staged_import (import_id, name, template, organization, simulated)
            SELECT coalesce(max(import_id), 0) + 1, $1, $2, $3, $4 FROM pg_temp.staged_import
            RETURNING import_id, EXISTS (SELECT 1 FROM fleetform.device), EXISTS (SELECT 1 FROM pg_temp.staged_import),
                to_regclass('pg_temp.staged_device') IS NOT NULL";
        let texts = [Some(&spec.name), spec.template.as_ref(), spec.organization.as_ref()];
        let [name, template, organization] = texts.map(|text| text.map(|text| stored_text(text)));
        let [name, template, organization] = [name.as_deref(), template.as_deref(), organization.as_deref()];
        let row = connection.one(text, &[&name, &template, &organization, &spec.simulated])?;
        Ok(Tables {
            connection,
            name: &spec.name,
            import_id: row.try_get(0)?,
            has_devices: row.try_get(1)?,
            looks_at_identities,
            has_others: row.try_get(2)?,
            is_indexed: row.try_get(3)?,
            seen: BTreeSet::new(),
            known: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            staged: Upload::new(COPY_STAGED),
            moved: Upload::new(COPY_STAGED),
            wanted: Upload::new(COPY_WANTED),
            rejected: Upload::new(COPY_REJECTED),
            last: String::new(),
            is_sorted: true,
            given_way: Vec::new(),
        })
    }

    /// Writes what is in memory.
    fn flush(&mut self) -> Result<(), Fault> {
        self.staged.finish(self.connection)?;
        if !self.given_way.is_empty() {
            super::staged::take_back(self.connection, self.name, &self.given_way)?;
            self.given_way.clear();
        }
        for upload in [&mut self.moved, &mut self.wanted, &mut self.rejected] {
            upload.finish(self.connection)?;
        }
        Ok(())
    }

    fn look_at_devices(&mut self, ids: &[&str]) -> Result<(), Fault> {
        let columns = "d.device_id, d.device_name, d.template, d.organization, d.simulated, d.tags::text,
            d.cloud::text, d.import, d.state, l.device_id IS NOT NULL";
        let text = if self.looks_at_identities {
            format!(
                "SELECT {columns}, d.blocked, d.iot_edge, d.desired::text, {KEY_COLUMNS}
                 FROM fleetform.device AS d LEFT JOIN fleetform.left_device AS l ON l.device_id = d.device_id
                 LEFT JOIN fleetform.device_key AS k ON k.device_id = d.device_id WHERE d.device_id = ANY($1)"
            )
        } else {
            format!(
                "SELECT {columns} FROM fleetform.device AS d
                 LEFT JOIN fleetform.left_device AS l ON l.device_id = d.device_id WHERE d.device_id = ANY($1)"
            )
        };
        for row in self.connection.rows(&text, &[&ids])? {
            self.known.insert(row.try_get(0)?, row);
        }
        Ok(())
    }

    fn look_at_staged(&mut self) -> Result<(), Fault> {
        self.make_index()?;
        let text = "SELECT s.device_id, i.name,
                EXISTS (SELECT 1 FROM pg_temp.staged_wanted AS w WHERE w.device_id = s.device_id AND w.owner = $2)
            FROM pg_temp.staged AS s JOIN pg_temp.staged_import AS i ON i.import_id = s.import_id
            WHERE s.device_id = ANY($1)";
        let ids: Vec<&String> = self.doubtful.keys().collect();
        for row in self.connection.rows(text, &[&ids, &stored_text(self.name).as_ref()])? {
            let place = Place { import: Some(read_text(row.try_get(1)?)), gives_way: row.try_get(2)? };
            self.doubtful.insert(row.try_get(0)?, place);
        }
        Ok(())
    }

    /// Makes the index of the staged rows, behind the rows of a file that is in no doubt: that takes less than adding
    /// each to it.
    fn make_index(&mut self) -> Result<(), Fault> {
        if std::mem::replace(&mut self.is_indexed, true) {
            return Ok(());
        }
        let text = "CREATE UNIQUE INDEX staged_device ON pg_temp.staged (device_id);
            ANALYZE pg_temp.staged (device_id, import_id, kind)";
        self.connection.batch(text)
    }
}

impl StagingTables for Tables<'_> {
    const ROWS_AT_ONCE: usize = 2_000;
    const JSON: JsonTexts =
        JsonTexts { read: |text| read(text).ok(), written: |members: &Map<String, Value>| stored_members(members) };

    fn has_devices(&self) -> bool {
        self.has_devices
    }

    fn look_at(&mut self, rows: &[RowEntry]) -> Result<(), Fault> {
        self.known.clear();
        self.doubtful.clear();
        let ids = rows.iter().filter_map(|entry| entry.row.as_ref().ok().map(|row| row.device_id.as_str()));
        let ids: Vec<&str> = ids.collect();
        for id in &ids {
            if self.has_others || !self.seen.insert(hash_of(id)) {
                self.doubtful.insert((*id).to_string(), Place::default());
            }
        }
        if !self.has_devices && self.doubtful.is_empty() && !self.rejected.is_large() {
            // The COPY goes on.
            return Ok(());
        }
        self.flush()?;
        if self.has_devices {
            self.look_at_devices(&ids)?;
        }
        if self.doubtful.is_empty() { Ok(()) } else { self.look_at_staged() }
    }

    fn known(&mut self, device_id: &str) -> Result<Option<DeviceState>, Fault> {
        self.known.get(device_id).map(|row| known_of_row(row, self.looks_at_identities)).transpose()
    }

    fn insert(&mut self, row: &StagedRow<'_>) -> Result<Inserted, Fault> {
        let place = self.doubtful.get_mut(row.device_id);
        let gives_way = match &place {
            Some(Place { import: Some(import), .. }) if import == self.name => return Ok(Inserted::Twice),
            Some(Place { import: Some(import), gives_way: false }) => return Ok(Inserted::Elsewhere(import.clone())),
            Some(Place { import: Some(_), gives_way: true }) => true,
            Some(Place { import: None, .. }) | None => false,
        };
        if let Some(place) = place {
            *place = Place { import: Some(self.name.to_string()), gives_way: false };
        }
        if gives_way {
            // The device was about to move to an import that was staged before this one, and is still here.
            self.given_way.push(row.device_id.to_string());
            push(self.moved.rows(), self.import_id, row);
            return Ok(Inserted::Staged);
        }
        self.is_sorted = self.is_sorted && self.last.as_str() < row.device_id;
        self.last.clear();
        self.last.push_str(row.device_id);
        push(self.staged.rows(), self.import_id, row);
        if self.staged.is_large() {
            self.staged.send(self.connection)?;
        }
        Ok(Inserted::Staged)
    }

    fn note_wanted(&mut self, wanted: &Wanted<'_>) -> Result<(), Fault> {
        let Wanted { device_id, owner, line, kind, is_renamed, is_blocked } = wanted;
        let row = self.wanted.rows().begin(8);
        row.text(Some(device_id)).integer(self.import_id).text(Some(owner)).bigint(Some(*line));
        row.smallint(*kind as i16).boolean(Some(*is_renamed)).boolean(Some(*is_blocked)).boolean(Some(false));
        Ok(())
    }

    fn note_rejected(&mut self, device_id: &str) -> Result<(), Fault> {
        self.rejected.rows().begin(2).text(Some(device_id)).integer(self.import_id);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.flush()?;
        let text = "UPDATE pg_temp.staged_import SET is_sorted = $2 WHERE import_id = $1";
        self.connection.execute(text, &[&self.import_id, &self.is_sorted])?;
        if self.is_indexed {
            // The rows of this file are not in the statistics of the index.
            self.connection.batch("ANALYZE pg_temp.staged (device_id, import_id, kind)")?;
        }
        self.make_index()?;
        self.connection
            .batch("ANALYZE pg_temp.staged_wanted; ANALYZE pg_temp.staged_rejected; ANALYZE pg_temp.staged_import")
    }
}

impl AlikeTables for Tables<'_> {
    type Error = Fault;

    fn each_device_id(&mut self, visit: &mut dyn FnMut(&str)) -> Result<(), Fault> {
        let text = "SELECT device_id FROM fleetform.device ORDER BY device_id";
        self.connection.stream(text, std::iter::empty::<&str>(), |row| {
            visit(row.try_get(0)?);
            Ok(())
        })
    }

    fn new_alike_to(&mut self, device_id: &str) -> Result<Option<String>, Fault> {
        let text = "SELECT min(device_id) FROM pg_temp.staged
            WHERE import_id = $1 AND kind = 2 AND lower(device_id) = lower($2::text COLLATE \"C\")";
        Ok(self.connection.one(text, &[&self.import_id, &device_id])?.try_get(0)?)
    }

    fn alike_in_file(&mut self) -> Result<Option<Alike>, Fault> {
        let text = "SELECT count(*), min(one) FROM (
                SELECT min(device_id) AS one FROM pg_temp.staged
                WHERE import_id = $1 AND kind < 3 GROUP BY lower(device_id) HAVING count(*) > 1) AS alike";
        let row = self.connection.one(text, &[&self.import_id])?;
        let Some(one) = row.try_get::<_, Option<String>>(1)? else { return Ok(None) };
        let text = "SELECT max(device_id) FROM pg_temp.staged
            WHERE import_id = $1 AND kind < 3 AND lower(device_id) = lower($2::text COLLATE \"C\")";
        let other: String = self.connection.one(text, &[&self.import_id, &one])?.try_get(0)?;
        let groups = crate::registry::postgres::rows::number_of(&row, 0)?;
        Ok(Some(Alike { groups, sample: [one, other] }))
    }
}

fn push(rows: &mut Rows, import_id: i32, row: &StagedRow<'_>) {
    let StagedRow { device_id, kind, name, template, organization, state, .. } = row;
    let StagedRow { tags, cloud, is_blocked, iot_edge, desired, desired_version, .. } = row;
    let StagedRow { reported, reported_version, keys, .. } = row;
    let rows = rows.begin(20).text(Some(device_id)).integer(import_id).smallint(*kind as i16);
    rows.text(*name).text(*template).text(*organization).text(*state).json(*tags).json(*cloud);
    rows.boolean(*is_blocked).boolean(*iot_edge).json(*desired).bigint(*desired_version);
    rows.json(*reported).bigint(*reported_version).text(keys.map(|keys| keys.authentication.as_str()));
    rows.bytes(keys.and_then(|keys| keys.primary_key.as_deref()));
    rows.bytes(keys.and_then(|keys| keys.secondary_key.as_deref()));
    rows.text(keys.and_then(|keys| keys.primary_thumbprint.as_deref()));
    rows.text(keys.and_then(|keys| keys.secondary_thumbprint.as_deref()));
}

fn known_of_row(row: &Row, looks_at_identities: bool) -> Result<DeviceState, Fault> {
    let text =
        |at: usize| -> Result<Option<String>, Fault> { Ok(row.try_get::<_, Option<String>>(at)?.map(read_text)) };
    let mut known = DeviceState {
        name: read_text(row.try_get(1)?),
        template: text(2)?,
        organization: text(3)?,
        simulated: row.try_get(4)?,
        tags: row.try_get(5)?,
        cloud: row.try_get(6)?,
        import: text(7)?,
        state: row.try_get(8)?,
        has_left: row.try_get(9)?,
        ..DeviceState::default()
    };
    if looks_at_identities {
        known.is_blocked = row.try_get(10)?;
        known.iot_edge = row.try_get(11)?;
        known.desired = row.try_get(12)?;
        known.keys = keys_of_row(row, 13)?;
    }
    Ok(known)
}

/// Returns a hash of an id. Two ids that share one are told apart among the staged rows.
fn hash_of(device_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(device_id.as_bytes());
    hasher.finish()
}
