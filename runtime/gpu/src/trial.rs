//! Trying the ways in which a device can compute products.
//!
//! A small product of each kind is computed each way. What f32 computes is compared with the processor, what the
//! others compute with f32, to the bound of their rounding: drivers differ in what they get right. What is right
//! is timed, and the fastest is taken from then on. The times are kept for each device, driver and version of
//! graft.

use std::path::Path;
use std::time::{Duration, Instant};

use graft_kernels::{QuantType, blocks};

use crate::arithmetic::{Arithmetic, KernelChoice, Product, Rounding, Trial};
use crate::cache::{self, Cache};
use crate::kernels::trial_text;
use crate::{
    AdapterKind, AdapterReport, Choice, Device, DeviceOptions, GpuError, Matrix, Part, Recorder,
    Result, Tensor,
};

/// What products are tried with: most models have more Q4_K than of any other type.
const TYPE: QuantType = QuantType::Q4K;
/// Weights of a row.
const INPUTS: usize = 1024;
/// More than a trial allocates.
const BUDGET: u64 = 64 << 20;
/// How long the runs that are timed together take, if one does not take longer.
const RUNS: Duration = Duration::from_millis(2);

impl Device {
    /// What a trial found, from the cache if it is there.
    ///
    /// # Errors
    /// If f32 is not computed right, or the device is lost.
    pub(crate) fn tried(&self, cache: Option<&Cache>) -> Result<Trial> {
        let name = name_of(self.adapter());
        let kept = cache.and_then(|cache| cache.load(&name));
        if let Some(trial) = kept.and_then(|bytes| parse(&bytes)) {
            return Ok(trial);
        }
        let trial = match Bench::new(self) {
            Ok(bench) => match bench.trial() {
                Err(lost @ GpuError::Lost { .. }) => {
                    if let Some(cache) = cache {
                        // Not again at every start.
                        cache.store(&name, text(&Trial::of_f32()).as_bytes());
                    }
                    return Err(lost);
                }
                other => other?,
            },
            // A budget without room for it: f32, and nothing to remember.
            Err(GpuError::Budget { .. } | GpuError::Arena { .. }) => return Ok(Trial::default()),
            Err(other) => return Err(other),
        };
        if let Some(cache) = cache {
            cache.store(&name, text(&trial).as_bytes());
        }
        Ok(trial)
    }
}

impl Trial {
    /// What was found when a device was first opened with this [`crate::DeviceOptions::cache`]; `None` if nothing is
    /// there, or the driver or graft is another since.
    pub fn kept(adapter: &AdapterReport, folder: &Path) -> Option<Self> {
        parse(&Cache::at(folder).load(&name_of(adapter))?)
    }

    /// Opens a device, software or not, tries it whatever is kept of it, and keeps what it found.
    ///
    /// # Errors
    /// As [`Device::open`], or if it computes nothing right.
    pub fn again(adapter: &AdapterReport, folder: Option<&Path>) -> Result<Self> {
        if let Some(folder) = folder {
            Cache::at(folder).remove(&name_of(adapter));
        }
        let device = Device::open(&DeviceOptions {
            choice: Choice::Index(adapter.index),
            budget: Some(BUDGET),
            kernels: KernelChoice::Tried,
            cache: folder.map(Path::to_owned),
            ..DeviceOptions::default()
        })?;
        // Lost over the trial, it was opened again for f32.
        Ok(device.trial().cloned().unwrap_or_else(Self::of_f32))
    }
}

/// The name that a trial is kept under.
fn name_of(adapter: &AdapterReport) -> String {
    cache::name_of(
        "trial",
        [
            adapter.name.as_str(),
            adapter.driver.as_str(),
            adapter.interface,
            env!("CARGO_PKG_VERSION"),
            trial_text(TYPE).as_str(),
        ],
    )
}

