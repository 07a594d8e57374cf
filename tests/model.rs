//! A model of how registries share the results branch of a fleet: every order of their steps, with faults between them.
//!
//! ```text
//! cargo test --test model                   1.9 million states in half a minute
//! cargo test --test model -- --nocapture    and for each rule how the protocol breaks without it
//! ```
//!
//! Two clones, a registry each, and one remote. A run sends a command to two devices that must not get it twice.
//! Processes begin at any time and die or stand still between any two steps; registries, branches and clones are lost,
//! copied or put back. With at most [`FAULTS`] of that: no device gets the command twice, a final record never changes,
//! a claim does not vanish, and the run comes to its end, if need be by a step of a person.
//!
//! # What the code does of it
//!
//! | rule | code |
//! | --- | --- |
//! | `witness_first`, `witness_fenced`, `sends_compared` | `reconcile::witnessed`: `claim` and `note`, without a lock on the witness |
//! | `put_back_noticed` | `reconcile::ownership`: `catch_up` |
//! | `claim_checked` | `reconcile::claims`: `push`, and the owner that each commit checks (`repo::owner`) |
//! | `documents_compared` | `reconcile::recovery`: `settle` compares the whole claim, with its time and its plan |
//! | `unknown_closed` | `plan::planner`: a claim that is not journaled and has not ended is closed |
//! | `clone_compared` | `repo::upstream`: the tip that the clone noted must be part of what the remote has |
//! | `record_kept` | `execute::publish`: a final record is never written over |
//!
//! A process that works makes its lease last on a branch of its own, which is no step here: to take a lease over from
//! its owner and to renew it are compare-and-swaps of the same pair of branches, so of two that cross one fails
//! (`ledger::lease`, `tests/it/renewal.rs`). A lease that is renewed in time is one that has not run out.
//!
//! # What it leaves out
//!
//! * What no rule can notice: the remote has lost commits, and the registry that works next has not seen them, nor has
//!   its clone. [`a_loss_that_was_not_seen_is_not_noticed`] shows it.
//! * A second run at once, and devices in parallel. Two runs (`RUNS`) make ten million states, a minute of
//!   a release build.
//! * Time. A lease has run out when its process is gone or stands still.
//! * A copy of a registry that was torn, and a disk that loses what was synced.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and says how long it took"
)]

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Property};

const RUNS: usize = 1;
const DEVICES: usize = 2;
/// How much may go wrong in one history.
const FAULTS: u8 = 2;
/// How often a fleet is taken over from an owner that is still there, or the remote is put back.
const TAKEOVERS: u8 = 2;
/// A history with so many commits goes in circles: others have fewer. Two runs need 26.
const MANY: usize = 18;

/// The identity of a registry, drawn when its file is made.
type Identity = u8;
/// A commit of the results branch, and the branch that ends with it; 0 is none.
type Serial = u8;

/// The rules of the protocol that a test can leave out.
#[derive(Clone, Copy)]
struct Rules {
    /// The witness is written before a device is spoken to.
    witness_first: bool,
    /// A process shuts older ones out of the witness before it reads it, and never writes one that it is shut out of.
    witness_fenced: bool,
    /// The witness is not written unless it has the count of sends before this one.
    sends_compared: bool,
    /// A registry that is behind the witness, or that has none where it has worked, was put back or copied.
    put_back_noticed: bool,
    /// A claim is pushed by the owner that holds the lease, where the run has no claim and nothing is lacking.
    claim_checked: bool,
    /// A journaled claim is confirmed by the same document on the branch, not by any claim of the run.
    documents_compared: bool,
    /// The owner closes every claimed run that is not in its journal, whoever claimed it.
    unknown_closed: bool,
    /// The remote must have what the clone has seen, not only what the registry has.
    clone_compared: bool,
    /// A final record is never replaced.
    record_kept: bool,
}

const ALL: Rules = Rules {
    witness_first: true,
    witness_fenced: true,
    sends_compared: true,
    put_back_noticed: true,
    claim_checked: true,
    documents_compared: true,
    unknown_closed: true,
    clone_compared: true,
    record_kept: true,
};

/// The right of one process to work. Its holder is named by the commit that took the lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Lease {
    epoch: u8,
    holder: Serial,
}

