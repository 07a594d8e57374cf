//! What back ends may do that use the REST API of IoT Hub.

use std::collections::BTreeMap;

use super::Lowering;
use crate::diag::{code, shown};
use crate::manifest::node::pointer;
use crate::manifest::v1;
use crate::model::hub::{Attestation, EnrolmentGroup, HubApi, HubPolicy, HubRight, Provisioning};
use crate::model::kind::Kind;
use crate::model::patch::{Section, violations};
use crate::model::secret::SecretRef;

/// The longest name of a policy of IoT Hub, in characters.
const POLICY_NAME_CHARS_MAX: usize = 64;

const AT: &str = "/spec/link/iotHub";

impl Lowering<'_> {
    pub(super) fn hub_api(&mut self, hub: v1::IotHub) -> HubApi {
        let v1::IotHub {
            host_name: _,
            device_authorities: _,
            policies,
            direct,
            method_failure,
            jobs,
            retention,
            provisioning,
            telemetry: _,
        } = hub;
        let default = HubApi::default();
        let v1::HubJobs { folder, branch } = jobs.unwrap_or_default();
        let folder = folder.unwrap_or(default.jobs_folder).trim_end_matches('/').to_string();
        self.plain_path(&folder, &format!("{AT}/jobs/folder"));
        let review_branch = branch.filter(|branch| branch != "followed");
        if let Some(branch) = &review_branch
            && (branch.matches("{name}").count() != 1 || branch.contains(char::is_whitespace) || branch.contains(".."))
        {
            let detail = format!("`{}` is neither `followed` nor a branch with one `{{name}}` in it.", shown(branch));
            self.report(code::HUB_API, &format!("{AT}/jobs/branch"), detail);
        }
        HubApi {
            policies: policies.map(|policies| self.hub_policies(policies)),
            refuses_direct: matches!(direct, Some(v1::Direct::Refuse)),
            completes_failures: matches!(method_failure, Some(v1::MethodFailure::Completed)),
            jobs_folder: folder,
            review_branch,
            retention: self.duration(retention.as_ref(), &format!("{AT}/retention"), default.retention),
            provisioning: provisioning.map(|provisioning| self.provisioning(provisioning)),
        }
    }

    fn provisioning(&mut self, written: v1::Provisioning) -> Provisioning {
        let v1::Provisioning { id_scope, groups } = written;
        let id_scope = id_scope.unwrap_or_default();
        if id_scope.is_empty() || !id_scope.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let detail = format!("`{}` is no scope of ids: it has letters and digits.", shown(&id_scope));
            self.report(code::HUB_API, &format!("{AT}/provisioning/idScope"), detail);
        }
        if groups.is_empty() {
            self.report(code::HUB_API, &format!("{AT}/provisioning"), "Without `groups` no device can register.");
        }
        let mut found = BTreeMap::new();
        for (name, group) in groups {
            let at = pointer(["spec", "link", "iotHub", "provisioning", "groups", &name]);
            let v1::EnrolmentGroup { primary, secondary, authority, organization, template, tags } = group;
            let attestation = self.attestation(primary, secondary, authority, &at);
            if let Some(broken) = violations(&tags, Section::Tags).first() {
                let detail = format!("{}: {}.", broken.path.join("."), broken.rule);
                self.report(code::HUB_API, &format!("{at}/tags"), detail);
            }
            let template = template
                .map(|text| self.reference(Kind::DeviceTemplate, &text.0, format!("{at}/template")).to_string());
            let organization = self.organization_reference(organization, &format!("{at}/organization"));
            found.insert(name, EnrolmentGroup { attestation, organization, template, tags });
        }
        Provisioning { id_scope, groups: found }
    }

    /// Returns what the devices of a group prove themselves with: keys, or an authority.
    fn attestation(
        &mut self,
        primary: Option<v1::CredentialPlace>,
        secondary: Option<v1::CredentialPlace>,
        authority: Option<v1::DeviceAuthority>,
        at: &str,
    ) -> Attestation {
        let Some(v1::DeviceAuthority { file }) = authority else {
            if primary.is_none() {
                let detail =
                    "A group needs a key or an authority: `primary: {env: NAME}`, or `authority: {file: PATH}`.";
                self.report(code::HUB_API, at, detail);
            }
            let primary = primary.and_then(|place| self.credential(place, &format!("{at}/primary")));
            let secondary = secondary.and_then(|place| self.credential(place, &format!("{at}/secondary")));
            return Attestation::Keys { primary: primary.unwrap_or(SecretRef::Env(String::new())), secondary };
        };
        if primary.is_some() || secondary.is_some() {
            let detail = "A group has keys or an authority, not both: make two groups.";
            self.report(code::HUB_API, &format!("{at}/authority"), detail);
        }
        let file = file.filter(|file| !file.trim().is_empty());
        if file.is_none() {
            let detail = "An authority is a PEM file: `file: PATH`.";
            self.report(code::HUB_API, &format!("{at}/authority"), detail);
        }
        Attestation::Authority { file: file.unwrap_or_default() }
    }

    fn hub_policies(&mut self, policies: BTreeMap<String, v1::HubPolicy>) -> BTreeMap<String, HubPolicy> {
        let mut found = BTreeMap::new();
        for (name, policy) in policies {
            let at = pointer(["spec", "link", "iotHub", "policies", &name]);
            let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if name.is_empty() || name.len() > POLICY_NAME_CHARS_MAX || !name.chars().all(is_legal) {
                let detail = format!(
                    "`{}` is no name of a policy: 1 to {POLICY_NAME_CHARS_MAX} letters, digits, `-`, `_` and `.`.",
                    shown(&name)
                );
                self.report(code::HUB_API, &at, detail);
            }
            let v1::HubPolicy { primary, secondary, rights, max_devices } = policy;
            if primary.is_none() {
                self.report(code::HUB_API, &at, "A policy needs a key: `primary: {env: NAME}`.");
            }
            if rights.is_empty() {
                self.report(code::HUB_API, &at, "A policy without `rights` allows nothing.");
            }
            let primary = primary.and_then(|place| self.credential(place, &format!("{at}/primary")));
            let secondary = secondary.and_then(|place| self.credential(place, &format!("{at}/secondary")));
            let rights = rights.into_iter().map(right).collect();
            let primary = primary.unwrap_or(SecretRef::Env(String::new()));
            found.insert(name, HubPolicy { primary, secondary, rights, devices_max: max_devices });
        }
        found
    }
}

fn right(written: v1::HubRight) -> HubRight {
    match written {
        v1::HubRight::RegistryRead => HubRight::RegistryRead,
        v1::HubRight::RegistryWrite => HubRight::RegistryWrite,
        v1::HubRight::ServiceConnect => HubRight::ServiceConnect,
        v1::HubRight::DeviceConnect => HubRight::DeviceConnect,
    }
}
