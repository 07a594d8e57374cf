//! What the planner sees: the ids of a selection in order, and the values of its devices at the paths that a job
//! touches.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::functions::FunctionFlags;
use serde_json::Value;

use super::super::sql::sqlite::Sqlite;
use super::super::sql::{self, Param};
use super::super::{RegistryError, Request, Selection, Tally, Touched};
use super::SqliteStore;
use super::rows::TextOrNull as _;
use crate::model::id::Name;
use crate::model::observation::{Before, Mismatch, Observation, Strays};
use crate::model::patch::{Assignment, Section};
use crate::query::Query;

/// The most distinct entries before values that are not as desired become "(various)", so that memory stays bounded
/// when every device has a value of its own.
const TABLE_MAX: usize = 4_096;
/// The most stray properties that are named.
const STRAYS_NAMED: usize = 5;
/// The column of a row that says whether its device is selected.
const STATE: usize = 3;
/// Stands for values that are no longer told apart.
const VARIOUS: &str = "(various)";

impl SqliteStore {
    pub(super) fn observation(&self, request: &Request) -> Result<Observation, RegistryError> {
        self.observe_rows(request).map_err(|e| self.error("find the devices of a job", e))
    }

    pub(super) fn tally(&self, request: &Request) -> Result<Tally, RegistryError> {
        self.count_rows(request).map_err(|e| self.error("count devices", e))
    }

    pub(super) fn all_selected(&self, request: &Request) -> Result<bool, RegistryError> {
        let look = || {
            let Bounds { within, selected, params, .. } = self.bounds(request)?;
            let text = format!(
                "SELECT NOT EXISTS (SELECT 1 FROM {} AS d WHERE ({within} AND {selected}) IS NOT TRUE)",
                self.source()
            );
            self.connection.query_row(&text, rusqlite::params_from_iter(params), |row| row.get(0))
        };
        look().map_err(|e| self.error("count devices", e))
    }

    fn count_rows(&self, request: &Request) -> rusqlite::Result<Tally> {
        let bounds = self.bounds(request)?;
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
        let bounds = self.bounds(request)?;
        let list: String = columns.iter().map(|column| format!(", {column}")).collect();
        let mismatches = mismatches_of(request);
        let mismatch = match &request.touched {
            Touched::EdgeManifest { .. } => "iif(d.iot_edge, NULL, '')",
            _ if mismatches.is_empty() => "NULL",
            _ => "d.template",
        };
        let text = format!(
            "SELECT d.device_id, d.blocked, {mismatch}, {}{list} FROM {} AS d WHERE {} ORDER BY d.device_id",
            bounds.state(),
            self.source(),
            bounds.condition()
        );
        let mut statement = self.connection.prepare(&text)?;
        let mut rows = statement.query(rusqlite::params_from_iter(&bounds.params))?;
        let wanted = wanted_values(&request.touched);
        let mut table = EntryTable::new(&wanted, &mismatches);
        let mut found = Observation { passed_over: vec![0; request.passed_over.len()], ..Observation::default() };
        while let Some(row) = rows.next()? {
            let state: u64 = row.get(STATE)?;
            if state == 0 {
                found.ids.push(row.get_ref(0)?.as_str()?);
                found.before.push(table.index_of(row, columns.len())?);
                continue;
            }
            found.passed_over.iter_mut().enumerate().for_each(|(at, count)| *count += (state >> (at + 1)) & 1);
        }
        found.table = table.entries;
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
        let Bounds { within, selected, params, .. } = self.bounds(request)?;
        Ok(Condition { sql: format!("{within} AND {selected}"), params })
    }

