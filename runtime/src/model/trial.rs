//! How fast this machine goes through a layer of a model: a layer of the same shape and types whose
//! weights mean nothing, so that no weight of the model itself has to be read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use graft_kernels::ops::dropout::Dropout;

use super::attention::{self, Arrays};
use super::{
    ActivationPlan, Activations, AdapterView, GradientView, Llama, LlamaShape, LoraGradient,
    LoraRef, LowRank, RowSpan, Site, SiteKind, Words, cross_entropy,
};
use crate::Result;
use crate::gguf::{Gguf, Metadata, TensorDeclaration, Value, whole_file};
use crate::kv_cache::Before;
use crate::memory::Arena;
use graft_kernels::ops::attention::AttentionShape;

/// A model of one layer, and the pairs of an adapter at some of its sites.
#[derive(Debug)]
pub struct Trial {
    llama: Llama,
    terms: Terms,
    sums: Sums,
    words: Words,
}

/// A and B of each kind of site.
#[derive(Debug)]
struct Terms {
    pairs: [Option<(Vec<f32>, Vec<f32>)>; SiteKind::ALL.len()],
    rank: usize,
}

/// Their gradients.
#[derive(Debug)]
struct Sums([Option<(Vec<f32>, Vec<f32>)>; SiteKind::ALL.len()]);

/// Every byte of its weights: a small positive scale and small values in every type.
const FILL: u8 = 0x11;
/// Most rows of its output matrix: more than fit in a core's cache.
const VOCABULARY: usize = 8192;
/// A measurement goes on at least so long.
const ENOUGH: Duration = Duration::from_millis(60);

impl Trial {
    /// A trial for `llama`, with pairs of rank `rank` at these sites of every layer, in words if these layers are.
    ///
    /// # Errors
    /// If the system has no memory for a layer.
    pub fn new(llama: &Llama, kinds: &[SiteKind], rank: usize, words: Words) -> Result<Self> {
        let shape = llama.shape();
        let layer = &llama.layers()[shape.layers / 2];
        let mut tensors = Vec::new();
        let mut declare = |name: String, shape: &[usize], quant_type| {
            tensors.push(TensorDeclaration {
                name,
                shape: shape.to_vec(),
                quant_type,
            });
        };
        let output = llama.output().weight().quant_type();
        let norm = graft_kernels::QuantType::F32;
        for (kind, linear) in SiteKind::ALL.into_iter().zip(layer.linears()) {
            let name = format!("blk.0.{}.weight", kind.gguf_name());
            let ty = linear.weight().quant_type();
            declare(name, &[linear.inputs(), linear.outputs()], ty);
        }
        let vocabulary = shape.vocabulary.min(VOCABULARY);
        declare(
            "token_embd.weight".into(),
            &[shape.width, vocabulary],
            output,
        );
        for name in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"] {
            declare(format!("{name}.weight"), &[shape.width], norm);
        }
        let file = whole_file(&metadata(shape), &tensors, FILL)?;
        let gguf = Arc::new(Gguf::from_bytes(file)?);
        let pairs = || {
            SiteKind::ALL.map(|kind| {
                let (outputs, inputs) = shape.linear(kind);
                let pair = || (vec![0.01; rank * inputs], vec![0.01; outputs * rank]);
                kinds.contains(&kind).then(pair)
            })
        };
        Ok(Self {
            llama: Llama::bind(&gguf, llama.pool().clone())?,
            terms: Terms {
                pairs: pairs(),
                rank,
            },
            sums: Sums(pairs()),
            words,
        })
    }

    /// Seconds that `tokens` tokens take forward and backward through the layer.
    ///
    /// # Errors
    /// If the system has no memory for their activations.
    pub fn layer(&mut self, tokens: usize) -> Result<(f64, f64)> {
        let plan = ActivationPlan {
            tokens,
            layers: self.llama.own_layers().len(),
            loss_on_device: false,
            lowest: 0,
            kept: 1,
            offloaded: 0,
            host_inputs: 0,
            max_rank: self.terms.rank,
            dropout: false,
            stream_weights: false,
            inputs_in: None,
            half_inputs: false,
            words: self.words,
        };
        let mut activations = Activations::new(&self.llama, &plan, &Arena::unlimited())?;
        let mut rows = vec![0.0; tokens * self.llama.shape().width];
        let mut drows = rows.clone();
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        // The first time, pages and caches are cold: `median` leaves it out.
        while forward.len() < 2 || begun.elapsed() < ENOUGH {
            rows.fill(0.5);
            drows.fill(0.001);
            let at = Instant::now();
            let Self {
                llama, terms, sums, ..
            } = self;
            llama.forward_saving(&mut rows, &[], terms, &mut activations)?;
            forward.push(at.elapsed());
            let at = Instant::now();
            llama.backward(&mut drows, &[], terms, sums, true, &mut activations)?;
            backward.push(at.elapsed());
        }
        Ok((median(forward), median(backward)))
    }

    /// Seconds that the output matrix, the loss and their gradient take for `tokens` tokens, of a
    /// vocabulary of `vocabulary`.
    pub fn output(&self, tokens: usize, vocabulary: usize) -> f64 {
        let (width, own) = (self.llama.shape().width, self.llama.shape().vocabulary);
        let normed = vec![0.5; tokens * width];
        let mut dnormed = vec![0.0; tokens * width];
        let mut logits = vec![0.0; tokens * own];
        let labels = vec![1; tokens];
        let once = measure(|| {
            self.llama.logits(&mut logits, &normed, self.words);
            let pool = self.llama.pool();
            pool.run(|| cross_entropy(&mut logits, &labels, own, 1.0));
            self.llama
                .logits_backward(&mut dnormed, &logits, self.words);
        });
        once * vocabulary as f64 / own as f64
    }

    /// Seconds that attention alone takes for `tokens` tokens, forward and backward.
    pub fn attention(&self, tokens: usize) -> (f64, f64) {
        let shape = self.llama.shape();
        // A few heads tell what all take.
        let kv_heads = shape.kv_heads.min(2 * self.llama.pool().threads());
        let some = AttentionShape {
            heads: kv_heads * shape.group(),
            kv_heads,
            head_width: shape.head_width,
            scale: 0.1,
            causal: true,
        };
        let (wide, narrow) = (
            tokens * some.heads * some.head_width,
            tokens * some.kv_heads * some.head_width,
        );
        let (q, kv) = (vec![0.1; wide], vec![0.1; narrow]);
        let (mut out, mut dq) = (vec![0.0; wide], vec![0.0; wide]);
        let (mut dk, mut dv) = (vec![0.0; narrow], vec![0.0; narrow]);
        let mut lse = vec![0.0; tokens * some.heads];
        let arrays = Arrays {
            q: &q,
            k: &kv,
            v: &kv,
        };
        let pool = self.llama.pool();
        let forward = measure(|| {
            pool.run(|| {
                attention::forward(&mut out, &mut lse, (&arrays, Before::default()), &[], &some)
            })
        });
        let backward = measure(|| {
            pool.run(|| {
                let grads = (&mut dq[..], &mut dk[..], &mut dv[..]);
                attention::backward(grads, &out, &arrays, (&out, &lse), &[], &some);
            });
        });
        let all = shape.kv_heads as f64 / kv_heads as f64;
        (all * forward, all * backward)
    }
}

