//! JSON that trust hangs on: policies, signed payloads, transparency log entries.
//!
//! A key that is there twice could mean one thing to whoever signed it and another to us, so that it
//! is an error at every depth. Must never guess.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Number, Value};

/// Reads one JSON document into a type, which should deny unknown fields; says what is wrong.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let Strict(value) = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    T::deserialize(value).map_err(|e| e.to_string())
}

/// A value in which no object has a key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Strict)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value).map(Value::Number);
        number.ok_or_else(|| E::custom("a number that JSON cannot have"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(value)) = access.next_element()? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Strict(value))) = access.next_entry::<String, Strict>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format!("key {key:?} is there twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_not_be_there_twice_at_any_depth() {
        let ok = br#"{"a":[1,-2,1.5,"x",null,true,{"b":{}}],"b":{"a":1}}"#;
        assert_eq!(
            parse::<Value>(ok).unwrap(),
            serde_json::from_slice::<Value>(ok).unwrap()
        );
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"a":1}}"#,
            r#"[[{"a":1,"\u0061":1}]]"#,
        ] {
            let error = parse::<Value>(twice.as_bytes()).unwrap_err();
            assert!(error.contains("\"a\" is there twice"), "{error}");
        }
    }

    #[test]
    fn neither_rest_nor_endless_depth_is_read() {
        assert!(parse::<Value>(b"{} {}").is_err());
        let deep = "[".repeat(100_000);
        assert!(
            parse::<Value>(deep.as_bytes())
                .unwrap_err()
                .contains("recursion")
        );
    }
}
