//! Fetching from and pushing to real servers: `git daemon`, `sshd`, `git http-backend` and paths; with races, hooks,
//! refusals, servers that die, lines that break and lines that stand still.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fleetform::repo::{Move, Remote, RemoteError, init_mirror};
use git2::{Oid, Repository, Signature};

use crate::servers::{
    CutProxy, Daemon, Gate, Http, Line, PLAIN_GIT, Ssh, bare, git, hook, processes_with, url_of, wait_until,
};
use crate::world::folder;

const BRANCH: &str = "fleetform/results";
const LOCAL: &str = "refs/fleetform/remote/results";

/// Repositories of servers in one folder, and mirrors of clients in another.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// Returns a site whose servers have an empty repository `fleet.git`.
    fn new() -> Site {
        let site = Site { folder: folder() };
        bare(&site.served(), "fleet.git");
        site
    }

    fn served(&self) -> PathBuf {
        self.folder.path().join("served")
    }

    fn fleet(&self) -> PathBuf {
        self.served().join("fleet.git")
    }

    /// Returns a mirror in which nothing of the user's configuration is seen.
    fn mirror(&self, name: &str) -> Mirror {
        let path = self.folder.path().join(name);
        init_mirror(&path).unwrap();
        Mirror { path }
    }

    /// Returns the processes that work for this site.
    fn processes(&self) -> Vec<String> {
        processes_with(self.folder.path().to_str().unwrap())
    }
}

struct Mirror {
    path: PathBuf,
}

impl Mirror {
    fn remote(&self, address: &str) -> Remote {
        let remote = Remote::new(&self.path, address).with_time_max(Duration::from_secs(30));
        PLAIN_GIT.iter().fold(remote, |remote, (name, value)| remote.with_variable(name, value))
    }

    fn repository(&self) -> Repository {
        Repository::open(&self.path).unwrap()
    }

    /// Commits a file on top of a commit, or as the first one.
    fn commit(&self, parent: Option<&str>, file: &str, bytes: &[u8]) -> String {
        commit(&self.repository(), parent, file, bytes)
    }

    /// Sets configuration of the mirror itself.
    fn configure(&self, name: &str, value: &str) {
        self.repository().config().unwrap().set_str(name, value).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> String {
        run_git(&self.path, arguments)
    }
}

fn run_git(repository: &Path, arguments: &[&str]) -> String {
    let output = git().arg("--git-dir").arg(repository).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_string()
}

fn commit(repository: &Repository, parent: Option<&str>, file: &str, bytes: &[u8]) -> String {
    let parent = parent.map(|id| repository.find_commit(Oid::from_str(id).unwrap()).unwrap());
    let before = parent.as_ref().map(|parent| parent.tree().unwrap());
    let mut tree = repository.treebuilder(before.as_ref()).unwrap();
    tree.insert(file, repository.blob(bytes).unwrap(), 0o100_644).unwrap();
    let tree = repository.find_tree(tree.write().unwrap()).unwrap();
    let author = Signature::now("Test", "test@example.com").unwrap();
    let parents: Vec<_> = parent.iter().collect();
    repository.commit(None, &author, &author, file, &tree, &parents).unwrap().to_string()
}

/// Returns bytes that cannot be compressed.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn tip(remote: &Remote) -> Option<String> {
    remote.fetch(&[(BRANCH, LOCAL)]).unwrap().remove(0)
}

/// Fails unless it is this variant; returns what is shown of it.
macro_rules! expect {
    ($result:expr, $variant:ident) => {
        match $result {
            Err(error @ RemoteError::$variant { .. }) => {
                assert!(!error.help().is_empty());
                error.to_string()
            }
            other => panic!("wanted {}, got {other:?}", stringify!($variant)),
        }
    };
}

/// The checks that every transport must pass.
fn check_transport(site: &Site, connect: &dyn Fn(&Mirror) -> Remote) {
    let (a, b) = (site.mirror("a"), site.mirror("b"));
    let (remote_a, remote_b) = (connect(&a), connect(&b));

    // Nothing is there yet.
    assert_eq!(remote_a.heads(&[BRANCH, "main"]).unwrap(), [None, None]);
    assert_eq!(remote_a.fetch(&[(BRANCH, LOCAL), ("main", "refs/fleetform/remote/main")]).unwrap(), [None, None]);

    // The first commit; the second time it is there already, which is how a lost answer ends.
    let first = a.commit(None, "fleet.json", b"{}");
    remote_a.push(&first, BRANCH, None).unwrap();
    remote_a.push(&first, BRANCH, None).unwrap();
    assert_eq!(remote_b.heads(&["main", BRANCH]).unwrap(), [None, Some(first.clone())]);
    let fetched = remote_b.fetch(&[(BRANCH, LOCAL), ("main", "refs/fleetform/remote/main")]).unwrap();
    assert_eq!(fetched, [Some(first.clone()), None]);
    assert_eq!(b.repository().refname_to_id(LOCAL).unwrap().to_string(), first);

    // A writer that must be the first finds that another was faster.
    let other = b.commit(None, "fleet.json", b"{\"b\": 1}");
    expect!(remote_b.push(&other, BRANCH, None), Rejected);

    // Two writers build on the same commit: one is rejected, builds again, and lands.
    let (one, two) = (a.commit(Some(&first), "one", b"1"), b.commit(Some(&first), "two", b"2"));
    remote_a.push(&one, BRANCH, Some(&first)).unwrap();
    expect!(remote_b.push(&two, BRANCH, Some(&first)), Rejected);
    assert_eq!(tip(&remote_b).as_ref(), Some(&one));
    let again = b.commit(Some(&one), "two", b"2");
    remote_b.push(&again, BRANCH, Some(&one)).unwrap();
    assert_eq!(tip(&remote_a).as_ref(), Some(&again));
    let repository = a.repository();
    let tree = repository.find_commit(Oid::from_str(&again).unwrap()).unwrap().tree().unwrap();
    assert_eq!(
        tree.iter().map(|entry| entry.name().unwrap().to_string()).collect::<Vec<_>>(),
        ["fleet.json", "one", "two"]
    );

    // A hook of the server refuses, in its own words.
    hook(&site.fleet(), "update", "echo 'error: the branch '$1' is for robots only'; exit 1");
    let third = a.commit(Some(&again), "three", b"3");
    let shown = expect!(remote_a.push(&third, BRANCH, Some(&again)), Denied);
    assert!(shown.contains("the branch refs/heads/fleetform/results is for robots only"), "{shown}");
    assert_eq!(tip(&remote_b).as_ref(), Some(&again));
    fs::remove_file(site.fleet().join("hooks/update")).unwrap();

    check_race(&remote_a, &a, &remote_b, &b);
    assert!(!site.processes().iter().any(|line| line.contains("fetch") || line.contains(" push ")));
}

