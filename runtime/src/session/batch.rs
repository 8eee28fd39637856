//! Several sessions that run together: one pass over the weights serves all of them, whatever adapters each
//! has.
//!
//! A batch owns the buffers of its passes; every session keeps its own past, adapters and answers, and can
//! leave, come back, or run alone between any two calls.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::feeding::{gather, stoppable_stride};
use super::generate::Answer;
use super::{Finish, GenerateOptions, Generated, Item, Session, SessionError, SessionOptions};
use crate::Result;
use crate::cancel::Cancel;
use crate::memory::{Arena, Floats, Part};
use crate::model::{FreshKv, Inference, Lane, LlamaShape, Model};

/// How to open a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchOptions {
    /// Most sessions at once.
    pub sessions: usize,
    /// Most positions any of them holds; 0 takes the model's own length, at most 4096, as a session does.
    pub context_length: usize,
    /// Most rows of all sessions that run at once; 0 takes [`Inference::CHUNK`]. Never less than `sessions`.
    pub chunk: usize,
}

impl BatchOptions {
    /// The same without a zero.
    fn chosen(&self, shape: &LlamaShape) -> Self {
        let of_a_session = SessionOptions::with_context(self.context_length);
        let context_length = Session::context_length_of(shape, &of_a_session);
        let chunk = match self.chunk {
            0 => Inference::CHUNK,
            asked => asked,
        };
        let all = context_length.saturating_mul(self.sessions);
        Self {
            sessions: self.sessions,
            context_length,
            chunk: chunk.min(all).max(self.sessions).max(1),
        }
    }
}

/// What a session of a batch is given.
#[derive(Clone, Debug)]
pub enum Given {
    /// Items behind what it holds.
    Append(Vec<Item>),
    /// Items that are all it holds then; those that its history begins with already are not run again.
    History(Vec<Item>),
}

/// Runs sessions of one model together.
#[derive(Debug)]
pub struct Batch {
    model: Arc<Model>,
    options: BatchOptions,
    run: Inference,
    fresh: FreshKv,
    /// `[T, W]`.
    rows: Floats,
    /// `[sessions, V]`.
    logits: Floats,
}

impl Batch {
    /// Buffers for sessions of this model.
    ///
    /// # Errors
    /// If the system has no memory for them.
    pub fn new(model: Arc<Model>, options: &BatchOptions) -> Result<Self> {
        let (llama, arena) = (model.llama(), Arena::unlimited());
        let shape = llama.shape();
        let options = options.chosen(shape);
        let chunk = options.chunk;
        Ok(Self {
            run: Inference::new(llama, chunk, options.context_length)?,
            fresh: FreshKv::new(shape, chunk, &arena)?,
            rows: arena.floats(Part::LayerBuffers, chunk * shape.width)?,
            logits: arena.floats(Part::Loss, options.sessions * shape.vocabulary)?,
            options,
            model,
        })
    }

    /// Bytes that [`Batch::new`] allocates.
    pub fn bytes(shape: &LlamaShape, options: &BatchOptions) -> usize {
        let options = options.chosen(shape);
        let chunk = options.chunk;
        let floats = chunk * shape.width + options.sessions * shape.vocabulary;
        Inference::bytes(shape, chunk, options.context_length)
            + FreshKv::bytes(shape, chunk)
            + floats * size_of::<f32>()
    }

    /// Feeds each session its tokens.
    ///
    /// # Errors
    /// As [`Batch::feed_items`].
    ///
    /// # Panics
    /// If there are not as many lists as sessions.
    pub fn feed(&mut self, sessions: &mut [&mut Session], tokens: &[&[u32]]) -> Result<()> {
        let items = |tokens: &&[u32]| tokens.iter().map(|&id| Item::Token(id)).collect();
        self.feed_items(sessions, tokens.iter().map(items).collect())
    }

    /// Feeds each session its items. Long prompts and single tokens go together.
    ///
    /// # Errors
    /// If any session is of another model or too long for the batch, there are too many, or what one of
    /// them is given does not fit it ([`Session::feed_items`]); no session was fed anything then.
    ///
    /// # Panics
    /// If there are not as many lists as sessions.
    pub fn feed_items(
        &mut self,
        sessions: &mut [&mut Session],
        items: Vec<Vec<Item>>,
    ) -> Result<()> {
        let given = items.into_iter().map(Given::Append).collect();
        self.give(sessions, given, &Cancel::new()).map(|_| ())
    }

