//! The reports of `validate` and `plan` are what their formats say: SARIF 2.1.0 by the JSON schema of OASIS, JUnit by
//! the XML schema of Jenkins. The copies in `fixtures/formats` are as they were published.

use std::path::PathBuf;
use std::sync::LazyLock;

use roxmltree::{Document, Node};
use serde_json::Value;

use crate::world::World;

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/formats").join(name);
    std::fs::read_to_string(path).unwrap()
}

static SARIF: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(&fixture("sarif-schema-2.1.0.json")).unwrap();
    jsonschema::options().with_draft(jsonschema::Draft::Draft4).should_validate_formats(true).build(&schema).unwrap()
});

static JUNIT: LazyLock<String> = LazyLock::new(|| fixture("junit.xsd"));

/// Returns what is wrong with a SARIF log.
pub fn problems_of_sarif(text: &str) -> Vec<String> {
    let log: Value = serde_json::from_str(text).unwrap();
    SARIF.iter_errors(&log).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Returns what is wrong with a JUnit report.
pub fn problems_of_junit(text: &str) -> Vec<String> {
    let schema = Document::parse(&JUNIT).unwrap();
    let report = match Document::parse(text) {
        Ok(report) => report,
        Err(error) => return vec![error.to_string()],
    };
    let mut problems = Vec::new();
    for element in report.descendants().filter(Node::is_element) {
        check(element, &schema, &mut problems);
    }
    // Beyond the schema: the counts are those of the cases.
    for suite in report.descendants().filter(|node| node.has_tag_name("testsuite")) {
        let cases: Vec<Node<'_, '_>> = suite.children().filter(|node| node.has_tag_name("testcase")).collect();
        let failed = cases.iter().filter(|case| case.children().any(|node| node.has_tag_name("failure"))).count();
        let counts = (suite.attribute("tests").unwrap_or(""), suite.attribute("failures").unwrap_or(""));
        if counts != (&cases.len().to_string(), &failed.to_string()) {
            problems.push(format!("{counts:?} are not the counts of {} cases, {failed} failed", cases.len()));
        }
    }
    problems
}

/// Holds one element against the parts of XML Schema that the schema uses: a sequence of references with their bounds,
/// attributes that are required or not, mixed content and simple types.
fn check(element: Node<'_, '_>, schema: &Document<'_>, problems: &mut Vec<String>) {
    let name = element.tag_name().name();
    let named = |node: &Node<'_, '_>| node.tag_name().name() == "element" && node.attribute("name") == Some(name);
    let Some(declared) = schema.root_element().children().find(named) else {
        return problems.push(format!("there is no element {name}"));
    };
    let parts: Vec<Node<'_, '_>> = declared.descendants().filter(Node::is_element).collect();
    let attributes: Vec<&Node<'_, '_>> = parts.iter().filter(|node| node.tag_name().name() == "attribute").collect();
    for attribute in element.attributes() {
        if !attributes.iter().any(|node| node.attribute("name") == Some(attribute.name())) {
            problems.push(format!("{name} has no attribute {}", attribute.name()));
        }
    }
    let required = attributes.iter().filter(|node| node.attribute("use") == Some("required"));
    for missing in required.filter_map(|node| node.attribute("name")).filter(|one| !element.has_attribute(*one)) {
        problems.push(format!("{name} lacks its attribute {missing}"));
    }
    let is_text =
        declared.attribute("type").is_some() || parts.iter().any(|node| node.attribute("mixed") == Some("true"));
    if !is_text && element.children().any(|node| node.is_text() && !node.text().unwrap_or("").trim().is_empty()) {
        problems.push(format!("{name} has text"));
    }
    let mut children = element.children().filter(Node::is_element).peekable();
    for reference in parts.iter().filter(|node| node.tag_name().name() == "element" && node.has_attribute("ref")) {
        let wanted = reference.attribute("ref").unwrap();
        let bound = |name: &str| reference.attribute(name).unwrap_or("1").parse::<usize>();
        let mut count = 0;
        while children.next_if(|child| child.tag_name().name() == wanted).is_some() {
            count += 1;
        }
        let is_legal = count >= bound("minOccurs").unwrap() && bound("maxOccurs").map_or(true, |most| count <= most);
        if !is_legal {
            problems.push(format!("{name} has {count} of {wanted}"));
        }
    }
    problems.extend(children.map(|child| format!("{name} has {} where it may not be", child.tag_name().name())));
}

#[test]
fn reports_of_validate_and_plan_are_what_their_formats_say() {
    let world = World::with_devices("{}", 4);
    let check = |world: &World, code: i32, results: usize| {
        for command in ["validate", "plan"] {
            let sarif = world.run(&[command, "--format", "sarif"]).expect(code).stdout;
            assert_eq!(problems_of_sarif(&sarif), Vec::<String>::new(), "{sarif}");
            let log: Value = serde_json::from_str(&sarif).unwrap();
            if command == "plan" || code != 0 {
                assert_eq!(log["runs"][0]["results"].as_array().unwrap().len(), results, "{command}: {sarif}");
            }
            let junit = world.run(&[command, "--format", "junit"]).expect(code).stdout;
            assert_eq!(problems_of_junit(&junit), Vec::<String>::new(), "{junit}");
            let (suite, case) = (format!("name=\"fleetform {command}\""), format!("classname=\"fleetform.{command}\""));
            assert!(junit.contains(&suite) && junit.contains(&case), "{junit}");
        }
    };
    check(&world, 0, 0);
    world.job("named", "{target: {devices: [d-001, d-077]}, action: {tags: {ring: b}}}");
    check(&world, 0, 1);
    world.declare("jobs/<b> & \"c\".yaml", "Job", "broken", "{target: {group: none}, action: {tags: {a: b}}}");
    check(&world, 65, 1);
}

#[test]
fn what_is_not_in_the_schemas_is_seen() {
    assert_eq!(problems_of_sarif("{\"version\": \"2.1.0\"}").len(), 1);
    assert!(!problems_of_sarif("{\"version\": \"2.1\", \"runs\": []}").is_empty());
    let region = "{\"version\": \"2.1.0\", \"runs\": [{\"tool\": {\"driver\": {\"name\": \"x\"}}, \"results\": [{\"message\": \
         {\"text\": \"x\"}, \"locations\": [{\"physicalLocation\": {\"region\": {\"startLine\": 0}}}]}]}]}";
    assert!(problems_of_sarif(region)[0].contains("/startLine"), "{:?}", problems_of_sarif(region));
    let of = |inner: &str| problems_of_junit(&format!("<testsuites>{inner}</testsuites>"));
    assert_eq!(of("<testsuite name=\"a\" tests=\"0\" failures=\"0\"/>"), Vec::<String>::new());
    for wrong in [
        "text",
        "<testcase name=\"a\"/>",
        "<testsuite tests=\"0\" failures=\"0\"/>",
        "<testsuite name=\"a\" tests=\"0\" failures=\"0\" colour=\"red\"/>",
        "<testsuite name=\"a\" tests=\"2\" failures=\"0\"><testcase name=\"b\"/></testsuite>",
        "<testsuite name=\"a\" tests=\"1\" failures=\"1\"><testcase name=\"b\"><system-out>x</system-out>\
         <failure>y</failure></testcase></testsuite>",
    ] {
        assert_eq!(of(wrong).len(), 1, "{wrong}");
    }
    assert_eq!(problems_of_junit("<testsuites>").len(), 1);
}