/// A line for each time: product, arithmetic, nanoseconds; behind them how large the products were, and what was passed.
fn text(trial: &Trial) -> String {
    let mut text = String::new();
    for product in Product::ALL {
        for arithmetic in Arithmetic::ALL {
            if let Some(time) = trial.time(product, arithmetic) {
                let (product, arithmetic) = (product.name(), arithmetic.name());
                text += &format!("{product} {arithmetic} {}\n", time.as_nanos());
            }
        }
    }
    text += &format!("flop {}\n", trial.flop);
    if let Some((bytes, time)) = trial.passed {
        text += &format!("passed {bytes} {}\n", time.as_nanos());
    }
    text
}

/// What [`text`] wrote; nothing if it is anything else.
fn parse(bytes: &[u8]) -> Option<Trial> {
    let mut trial = Trial::default();
    for line in std::str::from_utf8(bytes).ok()?.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (product, arithmetic, nanos) = match words[..] {
            ["flop", flop] => {
                trial.flop = flop.parse().ok()?;
                continue;
            }
            ["passed", bytes, nanos] => {
                let time = Duration::from_nanos(nanos.parse().ok()?);
                trial.passed = Some((bytes.parse().ok()?, time));
                continue;
            }
            [product, arithmetic, nanos] => (product, arithmetic, nanos),
            _ => return None,
        };
        let product = Product::ALL.into_iter().find(|p| p.name() == product)?;
        let arithmetic = Arithmetic::ALL
            .into_iter()
            .find(|a| a.name() == arithmetic)?;
        let time = &mut trial.times[product as usize][arithmetic as usize];
        *time = Some(Duration::from_nanos(nanos.parse().ok()?));
    }
    // f32 is always right.
    let f32_timed = |p| trial.time(p, Arithmetic::F32).is_some();
    Product::ALL.into_iter().all(f32_timed).then_some(trial)
}

/// Operands on the device.
struct Bench<'a> {
    device: &'a Device,
    weights: Matrix,
    decoded: Vec<f32>,
    x: Tensor,
    y: Tensor,
    x_values: Vec<f32>,
    y_values: Vec<f32>,
}

impl<'a> Bench<'a> {
    fn new(device: &'a Device) -> Result<Self> {
        // Software takes seconds for what a card does in one millisecond, and is only tried in tests.
        let (tokens, rows) = match device.adapter().kind {
            AdapterKind::Software => (20, 96),
            _ => (256, 2048),
        };
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let row_bytes = TYPE.row_bytes(INPUTS).unwrap_or_default();
        let mut stored: Vec<u8> = (0..rows * row_bytes).map(|_| random.next() as u8).collect();
        for block in stored.chunks_exact_mut(TYPE.block_bytes()) {
            // Scale and minimum, 2^-10: weights are between -1/16 and 1.
            block[..4].copy_from_slice(&[0, 0x14, 0, 0x14]);
        }
        let mut decoded = vec![0.0; rows * INPUTS];
        blocks::decode(TYPE, &stored, &mut decoded);
        let mut floats = |count| (0..count).map(|_| random.float()).collect::<Vec<_>>();
        let (x_values, y_values) = (floats(tokens * INPUTS), floats(tokens * rows));
        let bytes = device.matrix_bytes(TYPE, rows, INPUTS).unwrap_or_default();
        let weights = device.arena(Part::StreamedWeights, bytes)?;
        let bytes = device.tensor_bytes(tokens, INPUTS) + device.tensor_bytes(tokens, rows);
        let buffers = device.arena(Part::LayerBuffers, bytes)?;
        let bench = Self {
            device,
            weights: weights.matrix(TYPE, rows, INPUTS)?,
            decoded,
            x: buffers.tensor(tokens, INPUTS)?,
            y: buffers.tensor(tokens, rows)?,
            x_values,
            y_values,
        };
        let mut recorder = Recorder::new(device)?;
        recorder.write_matrix(&bench.weights, &stored)?;
        recorder.submit()?;
        Ok(bench)
    }

