//! The outcomes of a run and of each of its devices.

use jiff::Timestamp;

/// The status of a run of a job, in IoT Central's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunStatus {
    /// Claimed, or waiting for a free slot.
    Pending,
    Running,
    /// Every device was attempted, failures or not.
    Completed,
    /// A cause that concerns the whole job kept it from its devices.
    Failed,
    /// Stopped by a person; can be continued.
    Stopped,
    /// Canceled by its threshold.
    Canceled,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [RunStatus; 6] = [
        RunStatus::Pending,
        RunStatus::Running,
        RunStatus::Completed,
        RunStatus::Failed,
        RunStatus::Stopped,
        RunStatus::Canceled,
    ];

    /// Returns the word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            RunStatus::Pending => "pending",
            RunStatus::Running => "running",
            RunStatus::Completed => "completed",
            RunStatus::Failed => "failed",
            RunStatus::Stopped => "stopped",
            RunStatus::Canceled => "canceled",
        }
    }

    /// Returns the status of a word, or `None`.
    pub fn parse(word: &str) -> Option<RunStatus> {
        RunStatus::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Returns true when the run ended and kept devices from being attempted, by its threshold or a cause of its own.
    pub fn has_ended_badly(self) -> bool {
        match self {
            RunStatus::Failed | RunStatus::Canceled => true,
            RunStatus::Completed | RunStatus::Pending | RunStatus::Running | RunStatus::Stopped => false,
        }
    }

    /// Returns true when no device of the run will ever be started again.
    pub fn is_final(self) -> bool {
        match self {
            RunStatus::Completed | RunStatus::Failed | RunStatus::Canceled => true,
            RunStatus::Pending | RunStatus::Running | RunStatus::Stopped => false,
        }
    }
}

/// The status of a device in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceStatus {
    Pending,
    Completed,
    Failed,
}

impl DeviceStatus {
    /// Returns the word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            DeviceStatus::Pending => "pending",
            DeviceStatus::Completed => "completed",
            DeviceStatus::Failed => "failed",
        }
    }

    /// Returns the status of a word, or `None`.
    pub fn parse(word: &str) -> Option<DeviceStatus> {
        [DeviceStatus::Pending, DeviceStatus::Completed, DeviceStatus::Failed]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

/// Why a device has its status. The discriminants are stored in the registry and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    Queued = 0,
    InFlight = 1,
    Waiting = 2,
    Written = 10,
    Acknowledged = 11,
    Responded = 12,
    /// Already as desired: nothing was sent.
    Unchanged = 13,
    /// The device answered 400 or more.
    Rejected = 20,
    Timeout = 21,
    Offline = 22,
    Expired = 23,
    Blocked = 24,
    Deleted = 25,
    TemplateMismatch = 26,
    /// Sent, and the process died before the answer: the outcome is not known.
    OutcomeUnknown = 27,
    Error = 28,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 16] = [
        Reason::Queued,
        Reason::InFlight,
        Reason::Waiting,
        Reason::Written,
        Reason::Acknowledged,
        Reason::Responded,
        Reason::Unchanged,
        Reason::Rejected,
        Reason::Timeout,
        Reason::Offline,
        Reason::Expired,
        Reason::Blocked,
        Reason::Deleted,
        Reason::TemplateMismatch,
        Reason::OutcomeUnknown,
        Reason::Error,
    ];

    /// Returns the word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Queued => "queued",
            Reason::InFlight => "in-flight",
            Reason::Waiting => "waiting",
            Reason::Written => "written",
            Reason::Acknowledged => "acknowledged",
            Reason::Responded => "responded",
            Reason::Unchanged => "unchanged",
            Reason::Rejected => "rejected",
            Reason::Timeout => "timeout",
            Reason::Offline => "offline",
            Reason::Expired => "expired",
            Reason::Blocked => "blocked",
            Reason::Deleted => "deleted",
            Reason::TemplateMismatch => "template-mismatch",
            Reason::OutcomeUnknown => "outcome-unknown",
            Reason::Error => "error",
        }
    }

    /// Returns the reason of a word, or `None`.
    pub fn parse(word: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.as_str() == word)
    }

    /// Returns the reason of a stored discriminant, or `None`.
    pub fn from_stored(stored: u8) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| *reason as u8 == stored)
    }

    /// Returns true for a failure that counts for the cancellation threshold. What became of a device that our own
    /// crash cut off, or that was deleted, says nothing about the job.
    pub fn counts_for_threshold(self) -> bool {
        self.status() == DeviceStatus::Failed && !matches!(self, Reason::OutcomeUnknown | Reason::Deleted)
    }

    /// Returns the status that the reason belongs to.
    pub fn status(self) -> DeviceStatus {
        match self {
            Reason::Queued | Reason::InFlight | Reason::Waiting => DeviceStatus::Pending,
            Reason::Written | Reason::Acknowledged | Reason::Responded | Reason::Unchanged => DeviceStatus::Completed,
            Reason::Rejected
            | Reason::Timeout
            | Reason::Offline
            | Reason::Expired
            | Reason::Blocked
            | Reason::Deleted
            | Reason::TemplateMismatch
            | Reason::OutcomeUnknown
            | Reason::Error => DeviceStatus::Failed,
        }
    }
}

/// The outcome of one device of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The place of the device in the run's sorted target, from 0.
    pub ordinal: u32,
    pub reason: Reason,
    /// The status that the device answered with.
    pub code: Option<u16>,
    /// What the device or fleetform said about it; untrusted, sanitised and cut when it is recorded.
    pub message: String,
    /// How often the device was tried; 0 when nothing was sent.
    pub attempts: u32,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// The mark of a device that was sent to and has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentMark {
    pub ordinal: u32,
    /// From 1.
    pub attempt: u32,
    /// When it was sent to.
    pub at: Timestamp,
}

/// The numbers of devices of a scope by status; they always add up to the total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub total: u64,
    pub completed: u64,
    pub failed: u64,
    /// The completed devices that were unchanged.
    pub unchanged: u64,
}

impl Counts {
    /// Returns the devices that are in no terminal state.
    ///
    /// # Panics
    /// When more devices are terminal than there are.
    pub fn pending(&self) -> u64 {
        (self.total).checked_sub(self.completed + self.failed).expect("no more devices are terminal than were targeted")
    }

    /// Returns what several counts are together.
    pub fn sum(parts: &[Counts]) -> Counts {
        parts.iter().fold(Counts::default(), |all, one| Counts {
            total: all.total + one.total,
            completed: all.completed + one.completed,
            failed: all.failed + one.failed,
            unchanged: all.unchanged + one.unchanged,
        })
    }

    /// Counts devices that are terminal for a reason.
    pub fn add_all(&mut self, reason: Reason, devices: u64) {
        match reason.status() {
            DeviceStatus::Pending => {}
            DeviceStatus::Completed => {
                self.completed += devices;
                self.unchanged += if reason == Reason::Unchanged { devices } else { 0 };
            }
            DeviceStatus::Failed => self.failed += devices,
        }
    }

    /// Counts one more terminal device.
    pub fn add(&mut self, reason: Reason) {
        self.add_all(reason, 1);
        assert!(self.completed + self.failed <= self.total, "no more devices are terminal than were targeted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_stored_numbers_read_back() {
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
            assert_eq!(Reason::from_stored(reason as u8), Some(reason));
        }
        for status in RunStatus::ALL {
            assert_eq!(RunStatus::parse(status.as_str()), Some(status));
        }
    }
}
