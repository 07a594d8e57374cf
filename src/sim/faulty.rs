//! Ports of a process that may die before and after each change of the registry and each message to a device.

use std::cell::Cell;
use std::cmp::Ordering;
use std::rc::Rc;

use jiff::Timestamp;

use super::Random;
use crate::execute::{CrashPoints, Ports};
use crate::link::{DeviceLink, LinkError, LinkEvent, PolicyKeys, Reply, Request};
use crate::model::secret::SecretKey;
use crate::model::status::LinkStatus;
use crate::registry::{
    Answer, BranchCopy, Change, Devices, Fence, Flaw, Imports, Journal, NextFile, RegistryError, RegistryIdentity,
    RowSink, RowSource, Store,
};

/// What becomes of a commit whose connection to the database is lost, as far as the one who commits can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The connection is lost before the commit: nothing is written.
    Lost,
    /// It is lost after the commit: everything is written, and the process learns of a failure.
    Kept,
    /// Another process has taken the registry over: nothing is written.
    Fenced,
}

/// A doubt about the commits of a process: about one of them, and perhaps about all after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doubted {
    pub what: Doubt,
    /// The number of the commit, from 0.
    pub at: u64,
    /// The database does not come back while the process lives.
    pub lasts: bool,
}

impl Doubted {
    /// Returns a doubt about an early commit.
    pub(super) fn drawn(random: &mut Random) -> Doubted {
        let what = *random.pick(&[Doubt::Lost, Doubt::Kept, Doubt::Kept, Doubt::Fenced]);
        let at = random.between(0, *random.clone().pick(&[3, 10, 40, 150]));
        Doubted { what, at, lasts: random.chance(50) }
    }
}

/// Returns the ports of a process that dies at a crash point.
pub fn dying(crash: CrashPoints) -> Ports {
    dying_in_doubt(crash, None)
}

/// Returns the ports of a process that dies at a crash point, and whose commits are in doubt.
pub fn dying_in_doubt(crash: CrashPoints, doubted: Option<Doubted>) -> Ports {
    let (of_store, of_link, commits) = (crash.clone(), crash.clone(), Rc::new(Cell::new(0)));
    Ports {
        crash,
        store: Some(Rc::new(move |port| {
            let doubts = Doubts { doubted, commits: Rc::clone(&commits) };
            Box::new(Faulty { port, crash: of_store.clone(), doubts })
        })),
        link: Some(Rc::new(move |port| Box::new(Faulty { port, crash: of_link.clone(), doubts: Doubts::default() }))),
    }
}

/// The commits of a process that are in doubt.
#[derive(Default)]
struct Doubts {
    doubted: Option<Doubted>,
    /// How many commits there were.
    commits: Rc<Cell<u64>>,
}

impl Doubts {
    /// Counts a commit, and returns what becomes of it; `None` when all goes well.
    fn next(&self) -> Option<Doubt> {
        let at = self.commits.replace(self.commits.get() + 1);
        let Doubted { what, at: first, lasts } = self.doubted?;
        match at.cmp(&first) {
            Ordering::Less => None,
            Ordering::Equal => Some(what),
            // A database that is gone takes no more, and a fence stays.
            Ordering::Greater if lasts && what == Doubt::Fenced => Some(Doubt::Fenced),
            Ordering::Greater => lasts.then_some(Doubt::Lost),
        }
    }
}

/// A port with crash points around its methods.
struct Faulty<Port: ?Sized> {
    port: Box<Port>,
    crash: CrashPoints,
    doubts: Doubts,
}

/// A transaction is all or nothing, so a death between two of its changes equals one before the first. Each change
/// still has its own crash points.
impl Store for Faulty<dyn Store> {
    fn devices(&self) -> &dyn Devices {
        self.port.devices()
    }

    fn journal(&self) -> &dyn Journal {
        self.port.journal()
    }

    fn imports(&self) -> &dyn Imports {
        self.port.imports()
    }

    fn imports_mut(&mut self) -> &mut dyn Imports {
        self.port.imports_mut()
    }

    fn branch_copy(&self) -> &dyn BranchCopy {
        self.port.branch_copy()
    }

