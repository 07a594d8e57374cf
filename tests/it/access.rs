//! Who may change what: commits are verified against the Access document from before them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::world::{Ran, World, fleetform};

const REBOOT: &str = "{organization: eu, target: {query: '*'}, action: {command: {name: reboot}}}";
const PEOPLE: [&str; 6] = ["lead", "ops", "night", "forge", "stranger", "late"];

/// A fleet with an Access document, and a key for each of some people.
pub struct Team {
    pub world: World,
    keys: tempfile::TempDir,
}

impl Team {
    fn new() -> Team {
        Team::of("{}")
    }

    /// A team whose Access document is not committed yet, with a Fleet document of this spec.
    pub fn of(spec: &str) -> Team {
        let team = Team { world: World::with_devices(spec, 4), keys: crate::world::folder() };
        let world = &team.world;
        let mut signers = String::new();
        for who in PEOPLE {
            let key = team.key(who);
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-C", who, "-f"]).arg(&key);
            assert!(command.status().unwrap().success());
            let public = fs::read_to_string(key.with_extension("pub")).unwrap();
            let valid = if who == "late" { "valid-before=\"20200101\" " } else { "" };
            if who != "stranger" {
                signers.push_str(&format!("{who}@example.com {valid}{}", public));
            }
        }
        for (name, parent) in [("acme", ""), ("eu", "parent: acme"), ("us", "parent: acme")] {
            world.declare(&format!("organizations/{name}.yaml"), "Organization", name, &format!("{{{parent}}}"));
        }
        world.declare("eu.yaml", "DeviceGroup", "eu-all", "{organization: eu, query: '*'}");
        world.write("access/allowed_signers", signers);
        world.write("access/access.yaml", team.access(""));
        team
    }

    /// A team whose Access document was introduced by the lead.
    pub fn introduced() -> Team {
        let team = Team::new();
        team.commit(Some("lead"), "who may do what");
        team.apply(0);
        team
    }

    pub fn access(&self, more: &str) -> String {
        format!(
            "apiVersion: fleetform/v1\nkind: Access\nmetadata: {{name: team}}\nspec:\n  allowedSigners: allowed_signers\n  \
             roles:\n    rebooter: {{kinds: [Job], actions: [command], commands: [reboot]}}\n  grants:\n    \
             - {{who: [\"*@example.com\"], role: viewer}}\n    \
             - {{who: [ops@example.com], role: operator, organization: acme/eu}}\n    \
             - {{who: [night@example.com], role: rebooter}}\n    \
             - {{who: [late@example.com, lead@example.com], role: administrator}}\n    \
             - {{who: [forge@example.com], role: merger}}\n{more}"
        )
    }

    fn key(&self, who: &str) -> PathBuf {
        self.keys.path().join(who)
    }

    fn git(&self, who: Option<&str>, arguments: &[&str]) -> Ran {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "gpg.format=ssh"]);
        if let Some(who) = who {
            command.arg("-c").arg(format!("user.signingkey={}", self.key(who).display()));
            command.args(["-c", "commit.gpgsign=true"]);
        }
        Ran::of(command.args(arguments).current_dir(self.world.path()))
    }

    pub fn commit(&self, who: Option<&str>, message: &str) {
        self.git(None, &["add", "-A"]).expect(0);
        self.git(who, &["commit", "-q", "--allow-empty", "-m", message]).expect(0);
    }

    fn job(&self, who: Option<&str>, name: &str, spec: &str) {
        self.world.declare(&format!("jobs/{name}.yaml"), "Job", name, spec);
        self.commit(who, name);
    }

    fn apply(&self, code: i32) -> String {
        let ran = self.world.run(&["apply", "--yes"]).expect(code);
        ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Applies and is refused with 77 and these words; then the change is taken back.
    fn refused(&self, words: &[&str]) {
        let said = self.apply(77);
        words.iter().for_each(|word| assert!(said.contains(word), "{word}: {said}"));
        let planned = self.world.run(&["plan"]).expect(77);
        assert!(planned.stderr.contains("FF685"), "{planned:?}");
    }

    fn claims(&self, job: &str) -> bool {
        self.world.results().keys().any(|path| path.starts_with(&format!("claims/{job}/")))
    }
}

