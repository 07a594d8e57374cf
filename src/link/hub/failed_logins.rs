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
    /// Many clients have the address of a proxy: they are not counted.
    proxies: Vec<IpAddr>,
    counts: BTreeMap<IpAddr, (Instant, u32)>,
}

impl FailedLogins {
    /// Counts up to so many in a minute, beyond which an address is not listened to for as long, unless it is that of a
    /// proxy.
    pub fn new(most: u32, proxies: Vec<IpAddr>) -> FailedLogins {
        FailedLogins { most, proxies, counts: BTreeMap::new() }
    }

    /// Returns true for the address of a proxy, in any form of it.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|proxy| proxy.to_canonical() == address.to_canonical())
    }

    pub fn count(&mut self, address: IpAddr) {
        if self.is_proxy(address) {
            return;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_out_after_too_many_and_a_proxy_never() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut failures = FailedLogins::new(3, vec![address("10.0.0.1")]);
        for _ in 0..5 {
            for one in ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"] {
                failures.count(address(one));
            }
        }
        assert!(failures.is_out(address("10.0.0.2")) && !failures.is_out(address("10.0.0.3")));
        assert!(!failures.is_out(address("10.0.0.1")) && !failures.is_out(address("::ffff:10.0.0.1")));
    }
}
