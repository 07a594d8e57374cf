//! Organizations, end to end: which devices a job of one selects, and what moves a device from one to another.

use fleetform::plan::{ActionKind, ImportCounts, Subject};

use crate::world::World;

const REBOOT: &str = "action: {command: {name: reboot}}";
const BRANCHES: [(&str, &str); 4] =
    [("acme", ""), ("eu", "parent: acme"), ("north", "parent: eu"), ("eu2", "parent: acme")];

/// `acme`, `acme/eu` below it, `acme/eu/north` below that, and `acme/eu2` beside: three devices each, and one device
/// without an organization. The second of each three refuses commands.
fn world() -> World {
    let refusing: Vec<String> = BRANCHES.iter().map(|(name, _)| format!("{name}-1: {{answers: 500}}")).collect();
    let world = World::new(&format!("{{link: {{simulated: {{devices: {{{}}}}}}}}}", refusing.join(", ")));
    for (name, parent) in BRANCHES {
        world.declare(&format!("org-{name}.yaml"), "Organization", name, &format!("{{{parent}}}"));
        world.declare(
            &format!("import-{name}.yaml"),
            "DeviceImport",
            name,
            &format!("{{file: {name}.csv, organization: {name}}}"),
        );
        world.write(&format!("{name}.csv"), rows(&[0, 1, 2].map(|n| format!("{name}-{n}"))));
    }
    world.declare("import-none.yaml", "DeviceImport", "none", "{file: none.csv}");
    world.write("none.csv", rows(&["none-0".to_string()]));
    world.commit("devices");
    world.apply().unwrap();
    world
}

fn rows(ids: &[String]) -> String {
    format!("IOTC_DEVICEID\n{}\n", ids.join("\n"))
}

/// Returns the ids that the run of a job was about.
fn ran_on(world: &World, job: &str) -> Vec<String> {
    world.rows(job, "1").into_iter().map(|row| row.device_id).collect()
}

fn three_of(names: &[&str]) -> Vec<String> {
    let mut ids: Vec<String> = names.iter().flat_map(|name| (0..3).map(move |n| format!("{name}-{n}"))).collect();
    ids.sort();
    ids
}

#[test]
fn a_job_of_an_organization_selects_nothing_outside_it() {
    let world = world();
    world.declare("everything.yaml", "DeviceGroup", "everything", "{query: '*'}");
    world.declare("of-eu2.yaml", "DeviceGroup", "of-eu2", "{query: '*', organization: eu2}");
    world.declare("of-acme.yaml", "DeviceGroup", "of-acme", "{query: '*', organization: acme}");
    world.job("whole", &format!("{{target: {{query: '*'}}, {REBOOT}}}"));
    world.commit("whole");
    world.apply().unwrap();
    assert_eq!(ran_on(&world, "whole").len(), 13);

    let listed = "[none-0, acme-0, eu-0, eu-2, north-1, eu2-0]";
    let targets = [
        ("by-query", "{query: \"NOT deviceId = 'eu-0' OR organization = 'acme/eu2'\"}".to_string()),
        ("by-group", "{group: everything}".to_string()),
        ("by-wider-group", "{group: of-acme}".to_string()),
        ("by-list", format!("{{devices: {listed}}}")),
        ("by-failures", "{failedOf: {job: whole, run: \"1\"}}".to_string()),
    ];
    for (name, target) in &targets {
        world.job(name, &format!("{{organization: eu, target: {target}, {REBOOT}}}"));
    }
    world.commit("jobs of eu");
    let ran = world.run(&["plan"]).expect(0);
    let told = "`by-list` names 3 devices that it cannot select, because the registry or its organization does not \
        have them: \
                acme-0, eu2-0, none-0";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    world.apply().unwrap();
    let both = three_of(&["eu", "north"]);
    assert_eq!(ran_on(&world, "by-query"), both[1..], "eu-0 is the first");
    assert_eq!(ran_on(&world, "by-group"), both);
    assert_eq!(ran_on(&world, "by-wider-group"), both);
    assert_eq!(ran_on(&world, "by-list"), ["eu-0", "eu-2", "north-1"]);
    assert_eq!(ran_on(&world, "by-failures"), ["eu-1", "north-1"]);
    // A group of another branch has no device in common with it.
    world.job("by-other-group", &format!("{{organization: eu, target: {{group: of-eu2}}, {REBOOT}}}"));
    assert!(world.run(&["plan"]).expect(65).stderr.contains("FF408"));
}

/// Returns the counts of the imports that a plan would apply, by name.
fn imports(world: &World) -> Vec<(String, ImportCounts)> {
    let plan = world.plan().unwrap().plan;
    let of_import = |change: &fleetform::plan::PlannedChange| match (&change.subject, change.action()) {
        (Subject::Import(name), ActionKind::Import) => Some((name.to_string(), change.import().unwrap())),
        _ => None,
    };
    plan.changes.iter().filter_map(of_import).collect()
}

#[test]
fn moving_devices_between_organizations_is_a_change_of_an_import() {
    let world = world();
    assert_eq!(imports(&world), []);
    let organization = |id: &str| world.device(id).organization;

    // The import of a whole branch says another organization.
    world.declare("import-north.yaml", "DeviceImport", "north", "{file: north.csv, organization: eu2}");
    world.commit("north is of eu2");
    let found = imports(&world);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0.as_str(), found[0].1.updated, found[0].1.unchanged), ("north", 3, 0));
    let shown = world.run(&["plan"]).expect(0).stdout;
    assert!(shown.contains("import/north") && shown.contains("3 updated"), "{shown}");
    assert_eq!(organization("north-0").as_deref(), Some("acme/eu/north"), "a plan moves nothing");
    world.apply().unwrap();
    assert_eq!(organization("north-0").as_deref(), Some("acme/eu2"));

    // The row of one device moves to the file of another import.
    world.write("eu.csv", rows(&["eu-1".to_string(), "eu-2".to_string()]));
    world.write(
        "acme.csv",
        rows(&["acme-0".to_string(), "acme-1".to_string(), "acme-2".to_string(), "eu-0".to_string()]),
    );
    world.commit("eu-0 is of acme");
    let found = imports(&world);
    let updated: Vec<(&str, u64)> = found.iter().map(|(name, counts)| (name.as_str(), counts.updated)).collect();
    assert_eq!(updated, [("acme", 1), ("eu", 0)]);
    // A job of this very commit means the devices as they will be.
    world.job("reboot", &format!("{{organization: eu, target: {{query: '*'}}, {REBOOT}}}"));
    world.commit("reboot eu");
    world.apply().unwrap();
    assert_eq!(organization("eu-0").as_deref(), Some("acme"));
    assert_eq!(ran_on(&world, "reboot"), ["eu-1", "eu-2"]);

    // The branch itself moves in the tree, and all imports of it and below it with it.
    world.declare("org-eu.yaml", "Organization", "eu", "{parent: eu2}");
    world.commit("eu is below eu2");
    let found = imports(&world);
    assert_eq!(found.len(), 1, "no import is of north any more: {found:?}");
    assert_eq!((found[0].0.as_str(), found[0].1.updated), ("eu", 2));
    world.apply().unwrap();
    assert_eq!(organization("eu-1").as_deref(), Some("acme/eu2/eu"));
    assert_eq!(imports(&world), []);
}
