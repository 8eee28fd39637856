//! The converter on exports in memory.

use graft_plugin::testing::{Outcome, convert, survives_damage};
use graft_plugin::{Converter, ImageRef};

use super::OpenAiChat;

const FIXTURE: &[u8] = include_bytes!("../../../../tests/golden/plugins/openai-chat/export.jsonl");

fn run(export: &str, options: &str) -> Outcome {
    convert::<OpenAiChat>(export.as_bytes(), options, &[])
}

/// A conversation whose question has this content.
fn asking(content: &str) -> String {
    format!(
        r#"{{"messages": [{{"role": "user", "content": {content}}}, {{"role": "assistant", "content": "a"}}]}}"#
    )
}

#[test]
fn content_is_text_or_parts() {
    let png = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==";
    for (content, expected) in [
        (r#""q""#.to_owned(), vec!["q", "a"]),
        (r#"[{"type": "text", "text": "q"}]"#.into(), vec!["q", "a"]),
        (r#"["p", {"type": "input_text", "text": "q"}]"#.into(), vec!["p\nq", "a"]),
        (format!(r#"[{{"type": "text", "text": "q"}}, {{"type": "image_url", "image_url": {{"url": "{png}", "detail": "low"}}}}]"#), vec!["q", "[image]", "a"]),
        (r#"[{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}, {"type": "text", "text": "q"}]"#.into(), vec!["[image]", "q", "a"]),
        (format!(r#"[{{"type": "input_image", "image_url": "{png}"}}]"#), vec!["[image]", "a"]),
        (r#"[{"type": "image", "image": "a.png"}, {"type": "image", "path": "b.png"}]"#.into(), vec!["[image]", "[image]", "a"]),
        (r#"[{"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9j/4AAQ"}}]"#.into(), vec!["[image]", "a"]),
    ] {
        let outcome = run(&asking(&content), "{}");
        assert_eq!(outcome.counts(), (1, 1, 0), "{content}: {:?}", outcome.codes());
        assert_eq!(outcome.texts(0), expected, "{content}");
    }
    let outcome = run(
        &asking(&format!(
            r#"[{{"type": "input_image", "image_url": "{png}"}}]"#
        )),
        "{}",
    );
    assert!(
        matches!(&outcome.samples[0].images[0], ImageRef::Encoded(bytes) if bytes.starts_with(b"\x89PNG"))
    );
    let root = r#"{"image_root": "in"}"#;
    let outcome = run(
        &asking(r#"[{"type": "image", "image": "file://a.png"}]"#),
        root,
    );
    assert!(matches!(&outcome.samples[0].images[0], ImageRef::Asset(name) if name == "in/a.png"));
}

#[test]
fn roles_tools_and_weights() {
    let export = r#"{"messages": [{"role": "developer", "content": "s"}, {"role": "user", "content": "q"},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "2"}, {"role": "assistant", "content": "a"}]}"#;
    assert_eq!(run(export, "{}").codes(), ["openai-chat-tool-turn"]);
    let outcome = run(export, r#"{"tool_turns": "text"}"#);
    assert_eq!(
        outcome.texts(0),
        [
            "s",
            "q",
            r#"{"name": "f", "arguments": {"x": 1}}"#,
            "2",
            "a"
        ]
    );
    let empty = asking(r#""q""#).replace(
        r#""content": "a""#,
        r#""content": "a", "tool_calls": [], "function_call": null"#,
    );
    assert_eq!(run(&empty, "{}").counts(), (1, 1, 0));
    let refused =
        asking(r#""q""#).replace(r#""content": "a""#, r#""content": null, "refusal": "no""#);
    assert_eq!(run(&refused, "{}").texts(0), ["q", "no"]);
    let light = asking(r#""q""#).replace(r#""content": "a""#, r#""content": "a", "weight": 0"#);
    assert_eq!(run(&light, "{}").codes(), ["openai-chat-weight-zero"]);
    assert_eq!(run(&light, r#"{"unweighted": "keep"}"#).counts(), (1, 1, 0));
    assert_eq!(
        run(&light.replace("\"weight\": 0", "\"weight\": 1"), "{}").counts(),
        (1, 1, 0)
    );
    let preference = r#"{"input": {"messages": [{"role": "user", "content": "q"}], "tools": []},
        "preferred_output": [{"role": "assistant", "content": "good"}],
        "non_preferred_output": [{"role": "assistant", "content": "bad"}]}"#;
    assert_eq!(
        run(preference, r#"{"system": "s"}"#).texts(0),
        ["s", "q", "good"]
    );
}

#[test]
fn a_record_that_is_of_no_use_is_named_and_the_next_is_read() {
    for (bad, code, field) in [
        (
            r#"{"prompt": "q"}"#.to_owned(),
            "openai-chat-unknown-record",
            None,
        ),
        (
            r#"{"messages": "q"}"#.into(),
            "openai-chat-unknown-record",
            None,
        ),
        (r#"{"messages": []}"#.into(), "openai-chat-no-answer", None),
        (
            r#"{"messages": [7]}"#.into(),
            "openai-chat-unknown-role",
            Some("/messages/0"),
        ),
        (
            r#"{"messages": [{"role": "cat", "content": "q"}]}"#.into(),
            "openai-chat-unknown-role",
            Some("/messages/0"),
        ),
        (
            asking("7"),
            "openai-chat-content",
            Some("/messages/0/content"),
        ),
        (
            asking("null"),
            "openai-chat-empty-turn",
            Some("/messages/0"),
        ),
        (
            asking(r#"[{"type": "text"}]"#),
            "openai-chat-content",
            Some("/messages/0/content/0"),
        ),
        (
            asking(r#"[{"type": "image_url"}]"#),
            "openai-chat-content",
            Some("/messages/0/content/0"),
        ),
        (
            asking(r#"[{"type": "input_audio", "input_audio": {}}]"#),
            "openai-chat-unsupported-part",
            Some("/messages/0/content/0"),
        ),
        (
            asking(r#"[{"type": "image", "image": "missing.png"}]"#),
            "openai-chat-missing-image",
            Some("/messages/0/content/0"),
        ),
        (
            asking(r#"[{"type": "image", "image": "data:image/gif;base64,R0lGODlh"}]"#),
            "openai-chat-image-data",
            Some("/messages/0/content/0"),
        ),
        (
            r#"{"messages": [{"role": "user", "content": "cut}"#.into(),
            "malformed-json",
            None,
        ),
        (r#"{"messages": [}, {]}"#.into(), "malformed-json", None),
    ] {
        let good = asking(r#""q""#);
        let outcome = run(&format!("{good}\n{bad}\n{good}"), "{}");
        assert_eq!(outcome.counts(), (3, 2, 1), "{bad}");
        assert_eq!(outcome.codes(), [code], "{bad}");
        let at = outcome.remarks[0].at.as_ref().unwrap();
        assert_eq!(
            (at.record_index, at.line, at.field.as_deref()),
            (Some(1), Some(2), field),
            "{bad}"
        );
    }
    let shown = asking(r#""q""#).replace(
        r#""content": "a""#,
        r#""content": [{"type": "image", "image": "a.png"}]"#,
    );
    assert_eq!(
        run(&shown, "{}").codes(),
        ["openai-chat-image-outside-question"]
    );
}

#[test]
fn only_messages_are_recognised() {
    assert_eq!(OpenAiChat::detect(FIXTURE, "a"), 95);
    for cut in 40..200 {
        assert!(OpenAiChat::detect(&FIXTURE[..cut], "a") >= 75, "{cut}");
    }
    for other in [
        "",
        "[]",
        "{}",
        r#"{"messages": [{"from": "human"}]}"#,
        r#"{"input": "x"}"#,
    ] {
        assert_eq!(
            OpenAiChat::detect(other.as_bytes(), "chat.jsonl"),
            0,
            "{other}"
        );
    }
}

#[test]
fn no_damage_is_silent() {
    survives_damage::<OpenAiChat>(FIXTURE, "{}", &[]);
    survives_damage::<OpenAiChat>(
        FIXTURE,
        r#"{"tool_turns": "text", "unweighted": "keep"}"#,
        &[],
    );
}
