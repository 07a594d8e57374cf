//! A daemon's caches do not change what it reads: files and ledgers after random edits, read with the caches and
//! without.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fleetform::ledger::{Claim, ImportReport, Ledger, Published, RunRecord};
use fleetform::manifest::{ParsedFiles, ValidSubset};
use fleetform::model::delivery::BatchSizes;
use fleetform::model::digest::Digest;
use fleetform::model::fleet::Declared;
use fleetform::model::id::{Name, RunToken};
use fleetform::model::kind::Kind;
use fleetform::model::observation::DeviceIds;
use fleetform::model::outcome::{Counts, RunStatus};
use fleetform::prepare::{
    Recorded, Searches, load, load_valid, load_valid_again, read_ledger, read_ledger_again, searched_paths,
};
use fleetform::registry::{Change, NewRun, Registry};
use fleetform::repo::{FileChange, FleetTree, Repo};
use fleetform::results::{Trailers, document, with_trailers};
use proptest::prelude::*;
use proptest::sample::select;

use crate::world::{BRANCH, World};

/// Paths that sort in other ways as names and as folders, and one that makes the folder of others a fleet of its own.
const PATHS: [&str; 14] = [
    "fleetform.yaml",
    "jobs/a.yaml",
    "jobs/b.yaml",
    "jobs/a/c.yaml",
    "jobs/a-d.yaml",
    "jobs.yaml",
    "groups.yaml",
    "more/fleetform.yaml",
    "more/a.yaml",
    "templates/t.yaml",
    "templates/model.json",
    "edge/e.yaml",
    "edge/gateway.json",
    "devices.csv",
];

const FLEET: &str = "apiVersion: fleetform/v1\nkind: Fleet\nmetadata: {name: acme}\nspec: {}\n";
const MODEL: &str = r#"{"@context": "dtmi:dtdl:context;2", "@id": "dtmi:a:T;1", "@type": "Interface", "contents": []}"#;

fn doc(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: fleetform/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

const GATEWAY: &str = r#"{"modulesContent": {
    "$edgeAgent": {"properties.desired": {
        "schemaVersion": "1.1",
        "runtime": {"type": "docker", "settings": {}},
        "systemModules": {
            "edgeAgent": {"type": "docker", "settings": {"image": "agent:1.5"}},
            "edgeHub": {"type": "docker", "status": "running", "restartPolicy": "always", "settings": {"image": "hub:1.5"}}
        },
        "modules": {}
    }},
    "$edgeHub": {"properties.desired": {
        "schemaVersion": "1.1", "routes": {}, "storeAndForwardConfiguration": {"timeToLiveSecs": 7200}
    }}
}}"#;

