//! The table of stable codes. A code is never reused; `fleetform explain CODE` prints its entry. FF203 was a kind that
//! is supported now.
//!
//! `FF1xx` reading a file, `FF2xx` structure, `FF3xx` values, `FF4xx` references and sets, `FF5xx` queries, `FF6xx`
//! what a plan finds. The explanations are the files of `explain/`, one per code.

use super::Severity;

/// A stable diagnostic code such as `FF101`; only codes of [`CODES`] exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub &'static str);

impl Code {
    /// Returns the entry of this code.
    ///
    /// # Panics
    /// When the code is not in [`CODES`], which the table excludes: it makes the constants and the list from one
    /// source.
    pub fn info(self) -> &'static CodeInfo {
        let found = CODES.binary_search_by(|info| info.code.cmp(&self));
        &CODES[found.expect("every code is listed in CODES")]
    }

    /// Returns the code of a text such as `FF104` or `ff104`, or `None`.
    pub fn parse(text: &str) -> Option<Code> {
        CODES.iter().find(|info| info.code.0.eq_ignore_ascii_case(text)).map(|info| info.code)
    }
}

/// What a code means: shown by `explain`, in SARIF rules and in the documentation.
#[derive(Debug, Clone, Copy)]
pub struct CodeInfo {
    pub code: Code,
    pub severity: Severity,
    /// Fixed text, without user names, lower-case start.
    pub summary: &'static str,
    /// What it means, why it matters, how to fix it, with a bad and a good example.
    pub explanation: &'static str,
}

/// Makes a constant for every code and the table of all of them.
macro_rules! codes {
    ($($name:ident = $code:literal, $severity:ident, $summary:literal;)*) => {
        $(
            #[doc = $summary]
            pub const $name: Code = Code($code);
        )*

        /// Every code, sorted.
        pub const CODES: &[CodeInfo] = &[$(CodeInfo {
            code: $name,
            severity: Severity::$severity,
            summary: $summary,
            explanation: include_str!(concat!("explain/", $code, ".md")),
        }),*];
    };
}

