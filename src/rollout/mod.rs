//! The state machine of one running job, without side effects.
//!
//! [`Rollout::step_all`] takes events and the time, and returns effects in order. The driver (`execute`) performs them
//! and feeds the results back as events. The machine keeps one byte of status for each device, and a small record for
//! each device that is being spoken to. It makes all decisions; it never reads a clock, the registry or a device.
//!
//! ```text
//!   Start ──> OpenBatch ──(Opened)──> Write | Send ──(Written, Answered, Tick ...)──> Record ──> CloseBatch ──> ...
//!         ──> Finish
//! ```
//!
//! Rules that hold at every step: a terminal device never changes; devices start in order of their id; no device starts
//! after the threshold was crossed, a stop was asked for or the time was up; counts always add up to the target.

mod flight;
mod retry;
mod step;
mod threshold;

use crate::ledger::RunCause;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;

use crate::model::delivery::{BatchSizes, Crossing, Delivery, OfflinePolicy, Retry, Threshold};
use crate::model::outcome::{Counts, DeviceStatus, Outcome, Reason, RunStatus, SentMark};

pub use flight::{Flight, Phase};
pub use threshold::{Scope, failures_left, judge};

/// How a run reaches its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkKind {
    /// The registry is written, several devices an effect; a device is completed when its write is.
    Write,
    /// The registry is written, and a device is completed when it has acknowledged the new value.
    WriteAndConfirm,
    /// Each device is spoken to.
    Send {
        connect_timeout: Duration,
        response_timeout: Duration,
        /// True when a command may be sent again although the device may have executed it.
        idempotent: bool,
    },
}

/// The parameters of a rollout; fixed at the claim.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutSpec {
    pub total: u32,
    pub sizes: BatchSizes,
    pub threshold: Option<Threshold>,
    pub work: WorkKind,
    pub offline: OfflinePolicy,
    pub expires_after: Duration,
    pub retry: Retry,
    pub max_execution_time: Option<Duration>,
    /// Seeds the jitter of retries.
    pub seed: u64,
    /// When the run was started for the first time.
    pub started_at: Timestamp,
}

impl RolloutSpec {
    /// Returns the spec of a run of `total` devices.
    pub fn new(delivery: &Delivery, work: WorkKind, total: u32, seed: u64, started_at: Timestamp) -> RolloutSpec {
        RolloutSpec {
            total,
            sizes: delivery.batch_sizes(u64::from(total)),
            threshold: delivery.threshold,
            work,
            offline: delivery.offline,
            expires_after: delivery.expires_after,
            retry: delivery.retry,
            max_execution_time: delivery.max_execution_time,
            seed,
            started_at,
        }
    }

    /// Returns the number of batches; 0 for a run without devices.
    pub fn batches(&self) -> u32 {
        narrow(self.sizes.count(u64::from(self.total)))
    }

    /// Returns the ordinals of a batch.
    pub fn batch_range(&self, batch: u32) -> Range<u32> {
        let range = self.sizes.range(u64::from(batch), u64::from(self.total));
        narrow(range.start)..narrow(range.end)
    }

    /// Returns the batch, from 0, that an ordinal belongs to.
    pub fn batch_of(&self, ordinal: u32) -> u32 {
        narrow(self.sizes.batch_of(u64::from(ordinal)))
    }

    /// Returns true when a device may wait for as long as the job allows: to come online, or to acknowledge.
    pub fn may_wait(&self) -> bool {
        self.work == WorkKind::WriteAndConfirm || self.offline == OfflinePolicy::Wait
    }

    fn may_retry(&self, attempt: u32) -> bool {
        let allowed = match self.work {
            WorkKind::Send { idempotent, .. } => idempotent,
            WorkKind::Write | WorkKind::WriteAndConfirm => true,
        };
        allowed && attempt <= self.retry.attempts
    }
}

