//! What a mark says of a device without an outcome, with the same words for every store.

use jiff::Timestamp;

use super::{PendingRows, Waits};
use crate::model::outcome::{Outcome, Reason};

/// The mark of one device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub ordinal: u32,
    pub attempt: u32,
    pub sent_at: Option<Timestamp>,
    pub waits: Waits,
}

/// Returns the row of a device without an outcome; `None` when it is not wanted.
pub(super) fn pending_outcome(pending: PendingRows, ordinal: u32, mark: Option<Mark>) -> Option<Outcome> {
    let has_ended = match pending {
        PendingRows::Omitted => return None,
        PendingRows::UnderWay => false,
        PendingRows::Ended => true,
    };
    let (reason, message) = match mark.map(|mark| mark.waits) {
        None => (Reason::Queued, ""),
        Some(Waits::ToAnswer) => (Reason::InFlight, ""),
        Some(Waits::ToAcknowledge) if has_ended => {
            (Reason::Waiting, "written; the job ended before the device acknowledged it")
        }
        Some(Waits::ToAcknowledge) => (Reason::Waiting, "written; not acknowledged yet"),
        Some(Waits::ToConnect) if has_ended => {
            (Reason::Waiting, "not delivered; the job ended before the device came online")
        }
        Some(Waits::ToConnect) => (Reason::Waiting, "not delivered; it waits to come online"),
    };
    Some(Outcome {
        ordinal,
        reason,
        code: None,
        message: message.to_string(),
        attempts: mark.map_or(0, |mark| mark.attempt),
        started_at: mark.and_then(|mark| mark.sent_at),
        finished_at: None,
    })
}
