//! Simulated people, who commit a fleet, its devices and its jobs, and edit them.

use std::collections::{BTreeMap, BTreeSet};

use super::random_job::random_job;
use super::schedules::DeclaredSchedule;
use super::{Random, World};
use crate::execute::Clock as _;
use crate::model::delivery::{Amount, Threshold, ThresholdScope};

/// What a job does. Each job writes its own path or calls its own method, so that the effects of jobs can be told
/// apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Property,
    Acknowledged,
    Tags,
    Cloud,
    Command { idempotent: bool },
}

/// The target of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    All,
    /// Devices whose tag `parity` is `even`.
    Even,
    /// The first so many devices, by name.
    Listed(u64),
}

impl Target {
    /// Returns the ids in a fleet of so many devices.
    pub fn ids(&self, devices: u64) -> BTreeSet<String> {
        let is_meant = |n: &u64| match self {
            Target::All => true,
            Target::Even => n.is_multiple_of(2),
            Target::Listed(count) => n <= count,
        };
        (1..=devices).filter(is_meant).map(device_id).collect()
    }
}

/// A job as its file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredJob {
    pub name: String,
    pub kind: Kind,
    pub run: u64,
    pub suspend: bool,
    pub target: Target,
    pub after: Option<String>,
    pub batch_size: Option<Amount>,
    pub threshold: Option<Threshold>,
    /// Attempts after the first.
    pub retries: u64,
    pub waits_online: bool,
    /// Hours after which a device that did not come online is given up.
    pub expires_after: u64,
    /// Minutes; `None` for no limit.
    pub max_execution: Option<u64>,
    /// The layout of the file, which has no meaning.
    pub layout: u64,
}

impl DeclaredJob {
    /// Returns a job with nothing special about it.
    pub fn new(name: &str, kind: Kind) -> DeclaredJob {
        DeclaredJob {
            name: name.to_string(),
            kind,
            run: 1,
            suspend: false,
            target: Target::All,
            after: None,
            batch_size: None,
            threshold: None,
            retries: 0,
            waits_online: false,
            expires_after: 2,
            max_execution: None,
            layout: 0,
        }
    }

    /// Returns the path of its file.
    pub fn path(&self) -> String {
        format!("jobs/{}.yaml", self.name)
    }

    /// Returns the value that a run of it writes: its number.
    pub fn value(&self) -> u64 {
        self.run
    }

    /// Returns the fields for the target and the action.
    pub(super) fn work(&self) -> [String; 2] {
        let (name, value) = (&self.name, self.value());
        let action = match self.kind {
            Kind::Property | Kind::Acknowledged => format!("{{property: {{{name}: {value}}}}}"),
            Kind::Tags => format!("{{tags: {{{name}: {value}}}}}"),
            Kind::Cloud => format!("{{cloudProperty: {{{name}: {value}}}}}"),
            Kind::Command { idempotent } => format!(
                "{{command: {{name: {name}, idempotent: {idempotent}, connectTimeout: 5s, responseTimeout: 10s}}}}"
            ),
        };
        let target = match &self.target {
            Target::All => "{query: '*'}".to_string(),
            Target::Even => "{query: \"tags.parity = 'even'\"}".to_string(),
            Target::Listed(count) => {
                format!("{{devices: [{}]}}", (1..=*count).map(device_id).collect::<Vec<_>>().join(", "))
            }
        };
        [format!("target: {target}"), format!("action: {action}")]
    }

    /// Returns the text of its file.
    pub fn text(&self) -> String {
        let (name, run) = (&self.name, self.run);
        let mut fields = vec![format!("run: \"{run}\"")];
        fields.extend(self.work());
        if self.suspend {
            fields.push("suspend: true".to_string());
        }
        if let Some(after) = &self.after {
            fields.push(format!("after: [{after}]"));
        }
        fields.push(format!("delivery: {{{}}}", self.delivery().join(", ")));
        let note = if self.layout % 2 == 1 { "# somebody tidied this file\n" } else { "" };
        if self.layout % 3 == 1 {
            fields.reverse();
        }
        let spec = if self.layout % 3 == 2 {
            format!("\n  {}", fields.join("\n  "))
        } else {
            format!(" {{{}}}", fields.join(", "))
        };
        format!("{note}apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:{spec}\n")
    }

    pub(super) fn delivery(&self) -> Vec<String> {
        let mut fields = vec![format!("expiresAfter: {}h", self.expires_after)];
        if self.kind == Kind::Acknowledged {
            fields.push("confirm: acknowledged".to_string());
        }
        if let Some(size) = self.batch_size {
            fields.push(format!("batchSize: {size}"));
        }
        if let Some(threshold) = self.threshold {
            let per = match threshold.per {
                ThresholdScope::Job => "job",
                ThresholdScope::Batch => "batch",
            };
            fields.push(format!("cancellationThreshold: {{failures: {}, per: {per}}}", threshold.failures));
        }
        if self.retries > 0 {
            fields.push(format!("retry: {{attempts: {}, backoff: 2s}}", self.retries));
        }
        if self.waits_online {
            fields.push("offline: wait".to_string());
        }
        if let Some(minutes) = self.max_execution {
            fields.push(format!("maxExecutionTime: {minutes}m"));
        }
        fields
    }
}

