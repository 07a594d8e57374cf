//! A transaction as a value: the changes to write, all or none, under a lease.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Assignment, BranchCopy, Chunk, Enqueued, IdentityWrite, IfMatch, ImportSpec, IndexChanges, NewIdentity, NewMessage,
    NewRun, Noted, OpenBatch, TwinWrite, WholeAnswer,
};
use crate::model::fleet::ResultDevices;
use crate::model::observation::DeviceIds;
use crate::model::outcome::{Outcome, Reason, RunStatus};
use crate::model::patch::Section;
use crate::model::subscriptions::Subscriptions;
use crate::query::PathRef;

/// The lease under which a process writes. A store refuses a fence that is older than the newest one that it has seen.
///
/// 1. A works with epoch 4 and is suspended, say with its machine.
/// 2. Its lease runs out. B takes it over with epoch 5, which the store notes.
/// 3. A wakes up and writes. Each commit first checks the epoch: it finds 5, and A is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fence {
    epoch: Option<u64>,
}

impl Fence {
    /// The fence of a process without a lease: only the exclusive lock keeps other processes away.
    pub const NONE: Fence = Fence { epoch: None };

    /// Returns the fence of an epoch that the store has noted.
    pub(super) fn of(epoch: u64) -> Fence {
        Fence { epoch: Some(epoch) }
    }

    /// Returns the epoch; `None` without a lease.
    pub fn epoch(self) -> Option<u64> {
        self.epoch
    }
}

