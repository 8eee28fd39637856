//! Tokens of a model: text to ids and back.

use graft::tokenizer::Tokenizer;

use crate::buffer::Buffer;
use crate::call::{self, DONE};
use crate::error::ErrorOut;
use crate::fault::Fault;
use crate::handle::Handle;
use crate::model::ModelObject;
use crate::pointer::{In, Out, Text};
use crate::status::graft_status;

/// A token's number; negative ones stand for something else.
#[allow(non_camel_case_types)]
pub type graft_token = i32;

/// No token.
pub const GRAFT_TOKEN_NONE: graft_token = -1;

/// The model's first token goes in front, where the model wants one.
pub const GRAFT_ENCODE_BEGIN: u32 = 1;
/// Names of control tokens are these tokens.
pub const GRAFT_ENCODE_MARKUP: u32 = 2;
/// The text stands right behind a control token.
pub const GRAFT_ENCODE_AFTER_CONTROL: u32 = 4;

/// Ids as programs have them.
pub fn given(ids: &[u32]) -> Vec<graft_token> {
    ids.iter().map(|&id| id.cast_signed()).collect()
}

/// Ids as the engine has them.
///
/// # Errors
/// If one is negative.
pub fn taken(tokens: &[graft_token]) -> Result<Vec<u32>, Fault> {
    let ids = tokens.iter().map(|&token| {
        u32::try_from(token).map_err(|_| {
            Fault::argument(format!("{token} is no token; they are numbers from 0 on"))
        })
    });
    ids.collect()
}

fn encode(tokenizer: &Tokenizer, text: &str, flags: u32) -> Result<Vec<u32>, Fault> {
    const KNOWN: u32 = GRAFT_ENCODE_BEGIN | GRAFT_ENCODE_MARKUP | GRAFT_ENCODE_AFTER_CONTROL;
    let has = |flag| flags & flag != 0;
    if has(!KNOWN) || has(GRAFT_ENCODE_BEGIN) && has(GRAFT_ENCODE_AFTER_CONTROL) {
        let message = format!("flags is {flags:#x}; see GRAFT_ENCODE_BEGIN and its neighbours");
        return Err(Fault::argument(message));
    }
    let ids = match has(GRAFT_ENCODE_AFTER_CONTROL) {
        true => tokenizer.encode_after_special(text, has(GRAFT_ENCODE_MARKUP)),
        false => tokenizer.encode(text, has(GRAFT_ENCODE_BEGIN), has(GRAFT_ENCODE_MARKUP)),
    };
    Ok(ids?)
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_token_encode(
    model: Handle<ModelObject>,
    text: In<u8>,
    text_len: usize,
    flags: u32,
    tokens: Out<graft_token>,
    capacity: usize,
    needed: Out<usize>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_token_encode", err, || {
        let model = model.get()?;
        let text = text.text(text_len, "text")?;
        let ids = encode(model.model().tokenizer()?, text, flags)?;
        tokens.fill(capacity, &needed, &given(&ids))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_token_decode(
    model: Handle<ModelObject>,
    tokens: In<graft_token>,
    n_tokens: usize,
    out: Out<Handle<Buffer>>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_token_decode", err, || {
        let model = model.get()?;
        let ids = taken(tokens.slice(n_tokens, "tokens")?)?;
        out.give(Buffer::new(model.model().tokenizer()?.decode(&ids)))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_token_piece(
    model: Handle<ModelObject>,
    token: graft_token,
    bytes: Out<u8>,
    capacity: usize,
    needed: Out<usize>,
    err: ErrorOut,
) -> graft_status {
    call::call("graft_token_piece", err, || {
        let model = model.get()?;
        let tokenizer = model.model().tokenizer()?;
        let id = u32::try_from(token).ok();
        let id = id.filter(|&id| (id as usize) < tokenizer.vocab_size());
        let id = id.ok_or_else(|| {
            let size = tokenizer.vocab_size();
            Fault::argument(format!("{token} is no token; the model has {size}"))
        })?;
        bytes.fill(capacity, &needed, &tokenizer.bytes(id))?;
        DONE
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_token_special(model: Handle<ModelObject>, name: Text) -> graft_token {
    call::value("graft_token_special", GRAFT_TOKEN_NONE, || {
        let model = model.get()?;
        let tokenizer = model.model().tokenizer()?;
        let id = match name.required("name")? {
            "bos" => tokenizer.bos(),
            "eos" => tokenizer.eos(),
            text => tokenizer.special(text),
        };
        Ok(id.map_or(GRAFT_TOKEN_NONE, u32::cast_signed))
    })
}

/// See `graft.h`.
#[unsafe(no_mangle)]
pub extern "C" fn graft_token_is_end(model: Handle<ModelObject>, token: graft_token) -> i32 {
    call::value("graft_token_is_end", 0, || {
        let model = model.get()?;
        let tokenizer = model.model().tokenizer()?;
        Ok(u32::try_from(token)
            .is_ok_and(|id| tokenizer.is_end(id))
            .into())
    })
}
