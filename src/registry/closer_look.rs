//! What becomes of a device that the quick statement of a write left alone, with the same words for every store.

use super::Assignment;
use crate::model::outcome::Reason;
use crate::model::patch::{counted_size, merge, violations};

/// What becomes of a device.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing is written: why, in a word and for people.
    Left(Reason, Option<String>),
    /// The section gets this value.
    Written(serde_json::Value),
}

/// Decides about a device: gone, blocked, already as desired, or near a limit. `is_blocked` is `None` for a device that
/// is gone; `section` reads the section that a patch is about.
///
/// # Errors
/// Those of `section`.
pub(super) fn judge<E>(
    assignment: &Assignment,
    is_blocked: Option<bool>,
    section: impl FnOnce() -> Result<serde_json::Value, E>,
) -> Result<Verdict, E> {
    let left = |reason, message: &str| Ok(Verdict::Left(reason, Some(message.to_string())));
    match is_blocked {
        None => return left(Reason::Deleted, "it is no longer in the registry"),
        Some(true) => return left(Reason::Blocked, "it was blocked"),
        Some(false) => {}
    }
    let Assignment::Patch { section: name, patch, .. } = assignment else {
        return Ok(Verdict::Left(Reason::Unchanged, None));
    };
    let before = section()?;
    let mut after = before.clone();
    merge(&mut after, patch);
    if after == before {
        return Ok(Verdict::Left(Reason::Unchanged, None));
    }
    let members = after.as_object().cloned().unwrap_or_default();
    match violations(&members, *name).first() {
        Some(broken) => {
            let size = counted_size(&before);
            left(Reason::Error, &format!("{} (it counts {size} now)", broken.rule))
        }
        None => Ok(Verdict::Written(after)),
    }
}
