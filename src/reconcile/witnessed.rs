//! A registry that tells its [`Witness`] what it sends.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use crate::execute::CrashPoints;
use crate::model::secret::SecretKey;
use crate::registry::{
    Answer, BranchCopy, Change, Devices, Fence, Flaw, Imports, Journal, NextFile, RegistryError, RegistryIdentity,
    RowSink, RowSource, Store,
};
use crate::repo::Witness;

/// A registry with a witness of what it sends.
pub(super) struct Witnessed {
    pub port: Box<dyn Store>,
    pub paths: Vec<PathBuf>,
    pub witness: Rc<RefCell<Witness>>,
    pub crash: CrashPoints,
    /// The witness names this process as the one that works.
    pub is_claimed: bool,
}

impl Witnessed {
    /// Names this process as the one that works with the registry: one that worked with a file that was in its place
    /// sends no more.
    fn claim(&mut self) -> Result<(), RegistryError> {
        let witness = self.witness.borrow();
        let is_newer = |one: &Witness| one.registry == witness.registry && one.sends > witness.sends;
        if self.paths.iter().filter_map(|path| Witness::read(path)).any(|one| is_newer(&one)) {
            return Err(RegistryError::Replaced { location: witness.place.clone() });
        }
        let written = self.crash.around("claim witness", || witness.write_all(&self.paths));
        written.map_err(|source| failed(&witness, source))?;
        drop(witness);
        self.is_claimed = true;
        Ok(())
    }

    /// Notes devices that were marked, before they are spoken to.
    fn note(&mut self, changes: &[Change<'_>]) -> Result<(), RegistryError> {
        if !changes.iter().any(|change| matches!(change, Change::Mark { .. })) {
            return Ok(());
        }
        let open = self.port.journal().unclosed()?;
        let (mut marks, mut witness) = (0, self.witness.borrow_mut());
        for change in changes {
            let Change::Mark { run_id, devices, at, .. } = change else { continue };
            let fresh = devices.iter().map(|(ordinal, _)| ordinal + 1).max();
            let run = open.iter().find(|run| run.run_id == *run_id);
            if let (Some(run), Some(end)) = (run, fresh) {
                let known = witness.runs.entry(format!("{}/{}", run.job, run.run)).or_default();
                *known = end.max(*known);
            }
            (witness.at, marks) = (*at, marks + 1);
        }
        let is_open = |key: &String| open.iter().any(|run| *key == format!("{}/{}", run.job, run.run));
        witness.runs.retain(|key, _| is_open(key));
        let sends = self.port.identity()?.sends;
        let is_taken = |one: &Witness| one.registry == witness.registry && one.process != witness.process;
        let is_taken = self.paths.iter().filter_map(|path| Witness::read(path)).any(|one| is_taken(&one));
        if is_taken || sends != witness.sends + marks {
            return Err(RegistryError::Replaced { location: witness.place.clone() });
        }
        witness.sends = sends;
        let written = self.crash.around("write witness", || witness.write_all(&self.paths));
        written.map_err(|source| failed(&witness, source))
    }
}

impl Store for Witnessed {
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
        let begins = |change: &Change<'_>| matches!(change, Change::Start { .. } | Change::Mark { .. });
        if !self.is_claimed && changes.iter().any(begins) {
            self.claim()?;
        }
        let answers = self.port.commit(fence, changes)?;
        self.note(changes)?;
        Ok(answers)
    }

    fn keep_files(&mut self, fence: Fence, next: &mut NextFile<'_>) -> Result<bool, RegistryError> {
        self.port.keep_files(fence, next)
    }

    fn enter_epoch(&mut self, epoch: u64) -> Result<Fence, RegistryError> {
        let fence = self.port.enter_epoch(epoch)?;
        // A process that was shut out just now may have counted after this one looked.
        self.witness.borrow_mut().sends = self.port.identity()?.sends;
        self.claim()?;
        Ok(fence)
    }

    fn noted_epoch(&self) -> Result<u64, RegistryError> {
        self.port.noted_epoch()
    }

    fn identity(&self) -> Result<RegistryIdentity, RegistryError> {
        self.port.identity()
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
        self.port.load(source)
    }

    fn limit_growth(&mut self, pages: u32) -> Result<(), RegistryError> {
        self.port.limit_growth(pages)
    }
}

fn failed(witness: &Witness, source: std::io::Error) -> RegistryError {
    RegistryError::Failed { location: witness.place.clone(), doing: "write its witness", source: source.into() }
}
