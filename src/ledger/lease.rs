//! The lease: who runs the jobs of a fleet now, among all who share its results branch and its registry.
//!
//! `lease.json` on the results branch: `{"format_version": 1, "owner": "host-a/4711/9f2c…", "epoch": 5, "until": "2026-11-21T10:03:00Z",
//! "lasts_seconds": 180}`.
//! Taken by a commit that moves the branch by compare-and-swap, so two cannot have it. The epoch grows with every change of hands and
//! is never given twice; a registry refuses whoever comes with an older one. Times are those of the owners' clocks: they may differ by
//! much less than a lease lasts. Of a clock that is far ahead a lease ends too ([`Sighting`]).

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
    /// How long it lasts from when it was taken or renewed; the longest there is when it does not say.
    pub time: Duration,
}

/// When a lease was first seen as it is, by the clock of whoever looks. Its owner makes it last long before it ends, so one that is seen
/// unchanged for twice its time has run out, whatever the clock of its owner said: twice, since whoever looks may have waited for the remote.
#[derive(Debug, Clone, Default)]
pub struct Sighting(Option<(Lease, Timestamp)>);

impl Sighting {
    /// Returns a lease with an end that this clock will reach.
    pub fn of(&mut self, lease: Lease, now: Timestamp) -> Lease {
        let since = match &self.0 {
            // A clock that was put back begins anew.
            Some((same, since)) if *same == lease && *since <= now => *since,
            _ => now,
        };
        self.0 = Some((lease.clone(), since));
        let until = since.checked_add(lease.time.saturating_mul(2)).unwrap_or(Timestamp::MAX).min(lease.until);
        Lease { until, ..lease }
    }
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
        Lease { owner: owner.to_string(), epoch, until: now.checked_add(time).unwrap_or(Timestamp::MAX), time }
    }

    /// Returns the same lease, given back.
    #[must_use]
    pub fn released(&self, now: Timestamp) -> Lease {
        Lease { owner: String::new(), epoch: self.epoch, until: now, time: self.time }
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
            "lasts_seconds": u64::try_from(self.time.as_millis().div_ceil(1_000)).unwrap_or(u64::MAX),
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
            time: document.get("lasts_seconds").and_then(Value::as_u64).map_or(Duration::MAX, Duration::from_secs),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_of_a_clock_that_is_far_ahead_ends() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let at = |seconds| now.checked_add(Duration::from_secs(seconds)).unwrap();
        let ahead = Lease::after(None, "a", at(3_600), LEASE_TIME);
        let mut sighting = Sighting::default();
        assert!(sighting.of(ahead.clone(), now).is_live(now));
        assert!(sighting.of(ahead.clone(), at(359)).is_live(at(359)));
        assert!(sighting.of(ahead.clone(), at(360)).has_run_out(at(360)));
        // Its owner is alive after all.
        let renewed = Lease::after(Some(&ahead), "a", at(3_780), LEASE_TIME);
        assert!(sighting.of(renewed.clone(), at(361)).is_live(at(361)));
        assert!(sighting.of(renewed, at(721)).has_run_out(at(721)));
        // One that does not say how long it lasts is believed.
        let silent = Lease { time: Duration::MAX, ..ahead };
        assert_eq!(sighting.of(silent.clone(), at(800)), silent);
        // Where the clocks agree, what the lease says counts.
        let honest = Lease::after(None, "b", now, LEASE_TIME);
        assert_eq!(Sighting::default().of(honest.clone(), at(100)), honest);
    }

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
