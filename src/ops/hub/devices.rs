//! Single devices, written at once: twins and identities are state, and no work that is planned. Who did it goes to the
//! results branch.

use std::ops::ControlFlow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::desk::Desk;
use super::{Caller, HubError};
use crate::execute::direct_entry;
use crate::model::device::{Authentication, Device};
use crate::model::fleet::Declared;
use crate::model::id::DeviceId;
use crate::model::patch::{Section, violations};
use crate::prepare::{models_of, owner};
use crate::query::{self, Query};
use crate::registry::{
    Answer, Change, DeviceFilter, DeviceKeys, IdentityRow, IdentityWrite, IfMatch, NewIdentity, Registry, Statistics,
    TwinRow, TwinWrite, twin_etag,
};
use crate::results::DirectRow;

/// Bytes of a key that is made.
const KEY_BYTES: usize = 32;
/// The bytes of a key of IoT Hub.
const KEY_BYTES_LEGAL: std::ops::RangeInclusive<usize> = 16..=64;

/// A twin with the facts of its identity that it shows.
#[derive(Debug, Clone)]
pub struct HubTwin {
    pub device: Device,
    pub etag: String,
    pub identity: Option<IdentityRow>,
    /// Messages that wait for the device.
    pub messages: u64,
}

/// What is to become of a twin. A section that is absent stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TwinPatch {
    pub tags: Option<Map<String, Value>>,
    pub desired: Option<Map<String, Value>>,
    /// The sections become these, instead of being merged with them.
    pub replaces: bool,
    /// `None` writes whatever is there.
    pub if_match: Option<String>,
}

/// A twin that was written.
#[derive(Debug, Clone)]
pub struct TwinWritten {
    pub twin: HubTwin,
    /// What a connected device is to be told; `None` for nothing.
    pub told: Option<Value>,
}

/// An identity as a back end gives it.
#[derive(Debug, Clone)]
pub struct GivenIdentity {
    pub authentication: Authentication,
    /// In Base64; `None` for one that is to be made.
    pub keys: [Option<String>; 2],
    /// Of SHA-1 or SHA-256, in hex digits with or without `:`.
    pub thumbprints: [Option<String>; 2],
    pub is_blocked: bool,
    pub status_reason: Option<String>,
    pub iot_edge: bool,
    pub tags: Option<Value>,
    pub desired: Option<Value>,
}

/// What `If-Match` says of an identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// It is to be made.
    Absent,
    Any,
    Etag(String),
}