/// The files of the results branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Tree {
    owner: Identity,
    lease: Lease,
    /// The process that made the claim.
    claims: [Serial; RUNS],
    records: [Option<Record>; RUNS],
}

/// A final record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Record {
    by: Identity,
    rows: [Row; DEVICES],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Commit {
    /// The commits of the branch up to this one, a bit each.
    history: u32,
    tree: Tree,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Row {
    #[default]
    Absent,
    Sent,
    Answered,
    Unknown,
}

/// A run in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Run {
    /// The claim; 0 when the run is not in the journal.
    claim: Serial,
    is_confirmed: bool,
    has_ended: bool,
    rows: [Row; DEVICES],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Registry {
    identity: Identity,
    /// The process that may write.
    lease: Lease,
    /// The branch as this registry last saw it.
    tip: Serial,
    sends: u8,
    journal: [Run; RUNS],
}

/// The file in a clone's git folder that tells of sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Witness {
    identity: Identity,
    lease: Lease,
    sends: u8,
    /// How many devices of each run were marked as sent.
    highest: [u8; RUNS],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct GitClone {
    branch: Serial,
    witness: Option<Witness>,
    registry: Option<Registry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    at: usize,
    identity: Identity,
    lease: Lease,
    next: Step,
    /// It stands still, and its lease has run out.
    has_lapsed: bool,
    /// The file that it has open, when another one lies in its place.
    replaced: Option<usize>,
}

/// A send of the command to a device, and the count of sends that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Send {
    run: usize,
    device: usize,
    count: u8,
}

/// What a process does next. It can be killed, or stand still, before each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Fence,
    Enter,
    WriteWitness,
    Work,
    PushClaim(usize),
    Confirm(usize, Serial),
    Witness(Send),
    Speak(Send),
    Answer(Send),
    PushRecord(usize),
    Note(Serial),
}

/// What happened, which nothing in the model knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Truth {
    sent: [[u8; DEVICES]; RUNS],
    /// The commits with the first claim and the first final record.
    claims: [Serial; RUNS],
    records: [Serial; RUNS],
    was_rewound: bool,
    /// A registry worked on when the remote had lost a claim or a record that it had not seen.
    was_unseen: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    /// All commits ever made.
    commits: Vec<Commit>,
    remote: Serial,
    clones: [GitClone; 2],
    processes: Vec<Process>,
    /// Files in whose place another one lies, and that processes still have open.
    replaced: Vec<Registry>,
    copies: Vec<Registry>,
    faults: u8,
    takeovers: u8,
    identities: Identity,
    truth: Truth,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// A process begins with a lease.
    Start(usize),
    Step(usize, Step),
    /// A registry that is not the owner reads the branch.
    Look(usize),
    /// A registry is made where there is none.
    Make(usize),
    /// A person's steps.
    TakeOver(usize),
    Restore(usize),
    Fault(Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill(usize),
    Lapse(usize),
    /// A registry is copied. At any time later the copy is laid in the place of a registry.
    Copy(usize),
    Place {
        copy: usize,
        at: usize,
        in_place: bool,
    },
    Delete(usize),
    CloneBack(usize, Serial),
    RemoteBack(Serial),
    CloneAnew(usize),
}

impl Run {
    fn is_open(&self) -> bool {
        self.claim != 0 && !self.has_ended
    }

    /// Brings the run in line with the branch. The first `highest` devices may have been sent to without a row.
    fn settle(&mut self, claim: Serial, is_recorded: bool, highest: u8, rules: &Rules) {
        if !self.is_confirmed {
            let is_ours = claim == self.claim || !rules.documents_compared;
            *self = if self.claim != 0 && claim != 0 && is_ours {
                Run { is_confirmed: true, ..*self }
            } else {
                Run::default()
            };
        }
        if self.claim == 0 && claim != 0 && !is_recorded && rules.unknown_closed {
            *self = Run { claim, is_confirmed: true, has_ended: true, rows: [Row::Unknown; DEVICES] };
        }
        if self.is_open() {
            self.has_ended = is_recorded;
            for (device, row) in self.rows.iter_mut().enumerate() {
                if *row == Row::Sent || *row == Row::Absent && device < highest.into() {
                    *row = Row::Unknown;
                }
            }
        }
    }
}

