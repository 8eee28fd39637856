//! Data sets and checkpoints, and the runs that they become.

use std::path::Path;
use std::sync::LazyLock;

use crate::c_functions::*;
use crate::c_program::{Program, path_of, run};
use crate::c_struct::{Struct, address};

use super::adapters::attached;
use super::{PICTURE, begin, samples, sound, write};

/// A data set's file: looked at, planned for and learned from.
pub fn dataset(bytes: &[u8]) -> Option<()> {
    begin();
    run(bytes, |program, second, file| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = path_of(&write(folder.path(), "data.json", file));
        write(folder.path(), "a.png", second.unwrap_or(PICTURE));
        let path = path.as_ptr().expose_provenance();
        let images = program.pick(0, &[path, c"".as_ptr().expose_provenance()]);
        let data = program.make("graft_dataset_open", graft_dataset_release, |out, err| {
            graft_dataset_open(path, images, out, err)
        })?;
        let mut count = 0;
        let status = graft_dataset_count(data, &mut count);
        program.status("graft_dataset_count", status)?;
        for index in (0..count.min(4)).chain([count, u64::MAX]) {
            let sample = program.buffer("graft_dataset_sample", |out, err| {
                graft_dataset_sample(data, index, out, err)
            });
            assert_eq!(sample.is_some(), index < count);
        }
        let options = Struct::new("graft_dataset_check_options")
            .set("max_length", program.pick(0, &[1, 8]))
            .set("model", program.pick(sound(), &[0]) as u64)
            .set(
                "template_name",
                program.pick(0, &[1]) * address(c"vicuna_v1".as_ptr()),
            )
            .set("cancel", program.cancel() as u64)
            .sized(program.choice());
        let mut errors = 0;
        program.call("graft_dataset_check", |err| {
            graft_dataset_check(data, options.at(), 0, 0, &mut errors, err)
        });
        let options = train_options(program).sized(program.choice());
        let mut plan = Struct::new("graft_plan").filled();
        program.buffer("graft_plan_training", |out, err| {
            graft_plan_training(sound(), data, 0, options.at(), plan.to(), out, err)
        });
        plan.check();
        let trainer = trainer(program, data, &options)?;
        learn(program, trainer)
    })
}

/// A short run of the smallest kind, or of whatever kind the bytes say.
fn train_options(program: &mut Program) -> Struct {
    let float = |value: f32| u64::from(value.to_bits());
    let targets =
        [c"q_proj", c"all-linear", c"none", c"(", c"nothing"].map(|text| address(text.as_ptr()));
    let json = [c"{}", c"{", c"{\"rank\": 1}", c"{\"no\": 1}"].map(|text| address(text.as_ptr()));
    Struct::new("graft_train_options")
        .set(
            "flags",
            program.pick(
                0,
                &[1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x200, 6, 0x18],
            ),
        )
        .set("rank", program.pick(1, &[0, 2, u32::MAX.into()]))
        .set("alpha", float(program.pick(0.0, &[1.0, f32::NAN, -1.0])))
        .set("dropout", float(program.pick(0.0, &[0.5, 1.0, f32::NAN])))
        .set("batch_size", program.pick(0, &[2, u32::MAX.into()]))
        .set("accumulation", program.pick(0, &[2, u32::MAX.into()]))
        .set("max_length", program.pick(0, &[1, 8, u32::MAX.into()]))
        .set("targets", program.pick(targets[0], &targets[1..]))
        .set(
            "learning_rate",
            f64::to_bits(program.pick(0.0, &[1e30, -1.0, f64::NAN])),
        )
        .set(
            "max_grad_norm",
            f64::to_bits(program.pick(0.0, &[-1.0, f64::NAN, f64::MAX])),
        )
        .set("max_steps", 2)
        .set("optimizer", program.pick(0, &[1, 2]))
        .set("schedule", program.pick(0, &[1, 2, 3]))
        .set("kept_layers", program.pick(0, &[1, u32::MAX.into()]))
        .set("memory_budget", program.pick(0, &[1, 64 << 20]))
        .set("extra_json", program.pick(0, &json))
}