/// Returns a number that is at most that of the devices of a run.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// An input of the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Begin, or go on after a restart.
    Start,
    /// A batch was opened; these of its devices cannot be started (blocked, deleted, of the wrong template).
    Opened {
        ineligible: Vec<(u32, Reason, &'static str)>,
        /// When the batch was opened for the first time.
        at: Timestamp,
    },
    /// The registry wrote some devices and recorded their outcomes; it did not touch the rest of the requested devices.
    Written { outcomes: Vec<(u32, Reason)> },
    /// A device answered with a status and a text.
    Answered { ordinal: u32, code: u16, message: String },
    /// A device was blocked or deleted before it could be marked as sent: nothing was sent to it.
    Withheld { ordinal: u32, reason: Reason },
    /// A device is not connected; nothing was delivered to it.
    Unreachable { ordinal: u32 },
    /// A device that was unreachable has connected.
    Connected { ordinal: u32 },
    /// Time has passed.
    Tick,
    /// A person asked for a stop (`suspend: true`).
    Stop,
    /// The process is asked to end; devices in flight are awaited.
    Interrupt,
    /// The process ends now.
    Abandon,
}

/// An output of the machine, performed in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Find out which devices of the batch cannot be started, and answer with [`Event::Opened`].
    OpenBatch { batch: u32, range: Range<u32> },
    /// Write these devices and record their outcomes in one transaction, one after the other, and stop after the
    /// failure that follows `failures_left` others; answer with [`Event::Written`].
    Write { ordinals: Vec<u32>, failures_left: Option<u64> },
    /// Record outcomes; they are durable before any later effect is performed.
    Record { outcomes: Vec<Outcome> },
    /// Mark these devices as sent, durably, then speak to them.
    Send { devices: Vec<(u32, u32)> },
    /// Send these devices their new desired properties, which the registry has. They acknowledge later, or never.
    Notify { ordinals: Vec<u32> },
    /// Forget the sent marks: nothing was delivered to these devices.
    Unsend { ordinals: Vec<u32> },
    /// Note an answer that came after the device was given up, beside its outcome, which stays.
    RecordLate { ordinal: u32, code: u16, message: String },
    /// Every device of the batch is terminal.
    CloseBatch { batch: u32 },
    /// The run is over (for now, when the status is not final).
    Finish { status: RunStatus, cause: Option<RunCause> },
}

/// Why no further device starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Halt {
    Canceled(Crossing),
    Stopped,
    Interrupted,
}

/// The state of a running job.
#[derive(Debug, Clone)]
pub struct Rollout {
    spec: RolloutSpec,
    /// A [`Reason`] for each device.
    reasons: Vec<u8>,
    counts: Counts,
    batches: Vec<Counts>,
    /// The open batch.
    batch: u32,
    batch_is_open: bool,
    /// The next ordinal of the open batch to start.
    cursor: u32,
    /// A `Write` is under way.
    is_writing: bool,
    flights: BTreeMap<u32, Flight>,
    /// Flights whose phase is `Sent`.
    sent: u32,
    timers: BTreeSet<(Timestamp, u32)>,
    /// Devices to send to as soon as there is room, before any new one.
    ready: BTreeSet<u32>,
    /// When the open batch was opened; its devices expire some time after that.
    batch_opened_at: Timestamp,
    /// Failed devices that do not count for the threshold: of the job, and of each batch that has any.
    excused: u64,
    excused_in: BTreeMap<u32, u64>,
    /// Sent before a restart and never answered; settled at the start.
    unsettled: Vec<SentMark>,
    /// The most devices in phase `Sent`.
    window: u32,
    halt: Option<Halt>,
    /// The job's `maxExecutionTime` is over, and the devices that had to end because of it have ended.
    is_overdue: bool,
    /// Devices that expired because of that before they were spoken to.
    unattempted: u64,
    is_finished: bool,
}

