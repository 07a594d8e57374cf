//! The Fleet document.

use std::collections::BTreeMap;

use super::{Draft, Lowering, id_detail};
use crate::diag::{Diagnostic, code, shown};
use crate::manifest::node::pointer;
use crate::manifest::v1;
use crate::model::fleet::{
    DeviceBehaviour, Fleet, FleetLimits, LinkConfig, RegistryConfig, ResultDevices, ResultsConfig, SimulatedLink,
};
use crate::model::id::{DeviceId, Name};
use crate::model::limits;
use crate::model::secret::SecretRef;

/// The results branch of a fleet that names none.
const RESULTS_BRANCH_DEFAULT: &str = "fleetform/results";

impl Lowering<'_> {
    pub(super) fn fleet(&mut self, name: Name, spec: v1::FleetSpec) -> Draft {
        let v1::FleetSpec { registry, link, results, limits, time_zone, alerts } = spec;
        let fleet = Fleet {
            name,
            registry: self.registry(registry),
            link: self.link(link),
            results: self.results(results.unwrap_or_default()),
            limits: self.limits(limits.unwrap_or_default()),
            time_zone: time_zone.map(|name| self.time_zone(&name, "/spec/timeZone").1),
            alerts: self.alerts(alerts),
        };
        Draft::Fleet(Box::new(fleet))
    }

    fn registry(&mut self, registry: Option<v1::Registry>) -> RegistryConfig {
        let Some(v1::Registry { sqlite, postgres }) = registry else { return RegistryConfig::default() };
        self.exactly_one("/spec/registry", &["sqlite", "postgres"]);
        if let Some(postgres) = postgres {
            return RegistryConfig::Postgres { variable: self.variable_of(postgres) };
        }
        let Some(path) = sqlite.and_then(|sqlite| sqlite.path) else { return RegistryConfig::default() };
        self.plain_path(&path, "/spec/registry/sqlite/path");
        RegistryConfig::Sqlite { path }
    }

    /// Returns the variable that has the URL of a database; a stand-in, with a diagnostic, when none is named.
    fn variable_of(&mut self, v1::Postgres { url }: v1::Postgres) -> String {
        let help = "Write it as `url: {env: DATABASE_URL}`, and set that variable where fleetform runs.";
        let (at, detail) = match url {
            Some(v1::UrlPlace::Variable(v1::VariablePlace { env: Some(name) })) => {
                match SecretRef::Env(name.clone()).fault() {
                    None => return name,
                    Some(fault) => ("/spec/registry/postgres/url/env", fault),
                }
            }
            Some(v1::UrlPlace::Text(_)) => (
                "/spec/registry/postgres/url",
                "The URL of a database has a password, which must not be in git. Only the variable that has the URL \
                 is named.",
            ),
            Some(v1::UrlPlace::Variable(_)) | None => {
                let written = self.root.at("/spec/registry/postgres/url");
                if written.is_some_and(|url| !url.entries().is_empty()) {
                    // What stands there in its place is reported as such.
                    return String::new();
                }
                ("/spec/registry/postgres", "A database needs a URL.")
            }
        };
        let at = self.root.locate(at).key_span();
        self.diagnostics.push(Diagnostic::new(code::REGISTRY_URL, at, detail).with_help(help));
        String::new()
    }

    /// Checks a path of the disk where fleetform runs.
    pub(super) fn plain_path(&mut self, path: &str, pointer: &str) {
        let problem = if path.trim().is_empty() {
            "A path cannot be empty."
        } else if path.chars().any(crate::model::text::is_unsafe) || path.contains('\n') {
            "A path cannot contain control characters."
        } else if path.ends_with('/') {
            "This is the path of a folder, and a file is needed."
        } else if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            "The path leaves the folder of the fleet, which a commit may not do. Write one that is relative to that \
             folder; a registry elsewhere is named with `--registry sqlite:PATH`."
        } else if path.split('/').any(|part| part.eq_ignore_ascii_case(".git")) {
            "What lies in `.git` is git's own."
        } else {
            return;
        };
        self.report(code::PATH, pointer, problem);
    }

    fn link(&mut self, link: Option<v1::Link>) -> LinkConfig {
        match &link {
            // Real devices of both kinds.
            Some(v1::Link { simulated: None, mqtt: Some(_), iot_hub: Some(_) }) | None => {}
            Some(_) => self.exactly_one("/spec/link", &["simulated", "mqtt", "iotHub"]),
        }
        match link {
            Some(v1::Link { mqtt: Some(mqtt), iot_hub: Some(hub), .. }) => {
                LinkConfig::Both { mqtt: Box::new(self.mqtt(mqtt)), hub: Box::new(self.iot_hub(hub)) }
            }
            Some(v1::Link { mqtt: Some(mqtt), .. }) => LinkConfig::Mqtt(Box::new(self.mqtt(mqtt))),
            Some(v1::Link { iot_hub: Some(hub), .. }) => LinkConfig::Hub(Box::new(self.iot_hub(hub))),
            link => self.simulated(link.and_then(|link| link.simulated).unwrap_or_default()),
        }
    }

    fn simulated(&mut self, simulated: v1::Simulated) -> LinkConfig {
        let v1::Simulated { seed, latency, failures, offline, devices, journal } = simulated;
        let default = SimulatedLink::default();
        if let Some(journal) = &journal {
            self.plain_path(journal, "/spec/link/simulated/journal");
        }
        LinkConfig::Simulated(SimulatedLink {
            seed: seed.unwrap_or(default.seed),
            latency: self.duration(latency.as_ref(), "/spec/link/simulated/latency", default.latency),
            failures: self.probability(failures.as_ref(), "/spec/link/simulated/failures"),
            offline: self.probability(offline.as_ref(), "/spec/link/simulated/offline"),
            devices: self.behaviours(devices),
            journal,
        })
    }

    fn behaviours(&mut self, devices: BTreeMap<String, v1::Behaviour>) -> BTreeMap<DeviceId, DeviceBehaviour> {
        let mut found = BTreeMap::new();
        for (id, behaviour) in devices {
            let at = pointer(["spec", "link", "simulated", "devices", &id]);
            let v1::Behaviour { answers, offline, silent, connects_after, latency } = behaviour;
            if let Some(status) = answers {
                self.range(u32::from(status), 100, 599, &format!("{at}/answers"));
            }
            let latency = self.optional_duration(latency.as_ref(), &format!("{at}/latency"));
            let connects_after = self.optional_duration(connects_after.as_ref(), &format!("{at}/connectsAfter"));
            match DeviceId::parse(&id) {
                Ok(id) => {
                    let offline = offline || connects_after.is_some();
                    found.insert(id, DeviceBehaviour { answers, offline, silent, connects_after, latency });
                }
                Err(error) => {
                    let span = self.root.locate(&at).key_span();
                    self.diagnostics.push(Diagnostic::new(code::DEVICE_ID, span, id_detail(&id, &error)));
                }
            }
        }
        found
    }

    fn results(&mut self, results: v1::Results) -> ResultsConfig {
        let v1::Results { branch, devices, remote } = results;
        let branch = branch.unwrap_or_else(|| RESULTS_BRANCH_DEFAULT.to_string());
        if let Some(problem) = branch_problem(&branch) {
            let detail = format!("`{}` is not a legal name of a git branch: {problem}.", shown(&branch));
            self.report(code::BRANCH_NAME, "/spec/results/branch", detail);
        }
        let devices = match devices {
            None | Some(v1::ResultDevices::All) => ResultDevices::All,
            Some(v1::ResultDevices::Failures) => ResultDevices::Failures,
        };
        if let Some(remote) = &remote {
            let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if remote.is_empty() || remote.starts_with(['-', '.']) || !remote.chars().all(is_name) {
                let detail = format!(
                    "`{}` is not the name of a remote. An address does not stand in a document that anybody may \
                        propose to change: \
                     configure it where fleetform runs, with `git remote add NAME ADDRESS`.",
                    shown(remote)
                );
                self.report(code::REMOTE_NAME, "/spec/results/remote", detail);
            }
        }
        ResultsConfig { branch, devices, remote }
    }

    fn limits(&mut self, limits: v1::Limits) -> FleetLimits {
        let v1::Limits { running_jobs, in_flight } = limits;
        let running_jobs = running_jobs.unwrap_or(limits::RUNNING_JOBS_DEFAULT);
        let in_flight = in_flight.unwrap_or(limits::IN_FLIGHT_DEFAULT);
        FleetLimits {
            running_jobs: self.range(running_jobs, 1, limits::RUNNING_JOBS_MAX, "/spec/limits/runningJobs"),
            in_flight: self.range(in_flight, 1, limits::IN_FLIGHT_MAX, "/spec/limits/inFlight"),
        }
    }
}

