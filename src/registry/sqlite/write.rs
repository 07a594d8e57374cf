//! Writing devices: what a job does to the registry, with the outcome of each device in the same transaction.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use rusqlite::{OptionalExtension, Row, Transaction};
use serde_json::Value;

use super::super::closer_look::{Verdict, judge};
use super::super::devices::{section_column, version_column};
use super::super::{Assignment, Chunk, Needs, RegistryError};
use super::SqliteStore;
use super::rows::TextOrNull as _;
use super::single::template_of;
use crate::model::observation::DeviceIds;
use crate::model::outcome::Reason;
use crate::model::patch::Section;

/// The statements of one kind of write: `fast` changes a device when it can be done without a closer look.
struct Statements {
    fast: Cow<'static, str>,
    /// The patch or the name; a list of several patches, and of an edge manifest one of its name and its digest.
    value: String,
    /// Sections whose text is longer than this get the closer look: they might break a size limit.
    safe_length: usize,
}

impl SqliteStore {
    pub(super) fn manifest_digest_of(&self, device_id: &str) -> Result<Option<String>, RegistryError> {
        let text = "SELECT edge_manifest_digest FROM device WHERE device_id = ?1";
        let read = || self.connection.prepare_cached(text)?.query_row([device_id], |row| row.get(0)).optional();
        read().map(Option::flatten).map_err(|e| self.error("look a device up", e))
    }

    pub(super) fn find_ineligible(
        &self,
        needs: &Needs<'_>,
        ids: &DeviceIds,
        range: Range<u32>,
    ) -> Result<Vec<(u32, Reason, &'static str)>, RegistryError> {
        if !needs.presence && !needs.edge && needs.mismatching.is_empty() {
            let blocked = self.blocked_ordinals(ids, range).map_err(|e| self.error("find blocked devices", e))?;
            return Ok(blocked.into_iter().map(|ordinal| (ordinal, Reason::Blocked, "")).collect());
        }
        let judge = |row: &Row<'_>| -> rusqlite::Result<Option<(Reason, &'static str)>> {
            let is_mismatching = |template: Option<&str>| template.is_some_and(|name| needs.mismatching.contains(name));
            Ok(if row.get(1)? {
                Some((Reason::Blocked, ""))
            } else if needs.edge && !row.get(2)? {
                Some((Reason::TemplateMismatch, Needs::NOT_EDGE))
            } else if is_mismatching(row.get_ref(3)?.text_or_null()?) {
                Some((Reason::TemplateMismatch, ""))
            } else {
                None
            })
        };
        let mut found = Vec::new();
        let mut visit = |ordinal: u32, judged: Option<Option<(Reason, &'static str)>>| {
            let gone = needs.presence.then_some((Reason::Deleted, ""));
            found.extend(judged.unwrap_or(gone).map(|(reason, message)| (ordinal, reason, message)));
        };
        let looked = self.look_up("blocked, iot_edge, template", ids, range, &judge, &mut visit);
        looked.map_err(|e| self.error("look at the devices of a batch", e))?;
        Ok(found)
    }

    /// There is an index of the blocked devices.
    fn blocked_ordinals(&self, ids: &DeviceIds, range: Range<u32>) -> rusqlite::Result<Vec<u32>> {
        let text = "SELECT device_id FROM device WHERE blocked = 1 AND device_id BETWEEN ?1 AND ?2 ORDER BY device_id";
        let (first, last) = (ids.get(range.start as usize), ids.get(range.end as usize - 1));
        let mut statement = self.connection.prepare_cached(text)?;
        let mut rows = statement.query([first, last])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            // The range is of ids that are there now; only those of the run count.
            let at = ids.find(row.get_ref(0)?.as_str()?);
            found.extend(at.and_then(|at| u32::try_from(at).ok()));
        }
        Ok(found)
    }
}

