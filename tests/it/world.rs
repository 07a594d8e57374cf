//! A fleet to test with: a real repository and a real registry in a folder of its own, and a clock that only the test
//! moves.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::RwLock;

use fleetform::execute::{Clock, Inbox, Progress, Waker, Wakeups};
use fleetform::model::device::Device;
use fleetform::ops::apply::{Applied, ApplyOptions, apply};
use fleetform::ops::plan::{PlanOptions, ShownPlan, plan};
use fleetform::ops::{AllowedSecrets, Environment, OpsError};
use fleetform::plan::ActionKind;
use fleetform::registry::postgres::PostgresPlace;
use fleetform::registry::sqlite::SqlitePlace;
use fleetform::registry::{DeviceFilter, Exclusive, Registry, RegistryError, StorePlace};
use fleetform::results::{Row, read_shard};
use jiff::Timestamp;
use serde_json::Value;

use crate::stores::{database_of, name_database, note};

/// The branch that results go to.
pub const BRANCH: &str = "fleetform/results";

/// A child holds the files of its parent until it executes another program, including the lock of an apply. So no
/// process is started while an apply of this process runs.
static APPLIES: RwLock<()> = RwLock::new(());

/// Runs an apply in this process, while no other process is started.
pub fn without_children<T>(work: impl FnOnce() -> T) -> T {
    let _no_child = APPLIES.read().unwrap();
    work()
}

/// Virtual time, which passes only while the process waits for it.
pub struct VirtualClock {
    now: Cell<Timestamp>,
    /// The time at which the clock sets an interrupt.
    interrupt: RefCell<Option<(Timestamp, Waker)>>,
    /// How often the time may still be asked for before the process dies; `None` for ever.
    looks_left: Cell<Option<u32>>,
}

impl VirtualClock {
    fn new() -> VirtualClock {
        let now = "2026-11-20T10:00:00Z".parse().unwrap();
        VirtualClock { now: Cell::new(now), interrupt: RefCell::new(None), looks_left: Cell::new(None) }
    }
}

impl VirtualClock {
    /// Sets an interrupt as soon as a time is reached.
    pub fn interrupt_at(&self, time: Timestamp, interrupt: &Inbox) {
        *self.interrupt.borrow_mut() = Some((time, interrupt.waker()));
    }

    pub fn interrupt_never(&self) {
        *self.interrupt.borrow_mut() = None;
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        if let Some(left) = self.looks_left.get() {
            self.looks_left.set(Some(left.saturating_sub(1)));
            if left == 0 {
                std::panic::resume_unwind(Box::new("killed"));
            }
        }
        self.now.get()
    }

    fn wait(&self, time: Timestamp, inbox: &Inbox) -> Wakeups {
        let woken = inbox.take();
        if !woken.is_empty() {
            return woken;
        }
        let mut until = time;
        if let Some((at, interrupt)) = self.interrupt.borrow().as_ref()
            && *at <= time
            && !interrupt.is_interrupted()
        {
            until = *at;
            interrupt.interrupt();
        }
        self.now.set(self.now.get().max(until));
        inbox.take()
    }
}

/// A fleet repository with its results branch.
pub struct World {
    folder: tempfile::TempDir,
    /// Of its document.
    spec: String,
    /// The URL of the database that its registry is in; `None` for a file.
    database: Option<String>,
    pub clock: VirtualClock,
    /// The secrets that the fleet may use in this process.
    pub secrets: RefCell<AllowedSecrets>,
    /// `--registry` of this process.
    pub named: RefCell<Option<String>>,
}

impl Drop for World {
    fn drop(&mut self) {
        note(self.path(), &self.spec);
    }
}

impl World {
    /// Returns a fleet `acme` with a spec in YAML's flow style, such as `{link: {simulated: {seed: 3}}}`, committed.
    pub fn new(spec: &str) -> World {
        let folder = folder();
        let database = database_of(folder.path(), spec);
        let world = World {
            folder,
            spec: spec.to_string(),
            database,
            clock: VirtualClock::new(),
            secrets: RefCell::default(),
            named: RefCell::default(),
        };
        let mut options = git2::RepositoryInitOptions::new();
        git2::Repository::init_opts(world.path(), options.initial_head("main")).unwrap();
        world.write(".gitignore", ".fleetform/\n");
        world.declare("fleetform.yaml", "Fleet", "acme", spec);
        world.commit("fleet");
        let options = fleetform::ops::init::InitOptions {
            environment: world.environment(),
            ..fleetform::ops::init::InitOptions::default()
        };
        fleetform::ops::init::init(world.path(), options).unwrap();
        world
    }

