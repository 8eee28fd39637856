//! Models, and sessions that talk to them.

use crate::c_functions::*;
use crate::c_program::{Program, run, runtime};
use crate::c_struct::{Struct, address};

use super::{PICTURE, begin};

/// A model file, and as the second file its vision half: everything that is asked of a model.
pub fn model(bytes: &[u8]) -> Option<()> {
    begin();
    run(bytes, |program, second, file| {
        let (mut options, mut given) = (Struct::new("graft_model_options"), None);
        if let Some(second) = second {
            let projector = program.source(second);
            options = options.set("projector", projector.at() as u64);
            given = Some(projector);
        }
        options = options
            .set("n_threads", program.pick(0, &[1, 2]))
            .set("flags", program.pick(0, &[1]))
            .set(
                "projector_path",
                program.pick(0, &[1]) * address(c"no/such".as_ptr()),
            )
            .set("cancel", program.cancel() as u64)
            .sized(program.choice());
        if given.is_some() && !options.reaches("projector") {
            program.was_not_taken();
        }
        let source = program.source(file);
        let model = program.make(
            "graft_model_open_source",
            graft_model_release,
            |out, err| graft_model_open_source(runtime(), source.at(), options.at(), out, err),
        )?;
        describe(program, model);
        let session = session(program, model)?;
        talk(program, session, second.is_some())
    })
}

/// Everything that can be asked about a model, and its vocabulary.
fn describe(program: &mut Program, model: Object) {
    let mut info = Struct::new("graft_model_info")
        .sized(program.choice())
        .filled();
    let status = graft_model_get_info(model, info.to());
    program.status("graft_model_get_info", status);
    info.check();
    program.buffer("graft_model_tensors", |out, err| {
        graft_model_tensors(model, out, err)
    });
    let key = program.pick(
        0,
        &[c"general.architecture", c"tokenizer.ggml.tokens", c"none"]
            .map(|key| address(key.as_ptr()) as usize),
    );
    program.buffer("graft_model_metadata", |out, err| {
        graft_model_metadata(model, key, out, err)
    });

    let text = program.pick("ab a\n <x></s>1b", &["", "\u{e9}\u{1f600}", "a\0b"]);
    let (flags, room) = (program.pick(1, &[0, 2, 4, 5, 7, 8]), program.choice());
    let mut tokens = vec![0_i32; usize::from(room)];
    let mut needed = 0;
    let to = tokens.as_mut_ptr().expose_provenance();
    let from = text.as_ptr().expose_provenance();
    program.call("graft_token_encode", |err| {
        graft_token_encode(
            model,
            from,
            text.len(),
            flags,
            to,
            tokens.len(),
            &mut needed,
            err,
        )
    });
    let odd = program.choice();
    tokens.truncate(needed.min(usize::from(room)));
    tokens.extend([0, 1, 2, i32::from(odd) << (odd & 31)]);
    let from = tokens.as_ptr().expose_provenance();
    program.buffer("graft_token_decode", |out, err| {
        graft_token_decode(model, from, tokens.len(), out, err)
    });
    for &token in &tokens {
        let mut piece = [0_u8; 8];
        let to = piece.as_mut_ptr().expose_provenance();
        program.call("graft_token_piece", |err| {
            graft_token_piece(model, token, to, piece.len(), &mut needed, err)
        });
        let end = graft_token_is_end(model, token);
        program.status("graft_token_is_end", end);
    }
    for name in [c"bos", c"eos", c"</s>"] {
        let token = graft_token_special(model, name.as_ptr().expose_provenance());
        assert!(token >= -1, "{name:?} is {token}");
    }

    let messages = messages(program);
    let name = program.pick(None, &[Some(c"vicuna_v1"), Some(c"llama-3"), Some(c"none")]);
    let chat = Struct::new("graft_chat_options")
        .set("flags", program.pick(0, &[1, 2]))
        .set(
            "template_name",
            name.map_or(0, |name| address(name.as_ptr())),
        )
        .sized(program.choice());
    let (at, count) = (messages.as_ptr().expose_provenance(), 2);
    program.buffer("graft_chat_render", |out, err| {
        graft_chat_render(model, at, count, chat.at(), out, err)
    });
    program.call("graft_chat_encode", |err| {
        graft_chat_encode(model, at, count, chat.at(), 0, 0, &mut needed, err)
    });
    let mut plan = Struct::new("graft_plan").sized(program.choice()).filled();
    let (context, chunk) = (
        program.pick(0, &[1, 8, u32::MAX]),
        program.pick(0, &[1, u32::MAX]),
    );
    program.buffer("graft_plan_session", |out, err| {
        graft_plan_session(model, context, chunk, 0, plan.to(), out, err)
    });
    plan.check();
}

