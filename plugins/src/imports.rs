//! What a plugin may call, and the counting of what it uses.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use graft::cancel::Cancel;
use graft::dataset::{Diagnostic, ImageRef, Severity, Source};
use graft::evaluate::evaluator::{JudgeReply, JudgeRequest};
use wasmtime::component::{Resource, ResourceTable};
use wasmtime::{ResourceLimiter, Result};

use crate::bindings::{dataset, host, input, model, types};
use crate::caller::{Caller, Failure};
use crate::error::Exceeded;
use crate::guest::{CallerLine, Clock};
use crate::limits::Limits;
use crate::translate;

/// The most bytes that one `read` gives, whatever was asked for.
const READ_BYTES: u32 = 1 << 20;

/// Kinds of remarks that are counted one by one; further kinds share a counter.
const CODES: usize = 100;

/// Images whose headers are remembered: samples of the same image come one after the other.
const HEADERS: usize = 1000;

/// What an empty element of a sample costs us beside its bytes.
const ELEMENT_BYTES: usize = 16;

/// What a value inside an attribute's JSON costs us, where it may be written in two bytes.
const VALUE_BYTES: usize = 32;

/// A source that a plugin holds.
pub enum OpenSource {
    /// What it converts; the caller has it.
    Input { name: String, size: Option<u64> },
    /// A companion file.
    Asset(Box<dyn Source + Send>),
}

/// Where a plugin's samples go; the caller has it.
pub struct OpenSink;

/// Why the host ended a plugin; travels through the engine as the cause of the trap.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    #[error(transparent)]
    Limit(#[from] Exceeded),
    #[error("{0}")]
    BadValue(String),
    #[error("interrupted")]
    Cancelled,
    /// The caller keeps the reason.
    #[error("the caller ended the work")]
    Caller,
}

/// All that belongs to one plugin instance.
pub struct State {
    pub table: ResourceTable,
    pub memory: MemoryMeter,
    pub limits: Limits,
    pub clock: Arc<Clock>,
    pub samples: u64,
    line: CallerLine,
    output_bytes: u64,
    log_bytes: u64,
    assets: u64,
    requests: u64,
    tokens: u64,
    diagnostics: u64,
    by_code: HashMap<String, (Severity, u64)>,
    /// Of images that were asked for, by name; at most [`HEADERS`].
    headers: HashMap<String, input::ImageInfo>,
}

