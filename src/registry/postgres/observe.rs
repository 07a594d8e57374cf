//! What the planner sees: the ids of a selection in order, and the values of its devices at the paths that a job
//! touches. Each question is answered out of one snapshot.

use std::collections::BTreeSet;

use serde_json::Value;
use tokio_postgres::Row;

use super::super::bounds::{Bounds, Condition, Sets};
use super::super::devices::section_column;
use super::super::entries::{DeviceRow, EntryTable, Unfit, unfit_of};
use super::super::sql::postgres::Postgres;
use super::super::sql::{Dialect, Param};
use super::super::{RegistryError, Request, STRAYS_NAMED, Selection, Tally, Touched};
use super::PostgresStore;
use super::connection::{Connection, bound};
use super::fault::Fault;
use super::json::{read, read_text, stored, stored_text};
use super::residual::ids_of;
use super::rows::{malformed, number_of};
use crate::model::id::Name;
use crate::model::observation::{Observation, Strays};
use crate::model::patch::{Assignment, Section};
use crate::query::Query;

impl PostgresStore {
    pub(super) fn observation(&self, request: &Request) -> Result<Observation, RegistryError> {
        self.read("find the devices of a job", |connection| {
            connection.in_snapshot(|| self.observe(connection, request))
        })
    }

    pub(super) fn tally(&self, request: &Request) -> Result<Tally, RegistryError> {
        self.read("count devices", |connection| connection.in_snapshot(|| self.count(connection, request)))
    }

    pub(super) fn all_selected(&self, request: &Request) -> Result<bool, RegistryError> {
        let look = |connection: &Connection| {
            let Condition { sql, params } = self.condition(connection, request)?;
            let text = format!("SELECT NOT EXISTS (SELECT FROM {} AS d WHERE ({sql}) IS NOT TRUE)", self.source());
            Ok(connection.one(&text, &bound(&params))?.try_get(0)?)
        };
        self.read("count devices", |connection| connection.in_snapshot(|| look(connection)))
    }

    /// Returns the condition of a request as SQL over the alias `d`: which devices it selects. Sound in the snapshot in
    /// which it is made.
    pub(super) fn condition(&self, connection: &Connection, request: &Request) -> Result<Condition, Fault> {
        Condition::of(request, &self.reading(connection))
    }

    fn reading<'a>(&self, connection: &'a Connection) -> Reading<'a> {
        Reading { connection, source: self.source() }
    }

    fn count(&self, connection: &Connection, request: &Request) -> Result<Tally, Fault> {
        let bounds = Bounds::of(request, &self.reading(connection))?;
        let sums = (1..=request.passed_over.len()).map(|at| format!(", coalesce(sum((state >> {at}) & 1), 0)::bigint"));
        let text = format!(
            "SELECT count(*) FILTER (WHERE state = 0){} FROM (SELECT ({})::bigint AS state FROM {} AS d WHERE {}) AS s",
            sums.collect::<String>(),
            bounds.state(),
            self.source(),
            bounds.condition()
        );
        let row = connection.one(&text, &bound(&bounds.params))?;
        let passed_over = (1..=request.passed_over.len()).map(|at| number_of(&row, at)).collect::<Result<_, _>>()?;
        Ok(Tally { selected: number_of(&row, 0)?, passed_over })
    }

    /// Answers a request with one scan. The row of a selected device has state 0, that of a device that is passed over
    /// has a bit for each entry of `passed_over` that counts it.
    fn observe(&self, connection: &Connection, request: &Request) -> Result<Observation, Fault> {
        let bounds = Bounds::of(request, &self.reading(connection))?;
        let layout = Layout::of(request, &bounds);
        let text = format!(
            "SELECT {} FROM {} AS d WHERE {} ORDER BY d.device_id",
            layout.columns.join(", "),
            self.source(),
            bounds.condition()
        );
        let mut table = EntryTable::new(request);
        let mut found = Observation { passed_over: vec![0; request.passed_over.len()], ..Observation::default() };
        connection.stream(&text, bound(&bounds.params), |row| {
            let state: i64 = layout.state.map_or(Ok(0), |at| row.try_get(at))?;
            if state == 0 {
                found.ids.push(row.try_get(0)?);
                found.before.push(table.index_of(&Observed { row, layout: &layout })?);
                return Ok(());
            }
            let state = state.cast_unsigned();
            found.passed_over.iter_mut().enumerate().for_each(|(at, count)| *count += (state >> (at + 1)) & 1);
            Ok(())
        })?;
        found.table = table.into_entries();
        if let Selection::Listed(ids) = &request.selection {
            found.missing = ids.iter().filter(|id| found.ids.find(id).is_none()).cloned().collect();
        }
        if let Touched::Template { wanted, desired_names } = &request.touched {
            found.strays = self.strays(connection, request, wanted, desired_names)?;
        }
        Ok(found)
    }

    /// Counts the top-level desired properties of the devices that are to get another template, but for those that have
    /// a place in it.
    fn strays(
        &self,
        connection: &Connection,
        request: &Request,
        wanted: &str,
        names: &BTreeSet<String>,
    ) -> Result<Strays, Fault> {
        let Condition { sql: condition, mut params } = self.condition(connection, request)?;
        params.push(Param::Text(stored_text(wanted).into_owned()));
        params.push(Param::Texts(names.iter().map(|name| stored_text(name).into_owned()).collect()));
        let at = params.len();
        let text = format!(
            "SELECT j.key, count(*), count(*) OVER ()
             FROM {} AS d, jsonb_object_keys(CASE jsonb_typeof(d.desired) WHEN 'object' THEN d.desired ELSE '{{}}' END)
                      AS j (key)
             WHERE ({condition}) AND NOT d.blocked AND d.template IS DISTINCT FROM ${}::text
               AND j.key NOT IN (SELECT unnest(${at}::text[]))
             GROUP BY j.key ORDER BY count(*) DESC, j.key COLLATE \"C\" LIMIT {STRAYS_NAMED}",
            self.source(),
            at - 1
        );
        let mut strays = Strays::default();
        for row in connection.rows(&text, &bound(&params))? {
            strays.names.push((read_text(row.try_get(0)?), number_of(&row, 1)?));
            // The count is over all groups, also those beyond the limit.
            strays.more = number_of::<u64>(&row, 2)? - strays.names.len() as u64;
        }
        Ok(strays)
    }
}