fn metadata(shape: &LlamaShape) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert("general.architecture", Value::String("llama".into()));
    for (key, size) in [
        ("context_length", shape.context_length),
        ("embedding_length", shape.width),
        ("block_count", 1),
        ("feed_forward_length", shape.feed_forward),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
        ("attention.key_length", shape.head_width),
        ("attention.value_length", shape.head_width),
        ("rope.dimension_count", shape.head_width),
    ] {
        metadata.insert(format!("llama.{key}"), Value::U32(size as u32));
    }
    let eps = "llama.attention.layer_norm_rms_epsilon";
    metadata.insert(eps, Value::F32(shape.norm_eps));
    metadata
}

/// Seconds of the middle one of several runs.
fn measure(mut work: impl FnMut()) -> f64 {
    let mut took = Vec::new();
    let begun = Instant::now();
    while took.len() < 2 || begun.elapsed() < ENOUGH {
        let at = Instant::now();
        work();
        took.push(at.elapsed());
    }
    median(took)
}

/// Of all but the first, in seconds.
fn median(durations: Vec<Duration>) -> f64 {
    let mut warm = durations[1..].to_vec();
    warm.sort_unstable();
    warm[warm.len() / 2].as_secs_f64()
}

impl AdapterView for Terms {
    fn count(&self) -> usize {
        1
    }

    fn term(&self, _: usize, site: Site) -> Option<LoraRef<'_>> {
        let (a, b) = self.pairs[site.in_layer()?.1 as usize].as_ref()?;
        Some(LoraRef {
            a: LowRank::Floats(a),
            b: LowRank::Floats(b),
            rank: self.rank,
            scale: 1.0,
            dropout: Dropout::NONE,
            rows: RowSpan::ALL,
        })
    }

    fn max_rank(&self) -> usize {
        self.rank
    }
}

impl GradientView for Sums {
    fn at(&mut self, site: Site) -> Option<LoraGradient<'_>> {
        let (da, db) = self.0[site.in_layer()?.1 as usize].as_mut()?;
        Some(LoraGradient { da, db })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::Pool;

    #[test]
    fn every_part_of_a_step_takes_time() {
        let shape = LlamaShape {
            layers: 1,
            ..LlamaShape::tiny()
        };
        let mut tensors = Vec::new();
        let mut declare = |name: &str, shape: &[usize]| {
            tensors.push(TensorDeclaration {
                name: format!("{name}.weight"),
                shape: shape.to_vec(),
                quant_type: graft_kernels::QuantType::F16,
            });
        };
        for kind in SiteKind::ALL {
            let (outputs, inputs) = shape.linear(kind);
            declare(&format!("blk.0.{}", kind.gguf_name()), &[inputs, outputs]);
        }
        for norm in ["blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"] {
            declare(norm, &[shape.width]);
        }
        declare("token_embd", &[shape.width, shape.vocabulary]);
        let file = whole_file(&metadata(&shape), &tensors, FILL).unwrap();
        let gguf = Arc::new(Gguf::from_bytes(file).unwrap());
        let llama = Llama::bind(&gguf, Pool::new(2).unwrap()).unwrap();
        let mut trial =
            Trial::new(&llama, &[SiteKind::Q, SiteKind::Down], 4, Words::Never).unwrap();
        let (forward, backward) = trial.layer(16).unwrap();
        let (attention, its_backward) = trial.attention(16);
        let output = trial.output(16, shape.vocabulary);
        for seconds in [forward, backward, attention, its_backward, output] {
            assert!(seconds > 0.0 && seconds < 10.0, "{seconds}");
        }
    }
}
