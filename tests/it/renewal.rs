//! Renewals of the lease: they replace the branch beside the results branch and leave no commit on that, and a take-over
//! and a renewal that cross keep each other out.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fleetform::execute::{Inbox, Progress};
use fleetform::ops::apply::{Applied, ApplyOptions};
use fleetform::ops::job::fetch_results;
use fleetform::ops::plan::{PlanOptions, plan};
use fleetform::ops::{Environment, OpsError};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::servers::hook;
use crate::world::{BRANCH, World, folder};

const BESIDE: &str = "fleetform/results-lease";
const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";
const LEASE_TIME: Duration = Duration::from_secs(30);

/// A fleet of six devices that take ten seconds each, and the bare repository that its results go to.
struct Site {
    world: World,
    remote: tempfile::TempDir,
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

impl Site {
    fn new() -> Site {
        let spec = "{link: {simulated: {latency: 10s, journal: devices.jsonl}}, limits: {inFlight: 1}, \
                    results: {remote: origin}}";
        let world = World::with_devices(spec, 6);
        world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
        world.commit("ignore");
        let remote = folder();
        git(remote.path(), &["init", "--quiet", "--bare", "--initial-branch=main"]);
        git(remote.path(), &["config", "core.hooksPath", "hooks"]);
        git(world.path(), &["remote", "add", "origin", remote.path().to_str().unwrap()]);
        let site = Site { world, remote };
        site.world.apply().unwrap();
        site.world.job("reboot", REBOOT);
        git(site.world.path(), &["push", "--quiet", "origin", "main"]);
        site
    }

    fn remote(&self) -> &Path {
        self.remote.path()
    }

    fn repository(&self) -> git2::Repository {
        git2::Repository::open_bare(self.remote()).unwrap()
    }

    fn tip(&self, branch: &str) -> Option<String> {
        let found = self.repository().refname_to_id(&format!("refs/heads/{branch}")).ok()?;
        Some(found.to_string())
    }

    /// Returns the lease on a branch of the remote.
    fn lease(&self, branch: &str) -> Option<Value> {
        let repository = self.repository();
        let tree = repository.find_reference(&format!("refs/heads/{branch}")).ok()?.peel_to_tree().unwrap();
        let entry = tree.get_path(Path::new("lease.json")).ok()?;
        Some(serde_json::from_slice(repository.find_blob(entry.id()).unwrap().content()).unwrap())
    }

    fn until(&self, branch: &str) -> Timestamp {
        self.lease(branch).unwrap()["until"].as_str().unwrap().parse().unwrap()
    }

    /// Returns the first lines of the messages of the results branch that name a lease.
    fn lease_subjects(&self) -> Vec<String> {
        let text = git(self.remote(), &["log", "--reverse", "--format=%s", BRANCH]);
        text.lines().filter(|line| line.starts_with("lease ")).map(str::to_string).collect()
    }

    /// Returns the root commit of a branch with one file, which no branch has yet.
    fn root(&self, file: &str, content: &Value) -> git2::Oid {
        let repository = self.repository();
        let blob = repository.blob(content.to_string().as_bytes()).unwrap();
        let mut builder = repository.treebuilder(None).unwrap();
        builder.insert(file, blob, 0o100_644).unwrap();
        let tree = repository.find_tree(builder.write().unwrap()).unwrap();
        let author = git2::Signature::now("Test", "test@example.com").unwrap();
        repository.commit(None, &author, &author, "lease: of somebody else\n", &tree, &[]).unwrap()
    }

    fn put_beside(&self, lease: &Value) {
        let root = self.root("lease.json", lease);
        self.repository().reference(&format!("refs/heads/{BESIDE}"), root, true, "test").unwrap();
    }

    fn put_lease(&self, lease: &Value) {
        let repository = self.repository();
        let tip = repository.refname_to_id(&format!("refs/heads/{BRANCH}")).unwrap();
        let parent = repository.find_commit(tip).unwrap();
        let blob = repository.blob(lease.to_string().as_bytes()).unwrap();
        let mut builder = repository.treebuilder(Some(&parent.tree().unwrap())).unwrap();
        builder.insert("lease.json", blob, 0o100_644).unwrap();
        let tree = repository.find_tree(builder.write().unwrap()).unwrap();
        let author = git2::Signature::now("Test", "test@example.com").unwrap();
        let message = "lease: of somebody else\n\nFleetform-Writer: test\n";
        repository.commit(Some(&format!("refs/heads/{BRANCH}")), &author, &author, message, &tree, &[&parent]).unwrap();
    }