/// One change. A commit has several, in order; all of them become durable together, or none.
#[derive(Debug)]
pub enum Change<'a> {
    /// Adds a run with its target, not yet claimed; answered with its number.
    Claim(NewRun<'a>),
    /// Notes that the claim of a run is on the results branch.
    Confirm { run_id: i64 },
    /// Forgets a run whose claim did not reach the results branch: nothing of it was started.
    Drop { run_id: i64 },
    /// Notes that a run has started, or goes on.
    Start { run_id: i64, at: Timestamp },
    /// Notes that a batch of a run was opened, for a run with devices that may wait.
    OpenBatch { run_id: i64, opened: OpenBatch },
    /// Marks devices as sent, given as (ordinal, attempt), before anything is sent, but for those that were blocked or
    /// deleted meanwhile; answered with these.
    Mark { run_id: i64, devices: &'a [(u32, u32)], ids: &'a DeviceIds, at: Timestamp },
    /// Notes that nothing was delivered to marked devices: they wait to come online.
    Unmark { run_id: i64, ordinals: &'a [u32] },
    /// Records outcomes, and the connection state of the devices that follows from them.
    Record { run_id: i64, outcomes: &'a [Outcome], ids: &'a DeviceIds },
    /// Keeps answers whole, of a run that asks for it: beside the outcomes that they are.
    KeepAnswers { run_id: i64, answers: &'a [WholeAnswer] },
    /// Forgets the whole answers that came before a time; answered with how many they were. It walks over all that are
    /// kept, and reads none of what the devices sent.
    DropAnswers { before: Timestamp },
    /// Notes an answer that came after its device had an outcome.
    Late { run_id: i64, ordinal: u32, code: u16, message: &'a str, at: Timestamp },
    /// Writes devices one after the other, each with its outcome; answered with the outcomes of the devices that were
    /// reached.
    Write { assignment: &'a Assignment, chunk: Chunk<'a> },
    /// Writes what devices sent; answered with what came of each report, in order.
    Heard { from: &'a [Heard<'a>] },
    /// Notes that a run does not go on now, or that it has ended at a time.
    End { run_id: i64, status: RunStatus, reason: Option<&'a str>, at: Timestamp },
    /// Keeps `run.json` as it is about to be published, and the devices with rows in the new shards; `None` without new
    /// shards.
    KeepRecord { run_id: i64, record: &'a str, devices: Option<ResultDevices> },
    /// Notes that the end of a run is on the results branch.
    Close { run_id: i64 },
    /// Forgets a run with all that is journaled of it: the branch has an end of it that this registry, put back from a
    /// copy, does not know.
    Forget { run_id: i64 },
    /// Writes the staged rows of one import, notes its digest, and puts its report for the branch into the outbox.
    Import { spec: &'a ImportSpec, at: Timestamp, outbox: &'a str },
    /// Removes an entry of the outbox that is on the branch, and keeps its files, given as (path, bytes).
    Delivered { about: &'a str, files: &'a [(String, Vec<u8>)] },
    /// Notes a commit.
    Note { what: Noted, commit: &'a str },
    /// Notes that a saved plan, by its id, was applied.
    UsePlan { plan_id: &'a str, at: Timestamp },
    /// Notes the tip of the results branch and the commit that was applied; durable when the registry is closed. After
    /// a power cut before that, the older notes still hold.
    Seen { results_tip: &'a str, applied_head: &'a str },
    /// Makes the key of the marks of secrets, unless the registry has one.
    MakeSecretKey,
    /// Takes the identity of another registry: of one that was lost, in the place of which this one was made, or of the
    /// one of which this is a copy.
    Inherit { identity: &'a str },
    /// Takes a new identity, and notes that a copy of the registry at a place gets the one that it had.
    GiveUp { identity: &'a str, to: &'a str },
    /// Catches up with a registry that was put back from a copy: marks devices as sent that have no outcome and no
    /// mark, in each of some runs those with an ordinal below the given end, and counts as many sends as the lost one
    /// had.
    CatchUp { sends: u64, runs: &'a [(i64, u32)], at: Timestamp },
    /// Blocks or unblocks devices at a time; answered with the ids of the devices that changed.
    Block { device_ids: &'a [String], is_blocked: bool, at: Timestamp },
    /// Deletes devices with their keys; answered with the ids of the devices that existed.
    Delete { device_ids: &'a [String] },
    /// Writes sections of one twin, when its ETag is the given one: with `replaces` each becomes the value, otherwise
    /// the value is a merge patch of it. The values are objects whose keys and depth are legal. The version of the
    /// desired properties grows by one when they are given, but for an empty merge patch. What stands in place of a
    /// secret (`model::secret::SHOWN`) is left as it is. Answered with a [`TwinWrite`].
    WriteTwin {
        device_id: &'a str,
        if_match: Option<&'a str>,
        tags: Option<&'a Value>,
        desired: Option<&'a Value>,
        replaces: bool,
    },
    /// Makes a device, or changes the identity of one, at a time; answered with an [`IdentityWrite`].
    PutIdentity { device_id: &'a str, if_match: IfMatch<'a>, identity: &'a NewIdentity, at: Timestamp },
    /// Deletes a device with its keys, when its identity has the given ETag; answered with an [`IdentityWrite`].
    DeleteIdentity { device_id: &'a str, if_match: Option<&'a str> },
    /// Queues a message to a device at a time; answered with an [`Enqueued`].
    Enqueue { device_id: &'a str, message: &'a NewMessage, at: Timestamp },
    /// Counts that messages are about to be handed over to their devices, given by their numbers; answered with those
    /// that may be. The others are gone, or were handed over as often as may be and are removed.
    HandOver { sequences: &'a [i64] },
    /// Removes messages that their devices have acknowledged.
    Settle { sequences: &'a [i64] },
    /// Removes all messages to a device; answered with how many of them had not expired.
    Purge { device_id: &'a str, at: Timestamp },
    /// Puts an entry into the outbox.
    Report { about: &'a str, entry: &'a str },
    /// Drops the indexes over a section, or all, before a write to this many devices, when making them again takes less
    /// time than keeping them up to date.
    DropIndexes { section: Option<Section>, devices: u64 },
    /// Makes the indexes for paths, the most wanted first, and drops all others; renews the statistics when `changed`
    /// devices are many. Answered with what was done.
    Index { wanted: &'a [PathRef], changed: u64 },
}

/// A message from a device.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    pub device_id: &'a str,
    pub at: Timestamp,
    pub what: HeardOf<'a>,
}

/// The content of a message.
#[derive(Debug, Clone, Copy)]
pub enum HeardOf<'a> {
    /// The device has connected, or its connection is gone. `is_news` is false for what was so before, which is no
    /// activity of the device.
    Presence { is_online: bool, is_news: bool },
    /// The device reported properties: a merge patch of its reported section.
    Report { patch: &'a Value },
    /// The session of the device listens to this from now on; `None` when nothing is kept of it. A device that is not
    /// there has none.
    Session { subscriptions: Option<Subscriptions> },
}

/// What came of a report.
#[derive(Debug, Clone, PartialEq)]
pub enum Reported {
    /// The reported section and its version.
    Written { section: Value, version: u64 },
    /// The registry does not have the device.
    Unknown,
    /// The device is blocked.
    Blocked,
    /// The section would have become larger than a twin allows.
    TooLarge,
}

impl Reported {
    /// Returns the section that was written.
    pub fn section(&self) -> Option<&Value> {
        match self {
            Reported::Written { section, .. } => Some(section),
            Reported::Unknown | Reported::Blocked | Reported::TooLarge => None,
        }
    }
}

/// The answer to a change.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Done,
    /// The number of a run.
    Run(i64),
    /// (ordinal, reason) of each device that was not marked, in order.
    Withheld(Vec<(u32, Reason)>),
    /// (ordinal, reason) of each device that a write reached, in order.
    Written(Vec<(u32, Reason)>),
    /// What came of each report, in order.
    Reported(Vec<Reported>),
    /// Ids.
    Devices(Vec<String>),
    Indexes(IndexChanges),
    Count(u64),
    Enqueued(Enqueued),
    /// Numbers of messages, in the order in which they were given.
    Messages(Vec<i64>),
    Twin(TwinWrite),
    Identity(IdentityWrite),
}

impl Change<'_> {
    /// Returns the name of the step, for crash points.
    pub fn step(&self) -> &'static str {
        match self {
            Change::Claim(_) => "journal claim",
            Change::Confirm { .. } => "confirm claim",
            Change::Drop { .. } => "drop claim",
            Change::Start { .. } => "start run",
            Change::OpenBatch { .. } => "open batch",
            Change::Mark { .. } => "mark sent",
            Change::Unmark { .. } => "unmark",
            Change::Record { .. } => "record",
            Change::KeepAnswers { .. } => "keep answers",
            Change::DropAnswers { .. } => "drop answers",
            Change::Late { .. } => "record late",
            Change::Write { .. } => "write",
            Change::Heard { .. } => "take reports",
            Change::End { .. } => "end run",
            Change::KeepRecord { .. } => "keep record",
            Change::Close { .. } => "close run",
            Change::Forget { .. } => "forget run",
            Change::Import { .. } => "import",
            Change::Delivered { .. } => "empty outbox",
            Change::Note { what: Noted::ResultsTip, .. } => "note root",
            Change::Note { what: Noted::KeptTip, .. } => "note kept tip",
            Change::Note { what: Noted::AppliedHead, .. } => "note applied",
            Change::UsePlan { .. } => "note plan",
            Change::Seen { .. } => "note tip",
            Change::MakeSecretKey => "make secret key",
            Change::Inherit { .. } => "inherit",
            Change::GiveUp { .. } => "give up",
            Change::CatchUp { .. } => "catch up",
            Change::Block { .. } => "block devices",
            Change::Delete { .. } => "delete devices",
            Change::WriteTwin { .. } => "write twin",
            Change::PutIdentity { .. } => "put identity",
            Change::DeleteIdentity { .. } => "delete identity",
            Change::Enqueue { .. } => "queue message",
            Change::HandOver { .. } => "hand messages over",
            Change::Settle { .. } => "settle messages",
            Change::Purge { .. } => "purge messages",
            Change::Report { .. } => "report",
            Change::DropIndexes { .. } => "drop indexes",
            Change::Index { .. } => "make indexes",
        }
    }

    /// Returns true for a note that is already there: then nothing is written.
    pub(super) fn is_noted(&self, kept: &dyn BranchCopy) -> bool {
        let is = |what, commit: &str| kept.noted(what).is_ok_and(|noted| noted.as_deref() == Some(commit));
        match self {
            Change::Note { what, commit } => is(*what, commit),
            Change::Seen { results_tip, applied_head } => {
                is(Noted::ResultsTip, results_tip) && is(Noted::AppliedHead, applied_head)
            }
            Change::Claim(_)
            | Change::Confirm { .. }
            | Change::Drop { .. }
            | Change::Start { .. }
            | Change::OpenBatch { .. }
            | Change::Mark { .. }
            | Change::Unmark { .. }
            | Change::Record { .. }
            | Change::KeepAnswers { .. }
            | Change::DropAnswers { .. }
            | Change::Late { .. }
            | Change::Write { .. }
            | Change::Heard { .. }
            | Change::End { .. }
            | Change::KeepRecord { .. }
            | Change::Close { .. }
            | Change::Forget { .. }
            | Change::Import { .. }
            | Change::Delivered { .. }
            | Change::UsePlan { .. }
            | Change::MakeSecretKey
            | Change::Inherit { .. }
            | Change::GiveUp { .. }
            | Change::CatchUp { .. }
            | Change::Block { .. }
            | Change::Delete { .. }
            | Change::WriteTwin { .. }
            | Change::PutIdentity { .. }
            | Change::DeleteIdentity { .. }
            | Change::Enqueue { .. }
            | Change::HandOver { .. }
            | Change::Settle { .. }
            | Change::Purge { .. }
            | Change::Report { .. }
            | Change::DropIndexes { .. }
            | Change::Index { .. } => false,
        }
    }

    /// Returns what the change does, to be put behind "failed to".
    pub(super) fn doing(&self) -> &'static str {
        match self {
            Change::Claim(_) => "journal a claim",
            Change::Confirm { .. } => "confirm a claim",
            Change::Drop { .. } => "drop a claim",
            Change::Start { .. } => "start a run",
            Change::OpenBatch { .. } => "open a batch",
            Change::Mark { .. } => "mark devices as sent",
            Change::Unmark { .. } => "take back sent marks",
            Change::Record { .. } => "record outcomes",
            Change::KeepAnswers { .. } => "keep answers",
            Change::DropAnswers { .. } => "forget answers",
            Change::Late { .. } => "note a late answer",
            Change::Write { .. } => "write devices",
            Change::Heard { .. } => "take in what devices report",
            Change::End { .. } => "end a run",
            Change::KeepRecord { .. } => "keep the record of a run",
            Change::Close { .. } => "close a run",
            Change::Forget { .. } => "forget a run",
            Change::Import { .. } => "import devices",
            Change::Delivered { .. } => "empty the outbox",
            Change::Note { .. } | Change::UsePlan { .. } | Change::Seen { .. } => "note what was seen",
            Change::MakeSecretKey => "make the key of its secrets",
            Change::Inherit { .. } => "take over the identity of a registry",
            Change::GiveUp { .. } => "give up its identity",
            Change::CatchUp { .. } => "catch up with a lost registry",
            Change::Block { .. } => "block devices",
            Change::Delete { .. } => "delete devices",
            Change::WriteTwin { .. } => "write a twin",
            Change::PutIdentity { .. } => "write an identity",
            Change::DeleteIdentity { .. } => "delete a device",
            Change::Enqueue { .. } => "queue a message",
            Change::HandOver { .. } => "count a delivery",
            Change::Settle { .. } | Change::Purge { .. } => "remove messages",
            Change::Report { .. } => "put a report into the outbox",
            Change::DropIndexes { .. } => "drop indexes",
            Change::Index { .. } => "make indexes",
        }
    }
}

impl Answer {
    /// Returns the number of a run.
    ///
    /// # Panics
    /// When it is another answer: a store answers each change in its own way.
    pub fn into_run(self) -> i64 {
        match self {
            Answer::Run(run_id) => run_id,
            other => panic!("a claim is answered with the number of its run, not with {other:?}"),
        }
    }

    /// Returns what became of written devices.
    ///
    /// # Panics
    /// As [`Answer::into_run`].
    pub fn into_written(self) -> Vec<(u32, Reason)> {
        match self {
            Answer::Written(outcomes) => outcomes,
            other => panic!("a write is answered with its outcomes, not with {other:?}"),
        }
    }

    /// Returns the reported sections.
    ///
    /// # Panics
    /// As [`Answer::into_run`].
    pub fn into_reported(self) -> Vec<Reported> {
        match self {
            Answer::Reported(sections) => sections,
            other => panic!("reports are answered with reported sections, not with {other:?}"),
        }
    }

    /// Returns the ids.
    ///
    /// # Panics
    /// As [`Answer::into_run`].
    pub fn into_devices(self) -> Vec<String> {
        match self {
            Answer::Devices(ids) => ids,
            other => panic!("a change of devices is answered with their ids, not with {other:?}"),
        }
    }

    /// Returns a number of rows.
    ///
    /// # Panics
    /// As [`Answer::into_run`].
    pub fn into_count(self) -> u64 {
        match self {
            Answer::Count(count) => count,
            other => panic!("what is forgotten is answered with how much it was, not with {other:?}"),
        }
    }

    /// Returns what came of a message that was to be queued.
    ///
    /// # Panics
    /// As [`Answer::into_run`].
    pub fn into_enqueued(self) -> Enqueued {
        match self {
            Answer::Enqueued(enqueued) => enqueued,
            other => panic!("a message is answered with what came of it, not with {other:?}"),
        }
    }

    /// Returns the numbers of messages.
    ///
    /// # Panics
    /// As [`Answer::into_run`].
    pub fn into_messages(self) -> Vec<i64> {
        match self {
            Answer::Messages(sequences) => sequences,
            other => panic!("a delivery is answered with numbers of messages, not with {other:?}"),
        }
    }

    /// Returns what came of a write of a twin.
    ///
    /// # Panics
    /// As [`Answer::into_run`].
    pub fn into_twin(self) -> TwinWrite {
        match self {
            Answer::Twin(written) => written,
            other => panic!("a write of a twin is answered with what came of it, not with {other:?}"),
        }
    }

    /// Returns what came of a write of an identity.
    ///
    /// # Panics
    /// As [`Answer::into_run`].
    pub fn into_identity(self) -> IdentityWrite {
        match self {
            Answer::Identity(written) => written,
            other => panic!("a write of an identity is answered with what came of it, not with {other:?}"),
        }
    }

    /// Returns what was done about indexes.
    ///
    /// # Panics
    /// As [`Answer::into_run`].
    pub fn into_indexes(self) -> IndexChanges {
        match self {
            Answer::Indexes(changes) => changes,
            other => panic!("an order of indexes is answered with what was done, not with {other:?}"),
        }
    }
}
