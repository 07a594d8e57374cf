//! What a check of a registry finds, and what to do about it.

use crate::registry::{Flaw, FlawKind};

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub rule: Rule,
    /// A sentence without its period.
    pub what: String,
}

/// What does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The results branch names another registry, or none.
    OtherRegistry,
    /// It is a copy that waits for its identity.
    UnfinishedCopy,
    /// It gave its identity up to a copy.
    GivenUp,
    /// It has sent less than what is witnessed of it.
    PutBack,
    /// It has the identity of another registry that is checked.
    SameIdentity,
    /// It has other rows than another registry that is checked.
    OtherRows,
    /// A claim that is on one side only, or is not the same.
    ClaimNotOnBranch,
    ClaimUnknown,
    ClaimDiffers,
    /// The target in the journal is not the one that was claimed.
    TargetDiffers,
    /// The branch has less of a run than the journal, or more.
    RecordNotOnBranch,
    RecordUnknown,
    /// The branch has the end of a run, and the journal goes on with it.
    EndUnknown,
    /// The counts of a record are not those of the outcomes.
    CountsDiffer,
    /// Published rows are not those of the journal.
    RowsDiffer,
    /// Files that are kept of the branch are not what it has.
    FilesDiffer,
    /// Rows of the registry contradict each other.
    Contradiction(FlawKind),
}

impl Rule {
    /// Returns its word, for programs.
    pub fn word(self) -> &'static str {
        match self {
            Rule::OtherRegistry => "other-registry",
            Rule::UnfinishedCopy => "unfinished-copy",
            Rule::GivenUp => "given-up",
            Rule::PutBack => "put-back",
            Rule::SameIdentity => "same-identity",
            Rule::OtherRows => "other-rows",
            Rule::ClaimNotOnBranch => "claim-not-on-branch",
            Rule::ClaimUnknown => "claim-unknown",
            Rule::ClaimDiffers => "claim-differs",
            Rule::TargetDiffers => "target-differs",
            Rule::RecordNotOnBranch => "record-not-on-branch",
            Rule::RecordUnknown => "record-unknown",
            Rule::EndUnknown => "end-unknown",
            Rule::CountsDiffer => "counts-differ",
            Rule::RowsDiffer => "rows-differ",
            Rule::FilesDiffer => "files-differ",
            Rule::Contradiction(FlawKind::KeysWithoutDevice) => "keys-without-device",
            Rule::Contradiction(FlawKind::StatusWithoutDevice) => "status-without-device",
            Rule::Contradiction(FlawKind::MessageWithoutDevice) => "message-without-device",
            Rule::Contradiction(FlawKind::SessionWithoutDevice) => "session-without-device",
            Rule::Contradiction(FlawKind::LeftWithoutDevice) => "left-without-device",
            Rule::Contradiction(FlawKind::DevicesMiscounted) => "devices-miscounted",
            Rule::Contradiction(FlawKind::RowsWithoutRun) => "rows-without-run",
            Rule::Contradiction(FlawKind::OutcomeBeyondTarget) => "outcome-beyond-target",
            Rule::Contradiction(FlawKind::OutcomesMiscounted) => "outcomes-miscounted",
            Rule::Contradiction(FlawKind::MarkBeyondTarget) => "mark-beyond-target",
            Rule::Contradiction(FlawKind::MarkOfCompletedRun) => "mark-of-completed-run",
            Rule::Contradiction(FlawKind::MarkBesideOutcome) => "mark-beside-outcome",
        }
    }

    /// Returns what to do about it, one sentence.
    pub fn help(self) -> &'static str {
        match self {
            Rule::OtherRegistry => {
                "Work with the registry that it names; when that is lost, `fleetform apply --take-over` makes this one \
                 the fleet's."
            }
            Rule::UnfinishedCopy => "Run the `fleetform registry copy` that made it once more: it goes on.",
            Rule::GivenUp => "Work with the copy; this one can be removed once you do not want to go back to it.",
            Rule::PutBack => {
                "The next `fleetform apply` takes that for a backup that was put back, and sends nothing again; run \
                 jobs again where their twins matter."
            }
            Rule::SameIdentity => "Work with one of them only, and remove the other one.",
            Rule::OtherRows => "Work with the one that the results branch names, and remove what is older.",
            Rule::ClaimNotOnBranch | Rule::RecordNotOnBranch => {
                "Run `fleetform apply`, which publishes what a process that died had not; when the branch is an older \
                 one, push the newest that any clone has."
            }
            Rule::ClaimUnknown | Rule::RecordUnknown | Rule::EndUnknown => {
                "The registry is older than the branch: the next `fleetform apply` takes the branch for what was, and \
                 runs nothing again."
            }
            Rule::ClaimDiffers | Rule::TargetDiffers | Rule::CountsDiffer | Rule::RowsDiffer => {
                "One of them was changed by hand or is damaged: look at `git log` of the results branch, and put back a \
                 backup of the registry where the branch is right."
            }
            Rule::FilesDiffer => {
                "Run `fleetform apply`, which compares them; look at `git log` of the results branch when it stays."
            }
            Rule::Contradiction(_) => {
                "The registry is damaged or was changed by hand: put back a backup, and check that."
            }
        }
    }

    pub(super) fn finding(self, what: impl Into<String>) -> Finding {
        Finding { rule: self, what: what.into() }
    }
}

/// Returns the finding of rows that contradict each other.
pub(super) fn of_flaw(flaw: &Flaw) -> Finding {
    let Flaw { kind, count, example } = flaw;
    let noun = match kind {
        FlawKind::KeysWithoutDevice => "keys of devices that are not there",
        FlawKind::StatusWithoutDevice => "states of devices that are not there",
        FlawKind::MessageWithoutDevice => "messages to devices that are not there",
        FlawKind::SessionWithoutDevice => "sessions or connections of devices that are not there",
        FlawKind::LeftWithoutDevice => "devices that left their import and are not there",
        FlawKind::DevicesMiscounted => "numbers of devices that are not right",
        FlawKind::RowsWithoutRun => "runs with rows and without a claim",
        FlawKind::OutcomeBeyondTarget => "outcomes beyond the target of their run",
        FlawKind::OutcomesMiscounted => "runs whose outcomes are not as many as were counted",
        FlawKind::MarkBeyondTarget => "sent marks beyond the target of their run",
        FlawKind::MarkOfCompletedRun => "sent marks of runs that were completed",
        FlawKind::MarkBesideOutcome => "sent marks of devices that have an outcome",
    };
    let example = crate::model::text::sanitize_line(example);
    Rule::Contradiction(*kind).finding(format!("{noun}: {count}, such as {example}"))
}
