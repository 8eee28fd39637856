//! A device that is lost while a model trains or answers is an error that says what to do, and never a hang: nothing
//! that was learned is lost with it, and the run goes on, on the processor or on the device opened anew.

#[path = "../../../tests/model/closeness.rs"]
mod closeness;
mod lessons;
mod machine;
#[path = "../../../tests/model/random.rs"]
mod random;

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use closeness::relative_error;
use graft::Error;
use graft::cancel::Cancel;
use graft::device::{DeviceError, DeviceOptions};
use graft::model::Model;
use graft::session::{Batch, BatchOptions, Session, SessionOptions};
use graft::train::{
    GradientPlace, Levers, Run, RunEnd, RunEvent, RunFolder, TrainError, TrainOptions, Trainer,
    checkpoint,
};
use graft_kernels::QuantType;
use lessons::{LONGEST, examples, trainer};
use machine::{Models, SIZES, device, training};

const UPDATES: u64 = 8;
/// Updates after which the device is lost.
const LOST_AFTER: u64 = 3;

/// What `work` gives; it must end in time.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    let worker = thread::spawn(move || done.send(work()));
    match wait.recv_timeout(Duration::from_secs(120)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("it panicked: {:?}", worker.join()),
    }
}

fn is_lost(error: &Error) {
    let text = error.to_string();
    assert!(
        matches!(error, Error::Device(DeviceError::Lost(_))),
        "{text}"
    );
    assert!(
        text.contains("was lost") && text.contains("open it again"),
        "{text}"
    );
}

fn lesson(model: &Arc<Model>, gradients: GradientPlace) -> Trainer {
    let options = TrainOptions {
        rank: 4,
        dropout: 0.1,
        steps: Some(UPDATES),
        lr: 1e-3,
        clip: 0.0,
        save_every: 2,
        max_len: LONGEST,
        levers: Levers {
            gradients: Some(gradients),
            ..Levers::default()
        },
        ..TrainOptions::default()
    };
    trainer(model, options, examples(6, SIZES.vocabulary))
}

fn values(trainer: &Trainer) -> Vec<f32> {
    trainer.parameters().arrays().concat()
}

/// What a run ends with that nothing interrupts, or that goes on from a folder.
fn to_end(model: &Arc<Model>, from: Option<&Path>) -> Vec<f32> {
    let mut trainer = lesson(model, GradientPlace::Whole);
    let folder = from.map(|folder| {
        trainer
            .resume(&checkpoint::latest(folder).unwrap())
            .unwrap();
        RunFolder::reopen(folder, trainer.done()).unwrap()
    });
    let mut run = Run::new(trainer, folder, None).unwrap();
    let end = run.to_end(&Cancel::new(), &mut |_| {}).unwrap();
    assert_eq!(end, RunEnd::Done);
    values(run.trainer())
}

/// A run whose device another thread gives up `pause` after an update; its error, and the run.
fn interrupted(model: Arc<Model>, folder: &Path, pause: Duration) -> (Error, Run) {
    let folder = RunFolder::create(folder, &()).unwrap();
    in_time(move || {
        let mut run = Run::new(lesson(&model, GradientPlace::Whole), Some(folder), None).unwrap();
        let mut thief = None;
        let error = run.to_end(&Cancel::new(), &mut |event| {
            if let RunEvent::Step { report, .. } = event
                && report.step == LOST_AFTER
            {
                let device = Arc::clone(model.llama().device().unwrap());
                thief = Some(thread::spawn(move || {
                    thread::sleep(pause);
                    device.give_up();
                }));
            }
        });
        thief.unwrap().join().unwrap();
        (error.unwrap_err(), run)
    })
}

