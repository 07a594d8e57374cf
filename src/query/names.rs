//! The names that a condition can use, and suggestions for all others.

use super::ast::{Function, PathRef, Root};
use super::error::QueryErrorKind;
use crate::diag::nearest;

/// Roots of one segment. System names are matched in any case.
const ROOTS: [(&str, Root); 21] = [
    ("deviceId", Root::DeviceId),
    ("id", Root::DeviceId),
    ("deviceName", Root::DeviceName),
    ("template", Root::Template),
    ("organization", Root::Organization),
    ("modelId", Root::Model),
    ("status", Root::Status),
    ("connectionState", Root::ConnectionState),
    ("lastActivityTime", Root::LastActivityTime),
    ("simulated", Root::Simulated),
    ("blocked", Root::Blocked),
    ("tags", Root::Tags),
    ("cloud", Root::Cloud),
    ("moduleId", Root::ModuleId),
    ("configurations", Root::Configurations),
    // The spelling of IoT Central's device groups.
    ("$id", Root::DeviceId),
    ("$displayName", Root::DeviceName),
    ("$template", Root::Template),
    ("$simulated", Root::Simulated),
    ("$provisioned", Root::Provisioned),
    ("$connectionState", Root::ConnectionState),
];

/// Names suggested for a misspelt root.
const SUGGESTED: [&str; 15] = [
    "deviceId",
    "deviceName",
    "template",
    "organization",
    "status",
    "connectionState",
    "lastActivityTime",
    "simulated",
    "blocked",
    "tags",
    "cloud",
    "properties",
    "capabilities",
    "configurations",
    "modelId",
];

/// Properties of twins and identities of IoT Hub that no condition here can read, with what there is in their place.
const OF_IOT_HUB: [(&str, Option<&str>); 16] = [
    ("etag", Some("Ask for `properties.desired.$version`, which grows with each change.")),
    ("deviceEtag", None),
    ("twinETag", Some("Ask for `properties.desired.$version`, which grows with each change.")),
    ("version", Some("Ask for `properties.desired.$version`, or for a tag: `tags.version`.")),
    ("authenticationType", None),
    ("authentication", None),
    ("x509Thumbprint", None),
    ("deviceScope", None),
    ("parentScopes", None),
    ("generationId", None),
    ("statusReason", Some("Ask for `status`, or for a tag.")),
    ("statusUpdateTime", Some("Ask for `status`, or for a tag.")),
    ("statusUpdatedTime", Some("Ask for `status`, or for a tag.")),
    ("connectionStateUpdatedTime", Some("Ask for `connectionState`, or for `lastActivityTime`.")),
    ("cloudToDeviceMessageCount", None),
    ("scope", None),
];

/// Functions of IoT Hub whose arguments fleetform does not keep, or that conditions there have beside those here.
const OF_IOT_HUB_FUNCTIONS: [&str; 3] = ["ARRAY_CONTAINS", "ARRAY_LENGTH", "AS_NUMBER"];
const FUNCTIONS_HELP: &str = "Arrays are opaque here but for their `length`. Ask for a tag that says the same.";

/// Returns what the segments of a path name.
pub(super) type Resolve = fn(&[String]) -> Result<PathRef, QueryErrorKind>;

/// Returns the property that the segments of a path name.
///
/// `segments` is not empty. The optional prefix `devices` is dropped.
pub(super) fn resolve_path(segments: &[String]) -> Result<PathRef, QueryErrorKind> {
    let (first, rest) = match segments {
        [prefix, first, rest @ ..] if prefix.eq_ignore_ascii_case("devices") => (first, rest),
        [first, rest @ ..] => (first, rest),
        [] => unreachable!("the parser passes at least one segment"),
    };
    let root = ROOTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(first)).map(|(_, root)| *root);
    match root {
        Some(root @ (Root::Tags | Root::Cloud | Root::Configurations)) => Ok(PathRef { root, keys: rest.to_vec() }),
        Some(root) if rest.is_empty() => Ok(PathRef { root, keys: Vec::new() }),
        Some(root) => Err(QueryErrorKind::NoParts { root: root.as_str() }),
        None if first.eq_ignore_ascii_case("properties") => resolve_property(rest),
        None if first.eq_ignore_ascii_case("capabilities") => resolve_capability(rest),
        None => Err(unknown_root(first, rest)),
    }
}

fn resolve_property(rest: &[String]) -> Result<PathRef, QueryErrorKind> {
    let unknown = |name: String, help: &str| Err(QueryErrorKind::UnknownRoot { name, help: help.to_string() });
    let Some((side, keys)) = rest.split_first() else {
        return unknown("properties".to_string(), "Write properties.desired or properties.reported.");
    };
    let (whole, version) = if side.eq_ignore_ascii_case("desired") {
        (Root::Desired, Root::DesiredVersion)
    } else if side.eq_ignore_ascii_case("reported") {
        (Root::Reported, Root::ReportedVersion)
    } else {
        let help = match nearest(side, ["desired", "reported"]) {
            Some(near) => format!("Did you mean `properties.{near}`?"),
            None => format!("Did you mean `properties.reported.{side}` or `properties.desired.{side}`?"),
        };
        return unknown(format!("properties.{side}"), &help);
    };
    match keys {
        [key] if key.eq_ignore_ascii_case("$version") => Ok(PathRef { root: version, keys: Vec::new() }),
        keys => Ok(PathRef { root: whole, keys: keys.to_vec() }),
    }
}

