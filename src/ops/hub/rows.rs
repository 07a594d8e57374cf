//! The devices of jobs, `devices.jobs` of IoT Hub: from the journal while a run goes on, then from its results.
//!
//! A page begins behind a device, and costs the same at any depth: the target of a run is sorted by id, and so are its
//! shards.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::rc::Rc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::HubError;
use super::desk::{Desk, KnownTarget};
use super::job::{HubJob, HubStatus, describe, newest_run};
use super::names::{HubWork, all, find};
use super::request::HubAction;
use crate::ledger::{RunKey, RunRecord};
use crate::model::observation::{DeviceIds, first_place};
use crate::model::outcome::{DeviceStatus, Reason};
use crate::ops::OpsError;
use crate::prepare::{View, remembered_rows};
use crate::query::RowQuery;
use crate::registry::PendingRows;
use crate::repo::BlobId;
use crate::results::{Row, first_id, read_shard_from, shard_path};

/// Rows that are looked at for one page: a page may be shorter than asked for.
const SCANNED_MAX: usize = 20_000;
/// Rows behind a full page that are looked at for one that follows.
const AHEAD_MAX: usize = 1_000;
/// Where the results branch has the results of runs.
const RUNS_FOLDER: &str = "runs";
/// How often a page is read anew because a run has ended meanwhile.
const RUNS_ENDED_MAX: usize = 5;

/// A page of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct RowPage {
    pub rows: Vec<Value>,
    /// The id of a job and of a device behind which the next page begins; `None` at the end.
    pub next: Option<(String, String)>,
}

impl Desk<'_> {
    /// Returns the rows that a condition selects, by the ids of jobs and devices, at most `limit`, behind a place. Of a
    /// job that ran twice, the newest run.
    ///
    /// # Errors
    /// The repository or the registry cannot be read.
    pub fn rows(
        &mut self,
        condition: &RowQuery,
        after: Option<&(String, String)>,
        limit: usize,
        now: Timestamp,
    ) -> Result<RowPage, HubError> {
        for tries_left in (0..RUNS_ENDED_MAX).rev() {
            if let Some(page) = self.rows_once(condition, after, (limit, tries_left == 0), now)? {
                return Ok(page);
            }
        }
        Err(HubError::Unavailable("runs end faster than their rows can be read: try again".to_string()))
    }

    /// Returns `None` when a run has ended meanwhile: its rows went from the journal to the results. With `is_last` a
    /// run that the journal does not have has none: its claim is on the branch, and is not noted yet.
    fn rows_once(
        &mut self,
        condition: &RowQuery,
        after: Option<&(String, String)>,
        (limit, is_last): (usize, bool),
        now: Timestamp,
    ) -> Result<Option<RowPage>, HubError> {
        let completes_failures = self.api()?.completes_failures;
        let mut known = self.known_target.take();
        let view = self.view()?;
        let mut page = RowPage { rows: Vec::new(), next: None };
        let mut left = SCANNED_MAX;
        for work in works(&view, condition) {
            let behind = match after {
                Some((job, _)) if work.id() < job.as_str() => continue,
                Some((job, device)) if work.id() == job => Some(device.as_str()),
                _ => None,
            };
            let Some(record) = newest_run(&view, work) else { continue };
            if page.rows.len() >= limit {
                // There is more when there are rows: to read them for that takes long.
                if record.counts.total == 0 {
                    continue;
                }
                page.next = Some((work.id().to_string(), String::new()));
                break;
            }
            let job = describe(&view, work, now);
            let mut last = None;
            let mut answers = Answers::of(&view, &record, &job, &mut known)?;
            let mut failure = None;
            let mut visit = |row: Row| {
                if left == 0 {
                    return false;
                }
                left -= 1;
                let device = row.device_id.clone();
                let answer = match answers.get(&view, &device) {
                    Ok(answer) => answer,
                    Err(error) => {
                        failure = Some(error);
                        return false;
                    }
                };
                let row = json_of(&job, row, answer, completes_failures);
                let fits = condition.matches(&row);
                if fits && page.rows.len() >= limit {
                    return false;
                }
                last = Some(device);
                if fits {
                    page.rows.push(row);
                    if page.rows.len() >= limit {
                        left = left.min(AHEAD_MAX);
                    }
                }
                true
            };
            let is_whole = rows_behind(&view, &record, behind, &mut known, &mut visit)?;
            if let Some(error) = failure {
                return Err(error);
            }
            let is_whole = match is_whole {
                None if !is_last => return Ok(None),
                is_whole => is_whole.unwrap_or(true),
            };
            if !is_whole {
                let device = last.unwrap_or_else(|| behind.unwrap_or_default().to_string());
                page.next = Some((work.id().to_string(), device));
                break;
            }
        }
        self.known_target = known;
        Ok(Some(page))
    }
}

/// The whole answers of the devices of a run, as long as they are kept: a part of them at a time.
struct Answers {
    /// `None` for a run of which no answers are kept.
    run: Option<(i64, Rc<DeviceIds>)>,
    /// The ordinals of the part that was read.
    read: std::ops::Range<u32>,
    part: BTreeMap<u32, (u16, Value)>,
}

