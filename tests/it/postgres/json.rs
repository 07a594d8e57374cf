//! JSON and texts come back as they were stored, also through a real server.

use fleetform::registry::postgres::json::{read, read_text, stored, stored_number, stored_text};
use proptest::prelude::*;
use serde_json::{Number, Value, json};

use crate::cluster::{connect, fresh_database};

/// Texts with many of the characters that are escaped.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[\u{0}-\u{3}a]{0,6}", ".{0,6}"]
}

fn any_value() -> impl Strategy<Value = Value> {
    let float = prop_oneof![any::<f64>(), any::<i64>().prop_map(|whole| whole as f64), Just(-0.0)];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        float.prop_filter_map("finite", |real| Number::from_f64(real).map(Value::Number)),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any_text(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_value_is_read_as_it_was_stored(value in any_value()) {
        let text = stored(&value);
        prop_assert!(!text.contains("\\u0000"));
        prop_assert_eq!(read(&text).unwrap(), value);
    }

    #[test]
    fn a_text_is_read_as_it_was_stored(text in any_text()) {
        let kept = stored_text(&text).into_owned();
        prop_assert!(!kept.contains('\0'));
        prop_assert_eq!(read_text(kept), text);
    }

    #[test]
    fn texts_keep_their_order_and_their_starts(one in any_text(), two in any_text()) {
        let (kept_one, kept_two) = (stored_text(&one), stored_text(&two));
        prop_assert_eq!(kept_one.cmp(&kept_two), one.cmp(&two));
        prop_assert_eq!(kept_one.starts_with(&*kept_two), one.starts_with(&two));
    }

    #[test]
    fn a_string_of_json_is_stored_as_a_text_is(text in any_text()) {
        let kept: Value = serde_json::from_str(&stored(&json!(text))).unwrap();
        prop_assert_eq!(kept, json!(stored_text(&text)));
    }

    #[test]
    fn a_number_by_itself_is_stored_as_in_a_value(value in any_value()) {
        if let Value::Number(number) = &value {
            prop_assert_eq!(stored_number(number), stored(&value));
        }
    }
}

/// Runs a test of the values of a strategy, each with one statement and its parameters.
fn check<T: std::fmt::Debug, S: Strategy<Value = T>>(
    strategy: S,
    statement: &str,
    params: impl Fn(&T) -> Vec<String>,
    holds: impl Fn(&T, tokio_postgres::Row) -> Result<(), TestCaseError>,
) {
    let url = fresh_database();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(connect(&url)).unwrap();
    let statement = runtime.block_on(client.prepare(statement)).unwrap();
    let mut runner = proptest::test_runner::TestRunner::default();
    let tested = runner.run(&strategy, |value| {
        let params = params(&value);
        let rows = runtime.block_on(async {
            let params: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = params.iter().map(|one| one as _).collect();
            client.query_one(&statement, &params).await
        });
        holds(&value, rows.map_err(|error| TestCaseError::fail(format!("{error:?}")))?)
    });
    tested.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_value_comes_back_equal() {
    check(
        any_value(),
        "SELECT ($1::text::jsonb)::text",
        |value| vec![stored(value)],
        |value, row| {
            prop_assert_eq!(&read(row.get(0)).unwrap(), value);
            Ok(())
        },
    );
}

#[test]
fn a_text_comes_back_equal_out_of_json_too() {
    check(
        any_text(),
        "SELECT $1::text, $2::text::jsonb ->> 0",
        |text| vec![stored_text(text).into_owned(), stored(&json!([text]))],
        |text, row| {
            prop_assert_eq!(&read_text(row.get(0)), text);
            prop_assert_eq!(&read_text(row.get(1)), text);
            Ok(())
        },
    );
}

#[test]
fn texts_have_the_order_of_their_bytes() {
    check(
        (any_text(), any_text()),
        r#"SELECT $1::text COLLATE "C" < $2::text"#,
        |(one, two)| vec![stored_text(one).into_owned(), stored_text(two).into_owned()],
        |(one, two), row| {
            prop_assert_eq!(row.get::<_, bool>(0), one < two);
            Ok(())
        },
    );
}

/// A float that came back as an integer, or an integer as a float, would be another value to a plan.
#[test]
fn numbers_are_equal_where_the_reference_says_so() {
    let apart = (any::<f64>().prop_filter("finite", |real| real.is_finite()), any::<i64>());
    let near = (any::<i64>(), -2..3_i64).prop_map(|(whole, by)| (whole as f64, whole.saturating_add(by)));
    check(
        prop_oneof![apart, near],
        "SELECT $1::text::jsonb = $2::text::jsonb, $1::text::jsonb < $2::text::jsonb",
        |(real, integer)| vec![stored(&json!(real)), stored(&json!(integer))],
        |(real, integer), row| {
            use fleetform::query::ast::Number::{Integer, Real};
            prop_assert_eq!(row.get::<_, bool>(0), Real(*real) == Integer(*integer));
            prop_assert_eq!(row.get::<_, bool>(1), Real(*real).compare(Integer(*integer)).is_lt());
            Ok(())
        },
    );
}
