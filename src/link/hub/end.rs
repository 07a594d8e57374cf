//! Why a connection of a device ends.

use super::admission::Refusal;
use super::exchange::Closing;
use crate::link::protocol::Malformed;

/// Why a connection has ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("the device has left")]
    Left,
    #[error("the connection is lost")]
    Lost(#[from] std::io::Error),
    #[error("the device has another connection")]
    Replaced,
    #[error("the registry does not let the device in any more")]
    NotAllowed,
    #[error("the token is over")]
    Expired,
    #[error("the device was silent for longer than it said, or did not say who it is")]
    Silent,
    #[error("the device does not read what it is sent")]
    Slow,
    #[error("{0}")]
    Refused(#[from] Refusal),
    #[error("the device may not register: the line before says why")]
    NotRegistered,
    #[error("the registry does not answer")]
    Busy,
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the connection breaks a rule of MQTT 3.1.1: {0}")]
    Protocol(String),
    #[error("the fleet's settings have changed, or the gateway ends")]
    Closing,
}

impl From<Closing> for End {
    fn from(why: Closing) -> End {
        match why {
            Closing::Replaced => End::Replaced,
            Closing::NotAllowed => End::NotAllowed,
        }
    }
}
