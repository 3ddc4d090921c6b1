//! Every command that the README and the guide name is one of the program's, and those that change
//! nothing work as they stand there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::home::Home;

const PROGRAM: &str = "knhk-test-cache ";

/// How a command line ends in a page: a description, a comment, a quotation mark, another command.
const ENDS: [&str; 8] = ["  ", " #", "\"", "`", ")", ";", "|", "&"];

/// The commands that change nothing and end.
const READ_ONLY_COMMANDS: [&str; 10] = [
    "check",
    "completions",
    "config agents",
    "config path",
    "doctor",
    "explain",
    "help",
    "select",
    "stats",
    "status",
];

/// The code of a page: lines of its blocks, and spans of its prose.
fn code(page: &str) -> Vec<String> {
    let (mut blocks, mut prose) = (Vec::new(), String::new());
    for (number, part) in page.split("```").enumerate() {
        match number % 2 {
            0 => prose.push_str(&part.replace('\n', " ")),
            _ => blocks.extend(part.lines().map(str::to_owned)),
        }
    }
    let spans = prose.split('`').skip(1).step_by(2).map(str::to_owned);
    blocks.into_iter().chain(spans).collect()
}

/// The arguments of the program in these lines, with words in the place of placeholders.
fn commands(lines: &[String]) -> BTreeSet<Vec<String>> {
    let begins = |line: &str| -> Vec<usize> {
        line.match_indices(PROGRAM).map(|(at, _)| at + PROGRAM.len()).collect()
    };
    let all = lines.iter().flat_map(|line| begins(line).into_iter().map(|at| &line[at..]));
    let is_command = |rest: &&str| rest.starts_with(|first: char| first.is_ascii_lowercase());
    let command = |rest: &str| {
        let end = ENDS.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
        let words = rest[..end].split_whitespace();
        let words = words.map(|word| match word.trim_matches(['[', ']']) {
            "TARGET" => "p".to_owned(),
            "FILE" => "page.html".to_owned(),
            "SHELL" => "bash".to_owned(),
            word => word.to_owned(),
        });
        words.collect()
    };
    all.filter(is_command).map(command).collect()
}

#[test]
fn every_command_of_the_guide_is_one_of_the_program() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![top.join("README.md")];
    pages.extend(fs::read_dir(top.join("src/guide")).unwrap().map(|page| page.unwrap().path()));
    let home = Home::with(&[]);
    home.test(&["--no-daemon"]).green_from("run");
    let mut run = 0;
    for page in pages {
        for words in commands(&code(&fs::read_to_string(&page).unwrap())) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let told = format!("{}: {}", page.display(), words.join(" "));
            let end = words.iter().position(|word| *word == "--").unwrap_or(words.len());
            // All before it is parsed first.
            let asked = home.run(&[&words[..end], &["--help"]].concat());
            assert_eq!(asked.code, Some(0), "{told}: {asked:#?}");
            if READ_ONLY_COMMANDS.iter().any(|harmless| words.join(" ").starts_with(harmless)) {
                let ran = home.run(&words);
                assert_ne!(ran.code, Some(2), "{told}: {ran:#?}");
                assert!(!ran.stdout.is_empty() || !ran.stderr.is_empty(), "{told}: {ran:#?}");
                run += 1;
            }
        }
    }
    assert!(run >= 10, "only {run} of them were found and run");
}

#[test]
fn a_command_ends_where_its_description_begins() {
    let page = "`knhk-test-cache status` and\n`knhk-test-cache\nexplain TARGET`, knhk-test-cache is\n\
                ```sh\nA=b knhk-test-cache test -p [x]  # all\nx \"$(knhk-test-cache select)\"\n```\n";
    let found = commands(&code(page));
    let found: Vec<_> = found.iter().map(|words| words.join(" ")).collect();
    assert_eq!(found, ["explain p", "select", "status", "test -p x"]);
}
