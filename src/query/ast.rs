//! The parsed condition: a tree whose nodes know their bytes in the query text.
//!
//! Built by `parse`, read by `check`, `eval` and by the SQL lowering in `registry`. The tree is at most
//! `limits::QUERY_DEPTH_MAX` nodes high (AND and OR hold all operands of a chain), so every walk may recurse.

use std::fmt;

use crate::model::patch::Section;

/// A node with its half-open byte range in the query text.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    /// The first byte, including an opening parenthesis that belongs to an operand.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// `*`: every device.
    All,
    /// A constant.
    Literal(Literal),
    /// A property of the device.
    Path(PathRef),
    /// `[a, b]` in any place but the right of IN and NIN.
    Array(Vec<Expr>),
    /// At least two operands.
    And(Vec<Expr>),
    /// At least two operands.
    Or(Vec<Expr>),
    Not(Box<Expr>),
    /// Unary minus of anything but a number literal, which is folded.
    Negate(Box<Expr>),
    Compare(Comparison, Box<Expr>, Box<Expr>),
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    /// IN and NIN with the elements of the array, in order, possibly none.
    Member(Membership, Box<Expr>, Vec<Expr>),
    Call(Function, Vec<Expr>),
}

/// A constant.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Undefined,
    Null,
    Bool(bool),
    Number(Number),
    String(String),
}

/// A number: an integer while it fits, else a finite float.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    Integer(i64),
    Real(f64),
}

impl Number {
    /// Returns the nearest float.
    pub fn to_f64(self) -> f64 {
        match self {
            Number::Integer(integer) => integer as f64,
            Number::Real(real) => real,
        }
    }

    /// Compares by exact numeric value, so that 2^53 + 1 differs from the float 2^53. SQLite does the same.
    pub fn compare(self, other: Number) -> std::cmp::Ordering {
        match (self, other) {
            (Number::Integer(left), Number::Integer(right)) => left.cmp(&right),
            (Number::Integer(left), Number::Real(right)) => compare_mixed(left, right),
            (Number::Real(left), Number::Integer(right)) => compare_mixed(right, left).reverse(),
            (Number::Real(left), Number::Real(right)) => {
                left.partial_cmp(&right).expect("numbers are finite, so never NaN")
            }
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Number) -> bool {
        self.compare(*other).is_eq()
    }
}

fn compare_mixed(integer: i64, real: f64) -> std::cmp::Ordering {
    const BEYOND_I64: f64 = 9_223_372_036_854_775_808.0;
    if real >= BEYOND_I64 {
        return std::cmp::Ordering::Less;
    }
    if real < -BEYOND_I64 {
        return std::cmp::Ordering::Greater;
    }
    let whole = real.trunc();
    integer.cmp(&(whole as i64)).then_with(|| whole.partial_cmp(&real).expect("numbers are finite, so never NaN"))
}

/// `=`, `!=` (also `<>`), `<`, `<=`, `>`, `>=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// Returns the operator as it is written, which SQL understands too.
    pub fn as_str(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }

    /// Returns the operator that is true exactly where this one is false.
    #[must_use]
    pub fn negated(self) -> Comparison {
        match self {
            Comparison::Equal => Comparison::NotEqual,
            Comparison::NotEqual => Comparison::Equal,
            Comparison::Less => Comparison::GreaterOrEqual,
            Comparison::LessOrEqual => Comparison::Greater,
            Comparison::Greater => Comparison::LessOrEqual,
            Comparison::GreaterOrEqual => Comparison::Less,
        }
    }

    /// Returns the operator that says the same with its operands swapped.
    #[must_use]
    pub fn mirrored(self) -> Comparison {
        match self {
            Comparison::Equal => Comparison::Equal,
            Comparison::NotEqual => Comparison::NotEqual,
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        }
    }

    /// Returns true when operands in this order satisfy the operator.
    pub fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::NotEqual => ordering.is_ne(),
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

/// `+`, `-`, `*`, `/`, `%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Arithmetic {
    /// Returns the operator as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Remainder => "%",
        }
    }
}

