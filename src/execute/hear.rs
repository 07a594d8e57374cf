//! Handles events of the link: writes them to the registry first, then passes them to their runs.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::Value;

use super::active::Active;
use super::{ExecuteError, Executor};
use crate::ledger::RunKey;
use crate::link::{DeviceLink, DeviceMessage, Identity, LinkEvent, Origin, Reply, ReplyAnswer, Token, Twin};
use crate::model::acknowledgement::{Acknowledgement, acknowledgement};
use crate::model::device::Device;
use crate::model::id::Name;
use crate::model::limits;
use crate::model::observation::DeviceIds;
use crate::model::secret::Masks;
use crate::model::text::{sanitize_line, shorten};
use crate::query;
use crate::registry::{
    Answer, Change, DeviceKeys, Heard, HeardOf, IdentityRow, NewMessage, QueuedMessage, Registry, Reported, Request,
    Selection,
};
use crate::rollout::{Event, WorkKind};

/// Returns a device's text as it is kept: sanitised and cut.
fn kept(text: &str) -> String {
    shorten(&sanitize_line(text), limits::MESSAGE_CHARS_MAX).into_owned()
}

/// Bytes of messages beyond which devices get theirs the next time.
const HANDED_BYTES_MAX: usize = 4 << 20;

/// Returns the number of the message that an event is about.
fn taken_message(event: &LinkEvent) -> Option<i64> {
    if let LinkEvent::MessageTaken { sequence } = event { Some(*sequence) } else { None }
}

/// Returns a message as its device gets it.
fn handed(QueuedMessage { sequence, deliveries, message }: QueuedMessage) -> DeviceMessage {
    let NewMessage { message_id, properties, body, expires_at } = message;
    DeviceMessage { sequence, is_again: deliveries > 0, message_id, properties, expires_at, body }
}

/// An answer to a run that has ended in this process; its device has an outcome, or stays pending.
struct Late {
    token: Token,
    code: u16,
    message: String,
}

/// What devices said, in the registry.
struct Kept {
    device_id: String,
    said: Said,
}

enum Said {
    /// It has connected.
    Online,
    /// Its reported section is this one now.
    Reported(Value),
}

/// Runs that answers name, with their targets, by number; `None` for one that was never claimed here.
type KnownRuns = BTreeMap<i64, Option<(RunKey, DeviceIds)>>;

/// Listens to devices, whether something runs or not.
pub struct Hearing<'a> {
    /// The name of the fleet.
    pub fleet: &'a Name,
    pub registry: &'a mut Registry,
    pub link: &'a mut dyn DeviceLink,
    /// Hides secrets in what devices say.
    pub masks: &'a Masks,
}