#[test]
fn who_has_the_grant_may_and_nobody_else() {
    let team = Team::introduced();
    team.job(Some("ops"), "one", REBOOT);
    team.apply(0);
    assert!(team.claims("one"));
    team.job(Some("night"), "two", REBOOT);
    team.apply(0);
    let cases: [(Option<&str>, &str, &[&str]); 7] = [
        (None, REBOOT, &["it has no signature"]),
        (Some("stranger"), REBOOT, &["the key `", "is not known"]),
        (Some("late"), REBOOT, &["not", "valid at its time"]),
        (Some("forge"), REBOOT, &["`forge@example.com`", "a grant over Job", "in `acme/eu`"]),
        (Some("ops"), &REBOOT.replace("eu,", "us,"), &["`ops@example.com`", "in `acme/us`"]),
        (Some("ops"), &REBOOT.replace("organization: eu, ", ""), &["in the whole fleet"]),
        (Some("night"), &REBOOT.replace("reboot", "factoryReset"), &["the command `factoryReset`"]),
    ];
    for (who, spec, words) in cases {
        team.job(who, "three", spec);
        team.refused(words);
        assert!(!team.claims("three"));
        // Somebody who may takes it back.
        fs::remove_file(team.world.file("jobs/three.yaml")).unwrap();
        team.commit(Some("lead"), "taken back");
        team.apply(0);
    }
}

#[test]
fn an_import_takes_no_device_of_an_organization_that_its_author_may_not_write() {
    let team = Team::introduced();
    let import = |who: &str, name: &str, organization: &str, ids: &[&str]| {
        let spec = format!("{{file: {name}.csv, {organization}removed: keep}}");
        team.world.declare(&format!("imports/{name}.yaml"), "DeviceImport", name, &spec);
        team.world.write(&format!("imports/{name}.csv"), format!("IOTC_DEVICEID\n{}\n", ids.join("\n")));
        team.commit(Some(who), name);
    };
    import("lead", "of-us", "organization: us, ", &["us-1", "us-2"]);
    team.apply(0);
    // It leaves the file of its import, and the other import has it.
    import("lead", "of-us", "organization: us, ", &["us-2"]);
    import("ops", "of-eu", "organization: eu, ", &["eu-1", "us-1"]);
    let said = ["FF653", "us-1", "in the organization `acme/us`, which is not within that of the import, `acme/eu`"];
    let plan = team.world.run(&["plan"]).expect(0);
    let plan = plan.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    let applied = team.apply(0);
    said.iter().for_each(|word| assert!(plan.contains(word) && applied.contains(word), "{word}: {plan} {applied}"));
    assert_eq!(team.world.device("us-1").organization.as_deref(), Some("acme/us"));
    assert_eq!(team.world.device("eu-1").organization.as_deref(), Some("acme/eu"));
    // A device without an organization is as far away; d-001 is one.
    import("ops", "of-eu", "organization: eu, ", &["eu-1", "d-001"]);
    assert!(team.apply(0).contains("the device is in no organization"));
    // An import of the whole fleet takes any, and that of an organization above takes it too.
    import("lead", "of-all", "", &["us-1"]);
    team.apply(0);
    assert_eq!(team.world.device("us-1").organization, None);
    import("lead", "of-us", "organization: us, ", &["us-3"]);
    import("lead", "of-acme", "organization: acme, ", &["us-2"]);
    team.apply(0);
    assert_eq!(team.world.device("us-2").organization.as_deref(), Some("acme"));
    // An import that moves with its devices is granted both.
    import("lead", "of-eu", "organization: us, ", &["eu-1"]);
    team.apply(0);
    assert_eq!(team.world.device("eu-1").organization.as_deref(), Some("acme/us"));
}

#[test]
fn rules_and_groups_need_more() {
    let team = Team::introduced();
    let back = |team: &Team, path: &str| {
        team.git(None, &["checkout", "-q", "HEAD~1", "--", path]).expect(0);
        team.commit(Some("lead"), "taken back");
        team.apply(0);
    };
    // Its own rights are not for an operator to extend.
    team.world.write("access/access.yaml", team.access("    - {who: [ops@example.com], role: administrator}\n"));
    team.commit(Some("ops"), "more for me");
    team.refused(&["access `team` needs an administrator"]);
    // Nor does what is committed afterwards profit from it.
    team.job(Some("ops"), "one", &REBOOT.replace("eu,", "us,"));
    team.refused(&["access `team` needs an administrator", "in `acme/us`"]);
    fs::remove_file(team.world.file("jobs/one.yaml")).unwrap();
    team.world.write("access/access.yaml", team.access(""));
    team.commit(Some("lead"), "taken back");
    team.apply(0);
    // A key that is added is a change of the document that names the file.
    let signers = team.world.file("access/allowed_signers");
    let text = fs::read_to_string(&signers).unwrap();
    let key = fs::read_to_string(team.key("stranger").with_extension("pub")).unwrap();
    fs::write(&signers, format!("{text}lead@example.com {key}")).unwrap();
    team.commit(Some("ops"), "a key");
    team.refused(&["access `team` needs an administrator"]);
    team.job(Some("stranger"), "one", REBOOT);
    team.refused(&["is not known"]);
    fs::remove_file(team.world.file("jobs/one.yaml")).unwrap();
    fs::write(&signers, text).unwrap();
    team.commit(Some("lead"), "taken back");
    team.apply(0);
    // Who is in a group is not for one who may only run jobs.
    team.world.declare("eu.yaml", "DeviceGroup", "eu-all", "{organization: eu, query: 'simulated = true'}");
    team.commit(Some("night"), "the group");
    team.refused(&["device group `eu-all`"]);
    back(&team, "eu.yaml");
    // The file of an import is a part of it.
    fs::write(team.world.file("devices.csv"), crate::world::devices_csv(3)).unwrap();
    team.commit(Some("ops"), "one device less");
    team.refused(&["device import", "in the whole fleet"]);
}