impl Rollout {
    /// Returns a machine that has started nothing.
    pub fn new(spec: RolloutSpec) -> Rollout {
        let batches = (0..spec.batches())
            .map(|batch| Counts { total: spec.batch_range(batch).len() as u64, ..Counts::default() })
            .collect();
        Rollout {
            reasons: vec![Reason::Queued as u8; spec.total as usize],
            counts: Counts { total: u64::from(spec.total), ..Counts::default() },
            batches,
            batch: 0,
            batch_is_open: false,
            cursor: 0,
            is_writing: false,
            flights: BTreeMap::new(),
            sent: 0,
            timers: BTreeSet::new(),
            ready: BTreeSet::new(),
            batch_opened_at: spec.started_at,
            excused: 0,
            excused_in: BTreeMap::new(),
            unsettled: Vec::new(),
            window: 1,
            halt: None,
            is_overdue: false,
            unattempted: 0,
            is_finished: false,
            spec,
        }
    }

    /// Takes over an outcome that was recorded before a restart; `attempts` is 0 when the device was never spoken to.
    ///
    /// # Panics
    /// When the device has one already, or when the machine was started.
    pub fn restore_outcome(&mut self, ordinal: u32, reason: Reason, attempts: u32) {
        assert!(!self.batch_is_open, "outcomes are restored before the start");
        self.unattempted += u64::from(reason == Reason::Expired && attempts == 0);
        self.settle(ordinal, reason);
    }

    /// Takes over the mark of a device that was sent to before a restart and has no outcome.
    pub fn restore_sent(&mut self, mark: SentMark) {
        self.unsettled.push(mark);
    }

    /// Takes over when the batch that was open before a restart was opened.
    pub fn restore_batch(&mut self, opened_at: Timestamp) {
        self.batch_opened_at = opened_at;
    }

    /// Sets how many devices may be in flight; 0 while none can be reached. Returns true when this is more than before,
    /// so that the next step may start some.
    pub fn set_window(&mut self, window: u32) -> bool {
        let before = std::mem::replace(&mut self.window, window);
        self.window > before
    }

    /// Returns the counts over the whole job.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Returns the counts of each batch, in order.
    pub fn batch_counts(&self) -> &[Counts] {
        &self.batches
    }

    /// Returns the open batch, from 0.
    pub fn batch(&self) -> u32 {
        self.batch
    }

    /// Returns the parameters of the machine.
    pub fn spec(&self) -> &RolloutSpec {
        &self.spec
    }

    /// Returns the state of a device.
    pub fn reason(&self, ordinal: u32) -> Reason {
        Reason::from_stored(self.reasons[ordinal as usize]).expect("the machine stores only reasons")
    }

    /// Returns the number of devices that are being spoken to now.
    pub fn in_flight(&self) -> u32 {
        self.sent
    }

    /// Returns the number of devices that wait to connect or for their next attempt.
    pub fn waiting(&self) -> usize {
        self.flights.len() - self.sent as usize
    }

    /// Returns the number of devices that were written and have not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.flights.values().filter(|flight| flight.phase == Phase::Unacknowledged).count()
    }

    /// Returns true when only a device that connects, or a long time, can move the run on: the `apply` of a job with
    /// `offline: wait` ends here.
    pub fn only_waits(&self) -> bool {
        let waits = |flight: &Flight| matches!(flight.phase, Phase::WaitingOnline | Phase::Unacknowledged);
        !self.is_finished
            && !self.is_writing
            && self.ready.is_empty()
            && !self.flights.is_empty()
            && self.flights.values().all(waits)
            && self.batch_is_open
            && self.cursor >= self.spec.batch_range(self.batch).end
    }

    /// Returns when the machine wants a [`Event::Tick`] at the latest, or `None`.
    pub fn deadline(&self) -> Option<Timestamp> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let is_winding_down = self.is_finished || self.is_overdue || self.halt.is_some();
        let end = if is_winding_down { None } else { self.ends_at() };
        match (timer, end) {
            (Some(timer), Some(end)) => Some(timer.min(end)),
            (timer, end) => timer.or(end),
        }
    }

    fn ends_at(&self) -> Option<Timestamp> {
        self.spec.max_execution_time.map(|limit| later(self.spec.started_at, limit))
    }

    fn scope(&self) -> Scope<'_> {
        // After the last batch there is no batch to judge.
        const NO_BATCH: &Counts = &Counts { total: 0, completed: 0, failed: 0, unchanged: 0 };
        let batch = self.batches.get(self.batch as usize).unwrap_or(NO_BATCH);
        self.scope_of(batch, self.batch)
    }

    fn scope_of<'a>(&'a self, batch: &'a Counts, index: u32) -> Scope<'a> {
        let excused_in_batch = self.excused_in.get(&index).copied().unwrap_or_default();
        Scope { job: &self.counts, batch, batch_index: index, excused: self.excused, excused_in_batch }
    }

    /// Returns the crossing of the threshold by the outcomes so far, in any batch.
    fn crossing(&self) -> Option<Crossing> {
        let scopes = self.batches.iter().zip(0..).map(|(batch, at)| self.scope_of(batch, at));
        scopes.into_iter().find_map(|scope| judge(self.spec.threshold, scope))
    }

    /// Makes a device terminal.
    fn settle(&mut self, ordinal: u32, reason: Reason) {
        assert!(reason.status() != DeviceStatus::Pending, "only a terminal reason settles a device");
        let before = self.reason(ordinal);
        assert!(before.status() == DeviceStatus::Pending, "a terminal device never changes");
        self.reasons[ordinal as usize] = reason as u8;
        self.counts.add(reason);
        let batch = self.spec.batch_of(ordinal);
        self.batches[batch as usize].add(reason);
        if reason.status() == DeviceStatus::Failed && !reason.counts_for_threshold() {
            self.excused += 1;
            *self.excused_in.entry(batch).or_default() += 1;
        }
    }
}