fn resolve_capability(rest: &[String]) -> Result<PathRef, QueryErrorKind> {
    match rest {
        [name] if name.eq_ignore_ascii_case("iotEdge") => Ok(PathRef { root: Root::IotEdge, keys: Vec::new() }),
        [name, ..] if name.eq_ignore_ascii_case("iotEdge") => {
            Err(QueryErrorKind::NoParts { root: Root::IotEdge.as_str() })
        }
        rest => Err(QueryErrorKind::UnknownRoot {
            name: dotted("capabilities", rest),
            help: "The only capability is `capabilities.iotEdge`.".to_string(),
        }),
    }
}

fn unknown_root(first: &str, rest: &[String]) -> QueryErrorKind {
    let lower = first.to_ascii_lowercase();
    if let Some((name, instead)) = OF_IOT_HUB.iter().find(|(name, _)| name.eq_ignore_ascii_case(first)) {
        return QueryErrorKind::NotKept { name, instead: *instead };
    }
    let help = match lower.as_str() {
        "desired" | "reported" => format!("Did you mean `{}`?", dotted("properties", &[&[lower], rest].concat())),
        "iotedge" => "Did you mean `capabilities.iotEdge`?".to_string(),
        "state" => "Write `status`, which is 'enabled' or 'disabled', or `connectionState`.".to_string(),
        "devices" => "Name a property of the device after it, such as `devices.deviceId`.".to_string(),
        "jobs" | "modules" => "A condition selects devices; their jobs and modules are not part of it.".to_string(),
        "select" | "where" | "from" => "Give only the condition: what stands after WHERE.".to_string(),
        _ => match (nearest(first, SUGGESTED), Function::parse(first)) {
            (_, Some(function)) => format!("`{0}` is a function: write {0}(…).", function.as_str()),
            (Some(near), None) => format!("Did you mean `{}`?", dotted(near, rest)),
            (None, None) => format!("Did you mean `{}`? Text needs quotes.", tag_path(first, rest)),
        },
    };
    QueryErrorKind::UnknownRoot { name: first.to_string(), help }
}

fn tag_path(first: &str, rest: &[String]) -> String {
    let keys = std::iter::once(first.to_string()).chain(rest.iter().cloned()).collect();
    PathRef { root: Root::Tags, keys }.to_string()
}

fn dotted(first: &str, rest: &[String]) -> String {
    std::iter::once(first).chain(rest.iter().map(String::as_str)).collect::<Vec<_>>().join(".")
}

/// Returns the function of a name.
pub(super) fn resolve_function(name: &str) -> Result<Function, QueryErrorKind> {
    Function::parse(name).ok_or_else(|| {
        if let Some(known) = OF_IOT_HUB_FUNCTIONS.iter().find(|known| known.eq_ignore_ascii_case(name)) {
            return QueryErrorKind::NotKept { name: known, instead: Some(FUNCTIONS_HELP) };
        }
        let names = Function::ALL.iter().map(|function| function.as_str());
        QueryErrorKind::UnknownFunction { name: name.to_string(), near: nearest(name, names) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(path: &str) -> Result<PathRef, QueryErrorKind> {
        resolve_path(&path.split('.').map(str::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn every_root_resolves_in_any_case() {
        let check = |path: &str, root: Root, keys: usize| {
            let found = resolve(path).unwrap();
            assert_eq!((found.root, found.keys.len()), (root, keys), "{path}");
        };
        check("deviceId", Root::DeviceId, 0);
        check("DEVICEID", Root::DeviceId, 0);
        check("id", Root::DeviceId, 0);
        check("devices.deviceId", Root::DeviceId, 0);
        check("Devices.Tags.a", Root::Tags, 1);
        check("tags", Root::Tags, 0);
        check("Properties.Desired.a.b", Root::Desired, 2);
        check("properties.reported", Root::Reported, 0);
        check("properties.desired.$version", Root::DesiredVersion, 0);
        check("properties.reported.$version", Root::ReportedVersion, 0);
        check("properties.desired.$version.x", Root::Desired, 2);
        check("capabilities.iotEdge", Root::IotEdge, 0);
        check("configurations.c1.status", Root::Configurations, 2);
        check("moduleId", Root::ModuleId, 0);
        check("MODELID", Root::Model, 0);
        check("devices.modelId", Root::Model, 0);
        check("lastActivityTime", Root::LastActivityTime, 0);
    }

    #[test]
    fn what_only_iot_hub_has_is_told_and_nothing_is_suggested_that_selects_nobody() {
        for name in [
            "authenticationType",
            "twinETag",
            "deviceScope",
            "parentScopes",
            "etag",
            "version",
            "statusReason",
            "x509Thumbprint.primaryThumbprint",
            "cloudToDeviceMessageCount",
        ] {
            let error = resolve(name).unwrap_err();
            assert!(matches!(error, QueryErrorKind::NotKept { .. }), "{name}: {error:?}");
            assert!(error.to_string().contains("IoT Hub has"), "{error}");
        }
    }

    #[test]
    fn an_unknown_root_suggests_what_was_meant() {
        let check = |path: &str, expect: &str| match resolve(path) {
            Err(QueryErrorKind::UnknownRoot { help, .. }) => assert_eq!(help, expect, "{path}"),
            other => panic!("{path}: {other:?}"),
        };
        check("tag.building", "Did you mean `tags.building`?");
        check("building", "Did you mean `tags.building`? Text needs quotes.");
        check("location.region", "Did you mean `tags.location.region`? Text needs quotes.");
        check("deviceid2", "Did you mean `deviceId`?");
        check("desired.a", "Did you mean `properties.desired.a`?");
        check("properties.a", "Did you mean `properties.reported.a` or `properties.desired.a`?");
        check("properties.desird.a", "Did you mean `properties.desired`?");
        check("capabilities.edge", "The only capability is `capabilities.iotEdge`.");
        check("modulId", "Did you mean `modelId`?");
        check("is_defined", "`is_defined` is a function: write is_defined(…).");
    }
}
