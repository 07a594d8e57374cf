//! A registry under test, and what most promises do with it.

use std::collections::BTreeMap;

use fleetform::ledger::Claim;
use fleetform::model::delivery::BatchSizes;
use fleetform::model::device::Device;
use fleetform::model::digest::Digest;
use fleetform::model::fleet::{ImportFormat, Removed};
use fleetform::model::id::{Name, RunToken};
use fleetform::model::observation::DeviceIds;
use fleetform::model::outcome::{Outcome, Reason};
use fleetform::model::patch::Section;
use fleetform::query::{self, Query};
use fleetform::registry::{
    Assignment, Change, Chunk, DeviceFilter, ImportSpec, NewRun, Registry, RegistryError, Request, Selection,
    StagedImport, StorePlace,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Fresh, World};

/// The fleet whose registry it is.
pub const FLEET: &str = "acme";

/// A registry that is open for writing.
pub struct Fleet {
    pub registry: Registry,
    pub place: Box<dyn StorePlace>,
    /// The last file of each import.
    files: BTreeMap<String, (ImportFormat, String)>,
    /// Dropped last: the others are in it.
    world: Box<dyn World>,
}

pub fn now() -> Timestamp {
    "2026-11-20T10:00:00Z".parse().unwrap()
}

/// Returns a time so many seconds after [`now`].
pub fn after(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + seconds).unwrap()
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn spec(name: &str) -> ImportSpec {
    ImportSpec {
        templates: None,
        organizations: None,
        name: name.to_string(),
        format: ImportFormat::Csv,
        template: None,
        organization: None,
        simulated: false,
        removed: Removed::Keep,
        watched_tags: Vec::new(),
        is_confined: false,
        others: ["a", "b", "other"].iter().filter(|other| **other != name).map(ToString::to_string).collect(),
        digest: Digest::of_bytes(b"state"),
    }
}

/// Returns the spec of a file of IoT Hub's form.
pub fn hub_spec(name: &str) -> ImportSpec {
    ImportSpec { format: ImportFormat::IotHub, ..spec(name) }
}