impl Answers {
    /// Answers that are read at a time.
    const PART: u32 = 200;

    fn of(view: &View<'_>, record: &RunRecord, job: &HubJob, known: &mut KnownTarget) -> Result<Answers, HubError> {
        let is_method = matches!(job.action, HubAction::Method { .. });
        let run = if is_method { view.registry.journal().find(&record.job, &record.run)? } else { None };
        let run = run.map(|run| target_of(view, run.run_id, known).map(|ids| (run.run_id, ids))).transpose()?;
        Ok(Answers { run, read: 0..0, part: BTreeMap::new() })
    }

    fn get(&mut self, view: &View<'_>, device_id: &str) -> Result<Option<(u16, Value)>, HubError> {
        let Some((run_id, ids)) = &self.run else { return Ok(None) };
        let at = first_place(ids.len(), |at| ids.get(at) >= device_id);
        if at == ids.len() || ids.get(at) != device_id {
            return Ok(None);
        }
        let ordinal = u32::try_from(at).unwrap_or(u32::MAX);
        if !self.read.contains(&ordinal) {
            self.read = ordinal..ordinal.saturating_add(Answers::PART);
            self.part.clear();
            let part = &mut self.part;
            view.registry.journal().each_answer(*run_id, self.read.clone(), &mut |answer| {
                let payload = serde_json::from_slice(&answer.payload).unwrap_or(Value::Null);
                part.insert(answer.ordinal, (answer.code, payload));
            })?;
        }
        Ok(self.part.remove(&ordinal))
    }
}

/// Returns the target of a run, read once.
fn target_of(view: &View<'_>, run_id: i64, known: &mut KnownTarget) -> Result<Rc<DeviceIds>, HubError> {
    let ids = match known {
        Some((known_id, ids)) if *known_id == run_id => Rc::clone(ids),
        _ => Rc::new(view.registry.journal().targets(run_id)?),
    };
    *known = Some((run_id, Rc::clone(&ids)));
    Ok(ids)
}

/// Returns the jobs that have rows for a condition, sorted by id.
fn works<'v>(view: &'v View<'_>, condition: &RowQuery) -> Vec<HubWork<'v>> {
    if let Some(id) = condition.only("jobId") {
        return find(&view.declared, id).into_iter().collect();
    }
    let mut works: Vec<HubWork<'v>> = all(&view.declared).collect();
    works.sort_by(|one, two| one.id().cmp(two.id()));
    works
}

/// Calls `visit` for the devices of a run behind an id, in order, until it returns false. Returns false when it did, and
/// `None` when the run has ended since its record was read.
fn rows_behind(
    view: &View<'_>,
    record: &RunRecord,
    behind: Option<&str>,
    known: &mut KnownTarget,
    visit: &mut dyn FnMut(Row) -> bool,
) -> Result<Option<bool>, HubError> {
    /// Rows that are read from the journal at a time.
    const CHUNK: u32 = 1_000;
    let key = (record.job.clone(), record.run.clone());
    if view.ledger.has_end(&key) || !view.ledger.open.contains_key(&key) {
        return published_behind(view, record, behind, visit).map(Some);
    }
    let Some(run) = view.registry.journal().find(&record.job, &record.run)? else { return Ok(None) };
    let ids = target_of(view, run.run_id, known)?;
    let from = behind.map_or(0, |behind| first_place(ids.len(), |at| ids.get(at) > behind));
    let mut from = u32::try_from(from).unwrap_or(u32::MAX);
    let (mut goes_on, sizes) = (true, run.sizes);
    let pending = PendingRows::of(record.status);
    while goes_on && from < run.total {
        let until = run.total.min(from + CHUNK);
        view.registry.journal().each_result(run.run_id, &ids, from..until, pending, &mut |row| {
            let batch = u32::try_from(sizes.batch_of(u64::from(row.outcome.ordinal)) + 1).unwrap_or(u32::MAX);
            goes_on = goes_on && visit(crate::prepare::published_row(row, batch));
        })?;
        from = until;
    }
    Ok(Some(goes_on))
}