    /// Gives each session what it is to hold, and returns how many positions of each were not run again. Where
    /// `cancel` is raised meanwhile, the items that were run whole stay.
    ///
    /// # Errors
    /// As [`Batch::feed_items`], and if `cancel` is raised.
    ///
    /// # Panics
    /// If there is not as much given as there are sessions.
    pub fn give(
        &mut self,
        sessions: &mut [&mut Session],
        given: Vec<Given>,
        cancel: &Cancel,
    ) -> Result<Vec<usize>> {
        assert_eq!(sessions.len(), given.len(), "something for each session");
        self.check(sessions)?;
        for (session, given) in sessions.iter().zip(&given) {
            match given {
                Given::Append(items) => session.check(session.position(), items)?,
                Given::History(items) => session.check(0, items)?,
            }
        }
        let mut before = Vec::with_capacity(given.len());
        for (session, given) in sessions.iter_mut().zip(given) {
            let new = match given {
                Given::Append(items) => items,
                Given::History(mut items) => {
                    let known = session.common_prefix(&items);
                    session.rewind(known);
                    items.split_off(known)
                }
            };
            before.push(session.history.len());
            session.history.extend(new);
        }
        let reused = sessions.iter_mut().map(|session| {
            let pending = session.pending()?;
            Ok(session.position() - pending)
        });
        let reused = reused.collect::<Result<_>>();
        let run = reused.and_then(|reused| self.catch_up(sessions, cancel).map(|()| reused));
        if run.is_err() {
            for (session, before) in sessions.iter_mut().zip(before) {
                session.keep_what_was_run(before);
            }
        }
        run
    }

    /// The logits of what comes next in each session, `[sessions, V]`.
    ///
    /// # Errors
    /// As [`Batch::feed_items`], or if nothing was fed to one of them.
    pub fn logits(&mut self, sessions: &mut [&mut Session]) -> Result<&[f32]> {
        self.logits_unless(sessions, &Cancel::new())
    }

    /// The same, unless `cancel` is raised while a past is run again, as after a change of adapters.
    ///
    /// # Errors
    /// As [`Batch::logits`], and if `cancel` is raised.
    pub fn logits_unless(
        &mut self,
        sessions: &mut [&mut Session],
        cancel: &Cancel,
    ) -> Result<&[f32]> {
        self.check(sessions)?;
        if sessions.iter().any(|session| session.history.is_empty()) {
            return Err(SessionError::NothingFed.into());
        }
        self.catch_up(sessions, cancel)?;
        let llama = self.model.llama();
        let (width, vocabulary) = (llama.shape().width, llama.shape().vocabulary);
        let normed = &mut self.rows[..sessions.len() * width];
        for (normed, session) in normed.chunks_exact_mut(width).zip(&*sessions) {
            llama.final_norm(normed, &mut [0.0], &session.last);
        }
        let logits = &mut self.logits[..sessions.len() * vocabulary];
        let adapters: Vec<_> = sessions.iter().map(|session| &session.attached).collect();
        self.run.logits_of_each(llama, logits, normed, &adapters)?;
        Ok(logits)
    }

