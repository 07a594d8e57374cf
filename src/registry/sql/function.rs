//! The SQL function that runs the reference semantics on the columns of a row.

use std::collections::BTreeSet;

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use serde_json::Value;

use super::FUNCTION;
use crate::model::device::DeviceState;
use crate::query::ast::{Expr, Number, PathRef, Root};
use crate::query::{self, Answer};

/// A column that queries read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    DeviceId,
    DeviceName,
    Template,
    Organization,
    State,
    ConnectionState,
    LastActivity,
    Blocked,
    Simulated,
    IotEdge,
    DesiredVersion,
    ReportedVersion,
    Tags,
    Cloud,
    Desired,
    Reported,
}

impl Column {
    /// Returns the column that holds a root; `None` for roots that are always undefined.
    pub(super) fn of(root: Root) -> Option<Column> {
        match root {
            Root::DeviceId => Some(Column::DeviceId),
            Root::DeviceName => Some(Column::DeviceName),
            Root::Template => Some(Column::Template),
            Root::Organization => Some(Column::Organization),
            Root::ConnectionState => Some(Column::ConnectionState),
            Root::LastActivityTime => Some(Column::LastActivity),
            Root::Status | Root::Blocked => Some(Column::Blocked),
            Root::Simulated => Some(Column::Simulated),
            Root::IotEdge => Some(Column::IotEdge),
            Root::Provisioned => Some(Column::State),
            Root::Tags => Some(Column::Tags),
            Root::Cloud => Some(Column::Cloud),
            Root::Desired => Some(Column::Desired),
            Root::Reported => Some(Column::Reported),
            Root::DesiredVersion => Some(Column::DesiredVersion),
            Root::ReportedVersion => Some(Column::ReportedVersion),
            Root::ModuleId | Root::Configurations => None,
        }
    }

    /// Returns the column's name.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Column::DeviceId => "device_id",
            Column::DeviceName => "device_name",
            Column::Template => "template",
            Column::Organization => "organization",
            Column::State => "state",
            Column::ConnectionState => "connection_state",
            Column::LastActivity => "last_activity",
            Column::Blocked => "blocked",
            Column::Simulated => "simulated",
            Column::IotEdge => "iot_edge",
            Column::DesiredVersion => "desired_version",
            Column::ReportedVersion => "reported_version",
            Column::Tags => "tags",
            Column::Cloud => "cloud",
            Column::Desired => "desired",
            Column::Reported => "reported",
        }
    }
}

/// Returns the columns that an expression reads, sorted, without duplicates: the function's arguments after the first.
pub(super) fn columns(expr: &Expr) -> Vec<Column> {
    let found: BTreeSet<Column> = query::paths_of(expr).iter().filter_map(|path| Column::of(path.root)).collect();
    found.into_iter().collect()
}

/// Registers what the SQL of [`lower`](super::lower) calls. Once for each connection that runs it.
///
/// # Errors
/// When SQLite refuses, such as while a statement is running.
pub fn register_functions(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function(FUNCTION, -1, flags, condition)
}

/// A part of a query, parsed once for each statement.
struct Part {
    expr: Expr,
    columns: Vec<Column>,
}

/// A column of the current row.
enum Cell<'a> {
    Missing,
    Integer(i64),
    Text(&'a str),
    Section(Value),
}

type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Returns 1, 0 or NULL: the part is true, false or undefined for the row.
fn condition(context: &Context<'_>) -> rusqlite::Result<Option<bool>> {
    let part = context.get_or_create_aux(0, |text| -> Result<Part, BoxError> {
        let expr = query::parse_part(text.as_str()?).ok_or("the argument is not a part of a checked query")?;
        let columns = columns(&expr);
        Ok(Part { expr, columns })
    })?;
    if context.len() != part.columns.len() + 1 {
        return Err(rusqlite::Error::InvalidParameterCount(context.len(), part.columns.len() + 1));
    }
    let mut row = Vec::with_capacity(part.columns.len());
    for (at, column) in part.columns.iter().enumerate() {
        let cell = read_cell(*column, context.get_raw(at + 1));
        row.push((*column, cell.map_err(rusqlite::Error::UserFunctionError)?));
    }
    match query::evaluate_with(&part.expr, &|path| row_value(path, &row)) {
        Answer::Bool(value) => Ok(Some(value)),
        Answer::Undefined
        | Answer::Null
        | Answer::Number(_)
        | Answer::String(_)
        | Answer::Array { .. }
        | Answer::Object => Ok(None),
    }
}

fn read_cell(column: Column, raw: ValueRef<'_>) -> Result<Cell<'_>, BoxError> {
    let cell = match raw {
        ValueRef::Null => return Ok(Cell::Missing),
        ValueRef::Integer(integer) => Cell::Integer(integer),
        ValueRef::Text(_) => Cell::Text(raw.as_str()?),
        ValueRef::Real(_) | ValueRef::Blob(_) => return Err("no column of a device is a float or a blob".into()),
    };
    match (column, cell) {
        (Column::Tags | Column::Cloud | Column::Desired | Column::Reported, Cell::Text(json)) => {
            Ok(Cell::Section(serde_json::from_str(json)?))
        }
        (_, cell) => Ok(cell),
    }
}

fn row_value<'a>(path: &PathRef, row: &'a [(Column, Cell<'a>)]) -> Answer<'a> {
    let column = Column::of(path.root);
    let Some((_, cell)) = row.iter().find(|(candidate, _)| Some(*candidate) == column) else {
        return Answer::Undefined;
    };
    match (path.root, cell) {
        (_, Cell::Missing) => Answer::Undefined,
        (_, Cell::Section(section)) => query::json_value(section, &path.keys),
        (Root::Status, Cell::Integer(blocked)) => Answer::String(query::status(*blocked != 0).into()),
        (Root::DesiredVersion | Root::ReportedVersion, Cell::Integer(version)) => {
            Answer::Number(Number::Integer(*version))
        }
        (Root::Provisioned, Cell::Text(state)) => Answer::Bool(*state == DeviceState::Provisioned.as_str()),
        (_, Cell::Integer(bit)) => Answer::Bool(*bit != 0),
        (_, Cell::Text(text)) => Answer::String((*text).into()),
    }
}