/// Contents of a file: documents that need each other, and every kind of mistake.
fn contents() -> Vec<Vec<u8>> {
    let action = "action: {property: {light: {level: 3}}}";
    let job = |name: &str, target: &str| doc("Job", name, &format!("{{target: {{{target}}}, {action}}}"));
    let texts = [
        FLEET.to_string(),
        "# moved by a line\n".to_string() + FLEET,
        FLEET.replace("spec: {}", "spec: {link: {simulated: {seed: 2}}, timeZone: UTC}"),
        job("a", "query: '*'"),
        "# moved by a line\n".to_string() + &job("a", "query: '*'"),
        job("a", "group: g"),
        job("b", "query: 'tags.a = '"),
        job("b", "group: missing"),
        job("b", "query: \"tags.a = 'x'\"") + "---\n" + &job("c", "group: g"),
        doc("Job", "c", &format!("{{target: {{query: '*'}}, after: [a], {action}}}")),
        doc("Job", "a", &format!("{{target: {{query: '*'}}, after: [c], {action}}}")),
        doc("Job", "d", &format!("{{target: {{query: '*'}}, organization: eu, {action}}}")),
        doc("Job", "d", "{target: {query: '*'}, action: {tags: {a: yes}}, delivry: {}}"),
        doc("Job", "Not A Name", "{target: {query: '*'}, action: {tags: {a: 1}}}"),
        doc("Organization", "eu", "{}") + "---\n" + &doc("DeviceGroup", "g", "{query: '*', organization: eu}"),
        doc("DeviceGroup", "g", "{query: \"tags.n = '1'\"}"),
        doc("DeviceGroup", "g", "{query: \"tags.n == '1'\", template: t}"),
        doc("DeviceTemplate", "t", "{model: model.json}"),
        doc("DeviceTemplate", "t", "{model: ../edge/gateway.json}"),
        doc("EdgeManifest", "e", "{file: gateway.json}"),
        doc("DeviceImport", "all", "{file: devices.csv}"),
        doc("DeviceImport", "all", "{file: ../devices.csv}"),
        doc(
            "Schedule",
            "nightly",
            &format!("{{start: '2026-12-01T02:30:00', recurrence: daily, job: {{target: {{group: g}}, {action}}}}}"),
        ),
        doc(
            "Schedule",
            "a",
            &format!("{{start: '2026-12-01T02:30:00', recurrence: daily, job: {{target: {{query: '*'}}, {action}}}}}"),
        ),
        "apiVersion: v1\nkind: Pod\n".to_string(),
        "a: [1, 2\nb: }\n".to_string(),
        job("a", "query: '*'") + "---\nbroken: [\n",
        "\u{1}".to_string(),
        MODEL.to_string(),
        "{\"@id\": 1}".to_string(),
        "{".to_string(),
        r#"{"modulesContent": {"$edgeAgent": {"properties.desired": {"schemaVersion": "2"}}}}"#.to_string(),
        "IOTC_DEVICEID\nd-1\n".to_string(),
    ];
    let mut all: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    all.push(b"apiVersion: \xff\n".to_vec());
    all
}

/// Contents of some paths in a fleet without mistakes, and some mistakes.
fn natural() -> Vec<(&'static str, Vec<u8>)> {
    let template = doc("DeviceTemplate", "t", "{model: model.json}");
    let manifest = doc("EdgeManifest", "e", "{file: gateway.json}");
    let model = |name: &str| MODEL.replace("dtmi:a:T;1", &format!("dtmi:a:{name};1"));
    let gateway = |version: &str| GATEWAY.replace("\"1.1\"", &format!("\"{version}\""));
    let all = [
        ("fleetform.yaml", FLEET.to_string()),
        ("fleetform.yaml", FLEET.replace("spec: {}", "spec: {timeZone: UTC}")),
        ("templates/t.yaml", template.clone()),
        ("templates/t.yaml", template + "# edited\n"),
        ("templates/model.json", model("T")),
        ("templates/model.json", model("U")),
        ("templates/model.json", "{}".to_string()),
        ("templates/model.json", "{".to_string()),
        ("edge/e.yaml", manifest),
        ("edge/gateway.json", gateway("1.1")),
        ("edge/gateway.json", gateway("1.0")),
        ("edge/gateway.json", gateway("9")),
        ("groups.yaml", doc("DeviceGroup", "g", "{query: \"tags.n = '1'\", template: t}")),
        ("groups.yaml", doc("DeviceGroup", "g", "{query: '*'}")),
        ("jobs/a.yaml", doc("Job", "a", "{target: {group: g}, action: {tags: {a: 1}}}")),
        ("jobs/b.yaml", doc("Job", "b", "{target: {group: g}, action: {edgeManifest: e}}")),
        ("more/a.yaml", doc("DeviceImport", "all", "{file: ../devices.csv}")),
        ("devices.csv", "IOTC_DEVICEID\nd-1\n".to_string()),
        ("devices.csv", "IOTC_DEVICEID\nd-2\n".to_string()),
    ];
    all.into_iter().map(|(path, text)| (path, text.into_bytes())).collect()
}

