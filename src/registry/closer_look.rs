//! What becomes of a device that the quick statement of a write left alone, with the same words for every store.

use serde_json::Value;

use super::Assignment;
use crate::model::outcome::Reason;
use crate::model::patch::{counted_size, merge, violations};

/// What becomes of a device.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing is written: why, in a word and for people.
    Left(Reason, Option<String>),
    /// The sections get these values, in the order of the patches.
    Written(Vec<Value>),
}

/// Decides about a device: gone, blocked, already as desired, or near a limit. `is_blocked` is `None` for a device that
/// is gone; `sections` reads the sections that the patches are about, in their order.
///
/// # Errors
/// Those of `sections`.
pub(super) fn judge<E>(
    assignment: &Assignment,
    is_blocked: Option<bool>,
    sections: impl FnOnce() -> Result<Vec<Value>, E>,
) -> Result<Verdict, E> {
    let left = |reason, message: &str| Ok(Verdict::Left(reason, Some(message.to_string())));
    match is_blocked {
        None => return left(Reason::Deleted, "it is no longer in the registry"),
        Some(true) => return left(Reason::Blocked, "it was blocked"),
        Some(false) => {}
    }
    let Assignment::Patch { patches, .. } = assignment else {
        return Ok(Verdict::Left(Reason::Unchanged, None));
    };
    let before = sections()?;
    let mut after = before.clone();
    patches.iter().zip(&mut after).for_each(|((_, patch), section)| merge(section, patch));
    if after == before {
        return Ok(Verdict::Left(Reason::Unchanged, None));
    }
    let mut changed = patches.iter().zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
    let broken = changed.find_map(|((section, _), (before, after))| {
        let members = after.as_object().cloned().unwrap_or_default();
        Some((violations(&members, *section).into_iter().next()?, counted_size(before)))
    });
    match broken {
        Some((broken, size)) => left(Reason::Error, &format!("{} (it counts {size} now)", broken.rule)),
        None => Ok(Verdict::Written(after)),
    }
}