impl State {
    fn tree(&self, branch: Serial) -> Tree {
        branch.checked_sub(1).map_or_else(Tree::default, |index| self.commits[usize::from(index)].tree)
    }

    fn history(&self, branch: Serial) -> u32 {
        branch.checked_sub(1).map_or(1, |index| self.commits[usize::from(index)].history)
    }

    /// Returns what a branch may be put back to.
    fn before(&self, branch: Serial) -> impl Iterator<Item = Serial> {
        (0..branch).filter(move |serial| self.history(branch) >> serial & 1 == 1)
    }

    fn next_serial(&self) -> Serial {
        self.commits.len() as Serial + 1
    }

    fn has_ended(&self) -> bool {
        self.tree(self.remote).records.iter().all(Option::is_some)
    }

    /// Returns true while the holder works. The lease of a process that is gone has run out.
    fn is_live(&self, lease: Lease) -> bool {
        self.processes.iter().any(|process| process.lease.holder == lease.holder && !process.has_lapsed)
    }

    fn witness_of(&self, at: usize, identity: Identity) -> Option<Witness> {
        self.clones[at].witness.filter(|witness| witness.identity == identity)
    }

    /// Returns what a registry or its clone has seen of the branch and the remote lacks: it was put back.
    fn lacking(&self, at: usize, registry: Option<&Registry>, rules: &Rules) -> Option<Serial> {
        let clone = if rules.clone_compared { self.clones[at].branch } else { 0 };
        let tip = registry.map_or(0, |registry| registry.tip);
        [clone, tip].into_iter().filter(|seen| self.history(self.remote) >> seen & 1 == 0).max()
    }

    fn is_held(&self, at: usize, rules: &Rules) -> bool {
        self.lacking(at, self.clones[at].registry.as_ref(), rules).is_some()
    }

    /// Moves the remote to a commit on it, and on another branch where two are joined.
    fn push(&mut self, joined: Serial, tree: Tree) -> Serial {
        let history = self.history(self.remote) | self.history(joined) | 1 << self.next_serial();
        self.remote = self.next_serial();
        self.commits.push(Commit { history, tree });
        for run in 0..RUNS {
            if self.truth.claims[run] == 0 && tree.claims[run] != 0 {
                self.truth.claims[run] = self.remote;
            }
            if self.truth.records[run] == 0 && tree.records[run].is_some() {
                self.truth.records[run] = self.remote;
            }
        }
        self.remote
    }

    /// Pushes what a registry has to say, and notes whether it could know that the remote had lost something.
    fn push_from(&mut self, at: usize, registry: &Registry, tree: Tree) -> Serial {
        let remote = self.tree(self.remote);
        let seen = self.history(self.clones[at].branch) | self.history(registry.tip);
        let witness = self.clones[at].witness.unwrap_or_default();
        for run in 0..RUNS {
            let (claim, record) = (self.truth.claims[run], self.truth.records[run]);
            let journaled = registry.journal[run];
            let knows_claim = journaled.is_confirmed || witness.highest[run] > 0 || seen >> claim & 1 == 1;
            let is_own = self.tree(record).records[run].is_some_and(|record| record.by == registry.identity);
            let knows_record = journaled.has_ended && is_own || seen >> record & 1 == 1;
            self.truth.was_unseen |= remote.claims[run] == 0 && !knows_claim;
            self.truth.was_unseen |= remote.records[run].is_none() && !knows_record;
        }
        self.push(0, tree)
    }

    fn can_start(&self, at: usize, rules: &Rules) -> bool {
        let Some(registry) = &self.clones[at].registry else { return false };
        let tree = self.tree(self.remote);
        let is_owner = tree.owner == registry.identity || tree.owner == 0;
        // The clones are alike: the one that works first is number 0.
        let is_next = at == 0 || !self.commits.is_empty();
        let has_work = !self.has_ended() || registry.journal.iter().any(Run::is_open);
        is_owner && is_next && has_work && !self.is_live(tree.lease) && !self.is_held(at, rules)
    }

    fn can_look(&self, at: usize, rules: &Rules) -> bool {
        let GitClone { branch, registry: Some(registry), .. } = &self.clones[at] else { return false };
        let is_owner = self.tree(self.remote).owner == registry.identity;
        let has_news = *branch != self.remote || registry.tip != self.remote;
        !is_owner && has_news && !self.is_held(at, rules)
    }