/// A system's and a user's turn, one struct after the other.
fn messages(program: &mut Program) -> Vec<u64> {
    let turns = [(c"system", "Be brief."), (c"user", "a </s> b")];
    let role = program.pick(0, &[1, 2]);
    let turns = turns.iter().map(|(name, text)| {
        let name = [*name, c"assistant", c"nobody"][role];
        Struct::new("graft_message")
            .set("role", address(name.as_ptr()))
            .set("text", address(text.as_ptr()))
            .set("text_len", text.len() as u64)
            .words()
    });
    turns.collect::<Vec<_>>().concat()
}

/// A session of few positions, or of as many as the bytes say.
pub fn session(program: &mut Program, model: Object) -> Option<Object> {
    let options = Struct::new("graft_session_options")
        .set(
            "n_context",
            program.pick(256, &[0, 1, 1 << 20, u32::MAX.into()]),
        )
        .set("n_chunk", program.pick(4, &[0, 1, u32::MAX.into()]))
        .set("flags", program.pick(0, &[1]))
        .set("memory_budget", program.pick(64 << 20, &[0, 1, u64::MAX]))
        .sized(program.choice());
    program.make("graft_session_create", graft_session_release, |out, err| {
        graft_session_create(model, options.at(), out, err)
    })
}

/// Tokens, an image and an answer through a session.
pub fn talk(program: &mut Program, session: Object, sees: bool) -> Option<()> {
    let cancel = program.cancel();
    let tokens = [0, program.pick(0, &[1, 9, -1, -200, i32::MAX]), 0];
    let at = tokens.as_ptr().expose_provenance();
    let fed = program.call("graft_session_feed", |err| {
        graft_session_feed(session, at, tokens.len(), cancel, err)
    });
    if sees {
        let image = program.make("graft_image_decode", graft_image_release, |out, err| {
            let data = PICTURE.as_ptr().expose_provenance();
            graft_image_decode(runtime(), data, PICTURE.len(), 0, out, err)
        })?;
        program.call("graft_session_feed_image", |err| {
            graft_session_feed_image(session, image, cancel, err)
        });
    }
    let (mut logits, mut count) = (0, 0);
    let known = program.call("graft_session_logits", |err| {
        graft_session_logits(session, cancel, &mut logits, &mut count, err)
    });
    assert_eq!(known.is_some(), logits != 0 && count > 0);
    let mut scores = [f32::NAN; 3];
    let to = scores.as_mut_ptr().expose_provenance();
    program.call("graft_session_logprobs", |err| {
        graft_session_logprobs(session, at, scores.len(), cancel, to, err)
    });
    let fork = program.make("graft_session_fork", graft_session_release, |out, err| {
        graft_session_fork(session, 0, out, err)
    });
    let keep = u32::from(program.choice());
    for session in [Some(session), fork].into_iter().flatten() {
        program.call("graft_session_truncate", |err| {
            graft_session_truncate(session, keep, err)
        });
        answer(program, session, cancel);
        let mut info = Struct::new("graft_session_info").filled();
        let status = graft_session_get_info(session, info.to());
        program.status("graft_session_get_info", status);
        info.check();
        let (mut held, mut needed) = ([0_i32; 64], 0);
        let to = held.as_mut_ptr().expose_provenance();
        program.call("graft_session_tokens", |err| {
            graft_session_tokens(session, to, held.len(), &mut needed, err)
        });
    }
    fed.map(|_| ())
}

/// Two tokens of an answer to a conversation, a text or tokens.
fn answer(program: &mut Program, session: Object, cancel: Object) {
    let float = |value: f32| u64::from(value.to_bits());
    let sampling = Struct::new("graft_sampling")
        .set(
            "temperature",
            float(program.pick(0.0, &[1.0, -1.0, f32::NAN, f32::MIN_POSITIVE])),
        )
        .set("top_k", program.pick(0, &[1, u32::MAX.into()]))
        .set(
            "top_p",
            float(program.pick(0.0, &[0.5, 1.0, 2.0, f32::NAN])),
        )
        .set("min_p", float(program.pick(0.0, &[0.5, 1.0, -0.0])))
        .sized(program.choice());
    let (messages, text) = (messages(program), "a b");
    let stops = [c"b".as_ptr()];
    let mut request = Struct::new("graft_generate_request")
        .set("flags", program.pick(0, &[1, 2, 3, 4]))
        .set("max_tokens", 2)
        .set("sampling", sampling.at() as u64)
        .set("stops", address(stops.as_ptr()))
        .set("n_stops", program.pick(0, &[1]))
        .set("cancel", cancel as u64);
    request = match program.choice() % 3 {
        0 => request
            .set("text", address(text.as_ptr()))
            .set("text_len", 3),
        1 => request
            .set("messages", address(messages.as_ptr()))
            .set("n_messages", 2),
        _ => request,
    };
    let request = request.sized(program.choice());
    let mut result = Struct::new("graft_generate_result").filled();
    program.call("graft_session_generate", |err| {
        graft_session_generate(session, request.at(), result.to(), err)
    });
    result.check();
}
