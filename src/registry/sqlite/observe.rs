//! What the planner sees: the ids of a selection in order, and the values of its devices at the paths that a job
//! touches.

use std::collections::BTreeSet;

use rusqlite::Row;
use rusqlite::functions::FunctionFlags;
use serde_json::Value;

use super::super::bounds::{Bounds, Condition, Sets};
use super::super::devices::section_column;
use super::super::entries::{DeviceRow, EntryTable, Unfit, unfit_of};
use super::super::sql::sqlite::Sqlite;
use super::super::sql::{Dialect, Param};
use super::super::{RegistryError, Request, STRAYS_NAMED, Selection, Tally, Touched};
use super::SqliteStore;
use super::rows::TextOrNull as _;
use crate::model::id::Name;
use crate::model::observation::{Observation, Strays};
use crate::model::patch::{Assignment, Section};
use crate::query::Query;

/// The column of a row that says whether its device is selected. The one before it tells what may not fit, and the one
/// before that whether it is blocked.
const STATE: usize = 3;

impl SqliteStore {
    pub(super) fn observation(&self, request: &Request) -> Result<Observation, RegistryError> {
        self.observe_rows(request).map_err(|e| self.error("find the devices of a job", e))
    }

    pub(super) fn tally(&self, request: &Request) -> Result<Tally, RegistryError> {
        self.count_rows(request).map_err(|e| self.error("count devices", e))
    }

    pub(super) fn all_selected(&self, request: &Request) -> Result<bool, RegistryError> {
        let look = || {
            let Condition { sql, params } = self.condition(request)?;
            let text = format!("SELECT NOT EXISTS (SELECT 1 FROM {} AS d WHERE ({sql}) IS NOT TRUE)", self.source());
            self.connection.query_row(&text, rusqlite::params_from_iter(params), |row| row.get(0))
        };
        look().map_err(|e| self.error("count devices", e))
    }

    fn count_rows(&self, request: &Request) -> rusqlite::Result<Tally> {
        let bounds = Bounds::of(request, self)?;
        let sums = (1..=request.passed_over.len()).map(|at| format!(", coalesce(sum((state >> {at}) & 1), 0)"));
        let text = format!(
            "SELECT count(*) FILTER (WHERE state = 0){} FROM (SELECT {} AS state FROM {} AS d WHERE {})",
            sums.collect::<String>(),
            bounds.state(),
            self.source(),
            bounds.condition()
        );
        self.connection.query_row(&text, rusqlite::params_from_iter(&bounds.params), |row| {
            let passed_over = (1..=request.passed_over.len()).map(|at| row.get(at)).collect::<Result<_, _>>()?;
            Ok(Tally { selected: row.get(0)?, passed_over })
        })
    }

    /// Answers a request with one scan. The row of a selected device has state 0, that of a device that is passed over
    /// has a bit for each entry of `passed_over` that counts it.
    fn observe_rows(&self, request: &Request) -> rusqlite::Result<Observation> {
        let columns = touched_columns(&request.touched);
        let bounds = Bounds::of(request, self)?;
        let list: String = columns.iter().map(|column| format!(", {column}")).collect();
        let unfit = match unfit_of(request) {
            Unfit::NotEdge => "iif(d.iot_edge, NULL, '')",
            Unfit::Nothing => "NULL",
            Unfit::Template => "d.template",
        };
        let text = format!(
            "SELECT d.device_id, d.blocked, {unfit}, {}{list} FROM {} AS d WHERE {} ORDER BY d.device_id",
            bounds.state(),
            self.source(),
            bounds.condition()
        );
        let mut statement = self.connection.prepare(&text)?;
        let mut rows = statement.query(rusqlite::params_from_iter(&bounds.params))?;
        let mut table = EntryTable::new(request);
        let mut found = Observation { passed_over: vec![0; request.passed_over.len()], ..Observation::default() };
        while let Some(row) = rows.next()? {
            let state: u64 = row.get(STATE)?;
            if state == 0 {
                found.ids.push(row.get_ref(0)?.as_str()?);
                found.before.push(table.index_of(row)?);
                continue;
            }
            found.passed_over.iter_mut().enumerate().for_each(|(at, count)| *count += (state >> (at + 1)) & 1);
        }
        found.table = table.into_entries();
        if let Selection::Listed(ids) = &request.selection {
            found.missing = ids.iter().filter(|id| found.ids.find(id).is_none()).cloned().collect();
        }
        if let Touched::Template { wanted, desired_names } = &request.touched {
            found.strays = self.strays(request, wanted, desired_names)?;
        }
        Ok(found)
    }

    /// Counts the top-level desired properties of the devices that are to get another template, but for those that have
    /// a place in it.
    fn strays(&self, request: &Request, wanted: &str, names: &BTreeSet<String>) -> rusqlite::Result<Strays> {
        let Condition { sql: condition, mut params } = self.condition(request)?;
        params.push(Param::Text(wanted.to_string()));
        let names = Value::from(names.iter().cloned().collect::<Vec<_>>());
        params.push(Param::Text(names.to_string()));
        let at = params.len();
        let text = format!(
            "SELECT j.key, count(*), count(*) OVER () FROM {} AS d, json_each(d.desired) AS j
             WHERE ({condition}) AND d.blocked = 0 AND d.template IS NOT ?{}
               AND j.key NOT IN (SELECT value FROM json_each(?{at}))
             GROUP BY j.key ORDER BY count(*) DESC, j.key LIMIT {STRAYS_NAMED}",
            self.source(),
            at - 1
        );
        let mut statement = self.connection.prepare(&text)?;
        let mut rows = statement.query(rusqlite::params_from_iter(params))?;
        let mut strays = Strays::default();
        while let Some(row) = rows.next()? {
            strays.names.push((row.get(0)?, row.get(1)?));
            // The count is over all groups, also those beyond the limit.
            strays.more = row.get::<_, u64>(2)? - strays.names.len() as u64;
        }
        Ok(strays)
    }