    fn can_take_over(&self, at: usize, rules: &Rules) -> bool {
        let Some(registry) = &self.clones[at].registry else { return false };
        let Tree { owner, lease, .. } = self.tree(self.remote);
        let is_gone = self.clones.iter().flat_map(|clone| &clone.registry).all(|other| other.identity != owner);
        let is_other = owner != 0 && owner != registry.identity;
        is_other && (is_gone || self.takeovers < TAKEOVERS) && !self.is_live(lease) && !self.is_held(at, rules)
    }

    /// Pulls, and takes the lease; a branch without an owner is bound by that.
    fn start(&mut self, at: usize) {
        let registry = self.clones[at].registry.clone().unwrap();
        let identity = registry.identity;
        let tree = self.tree(self.remote);
        let witnessed = self.witness_of(at, identity).map_or(0, |witness| witness.lease.epoch);
        let epoch = tree.lease.epoch.max(registry.lease.epoch).max(witnessed) + 1;
        let lease = Lease { epoch, holder: self.next_serial() };
        self.clones[at].branch = self.remote;
        self.push_from(at, &registry, Tree { owner: identity, lease, ..tree });
        self.processes.push(Process { at, identity, lease, next: Step::Fence, has_lapsed: false, replaced: None });
    }

    fn look(&mut self, at: usize) {
        let GitClone { branch, registry, .. } = &mut self.clones[at];
        *branch = self.remote;
        registry.as_mut().unwrap().tip = self.remote;
    }

    /// Makes a registry: the successor of the branch's owner where the witness tells of it.
    fn make(&mut self, at: usize) {
        let GitClone { branch, witness, .. } = self.clones[at];
        let owners = [self.remote, branch].map(|branch| self.tree(branch).owner);
        let owner = owners.into_iter().find(|owner| *owner != 0);
        let registry = match witness.filter(|witness| Some(witness.identity) == owner) {
            Some(Witness { identity, lease, sends, .. }) => Registry { identity, lease, sends, ..Registry::default() },
            None => Registry { identity: self.identities + 1, ..Registry::default() },
        };
        self.identities = self.identities.max(registry.identity);
        self.clones[at].registry = Some(registry);
    }

    /// Makes a registry the owner, and closes the claimed runs that it does not have in its journal.
    fn take_over(&mut self, at: usize) {
        let registry = self.clones[at].registry.clone().unwrap();
        let mut tree = self.tree(self.remote);
        tree.owner = registry.identity;
        tree.lease = Lease { epoch: tree.lease.epoch + 1, holder: 0 };
        for run in 0..RUNS {
            if tree.claims[run] != 0 && tree.claims[run] != registry.journal[run].claim {
                let lost = Record { by: registry.identity, rows: [Row::Unknown; DEVICES] };
                tree.records[run] = tree.records[run].or(Some(lost));
            }
        }
        self.takeovers = (self.takeovers + 1).min(TAKEOVERS);
        self.clones[at].branch = self.remote;
        self.push_from(at, &registry, tree);
    }

    /// Pushes what was seen here and the remote lacks; where both have something, they are joined.
    fn restore(&mut self, at: usize, rules: &Rules) {
        let seen = self.lacking(at, self.clones[at].registry.as_ref(), rules).unwrap();
        if self.history(seen) >> self.remote & 1 == 1 {
            self.remote = seen;
            return;
        }
        let (mut tree, other) = (self.tree(self.remote), self.tree(seen));
        if tree.owner == 0 {
            (tree.owner, tree.lease.holder) = (other.owner, other.lease.holder);
        }
        tree.lease.epoch = tree.lease.epoch.max(other.lease.epoch);
        for run in 0..RUNS {
            if tree.claims[run] == 0 {
                tree.claims[run] = other.claims[run];
            }
            tree.records[run] = tree.records[run].or(other.records[run]);
        }
        self.push(seen, tree);
    }

    /// Lays another registry in the place of one, or none. Processes go on with the file that they have open, unless
    /// its content is replaced in place.
    fn replace_registry(&mut self, at: usize, registry: Option<Registry>, in_place: bool) {
        let old = std::mem::replace(&mut self.clones[at].registry, registry);
        let uses_it = |process: &&mut Process| process.at == at && process.replaced.is_none() && !in_place;
        let files = self.replaced.len();
        self.processes.iter_mut().filter(uses_it).for_each(|process| process.replaced = Some(files));
        self.replaced.extend(old.filter(|_| self.processes.iter().any(|process| process.replaced == Some(files))));
    }

