//! Keys and values of any type as text, by way of their encoding.

use std::fmt::Write;

use ciborium::Value;

/// The maximum length of the text of a value, in characters. In hexadecimal text, of a key too, the maximum in bytes.
const MAX_TEXT: usize = 4_096;
/// The depth below which nesting is not shown.
const MAX_DEPTH: usize = 16;

/// Returns the encodings that a text may stand for: of a string, a number, bytes, or a boolean. With the prefix `cbor:`
/// the text is an encoding in hexadecimal digits. The caller takes the first that decodes as the cache's key type.
pub(crate) fn candidates(text: &str) -> Vec<Vec<u8>> {
    if let Some(bytes) = encoding(text) {
        return vec![bytes];
    }
    let mut values = vec![Value::Text(text.into()), Value::Bytes(text.as_bytes().into())];
    if let Ok(number) = text.parse::<i64>() {
        values.push(Value::Integer(number.into()));
    } else if let Ok(number) = text.parse::<u64>() {
        values.push(Value::Integer(number.into()));
    }
    if let Ok(flag) = text.parse::<bool>() {
        values.push(Value::Bool(flag));
    }
    values.iter().filter_map(encode).collect()
}

/// Returns the encoding that a text with the prefix `cbor:` spells out.
pub(crate) fn encoding(text: &str) -> Option<Vec<u8>> {
    text.strip_prefix("cbor:").and_then(unhex).filter(|bytes| !bytes.is_empty())
}

fn encode(value: &Value) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).ok()?;
    Some(bytes)
}

/// Formats the encoding of a key as text. [`candidates`] returns this encoding among those of the text, unless the text
/// is hexadecimal and was cut off at [`MAX_TEXT`] bytes.
pub(crate) fn show(bytes: &[u8]) -> String {
    match ciborium::de::from_reader_with_recursion_limit(bytes, 64) {
        Ok(Value::Text(text)) if !text.starts_with("cbor:") => text,
        Ok(Value::Integer(number)) => i128::from(number).to_string(),
        Ok(Value::Bool(flag)) => flag.to_string(),
        Ok(Value::Bytes(raw)) => match String::from_utf8(raw) {
            Ok(text) if !text.starts_with("cbor:") => text,
            _ => hex(bytes),
        },
        _ => hex(bytes),
    }
}

/// Formats the encoding of a value as text, for display only.
pub(crate) fn show_value(bytes: &[u8]) -> String {
    let mut text = match ciborium::de::from_reader_with_recursion_limit::<Value, _>(bytes, 64) {
        Ok(value) => {
            let mut text = String::new();
            write_text(&value, &mut text, 0);
            text
        }
        Err(_) => hex(bytes),
    };
    if let Some((cut, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

fn write_text(value: &Value, out: &mut String, depth: usize) {
    if out.len() > 4 * MAX_TEXT || depth > MAX_DEPTH {
        out.push('…');
        return;
    }
    let _ = match value {
        Value::Text(text) => write!(out, "{text:?}"),
        Value::Integer(number) => write!(out, "{}", i128::from(*number)),
        Value::Float(number) => write!(out, "{number}"),
        Value::Bool(flag) => write!(out, "{flag}"),
        Value::Null => out.write_str("null"),
        Value::Bytes(raw) => match std::str::from_utf8(raw) {
            Ok(text) => write!(out, "{text:?}"),
            Err(_) => out.write_str(&hex(raw)),
        },
        Value::Array(items) => return list(items.iter().map(|item| (None, item)), "[]", out, depth),
        Value::Map(pairs) => return list(pairs.iter().map(|(key, item)| (Some(key), item)), "{}", out, depth),
        Value::Tag(_, inner) => return write_text(inner, out, depth + 1),
        _ => out.write_str("?"),
    };
}

fn list<'a>(items: impl Iterator<Item = (Option<&'a Value>, &'a Value)>, ends: &str, out: &mut String, depth: usize) {
    out.push_str(&ends[..1]);
    for (number, (key, item)) in items.enumerate() {
        if number > 0 {
            out.push_str(", ");
        }
        if let Some(key) = key {
            write_text(key, out, depth + 1);
            out.push_str(": ");
        }
        write_text(item, out, depth + 1);
    }
    out.push_str(&ends[1..]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(MAX_TEXT).fold("cbor:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = pairs.iter().map(|&[high, low]| Some(digit(high)? * 16 + digit(low)?));
    rest.is_empty().then(|| bytes.collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_asked_for() {
        for value in [
            Value::Text("apple".into()),
            Value::Integer((-7).into()),
            Value::Bytes(vec![0xff, 0]),
            Value::Text("cbor:zz".into()),
            Value::Array(vec![Value::Null]),
        ] {
            let bytes = encode(&value).unwrap();
            assert!(candidates(&show(&bytes)).contains(&bytes), "{value:?} is shown as {}", show(&bytes));
        }
    }

    #[test]
    fn values_are_cut_off() {
        let bytes = encode(&Value::Text("x".repeat(100_000))).unwrap();
        assert!(show_value(&bytes).chars().count() <= MAX_TEXT + 1);
        assert_eq!(show_value(&encode(&Value::Array(vec![Value::Null, Value::Bool(true)])).unwrap()), "[null, true]");
    }
}