/// Two writers at once, each with a file per commit: in the end every file is there, in one line of commits.
fn check_race(remote_a: &Remote, a: &Mirror, remote_b: &Remote, b: &Mirror) {
    const COMMITS: usize = 4;
    let before = tip(remote_a).unwrap();
    let rejections: usize = thread::scope(|scope| {
        let writers = [("a", remote_a, a), ("b", remote_b, b)].map(|(name, remote, mirror)| {
            scope.spawn(move || {
                let mut rejections = 0;
                for n in 0..COMMITS {
                    loop {
                        let tip = tip(remote).unwrap();
                        let commit = mirror.commit(Some(&tip), &format!("{name}-{n}"), b"x");
                        match remote.push(&commit, BRANCH, Some(&tip)) {
                            Ok(()) => break,
                            Err(RemoteError::Rejected { .. }) => rejections += 1,
                            Err(other) => panic!("{name}: {other:?}"),
                        }
                        assert!(rejections < 200, "{name} never lands");
                    }
                }
                rejections
            })
        });
        writers.map(|writer| writer.join().unwrap()).iter().sum()
    });
    let after = tip(remote_a).unwrap();
    let repository = a.repository();
    let mut walk = repository.revwalk().unwrap();
    walk.push(Oid::from_str(&after).unwrap()).unwrap();
    walk.hide(Oid::from_str(&before).unwrap()).unwrap();
    assert_eq!(walk.count(), 2 * COMMITS, "with {rejections} rejections");
    let tree = repository.find_commit(Oid::from_str(&after).unwrap()).unwrap().tree().unwrap();
    for n in 0..COMMITS {
        assert!(tree.get_name(&format!("a-{n}")).is_some() && tree.get_name(&format!("b-{n}")).is_some(), "{n}");
    }
}

#[test]
fn a_path_is_a_remote() {
    let site = Site::new();
    let path = site.fleet().to_str().unwrap().to_string();
    check_transport(&site, &|mirror| mirror.remote(&path));
    let site = Site::new();
    let url = format!("file://{}", site.fleet().display());
    check_transport(&site, &|mirror| mirror.remote(&url));
    let site = Site::new();
    check_transport(&site, &|mirror| mirror.remote("../served/fleet.git"));
}

#[test]
fn a_git_daemon_is_a_remote() {
    let site = Site::new();
    let daemon = Daemon::start(&site.served());
    check_transport(&site, &|mirror| mirror.remote(&daemon.url("fleet.git")));
}

#[test]
fn a_server_behind_ssh_is_a_remote() {
    let site = Site::new();
    let ssh = Ssh::start();
    check_transport(&site, &|mirror| {
        mirror.remote(&ssh.url(&site.fleet())).with_variable("GIT_SSH_COMMAND", format!("ssh {}", ssh.client("user")))
    });
}

#[test]
fn a_web_server_is_a_remote() {
    let site = Site::new();
    let http = Http::start(&site.served());
    check_transport(&site, &|mirror| {
        mirror.configure(
            "credential.helper",
            "!f() { test $1 = get && echo username=writer && echo password=right; }; f",
        );
        mirror.remote(&http.url("fleet.git"))
    });
}