#[test]
fn a_run_whose_device_is_lost_goes_on_from_its_last_update_on_any_device() {
    let Some(device) = device() else { return };
    let models = Models::write(&|_| QuantType::Q4K);
    let open = || models.open("stored", &training(&device));
    let cpu = models.open("stored", &DeviceOptions::CPU);
    let whole = to_end(&open(), None);
    for (pause, again) in [(0, true), (2, false), (5, true), (9, false)] {
        let folder = tempfile::tempdir().unwrap();
        let (error, run) = interrupted(open(), folder.path(), Duration::from_millis(pause));
        is_lost(&error);
        let done = run.trainer().done();
        assert!((LOST_AFTER..UPDATES).contains(&done), "{done} updates");
        println!(
            "lost {pause} ms after update {LOST_AFTER}, in update {}",
            done + 1
        );
        // What was learned is the processor's, and it was saved.
        let saved = checkpoint::latest(folder.path()).unwrap();
        assert_eq!(saved, checkpoint::named(folder.path(), done));
        drop(run);
        let ended = match again {
            true => to_end(&open(), Some(folder.path())),
            false => to_end(&cpu, Some(folder.path())),
        };
        let error = relative_error(&ended, &whole);
        println!("on the same device {again}: {error:.1e}");
        // The same device gives the same bits.
        let bound = if again { 0.0 } else { 1e-3 };
        assert!(error <= bound, "{again}: {error:e}");
    }
}

#[test]
fn an_update_that_was_half_done_is_not_saved() {
    let Some(device) = device() else { return };
    let models = Models::write(&|_| QuantType::Q4K);
    let model = models.open("stored", &training(&device));
    // Layers are updated as soon as their gradients are there: some are when the device is lost.
    let mut trainer = lesson(&model, GradientPlace::Layer);
    trainer.step().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let saved = trainer.save(folder.path()).unwrap();
    let error = in_time(move || {
        let device = Arc::clone(model.llama().device().unwrap());
        let thief = thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            device.give_up();
        });
        let error = loop {
            match trainer.step() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the run ended before the device was lost"),
                Err(error) => break error,
            }
        };
        thief.join().unwrap();
        let refused = trainer.step().unwrap_err();
        let torn = matches!(refused, Error::Train(TrainError::Torn { .. }));
        assert_eq!(trainer.save(saved.parent().unwrap()).is_err(), torn);
        error
    });
    is_lost(&error);
    let cpu = models.open("stored", &DeviceOptions::CPU);
    let mut resumed = lesson(&cpu, GradientPlace::Layer);
    resumed
        .resume(&checkpoint::latest(folder.path()).unwrap())
        .unwrap();
    resumed.step().unwrap();
}

#[test]
fn sessions_on_a_lost_device_say_so_and_the_model_opened_anew_answers() {
    let Some(device) = device() else { return };
    let models = Models::write(&|_| QuantType::Q8_0);
    let open = || models.open("stored", &device);
    let model = open();
    let session = |model: &Arc<Model>| {
        Session::new(Arc::clone(model), &SessionOptions::with_context(64)).unwrap()
    };
    let mut before = session(&model);
    before.feed(&[1, 5, 9]).unwrap();
    let want = before.logits().unwrap().to_vec();
    let lost = Arc::clone(&model);
    in_time(move || {
        // Tokens one after the other, until the device is gone.
        let mut live = session(&lost);
        live.feed(&[1]).unwrap();
        let device = Arc::clone(lost.llama().device().unwrap());
        let thief = thread::spawn(move || {
            thread::sleep(Duration::from_millis(10));
            device.give_up();
        });
        let mut next = || -> graft::Result<()> {
            live.logits()?;
            live.feed(&[7])?;
            if live.is_full() {
                live.truncate(1);
            }
            Ok(())
        };
        let error = loop {
            if let Err(error) = next() {
                break error;
            }
        };
        is_lost(&error);
        thief.join().unwrap();
        is_lost(&live.feed(&[3]).unwrap_err());
        is_lost(&live.fork(&SessionOptions::with_context(32)).unwrap_err());
        let options = SessionOptions::with_context(64);
        is_lost(&Session::new(Arc::clone(&lost), &options).unwrap_err());
        let options = BatchOptions {
            sessions: 1,
            context_length: 64,
            chunk: 0,
        };
        let mut batch = Batch::new(lost, &options).unwrap();
        is_lost(&batch.feed(&mut [&mut before], &[&[4]]).unwrap_err());
    });
    drop(model);
    let mut again = session(&open());
    again.feed(&[1, 5, 9]).unwrap();
    assert_eq!(again.logits().unwrap(), want);
}
