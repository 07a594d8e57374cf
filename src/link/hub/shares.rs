//! What one address may have of what all share: who begins much and ends nothing leaves others theirs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Addresses of which it is known how many they have.
const ADDRESSES_MAX: usize = 10_000;

/// So much of something for each address.
#[derive(Debug)]
pub struct Shares {
    each: usize,
    of: BTreeMap<IpAddr, Arc<Semaphore>>,
}

impl Shares {
    pub fn new(each: usize) -> Shares {
        Shares { each, of: BTreeMap::new() }
    }

    /// Returns the share of an address. That of a proxy has no bound: many clients have its address.
    pub fn of(&mut self, address: IpAddr, is_proxy: bool) -> Arc<Semaphore> {
        if is_proxy {
            return Arc::new(Semaphore::new(1));
        }
        if self.of.len() >= ADDRESSES_MAX {
            // Of the others nothing is in use.
            self.of.retain(|_, share| Arc::strong_count(share) > 1);
        }
        Arc::clone(self.of.entry(address.to_canonical()).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_a_proxy_has_all() {
        let mut shares = Shares::new(2);
        let [one, other] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let taken: Vec<_> = (0..2).map(|_| shares.of(one, false).try_acquire_owned().unwrap()).collect();
        assert!(shares.of(one, false).try_acquire_owned().is_err());
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert!(shares.of(mapped, false).try_acquire_owned().is_err(), "it is the same address");
        assert!(shares.of(other, false).try_acquire_owned().is_ok());
        assert!((0..9).all(|_| shares.of(one, true).try_acquire_owned().is_ok()));
        drop(taken);
        assert!(shares.of(one, false).try_acquire_owned().is_ok());
    }
}
