//! Implements the traits of the port.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::{ControlFlow, Range};

use jiff::Timestamp;

use super::super::branch_copy::visit_published;
use super::super::meta::{ADMISSIONS, CLAIMS_VERSION};
use super::super::{
    BranchCopy, ConnectionChange, DeviceFilter, DeviceKeys, Devices, IdentityRow, ImportFailure, ImportSpec, Imports,
    IndexChanges, Journal, JournaledRun, LateAnswer, Needs, Noted, OutboxEntry, OutcomeCount, PendingRows,
    QueuedMessage, RegistryError, RememberedRun, Request, ResultRow, StagedImport, Statistics, Tally, TwinRow, Waits,
    WholeAnswer,
};
use super::{
    Connection, PostgresStore, answers, claims, connections, devices, identities, indexes, journal, marks, messages,
    outbox, outcome_counts, remembered, single, write,
};
use crate::ledger::OpenRun;
use crate::model::device::Device;
use crate::model::fleet::ImportFormat;
use crate::model::id::{Name, RunToken};
use crate::model::observation::{DeviceIds, Observation};
use crate::model::outcome::{Reason, SentMark};
use crate::query::PathRef;

impl Devices for PostgresStore {
    fn observe(&self, request: &Request) -> Result<Observation, RegistryError> {
        self.observation(request)
    }

    fn count(&self, request: &Request) -> Result<Tally, RegistryError> {
        self.tally(request)
    }

    fn selects_all(&self, request: &Request) -> Result<bool, RegistryError> {
        self.all_selected(request)
    }

    fn each(
        &self,
        filter: &DeviceFilter,
        visit: &mut dyn FnMut(Device) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        self.visit_devices(filter, visit)
    }

    fn each_twin(
        &self,
        filter: &DeviceFilter,
        now: Timestamp,
        visit: &mut dyn FnMut(&TwinRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        self.visit_twins(filter, now, visit)
    }

    fn get(&self, device_id: &str) -> Result<Option<Device>, RegistryError> {
        self.device_of(device_id)
    }

    fn keys(&self, device_id: &str) -> Result<DeviceKeys, RegistryError> {
        self.read("read keys", |connection| devices::keys(connection, device_id))
    }

    fn identity(&self, device_id: &str) -> Result<Option<IdentityRow>, RegistryError> {
        self.read("read an identity", |connection| identities::one(connection, device_id))
    }

    fn identities(&self, after: Option<&str>, limit: u64) -> Result<Vec<IdentityRow>, RegistryError> {
        self.read("read identities", |connection| identities::after(connection, after, limit))
    }

    fn messages(&self, device_id: &str, now: Timestamp) -> Result<Vec<QueuedMessage>, RegistryError> {
        self.read("read messages", |connection| messages::queued(connection, device_id, now))
    }

    fn messages_after(&self, sequence: i64) -> Result<Vec<(i64, String)>, RegistryError> {
        self.read("read messages", |connection| messages::queued_after(connection, sequence))
    }

    fn connections(&self, device_id: &str) -> Result<Vec<ConnectionChange>, RegistryError> {
        self.read("read when a device connected", |connection| connections::of(connection, device_id))
    }

    fn message_counts(&self, device_ids: &[String], now: Timestamp) -> Result<BTreeMap<String, u64>, RegistryError> {
        self.read("count messages", |connection| messages::lengths(connection, device_ids, now))
    }

    fn statistics(&self) -> Result<Statistics, RegistryError> {
        self.read("count devices", identities::statistics)
    }

    fn admissions(&self) -> Result<Option<String>, RegistryError> {
        self.read("read devices", |connection| remembered::value_of(connection, ADMISSIONS))
    }

    fn edge_manifest_digest(&self, device_id: &str) -> Result<Option<String>, RegistryError> {
        self.read("look a device up", |connection| write::manifest_digest_of(connection, device_id))
    }

    fn imports_of(&self, device_ids: &[String]) -> Result<BTreeMap<String, String>, RegistryError> {
        self.read("read where devices came from", |connection| single::texts_of(connection, "import", device_ids))
    }

    fn templates_of(&self, device_ids: &[String]) -> Result<BTreeMap<String, String>, RegistryError> {
        self.read("read the templates of devices", |connection| single::texts_of(connection, "template", device_ids))
    }

    fn desired_versions(&self, device_ids: &[String]) -> Result<BTreeMap<String, u64>, RegistryError> {
        self.read("read the versions of devices", |connection| single::desired_versions(connection, device_ids))
    }

    fn ids_near(&self, device_id: &str) -> Result<Vec<String>, RegistryError> {
        self.read("look for near ids", |connection| single::near_ids(connection, device_id))
    }

    fn ineligible(
        &self,
        needs: &Needs<'_>,
        ids: &DeviceIds,
        range: Range<u32>,
    ) -> Result<Vec<(u32, Reason, &'static str)>, RegistryError> {
        self.read("look at the devices of a batch", |connection| {
            write::ineligible(connection, needs, ids, range.clone())
        })
    }

    fn index_changes(&self, wanted: &[PathRef]) -> Result<IndexChanges, RegistryError> {
        self.read("read its indexes", |connection| indexes::planned(connection, wanted))
    }
}

impl Journal for PostgresStore {
    fn unclosed(&self) -> Result<Vec<JournaledRun>, RegistryError> {
        self.read("read the journal", journal::unclosed)
    }

