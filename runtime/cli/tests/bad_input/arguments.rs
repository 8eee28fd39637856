//! Options that cannot be meant: status 2, and the option is named.

use crate::workplace::Place;

#[test]
fn sampling_options_out_of_range_are_bad_usage() {
    let place = Place::new();
    for (options, named) in [
        ("--temp -1", "--temp"),
        ("--temp nan", "--temp"),
        ("--temp hot", "--temp"),
        ("--top-p 2", "--top-p"),
        ("--min-p -0.5", "--min-p"),
        ("--top-k -1", "--top-k"),
        ("--seed -1", "--seed"),
        ("--threads -1", "--threads"),
        ("--threads 5000", "--threads"),
        ("--ctx -1", "--ctx"),
        ("--ctx 99999999999", "--ctx"),
        ("--max-tokens -3", "--max-tokens"),
        ("--template nope", "nope"),
        ("--adapter a.gguf:nan", "--adapter"),
        ("--adapter :1", "--adapter"),
        ("--bogus", "--bogus"),
    ] {
        let said = place.run(&format!("run -m model.gguf -p hi {options}"));
        assert!(said.out.is_empty(), "{said:#?}");
        said.misused(&[named]);
        place
            .run(&format!("chat -m model.gguf {options}"))
            .misused(&[named]);
    }
    place.run("run -m model.gguf -p hi -n 2 --threads 0").done();
}

#[test]
fn training_options_out_of_range_are_bad_usage_and_leave_no_run() {
    let place = Place::new();
    for (options, named) in [
        ("--rank 0", "--rank"),
        ("--rank 100000", "--rank"),
        ("--rank -4", "--rank"),
        ("--alpha nan", "--alpha"),
        ("--dropout 1", "--dropout"),
        ("--dropout -0.1", "--dropout"),
        ("--lr -1", "--lr"),
        ("--lr nan", "--lr"),
        ("--lr inf", "--lr"),
        ("--weight-decay -1", "--weight-decay"),
        ("--clip -1", "--clip"),
        ("--warmup-ratio 2", "--warmup-ratio"),
        ("--steps 0", "--steps"),
        ("--epochs 0", "--epochs"),
        ("--batch 0", "--batch"),
        ("--grad-accum 0", "--grad-accum"),
        ("--max-len 1", "--max-len"),
        ("--schedule sometimes", "--schedule"),
        ("--memory lots", "--memory"),
        ("--memory 3elephants", "--memory"),
        ("--threads 99999999", "--threads"),
        ("--targets nope", "nope"),
        ("--targets (", "unclosed group"),
        ("--template nope", "nope"),
    ] {
        for command in [
            "train -m model.gguf --data text.json -o out.gguf",
            "plan -m model.gguf --data text.json",
        ] {
            let said = place.leaves_nothing(|| place.run(&format!("{command} {options}")));
            said.misused(&[named]);
        }
    }
    let said = place.leaves_nothing(|| {
        place.run("train -m model.gguf --data text.json -o out.gguf --memory 1MB")
    });
    said.failed(&["the budget is 1.0 MiB"]);
}

#[test]
fn options_that_go_by_the_evaluation_data_need_them() {
    let place = Place::new();
    let train = "train -m model.gguf --data text.json -o out.gguf --steps 2";
    for (options, words) in [
        (
            "--early-stop 3",
            &["--early-stop needs --eval-data and --eval-every"][..],
        ),
        (
            "--keep-best",
            &["--keep-best needs --eval-data and --eval-every"],
        ),
        ("--keep-best --eval-data data.json", &["--keep-best needs"]),
        ("--early-stop 3 --eval-every 1", &["--early-stop needs"]),
        ("--early-stop -1", &["--early-stop"]),
        (
            "--early-stop-delta 0.1",
            &["--early-stop-delta", "give both"],
        ),
        (
            "--early-stop 1 --early-stop-delta -1",
            &["--early-stop-delta is -1"],
        ),
        (
            "--early-stop 1 --early-stop-delta nan",
            &["--early-stop-delta is NaN"],
        ),
    ] {
        let said = place.leaves_nothing(|| place.run(&format!("{train} {options}")));
        said.misused(words);
    }
    place.run(&format!("{train} --early-stop 0")).done();
}

