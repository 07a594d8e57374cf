//! Simulated people, who commit a fleet, its devices and its jobs, and edit them.

use std::collections::{BTreeMap, BTreeSet};

use super::job::{DeclaredJob, device_id, random_job};
use super::ledger::{Branch, Key, Run};
use super::schedules::DeclaredSchedule;
use super::{Random, World};
use crate::execute::Clock as _;
use crate::model::delivery::Amount;

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
    /// WorldFiles that were changed since the last commit.
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

    /// Returns true when a run is declared and not suspended.
    pub(super) fn lets_go_on(&self, (job, run): &Key) -> bool {
        self.jobs.values().any(|one| one.had_name(job) && one.run.to_string() == *run && !one.suspend)
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

    /// Gives another name, or one that it had, to a job all of whose runs have ended. Returns what was done; nothing for
    /// a job that others name, or that was edited without a new run token.
    pub fn rename(&mut self, world: &World, random: &mut Random) -> Option<String> {
        let (_, files) = world.results().ok()?;
        let branch = Branch::of(None, files).ok()?;
        let has_run = |name: &&String| {
            let mut claims = branch.claims.keys().filter(|key| key.0 == **name).peekable();
            claims.peek().is_some() && claims.all(|key| branch.runs.get(key).is_some_and(Run::is_final))
        };
        let names: Vec<String> = self.jobs.keys().filter(has_run).cloned().collect();
        if names.is_empty() {
            return None;
        }
        let old = self.jobs[random.pick(&names).as_str()].clone();
        let is_named = self.jobs.values().chain(self.deleted.values()).any(|job| job.after.as_ref() == Some(&old.name));
        if is_named || self.edited.contains(&old.name) {
            return None;
        }
        let fresh = format!("{}-{}", old.label, self.newest.len());
        let former = old.former_names.iter().find(|name| !self.jobs.contains_key(*name)).filter(|_| random.chance(25));
        let name = former.cloned().unwrap_or(fresh);
        let mut former_names = vec![old.name.clone()];
        former_names.extend(old.former_names.iter().filter(|former| **former != name).cloned());
        world.remove(&old.path());
        self.touched.insert(old.path());
        self.jobs.remove(&old.name);
        self.newest.insert(name.clone(), self.newest[&old.name]);
        let told = format!("{} is renamed to {name}", old.name);
        self.declare(world, DeclaredJob { name, former_names, lists_all: random.chance(50), ..old });
        Some(told)
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