/// `IN` and `NIN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    In,
    NotIn,
}

impl Membership {
    /// Returns the keyword.
    pub fn as_str(self) -> &'static str {
        match self {
            Membership::In => "IN",
            Membership::NotIn => "NIN",
        }
    }
}

/// A built-in function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    IsDefined,
    IsNull,
    IsString,
    IsNumber,
    IsBool,
    IsObject,
    IsArray,
    /// A string, number, boolean or null.
    IsPrimitive,
    StartsWith,
    EndsWith,
    Contains,
    /// All letters of Unicode.
    Lower,
    /// All letters of Unicode.
    Upper,
    /// Code points of a string, elements of an array.
    Length,
}

impl Function {
    /// Every function.
    pub const ALL: [Function; 14] = [
        Function::IsDefined,
        Function::IsNull,
        Function::IsString,
        Function::IsNumber,
        Function::IsBool,
        Function::IsObject,
        Function::IsArray,
        Function::IsPrimitive,
        Function::StartsWith,
        Function::EndsWith,
        Function::Contains,
        Function::Lower,
        Function::Upper,
        Function::Length,
    ];

    /// Returns the name as our documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Function::IsDefined => "is_defined",
            Function::IsNull => "is_null",
            Function::IsString => "is_string",
            Function::IsNumber => "is_number",
            Function::IsBool => "is_bool",
            Function::IsObject => "is_object",
            Function::IsArray => "is_array",
            Function::IsPrimitive => "is_primitive",
            Function::StartsWith => "startswith",
            Function::EndsWith => "endswith",
            Function::Contains => "contains",
            Function::Lower => "lower",
            Function::Upper => "upper",
            Function::Length => "length",
        }
    }

    /// Returns the function of a name in any case, with or without the underscore of `starts_with`; else `None`.
    pub fn parse(name: &str) -> Option<Function> {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "starts_with" => Some(Function::StartsWith),
            "ends_with" => Some(Function::EndsWith),
            name => Function::ALL.into_iter().find(|function| function.as_str() == name),
        }
    }

    /// Returns the number of its arguments, at least 1.
    pub fn arity(self) -> usize {
        match self {
            Function::StartsWith | Function::EndsWith | Function::Contains => 2,
            Function::IsDefined
            | Function::IsNull
            | Function::IsString
            | Function::IsNumber
            | Function::IsBool
            | Function::IsObject
            | Function::IsArray
            | Function::IsPrimitive
            | Function::Lower
            | Function::Upper
            | Function::Length => 1,
        }
    }

    /// Returns true for the `is_*` functions: true or false of every value, undefined included.
    pub fn is_type_test(self) -> bool {
        match self {
            Function::IsDefined
            | Function::IsNull
            | Function::IsString
            | Function::IsNumber
            | Function::IsBool
            | Function::IsObject
            | Function::IsArray
            | Function::IsPrimitive => true,
            Function::StartsWith
            | Function::EndsWith
            | Function::Contains
            | Function::Lower
            | Function::Upper
            | Function::Length => false,
        }
    }
}

/// Where a path starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    DeviceId,
    DeviceName,
    Template,
    Organization,
    /// The `@id` of the interface of the template; undefined until [`with_models`](super::with_models) has replaced it.
    Model,
    /// `'enabled'`, or `'disabled'` when blocked.
    Status,
    ConnectionState,
    /// RFC 3339, or undefined.
    LastActivityTime,
    Simulated,
    Blocked,
    IotEdge,
    /// `$provisioned` of IoT Central: true in the state `provisioned`.
    Provisioned,
    Tags,
    Cloud,
    Desired,
    Reported,
    /// `properties.desired.$version`.
    DesiredVersion,
    /// `properties.reported.$version`.
    ReportedVersion,
    /// Always undefined: jobs address devices, not modules.
    ModuleId,
    /// Always undefined: fleetform has no IoT Hub configurations.
    Configurations,
}