impl Hearing<'_> {
    /// Writes what has come and answers the devices, while nothing runs. With `is_beside` another process works on the
    /// registry and hears the same: what devices report and ask for is left to it, so that nothing is written twice.
    /// Devices repeat what neither has answered. Returns true when something had come.
    ///
    /// # Errors
    /// The registry or the link failed.
    pub fn hear(&mut self, is_beside: bool, now: Timestamp) -> Result<bool, ExecuteError> {
        let events = self.link.poll(now)?;
        if events.is_empty() {
            self.link.settle();
            return Ok(false);
        }
        let (mut late, mut heard, mut known) = (Vec::new(), Vec::new(), KnownRuns::new());
        for event in events {
            match event {
                LinkEvent::Answered { .. } | LinkEvent::Reported { .. } | LinkEvent::TwinWanted { .. } if is_beside => {
                }
                LinkEvent::Answered { token, origin, code, body } => {
                    late.extend(self.late((token, origin.as_ref()), (code, &body), &mut known)?);
                }
                LinkEvent::NotDelivered { .. } => {}
                event => heard.push(event),
            }
        }
        self.write(heard, &late, now)?;
        self.link.settle();
        Ok(true)
    }

    /// Returns an answer to a run that is not executed; `None` when its device was never asked that. `known` has the runs
    /// that were looked up for the answers before it.
    fn late(
        &self,
        (token, origin): (Token, Option<&Origin>),
        (code, body): (u16, &str),
        known: &mut KnownRuns,
    ) -> Result<Option<Late>, ExecuteError> {
        if let Some(origin) = origin {
            let run = match known.entry(token.run_id) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(self.run_numbered(token.run_id)?),
            };
            let at = token.ordinal as usize;
            let Some((key, ids)) = run.as_ref().filter(|(_, ids)| at < ids.len()) else { return Ok(None) };
            if !origin.is_of(ids.get(at), &key.execution_id(ids.get(at))) {
                return Ok(None);
            }
        }
        Ok(Some(Late { token, code, message: kept(&self.masks.text(body)) }))
    }

    fn run_numbered(&self, run_id: i64) -> Result<Option<(RunKey, DeviceIds)>, ExecuteError> {
        let journal = self.registry.journal();
        let Some((job, run)) = journal.name_of(run_id)? else { return Ok(None) };
        Ok(Some((RunKey { fleet: self.fleet.clone(), job, run }, journal.targets(run_id)?)))
    }

    /// Writes messages from devices and late answers in one commit, answers the devices, and returns what is news to
    /// runs.
    fn write(&mut self, heard: Vec<LinkEvent>, late: &[Late], now: Timestamp) -> Result<Vec<Kept>, ExecuteError> {
        if heard.is_empty() && late.is_empty() {
            return Ok(Vec::new());
        }
        let heard: Vec<LinkEvent> = heard.into_iter().map(|event| self.masked(event)).collect();
        let left = if heard.contains(&LinkEvent::Began) { self.connected()? } else { DeviceIds::default() };
        // Nobody has seen when each of them left.
        let what = HeardOf::Presence { is_online: false, is_news: false };
        let mut from: Vec<Heard<'_>> = left.iter().map(|device_id| Heard { device_id, at: now, what }).collect();
        for event in &heard {
            let (device_id, at, what) = match event {
                LinkEvent::Presence { device_id, is_online, is_news, at } => {
                    (device_id, *at, HeardOf::Presence { is_online: *is_online, is_news: *is_news })
                }
                LinkEvent::Reported { device_id, patch, at, .. } => (device_id, *at, HeardOf::Report { patch }),
                LinkEvent::TwinWanted { device_id, .. } => {
                    (device_id, now, HeardOf::Presence { is_online: true, is_news: true })
                }
                LinkEvent::Subscribed { device_id, subscriptions } => {
                    (device_id, now, HeardOf::Session { subscriptions: *subscriptions })
                }
                // Who it is is not known yet.
                LinkEvent::Began
                | LinkEvent::LoginWanted { .. }
                | LinkEvent::MessagesWanted { .. }
                | LinkEvent::MessageTaken { .. }
                | LinkEvent::Answered { .. }
                | LinkEvent::NotDelivered { .. } => continue,
            };
            from.push(Heard { device_id, at, what });
        }
        let mut changes = Vec::with_capacity(late.len() + 1);
        if !from.is_empty() {
            changes.push(Change::Heard { from: &from });
        }
        let taken: Vec<i64> = heard.iter().filter_map(taken_message).collect();
        if !taken.is_empty() {
            changes.push(Change::Settle { sequences: &taken });
        }
        changes.extend(late.iter().map(|Late { token, code, message }| Change::Late {
            run_id: token.run_id,
            ordinal: token.ordinal,
            code: *code,
            message,
            at: now,
        }));
        let mut answers = if changes.is_empty() { Vec::new() } else { self.registry.commit(&changes)? };
        let reported = if from.is_empty() { Vec::new() } else { answers.swap_remove(0).into_reported() };
        self.hand_over(&heard, now)?;
        self.answer(heard, reported)
    }

    /// Hands messages over to the devices that listen to them, and counts it before.
    fn hand_over(&mut self, heard: &[LinkEvent], now: Timestamp) -> Result<(), ExecuteError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for event in heard {
            let LinkEvent::MessagesWanted { device_id, rid, after, most } = event else { continue };
            let (mut messages, mut has_more) = (Vec::new(), bytes >= HANDED_BYTES_MAX);
            let waiting = if has_more { Vec::new() } else { self.registry.devices().messages(device_id, now)? };
            for one in waiting.into_iter().filter(|one| one.sequence > *after) {
                if messages.len() >= *most || bytes >= HANDED_BYTES_MAX {
                    has_more = true;
                    break;
                }
                bytes += one.message.body.len();
                messages.push(one);
            }
            found.push((device_id, rid, messages, has_more));
        }
        let all = || found.iter().flat_map(|(_, _, messages, _)| messages);
        let sequences: Vec<i64> = all().map(|one| one.sequence).collect();
        let may = match sequences.is_empty() {
            true => BTreeSet::new(),
            false => {
                let answers = self.registry.commit(&[Change::HandOver { sequences: &sequences }])?;
                answers.into_iter().flat_map(Answer::into_messages).collect()
            }
        };
        for (device_id, rid, messages, has_more) in found {
            let messages = messages.into_iter().filter(|one| may.contains(&one.sequence)).map(handed).collect();
            let answer = ReplyAnswer::Messages { messages, has_more };
            self.link.reply(Reply { device_id: device_id.clone(), rid: rid.clone(), answer });
        }
        Ok(())
    }

    /// Returns an event without the values of secrets.
    fn masked(&self, event: LinkEvent) -> LinkEvent {
        match event {
            LinkEvent::Reported { device_id, patch, rid, at } => {
                LinkEvent::Reported { device_id, patch: self.masks.value(patch), rid, at }
            }
            event => event,
        }
    }

    /// Returns the devices that count as connected.
    fn connected(&self) -> Result<DeviceIds, ExecuteError> {
        let conditions = query::parse("connectionState = 'Connected'").into_iter().collect();
        let request = Request::new(Selection::Matching { template: None, conditions }, Vec::new());
        Ok(self.registry.devices().observe(&request)?.ids)
    }

    /// Returns what a device proves who it is with.
    fn identity(&self, device_id: &str) -> Result<Option<Identity>, ExecuteError> {
        let Some(found) = self.registry.devices().identity(device_id)? else { return Ok(None) };
        let IdentityRow { blocked: is_blocked, keys, subscriptions, .. } = found;
        let DeviceKeys { authentication, primary_key, secondary_key, primary_thumbprint, secondary_thumbprint } = keys;
        let keys = [primary_key, secondary_key].into_iter().flatten().collect();
        let thumbprints = [primary_thumbprint, secondary_thumbprint].into_iter().flatten().collect();
        Ok(Some(Identity { authentication, keys, thumbprints, is_blocked, subscriptions }))
    }

    /// Answers the devices, and returns what is news to runs.
    fn answer(&mut self, heard: Vec<LinkEvent>, reported: Vec<Reported>) -> Result<Vec<Kept>, ExecuteError> {
        let (mut reported, mut news) = (reported.into_iter(), Vec::new());
        for event in heard {
            match event {
                LinkEvent::Presence { device_id, is_online: true, .. } => {
                    news.push(Kept { device_id, said: Said::Online });
                }
                LinkEvent::Reported { device_id, rid, .. } => {
                    let Some(came) = reported.next() else { continue };
                    let answer = match &came {
                        Reported::Written { version, .. } => ReplyAnswer::Written { version: *version },
                        Reported::Unknown => ReplyAnswer::Refused { status: 404 },
                        Reported::Blocked => ReplyAnswer::Refused { status: 403 },
                        Reported::TooLarge => ReplyAnswer::Refused { status: 413 },
                    };
                    if let Some(rid) = rid {
                        self.link.reply(Reply { device_id: device_id.clone(), rid, answer });
                    }
                    if let Reported::Written { section, .. } = came {
                        news.push(Kept { device_id, said: Said::Reported(section) });
                    }
                }
                LinkEvent::TwinWanted { device_id, rid } => {
                    let answer = match self.registry.devices().get(&device_id)? {
                        None => ReplyAnswer::Refused { status: 404 },
                        Some(device) if device.blocked => ReplyAnswer::Refused { status: 403 },
                        Some(device) => {
                            let Device { desired, desired_version, reported, reported_version, .. } = device;
                            let (desired, reported) = (self.masks.unmasked(&desired), self.masks.unmasked(&reported));
                            ReplyAnswer::Twin(Twin { desired, desired_version, reported, reported_version })
                        }
                    };
                    if matches!(answer, ReplyAnswer::Twin(_)) {
                        news.push(Kept { device_id: device_id.clone(), said: Said::Online });
                    }
                    self.link.reply(Reply { device_id, rid, answer });
                }
                LinkEvent::LoginWanted { device_id, rid } => {
                    let answer = ReplyAnswer::Identity(self.identity(&device_id)?);
                    self.link.reply(Reply { device_id, rid, answer });
                }
                LinkEvent::Began
                | LinkEvent::MessagesWanted { .. }
                | LinkEvent::MessageTaken { .. }
                | LinkEvent::Subscribed { .. }
                | LinkEvent::Presence { is_online: false, .. }
                | LinkEvent::Answered { .. }
                | LinkEvent::NotDelivered { .. } => {}
            }
        }
        Ok(news)
    }
}