impl State {
    pub fn new(limits: Limits, cancel: Cancel, line: CallerLine) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        Self {
            table,
            memory: MemoryMeter::new(limits.memory_bytes),
            clock: Arc::new(Clock::new(limits.deadline, cancel)),
            limits,
            samples: 0,
            line,
            output_bytes: 0,
            log_bytes: 0,
            assets: 0,
            requests: 0,
            tokens: 0,
            diagnostics: 0,
            by_code: HashMap::new(),
            headers: HashMap::new(),
        }
    }

    /// One remark per kind about those that were counted but not passed on.
    pub fn left_out(&self) -> Vec<Diagnostic> {
        let kept = self.limits.diagnostics_per_code;
        let mut codes: Vec<_> = self.by_code.iter().collect();
        codes.sort();
        let more = codes.into_iter().filter(|(_, (_, count))| *count > kept);
        more.map(|(code, (severity, count))| Diagnostic {
            severity: *severity,
            code: code.clone(),
            message: format!("and {} more of this kind", count - kept),
            at: None,
        })
        .collect()
    }

    /// Asks the caller; the wait is not counted against the plugin.
    async fn ask<T: Send + 'static>(
        &mut self,
        errand: impl FnOnce(&mut dyn Caller) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Result<T, types::Error>> {
        let asked = Instant::now();
        let answer = self.line.ask(errand).await;
        self.clock.forgive(asked.elapsed());
        self.answered(answer)
    }

    /// Asks the caller for what the plugin could go on asking for ever: this time is its own.
    async fn look<T: Send + 'static>(
        &mut self,
        errand: impl FnOnce(&mut dyn Caller) -> Result<T, Failure> + Send + 'static,
    ) -> Result<Result<T, types::Error>> {
        let answer = self.line.ask(errand).await;
        self.answered(answer)
    }

    /// What the plugin gets of the caller's answer.
    fn answered<T>(&self, answer: Result<T, Failure>) -> Result<Result<T, types::Error>> {
        self.clock.check()?;
        match answer {
            Ok(value) => Ok(Ok(value)),
            Err(Failure::Told(error)) => Ok(Err(translate::to_error(error))),
            Err(Failure::Final) => Err(Stop::Caller.into()),
        }
    }

    async fn tell(&mut self, errand: impl FnOnce(&mut dyn Caller) + Send + 'static) -> Result<()> {
        let errand = |caller: &mut dyn Caller| {
            errand(caller);
            Ok(())
        };
        let told = self.ask(errand).await?;
        told.map_err(|_| Stop::Caller.into())
    }

    fn count_sample(&mut self, sample: &dataset::Sample) -> Result<(), Exceeded> {
        self.samples += 1;
        if self.samples > self.limits.samples {
            return Err(Exceeded::Samples(self.limits.samples));
        }
        self.output_bytes += sample_bytes(sample);
        if self.output_bytes > self.limits.output_bytes {
            return Err(Exceeded::OutputBytes(self.limits.output_bytes));
        }
        Ok(())
    }

    /// Counts a question to the model; gives the most tokens that the reply may have.
    fn count_request(&mut self, wanted: u32) -> Result<u32, Exceeded> {
        self.requests += 1;
        if self.requests > self.limits.requests {
            return Err(Exceeded::Requests(self.limits.requests));
        }
        let left = self.limits.tokens.saturating_sub(self.tokens);
        match (u32::try_from(left).unwrap_or(u32::MAX), wanted) {
            (0, _) => Err(Exceeded::Tokens(self.limits.tokens)),
            (left, 0) => Ok(left),
            (left, wanted) => Ok(wanted.min(left)),
        }
    }

    fn count_tokens(&mut self, reply: &JudgeReply) -> Result<(), Exceeded> {
        self.tokens += u64::from(reply.prompt_tokens) + u64::from(reply.generated_tokens);
        match self.tokens > self.limits.tokens {
            true => Err(Exceeded::Tokens(self.limits.tokens)),
            false => Ok(()),
        }
    }
}

impl types::Host for State {}

impl host::Host for State {
    async fn log(&mut self, level: host::Level, message: String) -> Result<()> {
        self.log_bytes += message.len() as u64;
        if self.log_bytes > self.limits.log_bytes {
            return Err(Stop::from(Exceeded::LogBytes(self.limits.log_bytes)).into());
        }
        let level = translate::log_level(level);
        let message = translate::readable(&message);
        self.tell(move |caller| caller.log(level, &message)).await
    }

    async fn report(&mut self, remark: types::Diagnostic) -> Result<Result<(), types::Error>> {
        self.diagnostics += 1;
        if self.diagnostics > self.limits.diagnostics {
            return Err(Stop::from(Exceeded::Diagnostics(self.limits.diagnostics)).into());
        }
        let remark = translate::diagnostic(remark);
        let known = self.by_code.len() < CODES || self.by_code.contains_key(&remark.code);
        let code = if known { remark.code.as_str() } else { "other" };
        let entry = self.by_code.entry(code.to_owned());
        let (_, count) = entry.or_insert((remark.severity, 0));
        *count += 1;
        if *count <= self.limits.diagnostics_per_code {
            self.tell(move |caller| caller.report(remark)).await?;
        }
        Ok(Ok(()))
    }

    async fn checkpoint(
        &mut self,
        done: u64,
        total: Option<u64>,
    ) -> Result<Result<(), types::Error>> {
        if self.clock.is_cancelled() {
            return Ok(Err(types::Error::Cancelled));
        }
        self.ask(move |caller| caller.checkpoint(done, total)).await
    }
}

