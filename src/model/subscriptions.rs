//! What a device listens to, which outlives its connection.

/// What a device listens to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Subscriptions {
    pub methods: bool,
    /// New desired properties.
    pub desired: bool,
    /// Messages from the cloud.
    pub messages: bool,
    /// It does not acknowledge messages.
    pub is_silent: bool,
}

impl Subscriptions {
    /// Returns them as a registry keeps them: the sum of 1 for methods, 2 for desired properties, 4 for messages, and 8
    /// for a device that does not acknowledge them.
    pub fn bits(self) -> i16 {
        let Subscriptions { methods, desired, messages, is_silent } = self;
        i16::from(methods) | i16::from(desired) << 1 | i16::from(messages) << 2 | i16::from(is_silent) << 3
    }

    /// Returns what was kept as a number. Other bits are ignored.
    pub fn from_bits(bits: i16) -> Subscriptions {
        let is_set = |bit: i16| bits & bit != 0;
        Subscriptions { methods: is_set(1), desired: is_set(2), messages: is_set(4), is_silent: is_set(8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_kept_as_a_number() {
        for bits in 0..16 {
            assert_eq!(Subscriptions::from_bits(bits).bits(), bits);
        }
        assert_eq!(Subscriptions { messages: true, is_silent: true, ..Subscriptions::default() }.bits(), 12);
    }
}
