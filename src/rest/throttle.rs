//! How often a policy may ask for what, and an address may be wrong about who it is.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::link::FailedLogins;
use crate::model::buckets::{Buckets, Rate};

/// What a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Jobs,
    Query,
    Registry,
    Twins,
    Methods,
}

impl Operation {
    /// Returns how often a policy may ask for it.
    fn rate(self) -> Rate {
        let (per_second, at_once) = match self {
            Operation::Jobs => (20.0, 100.0),
            Operation::Query => (50.0, 100.0),
            Operation::Registry => (200.0, 400.0),
            Operation::Twins => (1_000.0, 2_000.0),
            Operation::Methods => (2_000.0, 4_000.0),
        };
        Rate { per_second, at_once }
    }
}

/// Failed logins of an address in a minute, after which it is not listened to.
const FAILURES_MAX: u32 = 100;

/// The counts of all policies and addresses.
pub struct Throttle {
    buckets: Mutex<Buckets<(String, Operation)>>,
    failures: Mutex<FailedLogins>,
}

impl Throttle {
    /// Failed logins from the addresses of proxies are not counted.
    pub fn new(proxies: Vec<IpAddr>) -> Throttle {
        Throttle { buckets: Mutex::default(), failures: Mutex::new(FailedLogins::new(FAILURES_MAX, proxies)) }
    }

    /// Takes one operation of a policy; false when there is none left now.
    pub fn take(&self, policy: &str, operation: Operation) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take((policy.to_string(), operation), operation.rate(), now())
    }

    /// Counts a failed login of an address.
    pub fn count_failure(&self, address: IpAddr) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).count(address);
    }

    /// Returns true for the address of a proxy.
    pub fn is_proxy(&self, address: IpAddr) -> bool {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).is_proxy(address)
    }

    /// Returns true for an address that is not listened to now.
    pub fn is_out(&self, address: IpAddr) -> bool {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).is_out(address)
    }
}

#[expect(clippy::disallowed_methods, reason = "requests are counted in real time")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_no_more() {
        let throttle = Throttle::new(Vec::new());
        let taken = (0..500).filter(|_| throttle.take("a", Operation::Jobs)).count();
        assert!((100..150).contains(&taken), "{taken}");
        assert!(throttle.take("b", Operation::Jobs), "another policy has its own");
        let address = IpAddr::from([127, 0, 0, 1]);
        (0..FAILURES_MAX).for_each(|_| throttle.count_failure(address));
        assert!(throttle.is_out(address) && !throttle.is_out(IpAddr::from([127, 0, 0, 2])));
    }
}
