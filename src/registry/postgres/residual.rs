//! Conditions that SQL cannot express exactly: `query::matches` checks the devices that they let through again.

use super::super::sql;
use super::super::sql::postgres::Postgres;
use super::connection::{Connection, bound};
use super::fault::Fault;
use super::rows::{DEVICE_COLUMNS, device_of_row};
use crate::query::{self, Query, Root};

/// The sections of a twin, and how [`DEVICE_COLUMNS`] reads them.
const SECTIONS: [(Root, &str); 4] = [
    (Root::Tags, "d.tags::text"),
    (Root::Cloud, "d.cloud::text"),
    (Root::Desired, "d.desired::text"),
    (Root::Reported, "d.reported::text"),
];

/// Returns the ids, as they are kept, of the devices of a table that meet a condition, in no order.
pub(super) fn ids_of(connection: &Connection, source: &str, query: &Query) -> Result<Vec<String>, Fault> {
    let lowered = sql::lower(query, "d", 1, &Postgres);
    let text = format!("SELECT {} FROM {source} AS d WHERE {}", columns(query), lowered.sql);
    let mut ids = Vec::new();
    connection.stream(&text, bound(&lowered.params), |row| {
        if query::matches(query, &device_of_row(row)?) {
            ids.push(row.try_get(0)?);
        }
        Ok(())
    })?;
    Ok(ids)
}

/// Returns the columns of a device, without the sections that the condition does not read.
fn columns(query: &Query) -> String {
    let read = query::paths(query);
    let unread = SECTIONS.iter().filter(|(root, _)| !read.iter().any(|path| path.root == *root));
    unread.fold(DEVICE_COLUMNS.to_string(), |columns, (_, column)| columns.replace(column, "'{}'"))
}
