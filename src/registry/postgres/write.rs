//! Writing devices: what a job does to the registry, with the outcome of each device in the same transaction.
//!
//! A chunk is written by one statement, which leaves alone what needs a closer look: a device that is gone, blocked,
//! already as desired, or near a limit. When too many of these fail, the chunk is taken back and written up to the
//! failure that was one too many.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;

use super::super::closer_look::{Verdict, judge};
use super::super::devices::{section_column, version_column};
use super::super::{Assignment, Chunk, Needs};
use super::connection::Connection;
use super::fault::Fault;
use super::journal::OutcomeColumns;
use super::json::{stored, stored_text};
use super::patch::{changed, merged};
use super::rows::json_of;
use crate::model::observation::DeviceIds;
use crate::model::outcome::{Outcome, Reason};
use crate::model::patch::Section;

/// Returns the digest of the edge manifest of a device.
pub(super) fn manifest_digest_of(connection: &Connection, device_id: &str) -> Result<Option<String>, Fault> {
    let row = connection.row("SELECT edge_manifest_digest FROM device WHERE device_id = $1", &[&device_id])?;
    Ok(row.map(|row| row.try_get(0)).transpose()?.flatten())
}

/// Returns the devices of a range that a job cannot be started on.
pub(super) fn ineligible(
    connection: &Connection,
    needs: &Needs<'_>,
    ids: &DeviceIds,
    range: Range<u32>,
) -> Result<Vec<(u32, Reason, &'static str)>, Fault> {
    let mut found = Vec::new();
    if !needs.presence && !needs.edge && needs.mismatching.is_empty() {
        // There is an index of the blocked devices.
        let text = "SELECT device_id FROM device WHERE blocked AND device_id BETWEEN $1 AND $2 ORDER BY device_id";
        let (first, last) = (ids.get(range.start as usize), ids.get(range.end as usize - 1));
        connection.stream(text, [first, last], |row| {
            // The range is of ids that are there now; only those of the run count.
            let at = ids.find(row.try_get(0)?).and_then(|at| u32::try_from(at).ok());
            found.extend(at.map(|ordinal| (ordinal, Reason::Blocked, "")));
            Ok(())
        })?;
        return Ok(found);
    }
    let wanted: Vec<&str> = range.clone().map(|at| ids.get(at as usize)).collect();
    let text = "SELECT device_id, blocked, iot_edge, template FROM device WHERE device_id = ANY($1) ORDER BY device_id";
    let mut next = range.start;
    let missing = |ordinal: u32| needs.presence.then_some((ordinal, Reason::Deleted, ""));
    connection.stream(text, [&wanted], |row| {
        let id: &str = row.try_get(0)?;
        while next < range.end && ids.get(next as usize) < id {
            found.extend(missing(next));
            next += 1;
        }
        let template: Option<&str> = row.try_get(3)?;
        if row.try_get(1)? {
            found.push((next, Reason::Blocked, ""));
        } else if needs.edge && !row.try_get::<_, bool>(2)? {
            found.push((next, Reason::TemplateMismatch, Needs::NOT_EDGE));
        } else if template.is_some_and(|name| needs.mismatching.contains(name)) {
            found.push((next, Reason::TemplateMismatch, ""));
        }
        next += 1;
        Ok(())
    })?;
    found.extend((next..range.end).filter_map(missing));
    Ok(found)
}

/// What became of a device.
struct Judged {
    ordinal: u32,
    reason: Reason,
    message: Option<String>,
}

/// Writes devices one after the other, each with its outcome, and returns what became of those that were reached.
pub(super) fn write_devices(
    connection: &Connection,
    assignment: &Assignment,
    chunk: Chunk<'_>,
) -> Result<Vec<(u32, Reason)>, Fault> {
    let judged = match chunk.failures_left {
        None => write_all(connection, assignment, chunk.devices)?,
        Some(left) => {
            connection.batch("SAVEPOINT chunk")?;
            let judged = write_all(connection, assignment, chunk.devices)?;
            let mut failures = judged.iter().enumerate().filter(|(_, one)| one.reason.counts_for_threshold());
            match failures.nth(usize::try_from(left).unwrap_or(usize::MAX)) {
                Some((at, _)) if at + 1 < judged.len() => {
                    connection.batch("ROLLBACK TO SAVEPOINT chunk")?;
                    write_all(connection, assignment, &chunk.devices[..=at])?
                }
                _ => judged,
            }
        }
    };
    let awaits = |one: &Judged| chunk.awaits_acknowledgement && one.reason == Reason::Written;
    let outcome = |one: &Judged| Outcome {
        ordinal: one.ordinal,
        reason: one.reason,
        code: None,
        message: one.message.clone().unwrap_or_default(),
        attempts: u32::from(one.reason == Reason::Written),
        started_at: Some(chunk.now),
        finished_at: Some(chunk.now),
    };
    let outcomes: Vec<Outcome> = judged.iter().filter(|one| !awaits(one)).map(outcome).collect();
    let mut columns = OutcomeColumns::default();
    outcomes.iter().for_each(|outcome| columns.push(outcome));
    if !outcomes.is_empty() {
        columns.insert(connection, chunk.run_id)?;
    }
    let sent: BTreeSet<u32> = judged.iter().filter(|one| awaits(one)).map(|one| one.ordinal).collect();
    if !sent.is_empty() {
        mark_written(connection, &chunk, &sent)?;
    }
    Ok(judged.into_iter().map(|one| (one.ordinal, one.reason)).collect())
}

