//! The bare repository that the results of a world go to: its faults, and the invariants that must always hold.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{ErrorCode, Oid, Repository};
use jiff::Timestamp;

use super::{BRANCH, FLEET};
use crate::ledger::{LEASE_PATH, Lease};
use crate::registry::sqlite;
use crate::results::document;

/// The name of the remote in each site.
const NAME: &str = "origin";
/// The name of a process that takes the work over and then does nothing.
const STRANGER: &str = "elsewhere/1/00000000";

/// How much longer the stranger's lease lasts on the branch beside: it has run out before a world comes to rest.
const RENEWAL: Duration = Duration::from_secs(600);

/// Counts the calls of a hook in `n`.
const COUNT: &str = "n=$(($(cat pushes 2>/dev/null || echo 0) + 1)); echo $n > pushes\n";

/// A fault of a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteFault {
    /// The remote does not exist.
    Away,
    /// It refuses every push from this number on, counted from 1.
    Refuses(u32),
    /// It answers, but later than any process waits.
    Slow,
    /// It takes the push of this number, counted from 1, and dies before it says so.
    LosesAnswer(u32),
    /// Another process commits to its branch and replaces the one beside it, without a change that concerns us.
    Moves,
    /// A person removes this many commits of its branch by force, and puts them back when the process has ended. This
    /// happens only when the site at work has seen them: another site cannot notice.
    Rewinds(u32),
    /// Another process takes the lease, as if ours had run out, and with `fences` notes its epoch in the registry. It
    /// makes it last once, unless it is `alone`: then it cannot replace the branch beside.
    TakenOver { fences: bool, alone: bool },
}

impl RemoteFault {
    /// Returns true when a call to the remote may fail.
    pub fn is_failure(self) -> bool {
        matches!(self, RemoteFault::Away | RemoteFault::Refuses(_) | RemoteFault::LosesAnswer(_))
    }
}

/// The remote of a world.
pub(super) struct BareRemote {
    path: PathBuf,
    /// The tip of the branch when it was last looked at.
    seen: RefCell<Option<Oid>>,
    /// The tip before the branch was rewound, and the one after it.
    rewound: RefCell<Option<(Oid, Oid)>>,
    /// The end of the stranger's last lease, by all that it has written.
    promised: RefCell<Option<(u64, Timestamp)>>,
    /// The lease on the branch beside when it was last looked at.
    beside: RefCell<Option<Lease>>,
    /// The commits of the branch that only made a lease of ours last, among those that were last looked at.
    renewals: RefCell<Vec<Oid>>,
}

fn script_at(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("a script can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a script can be made executable");
}

impl BareRemote {
    /// Makes a bare repository.
    pub fn new(path: PathBuf) -> BareRemote {
        let make = || {
            let repository = Repository::init_bare(&path)?;
            let mut config = repository.config()?;
            config.set_str("core.hooksPath", &path.join("hooks").to_string_lossy())?;
            config.set_bool("receive.autogc", false)
        };
        make().unwrap_or_else(|error| panic!("a remote can be made: {error}"));
        BareRemote {
            path,
            seen: RefCell::default(),
            rewound: RefCell::default(),
            promised: RefCell::default(),
            beside: RefCell::default(),
            renewals: RefCell::default(),
        }
    }

