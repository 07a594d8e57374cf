//! What a JSON object is, by its shape.

use serde_json::{Map, Value};

use crate::diag::shown;

/// What is converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    CentralOrganization,
    CentralDevice,
    CentralDeviceProperties,
    CentralJob,
    CentralScheduledJob,
    CentralDeviceGroup,
    CentralDeviceTemplate,
    CentralDeploymentManifest,
    HubJob,
    HubConfiguration,
}

impl Source {
    /// Every kind.
    pub const ALL: [Source; 10] = [
        Source::CentralJob,
        Source::CentralScheduledJob,
        Source::CentralDeviceGroup,
        Source::CentralDeviceTemplate,
        Source::CentralDeploymentManifest,
        Source::CentralOrganization,
        Source::CentralDevice,
        Source::CentralDeviceProperties,
        Source::HubJob,
        Source::HubConfiguration,
    ];

    /// Returns the word of `--from`.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::CentralOrganization => "iot-central-organization",
            Source::CentralDevice => "iot-central-device",
            Source::CentralDeviceProperties => "iot-central-device-properties",
            Source::CentralJob => "iot-central-job",
            Source::CentralScheduledJob => "iot-central-scheduled-job",
            Source::CentralDeviceGroup => "iot-central-device-group",
            Source::CentralDeviceTemplate => "iot-central-device-template",
            Source::CentralDeploymentManifest => "iot-central-deployment-manifest",
            Source::HubJob => "iot-hub-job",
            Source::HubConfiguration => "iot-hub-configuration",
        }
    }

    /// Returns what a sentence calls it.
    pub fn noun(self) -> &'static str {
        match self {
            Source::CentralOrganization => "IoT Central organization",
            Source::CentralDevice => "IoT Central device",
            Source::CentralDeviceProperties => "properties of an IoT Central device",
            Source::CentralJob => "IoT Central job",
            Source::CentralScheduledJob => "IoT Central scheduled job",
            Source::CentralDeviceGroup => "IoT Central device group",
            Source::CentralDeviceTemplate => "IoT Central device template",
            Source::CentralDeploymentManifest => "IoT Central deployment manifest",
            Source::HubJob => "IoT Hub job",
            Source::HubConfiguration => "IoT Hub configuration",
        }
    }

    /// Returns the kind of a word, or `None`.
    pub fn parse(word: &str) -> Option<Source> {
        Source::ALL.into_iter().find(|source| source.as_str() == word)
    }

    /// Returns what an object is by the members that only its kind has; the first that fits:
    ///
    /// | kind | its members |
    /// | --- | --- |
    /// | IoT Hub job | `queryCondition`, `updateTwin` or `cloudToDeviceMethod`, or one of its two words in `type` |
    /// | IoT Hub configuration | `targetCondition`, or `content` with a content of devices or modules |
    /// | IoT Central device template | `capabilityModel` |
    /// | IoT Central deployment manifest | `data` with `modulesContent` |
    /// | IoT Central scheduled job | `data` and `schedule` |
    /// | IoT Central job | `data` that is an array |
    /// | IoT Central device group | `filter` |
    /// | IoT Central device | `enabled` with `provisioned` or `simulated` |
    /// | properties of an IoT Central device | `id`, and an object `properties`, `cloudProperties` or `credentials` |
    /// | IoT Central organization | `id` and `displayName`, and at most `parent` and `etag` beside them |
    ///
    /// # Errors
    /// It is none of them; whole sentences.
    pub fn of(members: &Map<String, Value>) -> Result<Source, String> {
        if let Some(code) = error_of(members) {
            let code = shown(code);
            return Err(format!("This is the error `{code}` that the API answered with: ask for it again."));
        }
        let has = |name: &str| members.get(name).is_some_and(|value| !value.is_null());
        let within = |name: &str, inner: &str| members.get(name).is_some_and(|value| value.get(inner).is_some());
        let word = members.get("type").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        if matches!(word.as_str(), "import" | "export") || has("inputBlobContainerUri") || has("outputBlobContainerUri")
        {
            return Err("This is a job that imports or exports device identities, which has no equal. Declare a \
                        `DeviceImport` with the file that it wrote."
                .to_string());
        }
        let is_hub_job = matches!(word.as_str(), "scheduleupdatetwin" | "scheduledevicemethod");
        if is_hub_job || has("queryCondition") || has("updateTwin") || has("cloudToDeviceMethod") {
            return Ok(Source::HubJob);
        }
        let contents = ["deviceContent", "moduleContent", "modulesContent"];
        if members.contains_key("targetCondition") || contents.iter().any(|inner| within("content", inner)) {
            return Ok(Source::HubConfiguration);
        }
        if let Some(old) = crate::template::version_1(members) {
            return Err(old.to_string());
        }
        if crate::template::is_interface(members) {
            return Err(
                "This is a DTDL interface, which needs no conversion: put the file beside a `DeviceTemplate` that \
                        names it in `model`."
                    .to_string(),
            );
        }
        if has("capabilityModel") {
            return Ok(Source::CentralDeviceTemplate);
        }
        if within("data", "modulesContent") {
            return Ok(Source::CentralDeploymentManifest);
        }
        let is_list = members.get("data").is_some_and(Value::is_array);
        if is_list && has("schedule") {
            return Ok(Source::CentralScheduledJob);
        }
        if is_list {
            return Ok(Source::CentralJob);
        }
        if has("filter") {
            return Ok(Source::CentralDeviceGroup);
        }
        if has("enabled") && (has("provisioned") || has("simulated")) {
            return Ok(Source::CentralDevice);
        }
        let is_object = |name: &str| members.get(name).is_some_and(Value::is_object);
        if has("id") && ["properties", "cloudProperties", "credentials"].into_iter().any(is_object) {
            return Ok(Source::CentralDeviceProperties);
        }
        let of_organization = ["id", "displayName", "parent", "etag"];
        if has("id") && has("displayName") && members.keys().all(|name| of_organization.contains(&name.as_str())) {
            return Ok(Source::CentralOrganization);
        }
        let keys: Vec<String> = members.keys().take(6).map(|key| format!("`{}`", shown(key))).collect();
        let found = if keys.is_empty() { "no members".to_string() } else { keys.join(", ") };
        Err(format!("This has the shape of nothing that can be converted: it has {found}. {}", expected()))
    }
}