    fn bounds(&self, request: &Request) -> rusqlite::Result<Bounds> {
        let mut within: Vec<String> = Vec::new();
        let mut params: Vec<Param> = Vec::new();
        for path in &request.within {
            params.push(Param::Text(path.clone()));
            params.push(Param::Text(format!("{path}/")));
            params.push(Param::Text(format!("{path}0")));
            let at = params.len();
            // `0` is the character after `/`: everything that starts with "path/" lies between them.
            let below = format!("(d.organization >= ?{} AND d.organization < ?{at})", at - 1);
            within.push(format!("(d.organization = ?{} OR {below})", at - 2));
        }
        let mut lowered = 0;
        let mut lower = |conditions: &[Query], params: &mut Vec<Param>| -> rusqlite::Result<String> {
            let mut terms = Vec::new();
            for query in conditions {
                lowered += 1;
                terms.push(self.term(query, lowered, params)?);
            }
            Ok(all_of(&terms))
        };
        let selected = match &request.selection {
            Selection::Listed(ids) => {
                self.fill_wanted(ids)?;
                "d.device_id IN (SELECT device_id FROM temp.wanted)".to_string()
            }
            Selection::Matching { template, conditions } => {
                if let Some(template) = template {
                    params.push(Param::Text(template.clone()));
                    within.push(format!("d.template = ?{}", params.len()));
                }
                lower(conditions, &mut params)?
            }
        };
        let passed_over: rusqlite::Result<Vec<String>> =
            request.passed_over.iter().map(|conditions| lower(conditions, &mut params)).collect();
        Ok(Bounds { within: all_of(&within), selected, passed_over: passed_over?, params })
    }

    /// Returns a condition as a term over the alias `d`. For a condition that SQL cannot express exactly, a temporary
    /// table with this number holds the ids of the matching devices.
    fn term(&self, query: &Query, number: usize, params: &mut Vec<Param>) -> rusqlite::Result<String> {
        let lowered = sql::lower(query, "d", params.len() + 1, &Sqlite);
        if lowered.is_exact {
            params.extend(lowered.params);
            return Ok(format!("({})", lowered.sql));
        }
        let table = self.fill_checked(query, number)?;
        Ok(format!("d.device_id IN (SELECT device_id FROM {table})"))
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

/// A condition over the alias `d`, with its parameters.
pub(super) struct Condition {
    pub sql: String,
    pub params: Vec<Param>,
}

/// The parts of a request as SQL over the alias `d`. Each is safe beside AND and OR.
struct Bounds {
    /// The organizations and the template of its devices.
    within: String,
    /// The devices that are selected among those.
    selected: String,
    /// The other devices that are counted.
    passed_over: Vec<String>,
    params: Vec<Param>,
}

impl Bounds {
    /// Returns which rows are read.
    fn condition(&self) -> String {
        let Bounds { within, selected, passed_over, .. } = self;
        let others: String = passed_over.iter().map(|one| format!(" OR {one}")).collect();
        format!("{within} AND ({selected}{others})")
    }

    /// Returns the state of a row: 0 when it is selected, else a bit for each question that it answers, from the second
    /// bit on.
    fn state(&self) -> String {
        if self.passed_over.is_empty() {
            return "0".to_string();
        }
        let bits = self.passed_over.iter().enumerate();
        let bits: String = bits.map(|(at, one)| format!(" + iif({one}, {}, 0)", 2_u64 << at)).collect();
        format!("CASE WHEN {} THEN 0 ELSE 0{bits} END", self.selected)
    }
}

/// Joins terms by AND.
fn all_of(terms: &[String]) -> String {
    match terms {
        [] => "1".to_string(),
        [term] => term.clone(),
        terms => format!("({})", terms.join(" AND ")),
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
        Touched::Section { section, assignments, marks } => {
            let column = match section {
                Section::Tags => "tags",
                Section::Cloud => "cloud",
                Section::Desired => "desired",
                Section::Reported => "reported",
            };
            let column = format!("d.{column}");
            let value_of = |one: &Assignment| match marks.templates_at(&one.path) {
                Some(templates) => marked_at(&json_at(&column, &one.path), templates, &one.value),
                None => json_at(&column, &one.path),
            };
            assignments.iter().map(value_of).collect()
        }
    }
}

fn wanted_values(touched: &Touched) -> Vec<Assignment> {
    let one = |text: &str| Assignment { path: Vec::new(), value: Value::String(text.to_string()) };
    match touched {
        Touched::Nothing => Vec::new(),
        Touched::Template { wanted, .. } => vec![one(wanted)],
        Touched::EdgeManifest { wanted, digest } => vec![one(wanted), one(&digest.to_string())],
        Touched::Section { assignments, .. } => assignments.clone(),
    }
}

/// Distinct entries, found again by the bytes of their columns.
struct EntryTable<'a> {
    wanted: &'a [Assignment],
    mismatches: &'a BTreeMap<String, Mismatch>,
    entries: Vec<Before>,
    by_key: BTreeMap<Vec<u8>, u32>,
    key: Vec<u8>,
    last: (Vec<u8>, u32),
}

impl<'a> EntryTable<'a> {
    fn new(wanted: &'a [Assignment], mismatches: &'a BTreeMap<String, Mismatch>) -> EntryTable<'a> {
        EntryTable {
            wanted,
            mismatches,
            entries: Vec::new(),
            by_key: BTreeMap::new(),
            key: Vec::new(),
            last: (Vec::new(), u32::MAX),
        }
    }