#[derive(Debug, Clone)]
enum Edit {
    Write(&'static str, Vec<u8>),
    Link(&'static str),
    Remove(&'static str),
    Rename(&'static str, &'static str),
    /// A commit that changes nothing.
    Nothing,
}

fn edits() -> impl Strategy<Value = Edit> {
    prop_oneof![
        8 => select(natural()).prop_map(|(path, bytes)| Edit::Write(path, bytes)),
        6 => (select(&PATHS[..]), select(contents())).prop_map(|(path, bytes)| Edit::Write(path, bytes)),
        1 => select(&PATHS[..]).prop_map(Edit::Link),
        2 => select(&PATHS[..]).prop_map(Edit::Remove),
        2 => (select(&PATHS[..]), select(&PATHS[..])).prop_map(|(from, to)| Edit::Rename(from, to)),
        1 => Just(Edit::Nothing),
    ]
}

/// The mode and the bytes of each file.
type Files = BTreeMap<String, (u32, Vec<u8>)>;

fn edit(files: &mut Files, edit: &Edit) {
    let written = match edit {
        Edit::Write(path, bytes) => Some((*path, (0o100_644, bytes.clone()))),
        Edit::Link(path) => Some((*path, (0o120_000, b"elsewhere".to_vec()))),
        Edit::Rename(from, to) => files.remove(*from).map(|file| (*to, file)),
        Edit::Remove(path) => {
            files.remove(*path);
            None
        }
        Edit::Nothing => None,
    };
    if let Some((path, file)) = written {
        // A file takes the place of a folder, and a folder that of a file.
        let is_below = |path: &str, other: &str| path.starts_with(&format!("{other}/"));
        files.retain(|other, _| !is_below(other, path) && !is_below(path, other));
        files.insert(path.to_string(), file);
    }
}

fn commit(repository: &git2::Repository, files: &Files) -> String {
    let mut index = git2::Index::new().unwrap();
    for (path, (mode, bytes)) in files {
        let id = repository.blob(bytes).unwrap();
        let zero = git2::IndexTime::new(0, 0);
        index
            .add(&git2::IndexEntry {
                ctime: zero,
                mtime: zero,
                dev: 0,
                ino: 0,
                mode: *mode,
                uid: 0,
                gid: 0,
                file_size: 0,
                id,
                flags: 0,
                flags_extended: 0,
                path: path.clone().into_bytes(),
            })
            .unwrap();
    }
    let tree = repository.find_tree(index.write_tree_to(repository).unwrap()).unwrap();
    let author = git2::Signature::new("a", "a@localhost", &git2::Time::new(0, 0)).unwrap();
    let parent = repository.head().ok().map(|head| head.peel_to_commit().unwrap());
    let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
    repository.commit(Some("HEAD"), &author, &author, "edit", &tree, &parents).unwrap().to_string()
}

/// All public results of reading a tree.
fn shown(tree: &FleetTree<'_>, sound: &ValidSubset) -> String {
    let loaded = &sound.loaded;
    let names = ["a", "b", "c", "d", "g", "t", "e", "all", "nightly"].map(|name| Name::parse(name).unwrap());
    let spans: Vec<_> = names
        .iter()
        .flat_map(|name| {
            let of_kind = Kind::ALL.map(|kind| loaded.spans.span_of(kind, name, "/spec/file"));
            let all = of_kind.into_iter().chain([
                loaded.spans.span(name, "/spec/action/property"),
                loaded.spans.key_span(name, "/spec/target/query"),
            ]);
            let documents: Vec<_> =
                all.map(|span| (span, span.and_then(|span| loaded.spans.document_at(span)))).collect();
            let known = (loaded.job(name.as_str()), loaded.schedule(name.as_str()), loaded.spans.spec(name));
            documents.into_iter().map(|one| format!("{one:?}")).chain([format!("{known:?}")])
        })
        .collect();
    format!(
        "{:?}\n{:?}\n{:?}\n{:#?}\n{:?}\n{:?}\n{:?}\n{:?}\n{spans:#?}",
        tree.entries,
        (&tree.commit, &tree.tree),
        sound.held,
        loaded.declared,
        loaded.diagnostics,
        loaded.sources,
        loaded.digest,
        loaded.declared_files,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn files_are_read_again_as_they_are_read_afresh(steps in prop::collection::vec(edits(), 1..24)) {
        let folder = tempfile::tempdir().unwrap();
        let repository = git2::Repository::init(folder.path()).unwrap();
        let repo = Repo::open(folder.path()).unwrap();
        let mut files = Files::new();
        for (path, bytes) in natural().into_iter().rev() {
            edit(&mut files, &Edit::Write(path, bytes));
        }
        let first = commit(&repository, &files);
        assert!(load(&repo.tree_at(&first).unwrap()).declared.is_some(), "it begins without a mistake");
        let (mut known, mut searches, mut before) = (ParsedFiles::default(), Searches::default(), None);
        for step in &steps {
            edit(&mut files, step);
            let commit = commit(&repository, &files);
            let afresh = repo.tree_at(&commit).unwrap();
            let again = repo.tree_after(&commit, before.as_ref()).unwrap();
            let (one, two) = (load_valid(&afresh), load_valid_again(&again, &mut known));
            prop_assert_eq!(shown(&afresh, &one), shown(&again, &two));
            prop_assert_eq!(&one.loaded.declared, &two.loaded.declared);
            // In a tree without errors everything is sound.
            let strict = load(&afresh);
            prop_assert_eq!(&strict.diagnostics, &two.loaded.diagnostics);
            if let Some(declared) = &strict.declared {
                prop_assert_eq!(Some(declared), two.loaded.declared.as_ref());
                let declared = std::sync::Arc::new(declared.clone());
                let searched = searched_paths(&declared, &mut Searches::default());
                prop_assert_eq!(searched, searched_paths(&declared, &mut searches));
            }
            before = Some(again);
        }
    }
}

/// What happens to the results branch and the registry.
#[derive(Debug, Clone)]
enum Event {
    /// A run is claimed: in the journal, on the branch, or on both.
    Claim {
        job: usize,
        run: usize,
        is_journaled: bool,
        is_confirmed: bool,
        is_published: bool,
    },
    Record {
        job: usize,
        run: usize,
        completed: u64,
    },
    Report {
        import: usize,
    },
    /// A run of the journal is dropped or closed, or its claim is another one.
    Drop(usize),
    Close(usize),
    Forge(usize),
    /// Something that is no document of ours is on the branch.
    Write(&'static str, &'static str),
    Remove {
        job: usize,
        run: usize,
    },
    /// The branch is put back by so many commits, or is gone.
    Rewind(usize),
    Gone,
    Foreign,
    Seen,
    Nothing,
}

fn events() -> impl Strategy<Value = Event> {
    let run = || (0..3_usize, 0..2_usize);
    prop_oneof![
        8 => (run(), any::<(bool, bool, bool)>()).prop_map(|((job, run), (one, two, three))| {
            // Most are claimed as they should be.
            let (is_journaled, is_confirmed, is_published) = if one { (true, true, true) } else { (two, three, true) };
            Event::Claim { job, run, is_journaled, is_confirmed, is_published }
        }),
        1 => run().prop_map(|(job, run)| {
            Event::Claim { job, run, is_journaled: true, is_confirmed: true, is_published: false }
        }),
        5 => (run(), 0..3_u64).prop_map(|((job, run), completed)| Event::Record { job, run, completed }),
        2 => (0..2_usize).prop_map(|import| Event::Report { import }),
        1 => (0..4_usize).prop_map(Event::Drop),
        1 => (0..4_usize).prop_map(Event::Close),
        1 => (0..4_usize).prop_map(Event::Forge),
        1 => select(vec![
            ("claims/job-0/1.json", "{}"),
            ("claims/job-9/1.json", "no JSON"),
            ("runs/job-0/1/run.json", "{}"),
            ("fleet.json", "{\"format_version\": 1, \"fleet\": \"other\"}\n"),
            ("notes.md", "hello\n"),
        ]).prop_map(|(path, text)| Event::Write(path, text)),
        1 => run().prop_map(|(job, run)| Event::Remove { job, run }),
        1 => (1..4_usize).prop_map(Event::Rewind),
        1 => Just(Event::Gone),
        1 => Just(Event::Foreign),
        3 => Just(Event::Seen),
        1 => Just(Event::Nothing),
    ]
}

fn claim(job: usize, run: usize) -> Claim {
    Claim {
        job: Name::parse(&format!("job-{job}")).unwrap(),
        run: RunToken::parse(&(run + 1).to_string()).unwrap(),
        spec_digest: Digest::of_bytes(b"spec"),
        total: 2,
        targets_digest: Digest::of_texts(["d-1", "d-2"]),
        source_commit: "0".repeat(40),
        plan_id: Digest::of_bytes(b"plan").to_string(),
        claimed_at: "2026-11-20T10:00:00Z".parse().unwrap(),
    }
}

fn record(job: usize, run: usize, completed: u64) -> RunRecord {
    let claim = claim(job, run);
    RunRecord {
        job: claim.job,
        run: claim.run,
        status: if completed == 2 { RunStatus::Completed } else { RunStatus::Stopped },
        reason: None,
        cause: None,
        counts: Counts { total: 2, completed, failed: 0, unchanged: 0 },
        started_at: Some(claim.claimed_at),
        finished_at: None,
        source_commit: claim.source_commit,
        plan_id: claim.plan_id,
        spec_digest: claim.spec_digest,
        per_batch: Vec::new(),
        published: Published::default(),
        late: 0,
    }
}

/// A fleet whose past is made by hand.
struct Past {
    world: World,
    declared: Declared,
    registry: Registry,
    repo: Repo,
}

impl Past {
    fn new() -> Past {
        let world = World::new("{}");
        let repo = Repo::open(world.path()).unwrap();
        let declared = load(&repo.work_tree().unwrap()).declared.unwrap();
        let registry = world.registry_to_write();
        Past { world, declared, registry, repo }
    }

    fn git(&self) -> git2::Repository {
        git2::Repository::open(self.world.path()).unwrap()
    }

    fn publish(&self, files: &[FileChange]) {
        let message = with_trailers("results", &Trailers { writer: "test", ..Trailers::default() });
        let branch = self.repo.results(BRANCH);
        if branch.tip().unwrap().is_some() {
            branch.commit(files, &message).unwrap();
        }
    }

    /// Commits as a person would: without trailers, and perhaps with a file removed.
    fn commit_by_hand(&self, message: &str, removed: Option<&str>) {
        let git = self.git();
        let Ok(tip) = git.find_reference(&format!("refs/heads/{BRANCH}")) else { return };
        let tip = tip.peel_to_commit().unwrap();
        let mut update = git2::build::TreeUpdateBuilder::new();
        let before = tip.tree().unwrap();
        if let Some(path) = removed {
            if before.get_path(Path::new(path)).is_err() {
                return;
            }
            update.remove(path);
        }
        let tree = git.find_tree(update.create_updated(&git, &before).unwrap()).unwrap();
        let author = git2::Signature::now("a", "a@localhost").unwrap();
        git.commit(Some(&format!("refs/heads/{BRANCH}")), &author, &author, message, &tree, &[&tip]).unwrap();
    }

    fn happen(&mut self, event: &Event) {
        let fleet = self.declared.fleet.name.clone();
        match *event {
            Event::Claim { job, run, is_journaled, is_confirmed, is_published } => {
                let (claim, ids) = (claim(job, run), ["d-1", "d-2"].into_iter().collect::<DeviceIds>());
                let text = String::from_utf8(document(&claim.to_json(&fleet))).unwrap();
                if is_journaled {
                    let new = NewRun {
                        claim: &claim,
                        document: text.clone(),
                        spec: None,
                        manifest: None,
                        ids: &ids,
                        sizes: BatchSizes { first: 2, size: 2 },
                        keeps_answers: false,
                    };
                    // It may have been journaled before.
                    if let Ok(answer) = self.registry.write(Change::Claim(new))
                        && is_confirmed
                    {
                        self.registry.write(Change::Confirm { run_id: answer.into_run() }).unwrap();
                    }
                }
                if is_published {
                    self.publish(&[FileChange::bytes(claim.key(&fleet).claim_path(), text.into_bytes())]);
                }
            }
            Event::Record { job, run, completed } => {
                let path = format!("{}/run.json", claim(job, run).key(&fleet).results_folder());
                self.publish(&[FileChange::bytes(path, document(&record(job, run, completed).to_json()))]);
            }
            Event::Report { import } => {
                let path = format!("imports/import-{import}/{}/report.json", Digest::of_bytes(b"import"));
                self.publish(&[FileChange::bytes(path, document(&ImportReport::default().to_json()))]);
            }
            Event::Drop(run) => self.sql(&format!("DELETE FROM run WHERE run_id = {run}")),
            Event::Close(run) => self.sql(&format!("UPDATE run SET is_closed = NOT is_closed WHERE run_id = {run}")),
            Event::Forge(run) => self.sql(&format!("UPDATE run SET claim = claim || ' ' WHERE run_id = {run}")),
            Event::Write(path, text) => self.publish(&[FileChange::bytes(path, text.as_bytes().to_vec())]),
            Event::Remove { job, run } => {
                let message = with_trailers("removed", &Trailers { writer: "test", ..Trailers::default() });
                self.commit_by_hand(&message, Some(&claim(job, run).key(&fleet).claim_path()));
            }
            Event::Rewind(commits) => {
                let git = self.git();
                if let Ok(found) = git.revparse_single(&format!("refs/heads/{BRANCH}~{commits}")) {
                    git.reference(&format!("refs/heads/{BRANCH}"), found.id(), true, "rewind").unwrap();
                }
            }
            Event::Gone => {
                if let Ok(mut reference) = self.git().find_reference(&format!("refs/heads/{BRANCH}")) {
                    reference.delete().unwrap();
                }
            }
            Event::Foreign => self.commit_by_hand("by hand", None),
            Event::Seen => {
                if let Some(tip) = self.repo.results(BRANCH).tip().unwrap() {
                    self.registry.write(Change::Seen { results_tip: &tip, applied_head: "head" }).unwrap();
                }
            }
            Event::Nothing => {}
        }
    }

    /// Changes the registry from outside.
    fn sql(&self, text: &str) {
        self.world.sql(text);
    }

    fn read(&self, recorded: Option<&mut Recorded>) -> Result<Ledger, String> {
        let branch = self.repo.results(BRANCH);
        let read = match recorded {
            Some(recorded) => read_ledger_again(&branch, &self.registry, &self.declared, recorded),
            None => read_ledger(&branch, &self.registry, &self.declared),
        };
        read.map_err(|error| error.to_string())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn ledgers_are_read_again_as_they_are_read_afresh(
        steps in prop::collection::vec((events(), any::<bool>()), 1..24),
    ) {
        let mut past = Past::new();
        let mut recorded = Recorded::default();
        let mut kept: Vec<(Ledger, Ledger)> = Vec::new();
        for (event, is_read) in &steps {
            past.happen(event);
            if !is_read {
                continue;
            }
            let (again, afresh) = (past.read(Some(&mut recorded)), past.read(None));
            prop_assert_eq!(&again, &afresh, "after {:?}", event);
            if let (Ok(again), Ok(afresh)) = (again, afresh) {
                kept.push((again, afresh));
            }
        }
        // A later read does not change the results of earlier ones.
        for (again, afresh) in &kept {
            prop_assert_eq!(again, afresh);
        }
    }
}

/// Unchanged values are reused, and not made again.
#[test]
fn a_ledger_of_the_same_tip_is_the_same_in_memory() {
    let mut past = Past::new();
    past.happen(&Event::Claim { job: 0, run: 0, is_journaled: true, is_confirmed: true, is_published: true });
    let mut recorded = Recorded::default();
    let one = past.read(Some(&mut recorded)).unwrap();
    let two = past.read(Some(&mut recorded)).unwrap();
    assert!(Arc::ptr_eq(&one.claims, &two.claims) && Arc::ptr_eq(&one.records, &two.records));
    assert_eq!(one.claims.len(), 1);
}