/// Everything that people have declared, as the last commit has it.
#[derive(Debug, Clone)]
pub struct People {
    pub devices: u64,
    pub jobs: BTreeMap<String, DeclaredJob>,
    /// Jobs whose file is gone, to be restored.
    pub deleted: BTreeMap<String, DeclaredJob>,
    /// Jobs that were edited without a new run token; when they had been claimed, an apply is refused.
    pub edited: BTreeSet<String>,
    pub schedules: BTreeMap<String, DeclaredSchedule>,
    /// Schedules whose file is gone, to be restored.
    deleted_schedules: BTreeMap<String, DeclaredSchedule>,
    /// The highest run token that each job ever had.
    newest: BTreeMap<String, u64>,
    /// Earlier declarations that a person may go back to.
    former: Vec<DeclaredJob>,
    /// Files that were changed since the last commit.
    touched: BTreeSet<String>,
    fleet: String,
}

impl People {
    /// Returns people who have declared a fleet without jobs.
    pub fn new(world: &World, devices: u64, fleet: &str) -> People {
        let mut people = People {
            devices,
            jobs: BTreeMap::new(),
            deleted: BTreeMap::new(),
            edited: BTreeSet::new(),
            schedules: BTreeMap::new(),
            deleted_schedules: BTreeMap::new(),
            newest: BTreeMap::new(),
            former: Vec::new(),
            touched: BTreeSet::new(),
            fleet: String::new(),
        };
        people.set_fleet(world, fleet);
        people.set_devices(world, devices);
        let import = "apiVersion: fleetform/v1\nkind: DeviceImport\nmetadata: {name: all}\nspec: {file: devices.csv}\n";
        world.write("imports.yaml", import);
        people.touched.insert("imports.yaml".to_string());
        people.commit(world);
        people
    }

    /// Declares the fleet's spec, in YAML's flow style.
    pub fn set_fleet(&mut self, world: &World, spec: &str) {
        if self.fleet != spec {
            self.fleet = spec.to_string();
            let head = format!("apiVersion: fleetform/v1\nkind: Fleet\nmetadata: {{name: {}}}\n", super::FLEET);
            world.write("fleetform.yaml", &format!("{head}spec: {spec}\n"));
            self.touched.insert("fleetform.yaml".to_string());
        }
    }

    /// Declares so many devices.
    pub fn set_devices(&mut self, world: &World, devices: u64) {
        self.devices = devices;
        let parity = |n: u64| if n.is_multiple_of(2) { "even" } else { "odd" };
        let row = |n| format!("{},Device {n},{}\n", device_id(n), parity(n));
        let rows: String = (1..=devices).map(row).collect();
        world.write("devices.csv", &format!("IOTC_DEVICEID,IOTC_DEVICENAME,TAG.parity\n{rows}"));
        self.touched.insert("devices.csv".to_string());
    }

    /// Declares a job, in the place of one of the same name.
    pub fn declare(&mut self, world: &World, job: DeclaredJob) {
        world.write(&job.path(), &job.text());
        self.touched.insert(job.path());
        let newest = self.newest.entry(job.name.clone()).or_default();
        *newest = job.run.max(*newest);
        self.deleted.remove(&job.name);
        self.jobs.insert(job.name.clone(), job);
    }

    /// Commits what was changed; nothing when nothing was.
    pub fn commit(&mut self, world: &World) {
        let paths: Vec<String> = std::mem::take(&mut self.touched).into_iter().collect();
        if !paths.is_empty() {
            world.commit(&paths);
        }
    }

    /// Gives a job a run token that it never had.
    pub fn run_again(&mut self, world: &World, name: &str) {
        let mut job = self.jobs[name].clone();
        self.former.push(job.clone());
        job.run = self.newest[name] + 1;
        self.edited.remove(name);
        self.declare(world, job);
    }

    /// Does what a refused apply asks for: gives every edited job a new run token.
    pub fn repair(&mut self, world: &World) {
        for name in self.edited.clone() {
            if self.jobs.contains_key(&name) {
                self.run_again(world, &name);
            }
        }
    }

    /// Restores deleted jobs and continues stopped jobs.
    pub fn set_going(&mut self, world: &World) {
        for job in self.deleted.clone().into_values() {
            self.declare(world, job);
        }
        for job in self.jobs.clone().into_values().filter(|job| job.suspend) {
            self.declare(world, DeclaredJob { suspend: false, ..job });
        }
        for schedule in self.deleted_schedules.clone().into_values() {
            self.declare_schedule(world, schedule);
        }
        for schedule in self.schedules.clone().into_values().filter(|schedule| schedule.suspend) {
            self.declare_schedule(world, DeclaredSchedule { suspend: false, ..schedule });
        }
    }

    /// Stops a job, unless it has another run by now. Returns true when that changes its file.
    pub fn stop(&mut self, world: &World, name: &str, run: &str) -> bool {
        let Some(job) = self.jobs.get(name).filter(|job| job.run.to_string() == run && !job.suspend).cloned() else {
            return false;
        };
        self.declare(world, DeclaredJob { suspend: true, ..job });
        true
    }