codes! {
    NOT_UTF8 = "FF101", Error, "file is not UTF-8";
    CONTROL_CHARACTER = "FF102", Error, "control character in a file";
    FILE_TOO_LARGE = "FF103", Error, "file is too large";
    DUPLICATE_KEY = "FF104", Error, "duplicate key";
    YAML_SYNTAX = "FF105", Error, "invalid YAML";
    TOO_DEEP = "FF106", Error, "document is nested too deeply";
    TOO_MANY_NODES = "FF107", Error, "file has too many values";
    MERGE_KEY = "FF108", Error, "merge key";
    YAML_TAG = "FF109", Error, "unsupported YAML tag";
    KEY_NOT_TEXT = "FF110", Error, "key is not text";
    NUMBER = "FF111", Error, "number cannot be represented";
    NOT_A_FILE = "FF112", Error, "not a regular file";
    UNREADABLE = "FF113", Error, "file cannot be read";
    TOO_MANY_DOCUMENTS = "FF114", Error, "too many documents";
    AMBIGUOUS_SCALAR = "FF115", Warning, "plain word that does not mean what it looks like";

    UNSUPPORTED_VERSION = "FF201", Error, "unsupported version";
    UNKNOWN_KIND = "FF202", Error, "unknown kind";
    MISSING_API_VERSION = "FF204", Warning, "document without apiVersion is passed over";
    UNKNOWN_FIELD = "FF205", Error, "unknown field";
    WRONG_TYPE = "FF206", Error, "wrong type";
    MISSING_FIELD = "FF207", Error, "missing field";
    UNKNOWN_WORD = "FF208", Error, "unknown word";
    EXACTLY_ONE = "FF209", Error, "exactly one of these fields is needed";

    NAME = "FF301", Error, "illegal name";
    RUN_TOKEN = "FF302", Error, "illegal run token";
    DURATION = "FF303", Error, "illegal duration";
    AMOUNT = "FF304", Error, "illegal number or percentage";
    PROBABILITY = "FF305", Error, "illegal probability";
    OUT_OF_RANGE = "FF306", Error, "number out of range";
    DEVICE_ID = "FF307", Error, "illegal device id";
    DEVICE_COUNT = "FF308", Error, "no devices or too many";
    DUPLICATE_DEVICE = "FF309", Error, "device listed twice";
    EXPECT_RANGE = "FF310", Error, "expected range is empty";
    BATCH_SIZE_ZERO = "FF311", Error, "batch size is zero";
    TIMEOUT = "FF312", Error, "timeout out of range";
    PATCH_EMPTY = "FF313", Error, "patch changes nothing";
    TWIN_RULE = "FF314", Error, "twin rule broken";
    PATCH_TOO_LARGE = "FF315", Error, "patch is too large";
    PAYLOAD_TOO_LARGE = "FF316", Error, "payload is too large";
    TIME_ZONE = "FF317", Error, "unknown time zone";
    BRANCH_NAME = "FF318", Error, "illegal branch name";
    PATH = "FF319", Error, "illegal path";
    PROPERTY_SCHEMA = "FF320", Error, "illegal cloud property";
    COMMAND_NAME = "FF321", Error, "illegal command name";
    SECRET = "FF322", Error, "secret cannot stand here";
    NO_EFFECT = "FF323", Warning, "field has no effect";
    REMOTE_NAME = "FF324", Error, "not the name of a remote";
    BROKER_URL = "FF325", Error, "not the address of a broker";
    BROKER_TLS = "FF326", Error, "certificates of a broker do not fit together";
    TOPIC_PREFIX = "FF327", Error, "no topics can begin with this";
    REGISTRY_URL = "FF328", Error, "the address of a database cannot stand here";
    HUB_HOST = "FF329", Error, "not the host name of a hub";
    HUB_API = "FF330", Error, "back ends of a hub cannot be served so";
    ALERT = "FF331", Error, "nobody can be told of alerts so";

    UNKNOWN_REFERENCE = "FF401", Error, "reference to nothing";
    DUPLICATE_NAME = "FF402", Error, "two documents of one kind and name";
    FLEET_MISSING = "FF403", Error, "no Fleet document";
    FLEET_SECOND = "FF404", Error, "second Fleet document";
    ORGANIZATION_CYCLE = "FF405", Error, "organizations form a cycle";
    ORGANIZATION_DEPTH = "FF406", Error, "organizations are nested too deeply";
    AFTER_CYCLE = "FF407", Error, "jobs wait for each other";
    OUTSIDE_ORGANIZATION = "FF408", Error, "group lies outside of the job's organization";
    FILE_MISSING = "FF409", Error, "file does not exist";
    FILE_EXTENSION = "FF410", Error, "wrong kind of file";
    FILE_NOT_JSON = "FF411", Error, "file is not valid JSON";
    DEVICE_MODEL = "FF412", Error, "not a DTDL interface";
    EDGE_MODULES = "FF413", Error, "not an edge deployment manifest";
    EDGE_AGENT = "FF430", Error, "edge agent cannot use its properties";
    EDGE_HUB = "FF431", Error, "edge hub cannot use its properties";
    EDGE_MODULE_NAME = "FF432", Error, "illegal name of a module";
    EDGE_ROUTE = "FF433", Error, "invalid route";
    EDGE_UNKNOWN_MODULE = "FF434", Warning, "module is not declared";
    EDGE_PATHS = "FF435", Error, "properties of a module are not written as a whole";
    EDGE_TWIN = "FF436", Error, "module twin cannot hold this";
    TIME_ZONE_MISSING = "FF440", Error, "schedule has no time zone";
    SCHEDULE_START = "FF441", Error, "illegal start of a schedule";
    WEEKDAYS = "FF442", Error, "illegal weekdays";
    SCHEDULE_END = "FF443", Error, "illegal end of a schedule";
    SCHEDULED_FIELD = "FF444", Error, "field has no place in the job of a schedule";
    SHARED_NAME = "FF445", Error, "schedule and job of one name";
    NO_OCCURRENCE = "FF446", Warning, "schedule never runs";
    MISSED_WITHIN = "FF447", Warning, "missed occurrences may wait for longer than the next one";

    QUERY = "FF501", Error, "invalid query";

    IMPORT_FILE = "FF601", Error, "import file cannot be used";
    NOTHING_IMPORTED = "FF602", Error, "nothing would be imported";
    EDITED_RUN = "FF603", Error, "claimed run was edited";
    CONFLICT = "FF604", Error, "jobs want different things of the same devices";
    UNEXPECTED_COUNT = "FF605", Error, "not of the expected size";
    SOURCE_NOT_ENDED = "FF606", Error, "run has not ended yet";
    RENAMED_JOB = "FF607", Error, "job looks like a renamed one";
    TOO_MANY_BATCHES = "FF608", Error, "too many batches";
    FITS_NO_TEMPLATE = "FF611", Error, "job fits none of its devices";
    RESULTS_ON_SOURCE = "FF612", Error, "results go to the branch with the declared files";
    BRANCH_IN_THE_WAY = "FF613", Error, "another branch keeps the results branch from existing";
    SECRET_MISSING = "FF614", Error, "secret cannot be sent";
    EMPTY_TARGET = "FF651", Warning, "target is empty";
    MISSING_DEVICES = "FF652", Warning, "devices are not in the registry";
    REJECTED_ROWS = "FF653", Warning, "rows of an import are rejected";
    OLD_TOKEN = "FF654", Warning, "run token was used before";
    KEYS_IN_FILE = "FF655", Warning, "device keys in a file";
    NEW_REGISTRY = "FF656", Warning, "registry is new";
    BRANCH_GONE = "FF657", Warning, "results branch is gone";
    ALIKE_IDS = "FF658", Warning, "device ids differ only in case";
    MODULES_PASSED_OVER = "FF659", Warning, "modules are not imported";
    TEMPLATE_MISMATCH = "FF661", Warning, "job does not fit some of its devices";
    STRAY_PROPERTIES = "FF662", Warning, "desired properties have no place in the new template";
    NEGATED_PATH = "FF665", Warning, "devices lack what is negated";
    WHOLE_FLEET = "FF666", Warning, "target is the whole fleet";
    GROUP_RESIZED = "FF667", Warning, "group is not as large as it was";
    CLOUD_COLUMN = "FF668", Warning, "cloud properties of a file do not fit the template";
    REWOUND = "FF669", Warning, "history was rewound";
    BRANCH_BEHIND = "FF670", Warning, "results branch is behind";
    SCHEDULED_COUNT = "FF671", Warning, "schedule selects no devices now, or not as many as it expects";
    OTHER_REGISTRY = "FF672", Warning, "another registry works on the fleet";
    OLDER_REGISTRY = "FF673", Warning, "registry is older than the results";
    NAMELESS_DEVICES = "FF674", Warning, "devices of a lost run are not known";
    UNKNOWN_HISTORY = "FF675", Warning, "what has run is not known";
    NO_MERGE_BASE = "FF676", Warning, "histories do not meet";
    SECRET_UNKNOWN = "FF677", Warning, "secret cannot be read here";
    PADDED_CELLS = "FF678", Warning, "texts of a file begin or end with white space";
    POLICY_RULE = "FF680", Error, "illegal rule of a policy";
    REFUSED_BY_POLICY = "FF681", Error, "a policy does not allow it";
    POLICY_UNREADABLE = "FF682", Error, "a policy cannot be read";
    FROZEN = "FF683", Warning, "nothing starts now";
    ACCESS_RULE = "FF684", Error, "illegal rule of access";
    REFUSED_COMMIT = "FF685", Error, "a commit is not allowed to change this";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_unique_and_explained() {
        assert!(CODES.windows(2).all(|pair| pair[0].code < pair[1].code), "CODES must be sorted without duplicates");
        for info in CODES {
            let Code(code) = info.code;
            assert!(info.explanation.len() > 200, "{code} needs an explanation of several sentences");
            assert!(
                info.explanation.contains("Wrong:\n") && info.explanation.contains("Right:\n"),
                "{code} needs examples"
            );
            assert!(info.summary.starts_with(|c: char| !c.is_uppercase() || info.summary.starts_with("YAML")));
        }
        assert_eq!(Code::parse("ff104"), Some(DUPLICATE_KEY));
    }
}