#[test]
fn a_configured_remote_goes_by_its_name_and_nothing_else_is_touched() {
    let site = Site::new();
    let url = site.fleet().to_str().unwrap().to_string();
    check_transport(&site, &|mirror| {
        mirror.repository().remote("upstream", &url).unwrap();
        mirror.remote("upstream")
    });

    // Settings that a person's configuration may add: tags, all branches, pruned tags, a filter.
    run_git(&site.fleet(), &["update-ref", "refs/tags/v1", &format!("refs/heads/{BRANCH}")]);
    let clone = site.mirror("clone");
    let remote = clone.remote("upstream");
    clone.repository().remote("upstream", &url).unwrap();
    let mine = clone.commit(None, "mine", b"");
    clone.repository().reference("refs/tags/mine", Oid::from_str(&mine).unwrap(), false, "").unwrap();
    for (name, value) in [
        ("remote.upstream.tagOpt", "--tags"),
        ("remote.upstream.mirror", "true"),
        ("fetch.prune", "true"),
        ("fetch.pruneTags", "true"),
        ("push.followTags", "true"),
        ("color.ui", "always"),
    ] {
        clone.configure(name, value);
    }
    let tip = tip(&remote).unwrap();
    let references = || clone.run(&["for-each-ref", "--format=%(refname)"]);
    assert_eq!(references(), format!("{LOCAL}\nrefs/tags/mine"));
    assert!(!clone.path.join("FETCH_HEAD").exists());
    let next = clone.commit(Some(&tip), "next", b"");
    remote.push(&next, BRANCH, Some(&tip)).unwrap();
    let theirs = run_git(&site.fleet(), &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(theirs, format!("refs/heads/{BRANCH}\nrefs/tags/v1"));
}

#[test]
fn hooks_of_the_server_decide_and_local_ones_do_not_run() {
    let site = Site::new();
    let mirror = site.mirror("a");
    let remote = mirror.remote(site.fleet().to_str().unwrap());
    let first = mirror.commit(None, "a", b"1");
    remote.push(&first, BRANCH, None).unwrap();
    let second = mirror.commit(Some(&first), "a", b"2");

    for name in ["pre-push", "reference-transaction", "post-update"] {
        hook(&mirror.path, name, "touch $GIT_DIR/ran; exit 1");
    }
    // Its words do not decide what kind of failure it is, and cannot steer a terminal or fill the log.
    hook(
        &site.fleet(),
        "pre-receive",
        "printf 'fatal: Connection refused\\n\\033[31mred\\n'; i=0; while [ $i -lt 20000 ]; do echo 'spam spam spam \
            spam spam'; i=$((i+1)); done; exit 1",
    );
    let shown = expect!(remote.push(&second, BRANCH, Some(&first)), Denied);
    assert!(shown.contains("pre-receive hook declined; Connection refused; \\u{1b}[31mred; spam"), "{shown}");
    assert!(shown.len() < 600, "{shown}");
    hook(&site.fleet(), "pre-receive", "exit 0");

    // A push that landed is one, whatever is said after it.
    hook(&site.fleet(), "post-receive", "echo 'I wish it had not'; exit 1");
    remote.push(&second, BRANCH, Some(&first)).unwrap();
    assert_eq!(tip(&remote), Some(second));
    assert!(!mirror.path.join("ran").exists());
}

#[test]
fn a_push_is_never_forced() {
    let site = Site::new();
    let mirror = site.mirror("a");
    let remote = mirror.remote(site.fleet().to_str().unwrap());
    let first = mirror.commit(None, "a", b"1");
    let second = mirror.commit(Some(&first), "a", b"2");
    let third = mirror.commit(Some(&second), "a", b"3");
    let beside = mirror.commit(Some(&first), "b", b"");
    remote.push(&second, BRANCH, None).unwrap();

    // The lease holds, so git would force it.
    let shown = expect!(remote.push(&beside, BRANCH, Some(&second)), Failed);
    assert!(shown.contains("does not come after"), "{shown}");
    assert_eq!(tip(&remote).as_ref(), Some(&second));
    expect!(remote.push(&beside, BRANCH, Some(&first)), Rejected);

    // A person rewound the branch: a fast-forward would be possible, and would undo that.
    run_git(&site.fleet(), &["update-ref", &format!("refs/heads/{BRANCH}"), &first]);
    expect!(remote.push(&third, BRANCH, Some(&second)), Rejected);
    // A person removed the branch.
    run_git(&site.fleet(), &["update-ref", "-d", &format!("refs/heads/{BRANCH}")]);
    expect!(remote.push(&third, BRANCH, Some(&second)), Rejected);
    assert_eq!(tip(&remote), None);

    // A server that is strict about it agrees with all of this.
    run_git(&site.fleet(), &["config", "receive.denyNonFastForwards", "true"]);
    run_git(&site.fleet(), &["config", "receive.denyDeletes", "true"]);
    remote.push(&second, BRANCH, None).unwrap();
    remote.push(&third, BRANCH, Some(&second)).unwrap();
    expect!(remote.push(&beside, BRANCH, Some(&first)), Rejected);
}

#[test]
fn two_branches_are_moved_both_or_none() {
    const BESIDE: &str = "fleetform/results-lease";
    let site = Site::new();
    let daemon = Daemon::start(&site.served());
    let mirror = site.mirror("a");
    let remote = mirror.remote(&daemon.url("fleet.git"));
    let at = |branch| Repository::open(site.fleet()).unwrap().refname_to_id(&format!("refs/heads/{branch}")).ok();
    let first = mirror.commit(None, "a", b"1");
    let second = mirror.commit(Some(&first), "a", b"2");
    let roots: Vec<String> = (0..3).map(|n| mirror.commit(None, "lease", &[n])).collect();
    let results = |commit, expected| Move { branch: BRANCH, commit, expected };
    let beside = |n: usize, expected: Option<usize>| Move {
        branch: BESIDE,
        commit: &roots[n],
        expected: expected.map(|n| roots[n].as_str()),
    };
    let check = |branch_at: &str, beside_at: Option<usize>| {
        let expect = (Some(branch_at.to_string()), beside_at.map(|n| roots[n].clone()));
        assert_eq!((at(BRANCH).map(|id| id.to_string()), at(BESIDE).map(|id| id.to_string())), expect);
    };
    remote.push(&first, BRANCH, None).unwrap();

    // One of the two is elsewhere.
    expect!(remote.push_both(&results(&second, Some(&first)), &beside(1, Some(0))), Rejected);
    check(&first, None);
    remote.push_both(&results(&first, Some(&first)), &beside(0, None)).unwrap();
    check(&first, Some(0));
    expect!(remote.push_both(&results(&second, Some(&first)), &beside(1, None)), Rejected);
    expect!(remote.push_both(&results(&second, None), &beside(1, Some(0))), Rejected);
    check(&first, Some(0));
    // One that stays is compared too.
    expect!(remote.push_both(&results(&second, Some(&second)), &beside(1, Some(0))), Rejected);
    check(&first, Some(0));
    remote.push_both(&results(&second, Some(&first)), &beside(1, Some(0))).unwrap();
    check(&second, Some(1));
    // The same again: it has landed.
    remote.push_both(&results(&second, Some(&first)), &beside(1, Some(0))).unwrap();

    // The results are never forced.
    expect!(remote.push_both(&results(&first, Some(&second)), &beside(2, Some(1))), Failed);
    // One of them is refused, or the server refuses to replace one.
    let third = mirror.commit(Some(&second), "a", b"3");
    for refused in [BRANCH, BESIDE] {
        hook(&site.fleet(), "update", &format!("[ $1 != refs/heads/{refused} ] || {{ echo no; exit 1; }}"));
        let shown = expect!(remote.push_both(&results(&third, Some(&second)), &beside(2, Some(1))), Alone);
        assert!(shown.contains("hook declined"), "{shown}");
        check(&second, Some(1));
    }
    fs::remove_file(site.fleet().join("hooks/update")).unwrap();
    run_git(&site.fleet(), &["config", "receive.denyNonFastForwards", "true"]);
    expect!(remote.push_both(&results(&second, Some(&second)), &beside(2, Some(1))), Alone);
    run_git(&site.fleet(), &["config", "receive.denyNonFastForwards", "false"]);
    run_git(&site.fleet(), &["config", "receive.advertiseAtomic", "false"]);
    let shown = expect!(remote.push_both(&results(&second, Some(&second)), &beside(2, Some(1))), Alone);
    assert!(shown.contains("--atomic"), "{shown}");
    check(&second, Some(1));
}

#[test]
fn a_branch_beside_costs_nothing_when_the_remote_lacks_it() {
    const BESIDE: &str = "fleetform/results-lease";
    const BESIDE_HERE: &str = "refs/fleetform/remote/results-lease";
    let site = Site::new();
    let mirror = site.mirror("a");
    let remote = mirror.remote(site.fleet().to_str().unwrap());
    let first = mirror.commit(None, "a", b"1");
    remote.push(&first, BRANCH, None).unwrap();
    let fetch = || {
        let found = remote.fetch_with(&[(BRANCH, LOCAL)], Some((BESIDE, BESIDE_HERE))).unwrap();
        assert_eq!(found, [Some(first.clone())]);
        mirror.repository().refname_to_id(BESIDE_HERE).ok().map(|id| id.to_string())
    };
    // Each connection of a fetch is one.
    let program = site.folder.path().join("upload-pack");
    fs::write(&program, "#!/bin/sh\necho one >> \"$0.calls\"\nexec git upload-pack \"$@\"\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let remote_at = site.fleet();
    mirror.configure("remote.x.url", remote_at.to_str().unwrap());
    mirror.configure("remote.x.uploadpack", program.to_str().unwrap());
    let counted = mirror.remote("x");
    counted.fetch_with(&[(BRANCH, LOCAL)], Some((BESIDE, BESIDE_HERE))).unwrap();
    assert_eq!(fs::read_to_string(program.with_extension("calls")).unwrap().lines().count(), 1);

    assert_eq!(fetch(), None);
    let root = mirror.commit(None, "lease", b"1");
    let stays = Move { branch: BRANCH, commit: &first, expected: Some(&first) };
    remote.push_both(&stays, &Move { branch: BESIDE, commit: &root, expected: None }).unwrap();
    assert_eq!(fetch(), Some(root.clone()));
    // It is replaced, and goes away.
    let other = mirror.commit(None, "lease", b"2");
    remote.push_both(&stays, &Move { branch: BESIDE, commit: &other, expected: Some(&root) }).unwrap();
    assert_eq!(fetch(), Some(other));
    run_git(&site.fleet(), &["update-ref", "-d", &format!("refs/heads/{BESIDE}")]);
    assert_eq!(fetch(), None);
}

#[test]
fn a_race_inside_the_server_is_a_rejection() {
    let site = Site::new();
    let daemon = Daemon::start(&site.served());
    let (a, b) = (site.mirror("a"), site.mirror("b"));
    let (remote_a, remote_b) = (a.remote(&daemon.url("fleet.git")), b.remote(&daemon.url("fleet.git")));
    let first = a.commit(None, "a", b"1");
    remote_a.push(&first, BRANCH, None).unwrap();
    tip(&remote_b).unwrap();
    let (one, two) = (a.commit(Some(&first), "one", b""), b.commit(Some(&first), "two", b""));

    // A's push is at the server, which knows that the branch is where it should be; then B's overtakes it.
    let gate = Gate::hold(&site.fleet());
    thread::scope(|scope| {
        let held = scope.spawn(|| remote_a.push(&one, BRANCH, Some(&first)));
        gate.wait();
        fs::remove_file(site.fleet().join("hooks/pre-receive")).unwrap();
        remote_b.push(&two, BRANCH, Some(&first)).unwrap();
        gate.open();
        expect!(held.join().unwrap(), Rejected);
    });
    assert_eq!(tip(&remote_a), Some(two.clone()));

    // A lock that another one holds on the server.
    let lock = site.fleet().join(format!("refs/heads/{BRANCH}.lock"));
    fs::write(&lock, "").unwrap();
    let three = b.commit(Some(&two), "three", b"");
    let shown = expect!(remote_b.push(&three, BRANCH, Some(&two)), Rejected);
    assert!(shown.contains("File exists"), "{shown}");
    fs::remove_file(lock).unwrap();
    remote_b.push(&three, BRANCH, Some(&two)).unwrap();
}

#[test]
fn a_server_that_dies_in_the_middle_leaves_the_push_open() {
    let site = Site::new();
    let mut daemon = Daemon::start(&site.served());
    let mut ssh = Ssh::start();
    let mirror = site.mirror("a");
    let client = format!("ssh {}", ssh.client("user"));
    let by_daemon = mirror.remote(&daemon.url("fleet.git"));
    let by_ssh = mirror.remote(&ssh.url(&site.fleet())).with_variable("GIT_SSH_COMMAND", client);
    let first = mirror.commit(None, "a", b"1");
    by_daemon.push(&first, BRANCH, None).unwrap();
    let second = mirror.commit(Some(&first), "a", b"2");

    let gate = Gate::hold(&site.fleet());
    thread::scope(|scope| {
        let held = scope.spawn(|| by_daemon.push(&second, BRANCH, Some(&first)));
        gate.wait();
        daemon.kill();
        expect!(held.join().unwrap(), Unreachable);
    });
    expect!(by_daemon.fetch(&[(BRANCH, LOCAL)]), Unreachable);
    daemon.restart();
    assert_eq!(tip(&by_daemon).as_ref(), Some(&first), "it did not land");

    let gate = Gate::hold(&site.fleet());
    thread::scope(|scope| {
        let held = scope.spawn(|| by_ssh.push(&second, BRANCH, Some(&first)));
        gate.wait();
        ssh.kill();
        expect!(held.join().unwrap(), Unreachable);
    });
    expect!(by_ssh.heads(&[BRANCH]), Unreachable);
    ssh.restart();
    assert_eq!(tip(&by_ssh).as_ref(), Some(&first), "it did not land");
    fs::remove_file(site.fleet().join("hooks/pre-receive")).unwrap();
    by_ssh.push(&second, BRANCH, Some(&first)).unwrap();
}

/// Pushes through a line that becomes deaf while the server has the push.
fn check_lost_answer(site: &Site, mirror: &Mirror, remote: &Remote, proxy: &CutProxy) {
    let before = tip(remote);
    let next = mirror.commit(before.as_deref(), &format!("after {before:?}").replace('/', "-"), b"");
    let gate = Gate::hold(&site.fleet());
    thread::scope(|scope| {
        let held = scope.spawn(|| remote.push(&next, BRANCH, before.as_deref()));
        gate.wait();
        proxy.set(Line::Deaf);
        gate.open();
        // Some servers wait for the client to hang up.
        wait_until("it lands", || run_git(&site.fleet(), &["for-each-ref"]).contains(&next));
        proxy.cut();
        let error = held.join().unwrap().unwrap_err();
        assert!(matches!(error, RemoteError::Unreachable { .. }) && error.is_open(), "{error:?}");
    });
    proxy.set(Line::Whole);
    assert_eq!(tip(remote).as_ref(), Some(&next), "it landed all the same");
    // A writer that does not fetch first finds out too.
    remote.push(&next, BRANCH, before.as_deref()).unwrap();
}

#[test]
fn a_push_whose_answer_is_lost_is_found_by_a_fetch() {
    let site = Site::new();
    let (daemon, ssh, http) = (Daemon::start(&site.served()), Ssh::start(), Http::start(&site.served()));
    let mirror = site.mirror("a");

    let proxy = CutProxy::start(daemon.port);
    check_lost_answer(&site, &mirror, &mirror.remote(&url_of("git", proxy.port, "fleet.git")), &proxy);
    let proxy = CutProxy::start(ssh.port);
    let remote = mirror.remote(&ssh.url_through(proxy.port, &site.fleet()));
    let remote = remote.with_variable("GIT_SSH_COMMAND", format!("ssh {}", ssh.client("user")));
    check_lost_answer(&site, &mirror, &remote, &proxy);
    let proxy = CutProxy::start(http.port);
    let url = url_of("http", proxy.port, "fleet.git").replace("http://", "http://writer:right@");
    check_lost_answer(&site, &mirror, &mirror.remote(&url), &proxy);
}

#[test]
fn a_line_that_breaks_leaves_the_branch_as_it_was() {
    let site = Site::new();
    let (daemon, ssh) = (Daemon::start(&site.served()), Ssh::start());
    let mirror = site.mirror("a");
    let direct = mirror.remote(site.fleet().to_str().unwrap());
    let first = mirror.commit(None, "a", b"1");
    direct.push(&first, BRANCH, None).unwrap();
    let second = mirror.commit(Some(&first), "noise", &noise(300_000));

    let client = format!("ssh {}", ssh.client("user"));
    for (scheme, port) in [("git", daemon.port), ("ssh", ssh.port)] {
        let proxy = CutProxy::start(port);
        let address = match scheme {
            "ssh" => ssh.url_through(proxy.port, &site.fleet()),
            _ => url_of(scheme, proxy.port, "fleet.git"),
        };
        let remote = mirror.remote(&address).with_variable("GIT_SSH_COMMAND", &client);
        for bytes in [0, 10, 60, 200, 5_000, 100_000, 250_000] {
            proxy.set(Line::CutAfter(bytes));
            let error = remote.push(&second, BRANCH, Some(&first)).unwrap_err();
            assert!(matches!(error, RemoteError::Unreachable { .. }), "{scheme} after {bytes}: {error:?}");
            assert!(proxy.passed() > bytes, "it is cut in the middle");
            assert_eq!(tip(&direct).as_ref(), Some(&first), "{scheme} after {bytes}");
        }
        // Fetches break in the same way, and leave nothing half.
        let fresh = site.mirror(scheme);
        let fetches = fresh.remote(&address).with_variable("GIT_SSH_COMMAND", &client);
        proxy.set(Line::CutAfter(50));
        expect!(fetches.fetch(&[(BRANCH, LOCAL)]), Unreachable);
        assert!(fresh.repository().refname_to_id(LOCAL).is_err());
        proxy.set(Line::Whole);
        assert_eq!(tip(&fetches).as_ref(), Some(&first));
    }
    direct.push(&second, BRANCH, Some(&first)).unwrap();
}

/// How a call on a line that stands still must end: in time, with the outcome open, and without a process that is left.
fn check_given_up(mirror: &Mirror, time_max: Duration, remote: &Remote, work: &dyn Fn(&Remote) -> RemoteError) {
    let start = Instant::now();
    let error = work(&remote.clone().with_time_max(time_max));
    let took = start.elapsed();
    assert!(matches!(error, RemoteError::Unreachable { .. }) && error.is_open(), "{error:?}");
    assert!(took < time_max + Duration::from_secs(3), "{took:?}: {error}");
    assert_eq!(processes_with(mirror.path.to_str().unwrap()), [""; 0]);
}

/// Long enough for a push to get to the server on a busy machine.
const PUSH_TIME_MAX: Duration = Duration::from_secs(4);

/// Stalls a line, which is made of the port of a proxy, before and in the middle of a call.
fn check_stalls(site: &Site, port: u16, connect: &dyn Fn(&Mirror, u16) -> Remote) {
    const TIME_MAX: Duration = Duration::from_millis(700);
    let mirror = site.mirror("a");
    let direct = mirror.remote(site.fleet().to_str().unwrap());
    let first = mirror.commit(None, "a", b"1");
    direct.push(&first, BRANCH, None).unwrap();
    let second = mirror.commit(Some(&first), "a", b"2");
    let proxy = CutProxy::start(port);
    let remote = connect(&mirror, proxy.port);
    proxy.set(Line::Stalled);
    check_given_up(&mirror, TIME_MAX, &remote, &|remote| remote.heads(&[BRANCH]).unwrap_err());
    check_given_up(&mirror, TIME_MAX, &remote, &|remote| remote.fetch(&[(BRANCH, LOCAL)]).unwrap_err());
    proxy.cut();
    proxy.set(Line::Whole);
    let gate = Gate::hold(&site.fleet());
    check_given_up(&mirror, PUSH_TIME_MAX, &remote, &|remote| remote.push(&second, BRANCH, Some(&first)).unwrap_err());
    gate.wait();
    // The server goes on all the same, and its answer is lost.
    gate.open();
    wait_until("it lands later", || tip(&direct).as_ref() == Some(&second));
}

#[test]
fn a_line_that_stands_still_is_given_up_in_time_and_leaves_no_process() {
    thread::scope(|scope| {
        scope.spawn(|| {
            let site = Site::new();
            let daemon = Daemon::start(&site.served());
            check_stalls(&site, daemon.port, &|mirror, port| mirror.remote(&url_of("git", port, "fleet.git")));
        });
        scope.spawn(|| {
            let (site, ssh) = (Site::new(), Ssh::start());
            check_stalls(&site, ssh.port, &|mirror, port| {
                let remote = mirror.remote(&ssh.url_through(port, &site.fleet()));
                remote.with_variable("GIT_SSH_COMMAND", format!("ssh {}", ssh.client("user")))
            });
        });
        scope.spawn(|| {
            let site = Site::new();
            let http = Http::start(&site.served());
            check_stalls(&site, http.port, &|mirror, port| {
                mirror.remote(&url_of("http", port, "fleet.git").replace("http://", "http://writer:right@"))
            });
        });
        scope.spawn(|| {
            // The server of a path is a child of ours: it goes with the push.
            let site = Site::new();
            let mirror = site.mirror("a");
            let remote = mirror.remote(site.fleet().to_str().unwrap());
            let first = mirror.commit(None, "a", b"1");
            let gate = Gate::hold(&site.fleet());
            check_given_up(&mirror, PUSH_TIME_MAX, &remote, &|remote| remote.push(&first, BRANCH, None).unwrap_err());
            gate.wait();
            wait_until("nothing of it is left", || site.processes().is_empty());
            assert_eq!(tip(&remote), None);
        });
    });
}

#[test]
fn a_remote_that_is_not_there_is_told_from_one_that_cannot_be_reached() {
    let site = Site::new();
    let daemon = Daemon::start(&site.served());
    let (ssh, http) = (Ssh::start(), Http::start(&site.served()));
    let mirror = site.mirror("a");
    let commit = mirror.commit(None, "a", b"");
    let client = format!("ssh {}", ssh.client("user"));
    let remote = |address: &str| mirror.remote(address).with_variable("GIT_SSH_COMMAND", &client);
    let missing = site.served().join("missing.git");

    for address in [
        missing.to_str().unwrap(),
        site.served().to_str().unwrap(),
        &daemon.url("missing.git"),
        &ssh.url(&missing),
        &http.url("missing.git").replace("http://", "http://writer:right@"),
        "no-such-name",
    ] {
        expect!(remote(address).heads(&[BRANCH]), NotARepository);
        expect!(remote(address).fetch(&[(BRANCH, LOCAL)]), NotARepository);
        expect!(remote(address).push(&commit, BRANCH, None), NotARepository);
    }

    // No server listens on port 1; `.invalid` never resolves (RFC 2606).
    for address in [
        "git://127.0.0.1:1/fleet.git",
        "ssh://127.0.0.1:1/fleet.git",
        "http://127.0.0.1:1/fleet.git",
        "git://nobody.invalid/fleet.git",
        "ssh://nobody.invalid/fleet.git",
        "git@nobody.invalid:fleet.git",
        "https://user:token@nobody.invalid/fleet.git",
    ] {
        for shown in [
            expect!(remote(address).heads(&[BRANCH]), Unreachable),
            expect!(remote(address).fetch(&[(BRANCH, LOCAL)]), Unreachable),
            expect!(remote(address).push(&commit, BRANCH, None), Unreachable),
        ] {
            assert!(!shown.contains("token") && !shown.contains("user"), "{shown}");
        }
    }
}

#[test]
fn who_may_not_is_denied_without_a_question() {
    let site = Site::new();
    let (ssh, http) = (Ssh::start(), Http::start(&site.served()));
    let mirror = site.mirror("a");
    let commit = mirror.commit(None, "a", b"");
    let start = Instant::now();

    // A key that the server does not know, a key with a passphrase, and an unknown host.
    let url = ssh.url(&site.fleet());
    for key in ["stranger", "sealed"] {
        let remote = mirror.remote(&url).with_variable("GIT_SSH_COMMAND", format!("ssh {}", ssh.client(key)));
        let shown = expect!(remote.heads(&[BRANCH]), Denied);
        assert!(shown.contains("Permission denied"), "{shown}");
        expect!(remote.push(&commit, BRANCH, None), Denied);
    }
    let known = fs::read_to_string(ssh.known_hosts()).unwrap();
    fs::write(ssh.known_hosts(), "").unwrap();
    for strict in ["yes", "ask"] {
        let client =
            ssh.client("user").replace("StrictHostKeyChecking=yes", &format!("StrictHostKeyChecking={strict}"));
        let remote = mirror.remote(&url).with_variable("GIT_SSH_COMMAND", format!("ssh {client}"));
        let shown = expect!(remote.heads(&[BRANCH]), Denied);
        assert!(shown.contains("Host key verification failed"), "{shown}");
    }
    fs::write(ssh.known_hosts(), known).unwrap();

    // No credentials, wrong ones, and ones that may only read.
    let anonymous = mirror.remote(&http.url("fleet.git"));
    let shown = expect!(anonymous.heads(&[BRANCH]), Denied);
    assert!(shown.contains("could not read Username"), "{shown}");
    let with = |user: &str| mirror.remote(&http.url("fleet.git").replace("http://", &format!("http://{user}@")));
    let shown = expect!(with("writer:wrong").push(&commit, BRANCH, None), Denied);
    assert!(
        shown.contains("Authentication failed") && !shown.contains("wrong") && !shown.contains("writer"),
        "{shown}"
    );
    assert_eq!(with("reader:right").heads(&[BRANCH]).unwrap(), [None]);
    let shown = expect!(with("reader:right").push(&commit, BRANCH, None), Denied);
    assert!(shown.contains("403") && !shown.contains("right"), "{shown}");
    // A program that answers for a person.
    let answers = site.folder.path().join("answers");
    hook(&answers, "askpass", "case $1 in User*) echo writer;; *) echo right;; esac");
    let asking = anonymous.clone().with_variable("GIT_ASKPASS", answers.join("hooks/askpass"));
    assert_eq!(asking.heads(&[BRANCH]).unwrap(), [None]);
    mirror.configure("credential.helper", "!f() { echo username=writer; echo password=wrong; }; f");
    expect!(anonymous.fetch(&[(BRANCH, LOCAL)]), Denied);
    assert!(start.elapsed() < Duration::from_secs(20), "nobody is waited for");

    // A daemon that refuses some clients, or some repositories.
    let closed = Daemon::start_with(&site.served(), &["--enable=receive-pack"]);
    let shown = expect!(mirror.remote(&closed.url("fleet.git")).heads(&[BRANCH]), NotARepository);
    assert!(shown.contains("access denied"), "{shown}");
    let for_reading = Daemon::start_with(&site.served(), &["--export-all", "--informative-errors"]);
    let shown = expect!(mirror.remote(&for_reading.url("fleet.git")).push(&commit, BRANCH, None), Denied);
    assert!(shown.contains("service not enabled"), "{shown}");

    // The branch that a person has checked out there.
    let theirs = Repository::init(site.served().join("work")).unwrap();
    let head = theirs.find_reference("HEAD").unwrap().symbolic_target().unwrap().unwrap().to_string();
    let branch = head.strip_prefix("refs/heads/").unwrap();
    let work = mirror.remote(site.served().join("work").to_str().unwrap());
    work.push(&commit, "beside", None).unwrap();
    commit_checked_out(&theirs);
    let tip = work.fetch(&[(branch, LOCAL)]).unwrap().remove(0).unwrap();
    let next = mirror.commit(Some(&tip), "next", b"");
    let shown = expect!(work.push(&next, branch, Some(&tip)), Denied);
    assert!(shown.contains("branch is currently checked out"), "{shown}");
}

fn commit_checked_out(repository: &Repository) {
    let id = commit(repository, None, "theirs", b"");
    let head = repository.find_reference("HEAD").unwrap().symbolic_target().unwrap().unwrap().to_string();
    repository.reference(&head, Oid::from_str(&id).unwrap(), true, "").unwrap();
}

#[test]
fn the_ssh_of_the_user_is_used_and_the_usual_one_asks_nothing() {
    let site = Site::new();
    let ssh = Ssh::start();
    let mirror = site.mirror("a");
    let programs = site.folder.path().join("programs");
    fs::create_dir(&programs).unwrap();
    let (log, client) = (site.folder.path().join("log"), ssh.client("user"));
    let real = ["/usr/bin/ssh", "/usr/local/bin/ssh"].into_iter().find(|path| Path::new(path).exists()).unwrap();
    hook(&programs, "ssh", &format!("echo \"$@\" >> {}; exec {real} {client} \"$@\"", log.display()));
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.join("hooks").display());
    let asked = || fs::read_to_string(&log).unwrap_or_default();
    let remote = mirror.remote(&ssh.url(&site.fleet())).with_variable("PATH", path);

    assert_eq!(remote.heads(&[BRANCH]).unwrap(), [None]);
    assert!(asked().contains("-o BatchMode=yes -o ConnectTimeout=20"), "{}", asked());

    fs::remove_file(&log).unwrap();
    mirror.configure("core.sshCommand", "ssh -o LogLevel=ERROR");
    assert_eq!(remote.heads(&[BRANCH]).unwrap(), [None]);
    assert!(asked().contains("LogLevel") && !asked().contains("BatchMode"), "{}", asked());

    fs::remove_file(&log).unwrap();
    let remote = remote.with_variable("GIT_SSH_COMMAND", "ssh -o Compression=no");
    assert_eq!(remote.heads(&[BRANCH]).unwrap(), [None]);
    assert!(asked().contains("Compression") && !asked().contains("LogLevel"), "{}", asked());
}

#[test]
fn addresses_and_names_that_are_none_are_refused() {
    let site = Site::new();
    let mirror = site.mirror("a");
    let commit = mirror.commit(None, "a", b"");
    let ran = site.folder.path().join("ran");
    let commands = [
        format!("ext::touch {}", ran.display()),
        format!("--upload-pack=touch {}", ran.display()),
        "fd::17".to_string(),
    ];
    for address in commands.iter().map(String::as_str).chain(["", "-", "a\nb", "a\0b"]) {
        let remote = mirror.remote(address);
        let shown = expect!(remote.heads(&[BRANCH]), BadAddress);
        assert!(!shown.contains(['\n', '\0']), "{shown}");
        expect!(remote.fetch(&[(BRANCH, LOCAL)]), BadAddress);
        expect!(remote.push(&commit, BRANCH, None), BadAddress);
    }
    // Behind a name, and although the user allows it.
    mirror.repository().remote("sly", &commands[0]).unwrap();
    mirror.configure("protocol.ext.allow", "always");
    let shown = expect!(mirror.remote("sly").heads(&[BRANCH]), BadAddress);
    assert!(shown.contains("not allowed"), "{shown}");
    expect!(mirror.remote("nothing::of-that-kind").heads(&[BRANCH]), BadAddress);
    assert!(!ran.exists());

    let remote = mirror.remote(site.fleet().to_str().unwrap());
    for branch in ["", "a b", "a..b", "a:b", "a*", "/a", "a/", "a.lock", "a\n", "a^", "@{", "\u{1b}"] {
        expect!(remote.heads(&[branch]), BadName);
        expect!(remote.fetch(&[(branch, LOCAL)]), BadName);
        expect!(remote.push(&commit, branch, None), BadName);
    }
    for local in ["", "HEAD", "main", "refs/heads/a b", "../x"] {
        expect!(remote.fetch(&[(BRANCH, local)]), BadName);
    }
    for id in ["", "abc", "HEAD", "main:refs/heads/x", "-f", &format!("+{}", &commit[1..])] {
        expect!(remote.push(id, BRANCH, None), BadName);
        expect!(remote.push(&commit, BRANCH, Some(id)), BadName);
    }
    // Not in the repository.
    expect!(remote.push(&"1".repeat(40), BRANCH, None), Failed);
}

#[test]
fn branches_have_all_kinds_of_names_and_go_away() {
    let site = Site::new();
    let (a, b) = (site.mirror("a"), site.mirror("b"));
    let url = site.fleet().to_str().unwrap().to_string();
    let (remote_a, remote_b) = (a.remote(&url), b.remote(&url));
    let names = ["ergebnisse/ü-日本", "-dash", "a+b", "#1", "@x", "x'y\"z", "$(touch)", "%41", "main", "heads/main"];
    let locals: Vec<String> = (0..names.len()).map(|n| format!("refs/fleetform/remote/{n}")).collect();
    let wanted: Vec<(&str, &str)> = names.iter().copied().zip(locals.iter().map(String::as_str)).collect();
    let mut commits = Vec::new();
    for name in names {
        let commit = a.commit(None, "name", name.as_bytes());
        remote_a.push(&commit, name, None).unwrap();
        commits.push(Some(commit));
    }
    assert_eq!(remote_b.heads(&names).unwrap(), commits);
    assert_eq!(remote_b.fetch(&wanted).unwrap(), commits);

    // Two of them go; the others are fetched all the same.
    for gone in ["-dash", "main"] {
        run_git(&site.fleet(), &["update-ref", "-d", &format!("refs/heads/{gone}")]);
        commits[names.iter().position(|name| *name == gone).unwrap()] = None;
    }
    assert_eq!(remote_b.heads(&names).unwrap(), commits);
    assert_eq!(remote_b.fetch(&wanted).unwrap(), commits);
    assert!(b.repository().find_reference(&locals[1]).is_err());
    assert_eq!(remote_b.fetch(&[]).unwrap(), [None; 0]);

    // Git takes a name that ends like another for it: a fetch does not, and a push says so.
    let main = a.commit(None, "main", b"");
    let next = a.commit(Some(&main), "next", b"");
    let both = [("main", "refs/fleetform/remote/main"), ("@x", "refs/fleetform/remote/@x")];
    remote_a.push(&main, "main", None).unwrap();
    remote_a.push(&main, "refs/heads/main", None).unwrap();
    assert_eq!(remote_b.fetch(&both).unwrap(), [Some(main.clone()), commits[4].clone()]);
    let shown = expect!(remote_a.push(&next, "main", Some(&main)), Failed);
    assert!(shown.contains("matches more than one"), "{shown}");
    run_git(&site.fleet(), &["update-ref", "-d", "refs/heads/main"]);
    assert_eq!(remote_b.heads(&["main"]).unwrap(), [None]);
    assert_eq!(remote_b.fetch(&both).unwrap(), [None, commits[4].clone()]);
    assert_eq!(remote_b.fetch(&both[..1]).unwrap(), [None]);
    let shown = expect!(remote_a.push(&next, "main", None), Failed);
    assert!(shown.contains("its branch `refs/heads/refs/heads/main` is in the way of `main`"), "{shown}");
    assert_eq!(remote_b.heads(&["main"]).unwrap(), [None]);

    // A branch makes way for one below its name; rewound ones are followed.
    let pair = [("x", "refs/fleetform/remote/x"), ("x/y", "refs/fleetform/remote/x/y")];
    let (old, new) = (commits[0].clone().unwrap(), commits[2].clone().unwrap());
    remote_a.push(&old, "x", None).unwrap();
    assert_eq!(remote_b.fetch(&pair).unwrap(), [Some(old.clone()), None]);
    run_git(&site.fleet(), &["update-ref", "-d", "refs/heads/x"]);
    remote_a.push(&new, "x/y", None).unwrap();
    assert_eq!(remote_b.fetch(&pair).unwrap(), [None, Some(new)]);
    run_git(&site.fleet(), &["update-ref", "refs/heads/x/y", &old]);
    assert_eq!(remote_b.fetch(&pair).unwrap(), [None, Some(old)]);
}

#[test]
fn an_open_repository_sees_what_git_brings_and_git_sees_what_it_writes() {
    let site = Site::new();
    let (a, b) = (site.mirror("a"), site.mirror("b"));
    let url = site.fleet().to_str().unwrap().to_string();
    let (remote_a, remote_b) = (a.remote(&url), b.remote(&url));
    let handle = b.repository();
    let see = |id: &str| handle.find_commit(Oid::from_str(id).unwrap()).is_ok();
    let mut at = a.commit(None, "0", b"");
    remote_a.push(&at, BRANCH, None).unwrap();
    // As packs, and as loose objects; the handle has looked for each before, in vain.
    for (n, limit) in ["1", "1", "100", "1", "100"].iter().enumerate() {
        b.configure("fetch.unpackLimit", limit);
        at = a.commit(Some(&at), &format!("{n}"), &noise(1_000 + n));
        remote_a.push(&at, BRANCH, Some(&handle_tip(&remote_a))).unwrap();
        assert!(!see(&at));
        assert_eq!(tip(&remote_b).as_ref(), Some(&at));
        assert!(see(&at), "{n}");
        assert_eq!(handle.refname_to_id(LOCAL).unwrap().to_string(), at);
        let root = handle.revparse_single(&format!("{at}~{}", n + 1)).unwrap().id();
        assert!(handle.graph_descendant_of(Oid::from_str(&at).unwrap(), root).unwrap());
    }
    assert!(fs::read_dir(b.path.join("objects/pack")).unwrap().count() >= 4, "some came as packs");

    // The other way round, through the handle that was open all the time.
    let mine = commit(&handle, Some(&at), "mine", b"");
    remote_b.push(&mine, BRANCH, Some(&at)).unwrap();
    assert_eq!(tip(&remote_a).as_ref(), Some(&mine));

    // Upkeep packs all of it, and the handle still finds everything.
    let loose = || b.run(&["count-objects"]).split(' ').next().unwrap().parse::<usize>().unwrap();
    let before = loose();
    assert!(before > 3);
    remote_b.maintain().unwrap();
    assert_eq!(loose(), before, "it is not worth it yet");
    b.configure("gc.auto", "1");
    b.configure("gc.autoPackLimit", "1");
    b.repository().reference("refs/heads/kept", Oid::from_str(&mine).unwrap(), true, "").unwrap();
    remote_b.maintain().unwrap();
    assert!(loose() < before, "{before}");
    assert!(see(&at) && see(&mine));
    assert_eq!(handle.refname_to_id(LOCAL).unwrap().to_string(), at, "also a packed reference");
    let next = commit(&handle, Some(&mine), "next", b"");
    remote_b.push(&next, BRANCH, Some(&mine)).unwrap();
    assert_eq!(tip(&remote_b), Some(next));
}

fn handle_tip(remote: &Remote) -> String {
    remote.heads(&[BRANCH]).unwrap().remove(0).unwrap()
}

#[test]
fn a_shallow_clone_gets_whole_branches() {
    let site = Site::new();
    let a = site.mirror("a");
    let url = format!("file://{}", site.fleet().display());
    let remote = a.remote(&url);
    let first = a.commit(None, "1", b"");
    let second = a.commit(Some(&first), "2", b"");
    let results = a.commit(None, "r", b"");
    let more = a.commit(Some(&results), "s", b"");
    remote.push(&second, "main", None).unwrap();
    remote.push(&more, BRANCH, None).unwrap();
    // As CI checks out.
    let clone = site.folder.path().join("clone");
    assert!(git().args(["clone", "-q", "--depth=1", &url]).arg(&clone).status().unwrap().success());
    let clone = Mirror { path: clone.join(".git") };
    let remote = clone.remote("origin");
    assert_eq!(tip(&remote).as_ref(), Some(&more));
    let repository = clone.repository();
    assert!(repository.graph_descendant_of(Oid::from_str(&more).unwrap(), Oid::from_str(&results).unwrap()).unwrap());
    let next = clone.commit(Some(&more), "t", b"");
    remote.push(&next, BRANCH, Some(&more)).unwrap();
    assert!(repository.find_commit(Oid::from_str(&first).unwrap()).is_err(), "main stays shallow");
}

#[test]
fn a_mirror_is_made_whole_or_not_at_all() {
    let folder = folder();
    let path = folder.path().join("deep/mirror");
    // The files that a killed process left.
    fs::create_dir_all(folder.path().join("deep/mirror.unfinished/objects")).unwrap();
    init_mirror(&path).unwrap();
    let mirror = Mirror { path: path.clone() };
    assert!(mirror.repository().is_bare());
    assert!(!folder.path().join("deep/mirror.unfinished").exists());
    let commit = mirror.commit(None, "a", b"");
    init_mirror(&path).unwrap();
    assert!(mirror.repository().find_commit(Oid::from_str(&commit).unwrap()).is_ok(), "it is left as it is");

    let used = folder.path().join("used");
    fs::create_dir(&used).unwrap();
    init_mirror(&used).unwrap();
    let other = folder.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("letter"), "dear").unwrap();
    let error = init_mirror(&other).unwrap_err();
    assert!(error.to_string().ends_with("other cannot be used as a mirror"), "{error}");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
}