    /// Returns the mismatch between a row's device and the job; `None` when the job fits.
    fn mismatch(&self, row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<&'a Mismatch>> {
        let written = row.get_ref(2)?.text_or_null()?;
        Ok(written.and_then(|text| self.mismatches.get(text)))
    }

    /// Returns the index of the entry of a row: column 1 is `blocked`, column 2 what may not fit; the values follow
    /// [`STATE`].
    fn index_of(&mut self, row: &rusqlite::Row<'_>, values: usize) -> rusqlite::Result<u32> {
        self.key.clear();
        self.key.push(u8::from(row.get_ref(1)?.as_i64()? != 0));
        let mismatch = self.mismatch(row)?;
        push_mismatch(&mut self.key, mismatch);
        for column in STATE + 1..STATE + 1 + values {
            match row.get_ref(column)?.text_or_null()? {
                None => self.key.push(0),
                Some(text) => {
                    self.key.push(1);
                    self.key.extend_from_slice(text.as_bytes());
                    // No JSON text holds a raw control character, so the end is unambiguous.
                    self.key.push(2);
                }
            }
        }
        if self.last.1 != u32::MAX && self.last.0 == self.key {
            return Ok(self.last.1);
        }
        let index = match self.by_key.get(&self.key) {
            Some(index) => *index,
            None => self.add(row, values)?,
        };
        self.last.0.clone_from(&self.key);
        self.last.1 = index;
        Ok(index)
    }

    fn add(&mut self, row: &rusqlite::Row<'_>, values: usize) -> rusqlite::Result<u32> {
        let mismatch = self.mismatch(row)?.cloned();
        let mut entry = Before { blocked: self.key[0] == 1, mismatch, values: Vec::with_capacity(values) };
        for column in STATE + 1..STATE + 1 + values {
            let value = match row.get_ref(column)?.text_or_null()? {
                None => None,
                Some(text) => Some(serde_json::from_str(text).map_err(|_| super::rows::malformed(column, text))?),
            };
            entry.values.push(value);
        }
        let mut key = self.key.clone();
        if self.entries.len() >= TABLE_MAX {
            key = coarse_key(&mut entry, self.wanted);
            if let Some(index) = self.by_key.get(&key) {
                return Ok(*index);
            }
        }
        let index = u32::try_from(self.entries.len()).expect("the table is small");
        self.entries.push(entry);
        self.by_key.insert(key, index);
        Ok(index)
    }
}

/// Returns the mismatches, by the text of the column that may not fit.
fn mismatches_of(request: &Request) -> BTreeMap<String, Mismatch> {
    match &request.touched {
        Touched::EdgeManifest { .. } => BTreeMap::from([(String::new(), Mismatch::NotEdge)]),
        _ => request.mismatching.iter().map(|name| (name.to_string(), Mismatch::Template(name.clone()))).collect(),
    }
}

/// Adds a mismatch to a key, terminated like a value.
fn push_mismatch(key: &mut Vec<u8>, mismatch: Option<&Mismatch>) {
    match mismatch {
        None => {}
        Some(Mismatch::Template(name)) => key.extend_from_slice(name.as_str().as_bytes()),
        // No name has this character.
        Some(Mismatch::NotEdge) => key.push(b'!'),
    }
    key.push(2);
}

/// Replaces values that are not as desired by "(various)", and returns a key that all entries share that are then
/// alike.
fn coarse_key(entry: &mut Before, wanted: &[Assignment]) -> Vec<u8> {
    // Keys of single rows start with 0 or 1.
    let mut key = vec![2, u8::from(entry.blocked)];
    push_mismatch(&mut key, entry.mismatch.as_ref());
    for (value, wanted) in entry.values.iter_mut().zip(wanted) {
        let is_satisfied = wanted.is_satisfied_by(value.as_ref());
        key.push(match (value.is_some(), is_satisfied) {
            (_, true) => 0,
            (false, false) => 1,
            (true, false) => 2,
        });
        if value.is_some() && !is_satisfied {
            *value = Some(Value::String(VARIOUS.to_string()));
        }
    }
    key
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