/// Reading devices over a connection.
struct Reading<'a> {
    connection: &'a Connection,
    /// The table or view that has them.
    source: &'static str,
}

/// A set is a parameter and no temporary table, which cannot be made in a snapshot that only reads. As a query within
/// the query it is hashed, also by a plan that does not know how many there are.
impl Sets for Reading<'_> {
    type Error = Fault;

    fn dialect(&self) -> &'static dyn Dialect {
        &Postgres
    }

    fn kept(&self, text: &str) -> String {
        stored_text(text).into_owned()
    }

    fn listed(&self, ids: &[String], params: &mut Vec<Param>) -> Result<String, Fault> {
        params.push(Param::Texts(ids.iter().map(|id| stored_text(id).into_owned()).collect()));
        Ok(format!("d.device_id IN (SELECT unnest(${}::text[]))", params.len()))
    }

    fn checked(&self, query: &Query, _number: usize, params: &mut Vec<Param>) -> Result<String, Fault> {
        let ids = ids_of(self.connection, self.source, query)?;
        params.push(Param::Texts(ids));
        Ok(format!("d.device_id IN (SELECT unnest(${}::text[]))", params.len()))
    }
}

/// The columns of an observation: the id, whether the device is blocked, and what else a request asks for. Two columns
/// that nobody needs would cost a tenth of the time.
struct Layout {
    columns: Vec<String>,
    /// The column that tells what may not fit the job.
    unfit: Option<usize>,
    /// The column that says whether the device is selected.
    state: Option<usize>,
    /// The first column of a value; those that follow are of values too.
    values: usize,
}

impl Layout {
    fn of(request: &Request, bounds: &Bounds) -> Layout {
        let mut columns = vec!["d.device_id".to_string(), "d.blocked".to_string()];
        let mut add = |column: String| {
            columns.push(column);
            columns.len() - 1
        };
        let unfit = match unfit_of(request) {
            Unfit::NotEdge => Some(add("CASE WHEN d.iot_edge THEN NULL ELSE '' END".to_string())),
            Unfit::Template => Some(add("d.template".to_string())),
            Unfit::Nothing => None,
        };
        let state = (!request.passed_over.is_empty()).then(|| add(format!("({})::bigint", bounds.state())));
        let values = columns.len();
        columns.extend(touched_columns(&request.touched));
        Layout { columns, unfit, state, values }
    }
}

/// A row of an observation.
struct Observed<'a> {
    row: &'a Row,
    layout: &'a Layout,
}

impl DeviceRow for Observed<'_> {
    type Error = Fault;

    fn is_blocked(&self) -> Result<bool, Fault> {
        Ok(self.row.try_get(1)?)
    }

    fn unfit(&self) -> Result<Option<&str>, Fault> {
        Ok(self.layout.unfit.map(|at| self.row.try_get(at)).transpose()?.flatten())
    }

    fn value(&self, at: usize) -> Result<Option<&str>, Fault> {
        Ok(self.row.try_get(self.layout.values + at)?)
    }

    fn read(&self, _at: usize, text: &str) -> Result<Value, Fault> {
        read(text).map_err(|_| malformed(text))
    }
}

/// Returns SQL for the texts of the touched values, NULL where they are absent.
fn touched_columns(touched: &Touched) -> Vec<String> {
    match touched {
        Touched::Nothing => Vec::new(),
        // As JSON, so that every column holds the text of JSON or NULL.
        Touched::Template { .. } => vec!["to_jsonb(d.template)::text".to_string()],
        Touched::EdgeManifest { .. } => {
            ["edge_manifest", "edge_manifest_digest"].map(|column| format!("to_jsonb(d.{column})::text")).to_vec()
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
    let keys = path.iter().map(|key| format!(" -> {}", literal(&stored_text(key))));
    format!("({column}{})::text", keys.collect::<String>())
}

/// Returns SQL for the mark of a component: `found` on devices of the templates that have it, and what is wanted on all
/// others, which so need no change.
fn marked_at(found: &str, templates: &BTreeSet<Name>, wanted: &Value) -> String {
    let names: Vec<String> = templates.iter().map(|name| literal(name.as_str())).collect();
    let wanted = literal(&stored(wanted));
    format!("CASE WHEN d.template IN ({}) THEN {found} ELSE ({wanted}::jsonb)::text END", names.join(", "))
}

/// Returns a text as SQL writes it.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