#[test]
fn without_git_it_is_said() {
    let site = Site::new();
    let mirror = site.mirror("a");
    let remote = mirror.remote("x").with_variable("PATH", site.folder.path());
    expect!(remote.heads(&[BRANCH]), NoGit);
}

#[test]
fn what_a_test_starts_ends_with_it() {
    let site = Site::new();
    let daemon = Daemon::start(&site.served());
    let mirror = site.mirror("a");
    let first = mirror.commit(None, "a", b"");
    let gate = Gate::hold(&site.fleet());
    let remote = mirror.remote(&daemon.url("fleet.git"));
    let served = site.served().to_str().unwrap().to_string();
    thread::scope(|scope| {
        let held = scope.spawn(|| remote.push(&first, BRANCH, None));
        gate.wait();
        assert!(processes_with(&served).len() > 1, "the daemon, and what it started");
        let dropped = thread::spawn(move || {
            let _daemon = daemon;
            std::panic::resume_unwind(Box::new("a test that fails"));
        });
        assert!(dropped.join().is_err());
        expect!(held.join().unwrap(), Unreachable);
    });
    wait_until("all of them are gone", || processes_with(&served).is_empty());
}

#[test]
#[ignore = "measures: how long a push, a fetch and a question take over each transport"]
fn timings() {
    let (site, ssh) = (Site::new(), Ssh::start());
    let (daemon, http) = (Daemon::start(&site.served()), Http::start(&site.served()));
    let mirror = site.mirror("a");
    let remotes = [
        ("path", mirror.remote(site.fleet().to_str().unwrap())),
        ("git", mirror.remote(&daemon.url("fleet.git"))),
        ("http", mirror.remote(&http.url("fleet.git").replace("http://", "http://writer:right@"))),
        (
            "ssh",
            mirror
                .remote(&ssh.url(&site.fleet()))
                .with_variable("GIT_SSH_COMMAND", format!("ssh {}", ssh.client("user"))),
        ),
    ];
    for (name, remote) in remotes {
        let mut at = tip(&remote);
        let (mut push, mut fetch, mut heads) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..10 {
            let next = mirror.commit(at.as_deref(), &format!("{name}-{n}"), b"x");
            let start = Instant::now();
            remote.push(&next, BRANCH, at.as_deref()).unwrap();
            push.push(start.elapsed());
            let start = Instant::now();
            tip(&remote).unwrap();
            fetch.push(start.elapsed());
            let start = Instant::now();
            remote.heads(&[BRANCH]).unwrap();
            heads.push(start.elapsed());
            at = Some(next);
        }
        let median = |mut times: Vec<Duration>| {
            times.sort();
            times[times.len() / 2]
        };
        println!("{name}: push {:?}, fetch {:?}, heads {:?}", median(push), median(fetch), median(heads));
    }
}