impl input::Host for State {
    async fn open_asset(
        &mut self,
        name: String,
    ) -> Result<Result<Resource<OpenSource>, types::Error>> {
        self.assets += 1;
        if self.assets > self.limits.assets {
            return Err(Stop::from(Exceeded::Assets(self.limits.assets)).into());
        }
        let opened = self.look(move |caller| caller.open_asset(&name)).await?;
        Ok(match opened {
            Ok(source) => Ok(self.table.push(OpenSource::Asset(source))?),
            Err(error) => Err(error),
        })
    }

    async fn probe_image(
        &mut self,
        name: String,
    ) -> Result<Result<input::ImageInfo, types::Error>> {
        if let Some(header) = self.headers.get(&name) {
            self.clock.check()?;
            return Ok(Ok(*header));
        }
        let asked = name.clone();
        let header = self.look(move |caller| caller.probe_image(&asked)).await?;
        let header = header.map(translate::to_image_info);
        if let Ok(header) = header {
            if self.headers.len() >= HEADERS {
                self.headers.clear();
            }
            self.headers.insert(name, header);
        }
        Ok(header)
    }

    async fn list_assets(
        &mut self,
        prefix: String,
        after: Option<String>,
        max: u32,
    ) -> Result<Result<Vec<String>, types::Error>> {
        let max = max.min(10_000) as usize;
        self.look(move |caller| caller.list_assets(&prefix, after.as_deref(), max))
            .await
    }
}

impl input::HostSource for State {
    async fn name(&mut self, source: Resource<OpenSource>) -> Result<String> {
        Ok(match self.table.get(&source)? {
            OpenSource::Input { name, .. } => name.clone(),
            OpenSource::Asset(asset) => asset.name().to_owned(),
        })
    }

    async fn size(&mut self, source: Resource<OpenSource>) -> Result<Option<u64>> {
        Ok(match self.table.get(&source)? {
            OpenSource::Input { size, .. } => *size,
            OpenSource::Asset(asset) => asset.size(),
        })
    }

    async fn read(
        &mut self,
        source: Resource<OpenSource>,
        max: u32,
    ) -> Result<Result<Vec<u8>, types::Error>> {
        let max = max.clamp(1, READ_BYTES) as usize;
        match self.table.get_mut(&source)? {
            OpenSource::Input { .. } => self.ask(move |caller| caller.read(max)).await,
            OpenSource::Asset(asset) => {
                Ok(filled(max, |buffer| asset.read(buffer)).map_err(unreadable))
            }
        }
    }

    async fn read_at(
        &mut self,
        source: Resource<OpenSource>,
        offset: u64,
        max: u32,
    ) -> Result<Result<Vec<u8>, types::Error>> {
        let max = max.clamp(1, READ_BYTES) as usize;
        match self.table.get_mut(&source)? {
            OpenSource::Input { .. } => self.look(move |caller| caller.read_at(offset, max)).await,
            OpenSource::Asset(asset) => {
                Ok(filled(max, |buffer| asset.read_at(offset, buffer)).map_err(unreadable))
            }
        }
    }

    async fn drop(&mut self, source: Resource<OpenSource>) -> Result<()> {
        self.table.delete(source)?;
        Ok(())
    }
}

impl dataset::Host for State {}

impl dataset::HostSink for State {
    async fn emit(
        &mut self,
        sink: Resource<OpenSink>,
        batch: Vec<dataset::Sample>,
    ) -> Result<Result<(), types::Error>> {
        self.table.get(&sink)?;
        let mut samples = Vec::with_capacity(batch.len());
        // Values of JSON take more of our memory than of the plugin's.
        let values: usize = batch.iter().map(json_values).sum();
        if values > self.limits.call_bytes / VALUE_BYTES {
            return Err(Stop::from(Exceeded::CallBytes(self.limits.call_bytes)).into());
        }
        for sample in batch {
            self.count_sample(&sample).map_err(Stop::from)?;
            samples.push(translate::sample(sample).map_err(Stop::BadValue)?);
        }
        self.ask(move |caller| caller.emit(samples)).await
    }

    async fn drop(&mut self, sink: Resource<OpenSink>) -> Result<()> {
        self.table.delete(sink)?;
        Ok(())
    }
}

