//! Indexes for the conditions that a fleet declares: one for each path that they search by.
//!
//! The catalog of the database is the only record of them; the comment on an index is its path. They are made and
//! dropped while others read and write, so each takes several transactions, and one that came to nothing is left behind
//! as invalid: it is dropped by who wants to make it the next time. Indexes change the cost of a search and nothing
//! else, so a plan does not depend on them.

use std::collections::BTreeMap;

use super::super::path_indexes::{PREFIX, PathIndex, chosen, name_of};
use super::super::sql::postgres::{IndexSql, index_sql};
use super::super::{Fence, IndexChanges, RegistryError};
use super::PostgresStore;
use super::connection::{Connection, SCHEMA};
use super::fault::Fault;
use super::json::{read_text, stored_text};
use crate::query::PathRef;

/// Statistics are renewed when more than one device in this many may have changed. The server does it by itself too, a
/// minute later.
const STALE_SHARE: u64 = 10;
/// The lock of who makes indexes: "fleetix" as a number. Two of them would wait for each other.
const INDEX_LOCK: i64 = 0x66_6c65_6574_6978;

impl PostgresStore {
    /// Makes the indexes for paths, the more wanted ones first, and drops those for others, while everybody goes on
    /// reading and writing. Takes statistics when `changed` devices are many.
    pub(super) fn make_indexes(
        &mut self,
        fence: Fence,
        wanted: &[PathRef],
        changed: u64,
    ) -> Result<IndexChanges, RegistryError> {
        // Whoever lost the right to work makes none.
        self.in_transaction("make indexes", fence, &mut |_| Ok(()))?;
        self.visit("make indexes", |connection| {
            let locked = connection.one("SELECT pg_try_advisory_lock($1)", &[&INDEX_LOCK])?;
            if !locked.try_get(0)? {
                return Err(Fault::Registry(RegistryError::Locked { location: self.settings.location.clone() }));
            }
            let made = carry_out(connection, wanted, changed, "CONCURRENTLY");
            connection.one("SELECT pg_advisory_unlock($1)", &[&INDEX_LOCK])?;
            made
        })
    }
}

/// Returns what would be made and dropped.
pub(super) fn planned(connection: &Connection, wanted: &[PathRef]) -> Result<IndexChanges, Fault> {
    Ok(Plan::of(connection, wanted)?.changes())
}

/// Makes and drops indexes as a part of a transaction, which holds up those who write.
pub(super) fn make(connection: &Connection, wanted: &[PathRef], changed: u64) -> Result<IndexChanges, Fault> {
    carry_out(connection, wanted, changed, "")
}

/// `how` is `CONCURRENTLY` or nothing.
fn carry_out(connection: &Connection, wanted: &[PathRef], changed: u64, how: &str) -> Result<IndexChanges, Fault> {
    let plan = Plan::of(connection, wanted)?;
    for name in plan.dropped() {
        connection.batch(&format!("DROP INDEX {how} IF EXISTS {SCHEMA}.{name}"))?;
    }
    for index in plan.made() {
        let PathIndex { path, name, statement } = index;
        connection.batch(&format!("CREATE INDEX {how} IF NOT EXISTS {name} {statement}"))?;
        let path = stored_text(path).replace('\'', "''");
        connection.batch(&format!("COMMENT ON INDEX {SCHEMA}.{name} IS '{path}'"))?;
    }
    // Without statistics of the expression the server would take an index even where nearly every device matches.
    if plan.made().next().is_some() || is_stale(connection, changed)? {
        connection.batch(&format!("ANALYZE {SCHEMA}.device"))?;
    }
    Ok(plan.changes())
}

/// What is wanted, and what is there.
struct Plan {
    indexes: Vec<PathIndex>,
    left_out: Vec<String>,
    /// By name.
    present: BTreeMap<String, Present>,
}

/// An index that is there.
struct Present {
    path: Option<String>,
    is_valid: bool,
}

impl Plan {
    fn of(connection: &Connection, wanted: &[PathRef]) -> Result<Plan, Fault> {
        let (indexes, left_out) = chosen(wanted, index_of);
        let text = format!(
            "SELECT c.relname::text, obj_description(c.oid, 'pg_class'), i.indisvalid
             FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
             WHERE i.indrelid = '{SCHEMA}.device'::regclass AND starts_with(c.relname::text, '{PREFIX}')"
        );
        let mut present = BTreeMap::new();
        for row in connection.rows(&text, &[])? {
            let path: Option<String> = row.try_get(1)?;
            present.insert(row.try_get(0)?, Present { path: path.map(read_text), is_valid: row.try_get(2)? });
        }
        Ok(Plan { indexes, left_out, present })
    }

    fn made(&self) -> impl Iterator<Item = &PathIndex> {
        self.indexes.iter().filter(|index| !self.present.get(&index.name).is_some_and(|one| one.is_valid))
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.indexes.iter().any(|index| index.name == name)
    }

    /// Returns the names of those that are dropped: nobody wants them, or they are of no use.
    fn dropped(&self) -> impl Iterator<Item = &String> {
        self.present.iter().filter(|(name, one)| !one.is_valid || !self.is_wanted(name)).map(|(name, _)| name)
    }

    fn changes(&self) -> IndexChanges {
        let unwanted = self.present.iter().filter(|(name, _)| !self.is_wanted(name));
        IndexChanges {
            make: self.made().map(|index| index.path.clone()).collect(),
            drop: unwanted.map(|(name, one)| one.path.clone().unwrap_or_else(|| name.clone())).collect(),
            left_out: self.left_out.clone(),
        }
    }
}

/// The statement lacks its beginning: how it is made, and its name.
fn index_of(path: &PathRef) -> Option<PathIndex> {
    let IndexSql { expression, predicate } = index_sql(path)?;
    let statement = format!("ON {SCHEMA}.device ({expression}) WHERE {predicate}");
    Some(PathIndex { path: path.to_string(), name: name_of(&statement), statement })
}

fn is_stale(connection: &Connection, changed: u64) -> Result<bool, Fault> {
    if changed == 0 {
        return Ok(false);
    }
    let text = format!("SELECT reltuples::bigint FROM pg_class WHERE oid = '{SCHEMA}.device'::regclass");
    // Negative when nobody has ever counted.
    let rows: i64 = connection.one(&text, &[])?.try_get(0)?;
    Ok(changed.saturating_mul(STALE_SHARE) > u64::try_from(rows).unwrap_or(0))
}
