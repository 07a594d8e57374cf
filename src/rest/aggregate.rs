//! Aggregates of queries: COUNT, AVG, SUM, MIN and MAX, over all devices or in groups.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::twins;
use crate::ops::hub::{Desk, HubError};
use crate::query::{Aggregate, ColumnValue, Columns, Query, Select, is_same};

/// Groups of one query.
const GROUPS_MAX: usize = 1_000;

/// The values of a column over the devices of a group.
#[derive(Debug, Clone, Default)]
struct Gathered {
    devices: u64,
    numbers: u64,
    sum: f64,
    least: Option<Value>,
    most: Option<Value>,
}

impl Gathered {
    fn add(&mut self, value: Option<&Value>) {
        self.devices += 1;
        let Some(value) = value else { return };
        if let Some(number) = value.as_f64() {
            self.numbers += 1;
            self.sum += number;
        }
        if !value.is_number() && !value.is_string() {
            return;
        }
        if self.least.as_ref().is_none_or(|least| is_less(value, least)) {
            self.least = Some(value.clone());
        }
        if self.most.as_ref().is_none_or(|most| is_less(most, value)) {
            self.most = Some(value.clone());
        }
    }

    fn value(&self, column: &ColumnValue) -> Option<Value> {
        match column {
            ColumnValue::Path(_) => None,
            ColumnValue::Count => Some(json!(self.devices)),
            ColumnValue::Aggregate(Aggregate::Sum, _) => Some(number(self.sum)).filter(|_| self.numbers > 0),
            ColumnValue::Aggregate(Aggregate::Avg, _) => {
                Some(number(self.sum / self.numbers as f64)).filter(|_| self.numbers > 0)
            }
            ColumnValue::Aggregate(Aggregate::Min, _) => self.least.clone(),
            ColumnValue::Aggregate(Aggregate::Max, _) => self.most.clone(),
        }
    }
}

/// Returns the rows of a query with aggregates or groups, sorted by the values of the groups.
///
/// # Errors
/// The registry cannot be read, or there are too many groups.
pub fn aggregated(desk: &mut Desk<'_>, select: &Select, condition: Option<&Query>) -> Result<Vec<Value>, HubError> {
    let Columns::Listed(columns) = &select.columns else { return Ok(Vec::new()) };
    let counts_only = columns.iter().all(|column| column.value == ColumnValue::Count);
    if counts_only && select.group_by.is_empty() {
        let count = desk.count_devices(condition)?;
        let row: Map<String, Value> = columns.iter().map(|column| (column.name.clone(), json!(count))).collect();
        return Ok(vec![Value::Object(row)]);
    }
    // By the text of the group's values.
    let mut groups: BTreeMap<String, (Vec<Option<Value>>, Vec<Gathered>)> = BTreeMap::new();
    let mut has_too_many = false;
    desk.each_device(condition, |device| {
        let twin = twins::facts(&device);
        let values: Vec<Option<Value>> = select.group_by.iter().map(|path| twins::value_at(&twin, path)).collect();
        let key = json!(values).to_string();
        if groups.len() >= GROUPS_MAX && !groups.contains_key(&key) {
            has_too_many = true;
            return;
        }
        let (_, gathered) = groups.entry(key).or_insert_with(|| (values, vec![Gathered::default(); columns.len()]));
        for (column, gathered) in columns.iter().zip(gathered) {
            let value = match &column.value {
                ColumnValue::Aggregate(_, path) => twins::value_at(&twin, path),
                ColumnValue::Path(_) | ColumnValue::Count => None,
            };
            gathered.add(value.as_ref());
        }
    })?;
    if has_too_many {
        return Err(HubError::Argument(format!("the query has more than {GROUPS_MAX} groups")));
    }
    if groups.is_empty() && select.group_by.is_empty() {
        groups.insert(String::new(), (Vec::new(), vec![Gathered::default(); columns.len()]));
    }
    let rows = groups.into_values().map(|(values, gathered)| {
        let mut row = Map::new();
        for (column, gathered) in columns.iter().zip(&gathered) {
            let value = match &column.value {
                ColumnValue::Path(path) => {
                    let at = select.group_by.iter().position(|group| is_same(group, path));
                    at.and_then(|at| values[at].clone())
                }
                other => gathered.value(other),
            };
            if let Some(value) = value {
                row.insert(column.name.clone(), value);
            }
        }
        Value::Object(row)
    });
    let most = select.top.map_or(usize::MAX, |top| usize::try_from(top).unwrap_or(usize::MAX));
    Ok(rows.take(most).collect())
}

fn is_less(one: &Value, two: &Value) -> bool {
    match (one.as_f64(), two.as_f64()) {
        (Some(one), Some(two)) => one < two,
        // Numbers come before texts.
        (one_number, two_number) if one_number.is_some() != two_number.is_some() => one_number.is_some(),
        _ => one.as_str() < two.as_str(),
    }
}

/// Returns a whole number without a fraction.
fn number(real: f64) -> Value {
    if real.fract() == 0.0 && real.abs() < 9e15 { json!(real as i64) } else { json!(real) }
}
