//! The front door: what a tree declares, where it stands, and what counts for digests.

use std::collections::BTreeMap;

use super::*;
use crate::model::id::Name;
use crate::model::job::Selector;

const FLEET: &str = "apiVersion: fleetform/v1\nkind: Fleet\nmetadata: {name: acme}\n";

fn load_files(files: &[(&str, &str)]) -> Loaded {
    let mut all: BTreeMap<&str, &str> = BTreeMap::from([("fleetform.yaml", FLEET)]);
    all.extend(files.iter().copied());
    let entries = all.iter().map(|(path, text)| (path.to_string(), Entry::file(text.len() as u64))).collect();
    let read = |path: &str| Ok(all[path].as_bytes().to_vec());
    load(&Input { entries: &entries, read: &read, check_query: |_| Vec::new() })
}

fn job(spec: &str) -> String {
    format!("apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: a}}\nspec: {spec}\n")
}

fn declared(text: &str) -> Declared {
    let loaded = load_files(&[("jobs/a.yaml", text)]);
    loaded.declared.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics))
}

fn spec_digest(text: &str) -> Digest {
    declared(text).jobs["a"].spec_digest
}

#[test]
fn the_spec_digest_ignores_form_and_what_may_change_while_a_job_runs() {
    let base = spec_digest(&job("{target: {query: '*'}, action: {tags: {ring: canary, n: 1}}}"));
    let same = [
        job("{action: {tags: {n: 1, ring: 'canary'}}, target: {query: \"*\"}} # comment"),
        job("\n  run: 1\n  target:\n    query: '*'\n  action:\n    tags:\n      ring: canary\n      n: 1"),
        job("{run: '1', suspend: true, target: {query: '*'}, action: {tags: {ring: canary, n: 1}}}"),
        job("{delivery: {expiresAfter: 1h, maxExecutionTime: 2h}, target: {query: '*'}, action: {tags: \
             {ring: canary, n: 1}}}"),
        job("{target: {query: '*'}, action: {tags: {ring: canary, n: 1}}}")
            .replace("name: a", "name: a, description: x"),
        job("{target: {query: '*'}, action: {tags: {ring: canary, n: 1}}}").replace('\n', "\r\n"),
    ];
    for text in &same {
        assert_eq!(spec_digest(text), base, "{text}");
    }
    let other = [
        job("{run: 2, target: {query: '*'}, action: {tags: {ring: canary, n: 1}}}"),
        job("{target: {query: '*'}, action: {tags: {ring: canary, n: '1'}}}"),
        job("{target: {query: '*'}, action: {tags: {ring: canary, n: 1}}, delivery: {batchSize: 1}}"),
    ];
    for text in &other {
        assert_ne!(spec_digest(text), base, "{text}");
    }
}

#[test]
fn a_run_token_is_the_text_that_was_written() {
    let check = |written: &str, expect: &str| {
        let text = job(&format!("{{run: {written}, target: {{query: '*'}}, action: {{tags: {{a: 1}}}}}}"));
        assert_eq!(declared(&text).jobs["a"].run.as_str(), expect);
    };
    check("1", "1");
    check("1.10", "1.10");
    check("007", "007");
    check("0x1F", "0x1F");
    check("2026-11", "2026-11");
    check("\"2\"", "2");
}

#[test]
fn spans_point_at_the_text_whatever_the_line_ends() {
    let text = job("\n  target: {devices: [d-2, d-1]}\n  action:\n    property:\n      é: 'x'\n      light: \
            {threshold: 3}");
    for text in [text.clone(), format!("\u{feff}{text}"), text.replace('\n', "\r\n")] {
        let loaded = load_files(&[("jobs/a.yaml", &text)]);
        let name = Name::parse("a").unwrap();
        let check = |pointer: &str, expect: &str| {
            let span = loaded.spans.span(&name, pointer).unwrap();
            assert_eq!(&loaded.sources.text(span.file)[span.start..span.end], expect, "{pointer}");
        };
        check("/metadata/name", "a");
        check("/spec/action/property/light/threshold", "3");
        check("/spec/action/property/é", "'x'");
        check("/spec/action/property/light", "light");
        check("/spec/target/devices/1", "d-1");
        check("/spec/run", "spec");
        check("/spec/action/property/light/threshold/deeper", "threshold");
        assert_eq!(loaded.spans.span(&Name::parse("b").unwrap(), "/spec"), None);
        let devices = loaded.declared.unwrap().jobs["a"].target.selector.clone();
        assert!(matches!(devices, Selector::Devices(ids) if ids.iter().map(|id| id.as_str()).eq(["d-1", "d-2"])));
    }
}

#[test]
fn organizations_are_given_by_name_or_by_path() {
    let text = "apiVersion: fleetform/v1\nkind: Organization\nmetadata: {name: acme}\n---\n\
                apiVersion: fleetform/v1\nkind: Organization\nmetadata: {name: eu}\nspec: {parent: acme}\n---\n\
                apiVersion: fleetform/v1\nkind: DeviceGroup\nmetadata: {name: g}\nspec: {organization: eu, query: \
                '*'}\n---\n";
    let text = format!("{text}{}", job("{organization: acme/eu, target: {group: g}, action: {tags: {a: 1}}}"));
    let declared = declared(&text);
    assert_eq!(declared.organizations["eu"].path, "acme/eu");
    assert_eq!(declared.groups["g"].organization.as_deref(), Some("acme/eu"));
    assert_eq!(declared.jobs["a"].organization, Some(Name::parse("eu").unwrap()));
}