    /// Returns a fleet with devices `d-001`, `d-002`, … in one import; their tag `n` is their number, and `parity` is
    /// `odd` or `even`.
    pub fn with_devices(spec: &str, count: usize) -> World {
        let world = World::new(spec);
        world.write("devices.csv", devices_csv(count));
        world.declare("imports.yaml", "DeviceImport", "all", "{file: devices.csv}");
        world.commit("devices");
        world
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    /// Returns a path, as text, that is not part of the repository's declared files.
    pub fn folder_file(&self, name: &str) -> String {
        self.file(".git").join(name).to_str().unwrap().to_string()
    }

    /// Returns the file of the registry.
    pub fn registry_path(&self) -> PathBuf {
        assert!(self.database.is_none(), "a test of the file is named in `stores::OF_FILES`");
        self.file(".fleetform/fleet.db")
    }

    /// Returns where the registry is, as fleetform finds it.
    fn place(&self) -> Box<dyn StorePlace> {
        match &self.database {
            Some(url) => Box::new(PostgresPlace::new(url, "acme").unwrap()),
            None => Box::new(SqlitePlace::new(self.registry_path(), "acme")),
        }
    }

    /// Returns what names the registry on a command line.
    pub fn registry_url(&self) -> String {
        self.database.clone().unwrap_or_else(|| format!("sqlite:{}", self.registry_path().display()))
    }

    /// Returns the rows of a registry that is a database, as JSON; none for a file, which is read as it is.
    pub fn rows_of_database(&self) -> Vec<String> {
        self.database.as_deref().map_or_else(Vec::new, crate::cluster::rows)
    }

    /// Returns true when the registry was made.
    pub fn has_registry(&self) -> bool {
        self.place().is_there().unwrap()
    }

    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.file(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a file with one document.
    pub fn declare(&self, path: &str, kind: &str, name: &str, spec: &str) {
        let text = format!("apiVersion: fleetform/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n");
        self.write(path, text);
    }

    /// Declares a job in a file of its own and commits it.
    pub fn job(&self, name: &str, spec: &str) {
        self.declare(&format!("jobs/{name}.yaml"), "Job", name, spec);
        self.commit(name);
    }

    /// Commits everything in the work tree.
    pub fn commit(&self, message: &str) {
        let repository = self.repository();
        let mut index = repository.index().unwrap();
        index.add_all(["*"], git2::IndexAddOption::DEFAULT, None).unwrap();
        index.update_all(["*"], None).unwrap();
        index.write().unwrap();
        let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
        let author = git2::Signature::now("Test", "test@example.com").unwrap();
        let parent = repository.head().ok().map(|head| head.peel_to_commit().unwrap());
        let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
        repository.commit(Some("HEAD"), &author, &author, message, &tree, &parents).unwrap();
    }

    pub fn repository(&self) -> git2::Repository {
        git2::Repository::open(self.path()).unwrap()
    }

    pub fn head(&self) -> String {
        self.repository().head().unwrap().target().unwrap().to_string()
    }

    pub fn environment(&self) -> Environment {
        Environment {
            folder: self.path().to_path_buf(),
            registry: self.named.borrow().clone().or_else(|| self.database.clone()),
            secrets: self.secrets.borrow().clone(),
            ..Environment::default()
        }
    }

    pub fn plan(&self) -> Result<ShownPlan, OpsError> {
        plan(&self.environment(), &PlanOptions::default(), self.clock.now())
    }

    /// Returns what the plan does with a job.
    pub fn planned_action(&self, job: &str) -> ActionKind {
        let planned = self.plan().unwrap();
        let address = format!("job/{job}");
        planned.plan.changes.iter().find(|change| change.subject.to_string() == address).unwrap().action()
    }

    pub fn apply(&self) -> Result<Applied, OpsError> {
        self.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut |_| {})
    }

    /// Applies and is interrupted after a time.
    pub fn apply_interrupted(&self, after: std::time::Duration) -> Applied {
        let interrupt = Inbox::new();
        let at = self.clock.now().checked_add(after).unwrap();
        *self.clock.interrupt.borrow_mut() = Some((at, interrupt.waker()));
        let applied = self.apply_with(&ApplyOptions::default(), &interrupt, &mut |_| {}).unwrap();
        *self.clock.interrupt.borrow_mut() = None;
        applied
    }

    /// Applies with a process that dies when it reads the clock for the `looks`th time. Returns false when it ended
    /// before that.
    pub fn apply_killed(&self, looks: u32) -> bool {
        self.clock.looks_left.set(Some(looks));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.apply().unwrap()));
        self.clock.looks_left.set(None);
        ended.is_err()
    }

    pub fn apply_with(
        &self,
        options: &ApplyOptions,
        interrupt: &Inbox,
        observer: &mut dyn FnMut(&Progress),
    ) -> Result<Applied, OpsError> {
        let environment = self.environment();
        let _no_child = APPLIES.read().unwrap();
        apply(&environment, options, &self.clock, interrupt, &mut |_, _| true, observer)
    }

    pub fn clock_now(&self) -> Timestamp {
        self.clock.now.get()
    }

    /// Moves the clock.
    pub fn pass(&self, time: std::time::Duration) {
        self.clock.now.set(self.clock.now.get().checked_add(time).unwrap());
    }

    /// Returns the files at the tip of the results branch.
    pub fn results(&self) -> BTreeMap<String, Vec<u8>> {
        let repository = self.repository();
        let Ok(tip) = repository.find_reference(&format!("refs/heads/{BRANCH}")) else { return BTreeMap::new() };
        let mut files = BTreeMap::new();
        tip.peel_to_tree()
            .unwrap()
            .walk(git2::TreeWalkMode::PreOrder, |folder, entry| {
                if entry.kind() == Some(git2::ObjectType::Blob) {
                    let blob = repository.find_blob(entry.id()).unwrap();
                    files.insert(format!("{folder}{}", entry.name().unwrap()), blob.content().to_vec());
                }
                git2::TreeWalkResult::Ok
            })
            .unwrap();
        files
    }

    /// Returns `run.json` of a run.
    pub fn record(&self, job: &str, run: &str) -> Value {
        let files = self.results();
        let path = format!("runs/{job}/{run}/run.json");
        serde_json::from_slice(files.get(&path).unwrap_or_else(|| panic!("no {path}"))).unwrap()
    }

    /// Returns the rows of all shards of a run, in order.
    pub fn rows(&self, job: &str, run: &str) -> Vec<Row> {
        let prefix = format!("runs/{job}/{run}/devices-");
        let mut rows = Vec::new();
        for (_, bytes) in self.results().iter().filter(|(path, _)| path.starts_with(&prefix)) {
            read_shard(bytes, |row| rows.push(row)).unwrap();
        }
        rows
    }

    /// Returns the messages of the results branch, the oldest first.
    pub fn messages(&self) -> Vec<String> {
        let repository = self.repository();
        let mut walk = repository.revwalk().unwrap();
        walk.push_ref(&format!("refs/heads/{BRANCH}")).unwrap();
        let mut found: Vec<String> =
            walk.map(|id| repository.find_commit(id.unwrap()).unwrap().message().unwrap().to_string()).collect();
        found.reverse();
        found
    }

    /// Returns the first lines of [`World::messages`].
    pub fn subjects(&self) -> Vec<String> {
        self.messages().iter().map(|message| message.lines().next().unwrap().to_string()).collect()
    }

    pub fn registry(&self) -> Registry {
        Registry::new(self.place().open_for_reading().unwrap())
    }

    /// Loses the registry.
    pub fn lose_registry(&self) {
        if let Some(url) = &self.database {
            crate::cluster::run(url, "DROP SCHEMA IF EXISTS fleetform CASCADE");
            drop(fs::remove_dir_all(self.file(".fleetform")));
        } else {
            fs::remove_dir_all(self.file(".fleetform")).unwrap();
        }
    }

    /// Works on the registry as another process does, until the value is dropped.
    pub fn work(&self, owner: &str) -> Rc<dyn Exclusive> {
        self.place().exclude(owner).unwrap()
    }

    /// Returns the registry in whatever state it is.
    pub fn back_up(&self) -> Backup {
        if let Some(url) = &self.database {
            return Backup::Database(crate::cluster::copy_database(url));
        }
        let files = ["fleet.db", "fleet.db-wal", "fleet.db-shm"].map(|name| self.file(".fleetform").join(name));
        Backup::Files(files.into_iter().filter_map(|file| Some((file.clone(), fs::read(&file).ok()?))).collect())
    }

    /// Puts a backup in the place of the registry.
    pub fn put_back(&self, backup: &Backup) {
        match backup {
            Backup::Database(copy) => {
                crate::cluster::replace_database(self.database.as_ref().expect("it has one"), copy);
            }
            Backup::Files(files) => {
                for ending in ["", "-wal", "-shm"] {
                    drop(fs::remove_file(self.file(&format!(".fleetform/fleet.db{ending}"))));
                }
                for (path, bytes) in files {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, bytes).unwrap();
                }
            }
        }
    }

    /// Returns the registry; `None` while it cannot be read, as before the first import.
    pub fn registry_if_any(&self) -> Option<Registry> {
        let place = self.place();
        if place.is_there().ok()? { Some(Registry::new(place.open_for_reading().ok()?)) } else { None }
    }

    /// Returns the registry as another process writes to it.
    pub fn registry_to_write(&self) -> Registry {
        Registry::new(self.place().open().unwrap())
    }

    pub fn device(&self, id: &str) -> Device {
        self.registry().devices().get(id).unwrap().unwrap_or_else(|| panic!("no device {id}"))
    }

    pub fn devices(&self) -> Vec<Device> {
        let mut devices = Vec::new();
        self.registry()
            .each_device::<RegistryError>(&DeviceFilter::default(), |device| {
                devices.push(device);
                Ok(())
            })
            .unwrap();
        devices
    }

    /// Runs SQL on the registry, past fleetform.
    pub fn sql(&self, text: &str) {
        if let Some(url) = &self.database {
            return crate::cluster::run(url, &format!("SET search_path = fleetform; {text}"));
        }
        rusqlite::Connection::open(self.registry_path()).unwrap().execute_batch(text).unwrap();
    }

    /// Returns the lines of the journal of the simulated devices as (device, execution id).
    pub fn executions(&self) -> Vec<(String, String)> {
        let text = fs::read_to_string(self.file("devices.jsonl")).unwrap_or_default();
        let field = |line: &Value, name: &str| line[name].as_str().unwrap().to_string();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .map(|line: Value| (field(&line, "device_id"), field(&line, "execution_id")))
            .collect()
    }

    /// Returns the configuration folder of the user who runs the binary in this fleet.
    pub fn config_home(&self) -> PathBuf {
        self.file(".git/config-home")
    }

    /// Runs the binary in the fleet.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = fleetform();
        command.arg("-C").arg(self.path()).args(arguments).env("XDG_CONFIG_HOME", self.config_home());
        Ran::of(&mut command)
    }
}

