//! One line of a file and the key and value in it.

use std::{borrow::Cow, fmt};

use bytes::Bytes;
use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Number, Value};

use crate::cli::data::{check_key, from_base64};

/// Beyond this a number in a document may have been rounded when it was read, so that two keys became one.
const MAX_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

/// What the lines of a file are.
#[derive(Clone, Debug)]
pub(crate) enum Layout {
    /// `{"key": …, "value": …}`, as export writes them.
    Records,
    /// Any JSON object; one of its fields is the key, and the whole line the value.
    Documents { key_field: String },
}

impl Layout {
    /// The key and the value in `line`, which has no newline; the message says what is wrong with it.
    pub(crate) fn parse(&self, line: &[u8]) -> Result<(Bytes, Bytes), String> {
        let (key, value) = match self {
            Self::Records => parse_record(line)?,
            Self::Documents { key_field } => (document_key(line, key_field)?, line.to_vec()),
        };
        check_key(&key)?;
        Ok((key.into(), value.into()))
    }
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key_b64: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value_b64: Option<Cow<'a, str>>,
}

fn parse_record(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
    let record: Record<'_> = serde_json::from_slice(line).map_err(|error| json_message(&error))?;
    Ok((one_of("key", record.key, record.key_b64)?, one_of("value", record.value, record.value_b64)?))
}

fn one_of(name: &str, text: Option<Cow<'_, str>>, base64: Option<Cow<'_, str>>) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_owned().into_bytes()),
        (None, Some(base64)) => from_base64(&base64).map_err(|error| format!("{name}_b64 is no base64: {error}")),
        (None, None) => Err(format!("it has neither '{name}' nor '{name}_b64' (are these documents? --key-field)")),
        (Some(_), Some(_)) => Err(format!("it has both '{name}' and '{name}_b64'")),
    }
}

fn document_key(line: &[u8], field: &str) -> Result<Vec<u8>, String> {
    let mut parser = serde_json::Deserializer::from_slice(line);
    let found = parser.deserialize_map(FieldVisitor { field }).map_err(|error| json_message(&error))?;
    parser.end().map_err(|error| json_message(&error))?;
    match found {
        None => Err(format!("the document has no field '{field}'")),
        Some(Value::String(key)) => Ok(key.into_bytes()),
        Some(Value::Number(number)) => number_key(&number, field).map(String::into_bytes),
        Some(Value::Object(object)) => match object.iter().next() {
            Some((kind, Value::String(key))) if object.len() == 1 && kind == "$oid" => Ok(key.clone().into_bytes()),
            _ => Err(format!("'{field}' is an object other than {{\"$oid\": STRING}}")),
        },
        Some(_) => Err(format!("'{field}' is no string, number or {{\"$oid\": STRING}}")),
    }
}

fn number_key(number: &Number, field: &str) -> Result<String, String> {
    let rounded = number.is_f64() && number.as_f64().is_none_or(|value| value.abs() >= MAX_EXACT_INTEGER);
    if rounded {
        return Err(format!("'{field}' is a number that is too large to be read exactly"));
    }
    Ok(number.to_string())
}

/// serde_json's message without its own line number, which is always 1 here.
fn json_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(what) if error.is_data() => what.to_owned(),
        Some(what) => format!("no JSON object: {what} at column {}", error.column()),
        None => text,
    }
}

/// Takes one field out of an object and checks the others without keeping them.
struct FieldVisitor<'a> {
    field: &'a str,
}

impl<'de> Visitor<'de> for FieldVisitor<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key::<Name<'de>>()? {
            if name.0 != self.field {
                map.next_value::<IgnoredAny>()?;
            } else if found.replace(map.next_value::<Value>()?).is_some() {
                return Err(serde::de::Error::custom(format!("the field '{}' is there twice", self.field)));
            }
        }
        Ok(found)
    }
}

/// A field's name, borrowed from the line where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn record(line: &str) -> Result<(Bytes, Bytes), String> {
        Layout::Records.parse(line.as_bytes())
    }

    fn document(line: &str) -> Result<(Bytes, Bytes), String> {
        Layout::Documents { key_field: "_id".into() }.parse(line.as_bytes())
    }

    #[test]
    fn records_hold_text_or_base64() {
        assert_eq!(record(r#"{"key":"a\n","value":"ü"}"#), Ok(("a\n".into(), "ü".into())));
        let binary = record(r#"{"key_b64":"/w==","value_b64":"AAE=","version":1}"#);
        assert_eq!(binary, Ok((Bytes::from_static(b"\xff"), Bytes::from_static(b"\0\x01"))));
    }

    #[test]
    fn malformed_records_say_what_is_wrong() {
        for (line, said) in [
            (r#"{"key":"a","#, "no JSON object: EOF while parsing"),
            (r#"{"key":"a"}"#, "neither 'value' nor 'value_b64'"),
            (r#"{"key":"a","key_b64":"YQ==","value":""}"#, "both 'key' and 'key_b64'"),
            (r#"{"key":"","value":""}"#, "the key is empty"),
            (r#"{"key":"a","value_b64":"%"}"#, "value_b64 is no base64"),
            (r#"{"key":1,"value":""}"#, "invalid type: integer"),
            ("[]", "invalid length"),
        ] {
            let error = record(line).expect_err(line);
            assert!(error.contains(said), "{line}: {error}");
        }
    }

    #[test]
    fn document_key_is_a_string_a_number_or_an_object_id() {
        for (line, key) in [
            (r#"{ "_id" : "m1", "title": "x" }"#, "m1"),
            (r#"{"a":{"_id":"inner"},"_id":{"$oid":"5d1"}}"#, "5d1"),
            (r#"{"_id":-12}"#, "-12"),
            (r#"{"_id":18446744073709551615}"#, "18446744073709551615"),
            (r#"{"_id":1.5}"#, "1.5"),
        ] {
            assert_eq!(document(line), Ok((key.into(), Bytes::copy_from_slice(line.as_bytes()))));
        }
        for line in [
            r#"{"id":"a"}"#,
            r#"{"_id":null}"#,
            r#"{"_id":{"$date":"x"}}"#,
            r#"{"_id":18446744073709551616}"#,
            r#"{"_id":"a","_id":"b"}"#,
            r#"{"_id":"a"} x"#,
            "7",
        ] {
            assert!(document(line).is_err(), "{line}");
        }
    }
}