    fn trial(&self) -> Result<Trial> {
        let mut trial = Trial {
            flop: 2 * (self.y.len() * INPUTS) as u64,
            ..Trial::default()
        };
        for product in Product::ALL {
            let exact = self.result(product, Arithmetic::F32)?;
            if !self.is_right(product, &exact) {
                return Err(GpuError::Miscomputes {
                    adapter: self.device.adapter().name.clone(),
                });
            }
            let candidates = Arithmetic::ALL.into_iter();
            let candidates = candidates.filter(|a| a.is_tried() && a.serves(product, TYPE));
            for arithmetic in candidates.filter(|&a| self.device.0.has(a)) {
                let right = match self.result(product, arithmetic) {
                    Ok(result) => near(&result, &exact, arithmetic.rounding()),
                    // A driver that does not compile it does not have it.
                    Err(GpuError::Shader { .. }) => false,
                    Err(other) => return Err(other),
                };
                if right {
                    let time = self.time(product, arithmetic)?;
                    trial.times[product as usize][arithmetic as usize] = Some(time);
                }
            }
        }
        trial.passed = Some(self.passed()?);
        Ok(trial)
    }

    fn record(&self, product: Product, arithmetic: Arithmetic, runs: usize) -> Result<Recorder> {
        let mut recorder = Recorder::new(self.device)?;
        recorder.only(arithmetic);
        for _ in 0..runs {
            match product {
                Product::Forward => recorder.mm_q(&self.y, &self.x, &self.weights)?,
                Product::Backward => recorder.mm_q_backward(&self.x, &self.y, &self.weights)?,
                Product::Thin => {
                    let (y, x) = (self.y.slice(0..1)?, self.x.slice(0..1)?);
                    recorder.mv_q(&y, &x, &self.weights)?;
                }
            }
        }
        Ok(recorder)
    }

    /// What is computed, a row for each token.
    fn result(&self, product: Product, arithmetic: Arithmetic) -> Result<Vec<f32>> {
        let mut recorder = Recorder::new(self.device)?;
        match product {
            Product::Backward => {
                recorder.write(&self.y, &self.y_values)?;
                recorder.fill(&self.x, 0.0)?;
            }
            _ => {
                recorder.write(&self.x, &self.x_values)?;
                recorder.fill(&self.y, f32::MAX)?;
            }
        }
        recorder.submit()?;
        self.record(product, arithmetic, 1)?.submit()?;
        let written = match product {
            Product::Forward => self.y.clone(),
            Product::Backward => self.x.clone(),
            Product::Thin => self.y.slice(0..1)?,
        };
        let mut values = vec![0.0; written.len()];
        self.device.read(&written, &mut values)?;
        Ok(values)
    }

    /// What a layer leaves takes this way when the device has no room for it.
    fn passed(&self) -> Result<(u64, Duration)> {
        let mut values = vec![0.0; self.y.len()];
        let mut best = Duration::MAX;
        for _ in 0..3 {
            let begun = Instant::now();
            self.device.read(&self.y, &mut values)?;
            let mut recorder = Recorder::new(self.device)?;
            recorder.write(&self.y, &values)?;
            recorder.submit()?.wait()?;
            best = best.min(begun.elapsed());
        }
        Ok((4 * values.len() as u64, best))
    }

    /// The best time of a run.
    fn time(&self, product: Product, arithmetic: Arithmetic) -> Result<Duration> {
        let measure = |runs: usize| {
            let recorder = self.record(product, arithmetic, runs)?;
            let begun = Instant::now();
            recorder.submit()?.wait()?;
            Ok(begun.elapsed() / runs as u32)
        };
        let one: Duration = measure(1)?;
        let runs = (RUNS.as_nanos() / one.as_nanos().max(1)).clamp(1, 64) as usize;
        let tries = if one > RUNS { 1 } else { 3 };
        let times = (0..tries).map(|_| measure(runs));
        times
            .chain([Ok(one)])
            .reduce(|a, b| Ok(a?.min(b?)))
            .unwrap_or(Ok(one))
    }

