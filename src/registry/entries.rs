//! The table of an observation: the distinct entries of its devices, filled row by row as a store reads them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Request, Touched};
use crate::model::observation::{Before, Mismatch};
use crate::model::patch::Assignment;

/// The most distinct entries before values that are not as desired become "(various)", so that memory stays bounded
/// when every device has a value of its own.
const TABLE_MAX: usize = 4_096;
/// Stands for values that are no longer told apart.
const VARIOUS: &str = "(various)";

/// A row of a selected device.
pub(super) trait DeviceRow {
    /// A failure to read a column.
    type Error;

    fn is_blocked(&self) -> Result<bool, Self::Error>;

    /// Returns the text of what may not fit the job; `None` when it is NULL.
    fn unfit(&self) -> Result<Option<&str>, Self::Error>;

    /// Returns the JSON of a value, which has no raw control character; `None` when it is NULL. Values that differ have
    /// different texts.
    fn value(&self, at: usize) -> Result<Option<&str>, Self::Error>;

    /// Reads the JSON of a value.
    fn read(&self, at: usize, text: &str) -> Result<Value, Self::Error>;
}

/// Distinct entries, found again by the bytes of their columns.
pub(super) struct EntryTable {
    wanted: Vec<Assignment>,
    mismatches: BTreeMap<String, Mismatch>,
    entries: Vec<Before>,
    by_key: BTreeMap<Vec<u8>, u32>,
    key: Vec<u8>,
    last: (Vec<u8>, u32),
}

impl EntryTable {
    pub fn new(request: &Request) -> EntryTable {
        EntryTable {
            wanted: wanted_values(&request.touched),
            mismatches: mismatches_of(request),
            entries: Vec::new(),
            by_key: BTreeMap::new(),
            key: Vec::new(),
            last: (Vec::new(), u32::MAX),
        }
    }

    /// Returns the distinct entries, in the order in which they were met.
    pub fn into_entries(self) -> Vec<Before> {
        self.entries
    }

    /// Returns the mismatch between a row's device and the job; `None` when the job fits.
    fn mismatch<R: DeviceRow>(&self, row: &R) -> Result<Option<&Mismatch>, R::Error> {
        Ok(row.unfit()?.and_then(|text| self.mismatches.get(text)))
    }

    /// Returns the index of the entry of a row.
    pub fn index_of<R: DeviceRow>(&mut self, row: &R) -> Result<u32, R::Error> {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        key.push(u8::from(row.is_blocked()?));
        push_mismatch(&mut key, self.mismatch(row)?);
        for at in 0..self.wanted.len() {
            match row.value(at)? {
                None => key.push(0),
                Some(text) => {
                    key.push(1);
                    key.extend_from_slice(text.as_bytes());
                    // No JSON text holds a raw control character, so the end is unambiguous.
                    key.push(2);
                }
            }
        }
        self.key = key;
        if self.last.1 != u32::MAX && self.last.0 == self.key {
            return Ok(self.last.1);
        }
        let index = match self.by_key.get(&self.key) {
            Some(index) => *index,
            None => self.add(row)?,
        };
        self.last.0.clone_from(&self.key);
        self.last.1 = index;
        Ok(index)
    }

    fn add<R: DeviceRow>(&mut self, row: &R) -> Result<u32, R::Error> {
        let mismatch = self.mismatch(row)?.cloned();
        let read = |at| row.value(at)?.map(|text| row.read(at, text)).transpose();
        let values = (0..self.wanted.len()).map(read).collect::<Result<_, _>>()?;
        let mut entry = Before { blocked: self.key[0] == 1, mismatch, values };
        let mut key = self.key.clone();
        if self.entries.len() >= TABLE_MAX {
            key = coarse_key(&mut entry, &self.wanted);
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

/// Returns what a row has to tell for [`DeviceRow::unfit`].
pub(super) fn unfit_of(request: &Request) -> Unfit {
    match &request.touched {
        Touched::EdgeManifest { .. } => Unfit::NotEdge,
        _ if request.mismatching.is_empty() => Unfit::Nothing,
        _ => Unfit::Template,
    }
}

/// What a device may be that a job does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    Nothing,
    /// The name of the device's template.
    Template,
    /// An empty text for a device that is no IoT Edge device, NULL for one that is.
    NotEdge,
}

/// Returns the mismatches, by the text of the column that may not fit.
fn mismatches_of(request: &Request) -> BTreeMap<String, Mismatch> {
    match unfit_of(request) {
        Unfit::NotEdge => BTreeMap::from([(String::new(), Mismatch::NotEdge)]),
        Unfit::Template | Unfit::Nothing => {
            request.mismatching.iter().map(|name| (name.to_string(), Mismatch::Template(name.clone()))).collect()
        }
    }
}

fn wanted_values(touched: &Touched) -> Vec<Assignment> {
    let one = |text: &str| Assignment { path: Vec::new(), value: Value::String(text.to_string()) };
    match touched {
        Touched::Nothing => Vec::new(),
        Touched::Template { wanted, .. } => vec![one(wanted)],
        Touched::EdgeManifest { wanted, digest } => vec![one(wanted), one(&digest.to_string())],
        Touched::Sections { assignments, .. } => assignments.iter().map(|(_, one)| one.clone()).collect(),
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
