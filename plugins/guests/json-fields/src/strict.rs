//! JSON as RFC 8259 has it, and nothing more: what a program that is handed the answer would read.
//!
//! The reader of the SDK forgives exporters some things that are no JSON; an answer is not forgiven.

use graft_plugin::json::{self, Dialect, Node, Tree, Value};

/// Most bytes of a text: its values take fifty times as much memory.
const LONGEST: usize = 1 << 20;

/// Reads `text`; the error says what is wrong and where.
pub fn parse(text: &str) -> Result<Tree<'_>, String> {
    if text.len() > LONGEST {
        return Err(format!(
            "{} bytes, where {LONGEST} are the most",
            text.len()
        ));
    }
    let tree = json::parse(text, Dialect::Json)
        .map_err(|fault| format!("{} at byte {}", fault.message, fault.at))?;
    check(text, tree.root())?;
    match control_in_string(text) {
        Some(at) => Err(format!("a control character in a string at byte {at}")),
        None => Ok(tree),
    }
}

fn check(text: &str, node: Node<'_>) -> Result<(), String> {
    let fault = |what: &str| Err(format!("{what} at byte {}", node.at()));
    match node.value() {
        // `NaN` and `Infinity` are read as null.
        Value::Null if !text[node.at()..].starts_with("null") => fault("expected a value"),
        Value::Number(digits) if !is_number(digits) => fault(&format!("`{digits}` is no number")),
        Value::Array(mut items) => items.try_for_each(|item| check(text, item)),
        Value::Object(mut members) => members.try_for_each(|(_, value)| check(text, value)),
        _ => Ok(()),
    }
}

/// No needless zero in front, digits around the point, digits behind the `e`.
fn is_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let unsigned = |text: &str| is_digits(text.strip_prefix(['+', '-']).unwrap_or(text));
    is_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
        && exponent.is_none_or(unsigned)
}

/// Where a string holds a character below U+0020 that is not escaped.
fn control_in_string(text: &str) -> Option<usize> {
    let (mut inside, mut escaped) = (false, false);
    text.bytes().position(|byte| {
        let is_control = inside && byte < b' ';
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = inside,
            b'"' => inside = !inside,
            _ => {}
        }
        is_control
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_json() {
        for good in [
            "0",
            "-0.0e+10",
            " [1, -2.5E3, null, true]\n",
            r#"{"a\\": "\"\n\u0001", "b": {}}"#,
            "\"\u{7f}\"",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "01",
            "1.",
            "-",
            "+1",
            ".5",
            "1e",
            "NaN",
            "[-Infinity]",
            "{'a': 1}",
            "[1,]",
            "\"\t\"",
            "{\"a\r\": 1}",
            "{\"a\": 1} x",
            "nul",
            "\u{feff}1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse(&"[".repeat(1 << 20)).is_err());
        assert!(parse(&format!("{}1", " ".repeat(1 << 20))).is_err());
    }
}
