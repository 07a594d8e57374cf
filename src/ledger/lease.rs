//! The lease: who runs the jobs of a fleet now, among all who share its results branch and its registry.
//!
//! `lease.json` on the results branch: `{"format_version": 1, "owner": "host-a/4711/9f2c…", "epoch": 5, "until": "2026-11-21T10:03:00Z"}`.
//! Taken by a commit that moves the branch by compare-and-swap, so two cannot have it. The epoch grows with every change of hands and
//! is never given twice; a registry refuses whoever comes with an older one. Times are those of the owners' clocks: they may differ by
//! much less than a lease lasts.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::FORMAT_VERSION;

/// Where it is on the results branch.
pub const LEASE_PATH: &str = "lease.json";
/// How long a lease lasts when it is not renewed and nobody chose another time.
pub const LEASE_TIME: Duration = Duration::from_secs(180);
/// A lease is renewed when this part of its time is over, so that two renewals may fail.
pub const LEASE_RENEWAL_PART: u32 = 3;

/// Who may work until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Of one process; empty when nobody has it.
    pub owner: String,
    pub epoch: u64,
    pub until: Timestamp,
}

impl Lease {
    /// Returns the lease of an owner, for so long, that comes after another one or is the first.
    pub fn after(before: Option<&Lease>, owner: &str, now: Timestamp, time: Duration) -> Lease {
        let epoch = match before {
            // Renewed: the hands are the same.
            Some(lease) if lease.owner == owner => lease.epoch,
            Some(lease) => lease.epoch + 1,
            None => 1,
        };
        Lease { owner: owner.to_string(), epoch, until: now.checked_add(time).unwrap_or(Timestamp::MAX) }
    }

    /// Returns the same lease, given back.
    #[must_use]
    pub fn released(&self, now: Timestamp) -> Lease {
        Lease { owner: String::new(), epoch: self.epoch, until: now }
    }

    /// Returns true when its owner neither gave it back nor made it last.
    pub fn has_run_out(&self, now: Timestamp) -> bool {
        !self.owner.is_empty() && self.until <= now
    }

    /// Returns true when nobody but its owner may work.
    pub fn is_live(&self, now: Timestamp) -> bool {
        !self.owner.is_empty() && now < self.until
    }

    /// Returns the document.
    pub fn to_json(&self) -> Value {
        json!({
            "format_version": FORMAT_VERSION,
            "owner": self.owner,
            "epoch": self.epoch,
            "until": self.until.to_string(),
        })
    }

    /// Reads a document back.
    ///
    /// # Errors
    /// Names the field that is missing or malformed, or the format version that is too new.
    pub fn from_json(document: &Value) -> Result<Lease, String> {
        super::claim::check_version(document)?;
        Ok(Lease {
            owner: super::claim::text(document, "owner")?.to_string(),
            epoch: document.get("epoch").and_then(Value::as_u64).ok_or("`epoch` is not a number")?,
            until: super::claim::timestamp(document, "until")?.ok_or("`until` is missing")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_grow_with_every_change_of_hands() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let later = now.checked_add(LEASE_TIME / LEASE_RENEWAL_PART).unwrap();
        let first = Lease::after(None, "a", now, LEASE_TIME);
        assert!(first.is_live(now) && first.is_live(later));
        let end = now.checked_add(LEASE_TIME).unwrap();
        assert!(!first.is_live(end) && first.has_run_out(end) && !first.has_run_out(later));
        let renewed = Lease::after(Some(&first), "a", later, LEASE_TIME);
        assert_eq!(renewed.epoch, 1);
        assert!(renewed.until > first.until);
        let released = renewed.released(later);
        assert!(!released.is_live(later) && !released.has_run_out(end));
        let second = Lease::after(Some(&released), "b", later, LEASE_TIME);
        assert_eq!(second.epoch, 2);
        assert_eq!(
            Lease::after(Some(&Lease::after(Some(&second), "a", later, LEASE_TIME)), "b", later, LEASE_TIME).epoch,
            4
        );
        assert_eq!(Lease::from_json(&second.to_json()), Ok(second));
        assert!(Lease::from_json(&json!({"format_version": 2})).is_err());
    }
}
