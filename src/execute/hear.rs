//! Handles events of the link: writes them to the registry first, then passes them to their runs.

use jiff::Timestamp;
use serde_json::Value;

use super::active::Active;
use super::{ExecuteError, Executor};
use crate::link::{LinkEvent, Token};
use crate::model::acknowledgement::{Acknowledgement, acknowledgement};
use crate::model::limits;
use crate::model::text::{sanitize_line, shorten};
use crate::registry::{Change, Heard, HeardOf};
use crate::rollout::{Event, WorkKind};

/// Returns a device's text as it is kept: sanitised and cut.
fn kept(text: &str) -> String {
    shorten(&sanitize_line(text), limits::MESSAGE_CHARS_MAX).into_owned()
}

/// An answer to a run that has ended in this process; its device has an outcome, or stays pending.
struct Late {
    token: Token,
    code: u16,
    message: String,
}

impl Executor<'_> {
    /// Writes messages from devices and late answers in one commit, and returns the events for each run, in the order
    /// of the runs.
    pub(super) fn hear(
        &mut self,
        active: &[Active],
        events: Vec<LinkEvent>,
        now: Timestamp,
    ) -> Result<Vec<Vec<Event>>, ExecuteError> {
        let mut fed: Vec<Vec<Event>> = active.iter().map(|_| Vec::new()).collect();
        let (mut heard, mut late) = (Vec::new(), Vec::new());
        for event in events {
            let run_of = |token: Token| active.iter().position(|run| run.run_id == token.run_id);
            match event {
                LinkEvent::Answered { token, code, body } => {
                    let (ordinal, message) = (token.ordinal, kept(&self.masks.text(&body)));
                    match run_of(token) {
                        Some(at) => fed[at].push(Event::Answered { ordinal, code, message }),
                        None => late.push(Late { token, code, message }),
                    }
                }
                LinkEvent::NotDelivered { token } => {
                    let ordinal = token.ordinal;
                    run_of(token).into_iter().for_each(|at| fed[at].push(Event::Unreachable { ordinal }));
                }
                LinkEvent::Reported { device_id, patch, at } => {
                    let patch = self.masks.value(patch);
                    heard.push(LinkEvent::Reported { device_id, patch, at });
                }
                LinkEvent::Presence { .. } => heard.push(event),
            }
        }
        let reported = self.write_heard(&heard, &late, now)?;
        let mut reported = reported.into_iter();
        let mut acknowledged: Vec<Vec<(u32, Value)>> = active.iter().map(|_| Vec::new()).collect();
        for event in heard {
            let (device_id, section) = match event {
                LinkEvent::Presence { is_online: false, .. } => continue,
                LinkEvent::Presence { device_id, is_online: true, .. } => (device_id, None),
                LinkEvent::Reported { device_id, .. } => match reported.next().flatten() {
                    Some(section) => (device_id, Some(section)),
                    None => continue,
                },
                LinkEvent::Answered { .. } | LinkEvent::NotDelivered { .. } => continue,
            };
            for (at, run) in active.iter().enumerate() {
                let Some(ordinal) = run.ordinal_of(&device_id) else { continue };
                match &section {
                    None => fed[at].push(Event::Connected { ordinal }),
                    Some(section) => acknowledged[at].push((ordinal, section.clone())),
                }
            }
        }
        for (at, sections) in acknowledged.iter().enumerate().filter(|(_, sections)| !sections.is_empty()) {
            fed[at].extend(self.acknowledgements(&active[at], sections)?);
        }
        Ok(fed)
    }

    /// Returns the reported section of each device that reported, in order; `None` for one that the registry does not
    /// have.
    fn write_heard(
        &mut self,
        heard: &[LinkEvent],
        late: &[Late],
        now: Timestamp,
    ) -> Result<Vec<Option<Value>>, ExecuteError> {
        if heard.is_empty() && late.is_empty() {
            return Ok(Vec::new());
        }
        let mut from = Vec::with_capacity(heard.len());
        for event in heard {
            match event {
                LinkEvent::Presence { device_id, is_online, at } => {
                    let what = HeardOf::Presence { is_online: *is_online };
                    from.push(Heard { device_id, at: *at, what });
                }
                LinkEvent::Reported { device_id, patch, at } => {
                    from.push(Heard { device_id, at: *at, what: HeardOf::Report { patch } });
                }
                LinkEvent::Answered { .. } | LinkEvent::NotDelivered { .. } => {}
            }
        }
        let mut changes = Vec::with_capacity(late.len() + 1);
        if !from.is_empty() {
            changes.push(Change::Heard { from: &from });
        }
        changes.extend(late.iter().map(|Late { token, code, message }| Change::Late {
            run_id: token.run_id,
            ordinal: token.ordinal,
            code: *code,
            message,
            at: now,
        }));
        let mut answers = self.registry.commit(&changes)?;
        Ok(if from.is_empty() { Vec::new() } else { answers.swap_remove(0).into_reported() })
    }

    /// Returns the acknowledgements in the reported sections of some devices of a run, for the versions that the run
    /// has written to them.
    fn acknowledgements(&self, run: &Active, sections: &[(u32, Value)]) -> Result<Vec<Event>, ExecuteError> {
        if run.rollout.spec().work != WorkKind::WriteAndConfirm {
            return Ok(Vec::new());
        }
        let ordinals: Vec<u32> = sections.iter().map(|(ordinal, _)| *ordinal).collect();
        let versions = self.registry.journal().written_versions(run.run_id, &ordinals)?;
        let patches = self.patches(run, &ordinals)?;
        let events = sections.iter().zip(versions).zip(patches).filter_map(|(((ordinal, section), version), patch)| {
            // A device that the run has not written, or that has an outcome, cannot acknowledge.
            if version == 0 {
                return None;
            }
            match acknowledgement(&patch, version, section) {
                Acknowledgement::Pending => None,
                Acknowledgement::Given { code, text } => {
                    Some(Event::Answered { ordinal: *ordinal, code, message: kept(&text) })
                }
            }
        });
        Ok(events.collect())
    }
}