#[test]
fn only_declared_files_count_for_the_digest() {
    let ours = job("{target: {query: '*'}, action: {tags: {a: 1}}}");
    let import = "apiVersion: fleetform/v1\nkind: DeviceImport\nmetadata: {name: i}\nspec: {file: d.csv}\n";
    let files =
        [("a.yaml", ours.as_str()), ("i.yaml", import), ("d.csv", "IOTC_DEVICEID\n"), ("values.yaml", "a: 1\n")];
    let base = load_files(&files);
    assert_eq!(base.declared_files, ["a.yaml", "d.csv", "fleetform.yaml", "i.yaml"]);
    let with = |path: &str, text: &str| {
        let mut files = files.to_vec();
        files.push((path, ""));
        files.retain(|(candidate, _)| *candidate != path);
        files.push((path, text));
        load_files(&files).digest
    };
    assert_eq!(with("values.yaml", "a: 2\n"), base.digest);
    assert_eq!(with("README.md", "# Fleet\n"), base.digest);
    assert_eq!(with("d.csv", "IOTC_DEVICEID\nd-1\n"), base.digest, "imports digest their own file");
    assert_ne!(with("a.yaml", &format!("{ours}# comment\n")), base.digest);
}

#[test]
fn one_broken_document_does_not_make_references_to_it_dangle() {
    let group =
        "apiVersion: fleetform/v1\nkind: DeviceGroup\nmetadata: {name: line-3}\nspec: {query: '*', tempalte: t}\n";
    let text = job("{target: {group: line-3}, action: {tags: {a: 1}}}");
    for group in [group.to_string(), group.replace("tempalte: t", "query: 'x'"), group.replace('}', "")] {
        let loaded = load_files(&[("group.yaml", &group), ("jobs/a.yaml", &text)]);
        assert_eq!(loaded.diagnostics.counts(), (1, 0), "{:?}", loaded.diagnostics);
    }
}

/// The journal keeps enough of an occurrence to continue it, whatever is edited or lost meanwhile.
#[test]
fn the_job_of_a_schedule_is_made_of_its_spec_again() {
    let check = |spec: &str| {
        let text = format!(
            "apiVersion: fleetform/v1\nkind: Schedule\nmetadata: {{name: a}}\nspec:\n  start: 2026-12-01T02:30:00\n  \
             timeZone: UTC\n  recurrence: daily\n  job: {spec}\n"
        );
        let organizations = "apiVersion: fleetform/v1\nkind: Organization\nmetadata: {name: acme}\n---\napiVersion: \
                             fleetform/v1\nkind: Organization\nmetadata: {name: north}\nspec: {parent: acme}\n";
        let done = job("{run: 7, target: {query: '*'}, action: {tags: {a: 1}}}");
        let loaded = load_files(&[("a.yaml", &text), ("o.yaml", organizations), ("b.yaml", &done.replace("a}", "b}"))]);
        let declared = loaded.declared.unwrap_or_else(|| panic!("{spec}: {:?}", loaded.diagnostics));
        let job = &declared.schedules["a"].job;
        assert_eq!(scheduled_job(&job.spec).as_ref(), Some(job), "{}", job.spec);
    };
    check(
        "{target: {query: '*'}, action: {tags: {ring: canary, n: 1.50, big: -4503599627370496, e: 1e-7, 'on': true}}}",
    );
    check(
        "{target: {failedOf: {job: b, run: 7}}, action: {command: {name: reboot, idempotent: true, payload: [null, {a: \
            ''}]}}}",
    );
    check(
        "{organization: acme/north, target: {query: \"tags.a = 'é\\t\\u2028😀'\"}, action: {tags: {a: \"\\u0001 # \
            \\\\ y: |\"}}}",
    );
    check(
        "{target: {devices: [d-1]}, action: {property: {a: {b: 1}}}, delivery: {confirm: acknowledged, batchSize: 10%, \
            expiresAfter: 2h, \
           maxExecutionTime: 3h, cancellationThreshold: {failures: 5, per: batch}, retry: {attempts: 2}}}",
    );
    assert_eq!(scheduled_job("{}"), None);
    assert_eq!(scheduled_job("{\"target\": "), None);
}

#[test]
fn all_mistakes_of_a_document_are_told_at_once() {
    let text = "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: Dim_Line}\nspec:\n  target: {query: '*'}\n  after: \
                [nowhere]\n  action: {tags: {level: 3}}\n  delivery: {batchSize: 10 %, expiresAfter: 5min, retrys: 3}\n";
    let loaded = load_files(&[("jobs/a.yaml", text)]);
    let codes: std::collections::BTreeSet<&str> = loaded.diagnostics.iter().map(|one| one.code.0).collect();
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["FF205", "FF301", "FF303", "FF304", "FF401"]);
}

#[test]
fn an_organization_may_name_its_parent_by_its_path() {
    let organization = |name: &str, spec: &str| {
        format!("apiVersion: fleetform/v1\nkind: Organization\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
    };
    let text = organization("acme", "{}")
        + &organization("eu", "{parent: acme}")
        + &organization("berlin", "{parent: acme/eu}");
    let declared = declared(&text);
    let berlin = &declared.organizations["berlin"];
    assert_eq!((berlin.path.as_str(), berlin.parent.as_ref().unwrap().as_str()), ("acme/eu/berlin", "eu"));
}