impl Desk<'_> {
    /// Returns a twin.
    ///
    /// # Errors
    /// There is no such device, or the registry cannot be read.
    pub fn twin(&mut self, device_id: &str, now: Timestamp) -> Result<HubTwin, HubError> {
        let registry = self.registry()?;
        let device = registry.devices().get(device_id)?.ok_or_else(|| no_device(device_id))?;
        let messages = registry.devices().message_counts(&[device_id.to_string()], now)?.into_values().sum();
        twin_of(&registry, device, messages)
    }

    /// Calls `visit` for the twins that a condition selects, behind an id, at most `limit`. Returns the id behind which
    /// the next ones come.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn twins(
        &mut self,
        condition: Option<&Query>,
        after: Option<&str>,
        (limit, now): (usize, Timestamp),
        visit: &mut dyn FnMut(&TwinRow<'_>),
    ) -> Result<Option<String>, HubError> {
        let declared = self.declared()?;
        let filter = DeviceFilter {
            query: with_models(&declared, condition),
            organization: None,
            after: after.map(str::to_string),
            // One more says whether there is a next page.
            limit: Some(limit as u64 + 1),
        };
        let registry = self.workspace.open_for_reading(&declared.fleet)?;
        let (mut count, mut last, mut has_more) = (0, None, false);
        registry.devices().each_twin(&filter, now, &mut |twin| {
            has_more = count == limit;
            if has_more {
                return ControlFlow::Break(());
            }
            visit(twin);
            count += 1;
            if count == limit {
                last = Some(twin.device_id.to_string());
            }
            ControlFlow::Continue(())
        })?;
        Ok(last.filter(|_| has_more))
    }

    /// Calls `visit` for each device that a condition selects.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn each_device(&mut self, condition: Option<&Query>, mut visit: impl FnMut(Device)) -> Result<(), HubError> {
        let declared = self.declared()?;
        let filter = DeviceFilter { query: with_models(&declared, condition), ..DeviceFilter::default() };
        self.workspace.open_for_reading(&declared.fleet)?.each_device(&filter, |device| {
            visit(device);
            Ok::<(), HubError>(())
        })
    }

    /// Returns how many devices a condition selects.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn count_devices(&mut self, condition: Option<&Query>) -> Result<u64, HubError> {
        let declared = self.declared()?;
        let filter = DeviceFilter { query: with_models(&declared, condition), ..DeviceFilter::default() };
        Ok(self.workspace.open_for_reading(&declared.fleet)?.devices().count(&filter.request())?.selected)
    }

    /// Writes a twin, at once.
    ///
    /// # Errors
    /// There is no such device, it has changed since, or a section is not legal.
    pub fn write_twin(
        &mut self,
        device_id: &str,
        patch: &TwinPatch,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<TwinWritten, HubError> {
        let mut paths = Vec::new();
        for (name, section, members) in
            [("tags", Section::Tags, &patch.tags), ("properties.desired", Section::Desired, &patch.desired)]
        {
            let Some(members) = members else { continue };
            if let Some(broken) = violations(members, section).first() {
                let path = std::iter::once(name).chain(broken.path.iter().map(String::as_str)).collect::<Vec<_>>();
                return Err(HubError::Argument(format!("{}: {}", path.join("."), broken.rule)));
            }
            paths.extend(members.keys().map(|key| format!("{name}.{key}")));
        }
        if patch.replaces {
            paths.insert(0, "replaces".to_string());
        }
        let (tags, desired) = (patch.tags.clone().map(Value::Object), patch.desired.clone().map(Value::Object));
        let write = Change::WriteTwin {
            device_id,
            if_match: patch.if_match.as_deref(),
            tags: tags.as_ref(),
            desired: desired.as_ref(),
            replaces: patch.replaces,
        };
        let mut registry = self.registry_to_write()?;
        // What would be refused is not noted as done.
        let before = registry.devices().get(device_id)?.ok_or_else(|| no_device(device_id))?;
        if patch.if_match.as_ref().is_some_and(|etag| *etag != twin_etag(&before.tags, &before.desired)) {
            return Err(HubError::Stale);
        }
        let (note, about) = (Noted::new("twin", device_id, &paths.join(" "), caller), about(now));
        let entry = note.entry(now);
        let answers = registry.commit(&[write, Change::Report { about: &about, entry: &entry }])?;
        let written = answers.into_iter().next().map(Answer::into_twin);
        match written.unwrap_or(TwinWrite::Unknown) {
            TwinWrite::Written { device, desired_changed } => {
                let messages = registry.devices().message_counts(&[device_id.to_string()], now)?.into_values().sum();
                let twin = twin_of(&registry, *device, messages)?;
                let told = if patch.replaces { Some(twin.device.desired.clone()) } else { desired_changed };
                Ok(TwinWritten { twin, told: told.filter(|_| patch.desired.is_some()) })
            }
            TwinWrite::Unknown => Err(no_device(device_id)),
            TwinWrite::Stale => Err(HubError::Stale),
            TwinWrite::TooLarge(section) => Err(HubError::Argument(format!(
                "the {} of the device would have more than {} bytes",
                if section == Section::Tags { "tags" } else { "desired properties" },
                section.size_max()
            ))),
        }
    }

    /// Notes that methods are called on devices, with one commit of the registry. Returns what becomes of each call.
    ///
    /// # Errors
    /// Of a call: there is no such device, or it is disabled. Of all: they cannot be noted.
    pub fn note_calls(&mut self, calls: &[NotedCall]) -> Result<Vec<Result<(), HubError>>, HubError> {
        let mut registry = self.registry_to_write()?;
        let (mut verdicts, mut notes) = (Vec::new(), Vec::new());
        for NotedCall { device_id, method, caller, at } in calls {
            let verdict = match registry.devices().get(device_id)? {
                None => Err(no_device(device_id)),
                Some(device) if device.blocked => {
                    let what = format!("the device `{}` is disabled", crate::diag::shown(device_id));
                    Err(HubError::Refused(what))
                }
                Some(_) => {
                    let note = Noted::new("call", device_id, method, caller);
                    notes.push((format!("{}/{}", about(*at), notes.len()), note.entry(*at)));
                    Ok(())
                }
            };
            verdicts.push(verdict);
        }
        let changes: Vec<Change<'_>> = notes.iter().map(|(about, entry)| Change::Report { about, entry }).collect();
        if !changes.is_empty() {
            registry.commit(&changes)?;
        }
        Ok(verdicts)
    }

    /// Returns an identity.
    ///
    /// # Errors
    /// There is no such device, or the registry cannot be read.
    pub fn identity(&mut self, device_id: &str) -> Result<IdentityRow, HubError> {
        self.registry()?.devices().identity(device_id)?.ok_or_else(|| no_device(device_id))
    }

    /// Returns the first identities by id, at most `limit`.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn identities(&mut self, limit: u64) -> Result<Vec<IdentityRow>, HubError> {
        Ok(self.registry()?.devices().identities(None, limit)?)
    }

    /// Returns how many devices there are.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn statistics(&mut self) -> Result<Statistics, HubError> {
        Ok(self.registry()?.devices().statistics()?)
    }

    /// Makes an identity, or changes one.
    ///
    /// # Errors
    /// It is there or not there against what is expected, or something in it is not legal.
    pub fn put_identity(
        &mut self,
        device_id: &str,
        given: &GivenIdentity,
        expected: &Expected,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<IdentityRow, HubError> {
        DeviceId::parse(device_id).map_err(|error| HubError::Argument(format!("the device id {error}")))?;
        let mut registry = self.registry_to_write()?;
        let before = registry.devices().identity(device_id)?;
        let identity = new_identity(given, before.as_ref())?;
        match (expected, &before) {
            (Expected::Absent, Some(_)) => return Err(HubError::DeviceExists(device_id.to_string())),
            (Expected::Any | Expected::Etag(_), None) => return Err(no_device(device_id)),
            (Expected::Etag(etag), Some(before)) if *etag != before.etag => return Err(HubError::Stale),
            _ => {}
        }
        let if_match = match expected {
            Expected::Absent => IfMatch::Absent,
            Expected::Any => IfMatch::Any,
            Expected::Etag(etag) => IfMatch::Etag(etag),
        };
        let write = Change::PutIdentity { device_id, if_match, identity: &identity, at: now };
        let action = if before.is_none() { "create" } else { "update" };
        match commit_identity(&mut registry, write, &Noted::new(action, device_id, "", caller), now)? {
            IdentityWrite::Written(row) => Ok(*row),
            IdentityWrite::Exists => Err(HubError::DeviceExists(device_id.to_string())),
            IdentityWrite::Stale => Err(HubError::Stale),
            IdentityWrite::Unknown | IdentityWrite::Deleted => Err(no_device(device_id)),
        }
    }

    /// Deletes a device, at once.
    ///
    /// # Errors
    /// There is no such device, or its identity has changed since.
    pub fn delete_identity(
        &mut self,
        device_id: &str,
        if_match: Option<&str>,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<(), HubError> {
        let mut registry = self.registry_to_write()?;
        let ids = [device_id.to_string()];
        let before = registry.devices().identity(device_id)?.ok_or_else(|| no_device(device_id))?;
        if if_match.is_some_and(|etag| etag != before.etag) {
            return Err(HubError::Stale);
        }
        let import = registry.devices().imports_of(&ids)?.remove(device_id);
        let write = Change::DeleteIdentity { device_id, if_match };
        match commit_identity(&mut registry, write, &Noted::new("delete", device_id, "", caller), now)? {
            IdentityWrite::Deleted => {}
            IdentityWrite::Stale => return Err(HubError::Stale),
            IdentityWrite::Unknown | IdentityWrite::Exists | IdentityWrite::Written(_) => {
                return Err(no_device(device_id));
            }
        }
        if let Some(import) =
            import.filter(|import| self.declared().is_ok_and(|declared| declared.imports.contains_key(import.as_str())))
        {
            let device = crate::model::text::sanitize_line(device_id);
            tracing::warn!(%device, %import, "a back end has deleted a device that a declared import has: it comes back \
                when that changes");
        }
        Ok(())
    }
}

/// A method that is about to be called on a device.
#[derive(Debug)]
pub struct NotedCall {
    pub device_id: String,
    pub method: String,
    pub caller: Caller,
    pub at: Timestamp,
}

/// What a back end did to a device, for the results branch: no values and no keys.
pub(super) struct Noted<'a> {
    action: &'a str,
    device_id: &'a str,
    who: String,
    reason: String,
}

