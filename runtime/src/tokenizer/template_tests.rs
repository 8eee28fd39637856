//! Templates and label masks against LLaVA's own output.

use super::tests::{from_file, shared};
use super::*;

fn message(role: Role, images: usize, text: &str) -> Message {
    Message {
        role,
        images,
        text: text.into(),
    }
}

#[test]
fn every_named_template_matches() {
    let Some(path) = shared("llava/templates.json") else {
        return;
    };
    let golden: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut compared = 0;
    for (name, strings) in golden.as_object().unwrap() {
        let Ok(template) = ChatTemplate::named(name) else {
            // Only the two with a built-in example conversation are left out.
            assert!(matches!(name.as_str(), "default" | "v0"), "{name}");
            continue;
        };
        if name == "plain" || name == "v0_plain" || name.contains("mmtag") {
            continue;
        }
        let open = [message(Role::User, 1, "Q1")];
        let two = [
            message(Role::User, 1, "Q1"),
            message(Role::Assistant, 0, "A1"),
            message(Role::User, 0, "Q2"),
            message(Role::Assistant, 0, "A2"),
        ];
        assert_eq!(
            spell(&template.render(&open, true).unwrap()),
            strings["gen"],
            "{name}"
        );
        assert_eq!(
            spell(&template.render(&two, false).unwrap()),
            strings["train2"],
            "{name}"
        );
        compared += 1;
    }
    assert!(compared >= 6, "{compared}");
}

#[test]
fn roles_that_do_not_alternate_are_refused() {
    let template = ChatTemplate::vicuna_v1();
    let error = template
        .render(&[message(Role::Assistant, 0, "A")], false)
        .unwrap_err();
    assert!(error.to_string().contains("turn 0"), "{error}");
    let error = ChatTemplate::named("vicuna").unwrap_err();
    assert!(error.to_string().contains("vicuna_v1"), "{error}");
}

/// Cuts a golden text back into the conversation it was rendered from.
fn conversation(text: &str) -> (Vec<Message>, bool) {
    let rounds = text.split_once("USER: ").unwrap().1;
    let mut messages = Vec::new();
    let mut open = false;
    for round in rounds.split("</s>").filter(|r| !r.is_empty()) {
        let round = round.strip_prefix("USER: ").unwrap_or(round);
        let (asked, said) = match round.split_once(" ASSISTANT:") {
            Some((asked, said)) => (asked, said.strip_prefix(' ')),
            None => (round, None),
        };
        let images = usize::from(asked.starts_with("<image>"));
        let asked = asked.strip_prefix("<image>\n").unwrap_or(asked);
        messages.push(message(Role::User, images, asked));
        match said {
            Some(said) => messages.push(message(Role::Assistant, 0, said)),
            None => open = true,
        }
    }
    (messages, open)
}

#[test]
fn ids_and_labels_match_llava_token_by_token() {
    let (Some(golden), Some(vocabulary)) = (
        shared("llava/vicuna_v1_tokens.json"),
        shared("tokenizers/ggml-vocab-llama-spm.gguf"),
    ) else {
        return;
    };
    let tokenizer = from_file(&vocabulary);
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let list = |value: &serde_json::Value| -> Vec<i32> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_i64().unwrap() as i32)
            .collect()
    };
    let mut compared = 0;
    for case in golden.as_array().unwrap() {
        let (name, text) = (
            case["name"].as_str().unwrap(),
            case["text"].as_str().unwrap(),
        );
        let (template, messages, open) = if name.contains("plain") {
            let caption = text.strip_prefix("<image>").unwrap().trim_end_matches('\n');
            let turns = vec![
                message(Role::User, 1, ""),
                message(Role::Assistant, 0, caption),
            ];
            (ChatTemplate::named("plain").unwrap(), turns, false)
        } else {
            let (messages, open) = conversation(text);
            (ChatTemplate::vicuna_v1(), messages, open)
        };
        let segments = template.render(&messages, open).unwrap();
        assert_eq!(spell(&segments), text, "{name}");
        let prompt = tokenizer.prompt(&segments).unwrap();
        assert_eq!(prompt.ids, list(&case["ids"]), "{name}");
        // The reference masks a whole sample whose answer holds a role name; that rule is the data set's.
        if case.get("labels").is_some() && case["matched"] != serde_json::Value::Bool(false) {
            assert_eq!(prompt.labels, list(&case["labels"]), "{name}");
        }
        compared += 1;
    }
    assert_eq!(compared, 8);
}