/// Returns why git would refuse a branch name (git-check-ref-format(1)), or `None`.
fn branch_problem(name: &str) -> Option<&'static str> {
    let illegal = |c: char| c.is_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    if name.is_empty() {
        Some("it is empty")
    } else if name.chars().any(illegal) {
        Some("spaces, control characters and `~^:?*[\\` are not allowed")
    } else if name.contains("..") || name.contains("@{") || name == "@" {
        Some("`..`, `@{` and a lone `@` are not allowed")
    } else if name.starts_with("refs/") || name == "HEAD" {
        Some("it is written without `refs/heads/`")
    } else if name.starts_with('-') {
        Some("it cannot start with `-`")
    } else if name.split('/').any(str::is_empty) {
        Some("it cannot start or end with `/` or contain `//`")
    } else if name.split('/').any(|part| part.starts_with('.') || part.ends_with(".lock")) || name.ends_with('.') {
        Some("no part may start with `.` or end with `.lock`, and it cannot end with `.`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::branch_problem;

    #[test]
    fn branch_names_are_those_of_git() {
        for good in ["fleetform/results", "a", "a.b/c-d", "fleetform/results-staging", "ä"] {
            assert_eq!(branch_problem(good), None, "{good}");
        }
        let bad =
            "|a b|a..b|~a|a^|a:b|a?|a*|a[|a\\b|-a|/a|a/|a//b|a.lock|a.lock/b|.a|a/.b|a.|@|a@{b|HEAD|refs/heads/a|a\tb";
        for bad in bad.split('|') {
            assert!(branch_problem(bad).is_some(), "{bad}");
        }
    }
}