impl<'a> Noted<'a> {
    pub(super) fn new(action: &'a str, device_id: &'a str, paths: &str, caller: &Caller) -> Noted<'a> {
        let paths = crate::model::text::shorten(paths, 200).into_owned();
        Noted { action, device_id, who: format!("{} at {}", caller.policy, caller.address), reason: paths }
    }

    pub(super) fn entry(&self, at: Timestamp) -> String {
        let Noted { action, device_id, who, reason } = self;
        let row = DirectRow { at, who, action, device_id, reason };
        direct_entry(&[row], &format!("device {action}: {device_id}"))
    }
}

/// Returns a name for an entry of the outbox, unlike every other one.
pub(super) fn about(now: Timestamp) -> String {
    format!("direct/{now}/{}", owner())
}

/// Commits a write of an identity with what is noted of it.
pub(super) fn commit_identity(
    registry: &mut Registry,
    write: Change<'_>,
    note: &Noted<'_>,
    now: Timestamp,
) -> Result<IdentityWrite, HubError> {
    let (about, entry) = (about(now), note.entry(now));
    let answers = registry.commit(&[write, Change::Report { about: &about, entry: &entry }])?;
    Ok(answers.into_iter().next().map_or(IdentityWrite::Unknown, Answer::into_identity))
}