/// Returns a file of IoT Hub's form.
pub fn hub(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

pub fn query(text: &str) -> Query {
    query::parse(text).unwrap_or_else(|errors| panic!("{text}: {errors:?}"))
}

/// Returns the request for what a condition selects.
pub fn matching(text: &str) -> Request {
    Request::new(Selection::Matching { template: None, conditions: vec![query(text)] }, Vec::new())
}

pub fn texts(ids: &[&str]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Returns the claim of the first run of a job.
pub fn claim(job: &str, ids: &DeviceIds) -> Claim {
    Claim {
        job: name(job),
        run: RunToken::default(),
        spec_digest: Digest::of_bytes(b""),
        total: ids.len() as u64,
        targets_digest: Digest::of_texts(ids.iter()),
        source_commit: "c".to_string(),
        plan_id: "p".to_string(),
        claimed_at: now(),
    }
}

/// Returns the document of a claim.
pub fn document(claim: &Claim) -> String {
    claim.to_json(&name(FLEET)).to_string()
}

/// Returns a run in batches of three.
pub fn new_run<'a>(claim: &'a Claim, ids: &'a DeviceIds) -> NewRun<'a> {
    NewRun {
        claim,
        document: document(claim),
        spec: None,
        manifest: None,
        ids,
        sizes: BatchSizes { first: 3, size: 3 },
        keeps_answers: false,
    }
}

/// Returns what became of a device that was tried once.
pub fn outcome(ordinal: u32, reason: Reason) -> Outcome {
    Outcome {
        ordinal,
        reason,
        code: None,
        message: String::new(),
        attempts: 1,
        started_at: Some(now()),
        finished_at: Some(after(1)),
    }
}

/// Returns the devices of a registry.
pub fn devices(registry: &Registry) -> Vec<Device> {
    listed(registry, &DeviceFilter::default())
}

/// Returns the devices that a filter selects.
pub fn listed(registry: &Registry, filter: &DeviceFilter) -> Vec<Device> {
    let mut devices = Vec::new();
    let keep = |device| -> Result<(), RegistryError> {
        devices.push(device);
        Ok(())
    };
    registry.each_device(filter, keep).unwrap();
    devices
}

/// Returns the ids that a request selects, as they are observed.
pub fn observed(registry: &Registry, request: &Request) -> Vec<String> {
    registry.devices().observe(request).unwrap().ids.iter().map(ToString::to_string).collect()
}

impl Fleet {
    pub fn new(fresh: Fresh) -> Fleet {
        let world = fresh();
        let place = world.place(FLEET);
        let registry = Registry::new(place.open().unwrap());
        Fleet { registry, place, files: BTreeMap::new(), world }
    }

    /// Returns a registry with so many devices: `d-0000`, `d-0001`, …
    pub fn with_devices(fresh: Fresh, count: usize) -> Fleet {
        let mut fleet = Fleet::new(fresh);
        let rows: String = (0..count).map(|n| format!("d-{n:04}\n")).collect();
        fleet.import(&spec("all"), &format!("IOTC_DEVICEID\n{rows}"));
        fleet
    }

    /// Returns a registry with devices that have these desired properties: `d-0000`, `d-0001`, …
    pub fn with_desired(fresh: Fresh, twins: &[Value]) -> Fleet {
        Fleet::with_sections(fresh, twins.iter().map(|desired| json!({"properties": {"desired": desired}})))
    }

    /// Returns a registry with devices that have these tags: `d-0000`, `d-0001`, …
    pub fn with_tags(fresh: Fresh, twins: &[Value]) -> Fleet {
        Fleet::with_sections(fresh, twins.iter().map(|tags| json!({"tags": tags})))
    }

    fn with_sections(fresh: Fresh, twins: impl Iterator<Item = Value>) -> Fleet {
        let mut fleet = Fleet::new(fresh);
        let with_id = |(n, mut twin): (usize, Value)| {
            twin["id"] = Value::from(format!("d-{n:04}"));
            twin
        };
        let lines: Vec<Value> = twins.enumerate().map(with_id).collect();
        let found = fleet.import(&hub_spec("all"), &hub(&lines));
        assert_eq!(found.errors, [], "the twins are legal");
        fleet
    }

    /// Opens the registry once more, beside the store that is open.
    pub fn another(&self) -> Registry {
        Registry::new(self.place.open().unwrap())
    }

    /// Opens the registry for reading, beside the store that is open.
    pub fn reader(&self) -> Registry {
        Registry::new(self.place.open_for_reading().unwrap())
    }

    /// Closes the registry and opens it again.
    pub fn reopened(self) -> Fleet {
        let Fleet { registry, place, files, world } = self;
        drop(registry);
        let registry = Registry::new(place.open().unwrap());
        Fleet { registry, place, files, world }
    }

    /// Stages and applies a file.
    pub fn import(&mut self, spec: &ImportSpec, file: &str) -> StagedImport {
        let found = self.stage(spec, file);
        self.registry.write(Change::Import { spec, at: now(), outbox: "" }).unwrap();
        found
    }

    /// Stages a file, and asks the owners of devices that it wants.
    pub fn stage(&mut self, spec: &ImportSpec, file: &str) -> StagedImport {
        let mut found = self.registry.imports_mut().stage(spec, &mut file.as_bytes()).unwrap();
        for owner in self.registry.imports().owners_to_ask().unwrap() {
            let (format, file) = &self.files[&owner];
            self.registry.imports_mut().ask_owner(&owner, *format, &mut file.as_bytes()).unwrap();
        }
        self.registry.imports_mut().settle(spec, &mut found).unwrap();
        let sum = found.new + found.updated + found.unchanged + found.deleted + found.rejected;
        assert_eq!(sum, found.rows, "every row is in one place: {found:?}");
        self.files.insert(spec.name.clone(), (spec.format, file.to_string()));
        found
    }

    pub fn device(&self, id: &str) -> Device {
        self.registry.devices().get(id).unwrap().unwrap_or_else(|| panic!("no device {id}"))
    }

    pub fn ids(&self) -> Vec<String> {
        devices(&self.registry).into_iter().map(|device| device.device_id).collect()
    }

    /// Returns all ids as a target.
    pub fn target(&self) -> DeviceIds {
        self.ids().iter().map(String::as_str).collect()
    }

    pub fn block(&mut self, ids: &[&str]) {
        self.registry.write(Change::Block { device_ids: &texts(ids), is_blocked: true, at: now() }).unwrap();
    }

    pub fn delete(&mut self, ids: &[&str]) {
        self.registry.write(Change::Delete { device_ids: &texts(ids) }).unwrap();
    }

    /// Journals a run over all devices and returns its number.
    pub fn run(&mut self, job: &str) -> i64 {
        let ids = self.target();
        self.run_over(job, &ids)
    }

    /// Journals a run over some devices and returns its number.
    pub fn run_over(&mut self, job: &str, ids: &DeviceIds) -> i64 {
        let claim = claim(job, ids);
        self.registry.write(Change::Claim(new_run(&claim, ids))).unwrap().into_run()
    }

    /// Records outcomes of a run over all devices.
    pub fn record(&mut self, run_id: i64, outcomes: &[Outcome]) {
        let ids = self.registry.journal().targets(run_id).unwrap();
        self.registry.write(Change::Record { run_id, outcomes, ids: &ids }).unwrap();
    }

    /// Writes a patch to all devices, in a run of a job of its own.
    pub fn write(&mut self, section: Section, patch: Value, failures_left: Option<u64>) -> Vec<Reason> {
        let before = self.registry.branch_copy().runs().unwrap().len();
        let run_id = self.run(&format!("job-{before}"));
        let names = self.ids();
        let devices: Vec<(u32, &str)> = (0..).zip(names.iter().map(String::as_str)).collect();
        let chunk = Chunk { run_id, devices: &devices, failures_left, awaits_acknowledgement: false, now: now() };
        let written = self
            .registry
            .write(Change::Write { assignment: &Assignment::patch(section, patch), chunk })
            .unwrap()
            .into_written();
        let ordinals: Vec<u32> = written.iter().map(|(ordinal, _)| *ordinal).collect();
        assert_eq!(ordinals, (0..written.len() as u32).collect::<Vec<_>>(), "one after the other, in order");
        assert_eq!(self.outcomes(run_id), written, "a write and its outcome are one");
        written.into_iter().map(|(_, reason)| reason).collect()
    }

    /// Returns the devices of a run that may have received what was sent.
    pub fn marked(&self, run_id: i64) -> Vec<u32> {
        self.registry.journal().sent_marks(run_id).unwrap().into_iter().map(|mark| mark.ordinal).collect()
    }

    /// Returns the recorded outcomes of a run.
    pub fn outcomes(&self, run_id: i64) -> Vec<(u32, Reason)> {
        let mut recorded = Vec::new();
        let mut keep = |ordinal, reason, _| recorded.push((ordinal, reason));
        self.registry.journal().each_outcome(run_id, &mut keep).unwrap();
        recorded
    }
}