    /// Whether some of what f32 computed is what the processor computes.
    fn is_right(&self, product: Product, result: &[f32]) -> bool {
        let rows = self.weights.rows();
        let width = if product == Product::Backward {
            INPUTS
        } else {
            rows
        };
        let tokens = result.len() / width;
        let some = (0..tokens).step_by(tokens.div_ceil(5)).flat_map(|token| {
            let columns = (0..width).step_by(width.div_ceil(13));
            columns.map(move |column| (token, column))
        });
        let (mut got, mut want) = (vec![], vec![]);
        for (token, column) in some {
            let terms: f64 = match product {
                Product::Backward => (0..rows)
                    .map(|r| {
                        (
                            self.y_values[token * rows + r],
                            self.decoded[r * INPUTS + column],
                        )
                    })
                    .map(|(a, b)| f64::from(a) * f64::from(b))
                    .sum(),
                _ => self.x_values[token * INPUTS..][..INPUTS]
                    .iter()
                    .zip(&self.decoded[column * INPUTS..][..INPUTS])
                    .map(|(&a, &b)| f64::from(a) * f64::from(b))
                    .sum(),
            };
            got.push(result[token * width + column]);
            want.push(terms as f32);
        }
        near(&got, &want, Rounding::None)
    }
}

/// Whether numbers differ no more than rounding explains; the root of the mean square, relative.
fn near(got: &[f32], want: &[f32], rounding: Rounding) -> bool {
    let bound = match rounding {
        Rounding::None => 1e-5,
        Rounding::Halves => 1e-3,
        Rounding::Bytes => 1.5e-2,
    };
    let square = |v: f32| f64::from(v) * f64::from(v);
    let off: f64 = got.iter().zip(want).map(|(&g, &w)| square(g - w)).sum();
    let all: f64 = want.iter().map(|&w| square(w)).sum();
    // Not a number is not near.
    off <= all * bound * bound
}

/// Pseudo-random numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 32
    }

    /// Between -1 and 1.
    fn float(&mut self) -> f32 {
        (self.next() & 0xff_ffff) as f32 / (1 << 23) as f32 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_kept_as_text_and_other_text_is_none() {
        let mut trial = Trial::default();
        for (i, product) in Product::ALL.into_iter().enumerate() {
            trial.times[product as usize][0] = Some(Duration::from_nanos(5 + i as u64));
        }
        trial.times[1][1] = Some(Duration::from_secs(1));
        trial.flop = 8;
        trial.passed = Some((1 << 21, Duration::from_millis(1)));
        let text = text(&trial);
        assert_eq!(parse(text.as_bytes()), Some(trial));
        let less = text.lines().skip(1).collect::<Vec<_>>().join("\n");
        let strange = [
            "",
            "forward f32",
            &less,
            &text.replace("f32 5", "f32 -5"),
            &text.replace("thin", "thick"),
            &(text.clone() + "forward f64 3\n"),
            &text.replace("flop 8", "flop eight"),
            &text.replace("passed 2097152", "passed"),
            &text.replace(' ', "  "),
        ];
        for text in strange {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(&[0xff, 0xfe]), None);
    }

    #[test]
    fn what_rounding_does_not_explain_is_not_near() {
        let want = [1.0, -2.0, 3.0];
        for (rounding, off) in [
            (Rounding::None, 1e-4),
            (Rounding::Halves, 1e-2),
            (Rounding::Bytes, 1e-1),
        ] {
            assert!(near(&want, &want, rounding));
            assert!(!near(&[1.0, -2.0, 3.0 + 3.0 * off], &want, rounding));
            assert!(!near(&[1.0, f32::NAN, 3.0], &want, rounding));
        }
    }
}