impl model::Host for State {
    async fn generate(
        &mut self,
        request: model::Request,
    ) -> Result<Result<model::Reply, types::Error>> {
        let max_tokens = self.count_request(request.max_tokens).map_err(Stop::from)?;
        let images = request.images.into_iter().map(shown);
        let request = JudgeRequest {
            turns: request.turns.into_iter().map(translate::turn).collect(),
            images: images.collect::<Result<_, _>>().map_err(Stop::BadValue)?,
            max_tokens,
            seed: request.seed,
        };
        let asked = self.ask(move |caller| caller.generate(&request)).await?;
        let reply = match asked {
            Ok(reply) => reply,
            Err(error) => return Ok(Err(error)),
        };
        self.count_tokens(&reply).map_err(Stop::from)?;
        Ok(Ok(model::Reply {
            text: reply.text,
            tokens_in: reply.prompt_tokens,
            tokens_out: reply.generated_tokens,
        }))
    }
}

/// An image of a question to the model. Its name is the caller's to check: it knows those of the
/// sample.
fn shown(image: dataset::ImageRef) -> Result<ImageRef, String> {
    match image {
        dataset::ImageRef::Asset(name) => Ok(ImageRef::Path(PathBuf::from(name))),
        other => translate::image(other),
    }
}

/// Counts the linear memory of an instance.
pub struct MemoryMeter {
    used: u64,
    limit: u64,
    /// The request that was refused.
    pub refused: Option<u64>,
}

impl MemoryMeter {
    fn new(limit: u64) -> Self {
        Self {
            used: 0,
            limit,
            refused: None,
        }
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> Result<bool> {
        let after = self.used + (wanted - now) as u64;
        if after > self.limit {
            self.refused = Some(after);
            let (wanted, limit) = (after, self.limit);
            return Err(Stop::from(Exceeded::Memory { wanted, limit }).into());
        }
        self.used = after;
        Ok(true)
    }

    fn table_growing(&mut self, _now: usize, wanted: usize, _: Option<usize>) -> Result<bool> {
        Ok(wanted <= 100_000)
    }

    fn instances(&self) -> usize {
        // Python's come as 33: the interpreter, its libraries, and what joins them.
        64
    }

    fn tables(&self) -> usize {
        16
    }

    fn memories(&self) -> usize {
        8
    }
}

/// Up to `max` bytes that `read` gives.
fn filled(
    max: usize,
    read: impl FnOnce(&mut [u8]) -> std::io::Result<usize>,
) -> std::io::Result<Vec<u8>> {
    let mut buffer = vec![0; max];
    let bytes = read(&mut buffer)?;
    buffer.truncate(bytes);
    Ok(buffer)
}

fn unreadable(error: std::io::Error) -> types::Error {
    types::Error::Io(error.to_string())
}

/// The most values that the attributes of a sample can hold.
fn json_values(sample: &dataset::Sample) -> usize {
    let values = sample.extra.iter().map(|(_, value)| match value {
        types::Value::Json(text) => {
            let opens = |b: &&u8| matches!(b, b',' | b'[' | b'{');
            1 + text.as_bytes().iter().filter(opens).count()
        }
        _ => 0,
    });
    values.sum()
}

fn sample_bytes(sample: &dataset::Sample) -> u64 {
    let images = sample.images.iter().map(|image| match image {
        dataset::ImageRef::Asset(name) | dataset::ImageRef::AssetPage((name, _)) => name.len(),
        dataset::ImageRef::Encoded(bytes) => bytes.len(),
    });
    let parts = sample.turns.iter().flat_map(|turn| &turn.content);
    let texts = parts.map(|part| match part {
        dataset::Part::Text(text) => text.len(),
        dataset::Part::Image(_) => 0,
    });
    let extra = sample.extra.iter().map(|(name, value)| {
        name.len()
            + match value {
                types::Value::Text(text) | types::Value::Json(text) => text.len(),
                _ => 8,
            }
    });
    let bytes: usize = images.chain(texts).chain(extra).sum();
    let parts: usize = sample.turns.iter().map(|turn| 1 + turn.content.len()).sum();
    let elements = 1 + parts + sample.images.len() + sample.extra.len();
    (bytes + sample.id.len() + elements * ELEMENT_BYTES) as u64
}
