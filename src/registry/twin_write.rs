//! A write of one twin that somebody asks for at once, with the same rules in every store.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::twin_etag;
use crate::model::device::Device;
use crate::model::patch::{Section, counted_size, difference, merge_members};
use crate::model::secret::with_marks_of;

/// What came of [`Change::WriteTwin`](super::Change::WriteTwin).
#[derive(Debug, PartialEq)]
pub enum TwinWrite {
    Written {
        /// The device as it is now.
        device: Box<Device>,
        /// The merge patch that makes the desired properties of before those of now: what a connected device is to be
        /// told. It has no marks of secrets. `None` when they stay as they were.
        desired_changed: Option<Value>,
    },
    /// The registry does not have the device.
    Unknown,
    /// The ETag is not that of the twin now.
    Stale,
    /// The section would have become larger than a twin allows.
    TooLarge(Section),
}

/// The sections to write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sections<'a> {
    pub if_match: Option<&'a str>,
    pub tags: Option<&'a Value>,
    pub desired: Option<&'a Value>,
    pub replaces: bool,
}

/// The sections that are written; one that is `None` was not given.
#[derive(Debug)]
pub(super) struct NextTwin {
    pub tags: Option<Value>,
    pub desired: Option<Value>,
    pub desired_changed: Option<Value>,
}

impl Sections<'_> {
    /// Returns what becomes of a twin; the error is why nothing is written.
    pub fn next(&self, device: &Device) -> Result<NextTwin, TwinWrite> {
        if self.if_match.is_some_and(|etag| etag != twin_etag(&device.tags, &device.desired)) {
            return Err(TwinWrite::Stale);
        }
        let tags = self.section(Section::Tags, self.tags, &device.tags)?;
        let desired = self.section(Section::Desired, self.desired, &device.desired)?;
        let changed = match (device.desired.as_object(), desired.as_ref().and_then(Value::as_object)) {
            (Some(before), Some(after)) => difference(before, after),
            _ => Map::new(),
        };
        let desired_changed = (!changed.is_empty()).then_some(Value::Object(changed));
        Ok(NextTwin { tags, desired, desired_changed })
    }

    fn section(&self, section: Section, given: Option<&Value>, before: &Value) -> Result<Option<Value>, TwinWrite> {
        let Some(members) = given.and_then(Value::as_object) else { return Ok(None) };
        if members.is_empty() && !self.replaces {
            return Ok(None);
        }
        let members = match section {
            Section::Desired => Cow::Owned(with_marks_of(members, before)),
            Section::Tags | Section::Cloud | Section::Reported => Cow::Borrowed(members),
        };
        let mut after = if self.replaces { Value::Object(Map::new()) } else { before.clone() };
        // Also in place of the section: a twin has no `null`.
        merge_members(&mut after, &members);
        match after != *before && counted_size(&after) > section.size_max() {
            true => Err(TwinWrite::TooLarge(section)),
            false => Ok(Some(after)),
        }
    }
}