    fn commit(&mut self, fence: Fence, changes: &[Change<'_>]) -> Result<Vec<Answer>, RegistryError> {
        changes.iter().for_each(|change| self.crash.pass(change.step()));
        let location = || "the database".to_string();
        let lost =
            || RegistryError::Unreachable { location: location(), reason: "the connection was lost".to_string() };
        let committed = match self.doubts.next() {
            None => self.port.commit(fence, changes),
            Some(Doubt::Lost) => Err(lost()),
            Some(Doubt::Kept) => self.port.commit(fence, changes).and_then(|_| Err(lost())),
            Some(Doubt::Fenced) => Err(RegistryError::Fenced { location: location() }),
        };
        changes.iter().for_each(|change| self.crash.pass(change.step()));
        committed
    }

    fn keep_files(&mut self, fence: Fence, next: &mut NextFile<'_>) -> Result<bool, RegistryError> {
        self.crash.around("keep files", || self.port.keep_files(fence, next))
    }

    fn enter_epoch(&mut self, epoch: u64) -> Result<Fence, RegistryError> {
        self.crash.around("enter epoch", || self.port.enter_epoch(epoch))
    }

    fn identity(&self) -> Result<RegistryIdentity, RegistryError> {
        self.port.identity()
    }

    fn noted_epoch(&self) -> Result<u64, RegistryError> {
        self.port.noted_epoch()
    }

    fn secret_key(&self) -> Result<Option<SecretKey>, RegistryError> {
        self.port.secret_key()
    }

    fn scratch_copy(&self) -> Result<Box<dyn Store>, RegistryError> {
        self.port.scratch_copy()
    }

    fn write_keyless(&self, path: &std::path::Path) -> Result<(), RegistryError> {
        self.port.write_keyless(path)
    }

    fn unload(&self, sink: &mut RowSink<'_>) -> Result<(), RegistryError> {
        self.port.unload(sink)
    }

    fn flaws(&self) -> Result<Vec<Flaw>, RegistryError> {
        self.port.flaws()
    }

    fn load(&mut self, source: &mut RowSource<'_>) -> Result<(), RegistryError> {
        self.crash.around("load", || self.port.load(source))
    }

    fn limit_growth(&mut self, pages: u32) -> Result<(), RegistryError> {
        self.port.limit_growth(pages)
    }
}

impl DeviceLink for Faulty<dyn DeviceLink> {
    fn send(&mut self, now: Timestamp, request: Request) {
        self.crash.around("send", || self.port.send(now, request));
    }

    fn poll(&mut self, now: Timestamp) -> Result<Vec<LinkEvent>, LinkError> {
        self.crash.around("poll", || self.port.poll(now))
    }

    fn due(&self) -> Option<Timestamp> {
        self.port.due()
    }

    fn under_way(&self) -> usize {
        self.port.under_way()
    }

    fn expects_until(&self) -> Option<Timestamp> {
        self.port.expects_until()
    }

    fn reply(&mut self, reply: Reply) {
        self.port.reply(reply);
    }

    fn settle(&mut self) {
        self.crash.around("settle", || self.port.settle());
    }

    fn is_ready(&self) -> bool {
        self.port.is_ready()
    }

    fn room(&self) -> usize {
        self.port.room()
    }

    fn untold(&self) -> usize {
        self.port.untold()
    }

    fn fault(&self) -> Option<LinkError> {
        self.port.fault()
    }

    fn tells_desired(&self) -> bool {
        self.port.tells_desired()
    }

    fn hears_alone(&self) -> bool {
        self.port.hears_alone()
    }

    fn is_connected(&self, device_id: &str) -> bool {
        self.port.is_connected(device_id)
    }

    fn look_again(&mut self) {
        self.port.look_again();
    }

    fn messages_wait(&mut self, device_ids: &[String]) {
        self.port.messages_wait(device_ids);
    }

    fn take_policies(&mut self, policies: PolicyKeys) {
        self.port.take_policies(policies);
    }

    fn status(&self) -> Option<LinkStatus> {
        self.port.status()
    }
}
