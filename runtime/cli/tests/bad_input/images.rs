//! Images and prompts that a model cannot be given.

use crate::workplace::Place;

const SEEING: [&str; 3] = [
    "run -m model.gguf --mmproj mmproj.gguf -p hi --image FILE",
    "chat -m model.gguf --mmproj mmproj.gguf --image FILE",
    "logits -m model.gguf --mmproj mmproj.gguf -p hi -o out.npy --image FILE",
];

#[test]
fn an_image_that_is_none_is_named() {
    let place = Place::new();
    let whole = place.read("0.png");
    place.write("empty.png", "");
    place.write("half.png", &whole[..whole.len() / 2]);
    place.write("folder.png.txt", "no image");
    std::fs::create_dir(place.path("folder")).unwrap();
    // A header that claims 60,000 x 60,000 pixels.
    let mut huge = whole.clone();
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    place.write("huge.png", huge);
    for (file, says) in [
        ("missing.png", "cannot read image missing.png"),
        ("empty.png", "image empty.png is empty (0 bytes)"),
        ("half.png", "image half.png is damaged"),
        ("folder.png.txt", "image folder.png.txt is not a PNG"),
        ("folder", "cannot read image folder"),
        ("huge.png", "image huge.png"),
    ] {
        for command in SEEING {
            let said = place.leaves_nothing(|| place.run(&command.replace("FILE", file)));
            said.failed(&[says]);
        }
    }
}

#[test]
fn an_image_without_a_vision_half_is_bad_usage() {
    let place = Place::new();
    for command in SEEING {
        let command = command
            .replace("--mmproj mmproj.gguf", "")
            .replace("FILE", "0.png");
        place
            .leaves_nothing(|| place.run(&command))
            .misused(&["--mmproj"]);
    }
}

#[test]
fn markers_and_images_must_agree() {
    let place = Place::new();
    let seeing = "-m model.gguf --mmproj mmproj.gguf --image 0.png";
    place
        .run(&format!("run {seeing} --raw -p <image><image>"))
        .misused(&["2 times", "1 image"]);
    place
        .run(&format!("logits {seeing} --tokens 1,2 -o out.npy"))
        .misused(&["0 places", "1 image"]);
    place
        .run("logits -m model.gguf --tokens 1,-200 -o out.npy")
        .misused(&["1 place", "0 images"]);
    place
        .run("logits -m model.gguf --tokens 1,-7 -o out.npy")
        .misused(&["numbers from 0"]);
    place
        .run("logits -m model.gguf --tokens 1,99999 -o out.npy")
        .failed(&["token 99999", "768"]);
    assert!(!place.path("out.npy").exists() && !place.has_partial());
}

#[test]
fn a_prompt_longer_than_the_context_is_refused() {
    let place = Place::new();
    place.write("long.txt", "word ".repeat(3000));
    let run = "run -m model.gguf -f long.txt";
    place
        .run(run)
        .failed(&["positions", "2048", "shorten the prompt"]);
    place
        .run(&format!("{run} --ctx 16"))
        .failed(&["positions", "16", "--ctx"]);
    let words = "word,".repeat(3000).replace("word", "5");
    let line = format!(
        "logits -m model.gguf -o out.npy --tokens {}",
        words.trim_end_matches(',')
    );
    place
        .leaves_nothing(|| place.run(&line))
        .failed(&["3000 positions", "2048"]);
    let said = place.shell("{} chat -m model.gguf --ctx 16 <<< 'What is written here?'");
    assert_eq!(said.status, Some(1), "{said:#?}");
    assert!(
        said.err.contains("16") && said.err.contains("one line failed"),
        "{said:#?}"
    );
}

#[test]
fn a_text_that_cannot_be_read_is_named() {
    let place = Place::new();
    place.write("empty.txt", "");
    for command in [
        "run -m model.gguf -f FILE",
        "tokenize -m model.gguf -f FILE",
        "perplexity -m model.gguf -f FILE",
    ] {
        let with = |file: &str| place.run(&command.replace("FILE", file));
        with("missing.txt").failed(&["cannot read missing.txt"]);
        with("0.png").failed(&["cannot read 0.png", "UTF-8"]);
        with(".").failed(&["cannot read ."]);
    }
    place
        .run("perplexity -m model.gguf -f empty.txt")
        .failed(&["empty.txt", "give a longer text"]);
}

#[test]
fn lines_of_a_chat_that_fail_do_not_end_it() {
    let place = Place::new();
    place.write(
        "talk.txt",
        "/nope\n/image missing.png\n/adapter add missing.gguf\n/adapter scale 1 x\nhi\n",
    );
    let said = place.shell("{} chat -m model.gguf --mmproj mmproj.gguf -n 2 < talk.txt");
    assert_eq!(said.status, Some(1), "{said:#?}");
    assert!(!said.out.trim().is_empty(), "{said:#?}");
    for words in [
        "no command /nope",
        "missing.png",
        "missing.gguf",
        "give two numbers",
        "4 lines failed",
    ] {
        assert!(said.err.contains(words), "{words} is not in {said:#?}");
    }
}