fn published_behind(
    view: &View<'_>,
    record: &RunRecord,
    behind: Option<&str>,
    visit: &mut dyn FnMut(Row) -> bool,
) -> Result<bool, HubError> {
    let fleet = view.declared.fleet.name.clone();
    let key = RunKey { fleet, job: record.job.clone(), run: record.run.clone() };
    if view.branch.tip()?.is_none() {
        let mut goes_on = true;
        let mut take = |row: Row| {
            if goes_on && behind.is_none_or(|behind| row.device_id.as_str() > behind) {
                goes_on = visit(row);
            }
        };
        remembered_rows(&view.registry, &key, &mut take).map_err(OpsError::from)?;
        return Ok(goes_on);
    }
    let (folder, runs) = (key.results_folder(), view.branch.folder(RUNS_FOLDER)?);
    let blob_of = |number: usize| -> Result<BlobId, HubError> {
        let path = shard_path(&folder, number as u32 + 1);
        let inner = path.strip_prefix(RUNS_FOLDER).map(|inner| inner.trim_start_matches('/'));
        let blob = runs.as_ref().zip(inner).and_then(|(runs, inner)| runs.blob(inner));
        blob.ok_or_else(|| HubError::Unavailable(format!("the results branch lacks {path}")))
    };
    // To read a shard takes longer than all else of a page.
    let kept = view.workspace.kept();
    let read = |blob: BlobId| kept.shard(&blob.to_string(), || Ok::<_, HubError>(view.branch.read_blob(blob)?));
    let first_of = |number: usize| {
        let blob = blob_of(number)?;
        kept.first_of_shard(&blob.to_string(), || Ok::<_, HubError>(first_id(&read(blob)?)))
    };
    let shards = record.published.shards as usize;
    let mut failure = None;
    let first = behind.map_or(0, |behind| {
        // The last shard that begins at or before it.
        let begins_behind = |at: usize| match first_of(at) {
            Ok(first) => first.is_none_or(|first| &*first > behind),
            Err(error) => {
                failure.get_or_insert(error);
                true
            }
        };
        first_place(shards, begins_behind).saturating_sub(1)
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
    for number in first..shards {
        let take = |row: Row| if visit(row) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
        if read_shard_from(&read(blob_of(number)?)?, from, take).map_err(HubError::Unavailable)?.is_break() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns a row as IoT Hub has it. Without the whole answer of the device, with what its row has of it.
fn json_of(job: &HubJob, row: Row, answer: Option<(u16, Value)>, completes_failures: bool) -> Value {
    let is_method = matches!(job.action, HubAction::Method { .. });
    let (job_type, is_over) = (job_type(&job.action), job.status == HubStatus::Cancelled || job.end.is_some());
    let is_answer = matches!(row.reason, Reason::Responded | Reason::Rejected);
    let is_forgiven = completes_failures && row.reason == Reason::Rejected && is_method;
    let status = match (row.status, row.reason) {
        // Also of a job that was cancelled: what was sent ends.
        (DeviceStatus::Pending, Reason::InFlight) if job.end.is_none() => "running",
        (DeviceStatus::Pending, _) if is_over => "canceled",
        (DeviceStatus::Pending, Reason::Waiting) => "scheduled",
        (DeviceStatus::Pending, _) => "pending",
        (DeviceStatus::Completed, _) => "completed",
        (DeviceStatus::Failed, _) if is_forgiven => "completed",
        (DeviceStatus::Failed, _) => "failed",
    };
    let outcome = if is_method && is_answer {
        let kept = || {
            let payload = serde_json::from_str(&row.message).unwrap_or_else(|_| match row.message.as_str() {
                "" => Value::Null,
                text => json!(text),
            });
            (row.code.unwrap_or_default(), payload)
        };
        let (status, payload) = answer.unwrap_or_else(kept);
        json!({"deviceMethodResponse": {"status": status, "payload": payload}})
    } else {
        Value::Null
    };
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let updated = row.finished_at.or(row.started_at).or(job.created);
    let mut found = json!({
        "deviceId": row.device_id,
        "jobId": job.id,
        "jobType": job_type,
        "status": status,
        "startTimeUtc": time(row.started_at),
        "endTimeUtc": time(row.finished_at),
        "createdDateTimeUtc": time(job.created),
        "lastUpdatedDateTimeUtc": time(updated),
        "outcome": outcome,
    });
    if status == "failed" {
        let (code, description) = fault(row.reason, &row.message);
        found["error"] = json!({"code": code, "description": description});
    }
    found
}

/// Returns IoT Hub's word for what a job does.
pub fn job_type(action: &HubAction) -> &'static str {
    match action {
        HubAction::Method { .. } => "scheduleDeviceMethod",
        HubAction::Twin { .. } => "scheduleUpdateTwin",
        HubAction::Other => "unknown",
    }
}

/// Returns the code and the sentence of why a device has failed.
fn fault(reason: Reason, message: &str) -> (&'static str, String) {
    let said = |fallback: &str| if message.is_empty() { fallback.to_string() } else { message.to_string() };
    match reason {
        Reason::Rejected => ("DeviceRejected", said("The device answered with a status of 400 or more.")),
        Reason::Timeout => ("GatewayTimeout", "Timed out waiting for the response from device.".to_string()),
        Reason::Offline | Reason::Expired => {
            ("DeviceNotOnline", "Timed out waiting for device to connect.".to_string())
        }
        Reason::Blocked => ("DeviceDisabled", "The device is disabled.".to_string()),
        Reason::Deleted => ("DeviceNotFound", "The device is not registered any more.".to_string()),
        Reason::TemplateMismatch => ("ArgumentInvalid", said("The job does not fit the template of the device.")),
        Reason::OutcomeUnknown => ("OutcomeUnknown", said("It was sent, and its outcome is not known.")),
        _ => ("ServerError", said("It failed.")),
    }
}
