//! Indexes for the conditions that a fleet declares: one for each path that they search by.
//!
//! An index holds the value of `json_extract` at a path for each device that has it. Its expression is exactly the one
//! that `sql` lowers a comparison to. SQLite's own list of indexes is the only record of them. Indexes change the cost
//! of a search and nothing else, so a plan does not depend on them.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};

use super::super::IndexChanges;
use super::super::path_indexes::{PREFIX, PathIndex, chosen, name_of};
use super::super::sql::sqlite::index_expression;
use crate::model::limits;
use crate::model::patch::Section;
use crate::query::{PathRef, Root};

/// A write to at least one device in this many is quicker without indexes.
const REMAKE_SHARE: u64 = 4;
/// Statistics are renewed when more than one row in this many may have changed.
const STALE_SHARE: u64 = 10;

/// Returns what [`make`] would do.
pub(super) fn planned(connection: &Connection, wanted: &[PathRef]) -> rusqlite::Result<IndexChanges> {
    let (indexes, left_out) = chosen(wanted, index_of);
    Ok(changes(&indexes, left_out, &present(connection)?))
}

/// Makes the indexes for paths, the more wanted ones first, and drops those for others. Takes statistics of the new
/// ones, and of all when `changed` devices are many: without statistics SQLite would use an index even where nearly
/// every device matches. Writes nothing when there is nothing to do. Returns what was done.
pub(super) fn make(connection: &Connection, wanted: &[PathRef], changed: u64) -> rusqlite::Result<IndexChanges> {
    let (indexes, left_out) = chosen(wanted, index_of);
    let present = present(connection)?;
    let stale = if changed > 0 { stale(connection, &present, changed)? } else { Vec::new() };
    let changes = changes(&indexes, left_out, &present);
    if changes.is_empty() && stale.is_empty() {
        return Ok(changes);
    }
    let is_wanted =
        |name: &str, statement: &str| indexes.iter().any(|index| index.name == name && index.statement == statement);
    let mut analyzed = stale;
    for name in present.iter().filter(|(name, statement)| !is_wanted(name, statement)).map(|(name, _)| name) {
        analyzed.retain(|one| one != name);
        connection.execute_batch(&format!("DROP INDEX main.{name}"))?;
    }
    for index in indexes.iter().filter(|index| present.get(&index.name) != Some(&index.statement)) {
        connection.execute_batch(&index.statement)?;
        analyzed.push(index.name.clone());
    }
    take_statistics(connection, &analyzed, indexes.is_empty())?;
    Ok(changes)
}

/// Drops the indexes over a section, or all, before a write to this many devices, when making them again takes less
/// time than keeping them up to date: when the write has at least [`limits::INDEX_REMAKE_DEVICES_MIN`] devices and they
/// are a good part of the fleet.
pub(super) fn drop_indexes(connection: &Connection, section: Option<Section>, devices: u64) -> rusqlite::Result<()> {
    if devices < limits::INDEX_REMAKE_DEVICES_MIN {
        return Ok(());
    }
    let is_in_the_way = |statement: &String| match (section, parsed(statement)) {
        (Some(section), Some(path)) => path.root.section() == Some(section),
        (None, _) | (_, None) => true,
    };
    let mut present = present(connection)?;
    present.retain(|_, statement| is_in_the_way(statement));
    if present.is_empty() {
        return Ok(());
    }
    let all: u64 = connection.query_row("SELECT count(*) FROM main.device", [], |row| row.get(0))?;
    if devices.saturating_mul(REMAKE_SHARE) < all {
        return Ok(());
    }
    present.keys().try_for_each(|name| connection.execute_batch(&format!("DROP INDEX main.{name}")))
}

fn index_of(path: &PathRef) -> Option<PathIndex> {
    let expression = index_expression(path)?;
    let path = path.to_string();
    let name = name_of(&path);
    // As SQLite keeps it. Devices without the path are left out of the index: every comparison implies that the path
    // exists.
    let statement = format!("CREATE INDEX {name} ON device ({expression}) WHERE {expression} IS NOT NULL");
    Some(PathIndex { path, name, statement })
}

