//! What a sample says about its own answer: the answer hoped for, further answers that are right as
//! well, and labels such as the type of its question.
//!
//! All but the hoped-for answer are attributes, which graft fills with the fields of a record that
//! it does not read itself. A record of a question with several answers:
//!
//! ```json
//! { "id": "7", "answers": ["red", "dark red"], "question_type": "what color",
//!   "conversations": [ {"from": "human", "value": "What color is it?"},
//!                      {"from": "gpt", "value": "red"} ] }
//! ```

use crate::blanks::strip;
use crate::json::{self, Dialect, Node, Tree, Value as Json};
use crate::{Error, Part, Prediction, Role, Sample, Value};

/// Most bytes of an answer, given or hoped for: so much is no answer, and a measure of it would cost
/// more memory than a plugin has.
const LONGEST: usize = 4 << 20;

/// What the model said.
///
/// # Errors
/// `too-long` beyond 4 MiB.
pub fn said<'p>(sample: &Sample, predicted: &'p Prediction) -> Result<&'p str, Error> {
    within(sample, predicted.text.len())?;
    Ok(&predicted.text)
}

/// The text of the last assistant turn: the answer hoped for.
///
/// # Errors
/// `no-reference` if no assistant speaks, `too-long` beyond 4 MiB.
pub fn hoped(sample: &Sample) -> Result<String, Error> {
    let mut turns = sample.turns.iter().rev();
    let Some(last) = turns.find(|turn| turn.role == Role::Assistant) else {
        let message = "has no answer to compare with";
        return Err(unusable(sample, "no-reference", message));
    };
    let texts = last.content.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        Part::Image(_) => None,
    });
    let hoped: String = texts.collect();
    within(sample, hoped.len())?;
    Ok(hoped)
}

/// The attribute `name` as texts; none if the sample does not have it or it is null.
///
/// A text, number or flag is one text. An array is as many as it has elements, which may also be
/// objects with a member `answer` or `text`, as the VQA annotations have them. With a dot in it,
/// `name` may be the way into an object: `types.structural`.
///
/// # Errors
/// `bad-attribute` if it holds anything else.
pub fn texts(sample: &Sample, name: &str) -> Result<Option<Vec<String>>, Error> {
    let bad = |reason: &str| unusable(sample, "bad-attribute", &format!("{reason} in {name:?}"));
    if let Some(value) = attribute(sample, name) {
        return of_value(value).map_err(|reason| bad(&reason));
    }
    let Some((outer, inner)) = name.split_once('.') else {
        return Ok(None);
    };
    let Some(Value::Json(text)) = attribute(sample, outer) else {
        return Ok(None);
    };
    let tree = parse(text).map_err(|reason| bad(&reason))?;
    let mut steps = inner.split('.');
    let found = steps.try_fold(tree.root(), |node, key| node.get(key));
    found.map_or(Ok(None), of_node).map_err(|r| bad(&r))
}

/// The answers that count as right: the attribute `name`, or the last assistant turn alone.
///
/// # Errors
/// As [`texts`] and [`hoped`], and `no-reference` for an empty list.
pub fn answers(sample: &Sample, name: &str) -> Result<Vec<String>, Error> {
    match texts(sample, name)? {
        Some(answers) if answers.is_empty() => {
            let message = format!("has no answer in {name:?}");
            Err(unusable(sample, "no-reference", &message))
        }
        Some(answers) => {
            within(sample, answers.iter().map(String::len).sum())?;
            Ok(answers)
        }
        None => Ok(vec![hoped(sample)?]),
    }
}

/// The attribute called `name`; the last if there are several.
pub fn attribute<'s>(sample: &'s Sample, name: &str) -> Option<&'s Value> {
    let mut found = sample.extra.iter().rev().filter(|(key, _)| key == name);
    found.next().map(|(_, value)| value)
}

/// An error about this sample: it is left out of the score and the run goes on.
pub fn unusable(sample: &Sample, code: &str, message: &str) -> Error {
    let message = format!("sample {:?} {message}", sample.id);
    crate::invalid_input(code, message, sample.origin.clone())
}

fn within(sample: &Sample, bytes: usize) -> Result<(), Error> {
    match bytes <= LONGEST {
        true => Ok(()),
        false => {
            let message = format!("has an answer of {bytes} bytes; {LONGEST} are the most");
            Err(unusable(sample, "too-long", &message))
        }
    }
}

