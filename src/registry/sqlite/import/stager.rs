//! Stages the rows of one file: each is compared with the device that the registry has.

use std::io::Read;

use rusqlite::{Connection, OptionalExtension, Statement, params};
use serde_json::{Map, Value};

use super::alike::AlikeIds;
use super::watched;
use super::{ImportFailure, ImportSpec, RowError, RowKind, StagedImport};
use crate::model::patch::{Section, merge_members, violations};
use crate::registry::file::{Mode, Named, Reader, Row, RowEntry};
use crate::registry::sqlite::devices::{KEY_COLUMNS, keys_of_row};
use crate::registry::sqlite::failure;
use crate::registry::{DeviceKeys, Identity, twin_etag};

const INSERT: &str = "INSERT INTO temp.staged VALUES
    (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
    ON CONFLICT (device_id) DO NOTHING";

pub struct Stager<'a> {
    connection: &'a Connection,
    spec: &'a ImportSpec,
    location: &'a str,
    /// `None` when the registry has no device, so that there is nothing to compare with.
    look: Option<Statement<'a>>,
    /// The look reads identities too.
    looks_at_identities: bool,
    insert: Statement<'a>,
    import_id: i64,
    alike: AlikeIds,
    found: StagedImport,
}

impl<'a> Stager<'a> {
    pub fn new(
        connection: &'a Connection,
        spec: &'a ImportSpec,
        location: &'a str,
    ) -> Result<Stager<'a>, ImportFailure> {
        let prepare = || {
            connection.execute(
                "INSERT INTO temp.staged_import (name, template, organization, simulated) VALUES (?1, ?2, ?3, ?4)",
                params![spec.name, spec.template, spec.organization, spec.simulated],
            )?;
            Ok(Stager {
                connection,
                spec,
                location,
                look: None,
                looks_at_identities: false,
                insert: connection.prepare(INSERT)?,
                import_id: connection.last_insert_rowid(),
                alike: AlikeIds::default(),
                found: StagedImport::default(),
            })
        };
        prepare().map_err(|e| failure(location, "stage an import", e).into())
    }

    pub fn run(mut self, file: impl Read) -> Result<StagedImport, ImportFailure> {
        let location = self.location;
        let fail = |e| ImportFailure::from(failure(location, "stage an import", e));
        let mut source = Reader::open(self.spec.format, file)?;
        self.prepare_look(source.has_identities()).map_err(fail)?;
        while let Some(RowEntry { line, row }) = source.next()? {
            self.found.rows += 1;
            let (device_id, message) = match row {
                Ok(row) => match self.stage(&row, line).map_err(fail)? {
                    Ok(()) => continue,
                    Err(message) => (row.device_id, message),
                },
                Err(rejected) => (rejected.device_id, rejected.message),
            };
            let rejection = RowError { line, device_id, message };
            super::staged::reject(self.connection, self.import_id, &mut self.found, rejection).map_err(fail)?;
        }
        self.found.has_keys = source.has_keys();
        self.found.modules = source.modules();
        self.found.cloud_cells = source.take_cloud_cells();
        self.found.alike_registered = self.alike.find_registered(self.connection, self.import_id).map_err(fail)?;
        self.found.alike = self.alike.find(self.connection, self.import_id).map_err(fail)?;
        Ok(self.found)
    }

    fn prepare_look(&mut self, looks_at_identities: bool) -> rusqlite::Result<()> {
        let has_devices: bool =
            self.connection.query_row("SELECT EXISTS (SELECT 1 FROM main.device)", [], |row| row.get(0))?;
        if !has_devices {
            return Ok(());
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
        self.look = Some(self.connection.prepare(&text)?);
        self.looks_at_identities = looks_at_identities;
        Ok(())
    }

    /// Stages one row; the inner error says why it is rejected.
    fn stage(&mut self, row: &Row, line: u64) -> rusqlite::Result<Result<(), String>> {
        let looks_at_identities = self.looks_at_identities;
        let known = match &mut self.look {
            Some(look) => {
                look.query_row([&row.device_id], |found| known_of_row(found, looks_at_identities)).optional()?
            }
            None => None,
        };
        let next = match next_of(row, known.as_ref(), self.spec) {
            Ok(next) => next,
            Err(message) => return Ok(Err(message)),
        };
        let staged = self.insert(row, &next)?;
        if staged.is_err() {
            return Ok(staged);
        }
        let is_blocked = known.is_some() && next.is_blocked == Some(true);
        if let Some(owner) = known.as_ref().and_then(|known| known.import.as_ref())
            && self.spec.others.contains(owner)
        {
            let mut note = self.connection.prepare_cached(
                "INSERT INTO temp.staged_wanted (device_id, import_id, owner, line, kind, is_renamed, is_blocked)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            let (kind, is_renamed) = (next.kind as u8, next.is_renamed);
            note.execute(params![row.device_id, self.import_id, owner, line, kind, is_renamed, is_blocked])?;
        }
        *super::staged::count_of(&mut self.found, next.kind) += 1;
        self.found.renamed += u64::from(next.is_renamed);
        self.found.blocked += u64::from(is_blocked);
        if next.tags.is_some() {
            let before = known.as_ref().map(|known| known.tags.as_str());
            watched::note(&mut self.found.changed_tags, &self.spec.watched_tags, (before, &row.tags), line);
        }
        self.alike.note(&row.device_id, next.kind == RowKind::New && self.look.is_some());
        Ok(Ok(()))
    }

    fn insert(&mut self, row: &Row, next: &Next) -> rusqlite::Result<Result<(), String>> {
        let is_new = next.kind == RowKind::New;
        let name = row.name.as_ref().filter(|_| row.mode != Mode::UpdateTwin);
        let keys = next.keys.as_ref();
        let values = params![
            row.device_id,
            self.import_id,
            next.kind as u8,
            name,
            if is_new { row.template.as_ref() } else { next.template.as_ref() },
            next.organization.as_ref().filter(|_| next.organization != self.spec.organization),
            if is_new { None } else { Some(&next.state) },
            next.tags,
            next.cloud,
            next.is_blocked,
            next.iot_edge,
            next.desired,
            if is_new { row.desired_version } else { None },
            next.reported,
            if is_new { row.reported_version } else { None },
            keys.map(|keys| keys.authentication.as_str()),
            keys.and_then(|keys| keys.primary_key.as_ref()),
            keys.and_then(|keys| keys.secondary_key.as_ref()),
            keys.and_then(|keys| keys.primary_thumbprint.as_ref()),
            keys.and_then(|keys| keys.secondary_thumbprint.as_ref()),
        ];
        if self.insert.execute(values)? == 1 {
            return Ok(Ok(()));
        }
        let mut look = self.connection.prepare_cached(
            "SELECT i.name FROM temp.staged AS s JOIN temp.staged_import AS i USING (import_id) WHERE s.device_id = ?1",
        )?;
        let owner: String = look.query_row([&row.device_id], |found| found.get(0))?;
        if owner == self.spec.name {
            return Ok(Err("the device is in this file twice; the first row is used".to_string()));
        }
        if super::staged::take_back(self.connection, &row.device_id, &self.spec.name)? {
            // The device was about to move to an import that was staged before this one, and is still here.
            self.insert.execute(values)?;
            return Ok(Ok(()));
        }
        Ok(Err(format!("the device is in import/{owner} too, and can be in one import only")))
    }
}

/// Returns what a row makes of its device; the error says why it is rejected.
fn next_of(row: &Row, known: Option<&DeviceState>, spec: &ImportSpec) -> Result<Next, String> {
    // Whatever the registry has: `validate` says of these rows what a plan says.
    let named = spec.row_names().named(row)?;
    if let Some(known) = known
        && !spec.reaches(known.import.as_deref(), known.organization.as_deref())
    {
        let place = match &known.organization {
            Some(path) => format!("is in the organization `{path}`, which"),
            None => "is in no organization, and the whole fleet".to_string(),
        };
        let own = spec.organization.as_deref().unwrap_or_default();
        return Err(format!("the device {place} is not within that of the import, `{own}`"));
    }
    let next = match (row.mode, known) {
        (Mode::Update | Mode::UpdateTwin, None) => {
            return Err("there is no such device, and its `importMode` makes none".to_string());
        }
        (Mode::Create, Some(known)) if known.import.as_ref() != Some(&spec.name) => {
            return Err("there is such a device already, and its `importMode` changes none".to_string());
        }
        (Mode::Delete, None) | (Mode::Create, Some(_)) => return Ok(Next::unchanged(known)),
        (Mode::Delete, Some(known)) => Next { kind: RowKind::Deleted, ..Next::unchanged(Some(known)) },
        (Mode::Create | Mode::CreateOrUpdate | Mode::Update | Mode::UpdateTwin, known) => {
            changed(row, named, known, spec)?
        }
    };
    if let (Some(wanted), Some(known)) = (&row.if_match, known)
        && next.kind != RowKind::Unchanged
        && wanted != "*"
        && *wanted != known.etag(row.mode)
    {
        return Err("its ETag is not that of the device now".to_string());
    }
    Ok(next)
}

/// Returns a new or updated device.
fn changed(row: &Row, named: Named<'_>, known: Option<&DeviceState>, spec: &ImportSpec) -> Result<Next, String> {
    let is_whole = row.mode != Mode::UpdateTwin;
    let tags = section_after(known.map(|known| known.tags.as_str()), &row.tags, Section::Tags)?;
    let none = Map::new();
    let cloud = if is_whole { &row.cloud } else { &none };
    let cloud = section_after(known.map(|known| known.cloud.as_str()), cloud, Section::Cloud)?;
    let desired = section_after(known.map(|known| known.desired.as_str()), &row.desired, Section::Desired)?;
    // An existing device keeps its reported properties.
    let reported = match known {
        Some(_) => None,
        None => section_after(None, &row.reported, Section::Reported)?,
    };
    // A device that has a template keeps it: moving it to another is a job's work.
    let own = named.template.or(spec.template.as_deref());
    let template = known.and_then(|known| known.template.as_deref()).or(own).map(str::to_string);
    let organization = match known {
        Some(known) if !is_whole => known.organization.clone(),
        _ => named.organization.map(str::to_string),
    };
    let state = match (known, &template) {
        (None, None) => "unassociated".to_string(),
        (None, Some(_)) => "registered".to_string(),
        (Some(known), Some(_)) if known.state == "unassociated" => "registered".to_string(),
        (Some(known), _) => known.state.clone(),
    };
    let is_blocked = row.is_blocked.filter(|now| is_whole && known.is_none_or(|known| known.is_blocked != *now));
    let is_back = known.is_some_and(|known| known.has_left) && row.is_blocked != Some(true);
    let is_blocked = if is_back { Some(false) } else { is_blocked };
    let iot_edge = row.iot_edge.filter(|now| is_whole && known.is_none_or(|known| known.iot_edge != *now));
    let keys = if is_whole { keys_after(known, row) } else { None };
    let is_renamed = is_whole && known.is_some_and(|known| row.name.as_ref().is_some_and(|name| *name != known.name));
    let kind = match known {
        None => RowKind::New,
        Some(known) => {
            let is_changed = is_renamed
                || known.template != template
                || known.organization != organization
                || known.simulated != spec.simulated
                || [&tags, &cloud, &desired].iter().any(|section| section.is_some())
                || [is_blocked, iot_edge].iter().any(Option::is_some)
                || keys.is_some()
                || known.import.as_ref() != Some(&spec.name);
            if is_changed { RowKind::Updated } else { RowKind::Unchanged }
        }
    };
    Ok(Next {
        kind,
        is_renamed,
        template,
        organization,
        state,
        tags,
        cloud,
        desired,
        reported,
        is_blocked,
        iot_edge,
        keys,
    })
}

/// Returns the keys that a device will have; `None` when they stay, and for a new device that is given some.
fn keys_after(known: Option<&DeviceState>, row: &Row) -> Option<DeviceKeys> {
    let Some(given) = &row.keys else {
        let none = DeviceKeys { authentication: crate::model::device::Authentication::None, ..DeviceKeys::default() };
        return (known.is_none() && row.is_keyless).then_some(none);
    };
    let mut keys = given.clone();
    if let Some(known) = known {
        let old = &known.keys;
        if old.authentication == keys.authentication {
            // A file without keys (`excludeKeysInExport`) takes none away.
            keys.primary_key = keys.primary_key.or_else(|| old.primary_key.clone());
            keys.secondary_key = keys.secondary_key.or_else(|| old.secondary_key.clone());
            keys.primary_thumbprint = keys.primary_thumbprint.or_else(|| old.primary_thumbprint.clone());
            keys.secondary_thumbprint = keys.secondary_thumbprint.or_else(|| old.secondary_thumbprint.clone());
        }
        if keys == *old {
            return None;
        }
    }
    Some(keys)
}

/// Returns a section after the row's patch, `None` when it stays as it is; the error says which rule it would break.
fn section_after(before: Option<&str>, patch: &Map<String, Value>, section: Section) -> Result<Option<String>, String> {
    if patch.is_empty() {
        return Ok(None);
    }
    let check = |members: &Map<String, Value>| match violations(members, section).first() {
        Some(broken) => Err(format!("{}: {}", section.root(), broken.rule)),
        None => Ok(()),
    };
    if before.is_none_or(|before| before == "{}") && !patch.values().any(has_null) {
        // The patch is what it makes, as of nearly all new devices: nothing is copied.
        check(patch)?;
        return Ok(Some(serde_json::to_string(patch).expect("a map with text as keys is JSON")));
    }
    let old: Value = serde_json::from_str(before.unwrap_or("{}")).unwrap_or_else(|_| Value::Object(Map::new()));
    let mut new = old.clone();
    merge_members(&mut new, patch);
    new.as_object().map_or(Ok(()), check)?;
    Ok((new != old).then(|| new.to_string()))
}

/// Returns true when a merge of the value removes something.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.values().any(has_null),
        // An array is taken as it is.
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
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

/// What the registry has of a device that an import can change. The last four are read for files that can change them.
#[derive(Default)]
struct DeviceState {
    name: String,
    template: Option<String>,
    organization: Option<String>,
    simulated: bool,
    tags: String,
    cloud: String,
    import: Option<String>,
    state: String,
    /// It is blocked because its row left the file.
    has_left: bool,
    is_blocked: bool,
    iot_edge: bool,
    desired: String,
    keys: DeviceKeys,
}

impl DeviceState {
    /// Returns the ETag that a mode is about.
    fn etag(&self, mode: Mode) -> String {
        if mode == Mode::UpdateTwin {
            let parsed = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::Object(Map::new()));
            return twin_etag(&parsed(&self.tags), &parsed(&self.desired));
        }
        Identity { is_blocked: self.is_blocked, iot_edge: self.iot_edge, keys: &self.keys }.etag()
    }
}

/// The next state of a device. A field that is `None` stays as it is; a new device gets the default.
struct Next {
    kind: RowKind,
    is_renamed: bool,
    template: Option<String>,
    organization: Option<String>,
    state: String,
    tags: Option<String>,
    cloud: Option<String>,
    desired: Option<String>,
    reported: Option<String>,
    is_blocked: Option<bool>,
    iot_edge: Option<bool>,
    keys: Option<DeviceKeys>,
}

impl Next {
    /// Returns a device that stays as it is, or that is not there and stays so.
    fn unchanged(known: Option<&DeviceState>) -> Next {
        Next {
            kind: RowKind::Unchanged,
            is_renamed: false,
            template: known.and_then(|known| known.template.clone()),
            organization: None,
            state: known.map(|known| known.state.clone()).unwrap_or_default(),
            tags: None,
            cloud: None,
            desired: None,
            reported: None,
            is_blocked: None,
            iot_edge: None,
            keys: None,
        }
    }
}
