//! Implements the traits of the port with the methods of the store.

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
use super::{SqliteStore, indexes, remembered};
use crate::ledger::OpenRun;
use crate::model::device::Device;
use crate::model::fleet::ImportFormat;
use crate::model::id::{Name, RunToken};
use crate::model::observation::{DeviceIds, Observation};
use crate::model::outcome::{Reason, SentMark};
use crate::query::PathRef;

impl Devices for SqliteStore {
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
        self.keys_of(device_id)
    }

    fn identity(&self, device_id: &str) -> Result<Option<IdentityRow>, RegistryError> {
        self.identity_of(device_id)
    }

    fn identities(&self, after: Option<&str>, limit: u64) -> Result<Vec<IdentityRow>, RegistryError> {
        self.identities_after(after, limit)
    }

    fn messages(&self, device_id: &str, now: Timestamp) -> Result<Vec<QueuedMessage>, RegistryError> {
        self.queued(device_id, now)
    }

    fn messages_after(&self, sequence: i64) -> Result<Vec<(i64, String)>, RegistryError> {
        self.queued_after(sequence)
    }

    fn connections(&self, device_id: &str) -> Result<Vec<ConnectionChange>, RegistryError> {
        self.connections_of(device_id)
    }

    fn message_counts(&self, device_ids: &[String], now: Timestamp) -> Result<BTreeMap<String, u64>, RegistryError> {
        self.queue_lengths(device_ids, now)
    }

    fn statistics(&self) -> Result<Statistics, RegistryError> {
        self.device_counts()
    }

    fn admissions(&self) -> Result<Option<String>, RegistryError> {
        remembered::value_of(&self.connection, ADMISSIONS).map_err(|e| self.error("read devices", e))
    }

    fn edge_manifest_digest(&self, device_id: &str) -> Result<Option<String>, RegistryError> {
        self.manifest_digest_of(device_id)
    }

    fn imports_of(&self, device_ids: &[String]) -> Result<BTreeMap<String, String>, RegistryError> {
        self.owners_of(device_ids)
    }

    fn templates_of(&self, device_ids: &[String]) -> Result<BTreeMap<String, String>, RegistryError> {
        self.named_templates(device_ids)
    }

    fn desired_versions(&self, device_ids: &[String]) -> Result<BTreeMap<String, u64>, RegistryError> {
        self.versions_of_desired(device_ids)
    }

    fn ids_near(&self, device_id: &str) -> Result<Vec<String>, RegistryError> {
        self.near_ids(device_id)
    }

    fn ineligible(
        &self,
        needs: &Needs<'_>,
        ids: &DeviceIds,
        range: Range<u32>,
    ) -> Result<Vec<(u32, Reason, &'static str)>, RegistryError> {
        self.find_ineligible(needs, ids, range)
    }

    fn index_changes(&self, wanted: &[PathRef]) -> Result<IndexChanges, RegistryError> {
        indexes::planned(&self.connection, wanted).map_err(|e| self.error("read its indexes", e))
    }
}

impl Journal for SqliteStore {
    fn unclosed(&self) -> Result<Vec<JournaledRun>, RegistryError> {
        self.unclosed_runs()
    }

    fn find(&self, job: &Name, run: &RunToken) -> Result<Option<JournaledRun>, RegistryError> {
        self.find_run(job, run)
    }

    fn name_of(&self, run_id: i64) -> Result<Option<(Name, RunToken)>, RegistryError> {
        Ok(self.run_numbered(run_id)?.map(|run| (run.job, run.run)))
    }

    fn open_runs(
        &self,
        is_published: &dyn Fn(&JournaledRun) -> bool,
    ) -> Result<BTreeMap<(Name, RunToken), OpenRun>, RegistryError> {
        self.runs_under_way(is_published)
    }

    fn targets(&self, run_id: i64) -> Result<DeviceIds, RegistryError> {
        self.target_of(run_id)
    }

    fn pending_targets(&self, run_id: i64) -> Result<DeviceIds, RegistryError> {
        self.pending_target_of(run_id)
    }

    fn outcome_counts(&self, run_id: i64) -> Result<Vec<OutcomeCount>, RegistryError> {
        self.counts_of(run_id)
    }

    fn each_outcome(&self, run_id: i64, visit: &mut dyn FnMut(u32, Reason, u32)) -> Result<(), RegistryError> {
        self.visit_outcomes(run_id, visit)
    }

    fn each_result(
        &self,
        run_id: i64,
        ids: &DeviceIds,
        range: Range<u32>,
        pending: PendingRows,
        visit: &mut dyn FnMut(ResultRow),
    ) -> Result<(), RegistryError> {
        self.visit_results(run_id, ids, range, pending, visit)
    }

    fn sent_marks(&self, run_id: i64) -> Result<Vec<SentMark>, RegistryError> {
        self.marks_of(run_id)
    }

    fn waiting(&self, run_id: i64, waits: Waits, most: u32) -> Result<(u64, Vec<u32>), RegistryError> {
        self.count_waiting(run_id, waits, most)
    }

    fn written_versions(&self, run_id: i64, ordinals: &[u32]) -> Result<Vec<u64>, RegistryError> {
        self.versions_written(run_id, ordinals)
    }

    fn count_late(&self, run_id: i64) -> Result<u64, RegistryError> {
        self.late_count(run_id)
    }

    fn late_answers(&self, run_id: i64, most: u32) -> Result<Vec<LateAnswer>, RegistryError> {
        self.late_of(run_id, most)
    }

    fn each_answer(
        &self,
        run_id: i64,
        range: Range<u32>,
        visit: &mut dyn FnMut(WholeAnswer),
    ) -> Result<(), RegistryError> {
        self.visit_answers(run_id, range, visit)
    }

    fn claim_documents(&self) -> Result<BTreeMap<String, String>, RegistryError> {
        self.claim_texts()
    }

    fn claims_version(&self) -> Result<Option<String>, RegistryError> {
        remembered::value_of(&self.connection, CLAIMS_VERSION).map_err(|e| self.error("read claims", e))
    }
}

impl Imports for SqliteStore {
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

impl BranchCopy for SqliteStore {
    fn exists(&self) -> Result<bool, RegistryError> {
        self.has_branch_copy()
    }

    fn runs(&self) -> Result<Vec<RememberedRun>, RegistryError> {
        self.remembered()
    }

    fn each_published(&self, run: &RememberedRun, visit: &mut dyn FnMut(ResultRow, u32)) -> Result<(), RegistryError> {
        visit_published(self, run, visit)
    }

    fn each_file(
        &self,
        wanted: &dyn Fn(&str) -> bool,
        visit: &mut dyn FnMut(&str, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        self.visit_kept_files(wanted, visit)
    }

    fn file_ids(&self) -> Result<BTreeMap<String, Option<String>>, RegistryError> {
        self.kept_file_ids()
    }

    fn uncompared_files(&self) -> Result<BTreeSet<String>, RegistryError> {
        self.uncompared_kept_files()
    }

    fn noted(&self, what: Noted) -> Result<Option<String>, RegistryError> {
        remembered::noted(&self.connection, what).map_err(|e| self.error("read what was seen", e))
    }

    fn plan_used_at(&self, plan_id: &str) -> Result<Option<Timestamp>, RegistryError> {
        remembered::plan_used_at(&self.connection, plan_id).map_err(|e| self.error("read what was seen", e))
    }

    fn outbox(&self) -> Result<Vec<OutboxEntry>, RegistryError> {
        self.outbox_entries()
    }
}