    fn apply(&self, observer: &mut dyn FnMut(&Progress)) -> Result<Applied, OpsError> {
        let options = ApplyOptions { lease_time: LEASE_TIME, ..ApplyOptions::default() };
        self.world.apply_with(&options, &Inbox::new(), observer)
    }

    /// Returns the time so many seconds from now.
    fn after(&self, seconds: i64) -> Timestamp {
        self.world.clock_now() + jiff::SignedDuration::from_secs(seconds)
    }

    /// Leaves a lease of a process that is gone, which ends at these times by the two branches.
    fn leave_leases(&self, until: Timestamp, until_beside: Option<Timestamp>) {
        let lease = |until: Timestamp| {
            json!({"format_version": 1, "owner": "gone/1/0", "epoch": 7, "until": until.to_string(),
                   "lasts_seconds": 30})
        };
        self.put_lease(&lease(until));
        until_beside.into_iter().for_each(|until| self.put_beside(&lease(until)));
    }

    #[track_caller]
    fn check_done(&self) {
        assert_eq!(self.world.record("reboot", "1")["completed"], json!(6));
        assert_eq!(self.world.executions().len(), 6, "each once");
        assert_eq!(self.lease(BRANCH).unwrap()["owner"], json!(""), "it was given back");
    }
}

#[test]
fn renewals_leave_no_commit_and_a_clone_sees_them() {
    let site = Site::new();
    let before = site.lease_subjects().len();
    assert_eq!(site.tip(BESIDE), None, "nothing was renewed yet");
    let clone = folder();
    git(clone.path(), &["clone", "--quiet", site.remote().to_str().unwrap(), "fleet"]);
    let clone = clone.path().join("fleet");
    let environment = Environment { folder: clone.clone(), ..Environment::default() };
    let (tips, seen) = (RefCell::new(Vec::new()), Cell::new(0));
    let mut observer = |progress: &Progress| {
        if !matches!(progress, Progress::Advanced { .. }) {
            return;
        }
        let tip = site.tip(BESIDE);
        if tip.is_some() && tips.borrow().last() != Some(&tip) {
            tips.borrow_mut().push(tip);
        }
        let now = site.world.clock_now();
        if site.until(BRANCH) <= now {
            // By the results branch alone its lease has run out.
            if seen.get() % 2 == 0 {
                git(&clone, &["fetch", "--quiet"]);
            } else {
                // As `job show --follow` does.
                assert!(fetch_results(&environment, Duration::from_secs(60)).unwrap());
            }
            let planned = plan(&environment, &PlanOptions::default(), now).unwrap();
            let change = planned.plan.changes.iter().find(|change| change.subject.to_string() == "job/reboot").unwrap();
            let owner = site.lease(BRANCH).unwrap()["owner"].as_str().unwrap().to_string();
            assert_eq!(change.reason, format!("under way with another registry: {owner}"));
            seen.set(seen.get() + 1);
        }
    };
    site.apply(&mut observer).unwrap();
    assert!(tips.borrow().len() >= 3, "{tips:?}");
    assert!(seen.get() >= 3, "{seen:?}");
    assert_eq!(site.lease_subjects().len(), before + 1, "it was taken: {:?}", site.lease_subjects());
    let repository = site.repository();
    let beside = repository.find_reference(&format!("refs/heads/{BESIDE}")).unwrap().peel_to_commit().unwrap();
    assert_eq!(beside.parent_count(), 0);
    assert_eq!(beside.tree().unwrap().len(), 1);
    assert_eq!(site.lease(BESIDE).unwrap()["epoch"], site.lease(BRANCH).unwrap()["epoch"]);
    site.check_done();
    // What the branch beside says of a lease that was given back means nothing.
    site.world.job("again", REBOOT);
    site.apply(&mut |_| {}).unwrap();
    assert_eq!(site.world.record("again", "1")["completed"], json!(6));
}

#[test]
fn a_lease_that_is_renewed_is_not_taken_over_before_the_renewal_runs_out() {
    let site = Site::new();
    site.leave_leases(site.after(-10), Some(site.after(10)));
    let tips = (site.tip(BRANCH), site.tip(BESIDE));
    match site.apply(&mut |_| {}) {
        Err(OpsError::AtWork { what, .. }) => assert!(what.starts_with("gone/1/0 works on this fleet until"), "{what}"),
        other => panic!("{other:?}"),
    }
    assert_eq!((site.tip(BRANCH), site.tip(BESIDE)), tips);
    site.world.pass(Duration::from_secs(11));
    let taken = Cell::new(false);
    let mut observer = |progress: &Progress| {
        if matches!(progress, Progress::RunStarted { .. }) {
            assert_eq!(site.lease(BESIDE), site.lease(BRANCH), "both are taken at once");
            assert_eq!(site.lease(BRANCH).unwrap()["epoch"], json!(8));
            taken.set(true);
        }
    };
    site.apply(&mut observer).unwrap();
    assert!(taken.get());
    site.check_done();
}

#[test]
fn a_renewal_of_another_owner_epoch_or_form_makes_nothing_last() {
    let site = Site::new();
    let later = site.after(600).to_string();
    for (owner, epoch) in [("other/1/0", 7), ("gone/1/0", 6)] {
        site.leave_leases(site.after(-10), None);
        site.put_beside(&json!({"format_version": 1, "owner": owner, "epoch": epoch, "until": later}));
        site.apply(&mut |_| {}).unwrap();
        site.world.job(&format!("after-{epoch}"), REBOOT);
    }
    site.leave_leases(site.after(-10), None);
    site.put_beside(&json!(["what", "is", "this"]));
    site.apply(&mut |_| {}).unwrap();
}

/// A: renews. B: fetched before that, and takes over after it.
#[test]
fn a_renewal_in_the_middle_of_a_take_over_keeps_the_other_one_out() {
    for is_first in [true, false] {
        let site = Site::new();
        let long_ago = site.after(-10);
        site.leave_leases(long_ago, (!is_first).then_some(long_ago));
        let until = site.after(20).to_string();
        let lease = json!({"format_version": 1, "owner": "gone/1/0", "epoch": 7, "until": until, "lasts_seconds": 30});
        let renewal = site.root("lease.json", &lease);
        let tip = site.tip(BRANCH);
        // The server has compared nothing yet when the renewal overtakes the push.
        let script = format!(
            "rm -f hooks/pre-receive; unset GIT_QUARANTINE_PATH; git update-ref refs/heads/{BESIDE} {renewal}; exit 0"
        );
        hook(site.remote(), "pre-receive", &script);
        match site.apply(&mut |_| {}) {
            Err(OpsError::AtWork { what, .. }) => assert!(what.contains(&until), "{what}"),
            other => panic!("{other:?}"),
        }
        assert!(!site.remote().join("hooks/pre-receive").exists(), "it took place");
        assert_eq!(site.tip(BRANCH), tip, "nothing was taken");
        assert_eq!(site.tip(BESIDE), Some(renewal.to_string()));
        assert_eq!(site.world.executions().len(), 0);
    }
}

/// B: takes over. A: renews after that, with what it saw before.
#[test]
fn a_renewal_after_a_take_over_changes_nothing_and_its_owner_ends() {
    // Of the others, one cannot replace the branch beside.
    for replaces in [true, false] {
        let site = Site::new();
        let taken = Cell::new(false);
        let mut observer = |progress: &Progress| {
            if matches!(progress, Progress::Advanced { .. }) && !taken.get() && site.tip(BESIDE).is_some() {
                let lease = json!({"format_version": 1, "owner": "other/1/0", "epoch": 99,
                                   "until": site.after(6_000).to_string(), "lasts_seconds": 30});
                site.put_lease(&lease);
                if replaces {
                    site.put_beside(&lease);
                }
                taken.set(true);
            }
        };
        match site.apply(&mut observer) {
            Err(OpsError::AtWork { what, .. }) => assert!(what.contains("has changed hands: epoch 99"), "{what}"),
            other => panic!("{other:?}"),
        }
        assert!(taken.get());
        assert_eq!(site.lease(BRANCH).unwrap()["owner"], json!("other/1/0"));
        assert_eq!(site.lease(BESIDE).unwrap()["owner"] == json!("other/1/0"), replaces);
        assert!(site.world.executions().len() < 6, "it did not go on");
    }
}

#[test]
fn a_renewal_whose_answer_is_lost_is_made_again() {
    let site = Site::new();
    let dies = format!(
        "[ \"$1\" = committed ] && grep -q 'refs/heads/{BESIDE}$' && rm -f hooks/reference-transaction && touch died \
         && kill -9 $PPID; exit 0"
    );
    hook(site.remote(), "reference-transaction", &dies);
    let before = site.lease_subjects().len();
    site.apply(&mut |_| {}).unwrap();
    assert!(site.remote().join("died").exists());
    assert_eq!(site.lease_subjects().len(), before + 1);
    site.check_done();
}

#[test]
fn where_the_branch_cannot_be_replaced_renewals_are_commits_and_that_is_said_once() {
    type Spoil = fn(&Site);
    let spoilt: [(&str, Spoil); 6] = [
        ("a hook refuses it", |site| {
            hook(site.remote(), "update", &format!("[ $1 != refs/heads/{BESIDE} ] || {{ echo no; exit 1; }}"));
        }),
        ("a hook refuses what comes with it", |site| {
            hook(site.remote(), "pre-receive", &format!("! grep -q {BESIDE}"));
        }),
        ("the server moves one branch at a time", |site| {
            drop(git(site.remote(), &["config", "receive.advertiseAtomic", "false"]));
        }),
        ("the server refuses to force", |site| {
            drop(git(site.remote(), &["config", "receive.denyNonFastForwards", "true"]));
        }),
        ("a folder is in the way", |site| {
            let root = site.root("a", &json!(1));
            site.repository().reference(&format!("refs/heads/{BESIDE}/a"), root, true, "test").unwrap();
        }),
        ("it is a branch of somebody", |site| {
            let root = site.root("theirs.txt", &json!("kept"));
            site.repository().reference(&format!("refs/heads/{BESIDE}"), root, true, "test").unwrap();
        }),
    ];
    for (what, spoil) in spoilt {
        let site = Site::new();
        // Also to be taken over from a process that is gone.
        site.leave_leases(site.after(-10), None);
        spoil(&site);
        let (before, said) = (site.lease_subjects().len(), Cell::new(0));
        let beside = site.tip(BESIDE);
        let mut observer = |progress: &Progress| {
            if let Progress::RenewsByCommits { branch, reason } = progress {
                assert_eq!(branch, BESIDE, "{what}");
                assert!(!reason.is_empty(), "{what}");
                said.set(said.get() + 1);
            }
        };
        site.apply(&mut observer).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(said.get(), 1, "{what}");
        let leases = site.lease_subjects().len() - before;
        assert!(leases >= 4, "{what}: {leases}");
        if !what.contains("force") {
            assert_eq!(site.tip(BESIDE), beside, "{what}: it was left alone");
        }
        site.check_done();
    }
}

#[test]
fn a_remote_that_refuses_everything_for_a_while_is_not_taken_for_one_that_refuses_renewals() {
    let site = Site::new();
    let (before, stage) = (site.lease_subjects().len(), Cell::new(0));
    let mut observer = |progress: &Progress| match progress {
        Progress::Advanced { .. } if stage.get() == 0 => {
            hook(site.remote(), "pre-receive", "exit 1");
            stage.set(1);
        }
        Progress::Advanced { counts, .. } if stage.get() == 1 && counts.completed == 4 => {
            fs::remove_file(site.remote().join("hooks/pre-receive")).unwrap();
            stage.set(2);
        }
        Progress::RenewsByCommits { .. } => panic!("it does take renewals"),
        _ => {}
    };
    site.apply(&mut observer).unwrap();
    assert_eq!(stage.get(), 2);
    assert_eq!(site.lease_subjects().len(), before + 1);
    assert!(site.tip(BESIDE).is_some(), "it was renewed when it could be");
    site.check_done();
}