impl Executor<'_> {
    /// Writes messages from devices and late answers in one commit, and returns the events for each run, in the order
    /// of the runs.
    pub(super) fn hear(
        &mut self,
        active: &mut [Active],
        events: Vec<LinkEvent>,
        now: Timestamp,
    ) -> Result<Vec<Vec<Event>>, ExecuteError> {
        let mut fed: Vec<Vec<Event>> = active.iter().map(|_| Vec::new()).collect();
        let (mut heard, mut late, mut known) = (Vec::new(), Vec::new(), KnownRuns::new());
        let mut hearing =
            Hearing { fleet: &self.fleet.name, registry: self.registry, link: self.link, masks: &self.masks };
        for event in events {
            let run_of = |token: Token| active.iter().position(|run| run.run_id == token.run_id);
            match event {
                LinkEvent::Answered { token, origin, code, body } => match run_of(token) {
                    Some(at) if active[at].has_asked(hearing.fleet, token.ordinal, origin.as_ref()) => {
                        let (ordinal, body) = (token.ordinal, hearing.masks.text(&body));
                        active[at].hear((ordinal, code), &body, now);
                        let message = kept(&body);
                        fed[at].push(Event::Answered { ordinal, code, message });
                    }
                    Some(_) => {}
                    None => late.extend(hearing.late((token, origin.as_ref()), (code, &body), &mut known)?),
                },
                LinkEvent::NotDelivered { token } => {
                    let ordinal = token.ordinal;
                    run_of(token).into_iter().for_each(|at| fed[at].push(Event::Unreachable { ordinal }));
                }
                event => heard.push(event),
            }
        }
        let news = hearing.write(heard, &late, now)?;
        let mut acknowledged: Vec<Vec<(u32, Value)>> = active.iter().map(|_| Vec::new()).collect();
        for Kept { device_id, said } in news {
            for (at, run) in active.iter().enumerate() {
                let Some(ordinal) = run.ordinal_of(&device_id) else { continue };
                match &said {
                    Said::Online => fed[at].push(Event::Connected { ordinal }),
                    Said::Reported(section) => acknowledged[at].push((ordinal, section.clone())),
                }
            }
        }
        for (at, sections) in acknowledged.iter().enumerate().filter(|(_, sections)| !sections.is_empty()) {
            fed[at].extend(self.acknowledgements(&active[at], sections)?);
        }
        Ok(fed)
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