#[test]
fn a_model_files_template_keeps_words_and_control_tokens_apart() {
    let Some(vocabulary) = shared("tokenizers/ggml-vocab-llama-bpe.gguf") else {
        return;
    };
    let tokenizer = from_file(&vocabulary);
    let source = "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n\
        {{ m['content'] | trim }}<|eot_id|>{% endfor %}\
        {% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}";
    let template = ChatTemplate::Jinja(Box::new(JinjaTemplate::new(source, &tokenizer).unwrap()));
    let turns = [
        message(Role::User, 0, " hi <|eot_id|> "),
        message(Role::Assistant, 0, "yes"),
    ];
    let segments = template.render(&turns, false).unwrap();
    let prompt = tokenizer.prompt(&segments).unwrap();
    let end = tokenizer.special("<|eot_id|>").unwrap() as i32;
    assert_eq!(
        prompt.ids.iter().filter(|&&id| id == end).count(),
        2,
        "the user's words end no turn"
    );
    let learned: Vec<u32> = prompt
        .labels
        .iter()
        .filter(|&&l| l != IGNORED)
        .map(|&l| l as u32)
        .collect();
    assert_eq!(learned.last(), Some(&(end as u32)));
    assert_eq!(tokenizer.decode(&learned), "yes");
    let loops = "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}";
    let endless = ChatTemplate::Jinja(Box::new(JinjaTemplate::new(loops, &tokenizer).unwrap()));
    assert!(endless.render(&turns, true).is_err());
    assert!(JinjaTemplate::new("{% if %}", &tokenizer).is_err());
    // As deep as fuel goes; the engine recurses over values when it prints and drops them.
    let deep = "{% set ns = namespace(x='') %}{% for i in range(100000) %}\
        {% set ns.x = [ns.x] %}{% set ns.y = ns.x | string %}{% endfor %}{{ ns.x }}";
    let deep = ChatTemplate::Jinja(Box::new(JinjaTemplate::new(deep, &tokenizer).unwrap()));
    assert!(deep.render(&vec![turns[0].clone(); 1000], true).is_err());
    // Without end.
    for within in [
        "{% set ns = namespace() %}{% set ns.x = [ns] %}{{ ns.x }}",
        "{% set ns = namespace() %}{% set ns.x = ns, 'x' %}{{ ns.x }}",
        "{% set ns = namespace(), 1 %}{% set n = ns[0] %}{% set n.x = n %}{{ n.x }}",
        "{% set f = namespace %}{% set ns = f() %}{% set ns.x = ns %}{{ ns.x }}",
        "{% with ns = namespace() %}{% set ns.x = ns %}{{ ns.x }}{% endwith %}",
    ] {
        let error = JinjaTemplate::new(within, &tokenizer).unwrap_err();
        assert!(error.to_string().contains("by its attributes"), "{error}");
    }
    let used = "{% set ns = namespace(first=true) %}{% for m in messages %}\
        {% if ns.first %}{{ m.content }}{% set ns.first = false %}{% endif %}{% endfor %}";
    let used = ChatTemplate::Jinja(Box::new(JinjaTemplate::new(used, &tokenizer).unwrap()));
    assert_eq!(
        spell(&used.render(&turns[..1], true).unwrap()),
        " hi <|eot_id|> "
    );
    let raising =
        JinjaTemplate::new("{{ raise_exception('no system role') }}", &tokenizer).unwrap();
    let error = ChatTemplate::Jinja(Box::new(raising))
        .render(&turns, true)
        .unwrap_err();
    assert!(error.to_string().contains("no system role"), "{error}");
}
