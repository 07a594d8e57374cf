//! The lease: which process runs the jobs of a fleet now, among all that share its results branch and its registry.
//!
//! `lease.json` on the results branch:
//!
//! ```json
//! {"format_version": 1, "owner": "host-a/4711/9f2c…", "epoch": 5, "until": "2026-11-21T10:03:00Z",
//!  "lasts_seconds": 180}
//! ```
//!
//! A process takes the lease with a commit that moves the branch by compare-and-swap, so two processes cannot have it,
//! and gives it back with a commit. The epoch grows with every new owner and is never used twice; a registry refuses
//! writes with an older one. Times are those of the owners' clocks, which may differ by much less than a lease lasts.
//! The lease of an owner whose clock is far ahead also ends ([`Sighting`]).
//!
//! A renewal leaves no commit there. The owner replaces the branch beside the results branch, `fleetform/results-lease`
//! for `fleetform/results`: one commit without parents, with the same document and a later `until`. What counts is
//! `lease.json` of the results branch, with the `until` of the branch beside it when that has the same owner and epoch
//! and a later one ([`Lease::renewed_by`]).
//!
//! A renewal is a compare-and-swap too. The results branch is at R, the branch beside it at L; A has the lease, which
//! has nearly run out by the clock of B:
//!
//! 1. B fetches R and L, and finds that the lease has run out.
//! 2. A replaces L by L1, which makes its lease last. It expects L, and R when it connects.
//! 3. B takes over: R -> R1 with its lease and L -> L2 with the same, in one push that moves both or none. It expects R
//!    and L. The remote finds L1, and moves nothing. B fetches again, and sees that A is at work.
//!
//! When 3 comes before 2, the remote has R1 and L2. It refuses the renewal, A fetches, and learns that the lease has
//! changed hands. A renewal of A whose answer was lost, and that arrives after B has worked and given the lease back,
//! names an epoch that is over and means nothing.
//!
//! The lease of an owner who gave it back, or of nobody, is taken with a commit alone: nobody renews it. Where the
//! server takes no such branch, does not let it be replaced or cannot move two branches at once, and where somebody has
//! a branch of that name, renewals are commits of the results branch. When only one of two processes may replace the
//! branch, a take-over by the other may cross a renewal: then both believe in their lease until the first one pushes
//! again, and the registry refuses what it writes from then on.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::FORMAT_VERSION;

/// The path of the lease on the results branch.
pub const LEASE_PATH: &str = "lease.json";
/// How long a lease lasts when it is not renewed, unless the operator chooses another time.
pub const LEASE_TIME: Duration = Duration::from_secs(180);
/// A lease is renewed when this part of its time is over, so that two renewals may fail.
pub const LEASE_RENEWAL_PART: u32 = 3;

/// The owner of the right to work, and when it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The name of one process; empty when the lease was given back.
    pub owner: String,
    pub epoch: u64,
    pub until: Timestamp,
    /// How long the lease lasts after it was taken or renewed; [`Duration::MAX`] when the document has no such field.
    pub time: Duration,
}

/// The time at which a lease was first seen as it is, by the observer's clock. An owner renews its lease long before it
/// ends, so a lease that is seen unchanged for twice its time has run out, whatever the owner's clock says. It takes
/// twice the time because the observer may have waited for the remote.
#[derive(Debug, Clone, Default)]
pub struct Sighting(Option<(Lease, Timestamp)>);

impl Sighting {
    /// Returns a lease with an end that this clock reaches within twice the lease's time.
    pub fn of(&mut self, lease: Lease, now: Timestamp) -> Lease {
        let since = match &self.0 {
            // When the clock was put back, the sighting begins anew.
            Some((same, since)) if *same == lease && *since <= now => *since,
            _ => now,
        };
        self.0 = Some((lease.clone(), since));
        let until = since.checked_add(lease.time.saturating_mul(2)).unwrap_or(Timestamp::MAX).min(lease.until);
        Lease { until, ..lease }
    }
}

impl Lease {
    /// Returns the lease of an owner for `time`, which follows `before` or is the first.
    pub fn after(before: Option<&Lease>, owner: &str, now: Timestamp, time: Duration) -> Lease {
        let epoch = match before {
            // The owner renews its own lease.
            Some(lease) if lease.owner == owner => lease.epoch,
            Some(lease) => lease.epoch + 1,
            None => 1,
        };
        Lease { owner: owner.to_string(), epoch, until: now.checked_add(time).unwrap_or(Timestamp::MAX), time }
    }

    /// Returns the lease with the end of a renewal. One of another owner or epoch, or with an earlier end, changes
    /// nothing.
    #[must_use]
    pub fn renewed_by(self, renewal: &Lease) -> Lease {
        let is_same = renewal.owner == self.owner && renewal.epoch == self.epoch && !self.owner.is_empty();
        if is_same && renewal.until > self.until { Lease { until: renewal.until, ..self } } else { self }
    }

    /// Returns the same lease, given back.
    #[must_use]
    pub fn released(&self, now: Timestamp) -> Lease {
        Lease { owner: String::new(), epoch: self.epoch, until: now, time: self.time }
    }

    /// Returns true when the owner neither gave the lease back nor renewed it in time.
    pub fn has_run_out(&self, now: Timestamp) -> bool {
        !self.owner.is_empty() && self.until <= now
    }

    /// Returns true when only the owner may work.
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
        // The owner is alive after all.
        let renewed = Lease::after(Some(&ahead), "a", at(3_780), LEASE_TIME);
        assert!(sighting.of(renewed.clone(), at(361)).is_live(at(361)));
        assert!(sighting.of(renewed, at(721)).has_run_out(at(721)));
        // The end of a lease without a time is trusted.
        let silent = Lease { time: Duration::MAX, ..ahead };
        assert_eq!(sighting.of(silent.clone(), at(800)), silent);
        // When the clocks agree, the end in the lease counts.
        let honest = Lease::after(None, "b", now, LEASE_TIME);
        assert_eq!(Sighting::default().of(honest.clone(), at(100)), honest);
    }

    #[test]
    fn a_renewal_counts_for_its_owner_and_epoch_and_never_shortens_a_lease() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let later = now.checked_add(LEASE_TIME / LEASE_RENEWAL_PART).unwrap();
        let lease = Lease::after(None, "a", now, LEASE_TIME);
        let renewal = Lease::after(Some(&lease), "a", later, LEASE_TIME);
        assert_eq!(lease.clone().renewed_by(&renewal).until, renewal.until);
        assert_eq!(renewal.clone().renewed_by(&lease), renewal);
        let unchanged = |renewal: &Lease| assert_eq!(lease.clone().renewed_by(renewal), lease);
        unchanged(&Lease { owner: "b".to_string(), ..renewal.clone() });
        unchanged(&Lease { epoch: 2, ..renewal.clone() });
        let released = lease.released(now);
        let nobody = Lease { until: later, ..released.clone() };
        assert_eq!(released.clone().renewed_by(&nobody), released);
        assert_eq!(released.clone().renewed_by(&renewal), released);
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