/// Marks written devices as such: they are to acknowledge the version that they have now.
fn mark_written(connection: &Connection, chunk: &Chunk<'_>, ordinals: &BTreeSet<u32>) -> Result<(), Fault> {
    let written = chunk.devices.iter().filter(|(ordinal, _)| ordinals.contains(ordinal));
    let (ordinals, ids): (Vec<i64>, Vec<&str>) = written.map(|(ordinal, id)| (i64::from(*ordinal), *id)).unzip();
    let text = "INSERT INTO sent (run_id, ordinal, attempt, sent_at, waits, version)
            SELECT $1, t.ordinal, 1, $2, 2, d.desired_version
            FROM unnest($3::bigint[], $4::text[]) AS t (ordinal, id) JOIN device AS d ON d.device_id = t.id
        ON CONFLICT (run_id, ordinal)
        DO UPDATE SET attempt = 1, sent_at = excluded.sent_at, waits = 2, version = excluded.version";
    connection.execute(text, &[&chunk.run_id, &chunk.now.as_microsecond(), &ordinals, &ids]).map(drop)
}

/// Writes all of some devices, and returns what became of each, in order.
fn write_all(connection: &Connection, assignment: &Assignment, devices: &[(u32, &str)]) -> Result<Vec<Judged>, Fault> {
    let mut judged: Vec<Judged> = match assignment {
        Assignment::Patch { patches, marks } if !marks.is_empty() => {
            let mut judged = Vec::with_capacity(devices.len());
            for (template, devices) in by_template(connection, devices)? {
                let assignment = Assignment::for_template(patches, marks, template.as_deref());
                judged.extend(write_alike(connection, &assignment, &devices)?);
            }
            judged
        }
        _ => write_alike(connection, assignment, devices)?,
    };
    judged.sort_by_key(|one| one.ordinal);
    Ok(judged)
}

/// Devices as (ordinal, id), by their template.
type ByTemplate<'a> = BTreeMap<Option<String>, Vec<(u32, &'a str)>>;

/// Returns devices by their template; those that are gone have none.
fn by_template<'a>(connection: &Connection, devices: &[(u32, &'a str)]) -> Result<ByTemplate<'a>, Fault> {
    let ids: Vec<&str> = devices.iter().map(|(_, id)| *id).collect();
    let rows = connection.rows("SELECT device_id, template FROM device WHERE device_id = ANY($1)", &[&ids])?;
    let templates: BTreeMap<String, Option<String>> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, Fault>>()?;
    let mut groups = ByTemplate::new();
    for (ordinal, id) in devices {
        groups.entry(templates.get(*id).cloned().flatten()).or_default().push((*ordinal, *id));
    }
    Ok(groups)
}

/// Writes devices that all get the same.
fn write_alike(
    connection: &Connection,
    assignment: &Assignment,
    devices: &[(u32, &str)],
) -> Result<Vec<Judged>, Fault> {
    let ids: Vec<&str> = devices.iter().map(|(_, id)| *id).collect();
    let row = match assignment {
        Assignment::Patch { patches, .. } => {
            // A section counts at most eight bytes for each character of its text (a one-digit number does).
            let safe =
                |(section, patch): &(Section, Value)| (section.size_max() / 8).saturating_sub(patch.to_string().len());
            let safe = patches.iter().map(safe).min().unwrap_or_default();
            let safe = i32::try_from(safe).unwrap_or(i32::MAX);
            connection.one(&written_by(&patch_update(patches)), &[&ids, &safe])?
        }
        Assignment::Template(name) => {
            let text = "UPDATE device AS d SET template = $2,
                    state = CASE state WHEN 'unassociated' THEN 'registered' ELSE state END
                WHERE d.device_id = ANY($1) AND NOT d.blocked AND d.template IS DISTINCT FROM $2";
            connection.one(&written_by(text), &[&ids, &name])?
        }
        Assignment::EdgeManifest { name, digest } => {
            let text = "UPDATE device AS d SET edge_manifest = $2, edge_manifest_digest = $3
                WHERE d.device_id = ANY($1) AND NOT d.blocked
                  AND (d.edge_manifest IS DISTINCT FROM $2 OR d.edge_manifest_digest IS DISTINCT FROM $3)";
            connection.one(&written_by(text), &[&ids, &stored_text(name).as_ref(), &digest.to_string()])?
        }
    };
    let written: Option<Vec<&str>> = row.try_get(0)?;
    let written = written.unwrap_or_default();
    let judged = |(ordinal, _): &(u32, &str)| Judged { ordinal: *ordinal, reason: Reason::Written, message: None };
    if written.len() == devices.len() {
        return Ok(devices.iter().map(judged).collect());
    }
    let written: BTreeSet<&str> = written.into_iter().collect();
    let (written, rest): (Vec<_>, Vec<_>) = devices.iter().partition(|(_, id)| written.contains(id));
    let mut judged: Vec<Judged> = written.iter().map(judged).collect();
    judged.extend(look_closer(connection, assignment, &rest)?);
    Ok(judged)
}