    /// Makes one random change, and returns a description of it.
    pub fn act(&mut self, world: &World, random: &mut Random) -> String {
        let names: Vec<String> = self.jobs.keys().cloned().collect();
        let choice = random.between(0, 99);
        if names.is_empty() || (choice < 15 && self.newest.len() < 8) {
            return self.add(world, random);
        }
        let mut job = self.jobs[random.pick(&names).as_str()].clone();
        let name = job.name.clone();
        match choice {
            0..=34 => {
                self.run_again(world, &name);
                format!("{name} gets the run {}", self.jobs[&name].run)
            }
            35..=54 => {
                job.suspend = !job.suspend;
                self.declare(world, job.clone());
                format!("{name}: suspend {}", job.suspend)
            }
            55..=62 => {
                job.batch_size = Some(Amount::Count(random.between(1, 9)));
                self.edited.insert(name.clone());
                self.declare(world, job);
                format!("{name} is edited")
            }
            63..=72 => {
                job.layout += 1;
                self.declare(world, job);
                format!("{name} is reformatted")
            }
            73..=82 => self.delete_or_restore(world, &job),
            83..=90 => {
                let same = |former: &&DeclaredJob| former.name == name;
                let Some(former) = self.former.iter().rev().find(same).cloned() else { return "nothing".to_string() };
                self.former.push(job);
                // The current declaration may never have been claimed in this form.
                self.edited.insert(name.clone());
                let run = former.run;
                self.declare(world, former);
                format!("{name} goes back to the run {run}")
            }
            _ => {
                let devices = self.devices + random.between(1, 3);
                self.set_devices(world, devices);
                format!("{devices} devices")
            }
        }
    }

    fn delete_or_restore(&mut self, world: &World, job: &DeclaredJob) -> String {
        if let Some(gone) = self.deleted.values().next().cloned() {
            let name = gone.name.clone();
            self.declare(world, gone);
            return format!("{name} is restored");
        }
        if self.jobs.values().any(|other| other.after.as_ref() == Some(&job.name)) || self.jobs.len() == 1 {
            return "nothing".to_string();
        }
        world.remove(&job.path());
        self.touched.insert(job.path());
        self.jobs.remove(&job.name);
        self.deleted.insert(job.name.clone(), job.clone());
        format!("{} is deleted", job.name)
    }

    /// Adds a job.
    pub fn add(&mut self, world: &World, random: &mut Random) -> String {
        let name = format!("job{}", self.newest.len() + 1);
        let mut job = random_job(&name, self.devices, random);
        let others: Vec<&String> = self.jobs.keys().collect();
        if !others.is_empty() && random.chance(25) {
            job.after = Some((*random.pick(&others)).clone());
        }
        let told = format!("{job:?}");
        self.declare(world, job);
        told
    }

    /// Declares a schedule, in the place of one of the same name.
    fn declare_schedule(&mut self, world: &World, schedule: DeclaredSchedule) {
        world.write(&schedule.path(), &schedule.text());
        self.touched.insert(schedule.path());
        self.deleted_schedules.remove(&schedule.job.name);
        self.schedules.insert(schedule.job.name.clone(), schedule);
    }

    /// Adds a schedule or makes one change to one, and returns a description of it.
    pub fn act_on_schedules(&mut self, world: &World, random: &mut Random) -> String {
        let names: Vec<String> = self.schedules.keys().cloned().collect();
        let count = names.len() + self.deleted_schedules.len();
        let choice = random.between(0, 99);
        if names.is_empty() || (choice < 25 && count < 3) {
            let name = format!("sched{}", count + 1);
            let schedule = DeclaredSchedule::random(&name, self.devices, world.clock.now(), random);
            let told = format!("{schedule:?}");
            self.declare_schedule(world, schedule);
            return told;
        }
        let mut schedule = self.schedules[random.pick(&names).as_str()].clone();
        let name = schedule.job.name.clone();
        match choice {
            0..=44 => schedule.suspend = !schedule.suspend,
            45..=64 => schedule.start = DeclaredSchedule::random_start(world.clock.now(), random),
            65..=79 => schedule.job.run += 1,
            80..=84 => schedule.queues = !schedule.queues,
            _ => {
                if let Some(gone) = self.deleted_schedules.values().next().cloned() {
                    let told = format!("{} is restored", gone.job.name);
                    self.declare_schedule(world, gone);
                    return told;
                }
                world.remove(&schedule.path());
                self.touched.insert(schedule.path());
                self.schedules.remove(&name);
                self.deleted_schedules.insert(name.clone(), schedule);
                return format!("{name} is deleted");
            }
        }
        let told = format!("{name}: start {}, suspend {}, spec {}", schedule.start, schedule.suspend, schedule.job.run);
        self.declare_schedule(world, schedule);
        told
    }
}

/// Returns the id of a device, counted from 1.
fn device_id(number: u64) -> String {
    format!("d-{number:03}")
}