#[test]
fn the_first_document_is_brought_by_an_administrator_and_pinned() {
    for who in [None, Some("ops"), Some("stranger")] {
        let team = Team::new();
        team.commit(who, "who may do what");
        team.refused(&["brings the first Access document"]);
        let team = Team::new();
        team.commit(who, "who may do what");
        team.world
            .write("access/access.yaml", format!("{}# again\n", team.access("    - {who: [x@y], role: viewer}\n")));
        team.commit(Some("lead"), "who may do what, signed");
        team.apply(0);
    }
    // Another history is not that of this fleet.
    let team = Team::introduced();
    let other = Team::new();
    other.commit(Some("lead"), "another fleet");
    team.git(None, &["fetch", "-q", other.world.path().to_str().unwrap(), "main"]).expect(0);
    team.git(None, &["reset", "-q", "--hard", "FETCH_HEAD"]).expect(0);
    let said = team.apply(77);
    assert!(said.contains("does not contain the commit"), "{said}");
    // A clone pins what it is told.
    let team = Team::introduced();
    let introduction = team.world.head();
    team.job(Some("ops"), "one", REBOOT);
    team.world.run(&["plan", "--introduction", &introduction]).expect(0);
    let none = team.world.run(&["plan", "--introduction", &format!("{introduction}~1")]).expect(77);
    assert!(none.stderr.contains("no Access document"), "{none:?}");
}

#[test]
fn a_merge_that_adds_nothing_needs_a_merger() {
    let team = Team::introduced();
    let merge = |who: Option<&str>, author: Option<&str>, name: &str, spec: &str| {
        team.git(None, &["checkout", "-q", "-b", name]).expect(0);
        team.job(author, name, spec);
        team.git(None, &["checkout", "-q", "main"]).expect(0);
        team.git(who, &["merge", "-q", "--no-ff", "-m", &format!("merge {name}"), name]).expect(0);
    };
    let undo = || {
        team.git(None, &["reset", "-q", "--hard", "HEAD~1"]).expect(0);
        team.apply(0);
    };
    merge(Some("forge"), Some("ops"), "one", REBOOT);
    team.apply(0);
    assert!(team.claims("one"));
    merge(Some("forge"), None, "two", REBOOT);
    team.refused(&["\"two\"", "it has no signature"]);
    undo();
    merge(Some("forge"), Some("ops"), "three", &REBOOT.replace("eu,", "us,"));
    team.refused(&["\"three\"", "in `acme/us`"]);
    undo();
    merge(Some("night"), Some("ops"), "four", &REBOOT.replace("reboot", "restart"));
    team.refused(&["\"merge four\"", "no role that merges"]);
    undo();
    // An evil merge adds a job that no side has.
    team.git(None, &["checkout", "-q", "-b", "five"]).expect(0);
    team.job(Some("ops"), "five", REBOOT);
    team.git(None, &["checkout", "-q", "main"]).expect(0);
    team.git(None, &["merge", "-q", "--no-ff", "--no-commit", "five"]).expect(0);
    team.world.declare("jobs/evil.yaml", "Job", "evil", REBOOT);
    team.git(None, &["add", "jobs"]).expect(0);
    team.git(Some("forge"), &["commit", "-q", "-m", "merge five"]).expect(0);
    team.refused(&["\"merge five\"", "job `evil` needs a grant"]);
    undo();
    // What was signed when its author still had the right is judged by what it is merged into.
    team.git(None, &["checkout", "-q", "-b", "old"]).expect(0);
    team.job(Some("ops"), "old", REBOOT);
    team.git(None, &["checkout", "-q", "main"]).expect(0);
    let less = team.access("").replace("role: operator, organization: acme/eu", "role: viewer");
    team.world.write("access/access.yaml", less);
    team.commit(Some("lead"), "ops leaves");
    team.git(Some("forge"), &["merge", "-q", "--no-ff", "-m", "merge old", "old"]).expect(0);
    team.refused(&["job `old` needs a grant"]);
}