/// Returns the statement that makes an update of devices by their ids, the first parameter, and returns the ids of those
/// that it has changed as one value, NULL for none.
///
/// The update is no join of the devices with a list: the server takes its conditions for rarer than they are, and would
/// compare each device with each of the list.
fn written_by(update: &str) -> String {
    format!("WITH written AS ({update} RETURNING d.device_id) SELECT array_agg(device_id) FROM written")
}

/// Returns the update that writes patches where one of them changes something; its second parameter is the bytes of a
/// section up to which no limit can be broken. No version moves of a section that stays as it is.
fn patch_update(patches: &[(Section, Value)]) -> String {
    let (mut sets, mut sizes, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for (section, patch) in patches {
        let column = section_column(*section);
        let merged = merged(&format!("d.{column}"), patch);
        // Of several sections one may stay as it is, so the quick answer will not do.
        let (changed, versions) = match patches.len() {
            1 => (changed(&format!("d.{column}"), patch), "1".to_string()),
            _ => {
                let changed = format!("({merged})::text <> d.{column}::text");
                let versions = format!("({changed})::int");
                (changed, versions)
            }
        };
        sets.push(format!("{column} = {merged}"));
        sets.extend(version_column(*section).map(|version| format!("{version} = {version} + {versions}")));
        // A section that is not compressed has a byte at least for what counts up to eight: then its text is not made.
        sizes.push(format!(
            "(pg_column_compression(d.{column}) IS NULL AND pg_column_size(d.{column}) <= $2
                OR octet_length(d.{column}::text) <= $2)"
        ));
        changes.push(changed);
    }
    format!(
        "UPDATE device AS d SET {} WHERE d.device_id = ANY($1) AND NOT d.blocked AND ({}) AND {}",
        sets.join(", "),
        changes.join(" OR "),
        sizes.join(" AND ")
    )
}

/// Decides about devices that the statement left alone: gone, blocked, already as desired, or near a limit.
fn look_closer(
    connection: &Connection,
    assignment: &Assignment,
    devices: &[(u32, &str)],
) -> Result<Vec<Judged>, Fault> {
    let sections: Vec<Section> = match assignment {
        Assignment::Patch { patches, .. } => patches.iter().map(|(section, _)| *section).collect(),
        Assignment::Template(_) | Assignment::EdgeManifest { .. } => Vec::new(),
    };
    let columns: String = sections.iter().map(|section| format!(", {}::text", section_column(*section))).collect();
    let ids: Vec<&str> = devices.iter().map(|(_, id)| *id).collect();
    let text = format!("SELECT device_id, blocked{columns} FROM device WHERE device_id = ANY($1) FOR UPDATE");
    let rows = connection.rows(&text, &[&ids])?;
    let found: BTreeMap<&str, &tokio_postgres::Row> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row))).collect::<Result<_, Fault>>()?;
    let decide = |(ordinal, id): &(u32, &str)| {
        let row = found.get(*id);
        let is_blocked = row.map(|row| row.try_get(1)).transpose()?;
        let read = || -> Result<Vec<Value>, Fault> {
            let Some(row) = row else { return Ok(Vec::new()) };
            (0..sections.len()).map(|at| json_of(row, at + 2)).collect()
        };
        match judge(assignment, is_blocked, read)? {
            Verdict::Left(reason, message) => Ok(Judged { ordinal: *ordinal, reason, message }),
            Verdict::Written(after) => {
                for ((section, before), after) in sections.iter().zip(read()?).zip(after) {
                    if before != after {
                        rewrite(connection, *section, id, &after)?;
                    }
                }
                Ok(Judged { ordinal: *ordinal, reason: Reason::Written, message: None })
            }
        }
    };
    devices.iter().map(decide).collect()
}

/// Writes a whole section of a device.
fn rewrite(connection: &Connection, section: Section, device_id: &str, value: &Value) -> Result<(), Fault> {
    let column = section_column(section);
    let version = version_column(section).map_or(String::new(), |version| format!(", {version} = {version} + 1"));
    let text = format!("UPDATE device SET {column} = $2::text::jsonb{version} WHERE device_id = $1");
    connection.execute(&text, &[&device_id, &stored(value)]).map(drop)
}
