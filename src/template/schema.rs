//! The schemas of values.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::bounds::Bounds;

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

/// The types of complex schemas.
pub const COMPLEX: [&str; 4] = ["Array", "Enum", "Map", "Object"];

/// A schema. Cheap to clone: a shared schema exists once.
#[derive(Debug, Clone)]
pub struct Schema {
    pub form: Arc<Form>,
    /// Arrays, maps and objects within each other, itself included; 0 for a word and for an enum.
    pub depth: usize,
    /// It is or has an array.
    pub has_array: bool,
    pub bounds: Option<Arc<Bounds>>,
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
    /// Returns the schema of lists.
    pub fn array(element: Schema) -> Schema {
        Schema { depth: element.depth + 1, has_array: true, ..Schema::of_form(Form::Array(element)) }
    }

    /// Returns the schema of one of some values.
    pub fn enumeration(values: Vec<Value>) -> Schema {
        Schema::of_form(Form::Enum(values))
    }

    /// Returns the schema of maps to such values.
    pub fn map(value: Schema) -> Schema {
        Schema { depth: value.depth + 1, has_array: value.has_array, ..Schema::of_form(Form::Map(value)) }
    }

    /// Returns the schema of objects with some fields.
    pub fn object(fields: BTreeMap<String, Schema>) -> Schema {
        let depth = fields.values().map(|schema| schema.depth).max().unwrap_or(0) + 1;
        let has_array = fields.values().any(|schema| schema.has_array);
        Schema { depth, has_array, ..Schema::of_form(Form::Object(fields)) }
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
        // The coordinates of a geometry are a list.
        let has_array = matches!(form, Form::Geometry(_));
        Schema { form: Arc::new(form), depth: 0, has_array, bounds: None }
    }
}