fn with_models(declared: &Declared, condition: Option<&Query>) -> Option<Query> {
    condition.map(|condition| query::with_models(condition, &models_of(declared)))
}

fn twin_of(registry: &Registry, device: Device, messages: u64) -> Result<HubTwin, HubError> {
    let etag = twin_etag(&device.tags, &device.desired);
    let identity = registry.devices().identity(&device.device_id)?;
    Ok(HubTwin { device, etag, identity, messages })
}

/// Returns an identity as the registry takes it. A key that is not given stays, or is made.
fn new_identity(given: &GivenIdentity, before: Option<&IdentityRow>) -> Result<NewIdentity, HubError> {
    let is_sas = given.authentication == Authentication::Sas;
    let known = before.filter(|row| row.keys.authentication == given.authentication).map(|row| &row.keys);
    let key = |at: usize, known: Option<&Vec<u8>>| -> Result<Option<Vec<u8>>, HubError> {
        match &given.keys[at] {
            Some(text) => {
                let key = STANDARD.decode(text).ok().filter(|key| KEY_BYTES_LEGAL.contains(&key.len()));
                let wrong = || HubError::Argument("a symmetric key has 16 to 64 bytes in Base64".to_string());
                key.map(Some).ok_or_else(wrong)
            }
            None if !is_sas => Ok(None),
            None => match known {
                Some(key) => Ok(Some(key.clone())),
                None => {
                    let mut key = vec![0; KEY_BYTES];
                    let drawn = getrandom::fill(&mut key);
                    drawn.map_err(|error| HubError::Unavailable(format!("no key can be made: {error}")))?;
                    Ok(Some(key))
                }
            },
        }
    };
    let thumbprint = |at: usize| -> Result<Option<String>, HubError> {
        let Some(text) = &given.thumbprints[at] else { return Ok(None) };
        let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
        if !matches!(digits.len(), 40 | 64) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(HubError::Argument("a thumbprint has 40 or 64 hex digits".to_string()));
        }
        Ok(Some(digits.to_ascii_uppercase()))
    };
    let keys = DeviceKeys {
        authentication: given.authentication,
        primary_key: key(0, known.and_then(|keys| keys.primary_key.as_ref()))?,
        secondary_key: key(1, known.and_then(|keys| keys.secondary_key.as_ref()))?,
        primary_thumbprint: thumbprint(0)?,
        secondary_thumbprint: thumbprint(1)?,
    };
    for (name, section, members) in
        [("tags", Section::Tags, &given.tags), ("properties.desired", Section::Desired, &given.desired)]
    {
        let members = members.as_ref().and_then(Value::as_object);
        if let Some(broken) = members.and_then(|members| violations(members, section).into_iter().next()) {
            return Err(HubError::Argument(format!("{name}.{}: {}", broken.path.join("."), broken.rule)));
        }
    }
    Ok(NewIdentity {
        is_blocked: given.is_blocked,
        status_reason: given.status_reason.clone(),
        iot_edge: given.iot_edge,
        template: None,
        organization: None,
        tags: given.tags.clone(),
        desired: given.desired.clone(),
        keys,
    })
}

pub(super) fn no_device(device_id: &str) -> HubError {
    HubError::NoDevice(crate::diag::shown(device_id))
}