/// Returns the time that lies `by` after `time`, at most the last one there is.
fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::delivery::{Amount, ThresholdScope};

    fn send(total: u32, batch_size: Option<Amount>, threshold: Threshold) -> Rollout {
        let timeout = Duration::from_secs(30);
        let work = WorkKind::Send { connect_timeout: timeout, response_timeout: timeout, idempotent: false };
        let delivery = Delivery { batch_size, threshold: Some(threshold), ..Delivery::default() };
        let mut rollout = Rollout::new(RolloutSpec::new(&delivery, work, total, 1, Timestamp::UNIX_EPOCH));
        rollout.set_window(2);
        rollout
    }

    fn answer(ordinal: u32, code: u16) -> Event {
        Event::Answered { ordinal, code, message: String::new() }
    }

    #[test]
    fn failures_of_different_batches_are_not_summed_at_the_end() {
        let threshold = Threshold { failures: Amount::Count(1), per: ThresholdScope::Batch };
        let mut rollout = send(2, Some(Amount::Count(1)), threshold);
        let now = Timestamp::UNIX_EPOCH;
        rollout.step(now, Event::Start);
        for ordinal in 0..2 {
            rollout.step(now, Event::Opened { ineligible: Vec::new(), at: now });
            let effects = rollout.step(now, answer(ordinal, 500));
            let ended = Effect::Finish { status: RunStatus::Completed, cause: None };
            assert_eq!(effects.contains(&ended), ordinal == 1, "{effects:?}");
        }
    }

    #[test]
    fn a_device_that_our_crash_cut_off_cancels_nothing_and_keeps_its_start() {
        let threshold = Threshold { failures: Amount::Count(0), per: ThresholdScope::Job };
        let mut rollout = send(3, None, threshold);
        let (sent, now) = (Timestamp::UNIX_EPOCH, later(Timestamp::UNIX_EPOCH, Duration::from_secs(9)));
        rollout.restore_sent(SentMark { ordinal: 0, attempt: 1, at: sent });
        let effects = rollout.step(now, Event::Start);
        let Some(Effect::Record { outcomes }) = effects.first() else { panic!("{effects:?}") };
        assert_eq!((outcomes[0].reason, outcomes[0].started_at), (Reason::OutcomeUnknown, Some(sent)));
        rollout.step(now, Event::Opened { ineligible: vec![(1, Reason::Deleted, "")], at: now });
        assert_eq!((rollout.counts().failed, rollout.excused, rollout.in_flight()), (2, 2, 1));
    }

    #[test]
    fn nothing_starts_when_what_comes_in_together_crosses() {
        let threshold = Threshold { failures: Amount::Count(0), per: ThresholdScope::Job };
        let mut rollout = send(3, None, threshold);
        let now = Timestamp::UNIX_EPOCH;
        rollout.step(now, Event::Start);
        rollout.step(now, Event::Opened { ineligible: Vec::new(), at: now });
        let effects = rollout.step_all(now, [answer(0, 200), answer(1, 500)]);
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Send { .. })), "{effects:?}");
        assert_eq!(rollout.counts().pending(), 1);
    }

    #[test]
    fn a_stop_after_the_crossing_finds_the_job_canceled() {
        let threshold = Threshold { failures: Amount::Count(0), per: ThresholdScope::Batch };
        let mut rollout = send(4, Some(Amount::Count(2)), threshold);
        rollout.restore_outcome(0, Reason::Responded, 1);
        rollout.restore_outcome(1, Reason::Rejected, 1);
        rollout.restore_sent(SentMark { ordinal: 2, attempt: 1, at: Timestamp::UNIX_EPOCH });
        let effects = rollout.step(Timestamp::UNIX_EPOCH, Event::Stop);
        assert!(matches!(effects.last(), Some(Effect::Finish { status: RunStatus::Canceled, .. })), "{effects:?}");
        assert_eq!((rollout.reason(2), rollout.reason(3)), (Reason::OutcomeUnknown, Reason::Queued));
    }

    #[test]
    fn a_job_whose_time_is_up_starts_nothing_and_a_canceled_one_stays_canceled() {
        let threshold = Threshold { failures: Amount::Count(0), per: ThresholdScope::Job };
        let limit = Duration::from_secs(60);
        let (now, over) = (Timestamp::UNIX_EPOCH, later(Timestamp::UNIX_EPOCH, limit));
        let mut rollout = send(3, None, threshold);
        rollout.spec.threshold = None;
        rollout.spec.max_execution_time = Some(limit);
        let effects = rollout.step(over, Event::Start);
        let cause = RunCause::MaxExecutionTime { limit: Some(limit), unattempted: 3, total: 3 };
        assert_eq!(cause.to_string(), "maxExecutionTime: 1m were over before 3 of 3 devices were attempted");
        assert_eq!(effects.last(), Some(&Effect::Finish { status: RunStatus::Failed, cause: Some(cause) }));
        assert_eq!(rollout.reason(0), Reason::Expired);

        let mut rollout = send(3, None, threshold);
        rollout.spec.threshold = None;
        rollout.spec.max_execution_time = Some(limit);
        rollout.step(now, Event::Start);
        rollout.step(now, Event::Opened { ineligible: Vec::new(), at: now });
        rollout.step(over, Event::Tick);
        assert_eq!((rollout.reason(0), rollout.reason(2)), (Reason::Timeout, Reason::Expired));

        let mut rollout = send(3, None, threshold);
        rollout.spec.threshold = None;
        rollout.spec.max_execution_time = Some(Duration::from_secs(10));
        rollout.step(now, Event::Start);
        rollout.step(now, Event::Opened { ineligible: Vec::new(), at: now });
        let soon = later(now, Duration::from_secs(10));
        rollout.step(soon, Event::Tick);
        assert_eq!((rollout.reason(0), rollout.reason(2)), (Reason::InFlight, Reason::Expired));
        rollout.step(soon, answer(0, 200));
        let effects = rollout.step(soon, answer(1, 200));
        assert!(matches!(effects.last(), Some(Effect::Finish { status: RunStatus::Failed, .. })), "{effects:?}");

        let mut rollout = send(3, None, threshold);
        rollout.spec.max_execution_time = Some(limit);
        rollout.step(now, Event::Start);
        rollout.step(now, Event::Opened { ineligible: Vec::new(), at: now });
        rollout.step(now, answer(0, 500));
        assert_eq!(rollout.deadline(), Some(later(now, Duration::from_secs(30))), "that of the device in flight");
        rollout.step(over, answer(1, 200));
        assert_eq!((rollout.counts().failed, rollout.counts().pending()), (1, 1));
    }
}