fn trainer(program: &mut Program, data: Object, options: &Struct) -> Option<Object> {
    program.make("graft_trainer_create", graft_trainer_release, |out, err| {
        graft_trainer_create(sound(), data, 0, options.at(), out, err)
    })
}

/// The updates of a run, and what it learned in a session.
fn learn(program: &mut Program, trainer: Object) -> Option<()> {
    let mut metrics = Struct::new("graft_train_metrics")
        .sized(program.choice())
        .filled();
    let (steps, cancel) = (program.pick(2, &[0, 1, u64::MAX]), program.cancel());
    let done = program.call("graft_trainer_step", |err| {
        graft_trainer_step(trainer, steps, cancel, metrics.to(), err)
    });
    metrics.check();
    let status = graft_trainer_metrics(trainer, metrics.to());
    program.status("graft_trainer_metrics", status);
    let adapter = program.make(
        "graft_trainer_adapter",
        graft_adapter_release,
        |out, err| graft_trainer_adapter(trainer, out, err),
    );
    if let Some(adapter) = adapter {
        attached(program, adapter);
    }
    done.map(|_| ())
}

/// The checkpoint of a run after its first update.
fn checkpoint_folder() -> &'static Path {
    static SAVED: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = Struct::new("graft_train_options")
            .set("rank", 1)
            .set("max_length", 0)
            .set("targets", address(c"q_proj".as_ptr()))
            .set("max_steps", 2);
        let path = path_of(&folder.path().join("checkpoint-1"));
        let path = path.as_ptr().expose_provenance();
        let (mut trainer, mut saved) = (0, 0);
        assert_eq!(
            graft_trainer_create(sound(), samples(), 0, options.at(), &mut trainer, 0),
            0
        );
        assert_eq!(graft_trainer_step(trainer, 1, 0, 0, 0), 0);
        assert_eq!(graft_trainer_checkpoint(trainer, path, &mut saved, 0), 0);
        graft_buffer_release(saved);
        graft_trainer_release(trainer);
        folder
    });
    SAVED.path()
}

/// A checkpoint of a run, one of whose files is replaced, as the first choice says: gone back to, gone on from, and with
/// options of its own.
pub fn checkpoint(bytes: &[u8]) -> Option<()> {
    begin();
    let saved = checkpoint_folder().join("checkpoint-1");
    run(bytes, |program, second, file| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let files = ["state.json", "state.safetensors"];
        let which = usize::from(program.choice() >> 1 & 1);
        for (n, name) in files.into_iter().enumerate() {
            let content = match (n == which, second) {
                (true, _) => file.to_vec(),
                (false, Some(second)) => second.to_vec(),
                (false, None) => std::fs::read(saved.join(name)).expect("a file of ours"),
            };
            write(folder.path(), name, &content);
        }
        let path = path_of(folder.path());
        let way = program.choice() % 3;
        let mut options = train_options(program);
        if way > 0 {
            options = options.set("resume_from", address(path.as_ptr()));
        }
        if way == 2 {
            let flags = options.get("flags") | 0x100;
            options = options.set("flags", flags);
        }
        let options = options.sized(program.choice());
        let trainer = trainer(program, samples(), &options)?;
        if way == 0 {
            let at = path.as_ptr().expose_provenance();
            program.call("graft_trainer_resume", |err| {
                graft_trainer_resume(trainer, at, err)
            })?;
        }
        let mut metrics = Struct::new("graft_train_metrics");
        let status = graft_trainer_metrics(trainer, metrics.to());
        program.status("graft_trainer_metrics", status)?;
        assert!(metrics.get("step") <= metrics.get("steps"));
        let done = learn(program, trainer);
        let again = path_of(&folder.path().join("again"));
        let at = again.as_ptr().expose_provenance();
        program.buffer("graft_trainer_checkpoint", |out, err| {
            graft_trainer_checkpoint(trainer, at, out, err)
        });
        done
    })
}
