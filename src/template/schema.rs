//! The schemas of values.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// Every schema that is a word: the primitive ones, the geospatial ones (GeoJSON), and the two of IoT Central.
pub const WORDS: [&str; 18] = [
    "boolean",
    "date",
    "dateTime",
    "double",
    "duration",
    "float",
    "integer",
    "long",
    "string",
    "time",
    "lineString",
    "multiLineString",
    "multiPoint",
    "multiPolygon",
    "point",
    "polygon",
    "geopoint",
    "vector",
];

/// What may stand before a word in place of the word alone.
const WORD_PREFIXES: [&str; 3] =
    ["dtmi:dtdl:instance:Schema:", "dtmi:standard:schema:geospatial:", "dtmi:iotcentral:schema:"];

/// A schema. Cheap to clone: a shared schema exists once.
#[derive(Debug, Clone)]
pub struct Schema {
    pub form: Arc<Form>,
    /// Complex schemas within each other, itself included; 0 for a word.
    pub depth: usize,
}

/// What values look like.
#[derive(Debug)]
pub enum Form {
    Boolean,
    Date,
    DateTime,
    /// `float` and `double`: a number of JSON knows no difference.
    Number {
        word: &'static str,
        most: f64,
    },
    Duration,
    /// `integer` (32 bits) and `long` (64 bits).
    Integer {
        word: &'static str,
        bits: u32,
    },
    Text,
    Time,
    /// A GeoJSON geometry of this `type`.
    Geometry(&'static str),
    Array(Schema),
    /// One of these, integers or strings.
    Enum(Vec<Value>),
    /// Any keys with such values.
    Map(Schema),
    /// Some of these fields.
    Object(BTreeMap<String, Schema>),
}

impl Schema {
    /// Returns a schema made of others.
    pub fn complex(form: Form, depth: usize) -> Schema {
        Schema { form: Arc::new(form), depth }
    }

    /// Returns the schema of a word, also when it is written as its identifier such as
    /// `dtmi:dtdl:instance:Schema:string;2`.
    pub fn of_word(text: &str) -> Option<Schema> {
        let rest = WORD_PREFIXES.iter().find_map(|prefix| text.strip_prefix(prefix));
        let word = rest.map_or(text, |rest| rest.split_once(';').map_or(rest, |(word, _)| word));
        let fields = |names: [&str; 3]| {
            let number =
                |name: &str| (name.to_string(), Schema::of_form(Form::Number { word: "double", most: f64::MAX }));
            Form::Object(names.into_iter().map(number).collect())
        };
        let form = match word {
            "boolean" => Form::Boolean,
            "date" => Form::Date,
            "dateTime" => Form::DateTime,
            "double" => Form::Number { word: "double", most: f64::MAX },
            "duration" => Form::Duration,
            "float" => Form::Number { word: "float", most: f64::from(f32::MAX) },
            "integer" => Form::Integer { word: "integer", bits: 32 },
            "long" => Form::Integer { word: "long", bits: 64 },
            "string" => Form::Text,
            "time" => Form::Time,
            "lineString" => Form::Geometry("LineString"),
            "multiLineString" => Form::Geometry("MultiLineString"),
            "multiPoint" => Form::Geometry("MultiPoint"),
            "multiPolygon" => Form::Geometry("MultiPolygon"),
            "point" => Form::Geometry("Point"),
            "polygon" => Form::Geometry("Polygon"),
            "geopoint" => fields(["lat", "lon", "alt"]),
            "vector" => fields(["x", "y", "z"]),
            _ => return None,
        };
        Some(Schema::of_form(form))
    }

    /// Returns true for an object with named fields.
    pub fn is_object(&self) -> bool {
        matches!(*self.form, Form::Object(_))
    }

    fn of_form(form: Form) -> Schema {
        Schema { form: Arc::new(form), depth: 0 }
    }
}
