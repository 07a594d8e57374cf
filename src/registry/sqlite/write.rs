//! Writing devices: what a job does to the registry, with the outcome of each device in the same transaction.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use rusqlite::{OptionalExtension, Row, Transaction};
use serde_json::Value;

use super::super::closer_look::{Verdict, judge};
use super::super::devices::section_column;
use super::super::{Assignment, Chunk, Needs, RegistryError};
use super::SqliteStore;
use super::rows::TextOrNull as _;
use super::single::template_of;
use crate::model::observation::DeviceIds;
use crate::model::outcome::Reason;
use crate::model::patch::Section;

/// The statements of one kind of write: `fast` changes a device when it can be done without a closer look.
struct Statements {
    fast: &'static str,
    /// The patch or the name; of an edge manifest a list of its name and its digest.
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
    for (ordinal, device_id) in chunk.devices.iter().copied() {
        let (reason, message) = writers.of(transaction, device_id)?.write(transaction, device_id)?;
        if chunk.awaits_acknowledgement && reason == Reason::Written {
            sent.execute(rusqlite::params![chunk.run_id, ordinal, micros, device_id])?;
        } else {
            let attempts = u32::from(reason == Reason::Written);
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
            Assignment::Patch { section, patch, marks } if !marks.is_empty() => {
                self.made.entry(template_of(transaction, device_id)?).or_insert_with_key(|template| {
                    let patch = marks.apply(patch, template.as_deref()).into_owned();
                    Writer::new(Cow::Owned(Assignment::patch(*section, patch)))
                })
            }
            _ => self.made.entry(None).or_insert_with(|| Writer::new(Cow::Borrowed(assignment))),
        })
    }
}

fn statements(assignment: &Assignment) -> Statements {
    // The patch is compared by its effect: when it changes nothing, nothing is written and no version moves.
    match assignment {
        Assignment::Patch { section, patch, .. } => {
            let patch = patch.to_string();
            let fast = match section {
                Section::Desired => {
                    "UPDATE device SET desired = json_patch(desired, ?2), desired_version = desired_version + 1
                     WHERE device_id = ?1 AND blocked = 0 AND length(desired) <= ?3
                       AND json_patch(desired, ?2) <> desired"
                }
                Section::Reported => {
                    "UPDATE device SET reported = json_patch(reported, ?2), reported_version = reported_version + 1
                     WHERE device_id = ?1 AND blocked = 0 AND length(reported) <= ?3
                       AND json_patch(reported, ?2) <> reported"
                }
                Section::Tags => {
                    "UPDATE device SET tags = json_patch(tags, ?2)
                     WHERE device_id = ?1 AND blocked = 0 AND length(tags) <= ?3 AND json_patch(tags, ?2) <> tags"
                }
                Section::Cloud => {
                    "UPDATE device SET cloud = json_patch(cloud, ?2)
                     WHERE device_id = ?1 AND blocked = 0 AND length(cloud) <= ?3 AND json_patch(cloud, ?2) <> cloud"
                }
            };
            // A section counts at most eight bytes for each character of its text (a one-digit number does).
            let safe_length = (section.size_max() / 8).saturating_sub(patch.len());
            Statements { fast, value: patch, safe_length }
        }
        Assignment::Template(name) => Statements {
            fast: "UPDATE device SET template = ?2,
                     state = CASE state WHEN 'unassociated' THEN 'registered' ELSE state END
                   WHERE device_id = ?1 AND blocked = 0 AND ?3 >= 0 AND template IS NOT ?2",
            value: name.clone(),
            safe_length: 0,
        },
        Assignment::EdgeManifest { name, digest } => Statements {
            fast: "UPDATE device SET edge_manifest = ?2 ->> 0, edge_manifest_digest = ?2 ->> 1
                   WHERE device_id = ?1 AND blocked = 0 AND ?3 >= 0
                     AND (edge_manifest IS NOT ?2 ->> 0 OR edge_manifest_digest IS NOT ?2 ->> 1)",
            value: Value::from(vec![name.clone(), digest.to_string()]).to_string(),
            safe_length: 0,
        },
    }
}

/// Decides about a device that the fast statement left alone: gone, blocked, already as desired, or near a limit.
fn judge_one(
    transaction: &Transaction<'_>,
    assignment: &Assignment,
    device_id: &str,
) -> rusqlite::Result<(Reason, Option<String>)> {
    let column = match assignment {
        Assignment::Patch { section, .. } => section_column(*section),
        Assignment::Template(_) | Assignment::EdgeManifest { .. } => "'{}'",
    };
    let mut look = transaction.prepare_cached(&format!("SELECT blocked, {column} FROM device WHERE device_id = ?1"))?;
    let found: Option<(bool, String)> = look.query_row([device_id], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (is_blocked, text) = found.map_or((None, String::new()), |(is_blocked, text)| (Some(is_blocked), text));
    let section = || serde_json::from_str(&text).map_err(|_| super::rows::malformed(1, &text));
    let after = match judge(assignment, is_blocked, section)? {
        Verdict::Left(reason, message) => return Ok((reason, message)),
        Verdict::Written(after) => after,
    };
    let version = match assignment {
        Assignment::Patch { section: Section::Desired, .. } => ", desired_version = desired_version + 1",
        Assignment::Patch { section: Section::Reported, .. } => ", reported_version = reported_version + 1",
        Assignment::Patch { .. } | Assignment::Template(_) | Assignment::EdgeManifest { .. } => "",
    };
    let mut write =
        transaction.prepare_cached(&format!("UPDATE device SET {column} = ?2{version} WHERE device_id = ?1"))?;
    write.execute(rusqlite::params![device_id, after.to_string()])?;
    Ok((Reason::Written, None))
}