#[test]
fn the_plan_of_a_change_judges_its_commits_by_the_base() {
    let team = Team::introduced();
    team.git(None, &["checkout", "-q", "-b", "change"]).expect(0);
    team.job(Some("ops"), "one", REBOOT);
    team.world.run(&["plan", "--base", "main"]).expect(0);
    team.world.write("access/access.yaml", team.access("    - {who: [ops@example.com], role: administrator}\n"));
    team.commit(Some("lead"), "ops is administrator");
    team.job(Some("ops"), "two", &REBOOT.replace("eu,", "us,"));
    let ran = team.world.run(&["plan", "--base", "main"]).expect(77);
    assert!(ran.stderr.contains("job `two` needs a grant") && ran.stderr.contains("1 error"), "{ran:?}");
    // Nor does it help to take the document away.
    let team = Team::introduced();
    team.git(None, &["checkout", "-q", "-b", "change"]).expect(0);
    fs::remove_dir_all(team.world.file("access")).unwrap();
    team.job(None, "one", REBOOT);
    let clone = crate::world::folder();
    let place = clone.path().join("clone");
    team.git(None, &["clone", "-q", ".", place.to_str().unwrap()]).expect(0);
    let ran = Ran::of(fleetform().arg("-C").arg(&place).args(["plan", "--base", "origin/main"])).expect(77);
    assert!(ran.stderr.contains("it has no signature"), "{ran:?}");
}

#[test]
fn an_administrator_vouches_for_what_came_before() {
    let team = Team::introduced();
    team.job(None, "one", REBOOT);
    team.job(None, "two", REBOOT);
    team.refused(&["it has no signature"]);
    team.commit(Some("ops"), "I vouch\n\nFleetform-Vouch: because I say so");
    team.refused(&["it has no signature"]);
    team.commit(Some("lead"), "vouch\n\nFleetform-Vouch:");
    team.refused(&["it has no signature"]);
    team.commit(Some("lead"), "vouch\n\nFleetform-Vouch: reviewed with the author");
    team.apply(0);
    assert!(team.claims("one") && team.claims("two"));
}

#[test]
fn what_a_refused_commit_deletes_is_not_taken_for_deleted() {
    let team = Team::introduced();
    fs::remove_file(team.world.file("eu.yaml")).unwrap();
    team.commit(None, "the group goes");
    team.refused(&["it has no signature"]);
}

#[test]
fn verified_commits_are_not_verified_again() {
    let team = Team::introduced();
    team.job(Some("ops"), "one", REBOOT);
    team.apply(0);
    let noted = team.git(None, &["rev-parse", "refs/fleetform/verified/root", "HEAD"]).expect(0).stdout;
    let ids: Vec<&str> = noted.lines().collect();
    assert_eq!(ids[0], ids[1]);
    // A plan notes nothing.
    team.job(Some("ops"), "two", REBOOT);
    team.world.run(&["plan"]).expect(0);
    let after = team.git(None, &["rev-parse", "refs/fleetform/verified/root"]).expect(0).stdout;
    assert_eq!(after.trim(), ids[0]);
}

