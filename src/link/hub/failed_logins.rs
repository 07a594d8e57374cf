//! Who was wrong too often about who it is.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long failed logins count, and an address that had too many is not listened to.
const TIME: Duration = Duration::from_secs(60);
/// Addresses whose failed logins are counted.
const ADDRESSES_MAX: usize = 10_000;

/// Failed logins, by address.
#[derive(Debug)]
pub struct FailedLogins {
    most: u32,
    counts: BTreeMap<IpAddr, (Instant, u32)>,
}

impl FailedLogins {
    /// Counts up to so many in a minute, beyond which an address is not listened to for as long.
    pub fn new(most: u32) -> FailedLogins {
        FailedLogins { most, counts: BTreeMap::new() }
    }

    pub fn count(&mut self, address: IpAddr) {
        if self.counts.len() >= ADDRESSES_MAX {
            self.counts.retain(|_, (since, _)| since.elapsed() < TIME);
        }
        if self.counts.len() >= ADDRESSES_MAX && !self.counts.contains_key(&address) {
            return;
        }
        let (since, count) = self.counts.entry(address).or_insert_with(|| (Instant::now(), 0));
        if since.elapsed() >= TIME {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
    }

    /// Returns true for an address that is not listened to now.
    pub fn is_out(&self, address: IpAddr) -> bool {
        self.counts.get(&address).is_some_and(|(since, count)| *count >= self.most && since.elapsed() < TIME)
    }
}
