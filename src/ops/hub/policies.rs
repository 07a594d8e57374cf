//! The policies of back ends with their keys: those of the Fleet document, or those that `gateway init` has made.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::HubError;
use super::desk::Desk;
use crate::model::hub::{HubPolicy, HubRight};
use crate::model::secret::SecretRef;
use crate::ops::{Environment, OpsError, Workspace};
use crate::prepare::OWN_FOLDER;

/// The file of the policies that `gateway init` makes, in the folder of this machine.
const FILE: &str = "gateway.json";
/// The bytes of a key of IoT Hub.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
const KEY_BYTES_MADE: usize = 32;

/// A policy with its keys.
#[derive(Clone)]
pub struct KeyedPolicy {
    /// One or two.
    pub keys: Vec<Vec<u8>>,
    pub rights: Vec<HubRight>,
    /// The most devices of one of its jobs.
    pub devices_max: Option<u64>,
}

/// Leaves the keys out.
impl std::fmt::Debug for KeyedPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedPolicy").field("rights", &self.rights).finish_non_exhaustive()
    }
}

/// IoT Hub's five policies.
const DEFAULT: [(&str, &[HubRight]); 5] = [
    ("iothubowner", &HubRight::ALL),
    ("service", &[HubRight::ServiceConnect]),
    ("device", &[HubRight::DeviceConnect]),
    ("registryRead", &[HubRight::RegistryRead]),
    ("registryReadWrite", &[HubRight::RegistryRead, HubRight::RegistryWrite]),
];

impl Desk<'_> {
    /// Returns the policies by name, and a sentence for each that cannot be used.
    ///
    /// # Errors
    /// The Fleet document or the file of the policies cannot be read.
    pub fn policies(&mut self) -> Result<(BTreeMap<String, KeyedPolicy>, Vec<String>), HubError> {
        let Some(declared) = self.api()?.policies else {
            return Ok((self.made_policies()?, Vec::new()));
        };
        let (mut found, mut faults) = (BTreeMap::new(), Vec::new());
        for (name, policy) in declared {
            match self.keyed(&policy) {
                Ok(policy) => drop(found.insert(name, policy)),
                Err(fault) => faults.push(format!("the policy `{name}` cannot be used: {fault}")),
            }
        }
        Ok((found, faults))
    }

    /// Reads keys that lie on this machine, one or two.
    pub(super) fn keys(&self, primary: &SecretRef, secondary: Option<&SecretRef>) -> Result<Vec<Vec<u8>>, String> {
        let read = |reference: &SecretRef| {
            let key = STANDARD.decode(self.secret(reference)?.trim()).ok();
            let key = key.filter(|key| KEY_BYTES.contains(&key.len()));
            key.ok_or_else(|| format!("{reference} is no key of 16 to 64 bytes in Base64"))
        };
        std::iter::once(primary).chain(secondary).map(read).collect()
    }

    fn keyed(&self, policy: &HubPolicy) -> Result<KeyedPolicy, String> {
        Ok(KeyedPolicy {
            keys: self.keys(&policy.primary, policy.secondary.as_ref())?,
            rights: policy.rights.iter().copied().collect(),
            devices_max: policy.devices_max,
        })
    }

    fn made_policies(&self) -> Result<BTreeMap<String, KeyedPolicy>, HubError> {
        let path = file_of(self.workspace);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(HubError::Unavailable(format!("{}: {error}", path.display()))),
        };
        self.workspace.refuse_tracked(&[PathBuf::from(OWN_FOLDER).join(FILE)])?;
        let document: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut found = BTreeMap::new();
        for (name, policy) in document["policies"].as_object().unwrap_or(&Map::new()) {
            let key = |member: &str| STANDARD.decode(policy[member].as_str()?).ok().filter(|key| !key.is_empty());
            let keys: Vec<Vec<u8>> = ["primary", "secondary"].into_iter().filter_map(key).collect();
            let words = policy["rights"].as_array().cloned().unwrap_or_default();
            let rights = words.iter().filter_map(Value::as_str).filter_map(HubRight::parse).collect();
            if !keys.is_empty() {
                found.insert(name.clone(), KeyedPolicy { keys, rights, devices_max: None });
            }
        }
        Ok(found)
    }
}

fn file_of(workspace: &Workspace) -> PathBuf {
    workspace.repo.shared_folder().join(OWN_FOLDER).join(FILE)
}

/// Makes IoT Hub's five policies with new keys, in a file that its owner alone can read. Returns its path.
///
/// # Errors
/// There is one already, there is no repository, or it cannot be written.
pub fn make_policies(environment: &Environment) -> Result<PathBuf, OpsError> {
    let workspace = Workspace::open(environment)?;
    workspace.refuse_tracked(&[PathBuf::from(OWN_FOLDER).join(FILE)])?;
    let path = file_of(&workspace);
    let fail = |source| OpsError::Output { what: format!("{} cannot be written", path.display()), source };
    let mut policies = Map::new();
    for (name, rights) in DEFAULT {
        let key = || {
            let mut bytes = [0; KEY_BYTES_MADE];
            getrandom::fill(&mut bytes).map(|()| STANDARD.encode(bytes)).map_err(std::io::Error::other).map_err(fail)
        };
        let rights: Vec<&str> = rights.iter().map(|right| right.as_str()).collect();
        policies.insert(name.to_string(), json!({"primary": key()?, "secondary": key()?, "rights": rights}));
    }
    let folder = path.parent().unwrap_or(&path);
    std::fs::create_dir_all(folder).map_err(fail)?;
    if !folder.join(".gitignore").exists() {
        std::fs::write(folder.join(".gitignore"), "*\n").map_err(fail)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = match options.open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(OpsError::Usage {
                what: format!("{} exists already", path.display()),
                help: "Its keys are in use, perhaps. Remove the file to make new ones, or edit it to change one."
                    .to_string(),
            });
        }
        opened => opened.map_err(fail)?,
    };
    let text = format!("{:#}\n", json!({ "policies": policies }));
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
    Ok(path)
}

/// Returns the connection string of a policy for back ends.
///
/// # Errors
/// The fleet has no hub or no such policy, or its key cannot be read.
pub fn connection_string(environment: &Environment, policy: &str, port: Option<u16>) -> Result<String, OpsError> {
    let workspace = Workspace::open(environment)?;
    let followed = super::Followed::of(environment, None, None)?;
    let mut desk = Desk::new(&workspace, followed);
    let usage = |what: String, help: &str| OpsError::Usage { what, help: help.to_string() };
    let failed = |error: HubError| match error {
        HubError::Ops(error) => error,
        other => usage(other.to_string(), "`docs/gateway.md` says what a hub needs."),
    };
    let config = desk.config().map_err(failed)?;
    let (policies, faults) = desk.policies().map_err(failed)?;
    let Some(found) = policies.get(policy) else {
        let known: Vec<&str> = policies.keys().map(String::as_str).collect();
        let what = match faults.iter().find(|fault| fault.contains(&format!("`{policy}`"))) {
            Some(fault) => fault.clone(),
            None => format!("there is no policy `{}`", crate::diag::shown(policy)),
        };
        let help = match known[..] {
            [] => "`fleetform gateway init` makes IoT Hub's five policies.".to_string(),
            _ => format!("The policies are {}.", known.join(", ")),
        };
        return Err(usage(what, &help));
    };
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    let key = STANDARD.encode(&found.keys[0]);
    Ok(format!("HostName={}{port};SharedAccessKeyName={policy};SharedAccessKey={key}", config.host_name))
}
