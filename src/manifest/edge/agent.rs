//! `$edgeAgent`: the runtime, and which modules it starts in which way.

use serde_json::{Map, Value};

use super::members::{Members, Problems, Trail, described};
use super::options::{self, OPTIONS};
use super::{AGENT_SCHEMA_MAX, check_count, check_version, image, names};
use crate::diag::{code, shown};

/// What the agent knows about a module.
const MODULE: [&str; 8] =
    ["type", "status", "restartPolicy", "settings", "imagePullPolicy", "env", "version", "startupOrder"];

/// Checks the desired properties of the agent. Returns the names of its modules; `None` when they are not known.
pub fn check<'a>(members: &'a Map<String, Value>, trail: &Trail, found: &mut Problems) -> Option<Vec<&'a str>> {
    let known = ["schemaVersion", "runtime", "systemModules", "modules"];
    let desired = Members::of_map(members, trail, code::EDGE_AGENT, &known, found);
    check_version(&desired, AGENT_SCHEMA_MAX, found);
    if let Some((trail, value)) = desired.need("runtime", found) {
        check_runtime(value, &trail, found);
    }
    if let Some((trail, value)) = desired.need("systemModules", found) {
        check_system_modules(value, &trail, found);
    }
    let Some((trail, value)) = desired.get("modules") else {
        // A misspelling of its name is reported; its content is then not known.
        return (!desired.is_slip("modules")).then(Vec::new);
    };
    let modules = Members::any(value, &trail, code::EDGE_AGENT, found)?;
    // A null takes a module away.
    let present: Vec<_> = modules.each().filter(|(_, _, value)| !value.is_null()).collect();
    check_count(present.len(), &trail, found);
    for (name, trail, value) in &present {
        if let Some(problem) = names::problem_of(name) {
            found.push(trail.key(code::EDGE_MODULE_NAME, &problem));
        }
        check_module(value, trail, Role::Other, found);
    }
    Some(present.iter().map(|(name, ..)| *name).collect())
}

fn check_runtime(value: &Value, trail: &Trail, found: &mut Problems) {
    let Some(runtime) = Members::of(value, trail, code::EDGE_AGENT, &["type", "settings"], found) else { return };
    runtime.need("type", found);
    runtime.word("type", &["docker"], found);
    let Some((trail, value)) = runtime.get("settings") else { return };
    let known = ["minDockerVersion", "loggingOptions", "registryCredentials"];
    let Some(settings) = Members::of(value, &trail, code::EDGE_AGENT, &known, found) else { return };
    let Some((trail, value)) = settings.get("registryCredentials") else { return };
    let Some(registries) = Members::any(value, &trail, code::EDGE_AGENT, found) else { return };
    for (_, trail, value) in registries.each().filter(|(_, _, value)| !value.is_null()) {
        let known = ["address", "username", "password"];
        let Some(registry) = Members::of(value, &trail, code::EDGE_AGENT, &known, found) else { continue };
        for key in known {
            registry.text(key, found);
        }
    }
}

fn check_system_modules(value: &Value, trail: &Trail, found: &mut Problems) {
    let known = [("edgeAgent", Role::Agent), ("edgeHub", Role::Hub)];
    let names = known.map(|(name, _)| name);
    let Some(system) = Members::of(value, trail, code::EDGE_AGENT, &names, found) else { return };
    for (name, role) in known {
        if let Some((trail, value)) = system.need(name, found) {
            check_module(value, &trail, role, found);
        }
    }
}

/// What a module is to the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Agent,
    Hub,
    Other,
}

fn check_module(value: &Value, trail: &Trail, role: Role, found: &mut Problems) {
    let Some(module) = Members::of(value, trail, code::EDGE_AGENT, &MODULE, found) else { return };
    module.need("type", found);
    // The agent starts and restarts itself.
    if role != Role::Agent {
        module.need("status", found);
    }
    if role == Role::Other {
        module.need("restartPolicy", found);
    }
    module.word("type", &["docker"], found);
    module.word("status", &["running", "stopped"], found);
    module.word("restartPolicy", &["always", "on-failure", "on-unhealthy", "never"], found);
    module.word("imagePullPolicy", &["on-create", "never"], found);
    module.integer("startupOrder", 0..=i64::from(u32::MAX), found);
    if let Some((trail, value)) = module.get("version").filter(|(_, value)| !value.is_string()) {
        found.push(trail.value(code::EDGE_AGENT, &format!("Text is needed, and this is {}.", described(value))));
    }
    if let Some((trail, value)) = module.need("settings", found) {
        check_settings(value, &trail, found);
    }
    let Some((trail, value)) = module.get("env") else { return };
    let Some(variables) = Members::any(value, &trail, code::EDGE_AGENT, found) else { return };
    for (_, trail, value) in variables.each().filter(|(_, _, value)| !value.is_null()) {
        let is_plain = |value: &Value| matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_));
        if !value.get("value").is_some_and(is_plain) {
            let message = "A variable is written `{\"value\": …}`, with text, a number or a boolean.";
            found.push(trail.value(code::EDGE_AGENT, message));
        }
    }
}

fn check_settings(value: &Value, trail: &Trail, found: &mut Problems) {
    let Some(members) = Members::any(value, trail, code::EDGE_AGENT, found).map(|any| any.members()) else { return };
    let parts = options::parts_of(members);
    // The parts of long options are near to the name of the first one.
    let known = if parts.is_empty() { vec!["image", OPTIONS] } else { vec!["image"] };
    let settings = Members::of_map(members, trail, code::EDGE_AGENT, &known, found);
    if let Some((trail, image)) = settings.text("image", found)
        && let Some(why) = image::fault_of(image)
    {
        let problem = trail.value(code::EDGE_AGENT, &format!("\"{}\" is no container image: {why}.", shown(image)));
        found.push(match image.trim().starts_with('$') {
            true => problem.with_help(
                "A build fills in what begins with `$`: commit the manifest that it makes. Only an image behind the \
                 gateway of a nested device stays as `$upstream:<port>/<image>`.",
            ),
            false => problem,
        });
    }
    options::check(&settings, trail, &parts, found);
}