#[test]
fn what_is_missing_is_named() {
    let place = Place::new();
    for (line, named) in [
        ("run", "--model"),
        ("run -m model.gguf", "--prompt"),
        ("run -m model.gguf -p a -f b", "--file"),
        ("chat", "--model"),
        ("logits -m model.gguf -p hi", "--output"),
        ("tokenize -m model.gguf", "--prompt"),
        ("perplexity -m model.gguf", "--file"),
        ("convert export.json -o out.json", "--plugin"),
        ("train -m model.gguf --data text.json", "--output"),
        ("train -m model.gguf -o out.gguf", "--data"),
        ("plan -m model.gguf", "--data"),
        ("plan --resume a.run", "--resume"),
        ("eval -m model.gguf --data text.json", "--metric"),
        ("adapter info", "<ADAPTER>"),
        ("adapter import peft -m model.gguf", "--output"),
        ("adapter export a.gguf -o out", "--model"),
        ("adapter merge -m model.gguf -o out.gguf", "--adapter"),
        ("adapter combine -o out.gguf", "<FILE[:WEIGHT]>"),
        ("adapter combine a.gguf", "--output"),
        ("adapter difference -m model.gguf --rank 2 -o o", "--tuned"),
        ("adapter difference -m a --tuned b -o out.gguf", "--rank"),
        ("adapter prune a.gguf -o out.gguf", "--energy"),
        (
            "adapter prune a.gguf -o out.gguf --rank 2 --energy 0.9",
            "--energy",
        ),
        ("adapter scale a.gguf -o out.gguf", "--by"),
        ("adapter rename a.gguf -o out.gguf", "--name"),
        ("quantize model.gguf out.gguf", "<TYPE>"),
        ("convert-hf folder", "--output"),
        ("inspect", "<PATH>"),
        ("plugin new", "<FOLDER>"),
        ("plugin pack in.wasm", "--output"),
        ("plugin check", "<PLUGIN>"),
        ("bench", "--model"),
        ("devices extra", "extra"),
        ("demo --keep", "--keep"),
        ("nonsense", "nonsense"),
        ("adapter nonsense", "nonsense"),
    ] {
        place.leaves_nothing(|| place.run(line)).misused(&[named]);
    }
}

#[test]
fn other_values_out_of_range_are_bad_usage() {
    let place = Place::new();
    place.write("text.txt", "some words ".repeat(300));
    for (line, named) in [
        ("perplexity -m model.gguf -f text.txt --ctx 3", "--ctx"),
        ("perplexity -m model.gguf -f text.txt --ctx 100000", "--ctx"),
        ("bench -m model.gguf --prompt 0", "--prompt"),
        ("bench -m model.gguf --generate 0", "--generate"),
        ("bench -m model.gguf --rounds 0", "--rounds"),
        (
            "eval -m model.gguf --data text.json --metric exact-match --ctx 99999999999",
            "--ctx",
        ),
        (
            "eval -m model.gguf --data text.json --metric exact-match --option wrong",
            "KEY=VALUE",
        ),
        ("quantize model.gguf out.gguf Q9_9", "Q9_9"),
        (
            "quantize model.gguf out.gguf Q8_0 --threads 99999999",
            "--threads",
        ),
        (
            "adapter merge -m model.gguf --adapter a.gguf -o out.gguf --type Q9",
            "Q9",
        ),
        (
            "adapter merge -m model.gguf --adapter a.gguf -o out.gguf --threads 5000",
            "--threads",
        ),
        ("adapter combine a.gguf:nan -o out.gguf", "nan"),
        ("adapter combine a.gguf -o out.gguf --rank 0", "--rank"),
        ("adapter difference -m a --tuned b -o o --rank 0", "--rank"),
        ("adapter prune a.gguf -o out.gguf --rank 0", "--rank"),
        ("adapter prune a.gguf -o out.gguf --energy 0", "--energy"),
        ("adapter prune a.gguf -o out.gguf --energy 1.1", "--energy"),
        ("adapter scale a.gguf -o out.gguf --by 0", "--by"),
        ("adapter scale a.gguf -o out.gguf --by nan", "--by"),
        ("adapter rename a.gguf -o out.gguf --name=", "--name"),
        ("convert-hf folder -o out.gguf --type q4", "--type"),
        ("plugin new Bad_Name", "lower-case"),
        ("plugin new good --kind neither", "--kind"),
        ("plugin new good --lang fortran", "--lang"),
        ("demo --threads 5000", "--threads"),
        ("chat -m model.gguf --json", "graft run --json"),
    ] {
        place.leaves_nothing(|| place.run(line)).misused(&[named]);
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let place = Place::new();
    for command in [
        "demo",
        "run",
        "chat",
        "train",
        "plan",
        "eval",
        "adapter",
        "adapter info",
        "adapter import",
        "adapter export",
        "adapter merge",
        "adapter combine",
        "adapter difference",
        "adapter prune",
        "adapter scale",
        "adapter rename",
        "convert",
        "quantize",
        "convert-hf",
        "inspect",
        "tokenize",
        "logits",
        "perplexity",
        "plugin",
        "plugin new",
        "plugin pack",
        "plugin check",
        "plugin info",
        "bench",
        "devices",
    ] {
        let said = place.run(&format!("{command} --help")).done();
        let example = said.out.lines().any(|l| l.starts_with("  graft "));
        assert!(example, "{said:#?}");
        let wide = said.out.lines().find(|l| l.chars().count() > 100);
        assert_eq!(wide, None, "{command} --help");
    }
}