    /// A process ends or is killed, and with it the file that only it had.
    fn end(&mut self, index: usize) {
        let Process { replaced, .. } = self.processes.remove(index);
        if let Some(file) = replaced.filter(|_| self.processes.iter().all(|process| process.replaced != replaced)) {
            self.replaced[file] = Registry::default();
        }
    }

    fn suffer(&mut self, fault: Fault) {
        // A copy was paid for when it was made.
        self.faults -= u8::from(!matches!(fault, Fault::Place { .. }));
        match fault {
            Fault::Kill(index) => self.end(index),
            Fault::Lapse(index) => self.processes[index].has_lapsed = true,
            Fault::Copy(at) => self.copies.extend(self.clones[at].registry.clone()),
            Fault::Place { copy, at, in_place } => {
                let copy = self.copies.remove(copy);
                self.replace_registry(at, Some(copy), in_place);
            }
            Fault::Delete(at) => self.replace_registry(at, None, false),
            Fault::CloneBack(at, serial) => self.clones[at].branch = serial,
            Fault::CloneAnew(at) => {
                self.clones[at].branch = 0;
                self.clones[at].witness = None;
            }
            Fault::RemoteBack(serial) => {
                self.remote = serial;
                self.truth.was_rewound = true;
                self.takeovers = (self.takeovers + 1).min(TAKEOVERS);
            }
        }
    }
}

/// A process that takes a step. Each returns the next one; without one, the process ends.
struct Worker<'a> {
    rules: &'a Rules,
    state: &'a mut State,
    index: usize,
    at: usize,
    identity: Identity,
    lease: Lease,
}

