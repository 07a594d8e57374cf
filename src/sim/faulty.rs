//! Ports of a process that may die before and after each change of the registry and each message to a device.

use std::rc::Rc;

use jiff::Timestamp;

use crate::execute::{CrashPoints, Ports};
use crate::link::{DeviceLink, LinkError, LinkEvent, Reply, Request};
use crate::model::secret::SecretKey;
use crate::model::status::LinkStatus;
use crate::registry::{
    Answer, BranchCopy, Change, Devices, Fence, Imports, Journal, NextFile, RegistryError, RegistryIdentity, RowSink,
    RowSource, Store,
};

/// Returns the ports of a process that dies at a crash point.
pub fn dying(crash: CrashPoints) -> Ports {
    let (of_store, of_link) = (crash.clone(), crash.clone());
    Ports {
        crash,
        store: Some(Rc::new(move |port| Box::new(Faulty { port, crash: of_store.clone() }))),
        link: Some(Rc::new(move |port| Box::new(Faulty { port, crash: of_link.clone() }))),
    }
}

/// A port with crash points around its methods.
struct Faulty<Port: ?Sized> {
    port: Box<Port>,
    crash: CrashPoints,
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
        let committed = self.port.commit(fence, changes);
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

    fn load(&mut self, source: &mut RowSource<'_>) -> Result<(), RegistryError> {
        self.port.load(source)
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

    fn status(&self) -> Option<LinkStatus> {
        self.port.status()
    }
}