    /// Continues what each session was fed, as [`Session::generate`] does, until all have ended; one that
    /// ends early makes the others faster. `on_text` is told whose text grows, by number.
    ///
    /// # Errors
    /// As [`Batch::logits`], or if the model has no tokenizer.
    ///
    /// # Panics
    /// If there are not as many options as sessions.
    pub fn generate(
        &mut self,
        sessions: &mut [&mut Session],
        options: &[GenerateOptions],
        on_text: impl FnMut(usize, &str) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>> {
        self.generate_unless(sessions, options, &Cancel::new(), on_text)
    }

    /// The same, and `cancel` ends all answers within a part of a layer; those of the options end theirs between
    /// two tokens.
    ///
    /// # Errors
    /// As [`Batch::generate`].
    ///
    /// # Panics
    /// As [`Batch::generate`].
    pub fn generate_unless(
        &mut self,
        sessions: &mut [&mut Session],
        options: &[GenerateOptions],
        cancel: &Cancel,
        mut on_text: impl FnMut(usize, &str) -> ControlFlow<()>,
    ) -> Result<Vec<Generated>> {
        assert_eq!(sessions.len(), options.len(), "options for each session");
        let model = Arc::clone(&self.model);
        let tokenizer = model.tokenizer()?;
        let vocabulary = model.llama().shape().vocabulary;
        let mut answers: Vec<_> = options
            .iter()
            .map(|options| (Answer::begin(options, tokenizer), None))
            .collect();
        loop {
            for (answer, finish) in &mut answers {
                *finish = finish.or_else(|| answer.is_due());
            }
            let (mut at_work, numbers): (Vec<&mut Session>, Vec<usize>) = sessions
                .iter_mut()
                .enumerate()
                .filter(|&(n, _)| answers[n].1.is_none())
                .map(|(n, session)| (&mut **session, n))
                .unzip();
            if at_work.is_empty() {
                break;
            }
            let logits = match self.logits_unless(&mut at_work, cancel) {
                Ok(logits) => logits,
                Err(error) => {
                    end_all(&mut answers, Finish::of(error)?);
                    break;
                }
            };
            let mut next = Vec::with_capacity(at_work.len());
            let each = numbers.into_iter().zip(logits.chunks_exact(vocabulary));
            for ((n, logits), session) in each.zip(at_work) {
                let (answer, finish) = &mut answers[n];
                match answer.push(logits, &mut |text| on_text(n, text)) {
                    ControlFlow::Break(why) => *finish = Some(why),
                    ControlFlow::Continue(_) if session.is_full() => {
                        *finish = Some(Finish::ContextFull);
                    }
                    ControlFlow::Continue(id) => next.push((session, [id])),
                }
            }
            let (mut going_on, ids): (Vec<_>, Vec<_>) = next.into_iter().unzip();
            let one = |id: [u32; 1]| Given::Append(id.map(Item::Token).into());
            let given = ids.into_iter().map(one).collect();
            if let Err(error) = self.give(&mut going_on, given, cancel) {
                end_all(&mut answers, Finish::of(error)?);
                break;
            }
        }
        let ended = answers.into_iter().enumerate();
        Ok(ended
            .map(|(n, (answer, finish))| {
                let finish = finish.expect("the loop ends when all have");
                answer.end(finish, |text| on_text(n, text))
            })
            .collect())
    }

    fn check(&self, sessions: &[&mut Session]) -> Result<(), SessionError> {
        let (found, most) = (sessions.len(), self.options.sessions);
        if found > most {
            return Err(SessionError::TooManySessions { found, most });
        }
        let batch = self.options.context_length;
        for (n, session) in sessions.iter().enumerate() {
            if !Arc::ptr_eq(&session.model, &self.model) {
                return Err(SessionError::OtherModel { session: n });
            }
            let capacity = session.capacity();
            if capacity > batch {
                return Err(SessionError::LongerThanBatch {
                    session: n,
                    capacity,
                    batch,
                });
            }
        }
        Ok(())
    }

    /// Runs what is pending in any of the sessions.
    fn catch_up(&mut self, sessions: &mut [&mut Session], cancel: &Cancel) -> Result<()> {
        let llama = self.model.llama();
        let width = llama.shape().width;
        // Sessions with the same adapters lie side by side.
        let group = |session: &Session| {
            let same = |other: &&mut Session| other.attached == session.attached;
            sessions.iter().position(same).unwrap_or_default()
        };
        let groups: Vec<_> = sessions.iter().map(|session| group(session)).collect();
        let mut work = Vec::with_capacity(sessions.len());
        for (session, group) in sessions.iter_mut().zip(groups) {
            match session.pending()? {
                0 => {}
                pending => work.push((pending, group, session)),
            }
        }
        work.sort_by_key(|&(_, group, _)| group);
        let most = match cancel.may_be_raised() {
            true => stoppable_stride(llama.shape()),
            false => usize::MAX,
        };
        while !work.is_empty() {
            cancel.check()?;
            let mut free = (self.rows.len() / width).min(most);
            let mut unused = &mut self.rows[..];
            let mut pass = Vec::with_capacity(work.len());
            for (pending, group, session) in &mut work {
                let count = (*pending).min(free);
                if count == 0 {
                    break;
                }
                let rows = unused
                    .split_off_mut(..count * width)
                    .expect("as many rows as are free");
                let start = session.kv.len();
                let adapters = &session.attached;
                gather(rows, &session.history, start, (llama, adapters), cancel)?;
                *pending -= count;
                free -= count;
                let by = session.attached.made_by();
                let lane = Lane {
                    rows: count,
                    kv: &mut session.kv,
                    adapters: &session.attached,
                    by,
                    group: *group,
                };
                pass.push((lane, &mut session.last));
            }
            let (mut lanes, lasts): (Vec<_>, Vec<_>) = pass.into_iter().unzip();
            let count: usize = lanes.iter().map(|lane| lane.rows).sum();
            let rows = &mut self.rows[..count * width];
            let (run, fresh) = (&mut self.run, &mut self.fresh);
            llama.forward_batch(rows, &mut lanes, run, fresh, &|| cancel.check())?;
            let mut end = 0;
            for (lane, last) in lanes.iter().zip(lasts) {
                end += lane.rows * width;
                last.copy_from_slice(&rows[end - width..end]);
            }
            work.retain(|&(pending, ..)| pending > 0);
        }
        Ok(())
    }
}

/// Ends the answers that have not ended.
fn end_all(answers: &mut [(Answer<'_>, Option<Finish>)], why: Finish) {
    for (_, finish) in answers {
        finish.get_or_insert(why);
    }
}