impl Worker<'_> {
    fn take(&mut self, step: Step) -> Option<Step> {
        match step {
            Step::Fence => self.fence(),
            Step::Enter => self.enter(),
            Step::WriteWitness => self.write_witness(),
            Step::Work => self.work(),
            Step::PushClaim(run) => self.push_claim(run),
            Step::Confirm(run, tip) => {
                let journaled = &mut self.transaction()?.journal[run];
                if journaled.claim == 0 {
                    return None;
                }
                journaled.is_confirmed = true;
                self.note(tip)
            }
            Step::Witness(send) => self.witness(send),
            Step::Speak(send) => {
                self.state.truth.sent[send.run][send.device] += 1;
                Some(if self.rules.witness_first { Step::Answer(send) } else { Step::Witness(send) })
            }
            Step::Answer(send) => {
                self.transaction()?.journal[send.run].rows[send.device] = Row::Answered;
                Some(Step::Work)
            }
            Step::PushRecord(run) => self.push_record(run),
            Step::Note(tip) => self.note(tip),
        }
    }

    fn file(&mut self) -> Option<&mut Registry> {
        match self.state.processes[self.index].replaced {
            Some(file) => self.state.replaced.get_mut(file),
            None => self.state.clones[self.at].registry.as_mut(),
        }
    }

    /// Returns the registry for a transaction, unless another process was the last to enter it.
    fn transaction(&mut self) -> Option<&mut Registry> {
        let (identity, lease) = (self.identity, self.lease);
        self.file().filter(|registry| registry.identity == identity && registry.lease == lease)
    }

    fn own_witness(&self) -> Option<Witness> {
        self.state.witness_of(self.at, self.identity)
    }

    /// Shuts out of the witness who had the lease before.
    fn fence(&mut self) -> Option<Step> {
        if let Some(witness) = self.own_witness().filter(|_| self.rules.witness_fenced) {
            if witness.lease.epoch >= self.lease.epoch {
                return None;
            }
            self.state.clones[self.at].witness = Some(Witness { lease: self.lease, ..witness });
        }
        Some(Step::Enter)
    }

    /// One transaction: shuts out of the registry who had the lease before, and settles what is open.
    fn enter(&mut self) -> Option<Step> {
        let Worker { rules, identity, lease, .. } = *self;
        let witness = self.own_witness();
        if rules.witness_fenced && witness.is_some_and(|witness| witness.lease != lease) {
            return None;
        }
        let tree = self.state.tree(lease.holder);
        let registry = self.file().filter(|registry| registry.identity == identity)?;
        if registry.lease.epoch >= lease.epoch {
            return None;
        }
        registry.lease = lease;
        let is_put_back = match witness {
            Some(witness) => witness.sends > registry.sends,
            None => registry.tip != 0,
        };
        for run in 0..RUNS {
            let highest = match witness {
                _ if !is_put_back || !rules.put_back_noticed => 0,
                Some(witness) => witness.highest[run],
                None => DEVICES as u8,
            };
            registry.journal[run].settle(tree.claims[run], tree.records[run].is_some(), highest, rules);
        }
        if let Some(witness) = witness.filter(|_| rules.put_back_noticed) {
            registry.sends = registry.sends.max(witness.sends);
        }
        self.note(lease.holder)?;
        Some(Step::WriteWitness)
    }

    /// Notes how far the branch is known, in the registry and in the clone.
    fn note(&mut self, tip: Serial) -> Option<Step> {
        self.transaction()?.tip = tip;
        self.state.clones[self.at].branch = tip;
        Some(Step::Work)
    }

    /// Brings the witness in line with the registry.
    fn write_witness(&mut self) -> Option<Step> {
        let Worker { identity, lease, .. } = *self;
        let Registry { sends, journal, .. } = *self.transaction()?;
        let old = self.own_witness().unwrap_or_default();
        if self.rules.witness_fenced && old.lease != lease && old.lease.epoch >= lease.epoch {
            return None;
        }
        let mut highest = old.highest;
        for run in 0..RUNS {
            let marked = journal[run].rows.iter().rposition(|row| *row != Row::Absent);
            highest[run] = highest[run].max(marked.map_or(0, |device| device as u8 + 1));
        }
        self.state.clones[self.at].witness = Some(Witness { identity, lease, sends, highest });
        Some(Step::Work)
    }

    /// The next transaction: a run is journaled, a device is marked as sent, or a run ends.
    fn work(&mut self) -> Option<Step> {
        let Worker { rules, lease, .. } = *self;
        let tree = self.state.tree(self.state.clones[self.at].branch);
        let registry = self.transaction()?;
        let run = tree.records.iter().position(Option::is_none)?;
        let journaled = &mut registry.journal[run];
        if journaled.claim == 0 && tree.claims[run] == 0 {
            journaled.claim = lease.holder;
            return Some(Step::PushClaim(run));
        }
        if !journaled.is_confirmed {
            return None;
        }
        match journaled.rows.iter().position(|row| *row == Row::Absent) {
            Some(device) if !journaled.has_ended => {
                journaled.rows[device] = Row::Sent;
                registry.sends += 1;
                let send = Send { run, device, count: registry.sends };
                Some(if rules.witness_first { Step::Witness(send) } else { Step::Speak(send) })
            }
            _ => {
                journaled.has_ended = true;
                Some(Step::PushRecord(run))
            }
        }
    }

    fn witness(&mut self, send: Send) -> Option<Step> {
        let Worker { identity, lease, rules, .. } = *self;
        let old = self.own_witness();
        let is_fenced = rules.witness_fenced && old.is_none_or(|old| old.lease != lease);
        if is_fenced || rules.sends_compared && old.is_none_or(|old| old.sends + 1 != send.count) {
            return None;
        }
        let mut highest = old.unwrap_or_default().highest;
        highest[send.run] = send.device as u8 + 1;
        self.state.clones[self.at].witness = Some(Witness { identity, lease, sends: send.count, highest });
        Some(if rules.witness_first { Step::Speak(send) } else { Step::Answer(send) })
    }

    /// Returns the registry for a push by the owner onto a branch that lacks nothing.
    fn pushing(&mut self) -> Option<Registry> {
        let identity = self.identity;
        let registry = self.file().filter(|registry| registry.identity == identity)?.clone();
        let is_owner = self.state.tree(self.state.remote).owner == self.identity;
        let is_held = self.state.lacking(self.at, Some(&registry), self.rules).is_some();
        (!self.rules.claim_checked || is_owner && !is_held).then_some(registry)
    }

    fn push_claim(&mut self, run: usize) -> Option<Step> {
        let registry = self.pushing()?;
        let mut tree = self.state.tree(self.state.remote);
        let is_free = tree.claims[run] == 0 && tree.records[run].is_none();
        if self.rules.claim_checked && !(is_free && tree.lease.holder == self.lease.holder) {
            return None;
        }
        tree.claims[run] = self.lease.holder;
        Some(Step::Confirm(run, self.state.push_from(self.at, &registry, tree)))
    }

    fn push_record(&mut self, run: usize) -> Option<Step> {
        let registry = self.pushing()?;
        let mut tree = self.state.tree(self.state.remote);
        if !registry.journal[run].has_ended || tree.records[run].is_some() && self.rules.record_kept {
            return None;
        }
        tree.records[run] = Some(Record { by: self.identity, rows: registry.journal[run].rows });
        Some(Step::Note(self.state.push_from(self.at, &registry, tree)))
    }
}

