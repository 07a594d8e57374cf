//! What is in a registry, as a few numbers: to tell whether two of them have the same rows, in whatever store.

use std::collections::BTreeMap;

use serde_json::Value;

use super::postgres::json::stored;
use super::transfer::{Cell, ColumnKind, OWN_KEYS, Table, names_one};
use super::{Registry, RegistryError};
use crate::model::digest::Digest;

/// The rows of a registry but for those that say which one it is: of each table how many there are, and the sum of
/// their digests, which their order does not change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    tables: BTreeMap<&'static str, Rows>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rows {
    count: u64,
    sum: u128,
}

impl Contents {
    /// Reads a registry. `watch` is called for each row.
    ///
    /// # Errors
    /// The registry cannot be read; or the error of `watch`.
    pub fn of(
        registry: &Registry,
        watch: &mut dyn FnMut(&'static Table) -> Result<(), RegistryError>,
    ) -> Result<Contents, RegistryError> {
        let mut contents = Contents::default();
        registry.unload(&mut |table, cells| {
            contents.add(table, &cells);
            watch(table)
        })?;
        Ok(contents)
    }

    /// Counts a row.
    pub fn add(&mut self, table: &'static Table, cells: &[Cell]) {
        let is_own = matches!(cells.first(), Some(Cell::Text(key)) if OWN_KEYS.contains(&key.as_str()));
        if table.name == "meta" && is_own || names_one(table, cells) {
            return;
        }
        self.bytes.clear();
        for (cell, (_, kind)) in cells.iter().zip(table.columns) {
            push_cell(&mut self.bytes, cell, *kind);
        }
        let rows = self.tables.entry(table.name).or_default();
        rows.count += 1;
        rows.sum = rows.sum.wrapping_add(Digest::of_bytes(&self.bytes).sum());
    }

    /// Returns how many rows a table has.
    pub fn rows(&self, table: &str) -> u64 {
        self.tables.get(table).map_or(0, |rows| rows.count)
    }

    /// Returns how many rows there are.
    pub fn all_rows(&self) -> u64 {
        self.tables.values().map(|rows| rows.count).sum()
    }

    /// Returns the tables that are not the same, in the order of their names: each with the rows here and there.
    pub fn differences(&self, other: &Contents) -> Vec<(&'static str, u64, u64)> {
        let names: std::collections::BTreeSet<_> = self.tables.keys().chain(other.tables.keys()).collect();
        let differs = |name: &&&'static str| self.tables.get(**name) != other.tables.get(**name);
        names.into_iter().filter(differs).map(|name| (*name, self.rows(name), other.rows(name))).collect()
    }
}

/// Adds a value, framed, so that two rows with the same bytes are the same. JSON counts by what it says: stores write
/// the same number and the same object in their own ways.
fn push_cell(bytes: &mut Vec<u8>, cell: &Cell, kind: ColumnKind) {
    let mut push = |tag: u8, content: &[u8]| {
        bytes.push(tag);
        bytes.extend_from_slice(&(content.len() as u64).to_be_bytes());
        bytes.extend_from_slice(content);
    };
    match cell {
        Cell::Null => push(0, &[]),
        Cell::Text(text) => {
            let value = match kind {
                ColumnKind::Json => serde_json::from_str::<Value>(text).ok(),
                _ => None,
            };
            push(1, value.map_or_else(|| text.clone(), |value| stored(&value)).as_bytes());
        }
        Cell::Integer(number) => push(2, &number.to_be_bytes()),
        Cell::Bytes(content) => push(3, content),
    }
}

#[cfg(test)]
mod tests {
    use super::super::transfer::TABLES;
    use super::*;

    fn table(name: &str) -> &'static Table {
        TABLES.iter().find(|table| table.name == name).expect("it is a table")
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_string())
    }

    fn of(rows: &[(&str, Vec<Cell>)]) -> Contents {
        let mut contents = Contents::default();
        rows.iter().for_each(|(name, cells)| contents.add(table(name), cells));
        contents
    }

    #[test]
    fn the_order_of_rows_does_not_count_and_their_cells_do() {
        let (one, two) = (("left_device", vec![text("a")]), ("left_device", vec![text("b")]));
        let deleted = |id: &str, name: &str| ("deleted_device", vec![text(id), text(name)]);
        let alone = of(std::slice::from_ref(&one));
        assert!(of(&[one.clone(), two.clone()]).differences(&of(&[two.clone(), one.clone()])).is_empty());
        assert_eq!(alone.differences(&of(&[one.clone(), two.clone()])), [("left_device", 1, 2)]);
        assert_eq!(alone.differences(&of(&[two])), [("left_device", 1, 1)]);
        assert_eq!(of(&[deleted("ab", "c")]).differences(&of(&[deleted("a", "bc")])), [("deleted_device", 1, 1)]);
        assert_eq!(of(&[]).differences(&of(&[one])), [("left_device", 0, 1)]);
    }

    #[test]
    fn json_counts_by_what_it_says() {
        let device = |tags: &str| {
            let mut cells = vec![Cell::Null; 19];
            cells[12] = text(tags);
            of(&[("device", cells)])
        };
        assert!(device(r#"{"a":-0.0,"b":1e2}"#).differences(&device(r#"{"b":100.0,"a":0.0}"#)).is_empty());
        assert!(!device(r#"{"b":100}"#).differences(&device(r#"{"b":100.0}"#)).is_empty());
        assert!(!device(r#"{"b":"1"}"#).differences(&device(r#"{"b":1}"#)).is_empty());
    }

    #[test]
    fn which_registry_it_is_does_not_count() {
        let meta = |key: &str, value: &str| ("meta", vec![text(key), text(value)]);
        let one = of(&[meta("identity", "a"), meta("fleet", "acme"), meta("sends", "3")]);
        let two = of(&[meta("identity", "b"), meta("copy_of", "a"), meta("gave_up", "c d"), meta("sends", "3")]);
        assert_eq!(one, Contents { bytes: one.bytes.clone(), ..two.clone() });
        assert_eq!(two.differences(&of(&[meta("sends", "4")])), [("meta", 1, 1)]);
        assert_eq!((two.all_rows(), two.rows("meta")), (1, 1));
    }
}