/// Writes devices one after the other, each with its outcome, and returns what became of those that were reached.
pub(super) fn write_devices(
    transaction: &Transaction<'_>,
    assignment: &Assignment,
    chunk: Chunk<'_>,
) -> rusqlite::Result<Vec<(u32, Reason)>> {
    let mut writers = Writers { assignment, made: BTreeMap::new() };
    let mut outcome = transaction.prepare_cached(super::journal::INSERT_OUTCOME)?;
    let mut sent = transaction.prepare_cached(super::marks::INSERT_WRITTEN)?;
    let micros = chunk.now.as_microsecond();
    let mut written = Vec::with_capacity(chunk.devices.len());
    let mut failures = 0;
    let mut counted = super::outcome_counts::begin(transaction, chunk.run_id)?;
    for (ordinal, device_id) in chunk.devices.iter().copied() {
        let (reason, message) = writers.of(transaction, device_id)?.write(transaction, device_id)?;
        if chunk.awaits_acknowledgement && reason == Reason::Written {
            sent.execute(rusqlite::params![chunk.run_id, ordinal, micros, device_id])?;
        } else {
            let attempts = u32::from(reason == Reason::Written);
            counted.add(ordinal, reason);
            let none: Option<u16> = None;
            outcome.execute(rusqlite::params![
                chunk.run_id,
                ordinal,
                reason as u8,
                none,
                message,
                attempts,
                micros,
                micros
            ])?;
        }
        written.push((ordinal, reason));
        if reason.counts_for_threshold() {
            failures += 1;
            if chunk.failures_left.is_some_and(|left| failures > left) {
                break;
            }
        }
    }
    super::outcome_counts::add(transaction, chunk.run_id, &counted)?;
    Ok(written)
}

/// What is written to devices of one template, or to all.
struct Writer<'a> {
    assignment: Cow<'a, Assignment>,
    statements: Statements,
}

impl<'a> Writer<'a> {
    fn new(assignment: Cow<'a, Assignment>) -> Writer<'a> {
        let statements = statements(&assignment);
        Writer { assignment, statements }
    }

    fn write(&self, transaction: &Transaction<'_>, device_id: &str) -> rusqlite::Result<(Reason, Option<String>)> {
        let Statements { fast, value, safe_length } = &self.statements;
        let safe_length = i64::try_from(*safe_length).unwrap_or(i64::MAX);
        match transaction.prepare_cached(fast)?.execute(rusqlite::params![device_id, value, safe_length])? {
            1 => Ok((Reason::Written, None)),
            _ => judge_one(transaction, &self.assignment, device_id),
        }
    }
}

/// The writers of a chunk, made when the first device of a template is met.
struct Writers<'a> {
    assignment: &'a Assignment,
    made: BTreeMap<Option<String>, Writer<'a>>,
}

