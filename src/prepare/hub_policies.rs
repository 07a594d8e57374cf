//! The policies of a hub with their keys: those of the Fleet document, or those that `gateway init` has made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{OWN_FOLDER, PrepareError, Workspace};
use crate::model::hub::{HubApi, HubPolicy, HubRight};
use crate::model::secret::SecretRef;

/// The file of the policies that `gateway init` makes, in the folder of this machine.
const FILE: &str = "gateway.json";
/// The bytes of a key of IoT Hub.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

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

/// Policies by name, and a sentence for each that cannot be used.
pub type KeyedPolicies = (BTreeMap<String, KeyedPolicy>, Vec<String>);

impl Workspace {
    /// Returns the policies of a hub, and a sentence for each that cannot be used.
    ///
    /// # Errors
    /// The file of the policies cannot be read, or is under git's control.
    pub fn hub_policies(&self, api: &HubApi) -> Result<KeyedPolicies, PrepareError> {
        let Some(declared) = &api.policies else {
            return Ok((self.made_policies()?, Vec::new()));
        };
        let (mut found, mut faults) = (BTreeMap::new(), Vec::new());
        for (name, policy) in declared {
            match self.keyed(policy) {
                Ok(policy) => drop(found.insert(name.clone(), policy)),
                Err(fault) => faults.push(format!("the policy `{name}` cannot be used: {fault}")),
            }
        }
        Ok((found, faults))
    }

    /// Reads keys that lie on this machine, one or two.
    ///
    /// # Errors
    /// A sentence on why one cannot be used, without it.
    pub fn keys_of_hub(&self, primary: &SecretRef, secondary: Option<&SecretRef>) -> Result<Vec<Vec<u8>>, String> {
        let read = |reference: &SecretRef| {
            let text = self.secret(reference).map_err(|fault| format!("{reference} {fault}"))?;
            let key = STANDARD.decode(text.as_str().trim()).ok();
            let key = key.filter(|key| KEY_BYTES.contains(&key.len()));
            key.ok_or_else(|| format!("{reference} is no key of 16 to 64 bytes in Base64"))
        };
        std::iter::once(primary).chain(secondary).map(read).collect()
    }

    fn keyed(&self, policy: &HubPolicy) -> Result<KeyedPolicy, String> {
        Ok(KeyedPolicy {
            keys: self.keys_of_hub(&policy.primary, policy.secondary.as_ref())?,
            rights: policy.rights.iter().copied().collect(),
            devices_max: policy.devices_max,
        })
    }

    fn made_policies(&self) -> Result<BTreeMap<String, KeyedPolicy>, PrepareError> {
        let path = self.made_policies_file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => {
                return Err(PrepareError::Output { what: format!("{} cannot be read", path.display()), source });
            }
        };
        self.refuse_tracked_policies()?;
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

    /// Returns the path of the policies that `gateway init` makes.
    pub fn made_policies_file(&self) -> PathBuf {
        self.repo.shared_folder().join(OWN_FOLDER).join(FILE)
    }

    /// Refuses policies that come from a commit: they hold keys.
    ///
    /// # Errors
    /// As [`Workspace::refuse_tracked`].
    pub fn refuse_tracked_policies(&self) -> Result<(), PrepareError> {
        self.refuse_tracked(&[PathBuf::from(OWN_FOLDER).join(FILE)])
    }
}