    /// Returns the condition of a request as SQL over the alias `d`: which devices it selects.
    pub(super) fn condition(&self, request: &Request) -> rusqlite::Result<Condition> {
        Condition::of(request, self)
    }

    fn fill_wanted(&self, ids: &[String]) -> rusqlite::Result<()> {
        self.connection.execute_batch(
            "CREATE TEMP TABLE IF NOT EXISTS wanted (device_id TEXT PRIMARY KEY) WITHOUT ROWID;
             DELETE FROM temp.wanted;",
        )?;
        let mut insert = self.connection.prepare_cached("INSERT OR IGNORE INTO temp.wanted VALUES (?1)")?;
        for id in ids {
            insert.execute([id])?;
        }
        Ok(())
    }
}

impl Sets for SqliteStore {
    type Error = rusqlite::Error;

    fn dialect(&self) -> &'static dyn Dialect {
        &Sqlite
    }

    fn kept(&self, text: &str) -> String {
        text.to_string()
    }

    fn listed(&self, ids: &[String], _params: &mut Vec<Param>) -> rusqlite::Result<String> {
        self.fill_wanted(ids)?;
        Ok("d.device_id IN (SELECT device_id FROM temp.wanted)".to_string())
    }

    /// A temporary table with this number holds the ids of the matching devices.
    fn checked(&self, query: &Query, number: usize, _params: &mut Vec<Param>) -> rusqlite::Result<String> {
        let table = self.fill_checked(query, number)?;
        Ok(format!("d.device_id IN (SELECT device_id FROM {table})"))
    }
}

impl DeviceRow for Row<'_> {
    type Error = rusqlite::Error;

    fn is_blocked(&self) -> rusqlite::Result<bool> {
        self.get(STATE - 2)
    }

    fn unfit(&self) -> rusqlite::Result<Option<&str>> {
        self.get_ref(STATE - 1)?.text_or_null()
    }

    fn value(&self, at: usize) -> rusqlite::Result<Option<&str>> {
        self.get_ref(STATE + 1 + at)?.text_or_null()
    }

    fn read(&self, at: usize, text: &str) -> rusqlite::Result<Value> {
        serde_json::from_str(text).map_err(|_| super::rows::malformed(STATE + 1 + at, text))
    }
}

fn touched_columns(touched: &Touched) -> Vec<String> {
    match touched {
        Touched::Nothing => Vec::new(),
        // Names are quoted as JSON so that every column holds JSON text or NULL.
        Touched::Template { .. } => vec!["nullif(json_quote(d.template), 'null')".to_string()],
        Touched::EdgeManifest { .. } => {
            let columns = ["edge_manifest", "edge_manifest_digest"];
            columns.iter().map(|column| format!("nullif(json_quote(d.{column}), 'null')")).collect()
        }
        Touched::Sections { assignments, marks } => {
            let value_of = |(section, one): &(Section, Assignment)| {
                let value = json_at(&format!("d.{}", section_column(*section)), &one.path);
                match marks.templates_at(*section, &one.path) {
                    Some(templates) => marked_at(&value, templates, &one.value),
                    None => value,
                }
            };
            assignments.iter().map(value_of).collect()
        }
    }
}

/// Returns SQL for the JSON text at a path of a column, NULL where it is absent.
fn json_at(column: &str, path: &[String]) -> String {
    let is_plain = |key: &String| key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    if path.iter().all(is_plain) {
        let keys: String = path.iter().map(|key| format!(".\"{key}\"")).collect();
        return format!("{column} -> '${keys}'");
    }
    let keys = Value::from(path.to_vec()).to_string().replace('\'', "''");
    format!("fleetform_json_at({column}, '{keys}')")
}

/// Returns SQL for the mark of a component: `found` on devices of the templates that have it, and what is wanted on all
/// others, which so need no change. No name of a template has a quote.
fn marked_at(found: &str, templates: &BTreeSet<Name>, wanted: &Value) -> String {
    let names: Vec<String> = templates.iter().map(|name| format!("'{name}'")).collect();
    format!("iif(d.template IN ({}), {found}, '{wanted}')", names.join(", "))
}

/// Registers `fleetform_json_at(json, keys)`: for keys that a JSON path of SQLite cannot spell, such as those with a
/// quote.
pub(super) fn register_functions(connection: &rusqlite::Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("fleetform_json_at", 2, flags, |context| {
        let (json, keys): (String, String) = (context.get(0)?, context.get(1)?);
        let malformed = |_| rusqlite::Error::UserFunctionError("malformed JSON".into());
        let mut value: Value = serde_json::from_str(&json).map_err(malformed)?;
        let keys: Vec<String> = serde_json::from_str(&keys).map_err(malformed)?;
        for key in keys {
            match value.get_mut(&key) {
                Some(inner) => value = inner.take(),
                None => return Ok(None),
            }
        }
        Ok(Some(value.to_string()))
    })
}
