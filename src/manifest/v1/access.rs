//! `Access`: who may change what, by the signature of the commit.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::policy::ActionWord;
use super::{OrganizationText, PathText};

/// Who may change what, by the signature of the commit. One per fleet.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessSpec {
    /// A file of SSH keys in git's format of allowed signers, relative to the folder of this document.
    pub allowed_signers: Option<PathText>,
    /// A file of OpenPGP public keys (`gpg --armor --export`), beside the other one or instead.
    pub openpgp_keys: Option<PathText>,
    /// Roles of your own, by name, beside `administrator`, `builder`, `operator`, `viewer` and `merger`.
    #[serde(default)]
    #[schemars(example = json!({"rebooter": {"kinds": ["Job"], "actions": ["command"], "commands": ["reboot"]}}))]
    pub roles: BTreeMap<String, Role>,
    /// Who has which role, and where.
    #[schemars(example = json!([{"who": ["lead@example.com"], "role": "administrator"}]), length(min = 1))]
    pub grants: Vec<Grant>,
}

/// What somebody with the role may change.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Role {
    /// Documents of these kinds.
    #[schemars(example = json!(["Job"]), length(min = 1))]
    pub kinds: Vec<GrantedKind>,
    /// Jobs and schedules with these actions only. Default: with any.
    #[schemars(example = json!(["command"]))]
    pub actions: Option<Vec<ActionWord>>,
    /// Jobs and schedules with these commands only; `*` is any text. Default: with any.
    #[schemars(example = json!(["reboot"]))]
    pub commands: Option<Vec<String>>,
}

/// A kind that a role may be about. All others need an administrator.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub enum GrantedKind {
    DeviceTemplate,
    DeviceGroup,
    EdgeManifest,
    DeviceImport,
    Job,
    Schedule,
}

/// A role for some people.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// The names that the keys have: principals of the allowed signers, or addresses of OpenPGP keys; `*` is any text.
    #[schemars(example = json!(["ops@example.com"]), length(min = 1))]
    pub who: Vec<String>,
    /// The name of a role.
    #[schemars(example = &"operator")]
    pub role: String,
    /// Only documents of this organization and of those below it. Default: of the whole fleet.
    pub organization: Option<OrganizationText>,
}
