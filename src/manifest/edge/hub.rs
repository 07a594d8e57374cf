//! `$edgeHub`: the routes of messages, and how long they are kept.

use serde_json::{Map, Value};

use super::members::{Members, Problems, Trail, described};
use super::{AGENT, HUB, HUB_SCHEMA_MAX, check_version, route};
use crate::diag::{code, nearest, shown};

/// Checks the desired properties of the hub against the modules of the agent; `None` when these are not known.
pub fn check(members: &Map<String, Value>, trail: &Trail, modules: Option<&[&str]>, found: &mut Problems) {
    let known = ["schemaVersion", "routes", "storeAndForwardConfiguration"];
    let desired = Members::of_map(members, trail, code::EDGE_HUB, &known, found);
    let minor = check_version(&desired, HUB_SCHEMA_MAX, found);
    if let Some((trail, value)) = desired.need("storeAndForwardConfiguration", found)
        && let Some(stored) = Members::of(value, &trail, code::EDGE_HUB, &["timeToLiveSecs", "storeLimits"], found)
    {
        stored.need("timeToLiveSecs", found);
        stored.integer("timeToLiveSecs", -1..=i64::from(i32::MAX), found);
        if let Some((trail, limits)) = stored.get("storeLimits")
            && let Some(limits) = Members::of(limits, &trail, code::EDGE_HUB, &["maxBytes"], found)
        {
            limits.need("maxBytes", found);
            limits.integer("maxBytes", 0..=i64::MAX, found);
        }
    }
    // Only the first version of the schema does without.
    let routes = match minor {
        Some(1..) => desired.need("routes", found),
        Some(0) | None => desired.get("routes"),
    };
    let Some((trail, value)) = routes else { return };
    let Some(routes) = Members::any(value, &trail, code::EDGE_HUB, found) else { return };
    for (_, trail, value) in routes.each() {
        match value {
            Value::Null => {}
            Value::String(text) if minor == Some(0) && text.trim().is_empty() => {}
            Value::String(text) => check_route(text, &trail, modules, found),
            Value::Object(_) => {
                if minor == Some(0) {
                    let message =
                        "A route with `priority` or `timeToLiveSecs` needs the `schemaVersion` \"1.1\" of `$edgeHub`.";
                    found.push(trail.key(code::EDGE_HUB, message));
                }
                let known = ["route", "priority", "timeToLiveSecs"];
                let Some(members) = Members::of(value, &trail, code::EDGE_HUB, &known, found) else { continue };
                members.integer("priority", 0..=9, found);
                members.integer("timeToLiveSecs", 0..=i64::from(u32::MAX), found);
                if let Some((trail, text)) = members.text("route", found) {
                    check_route(text, &trail, modules, found);
                }
            }
            other => {
                let message = format!("A route is text, or an object with `route`, and this is {}.", described(other));
                found.push(trail.value(code::EDGE_HUB, &message));
            }
        }
    }
}

fn check_route(text: &str, trail: &Trail, modules: Option<&[&str]>, found: &mut Problems) {
    let route = match route::parse(text) {
        Ok(route) => route,
        Err(route::RouteError { message, near }) => {
            let problem = trail.value(code::EDGE_ROUTE, &message);
            found.push(match near {
                Some(near) => problem.with_near(Some(near)),
                None => problem.with_help(
                    "A route is `FROM <source> [WHERE <condition>] INTO <sink>`; the sink is `$upstream` or \
                     `BrokeredEndpoint(\"/modules/<module>/inputs/<input>\")`.",
                ),
            });
            return;
        }
    };
    let Some(modules) = modules else { return };
    for name in [route.from, route.into].into_iter().flatten() {
        if modules.contains(&name) || name == AGENT || name == HUB {
            continue;
        }
        let message = format!("It names the module `{}`, and the manifest has no such module.", shown(name));
        let near = nearest(name, modules.iter().copied());
        let problem = trail.value(code::EDGE_UNKNOWN_MODULE, &message).with_near(near);
        found.push(match near {
            Some(_) => problem,
            None => problem.with_help(
                "Messages to it wait until their time is over. Declare the module in `modules` of `$edgeAgent`, or \
                 correct the route.",
            ),
        });
    }
}
