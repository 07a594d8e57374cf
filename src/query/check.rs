//! Type checks without a device: a condition that is always undefined is a mistake.

use super::ast::{Arithmetic, Expr, ExprKind, Function, Literal, Root};
use super::error::{QueryError, QueryErrorKind};

/// What is known about the values of an expression, besides that any may be undefined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Type {
    /// Depends on the device, or is only ever undefined.
    Unknown,
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

impl Type {
    fn as_str(self) -> &'static str {
        match self {
            Type::Unknown => "an unknown value",
            Type::Null => "null",
            Type::Bool => "true or false",
            Type::Number => "a number",
            Type::String => "a string",
            Type::Array => "an array",
            Type::Object => "an object",
        }
    }

    fn is_known(self) -> bool {
        self != Type::Unknown
    }

    fn may_be(self, other: Type) -> bool {
        !self.is_known() || self == other
    }
}

/// Returns the type errors of a condition, in the order of the text.
pub(super) fn check(condition: &Expr) -> Vec<QueryError> {
    let mut errors = Vec::new();
    let found = type_of(condition, &mut errors);
    if !found.may_be(Type::Bool) {
        push(&mut errors, condition, QueryErrorKind::NotCondition { found: found.as_str() });
    }
    errors
}

fn push(errors: &mut Vec<QueryError>, at: &Expr, kind: QueryErrorKind) {
    errors.push(QueryError { kind, start: at.start, end: at.end });
}

fn type_of(expr: &Expr, errors: &mut Vec<QueryError>) -> Type {
    match &expr.kind {
        ExprKind::All => Type::Bool,
        ExprKind::Literal(literal) => literal_type(literal),
        ExprKind::Path(path) if path.keys.is_empty() => root_type(path.root),
        ExprKind::Path(_) => Type::Unknown,
        ExprKind::Array(elements) => {
            for element in elements {
                type_of(element, errors);
            }
            Type::Array
        }
        ExprKind::And(operands) => check_booleans("AND", operands, errors),
        ExprKind::Or(operands) => check_booleans("OR", operands, errors),
        ExprKind::Not(operand) => check_booleans("NOT", std::slice::from_ref(operand.as_ref()), errors),
        ExprKind::Negate(operand) => check_numbers("-", [operand], errors),
        ExprKind::Arithmetic(operator, left, right) => check_arithmetic(*operator, left, right, errors),
        ExprKind::Compare(_, left, right) => {
            let types = (type_of(left, errors), type_of(right, errors));
            check_comparable(types, expr, errors);
            Type::Bool
        }
        ExprKind::Member(_, item, elements) => {
            check_membership(item, elements, errors);
            Type::Bool
        }
        ExprKind::Call(function, arguments) => check_call(*function, arguments, expr, errors),
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Undefined => Type::Unknown,
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Number(_) => Type::Number,
        Literal::String(_) => Type::String,
    }
}

fn root_type(root: Root) -> Type {
    match root {
        Root::DeviceId
        | Root::DeviceName
        | Root::Template
        | Root::Organization
        | Root::Model
        | Root::Status
        | Root::ConnectionState
        | Root::LastActivityTime => Type::String,
        Root::Simulated | Root::Blocked | Root::IotEdge | Root::Provisioned => Type::Bool,
        Root::DesiredVersion | Root::ReportedVersion => Type::Number,
        Root::Tags | Root::Cloud | Root::Desired | Root::Reported => Type::Object,
        Root::ModuleId | Root::Configurations => Type::Unknown,
    }
}

fn check_booleans(operator: &'static str, operands: &[Expr], errors: &mut Vec<QueryError>) -> Type {
    for operand in operands {
        let found = type_of(operand, errors);
        if !found.may_be(Type::Bool) {
            push(errors, operand, QueryErrorKind::NotBoolean { operator, found: found.as_str() });
        }
    }
    Type::Bool
}

fn check_numbers<const N: usize>(operator: &'static str, operands: [&Expr; N], errors: &mut Vec<QueryError>) -> Type {
    for operand in operands {
        let found = type_of(operand, errors);
        if !found.may_be(Type::Number) {
            push(errors, operand, QueryErrorKind::NotNumber { operator, found: found.as_str() });
        }
    }
    Type::Number
}

fn check_arithmetic(operator: Arithmetic, left: &Expr, right: &Expr, errors: &mut Vec<QueryError>) -> Type {
    check_numbers(operator.as_str(), [left, right], errors)
}

fn check_comparable((left, right): (Type, Type), at: &Expr, errors: &mut Vec<QueryError>) {
    if left == Type::Array || right == Type::Array {
        push(errors, at, QueryErrorKind::ComparedArray);
    } else if left.is_known() && right.is_known() && left != right {
        push(errors, at, QueryErrorKind::MixedTypes { left: left.as_str(), right: right.as_str() });
    }
}

/// An array may mix types; it is wrong only when no element can ever be equal.
fn check_membership(item: &Expr, elements: &[Expr], errors: &mut Vec<QueryError>) {
    let item_type = type_of(item, errors);
    let types: Vec<Type> = elements.iter().map(|element| type_of(element, errors)).collect();
    let Some(first) = types.first() else {
        return;
    };
    if item_type.is_known() && !types.iter().any(|found| found.may_be(item_type)) {
        let kind = QueryErrorKind::MixedTypes { left: item_type.as_str(), right: first.as_str() };
        push(errors, &elements[0], kind);
    }
}

fn check_call(function: Function, arguments: &[Expr], at: &Expr, errors: &mut Vec<QueryError>) -> Type {
    if arguments.len() != function.arity() {
        push(errors, at, QueryErrorKind::Arity { function, found: arguments.len() });
    }
    for argument in arguments {
        let found = type_of(argument, errors);
        let (fits, expected) = match function {
            Function::StartsWith | Function::EndsWith | Function::Contains | Function::Lower | Function::Upper => {
                (found.may_be(Type::String), "string")
            }
            Function::Length => (found.may_be(Type::String) || found == Type::Array, "string or array"),
            Function::IsDefined
            | Function::IsNull
            | Function::IsString
            | Function::IsNumber
            | Function::IsBool
            | Function::IsObject
            | Function::IsArray
            | Function::IsPrimitive => (true, "value"),
        };
        if !fits {
            push(errors, argument, QueryErrorKind::ArgumentType { function, expected, found: found.as_str() });
        }
    }
    match function {
        Function::Lower | Function::Upper => Type::String,
        Function::Length => Type::Number,
        Function::IsDefined
        | Function::IsNull
        | Function::IsString
        | Function::IsNumber
        | Function::IsBool
        | Function::IsObject
        | Function::IsArray
        | Function::IsPrimitive
        | Function::StartsWith
        | Function::EndsWith
        | Function::Contains => Type::Bool,
    }
}