    /// Adds the remote to a repository.
    pub fn add_to(&self, site: &Path) {
        let program = self.path.with_extension("upload-pack");
        let slow = self.slow();
        let script = format!("[ -e {} ] && sleep 0.6\nexec git upload-pack \"$@\"", slow.display());
        script_at(&program, &script);
        let add = || {
            let site = Repository::open(site)?;
            site.remote(NAME, &self.path.to_string_lossy())?;
            site.config()?.set_str(&format!("remote.{NAME}.uploadpack"), &program.to_string_lossy())
        };
        add().unwrap_or_else(|error| panic!("a remote can be added: {error}"));
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of a file that exists while queries are slow.
    fn slow(&self) -> PathBuf {
        self.path.with_extension("slow")
    }

    fn away(&self) -> PathBuf {
        self.path.with_extension("away")
    }

    /// Begins a fault, unless it is impossible in the current state.
    pub fn begin(&self, fault: RemoteFault, now: Timestamp, (site, registry): (&Path, &Path)) {
        match fault {
            RemoteFault::Away => fs::rename(&self.path, self.away()).expect("a folder can be renamed"),
            RemoteFault::Refuses(number) => self.hook("update", &format!("{COUNT}[ $n -lt {number} ]")),
            RemoteFault::Slow => {
                self.hook("update", "sleep 0.6");
                fs::write(self.slow(), []).expect("a file can be written");
            }
            RemoteFault::LosesAnswer(number) => {
                self.hook("post-receive", &format!("{COUNT}[ $n -eq {number} ] && kill -9 $PPID\nexit 0"));
            }
            RemoteFault::Moves => {
                let longer = |lease: Lease| Lease { until: lease.until + Duration::from_secs(1), ..lease };
                self.put(longer);
                self.lease().into_iter().for_each(|lease| self.put_beside(&longer(lease)));
            }
            RemoteFault::Rewinds(commits) => {
                let moved =
                    self.rewind(commits, site).unwrap_or_else(|error| panic!("a branch can be forced: {error}"));
                *self.rewound.borrow_mut() = moved;
            }
            RemoteFault::TakenOver { fences, alone } => {
                self.put(|lease| Lease {
                    owner: STRANGER.to_string(),
                    epoch: lease.epoch + 1,
                    until: now + lease.time,
                    ..lease
                });
                if !alone && let Some(lease) = self.lease_of(&reference()) {
                    self.put_beside(&Lease { until: lease.until + RENEWAL, ..lease });
                }
                if fences && let Some(lease) = self.lease() {
                    let entered = sqlite::open(registry, FLEET).and_then(|mut there| there.enter_epoch(lease.epoch));
                    entered.expect("a stranger can note its lease");
                }
            }
        }
    }

    /// Ends the faults; commits stay.
    pub fn mend(&self) {
        if self.away().exists() {
            fs::rename(self.away(), &self.path).expect("a folder can be renamed");
        }
        let rewound = *self.rewound.borrow();
        if let Some((before, after)) = rewound {
            let put_back = || {
                let repository = Repository::open_bare(&self.path)?;
                let is_as_left = tip_of(&repository, &reference())? == Some(after);
                if is_as_left {
                    repository.reference(&reference(), before, true, "put back")?;
                }
                Ok::<bool, git2::Error>(is_as_left)
            };
            if put_back().unwrap_or_else(|error| panic!("a branch can be forced: {error}")) {
                *self.rewound.borrow_mut() = None;
            }
        }
        drop(fs::remove_file(self.slow()));
        for name in ["hooks/update", "hooks/post-receive", "pushes"] {
            drop(fs::remove_file(self.path.join(name)));
        }
    }

    /// Returns the tip before and after; `None` when there are not so many commits, or a site has not seen them.
    fn rewind(&self, commits: u32, site: &Path) -> Result<Option<(Oid, Oid)>, git2::Error> {
        let repository = Repository::open_bare(&self.path)?;
        let seen = tip_of(&Repository::open(site)?, &noted_reference())?;
        let Some(before) = tip_of(&repository, &reference())?.filter(|tip| seen == Some(*tip)) else { return Ok(None) };
        let Ok(after) = repository.revparse_single(&format!("{before}~{commits}")) else { return Ok(None) };
        repository.reference(&reference(), after.id(), true, "rewound")?;
        Ok(Some((before, after.id())))
    }

    fn hook(&self, name: &str, script: &str) {
        let path = self.path.join("hooks").join(name);
        fs::create_dir_all(self.path.join("hooks")).expect("a folder can be made");
        script_at(&path, script);
    }

    /// Returns what counts as the lease.
    pub fn lease(&self) -> Option<Lease> {
        let lease = self.lease_of(&reference())?;
        Some(match self.lease_of(&beside()) {
            Some(renewal) => lease.renewed_by(&renewal),
            None => lease,
        })
    }

    fn lease_of(&self, reference: &str) -> Option<Lease> {
        let repository = Repository::open_bare(&self.path).ok()?;
        let tip = repository.find_commit(repository.refname_to_id(reference).ok()?).ok()?;
        lease_at(&repository, &tip)
    }

    fn promise(&self, lease: &Lease) {
        if lease.owner == STRANGER {
            let mut promised = self.promised.borrow_mut();
            let before = promised.filter(|(epoch, _)| *epoch == lease.epoch).map(|(_, until)| until);
            *promised = Some((lease.epoch, before.map_or(lease.until, |until| until.max(lease.until))));
        }
    }

    /// Replaces the branch beside.
    fn put_beside(&self, lease: &Lease) {
        self.promise(lease);
        let replace = || -> Result<(), git2::Error> {
            let repository = Repository::open_bare(&self.path)?;
            let mut builder = repository.treebuilder(None)?;
            builder.insert(LEASE_PATH, repository.blob(&document(&lease.to_json()))?, 0o100_644)?;
            let tree = repository.find_tree(builder.write()?)?;
            let author = git2::Signature::now("elsewhere", "elsewhere@localhost")?;
            let root = repository.commit(None, &author, &author, "lease: of somebody else\n", &tree, &[])?;
            repository.reference(&beside(), root, true, "replaced").map(drop)
        };
        replace().unwrap_or_else(|error| panic!("a stranger can replace a branch: {error}"));
    }

    /// Commits another lease.
    fn put(&self, change: impl FnOnce(Lease) -> Lease) {
        let Some(lease) = self.lease_of(&reference()).map(change) else { return };
        self.promise(&lease);
        let commit = || -> Result<(), git2::Error> {
            let repository = Repository::open_bare(&self.path)?;
            let parent = repository.find_commit(repository.refname_to_id(&reference())?)?;
            let blob = repository.blob(&document(&lease.to_json()))?;
            let mut builder = repository.treebuilder(Some(&parent.tree()?))?;
            builder.insert(LEASE_PATH, blob, 0o100_644)?;
            let tree = repository.find_tree(builder.write()?)?;
            let author = git2::Signature::now("elsewhere", "elsewhere@localhost")?;
            let message = "lease: of somebody else\n\nFleetform-Writer: elsewhere\n";
            repository.commit(Some(&reference()), &author, &author, message, &tree, &[&parent]).map(drop)
        };
        commit().unwrap_or_else(|error| panic!("a stranger can commit: {error}"));
    }

    /// Checks that the branch only grows, by commits that change something; that no lease is taken from the stranger
    /// before it has run out; that epochs never go back; that no process claims without a lease; and that the branch
    /// beside is one commit with a lease.
    pub fn check_growth(&self) -> Result<(), String> {
        if let Some((before, after)) = *self.rewound.borrow() {
            return Err(format!(
                "the branch of the remote was rewound from {before} to {after}, and somebody went on from there"
            ));
        }
        self.check_beside()?;
        self.renewals.borrow_mut().clear();
        let look = || -> Result<Result<Option<Oid>, String>, git2::Error> {
            let repository = Repository::open_bare(&self.path)?;
            let (seen, tip) = (*self.seen.borrow(), tip_of(&repository, &reference())?);
            let Some(now) = tip else {
                return Ok(if seen.is_some() { Err("the branch of the remote is gone".to_string()) } else { Ok(None) });
            };
            if let Some(seen) = seen
                && seen != now
                && !repository.graph_descendant_of(now, seen)?
            {
                return Ok(Err(format!("the branch of the remote was rewritten: {seen} is not part of {now}")));
            }
            let mut walk = repository.revwalk()?;
            walk.push(now)?;
            seen.map_or(Ok(()), |seen| walk.hide(seen))?;
            for id in walk {
                let commit = repository.find_commit(id?)?;
                if let Some(parent) = commit.parents().next()
                    && let (Some(before), Some(after)) =
                        (lease_at(&repository, &parent), lease_at(&repository, &commit))
                {
                    let is_taken = before.owner == STRANGER && after.owner != STRANGER;
                    let taken_at = if after.owner.is_empty() { after.until } else { after.until - after.time };
                    let promised = self.promised.borrow().filter(|(epoch, _)| *epoch == before.epoch);
                    let end = promised.map_or(before.until, |(_, until)| until.max(before.until));
                    if is_renewal(&before, &after) && differ_by_one(&repository, &parent, &commit)? {
                        self.renewals.borrow_mut().push(commit.id());
                    }
                    if after.epoch < before.epoch || (is_taken && taken_at < end) {
                        return Ok(Err(format!("{after:?} came after {before:?}")));
                    }
                }
                if let Some(parent) = commit.parents().next()
                    && lease_at(&repository, &parent).is_none_or(|lease| matches!(&*lease.owner, "" | STRANGER))
                    && claims_at(&commit)? != claims_at(&parent)?
                {
                    return Ok(Err(format!("the commit {:?} claims without the right to work", commit.summary())));
                }
                let parents: BTreeSet<Oid> = commit.parents().map(|parent| parent.tree_id()).collect();
                if commit.parent_count() > 1 || parents.contains(&commit.tree_id()) {
                    return Ok(Err(format!("the commit {:?} is empty or a merge", commit.summary())));
                }
            }
            Ok(Ok(Some(now)))
        };
        let tip = look().map_err(|error| error.to_string())??;
        *self.seen.borrow_mut() = tip;
        Ok(())
    }

    /// Checks that the branch beside is one commit with nothing but a lease, whose epoch never goes back.
    fn check_beside(&self) -> Result<(), String> {
        let look = || -> Result<Option<(usize, usize)>, git2::Error> {
            let repository = Repository::open_bare(&self.path)?;
            let Some(tip) = tip_of(&repository, &beside())? else { return Ok(None) };
            let commit = repository.find_commit(tip)?;
            Ok(Some((commit.parent_count(), commit.tree()?.len())))
        };
        let found = look().map_err(|error| error.to_string())?;
        let now = self.lease_of(&beside());
        if found.is_some_and(|found| found != (0, 1)) || found.is_some() != now.is_some() {
            return Err(format!("the branch beside has more than a lease: {found:?}, {now:?}"));
        }
        let before = self.beside.replace(now.clone());
        match (before, now) {
            (Some(before), Some(now)) if now.epoch < before.epoch => {
                Err(format!("on the branch beside, {now:?} came after {before:?}"))
            }
            (Some(before), None) => Err(format!("the branch beside is gone, with {before:?}")),
            _ => Ok(()),
        }
    }

    /// Checks that a site, after an apply without faults, has left no commit that only makes a lease last, has nothing that the remote does not have, and has given its
    /// lease back. An apply that found nothing to do leaves the lease of a dead process.
    pub fn check_pushed(&self, site: &Path, has_worked: bool) -> Result<(), String> {
        if let Some(renewal) = self.renewals.borrow().first() {
            return Err(format!("the commit {renewal} only makes a lease last"));
        }
        let tip = |path: &Path| Repository::open(path).and_then(|repository| tip_of(&repository, &reference()));
        let (here, there) = (tip(site).map_err(|e| e.to_string())?, tip(&self.path).map_err(|e| e.to_string())?);
        if here != there {
            return Err(format!("the site is at {here:?} after its apply, and the remote is at {there:?}"));
        }
        match self.lease().filter(|lease| has_worked && !lease.owner.is_empty() && lease.owner != STRANGER) {
            Some(lease) => Err(format!("the apply has ended, and its lease goes on: {lease:?}")),
            None => Ok(()),
        }
    }

    /// Checks at rest, some time later, that no site has what the remote does not have, that the site that worked last
    /// has everything, and that no lease is live: it was given back, or its owner has died and it has run out.
    pub fn check_rest(&self, sites: &[PathBuf], last: usize, now: Timestamp) -> Result<(), String> {
        let tip = |path: &Path, name: &str| Repository::open(path).and_then(|repository| tip_of(&repository, name));
        let check = |at: usize, site: &PathBuf| -> Result<Result<(), String>, git2::Error> {
            let there = tip(&self.path, &reference())?;
            let here = tip(site, &reference())?;
            let noted = tip(site, &noted_reference())?;
            let is_part = |here: Oid, there: Oid| Repository::open_bare(&self.path)?.graph_descendant_of(there, here);
            let is_behind = match (here, there) {
                (Some(here), Some(there)) if here != there => is_part(here, there)?,
                _ => false,
            };
            if noted != here || !(here == there || (is_behind && at != last)) {
                return Ok(Err(format!(
                    "the site {at} is at {here:?} and notes {noted:?}, and the remote is at {there:?}"
                )));
            }
            Ok(Ok(()))
        };
        for (at, site) in sites.iter().enumerate() {
            check(at, site).map_err(|error| error.to_string())??;
        }
        match self.lease() {
            Some(lease) if !lease.is_live(now) => Ok(()),
            other => Err(format!("the lease was not given back: {other:?}")),
        }
    }
}

fn lease_at(repository: &Repository, commit: &git2::Commit<'_>) -> Option<Lease> {
    let entry = commit.tree().ok()?.get_path(Path::new(LEASE_PATH)).ok()?;
    let blob = repository.find_blob(entry.id()).ok()?;
    Lease::from_json(&serde_json::from_slice(blob.content()).ok()?).ok()
}

/// Returns the tree of the claims at a commit; `None` when it has none.
fn claims_at(commit: &git2::Commit<'_>) -> Result<Option<Oid>, git2::Error> {
    Ok(commit.tree()?.get_name("claims").map(|entry| entry.id()))
}

/// Returns true when a lease of ours only lasts longer.
fn is_renewal(before: &Lease, after: &Lease) -> bool {
    let is_same = (&before.owner, before.epoch) == (&after.owner, after.epoch);
    is_same && before.until < after.until && !matches!(&*after.owner, "" | STRANGER)
}

/// Returns true when one file differs between two commits.
fn differ_by_one(
    repository: &Repository,
    parent: &git2::Commit<'_>,
    commit: &git2::Commit<'_>,
) -> Result<bool, git2::Error> {
    let diff = repository.diff_tree_to_tree(Some(&parent.tree()?), Some(&commit.tree()?), None)?;
    Ok(diff.deltas().len() == 1)
}

fn reference() -> String {
    format!("refs/heads/{BRANCH}")
}

/// Returns the branch on which leases are renewed.
fn beside() -> String {
    format!("refs/heads/{BRANCH}-lease")
}

/// Returns the reference in which a site notes the tip of the remote.
fn noted_reference() -> String {
    format!("refs/fleetform/upstream/{BRANCH}")
}

fn tip_of(repository: &Repository, name: &str) -> Result<Option<Oid>, git2::Error> {
    match repository.refname_to_id(name) {
        Ok(id) => Ok(Some(id)),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