    fn find(&self, job: &Name, run: &RunToken) -> Result<Option<JournaledRun>, RegistryError> {
        self.read("read the journal", |connection| journal::find(connection, job, run))
    }

    fn name_of(&self, run_id: i64) -> Result<Option<(Name, RunToken)>, RegistryError> {
        self.read("read the journal", |connection| journal::name_of(connection, run_id))
    }

    fn open_runs(
        &self,
        is_published: &dyn Fn(&JournaledRun) -> bool,
    ) -> Result<BTreeMap<(Name, RunToken), OpenRun>, RegistryError> {
        self.read("count outcomes", |connection| journal::under_way(connection, is_published))
    }

    fn targets(&self, run_id: i64) -> Result<DeviceIds, RegistryError> {
        self.read("read a target", |connection| journal::target(connection, run_id))
    }

    fn pending_targets(&self, run_id: i64) -> Result<DeviceIds, RegistryError> {
        self.read("read a target", |connection| journal::pending_target(connection, run_id))
    }

    fn outcome_counts(&self, run_id: i64) -> Result<Vec<OutcomeCount>, RegistryError> {
        self.read("count outcomes", |connection| outcome_counts::of_run(connection, run_id))
    }

    fn each_outcome(&self, run_id: i64, visit: &mut dyn FnMut(u32, Reason, u32)) -> Result<(), RegistryError> {
        // Kept first, because a row must not be told twice when the connection is lost in between.
        let outcomes = self.read("read outcomes", |connection| journal::outcomes(connection, run_id))?;
        outcomes.into_iter().for_each(|(ordinal, reason, attempts)| visit(ordinal, reason, attempts));
        Ok(())
    }

    fn each_result(
        &self,
        run_id: i64,
        ids: &DeviceIds,
        range: Range<u32>,
        pending: PendingRows,
        visit: &mut dyn FnMut(ResultRow),
    ) -> Result<(), RegistryError> {
        for part in journal::parts(range) {
            let read = |connection: &Connection| journal::results(connection, run_id, ids, part.clone(), pending);
            self.read("read results", read)?.into_iter().for_each(&mut *visit);
        }
        Ok(())
    }

    fn sent_marks(&self, run_id: i64) -> Result<Vec<SentMark>, RegistryError> {
        self.read("read sent marks", |connection| marks::of_run(connection, run_id))
    }