/// A copy of a registry.
pub enum Backup {
    Files(Vec<(PathBuf, Vec<u8>)>),
    /// The URL of the copy.
    Database(String),
}

/// Returns a new folder, in memory when the system supports that: no test is about a power cut, and every claim would
/// wait for the disk.
pub fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Returns the text of an import of [`World::with_devices`].
pub fn devices_csv(count: usize) -> String {
    let row = |n: usize| format!("d-{n:03},Device {n},{n},{}\n", if n.is_multiple_of(2) { "even" } else { "odd" });
    let rows: String = (1..=count).map(row).collect();
    format!("IOTC_DEVICEID,IOTC_DEVICENAME,TAG.n,TAG.parity\n{rows}")
}

/// Returns the binary, with nothing of the surroundings that changes what it does.
pub fn fleetform() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetform"));
    command
        .env_remove("FLEETFORM_REGISTRY")
        .env_remove("FLEETFORM_ALLOW_SECRETS")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    // Those of the forge that runs the tests.
    for name in ["GITHUB_ACTIONS", "GITEA_ACTIONS", "FORGEJO_ACTIONS", "GITLAB_CI", "FLEETFORM_FORGE_TOKEN"] {
        command.env_remove(name);
    }
    // This folder is never written, so a test sees neither the state of another test nor that of the person who runs
    // them.
    command.env("XDG_CONFIG_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/nobody"));
    command
}

/// Starts a process that outlives the call, its streams as they were set.
pub fn spawn(command: &mut Command) -> Child {
    name_database(command);
    let _no_apply = APPLIES.write().unwrap();
    command.spawn().unwrap()
}

/// What the binary did.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Ran {
        Ran::after(Ran::start(command))
    }

    /// Starts the binary, to be waited for with [`Ran::after`].
    pub fn start(command: &mut Command) -> Child {
        name_database(command);
        let _no_apply = APPLIES.write().unwrap();
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub fn after(child: Child) -> Ran {
        let output = child.wait_with_output().unwrap();
        Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Returns stdout as JSON lines.
    pub fn json(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
        self.stdout.lines().map(parse).collect()
    }

    /// Fails, showing all, when the code is another.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

/// How often a fault is tried: as many as the variable says, or a few.
pub fn times(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
