//! The policies of back ends with their keys, and those that `gateway init` makes.

use std::io::Write as _;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, json};

use super::HubError;
use super::desk::Desk;
use crate::model::hub::HubRight;
use crate::ops::{Environment, OpsError, Workspace};
use crate::prepare::KeyedPolicies;

/// The bytes of a key that is made.
const KEY_BYTES_MADE: usize = 32;

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
    pub fn policies(&mut self) -> Result<KeyedPolicies, HubError> {
        let api = self.api()?;
        Ok(self.workspace.hub_policies(&api)?)
    }
}

/// Makes IoT Hub's five policies with new keys, in a file that its owner alone can read. Returns its path.
///
/// # Errors
/// There is one already, there is no repository, or it cannot be written.
pub fn make_policies(environment: &Environment) -> Result<PathBuf, OpsError> {
    let workspace = Workspace::open(environment)?;
    workspace.refuse_tracked_policies()?;
    let path = workspace.made_policies_file();
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