fn of_value(value: &Value) -> Result<Option<Vec<String>>, String> {
    Ok(Some(vec![match value {
        Value::Null => return Ok(None),
        Value::Boolean(flag) => flag.to_string(),
        Value::Integer(integer) => integer.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Json(text) => return of_node(parse(text)?.root()),
    }]))
}

fn of_node(node: Node<'_>) -> Result<Option<Vec<String>>, String> {
    match node.value() {
        Json::Null => Ok(None),
        Json::Array(items) => items.map(of_item).collect::<Result<_, _>>().map(Some),
        _ => Ok(Some(vec![of_item(node)?])),
    }
}

fn of_item(node: Node<'_>) -> Result<String, String> {
    match node.value() {
        Json::Bool(flag) => Ok(flag.to_string()),
        Json::Number(digits) => Ok(digits.to_owned()),
        Json::Text(text) => Ok(text.to_owned()),
        Json::Object(_) => {
            let inner = node.get_any(&["answer", "text"]).and_then(Node::text);
            let inner = inner.map(str::to_owned);
            inner.ok_or_else(|| "has an object without a text `answer`".to_owned())
        }
        Json::Null | Json::Array(_) => Err("has an element that is no text".to_owned()),
    }
}

fn parse(text: &str) -> Result<Tree<'_>, String> {
    let tree = json::parse(strip(text), Dialect::Json);
    tree.map_err(|fault| format!("has something else than JSON ({})", fault.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Turn;

    fn sample(extra: &[(&str, Value)]) -> Sample {
        let content = vec![Part::Image(0), Part::Text("red".into())];
        let role = Role::Assistant;
        Sample {
            id: "s".into(),
            images: vec![],
            turns: vec![Turn { role, content }],
            origin: None,
            extra: extra
                .iter()
                .map(|(k, v)| ((*k).into(), v.clone()))
                .collect(),
        }
    }

    fn json(text: &str) -> Sample {
        sample(&[("answers", Value::Json(text.into()))])
    }

    #[test]
    fn answers_are_read_as_data_sets_write_them() {
        let read = |sample: &Sample| answers(sample, "answers").unwrap();
        assert_eq!(read(&sample(&[])), ["red"]);
        assert_eq!(read(&sample(&[("answers", Value::Null)])), ["red"]);
        assert_eq!(read(&sample(&[("answers", Value::Integer(7))])), ["7"]);
        assert_eq!(
            read(&sample(&[("answers", Value::Text("a".into()))])),
            ["a"]
        );
        assert_eq!(
            read(&json(r#"["a", 7, true, "b"]"#)),
            ["a", "7", "true", "b"]
        );
        let vqa = r#"[{"answer": "a", "answer_id": 1}, {"text": "b"}]"#;
        assert_eq!(read(&json(vqa)), ["a", "b"]);
    }

    #[test]
    fn a_dotted_name_leads_into_an_object() {
        let types = Value::Json(r#"{"a": {"b": "x"}, "n": null}"#.into());
        let sample = sample(&[("types", types), ("a.b", Value::Text("y".into()))]);
        let read = |name| texts(&sample, name).unwrap();
        assert_eq!(read("types.a.b"), Some(vec!["x".into()]));
        assert_eq!(read("a.b"), Some(vec!["y".into()]));
        for none in ["types.n", "types.c", "types.a.b.c", "other.a"] {
            assert_eq!(read(none), None, "{none}");
        }
        assert!(texts(&sample, "types.a").is_err());
    }

    #[test]
    fn what_is_no_answer_is_named() {
        for bad in ["[[1]]", "[null]", r#"[{"a": 1}]"#, "{", "", "[]", "{}"] {
            let Err(Error::InvalidInput(fault)) = answers(&json(bad), "answers") else {
                panic!("{bad} is taken");
            };
            assert!(
                fault.message.starts_with("sample \"s\" has "),
                "{}",
                fault.message
            );
        }
        let long = Value::Text("x".repeat(LONGEST + 1));
        assert!(answers(&sample(&[("answers", long)]), "answers").is_err());
        let mut silent = sample(&[]);
        silent.turns.clear();
        assert!(hoped(&silent).is_err());
    }
}