    fn waiting(&self, run_id: i64, waits: Waits, most: u32) -> Result<(u64, Vec<u32>), RegistryError> {
        self.read("count waiting devices", |connection| marks::waiting(connection, run_id, waits, most))
    }

    fn written_versions(&self, run_id: i64, ordinals: &[u32]) -> Result<Vec<u64>, RegistryError> {
        self.read("read what was written", |connection| marks::written_versions(connection, run_id, ordinals))
    }

    fn count_late(&self, run_id: i64) -> Result<u64, RegistryError> {
        self.read("count late answers", |connection| marks::count_late(connection, run_id))
    }

    fn late_answers(&self, run_id: i64, most: u32) -> Result<Vec<LateAnswer>, RegistryError> {
        self.read("read late answers", |connection| marks::late_answers(connection, run_id, most))
    }

    fn each_answer(
        &self,
        run_id: i64,
        range: Range<u32>,
        visit: &mut dyn FnMut(WholeAnswer),
    ) -> Result<(), RegistryError> {
        self.visit("read answers", |connection| answers::visit(connection, run_id, range, visit))
    }

    fn claim_documents(&self) -> Result<BTreeMap<String, String>, RegistryError> {
        self.read("read claims", claims::documents)
    }

    fn claims_version(&self) -> Result<Option<String>, RegistryError> {
        self.read("read claims", |connection| remembered::value_of(connection, CLAIMS_VERSION))
    }
}

impl Imports for PostgresStore {
    fn stage(&mut self, spec: &ImportSpec, file: &mut dyn Read) -> Result<StagedImport, ImportFailure> {
        self.stage_file(spec, file)
    }

    fn owners_to_ask(&self) -> Result<Vec<String>, RegistryError> {
        self.unasked_owners()
    }

    fn ask_owner(&mut self, owner: &str, format: ImportFormat, file: &mut dyn Read) -> Result<(), RegistryError> {
        self.ask(owner, format, file)
    }

    fn settle(&mut self, spec: &ImportSpec, staged: &mut StagedImport) -> Result<(), RegistryError> {
        self.settle_import(spec, staged)
    }

    fn clear(&mut self) -> Result<(), RegistryError> {
        self.clear_staged()
    }

    fn overlay(&mut self) -> Result<(), RegistryError> {
        self.overlay_staged()
    }

    fn applied(&self) -> Result<Vec<(String, String)>, RegistryError> {
        self.applied_imports()
    }
}

impl BranchCopy for PostgresStore {
    fn exists(&self) -> Result<bool, RegistryError> {
        self.read("look for runs", remembered::exists)
    }

    fn runs(&self) -> Result<Vec<RememberedRun>, RegistryError> {
        self.read("read past runs", remembered::runs)
    }

    fn each_published(&self, run: &RememberedRun, visit: &mut dyn FnMut(ResultRow, u32)) -> Result<(), RegistryError> {
        visit_published(self, run, visit)
    }

    fn each_file(
        &self,
        wanted: &dyn Fn(&str) -> bool,
        visit: &mut dyn FnMut(&str, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        self.visit("read what was kept", |connection| remembered::visit_files(connection, wanted, visit))
    }

    fn file_ids(&self) -> Result<BTreeMap<String, Option<String>>, RegistryError> {
        self.read("read what was kept", remembered::file_ids)
    }

    fn uncompared_files(&self) -> Result<BTreeSet<String>, RegistryError> {
        self.read("read what was kept", remembered::uncompared)
    }

    fn noted(&self, what: Noted) -> Result<Option<String>, RegistryError> {
        self.read("read what was seen", |connection| remembered::noted(connection, what))
    }

    fn plan_used_at(&self, plan_id: &str) -> Result<Option<Timestamp>, RegistryError> {
        self.read("read what was seen", |connection| remembered::plan_used_at(connection, plan_id))
    }

    fn outbox(&self) -> Result<Vec<OutboxEntry>, RegistryError> {
        self.read("read the outbox", outbox::entries)
    }
}