fn changes(indexes: &[PathIndex], left_out: Vec<String>, present: &BTreeMap<String, String>) -> IndexChanges {
    let make = indexes.iter().filter(|index| present.get(&index.name) != Some(&index.statement));
    let is_kept = |name: &String, statement: &String| {
        indexes.iter().any(|index| index.name == *name && index.statement == *statement)
    };
    let drop = present.iter().filter(|(name, statement)| !is_kept(name, statement));
    IndexChanges {
        make: make.map(|index| index.path.clone()).collect(),
        drop: drop
            .map(|(name, statement)| parsed(statement).map_or_else(|| name.clone(), |path| path.to_string()))
            .collect(),
        left_out,
    }
}

/// Returns the statements of the existing indexes, by name.
fn present(connection: &Connection) -> rusqlite::Result<BTreeMap<String, String>> {
    let text = format!(
        "SELECT name, sql FROM main.sqlite_master WHERE type = 'index' AND tbl_name = 'device' AND name GLOB \
            '{PREFIX}*'"
    );
    let mut statement = connection.prepare(&text)?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Returns the indexes with many rows that may have changed since their statistics were taken.
fn stale(connection: &Connection, present: &BTreeMap<String, String>, changed: u64) -> rusqlite::Result<Vec<String>> {
    let has_statistics = has_statistics(connection)?;
    let mut stale = Vec::new();
    for name in present.keys() {
        let mut rows = 0;
        if has_statistics {
            // The number of rows, then how many have the same value on average.
            let text = "SELECT stat FROM main.sqlite_stat1 WHERE idx = ?1";
            let found: Option<String> = connection.query_row(text, [name], |row| row.get(0)).optional()?;
            rows = found.and_then(|stat| stat.split(' ').next()?.parse().ok()).unwrap_or(0);
        }
        if changed.saturating_mul(STALE_SHARE) > rows {
            stale.push(name.clone());
        }
    }
    Ok(stale)
}

fn has_statistics(connection: &Connection) -> rusqlite::Result<bool> {
    let text = "SELECT EXISTS (SELECT 1 FROM main.sqlite_master WHERE name = 'sqlite_stat1')";
    connection.query_row(text, [], |row| row.get(0))
}

/// Takes statistics of some indexes, and of the number of devices, which an index without all devices does not have
/// (<https://sqlite.org/fileformat2.html#the_sqlite_stat1_table>). Removes all statistics when no index is left:
/// nothing would renew them.
fn take_statistics(connection: &Connection, names: &[String], is_last_gone: bool) -> rusqlite::Result<()> {
    for name in names {
        connection.execute_batch(&format!("ANALYZE main.{name}"))?;
    }
    if !has_statistics(connection)? {
        return Ok(());
    }
    if is_last_gone {
        connection.execute_batch("DELETE FROM main.sqlite_stat1 WHERE tbl = 'device'")?;
    } else if !names.is_empty() {
        connection.execute_batch(
            "DELETE FROM main.sqlite_stat1 WHERE tbl = 'device' AND idx IS NULL;
             INSERT INTO main.sqlite_stat1 (tbl, idx, stat) SELECT 'device', NULL, count(*) FROM main.device;",
        )?;
    }
    // Loads the statistics into the connection.
    connection.execute_batch("ANALYZE main.sqlite_master")
}

/// Returns the path of an index; `None` for a statement of another version.
fn parsed(statement: &str) -> Option<PathRef> {
    let (_, expression) = statement.split_once("(json_extract(")?;
    let (column, rest) = expression.split_once(",'$.\"")?;
    let (place, _) = rest.split_once("\"'))")?;
    let root = match column {
        "tags" => Root::Tags,
        "cloud" => Root::Cloud,
        "desired" => Root::Desired,
        "reported" => Root::Reported,
        _ => return None,
    };
    let keys = place.split("\".\"").map(|key| key.replace("''", "'")).collect();
    Some(PathRef { root, keys })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query;
    use crate::registry::sqlite::SqliteStore;
    use crate::registry::{DeviceFilter, Request, Selection};

    fn paths(conditions: &[&str]) -> Vec<PathRef> {
        conditions.iter().flat_map(|text| query::searched_paths(&query::parse(text).unwrap())).collect()
    }

    /// Returns a registry of devices with one of 50 lines; every tenth device has no line.
    fn registry(devices: usize) -> SqliteStore {
        let registry = SqliteStore::in_memory("memory".to_string(), "acme").unwrap();
        let text = format!(
            "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n LIMIT {devices})
             INSERT INTO device SELECT printf('d-%06d', n), 'x', NULL, NULL, 'registered', 0, 0, 0, 'Connected', NULL, \
             NULL,
               iif(n % 10 = 0, '{{}}', json_object('line', CAST(n % 50 AS TEXT), 'it''s', n, 'a.b', json_object('c', n \
               % 7))),
               '{{}}', json_object('level', n % 100), 1, json_object('battery', n % 100), 1, NULL, NULL FROM n"
        );
        registry.connection.execute_batch(&text).unwrap();
        registry
    }

    fn plan_of(registry: &SqliteStore, text: &str) -> String {
        let conditions = vec![query::parse(text).unwrap()];
        let selection = Selection::Matching { template: None, conditions };
        let request = Request::new(selection, Vec::new());
        let condition = registry.condition(&request).unwrap();
        let text = format!(
            "EXPLAIN QUERY PLAN SELECT d.device_id, d.blocked FROM {} AS d WHERE {} ORDER BY d.device_id",
            registry.source(),
            condition.sql
        );
        let mut statement = registry.connection.prepare(&text).unwrap();
        let params = rusqlite::params_from_iter(condition.params);
        let rows = statement.query_map(params, |row| row.get::<_, String>(3)).unwrap();
        rows.map(Result::unwrap).collect::<Vec<_>>().join("; ")
    }

    /// Each of these values matches few devices. SQLite has samples of the values (`sqlite_stat4`), so it can tell
    /// these values from those that match many.
    #[test]
    fn a_condition_is_answered_by_the_index_that_it_asks_for() {
        let registry = registry(2_000);
        let conditions = [
            "tags.line = '3'",
            "'3' = tags.line AND blocked = false",
            "tags.line IN ['3', '4']",
            "tags.line IN ['3', 4]",
            "startswith(tags.line, '49') AND NOT simulated",
            "tags.line > '48'",
            "properties.desired.level = 7",
            "properties.desired.level = 1 AND tags.line != '3'",
            "properties.reported.battery < 3",
            "properties.reported.battery >= 98 AND properties.desired.level = 99",
            "tags.[[it's]] = 7",
            "tags.[[a.b]].c IN [1]",
        ];
        let found = |registry: &SqliteStore, text: &str| {
            let filter = DeviceFilter { query: Some(query::parse(text).unwrap()), ..DeviceFilter::default() };
            let mut ids = Vec::new();
            let mut keep = |device: crate::model::device::Device| {
                ids.push(device.device_id);
                std::ops::ControlFlow::Continue(())
            };
            registry.visit_devices(&filter, &mut keep).unwrap();
            ids
        };
        let before: Vec<Vec<String>> = conditions.iter().map(|text| found(&registry, text)).collect();
        assert!(before.iter().all(|ids| !ids.is_empty()));

        for text in conditions {
            assert!(!plan_of(&registry, text).contains(PREFIX), "{text}");
        }
        let made = make(&registry.connection, &paths(&conditions), 0).unwrap();
        assert!(made.drop.is_empty() && made.left_out.is_empty() && made.make.len() > 4, "{made:?}");
        for (text, before) in conditions.iter().zip(before) {
            let plan = plan_of(&registry, text);
            assert!(plan.contains(&format!("INDEX {PREFIX}")), "{text}: {plan}");
            assert_eq!(found(&registry, text), before, "{text}");
        }
    }

    /// Where nearly every device matches, a scan of all devices is quicker than an index.
    #[test]
    fn a_condition_that_nearly_all_devices_meet_is_answered_by_a_scan() {
        let registry = registry(2_000);
        registry
            .connection
            .execute_batch("UPDATE device SET tags = json_object('ring', iif(blocked, 'a', 'b'))")
            .unwrap();
        make(&registry.connection, &paths(&["tags.ring IN ['a', 'b']"]), 0).unwrap();
        let plan = plan_of(&registry, "tags.ring IN ['a', 'b']");
        assert!(plan.starts_with("SCAN d"), "{plan}");
        // This held when the statistics were taken, and still holds with a few more devices. With many more, the
        // statistics are taken again.
        registry.connection.execute_batch("UPDATE device SET tags = json_object('ring', device_id)").unwrap();
        make(&registry.connection, &paths(&["tags.ring = 'a'"]), 2).unwrap();
        assert!(plan_of(&registry, "tags.ring IN ['a', 'b']").starts_with("SCAN d"));
        make(&registry.connection, &paths(&["tags.ring = 'a'"]), 2_000).unwrap();
        let statistics: String = registry
            .connection
            .query_row("SELECT stat FROM sqlite_stat1 WHERE idx IS NOT NULL", [], |row| row.get(0))
            .unwrap();
        assert_eq!(statistics, "2000 1");
    }

    #[test]
    fn an_index_is_told_by_its_path() {
        let registry = registry(10);
        let wanted =
            paths(&["tags.line = '3' AND tags.[[it's]] = 1 AND cloud.[[a.b]].c = 1 AND properties.reported.x > 1"]);
        let names = ["tags.line", "tags.[[it's]]", "cloud.[[a.b]].c", "properties.reported.x"];
        let mut made = make(&registry.connection, &wanted, 0).unwrap().make;
        made.sort();
        let mut names = names.map(str::to_string).to_vec();
        names.sort();
        assert_eq!(made, names);
        assert!(planned(&registry.connection, &wanted).unwrap().is_empty());
        let mut dropped = make(&registry.connection, &wanted[..1], 0).unwrap().drop;
        dropped.sort();
        names.retain(|name| *name != wanted[0].to_string());
        assert_eq!(dropped, names);
        assert_eq!(planned(&registry.connection, &[]).unwrap().drop, [wanted[0].to_string()]);
    }

    #[test]
    fn indexes_are_few_and_those_that_are_wanted_most() {
        let registry = registry(10);
        let conditions: Vec<String> = (0..12).map(|n| format!("tags.t{n} = 1")).collect();
        let conditions: Vec<&str> = conditions.iter().map(String::as_str).collect();
        let mut wanted = paths(&conditions);
        // No path of SQLite's spells this key.
        wanted.insert(0, paths(&["tags.[[a\\b]] = 1"]).remove(0));
        let made = make(&registry.connection, &wanted, 0).unwrap();
        assert_eq!(made.make.len(), limits::QUERY_INDEXES_MAX);
        assert_eq!(made.left_out, ["tags.[[a\\b]]", "tags.t8", "tags.t9", "tags.t10", "tags.t11"]);
        wanted.swap(1, 12);
        let made = make(&registry.connection, &wanted, 0).unwrap();
        assert_eq!((made.make, made.drop), (vec!["tags.t11".to_string()], vec!["tags.t0".to_string()]));
    }

    #[test]
    fn a_write_to_much_of_the_fleet_drops_the_indexes_that_it_would_keep() {
        let registry = registry(100_000);
        let wanted = paths(&["tags.line = '3'", "tags.zone = 1", "properties.desired.level = 7"]);
        make(&registry.connection, &wanted, 0).unwrap();
        let left = |registry: &SqliteStore| present(&registry.connection).unwrap().len();
        drop_indexes(&registry.connection, None, 99_999).unwrap();
        assert_eq!(left(&registry), 3, "few devices");
        drop_indexes(&registry.connection, Some(Section::Cloud), 100_000).unwrap();
        assert_eq!(left(&registry), 3, "another section");
        drop_indexes(&registry.connection, Some(Section::Tags), 100_000).unwrap();
        assert_eq!(planned(&registry.connection, &wanted).unwrap().make, ["tags.line", "tags.zone"]);
        drop_indexes(&registry.connection, None, 100_000).unwrap();
        assert_eq!(left(&registry), 0);
        make(&registry.connection, &wanted, 100_000).unwrap();
        assert_eq!(left(&registry), 3);
    }
}