#[test]
fn a_daemon_holds_what_was_not_allowed_and_goes_on_with_the_rest() {
    let team = Team::introduced();
    team.job(None, "bad", REBOOT);
    team.job(Some("ops"), "good", REBOOT);
    let mut command = fleetform();
    command.arg("-C").arg(team.world.path()).args(["watch", "--interval", "1s"]);
    let mut child = crate::world::spawn(&mut command);
    crate::servers::wait_until("the good job has run", || team.claims("good"));
    assert!(!team.claims("bad"));
    // Somebody vouches for it, in a commit that changes no file.
    team.commit(Some("lead"), "vouch\n\nFleetform-Vouch: seen it");
    crate::servers::wait_until("the other one has run too", || team.claims("bad"));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_policy_rules_on_as_it_was_when_a_change_of_it_is_refused() {
    let team = Team::introduced();
    let policy = |who: &str, actions: &str| {
        team.world.declare("guard.yaml", "Policy", "guard", &format!("{{forbid: {{actions: [{actions}]}}}}"));
        team.commit(Some(who), "guard");
    };
    policy("lead", "tags");
    let tags = "{organization: eu, target: {query: '*'}, action: {tags: {ring: a}}}";
    // An operator lets what was forbidden, and forbids what was allowed.
    policy("ops", "command");
    team.job(Some("ops"), "tagged", tags);
    team.job(Some("ops"), "good", REBOOT);
    let log = team.world.folder_file("watch.log");
    let mut command = fleetform();
    command.arg("-C").arg(team.world.path()).args(["watch", "--interval", "1s"]);
    command.stderr(fs::File::create(&log).unwrap());
    let mut child = crate::world::spawn(&mut command);
    crate::servers::wait_until("the good job has run", || team.claims("good"));
    let said = || fs::read_to_string(&log).unwrap();
    let refused = "Job `tagged` is refused by policy `guard`, as it is in the commit";
    crate::servers::wait_until("the other one is refused", || said().contains(refused));
    assert!(!team.claims("tagged"), "{}", said());
    // Deleting it is no way out either.
    fs::remove_file(team.world.file("guard.yaml")).unwrap();
    team.commit(Some("ops"), "no guard");
    team.job(Some("ops"), "better", REBOOT);
    crate::servers::wait_until("the next good job has run", || team.claims("better"));
    assert!(!team.claims("tagged"), "{}", said());
    // What an administrator makes of it counts.
    policy("lead", "property");
    team.job(Some("ops"), "tagged", &tags.replace("ring: a", "ring: b"));
    crate::servers::wait_until("it is allowed", || team.claims("tagged"));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Keys of OpenPGP count where the document names them; skipped where gpg is not installed.
#[test]
fn openpgp_keys_are_known_by_their_addresses() {
    let team = Team::new();
    let home = team.keys.path().join("gnupg");
    fs::create_dir(&home).unwrap();
    fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let gpg = |arguments: &[&str]| {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(&home).args([
            "--batch",
            "--quiet",
            "--passphrase",
            "",
            "--pinentry-mode",
            "loopback",
        ]);
        command.args(arguments).output()
    };
    let Ok(made) = gpg(&["--quick-generate-key", "Ops <pgp@example.com>", "ed25519", "sign", "never"]) else { return };
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    team.world.write("access/keys.asc", gpg(&["--armor", "--export"]).unwrap().stdout);
    let access = team.access("    - {who: [pgp@example.com], role: operator, organization: acme/eu}\n");
    team.world.write("access/access.yaml", access.replace("  roles:", "  openpgpKeys: keys.asc\n  roles:"));
    team.commit(Some("lead"), "who may do what");
    team.apply(0);
    let signed = |name: &str, spec: &str| {
        team.world.declare(&format!("jobs/{name}.yaml"), "Job", name, spec);
        team.git(None, &["add", "-A"]).expect(0);
        let mut command = Command::new("git");
        command.args([
            "-c",
            "user.name=T",
            "-c",
            "user.email=pgp@example.com",
            "-c",
            "user.signingkey=pgp@example.com",
        ]);
        command.args(["commit", "-q", "-S", "-m", name]).env("GNUPGHOME", &home).current_dir(team.world.path());
        Ran::of(&mut command).expect(0);
    };
    signed("one", REBOOT);
    team.apply(0);
    assert!(team.claims("one"));
    signed("two", &REBOOT.replace("eu,", "us,"));
    team.refused(&["signed by `pgp@example.com`", "in `acme/us`"]);
    drop(Command::new("gpgconf").arg("--homedir").arg(&home).args(["--kill", "all"]).status());
}

#[test]
fn a_daemon_signs_its_results_and_a_person_as_git_does() {
    let team = Team::introduced();
    team.job(Some("ops"), "one", REBOOT);
    let key = team.key("forge");
    let mut command = fleetform();
    command.arg("-C").arg(team.world.path()).args(["watch", "--interval", "1s", "--sign"]).arg(&key);
    let mut child = crate::world::spawn(&mut command);
    let is_done = || team.world.results().contains_key("runs/one/1/run.json") && team.claims("one");
    crate::servers::wait_until("the job has run", is_done);
    child.kill().unwrap();
    child.wait().unwrap();
    let signers = team.world.file("access/allowed_signers");
    let setting = format!("gpg.ssh.allowedSignersFile={}", signers.display());
    let shown = team.git(None, &["-c", &setting, "log", "--format=%G? %GS", "-1", "fleetform/results"]).expect(0);
    assert_eq!(shown.stdout.trim(), "G forge@example.com");
    // A key that cannot sign is refused at the start.
    let none = team.world.run(&["watch", "--sign", "no-such-key"]).expect(64);
    assert!(none.stderr.contains("cannot sign"), "{none:?}");
    // A stop is a commit that is signed as git is configured to.
    for (name, value) in
        [("gpg.format", "ssh"), ("commit.gpgsign", "true"), ("user.email", "ops@example.com"), ("user.name", "Ops")]
    {
        team.git(None, &["config", name, value]).expect(0);
    }
    team.git(None, &["config", "user.signingkey", team.key("ops").to_str().unwrap()]).expect(0);
    team.job(Some("ops"), "two", REBOOT);
    team.world.run(&["job", "stop", "two"]).expect(0);
    let shown = team.git(None, &["-c", &setting, "log", "--format=%G? %GS %s", "-1"]).expect(0);
    assert!(shown.stdout.starts_with("G ops@example.com"), "{shown:?}");
    team.git(None, &["fsck", "--strict"]).expect(0);
    assert_eq!(team.git(None, &["status", "--porcelain"]).expect(0).stdout, "");
    team.git(None, &["config", "user.signingkey", "/no/such/key"]).expect(0);
    let ran = team.world.run(&["job", "continue", "two"]);
    assert!(ran.code == 1 && ran.stderr.contains("/no/such/key"), "{ran:?}");
}

#[test]
fn a_broken_document_opens_no_door() {
    let team = Team::introduced();
    team.world.write("access/access.yaml", "apiVersion: fleetform/v1\nkind: Access\nmetadata: {name: team}\nspec: 7\n");
    team.commit(Some("lead"), "a slip");
    team.job(Some("ops"), "one", REBOOT);
    team.job(None, "two", REBOOT);
    team.world.run(&["apply", "--yes"]).expect(65);
    let mut command = fleetform();
    command.arg("-C").arg(team.world.path()).args(["watch", "--interval", "1s"]);
    let mut child = crate::world::spawn(&mut command);
    let has_looked = || {
        let shown = team.world.run(&["status", "--json"]).expect(0).stdout;
        shown.contains("job/one") && shown.contains("job/two")
    };
    crate::servers::wait_until("the daemon has held both", has_looked);
    assert!(!team.claims("one") && !team.claims("two"));
    // The one who mends it is judged by the document of before.
    team.world.write("access/access.yaml", team.access("    - {who: [night@example.com], role: operator}\n"));
    team.commit(Some("lead"), "mended");
    crate::servers::wait_until("what was allowed has run", || team.claims("one"));
    assert!(!team.claims("two"));
    child.kill().unwrap();
    child.wait().unwrap();
    // Where nothing was verified before, a broken one holds too.
    let team = Team::new();
    team.world.write("access/access.yaml", "apiVersion: fleetform/v1\nkind: Access\nmetadata: {name: team}\nspec: 7\n");
    team.job(None, "one", REBOOT);
    team.world.run(&["apply", "--yes"]).expect(65);
}

#[test]
fn a_merge_with_its_parents_swapped_is_judged_on_the_line_of_the_branch() {
    let team = Team::new();
    team.commit(None, "before anything was restricted");
    team.git(None, &["branch", "early"]).expect(0);
    team.world.write("access/access.yaml", format!("{}# now\n", team.access("    - {who: [x@y], role: viewer}\n")));
    team.commit(Some("lead"), "who may do what");
    team.apply(0);
    let introduced = team.world.head();
    // Somebody without a key goes on from before, takes the main branch in without its files, and moves it forward.
    team.git(None, &["checkout", "-q", "early"]).expect(0);
    team.job(None, "evil", REBOOT);
    team.git(None, &["merge", "-q", "-s", "ours", "-m", "sync", "main"]).expect(0);
    team.git(None, &["checkout", "-q", "main"]).expect(0);
    team.git(None, &["merge", "-q", "--ff-only", "early"]).expect(0);
    team.apply(77);
    assert!(!team.claims("evil"));
    team.world.run(&["plan", "--introduction", &introduced]).expect(77);
    // An honest `git pull` that merges is no attack.
    let team = Team::introduced();
    team.git(None, &["branch", "mine"]).expect(0);
    team.job(Some("lead"), "of-lead", &REBOOT.replace("eu,", "us,"));
    team.apply(0);
    team.git(None, &["checkout", "-q", "mine"]).expect(0);
    team.job(Some("ops"), "of-ops", REBOOT);
    team.git(Some("ops"), &["merge", "-q", "-m", "pull", "main"]).expect(0);
    team.git(None, &["checkout", "-q", "main"]).expect(0);
    team.git(None, &["merge", "-q", "--ff-only", "mine"]).expect(0);
    team.apply(0);
    assert!(team.claims("of-ops"));
}

#[test]
fn a_fleet_in_a_folder_hides_nothing_unsigned() {
    let team = Team::introduced();
    team.world.write("access/fleetform.yaml", "");
    team.commit(None, "an empty file");
    team.refused(&["access", "it has no signature"]);
    // What an administrator does elsewhere does not make it right.
    team.job(Some("lead"), "of-lead", REBOOT);
    team.refused(&["it has no signature"]);
    team.job(None, "evil", &REBOOT.replace("organization: eu, ", ""));
    team.apply(77);
    assert!(!team.claims("evil") && !team.claims("of-lead"));
    // What is of another fleet is not for this one to judge.
    let team = Team::introduced();
    team.world.write("other/fleetform.yaml", "apiVersion: fleetform/v1\nkind: Fleet\nmetadata: {name: other}\n");
    team.commit(Some("lead"), "another fleet");
    team.world.declare("other/jobs/one.yaml", "Job", "one", "{target: {query: '*'}, action: {tags: {a: 1}}}");
    team.commit(None, "of the other fleet");
    team.apply(0);
    fs::remove_file(team.world.file("other/fleetform.yaml")).unwrap();
    team.commit(None, "no other fleet any more");
    team.refused(&["it has no signature"]);
    assert!(!team.claims("one"));
}

#[test]
fn a_refusal_is_settled_only_by_who_may_and_who_has_seen_it() {
    // In two steps, the first of which is refused, nothing is taken.
    let team = Team::introduced();
    team.world.declare("import.yaml", "DeviceImport", "more", "{file: more.csv}");
    team.world.write("more.csv", "IOTC_DEVICEID\nextra\n");
    team.commit(Some("lead"), "an import of the whole fleet");
    team.apply(0);
    team.world.declare("import.yaml", "DeviceImport", "more", "{file: more.csv, organization: eu}");
    team.commit(Some("ops"), "mine");
    team.refused(&["in the whole fleet"]);
    team.world.declare("import.yaml", "DeviceImport", "more", "{file: more.csv, organization: eu, removed: keep}");
    team.commit(Some("ops"), "mine, again");
    team.refused(&["in the whole fleet"]);
    // Nor by a commit of a branch that began before it.
    for vouches in [false, true] {
        let team = Team::introduced();
        team.git(None, &["checkout", "-q", "-b", "early"]).expect(0);
        match vouches {
            true => team.commit(Some("lead"), "vouch\n\nFleetform-Vouch: for what I have seen"),
            false => {
                team.world.write("access/access.yaml", team.access("    - {who: [x@y], role: viewer}\n"));
                team.commit(Some("lead"), "a viewer");
            }
        }
        team.git(None, &["checkout", "-q", "main"]).expect(0);
        let text = fs::read_to_string(team.world.file("access/access.yaml")).unwrap();
        let evil = text.replace("  grants:\n", "  grants:\n    - {who: [night@example.com], role: administrator}\n");
        team.world.write("access/access.yaml", evil);
        team.commit(None, "evil");
        team.refused(&["it has no signature"]);
        team.git(Some("forge"), &["merge", "-q", "--no-ff", "-m", "merge early", "early"]).expect(0);
        team.refused(&["it has no signature"]);
        team.job(Some("night"), "evil", &REBOOT.replace("reboot", "factoryReset"));
        team.apply(77);
        assert!(!team.claims("evil"), "{vouches}");
    }
    // A trailer stands at the end, and not in the middle of what is said.
    let team = Team::introduced();
    team.job(None, "one", REBOOT);
    team.commit(Some("lead"), "words\r\n\r\nFleetform-Vouch: said in passing\r\n\r\nand more words\r\n");
    team.refused(&["it has no signature"]);
}

#[test]
fn a_file_is_a_part_of_a_document_however_it_is_named() {
    let team = Team::new();
    team.world.write("access/access.yaml", team.access("").replace("allowed_signers\n", "signers.yaml\n"));
    let signers = fs::read_to_string(team.world.file("access/allowed_signers")).unwrap();
    team.world.write("access/signers.yaml", &signers);
    team.world.write(
        "imports.yaml",
        "apiVersion: fleetform/v1\nkind: DeviceImport\nmetadata: {name: more}\nspec: {file: \"ger\\xE4te.csv\"}\n",
    );
    team.world.write("ger\u{e4}te.csv", "IOTC_DEVICEID\nextra\n");
    team.commit(Some("lead"), "who may do what");
    team.apply(0);
    let key = fs::read_to_string(team.key("stranger").with_extension("pub")).unwrap();
    team.world.write("access/signers.yaml", format!("{signers}lead@example.com {key}"));
    team.commit(None, "a key");
    team.refused(&["access/access.yaml", "it has no signature"]);
    // An administrator who changes something else does not let it in.
    let text = fs::read_to_string(team.world.file("access/access.yaml")).unwrap();
    team.world.write("access/access.yaml", format!("{text}    - {{who: [x@y], role: viewer}}\n"));
    team.commit(Some("lead"), "a viewer");
    team.refused(&["access/access.yaml", "it has no signature"]);
    team.job(Some("stranger"), "one", REBOOT);
    team.refused(&["it has no signature", "is not known"]);
    fs::remove_file(team.world.file("jobs/one.yaml")).unwrap();
    team.world.write("access/access.yaml", text);
    team.world.write("access/signers.yaml", &signers);
    team.commit(Some("lead"), "taken back");
    team.apply(0);
    team.world.write("ger\u{e4}te.csv", "IOTC_DEVICEID\nextra\nanother\n");
    team.commit(None, "a row");
    team.refused(&["it has no signature"]);
}

#[test]
fn a_narrow_role_makes_no_groups_and_a_moved_organization_keeps_its_grants() {
    let team = Team::new();
    let access = team.access("").replace("kinds: [Job], actions", "kinds: [Job, DeviceGroup], actions");
    let access = access.replace("organization: acme/eu", "organization: eu");
    team.world.write("access/access.yaml", access);
    team.commit(Some("lead"), "who may do what");
    team.apply(0);
    team.world.declare("eu.yaml", "DeviceGroup", "eu-all", "{organization: eu, query: 'simulated = true'}");
    team.commit(Some("night"), "the group");
    team.refused(&["needs the right to run any job on its devices"]);
    team.git(None, &["reset", "-q", "--hard", "HEAD~1"]).expect(0);
    team.world.declare("organizations/west.yaml", "Organization", "west", "{}");
    team.world.declare("organizations/eu.yaml", "Organization", "eu", "{parent: west}");
    team.commit(Some("lead"), "eu moves");
    team.job(Some("ops"), "one", REBOOT);
    let said = team.world.run(&["apply", "--yes", "--accept-rewind"]).expect(0);
    assert!(team.claims("one"), "{said:?}");
}

#[test]
fn what_was_changed_meanwhile_is_not_for_the_author_of_an_older_commit() {
    let team = Team::introduced();
    let nightly = |organization: &str, name: &str| {
        let spec = format!(
            "\n  start: 2030-01-01T00:00:00\n  timeZone: UTC\n  recurrence: daily\n  suspend: true\n  job:\n    \
             {organization}\n    target: {{query: '*'}}\n    # apart\n    # from\n    # each\n    # other\n    action: \
             {{command: {{name: {name}}}}}"
        );
        team.world.declare("nightly.yaml", "Schedule", "nightly", &spec);
    };
    nightly("organization: eu", "reboot");
    team.commit(Some("lead"), "nightly");
    team.git(None, &["checkout", "-q", "-b", "old"]).expect(0);
    nightly("organization: eu", "factoryReset");
    team.commit(Some("ops"), "another command");
    team.git(None, &["checkout", "-q", "main"]).expect(0);
    nightly("# everywhere", "reboot");
    team.commit(Some("lead"), "for the whole fleet");
    team.apply(0);
    team.git(Some("forge"), &["merge", "-q", "--no-ff", "-m", "merge old", "old"]).expect(0);
    team.refused(&["brings in what `ops@example.com` has signed", "in the whole fleet"]);
}

#[test]
fn a_folder_whose_name_is_no_text_stops_nothing() {
    use std::os::unix::ffi::OsStrExt as _;

    let world = World::with_devices("{}", 2);
    let folder = world.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    if fs::create_dir(&folder).is_err() {
        return; // A file system that takes such names only as text.
    }
    fs::write(folder.join("job.yaml"), "apiVersion: fleetform/v1\nkind: Job\n").unwrap();
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=T", "-c", "user.email=t@example.com"]).args(arguments);
        Ran::of(command.current_dir(world.path())).expect(0)
    };
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "an odd folder"]);
    world.run(&["apply", "--yes"]).expect(0);
}