impl Root {
    /// Returns the root as our documents write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Root::DeviceId => "deviceId",
            Root::DeviceName => "deviceName",
            Root::Template => "template",
            Root::Organization => "organization",
            Root::Model => "modelId",
            Root::Status => "status",
            Root::ConnectionState => "connectionState",
            Root::LastActivityTime => "lastActivityTime",
            Root::Simulated => "simulated",
            Root::Blocked => "blocked",
            Root::IotEdge => "capabilities.iotEdge",
            Root::Provisioned => "$provisioned",
            Root::Tags => "tags",
            Root::Cloud => "cloud",
            Root::Desired => "properties.desired",
            Root::Reported => "properties.reported",
            Root::DesiredVersion => "properties.desired.$version",
            Root::ReportedVersion => "properties.reported.$version",
            Root::ModuleId => "moduleId",
            Root::Configurations => "configurations",
        }
    }

    /// Returns the twin section that a path with keys is looked up in; `None` for system properties.
    pub fn section(self) -> Option<Section> {
        match self {
            Root::Tags => Some(Section::Tags),
            Root::Cloud => Some(Section::Cloud),
            Root::Desired => Some(Section::Desired),
            Root::Reported => Some(Section::Reported),
            Root::DeviceId
            | Root::DeviceName
            | Root::Template
            | Root::Organization
            | Root::Model
            | Root::Status
            | Root::ConnectionState
            | Root::LastActivityTime
            | Root::Simulated
            | Root::Blocked
            | Root::IotEdge
            | Root::Provisioned
            | Root::DesiredVersion
            | Root::ReportedVersion
            | Root::ModuleId
            | Root::Configurations => None,
        }
    }
}

/// A property of a device: a root and the keys below it.
///
/// `keys` is empty for a whole section and for system properties. `Display` writes it as a query would.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathRef {
    pub root: Root,
    pub keys: Vec<String>,
}

impl fmt::Display for PathRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root.as_str())?;
        for key in &self.keys {
            if !key.is_empty() && key.chars().all(is_name_char) {
                write!(f, ".{key}")?;
            } else {
                write!(f, ".[[{key}]]")?;
            }
        }
        Ok(())
    }
}

/// Returns true for the characters of a name that needs no `[[ ]]`.
pub(crate) fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering;

    #[test]
    fn numbers_compare_by_exact_value() {
        let check = |left: Number, right: Number, expect: Ordering| {
            assert_eq!(left.compare(right), expect, "{left:?} {right:?}");
            assert_eq!(right.compare(left), expect.reverse(), "{right:?} {left:?}");
        };
        use Number::{Integer, Real};
        check(Integer(1), Real(1.0), Ordering::Equal);
        check(Integer(1), Real(1.5), Ordering::Less);
        check(Integer(-1), Real(-1.5), Ordering::Greater);
        check(Integer(9_007_199_254_740_993), Real(9_007_199_254_740_992.0), Ordering::Greater);
        check(Integer(i64::MAX), Real(9_223_372_036_854_775_808.0), Ordering::Less);
        check(Integer(i64::MIN), Real(-9_223_372_036_854_775_808.0), Ordering::Equal);
        check(Integer(i64::MIN), Real(-1e300), Ordering::Greater);
        check(Integer(0), Real(-0.0), Ordering::Equal);
    }

    #[test]
    fn path_is_displayed_as_a_query_writes_it() {
        let check = |root: Root, keys: &[&str], expect: &str| {
            let keys = keys.iter().map(|key| (*key).to_string()).collect();
            assert_eq!(PathRef { root, keys }.to_string(), expect);
        };
        check(Root::Tags, &["location", "region"], "tags.location.region");
        check(Root::Desired, &["my-key", "a.b"], "properties.desired.[[my-key]].[[a.b]]");
        check(Root::DeviceId, &[], "deviceId");
    }
}