impl<'a> Writers<'a> {
    fn of(&mut self, transaction: &Transaction<'_>, device_id: &str) -> rusqlite::Result<&Writer<'a>> {
        let assignment = self.assignment;
        Ok(match assignment {
            Assignment::Patch { patches, marks } if !marks.is_empty() => {
                self.made.entry(template_of(transaction, device_id)?).or_insert_with_key(|template| {
                    Writer::new(Cow::Owned(Assignment::for_template(patches, marks, template.as_deref())))
                })
            }
            _ => self.made.entry(None).or_insert_with(|| Writer::new(Cow::Borrowed(assignment))),
        })
    }
}

fn statements(assignment: &Assignment) -> Statements {
    // The patch is compared by its effect: when it changes nothing, nothing is written and no version moves.
    match assignment {
        Assignment::Patch { patches, .. } => patch_statements(patches),
        Assignment::Template(name) => Statements {
            fast: Cow::Borrowed(
                "UPDATE device SET template = ?2,
                     state = CASE state WHEN 'unassociated' THEN 'registered' ELSE state END
                   WHERE device_id = ?1 AND blocked = 0 AND ?3 >= 0 AND template IS NOT ?2",
            ),
            value: name.clone(),
            safe_length: 0,
        },
        Assignment::EdgeManifest { name, digest } => Statements {
            fast: Cow::Borrowed(
                "UPDATE device SET edge_manifest = ?2 ->> 0, edge_manifest_digest = ?2 ->> 1
                   WHERE device_id = ?1 AND blocked = 0 AND ?3 >= 0
                     AND (edge_manifest IS NOT ?2 ->> 0 OR edge_manifest_digest IS NOT ?2 ->> 1)",
            ),
            value: Value::from(vec![name.clone(), digest.to_string()]).to_string(),
            safe_length: 0,
        },
    }
}

/// Returns the statement that writes sections where that changes one of them.
fn patch_statements(patches: &[(Section, Value)]) -> Statements {
    let after = |at: usize, column: &str| match patches.len() {
        1 => format!("json_patch({column}, ?2)"),
        _ => format!("json_patch({column}, ?2 -> {at})"),
    };
    let (mut sets, mut conditions, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (section, _)) in patches.iter().enumerate() {
        let column = section_column(*section);
        let after = after(at, column);
        sets.push(format!("{column} = {after}"));
        if let Some(version) = version_column(*section) {
            sets.push(format!("{version} = {version} + ({after} <> {column})"));
        }
        conditions.push(format!("length({column}) <= ?3"));
        changes.push(format!("{after} <> {column}"));
    }
    let fast = format!(
        "UPDATE device SET {} WHERE device_id = ?1 AND blocked = 0 AND {} AND ({})",
        sets.join(", "),
        conditions.join(" AND "),
        changes.join(" OR ")
    );
    let value = match patches {
        [(_, patch)] => patch.to_string(),
        several => Value::from_iter(several.iter().map(|(_, patch)| patch.clone())).to_string(),
    };
    // A section counts at most eight bytes for each character of its text (a one-digit number does).
    let most = patches.iter().map(|(section, _)| section.size_max() / 8).min().unwrap_or_default();
    let safe_length = most.saturating_sub(value.len());
    Statements { fast: Cow::Owned(fast), value, safe_length }
}

/// Decides about a device that the fast statement left alone: gone, blocked, already as desired, or near a limit.
fn judge_one(
    transaction: &Transaction<'_>,
    assignment: &Assignment,
    device_id: &str,
) -> rusqlite::Result<(Reason, Option<String>)> {
    let sections: Vec<Section> = match assignment {
        Assignment::Patch { patches, .. } => patches.iter().map(|(section, _)| *section).collect(),
        Assignment::Template(_) | Assignment::EdgeManifest { .. } => Vec::new(),
    };
    let columns: String = sections.iter().map(|section| format!(", {}", section_column(*section))).collect();
    let mut look = transaction.prepare_cached(&format!("SELECT blocked{columns} FROM device WHERE device_id = ?1"))?;
    let read = |row: &Row<'_>| -> rusqlite::Result<(bool, Vec<String>)> {
        Ok((row.get(0)?, (1..=sections.len()).map(|at| row.get(at)).collect::<rusqlite::Result<_>>()?))
    };
    let (is_blocked, texts) = match look.query_row([device_id], read).optional()? {
        Some((is_blocked, texts)) => (Some(is_blocked), texts),
        None => (None, Vec::new()),
    };
    let parse =
        |(at, text): (usize, &String)| serde_json::from_str(text).map_err(|_| super::rows::malformed(at + 1, text));
    let after = match judge(assignment, is_blocked, || texts.iter().enumerate().map(parse).collect())? {
        Verdict::Left(reason, message) => return Ok((reason, message)),
        Verdict::Written(after) => after,
    };
    for ((section, before), after) in sections.iter().zip(texts.iter().enumerate().map(parse)).zip(after) {
        if before? == after {
            continue;
        }
        let column = section_column(*section);
        let version = version_column(*section).map_or(String::new(), |version| format!(", {version} = {version} + 1"));
        let text = format!("UPDATE device SET {column} = ?2{version} WHERE device_id = ?1");
        transaction.prepare_cached(&text)?.execute(rusqlite::params![device_id, after.to_string()])?;
    }
    Ok((Reason::Written, None))
}