struct Fleet {
    rules: Rules,
    faults: u8,
    /// Leaves out what follows on a loss that was not seen.
    is_seen: bool,
}

impl Fleet {
    /// Returns what can happen without a fault, by a process or by a person. Each step adds a commit, brings a process
    /// on or adds to what is known: when no history goes in circles, all of them come to an end.
    fn steps(&self, state: &State) -> Vec<Action> {
        let rules = &self.rules;
        let step = |(index, process): (usize, &Process)| Action::Step(index, process.next);
        let mut steps: Vec<Action> = state.processes.iter().enumerate().map(step).collect();
        // When nothing can be lost any more, it does not matter who has seen what, nor in the end who is the owner.
        let is_over = state.has_ended() && state.faults == 0 && state.copies.is_empty();
        for (at, clone) in state.clones.iter().enumerate() {
            let choices = [
                (state.can_start(at, rules), Action::Start(at)),
                (state.is_held(at, rules), Action::Restore(at)),
                (state.faults > 0 && state.can_look(at, rules), Action::Look(at)),
                (!is_over && state.can_take_over(at, rules), Action::TakeOver(at)),
                (!is_over && clone.registry.is_none(), Action::Make(at)),
            ];
            steps.extend(choices.into_iter().filter_map(|(can, action)| can.then_some(action)));
        }
        steps
    }

    fn faults(&self, state: &State) -> Vec<Fault> {
        let mut faults = Vec::new();
        for copy in 0..state.copies.len() {
            for at in 0..2 {
                faults.push(Fault::Place { copy, at, in_place: false });
                if state.processes.iter().any(|process| process.at == at && process.replaced.is_none()) {
                    faults.push(Fault::Place { copy, at, in_place: true });
                }
            }
        }
        if state.faults == 0 {
            return faults;
        }
        for (index, process) in state.processes.iter().enumerate() {
            faults.push(Fault::Kill(index));
            faults.extend((!process.has_lapsed).then_some(Fault::Lapse(index)));
        }
        for (at, clone) in state.clones.iter().enumerate() {
            if clone.registry.is_some() {
                faults.extend([Fault::Delete(at), Fault::Copy(at)]);
            }
            faults.extend(clone.witness.map(|_| Fault::CloneAnew(at)));
            faults.extend(state.before(clone.branch).map(|serial| Fault::CloneBack(at, serial)));
        }
        faults.extend(state.before(state.remote).map(Fault::RemoteBack));
        faults
    }
}

impl Model for Fleet {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let clones = [1, 2].map(|identity| {
            let registry = Some(Registry { identity, ..Registry::default() });
            GitClone { registry, ..GitClone::default() }
        });
        vec![State { clones, faults: self.faults, identities: 2, ..State::default() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend(self.steps(state));
        actions.extend(self.faults(state).into_iter().map(Action::Fault));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Start(at) => state.start(at),
            Action::Look(at) => state.look(at),
            Action::Make(at) => state.make(at),
            Action::TakeOver(at) => state.take_over(at),
            Action::Restore(at) => state.restore(at, &self.rules),
            Action::Fault(fault) => state.suffer(fault),
            Action::Step(index, step) => {
                let Process { at, identity, lease, .. } = state.processes[index];
                let mut worker = Worker { rules: &self.rules, state: &mut state, index, at, identity, lease };
                match worker.take(step) {
                    Some(next) => state.processes[index].next = next,
                    None => state.end(index),
                }
            }
        }
        Some(state)
    }

