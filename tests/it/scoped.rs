//! Who sees what on the pages of a fleet with organizations and an Access document.

use serde_json::{Value, json};

use crate::access::Team;
use crate::web::{Served, daemon};

/// A fleet with devices, groups, jobs, schedules and imports of `acme/eu`, of `acme/us`, and of nobody.
fn team() -> Team {
    let team = Team::of("{link: {simulated: {latency: 1ms, devices: {eu-1: {answers: 500}, us-1: {answers: 500}}}}}");
    let world = &team.world;
    let grants = "    - {who: [\"eu@acme.test\"], role: operator, organization: acme/eu}\n    \
                  - {who: [eyes@acme.test], role: viewer, organization: acme/eu}\n    \
                  - {who: [both@acme.test], role: viewer, organization: acme/eu}\n    \
                  - {who: [both@acme.test], role: viewer, organization: us}\n";
    world.write("access/access.yaml", team.access(grants));
    for name in ["eu", "us"] {
        let declare = |kind: &str, what: &str, spec: String| {
            world.declare(&format!("{name}/{what}.yaml"), kind, &format!("{name}-{what}"), &spec);
        };
        world.write(&format!("{name}/devices.csv"), format!("IOTC_DEVICEID\n{name}-1\n{name}-2\n{name}-3\n{name} x\n"));
        declare("DeviceImport", "devices", format!("{{file: devices.csv, organization: {name}}}"));
        declare("DeviceGroup", "group", format!("{{query: '*', organization: {name}}}"));
        let job =
            format!("organization: {name}, target: {{group: {name}-group}}, action: {{command: {{name: reboot}}}}");
        declare("Job", "reboot", format!("{{{job}}}"));
        let when = "start: '2030-01-01T02:30:00', timeZone: Europe/Amsterdam, recurrence: daily";
        declare("Schedule", "nightly", format!("{{{when}, job: {{{job}}}}}"));
    }
    world.declare("whole.yaml", "Job", "whole", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    team.commit(Some("lead"), "who may do what");
    world.run(&["apply", "--yes"]);
    team
}

fn asking(who: &str) -> [String; 2] {
    [format!("X-User: {who}"), "Accept: application/json".to_string()]
}

fn ask(served: &Served, who: &str, path: &str) -> (u16, Value, String) {
    let headers = asking(who);
    let answer = served.ask(path, &[&headers[0], &headers[1]]);
    let value = serde_json::from_str(&answer.body).unwrap_or(Value::Null);
    (answer.status, value, answer.body)
}

const PAGES: [&str; 10] = [
    "/",
    "/jobs?since=all",
    "/schedules",
    "/devices?count=1",
    "/devices?query=*",
    "/groups",
    "/imports",
    "/failing?since=all",
    "/jobs?since=all&device=*",
    "/devices?search=-1",
];

#[test]
fn who_looks_sees_what_the_grants_are_over_and_totals_count_nothing_else() {
    let team = team();
    let served =
        Served::of(team.world.path(), &["--trust-header", "X-User", "--trust-proxy", "127.0.0.1", "--actions"]);
    for path in PAGES {
        for form in ["json", "csv", "html"] {
            let path = format!("{path}{}format={form}", if path.contains('?') { '&' } else { '?' });
            let (status, _, body) = ask(&served, "eu@acme.test", &path);
            assert_eq!(status, 200, "{path}: {body}");
            for hidden in ["us-", "acme/us", "whole", "d-00"] {
                assert!(!body.contains(hidden), "{path} shows `{hidden}`: {body}");
            }
        }
    }
    let number = |who: &str, path: &str, member: &str| ask(&served, who, path).1[member].clone();
    for (who, jobs, devices, failing) in
        [("eu@acme.test", 1, 3, 1), ("eyes@acme.test", 1, 3, 1), ("both@acme.test", 2, 6, 2)]
    {
        assert_eq!(number(who, "/jobs?since=all", "total"), json!(jobs), "{who}");
        assert_eq!(number(who, "/devices?count=1", "total"), json!(devices), "{who}");
        assert_eq!(number(who, "/failing?since=all", "total"), json!(failing), "{who}");
    }
    assert_eq!(number("lead@example.com", "/devices?count=1", "total"), json!(10));
    assert_eq!(number("lead@example.com", "/jobs?since=all", "total"), json!(3));
    let query = "/devices?count=1&query=deviceId%20%3D%20'us-1'%20OR%20deviceId%20%3D%20'eu-1'";
    assert_eq!(number("eu@acme.test", query, "total"), json!(1));
    assert_eq!(number("both@acme.test", query, "total"), json!(2));
    assert_eq!(number("both@acme.test", "/devices?count=1&organization=acme", "total"), json!(6));
    assert_eq!(number("both@acme.test", "/devices?count=1&organization=eu", "total"), json!(3));
    assert_eq!(number("eu@acme.test", "/groups", "groups")[2], json!(null));
    assert_eq!(number("eu@acme.test", "/groups/eu-group", "used_by"), json!(["job/eu-reboot", "schedule/eu-nightly"]));
    hides_the_rest(&served);
    acts_where_a_grant_is_over_jobs(&team, &served);
}

fn hides_the_rest(served: &Served) {
    // What is of others is not there, and nothing near it is named.
    for path in [
        "/jobs/us-reboot",
        "/jobs/us-reboot/runs/1",
        "/jobs/us-reboo",
        "/jobs/whole",
        "/devices/us-1",
        "/devices/d-001",
        "/groups/us-group",
        "/imports/us-devices",
        "/imports/all",
        "/devices?organization=us",
        "/events?job=us-reboot&run=1",
    ] {
        for form in ["json", "csv"].into_iter().filter(|form| *form == "json" || !path.contains("events")) {
            let path = format!("{path}{}format={form}", if path.contains('?') { '&' } else { '?' });
            let (status, value, body) = ask(served, "eu@acme.test", &path);
            assert_eq!(status, 404, "{path}: {body}");
            let help = value["help"].to_string();
            assert!(["`us-", "`whole", "`d-00", "`all"].iter().all(|hidden| !help.contains(hidden)), "{path}: {body}");
        }
    }
    let own = ask(served, "eu@acme.test", "/devices/eu-1").1;
    let jobs: Vec<&Value> = own["jobs"].as_array().unwrap().iter().map(|row| &row["job"]).collect();
    assert_eq!(
        (jobs, &own["groups"], &own["import"]),
        (vec![&json!("eu-reboot")], &json!(["eu-all", "eu-group"]), &json!("eu-devices"))
    );
    // Without a grant there is nothing, and names are exact.
    for who in ["nobody@acme.test", "EU@acme.test", "eu@acme.test.evil", "eu"] {
        for path in PAGES.iter().chain(&["/jobs/eu-reboot", "/devices/eu-1", "/events"]) {
            let (status, value, body) = ask(served, who, path);
            assert_eq!(status, 403, "{who} {path}: {body}");
            assert!(value["help"].as_str().unwrap().contains("Ask an administrator"), "{body}");
        }
    }
}

fn acts_where_a_grant_is_over_jobs(team: &Team, served: &Served) {
    let act = |who: &str, path: &str| {
        let headers = asking(who);
        let page = served.ask("/devices/eu-2", &[&headers[0], "Accept: text/html"]).expect(200).body;
        let token = page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_string();
        served.post(path, &[&headers[0], &headers[1]], &format!("token={token}&reason=smoke"))
    };
    let refused = act("eyes@acme.test", "/devices/eu-2/block").expect(403);
    assert!(refused.body.contains("not act on it"), "{refused:?}");
    act("eyes@acme.test", "/jobs/eu-reboot/runs/1/stop").expect(403);
    act("eu@acme.test", "/devices/us-2/block").expect(404);
    act("eu@acme.test", "/jobs/us-reboot/runs/1/stop").expect(404);
    act("eu@acme.test", "/jobs/whole/runs/1/stop").expect(404);
    act("eu@acme.test", "/devices/eu-2/block").expect(200);
    assert!(team.world.device("eu-2").blocked && !team.world.device("us-2").blocked);
}

#[test]
fn a_run_stays_with_the_organization_that_it_was_of_and_a_grant_that_nobody_trusts_gives_nothing() {
    let team = team();
    let world = &team.world;
    let served = Served::of(world.path(), &["--trust-header", "X-User", "--trust-proxy", "127.0.0.1"]);
    let runs = |who: &str| {
        let page = ask(&served, who, "/jobs?since=all").1;
        let runs = page["runs"].as_array().unwrap_or_else(|| panic!("{page}"));
        runs.iter()
            .map(|run| format!("{}/{}", run["job"].as_str().unwrap(), run["run"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    let moved = "{organization: us, run: '2', target: {group: us-group}, action: {command: {name: reboot}}}";
    world.declare("eu/reboot.yaml", "Job", "eu-reboot", moved);
    team.commit(Some("lead"), "moved");
    world.run(&["apply", "--yes"]);
    assert_eq!(runs("eu@acme.test"), ["eu-reboot/1"]);
    let mut both = runs("both@acme.test");
    both.sort();
    assert_eq!(both, ["eu-reboot/1", "eu-reboot/2", "us-reboot/1"]);
    assert_eq!(ask(&served, "eu@acme.test", "/jobs/eu-reboot/runs/2").0, 404);
    assert_eq!(ask(&served, "eu@acme.test", "/jobs/eu-reboot/runs/1").0, 200);
    // A commit that was not allowed changes nothing of it.
    let evil = "    - {who: [evil@acme.test], role: administrator}\n";
    world.write("access/access.yaml", team.access(evil));
    team.commit(Some("stranger"), "let me in");
    assert_eq!(ask(&served, "evil@acme.test", "/jobs").0, 403);
    assert_eq!(runs("eu@acme.test"), ["eu-reboot/1"]);
    // Without a proxy nobody says who it is: this machine has the registry.
    let open = Served::of(world.path(), &[]);
    assert_eq!(open.json("/devices?count=1")["total"], json!(10));
}

#[test]
fn a_daemon_tells_of_itself_to_those_who_see_the_whole_fleet() {
    let team = team();
    let served = daemon(team.world.path(), "127.0.0.1:0", &["--trust-header", "X-User", "--trust-proxy", "127.0.0.1"]);
    for path in ["/status", "/metrics"] {
        served.ask(path, &[]).expect(401);
        let led = served.html(path).expect(303);
        assert_eq!(led.header("location"), Some(format!("/login?next=%2F{}", &path[1..]).as_str()));
        let (status, _, body) = ask(&served, "eu@acme.test", path);
        assert!(status == 403 && body.contains("a part of it"), "{path}: {status} {body}");
        assert_eq!(ask(&served, "nobody@acme.test", path).0, 403);
        assert_eq!(ask(&served, "lead@example.com", path).0, 200);
    }
    for (path, body) in [("/healthz", "{\"status\":\"alive\"}\n"), ("/readyz", "{\"ready\":true}\n")] {
        crate::servers::wait_until("it is so", || served.ask(path, &[]).body == body);
    }
}