/// Returns the code of an error of the REST APIs, `{"error": {"code": TEXT, …}}` and no other member; `None` for
/// anything else.
pub fn error_of(members: &Map<String, Value>) -> Option<&str> {
    members.get("error").filter(|_| members.len() == 1)?.get("code")?.as_str()
}

/// Returns what a file may hold, as sentences.
pub fn expected() -> String {
    let kinds: Vec<&str> = Source::ALL.iter().map(|source| source.as_str()).collect();
    format!(
        "Expected is the JSON of one of {}: one object, an array, or a page `{{\"value\": [...]}}` of them. `--from` \
            says which \
         it is when its shape does not.",
        kinds.join(", ")
    )
}

/// Returns what messages call an item: its file, its number from 1 in a list, and its id.
pub fn place(file: &str, number: Option<usize>, value: &Value) -> String {
    let id = ["id", "jobId", "@id", "displayName"].iter().find_map(|name| value.get(name)?.as_str());
    let id = id.map_or(String::new(), |id| format!(" ({})", shown(id)));
    match number {
        Some(number) => format!("{file}, item {number}{id}"),
        None => format!("{file}{id}"),
    }
}

/// Returns the id of a device and the member that a file is of it, when the file has the path of the REST API:
/// `…/devices/ID/properties.json`, `cloudProperties.json` or `credentials.json`. Such an answer does not name its
/// device.
pub fn device_of(file: &str) -> Option<(&str, &'static str)> {
    let mut parts = file.rsplit(['/', '\\']);
    let (last, id) = (parts.next()?, parts.next()?);
    let member = ["properties", "cloudProperties", "credentials"];
    let member = member.into_iter().find(|member| last.strip_suffix(".json") == Some(member))?;
    (parts.next() == Some("devices")).then_some((id, member))
}