    fn within_boundary(&self, state: &State) -> bool {
        state.commits.len() <= MANY && !(self.is_seen && state.truth.was_unseen)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONCE, |_, state: &State| state.truth.sent.iter().flatten().all(|sent| *sent <= 1)),
            Property::always(RECORDS, |_, state: &State| {
                let now = state.tree(state.remote).records;
                (0..RUNS).all(|run| match now[run] {
                    Some(_) => now[run] == state.tree(state.truth.records[run]).records[run],
                    None => state.truth.records[run] == 0 || state.truth.was_rewound,
                })
            }),
            Property::always(CLAIMS, |_, state: &State| {
                let claims = state.tree(state.remote).claims;
                state.truth.was_rewound || (0..RUNS).all(|run| (state.truth.claims[run] == 0) == (claims[run] == 0))
            }),
            Property::always(WAY_ON, |model: &Self, state: &State| state.has_ended() || !model.steps(state).is_empty()),
            Property::always(END, |_, state: &State| state.commits.len() < MANY),
            Property::sometimes("all devices answer", |_, state: &State| {
                state.tree(state.remote).records.iter().flatten().any(|record| record.rows == [Row::Answered; DEVICES])
            }),
            Property::sometimes("an outcome is unknown", |_, state: &State| {
                let rows = [Row::Unknown, Row::Answered];
                state.tree(state.remote).records.iter().flatten().any(|record| record.rows == rows)
            }),
            Property::sometimes("both clones are held", |model: &Self, state: &State| {
                (0..2).all(|at| state.is_held(at, &model.rules))
            }),
        ]
    }
}

const ONCE: &str = "no device gets the command twice";
const RECORDS: &str = "a final record does not change";
const CLAIMS: &str = "a claim does not vanish";
const WAY_ON: &str = "there is a way on";
const END: &str = "the work ends";

#[test]
fn the_protocol_holds() {
    let begin = Instant::now();
    let fleet = Fleet { rules: ALL, faults: FAULTS, is_seen: true };
    let checker = fleet.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    checker.assert_properties();
    assert!(checker.is_done());
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{states} states, up to {depth} steps deep, in {:?}", begin.elapsed());
}

/// Checks that a property needs a rule, in histories with so many faults, and prints one that breaks it.
fn needs(property: &'static str, faults: u8, leave_out: fn(&mut Rules)) {
    let mut rules = ALL;
    leave_out(&mut rules);
    let fleet = Fleet { rules, faults, is_seen: true };
    let checker = fleet.checker().finish_when(HasDiscoveries::AnyOf([property].into())).spawn_bfs().join();
    println!("It is not true that {property}, as one of {} states shows:", checker.unique_state_count());
    for action in checker.assert_any_discovery(property).into_actions() {
        println!("    {action:?}");
    }
}

#[test]
fn the_witness_is_needed() {
    needs(ONCE, 1, |rules| rules.witness_first = false);
    needs(ONCE, 2, |rules| rules.witness_fenced = false);
    needs(ONCE, 1, |rules| rules.sends_compared = false);
    needs(ONCE, 1, |rules| rules.put_back_noticed = false);
}

#[test]
fn claims_need_an_owner_and_a_document() {
    needs(ONCE, 1, |rules| rules.claim_checked = false);
    needs(ONCE, 2, |rules| rules.documents_compared = false);
    needs(END, 1, |rules| rules.unknown_closed = false);
}

#[test]
fn the_remote_must_have_what_the_clone_has_seen() {
    needs(ONCE, 2, |rules| rules.clone_compared = false);
}

#[test]
fn final_records_must_be_kept() {
    needs(RECORDS, 2, |rules| rules.record_kept = false);
}

/// The remote loses what the registry that works next has not seen, nor its clone. Work goes on all the same.
#[test]
fn a_loss_that_was_not_seen_is_not_noticed() {
    let fleet = Fleet { rules: ALL, faults: 1, is_seen: false };
    let checker = fleet.checker().finish_when(HasDiscoveries::AllFailures).spawn_bfs().join();
    checker.assert_any_discovery(ONCE);
    checker.assert_any_discovery(RECORDS);
    [CLAIMS, WAY_ON, END].iter().for_each(|property| checker.assert_no_discovery(property));
}
