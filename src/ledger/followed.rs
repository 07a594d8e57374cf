//! The time since which a schedule is followed: `schedules/<name>.json` on the results branch.
//!
//! `{"format_version": 1, "schedule": "nightly", "timing": "9f2c…", "since": "2026-11-21T10:00:00Z"}`, written when a
//! daemon first sees a schedule, and again whenever its times are edited, it is suspended or resumed, or it is gone.
//! The daemon ignores occurrences before `since`: the current times were not declared then. So editing a schedule never
//! runs occurrences of the past.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::FORMAT_VERSION;
use super::claim::{check_version, digest, text, timestamp};
use crate::model::digest::Digest;
use crate::model::id::Name;

/// The folder of these documents on the results branch.
pub const FOLLOWED_FOLDER: &str = "schedules/";

/// The state of a schedule since its timing last changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    pub schedule: Name,
    /// The digest of everything that decides about the schedule's times; see [`Followed::gone`].
    pub timing: Digest,
    pub since: Timestamp,
}

impl Followed {
    /// Returns the timing of a schedule that is not declared.
    pub fn gone() -> Digest {
        Digest::of_texts(["gone"])
    }

    /// Returns the path of the document.
    pub fn path(&self) -> String {
        format!("{FOLLOWED_FOLDER}{}.json", self.schedule)
    }

    /// Returns the document.
    pub fn to_json(&self) -> Value {
        json!({
            "format_version": FORMAT_VERSION,
            "schedule": self.schedule.as_str(),
            "timing": self.timing.to_string(),
            "since": self.since.to_string(),
        })
    }

    /// Reads a document back.
    ///
    /// # Errors
    /// Names the field that is missing or malformed, or the format version that is too new.
    pub fn from_json(document: &Value) -> Result<Followed, String> {
        check_version(document)?;
        Ok(Followed {
            schedule: Name::parse(text(document, "schedule")?).map_err(|error| format!("`schedule` {error}"))?,
            timing: digest(document, "timing")?,
            since: timestamp(document, "since")?.ok_or("`since` is missing")?,
        })
    }
}
