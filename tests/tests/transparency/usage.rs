//! What is typed wrong: exit code 2, words on stderr, and nothing done.

use std::collections::BTreeSet;
use std::path::Path;

use hg_tests::command::{run, scrubbed};
use hg_tests::programs::{Programs, programs};

#[test]
fn wrong_usage_is_exit_code_2() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for words in [
        "",
        "-v",
        "--nonsense",
        "--coordinator",
        "--coordinator nonsense status",
        "--coordinator nonsense workers",
        "status more",
        "join --coordinator nonsense",
        "explain",
        "explain --",
        "explain --nonsense",
        "cache",
        "cache nonsense",
        "cache prune --max-size",
        "cache prune --max-size much",
        "cache prune --max-size 5",
    ] {
        let mut command = scrubbed(&programs().client, folder.path(), folder.path());
        command.args(words.split_whitespace());
        let outcome = run(command.env("HG_CACHE_MAX_SIZE", "1GiB"));
        let said = outcome.words();
        assert_eq!(outcome.code, Some(2), "{words}: {said}");
        assert!(outcome.stdout.is_empty(), "{words}: {said}");
        assert!(!outcome.stderr.is_empty(), "{words}: {said}");
    }
}

#[test]
fn a_size_without_a_unit_empties_no_cache() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("a.c"), "int a;\n").expect("a source");
    let hgbuild = |words: &str| {
        let mut command = scrubbed(&programs().client, folder.path(), folder.path());
        command.args(words.split_whitespace());
        run(command.env("HG_CACHE_MAX_SIZE", "1GiB"))
    };
    assert!(hgbuild("gcc -c a.c").ok());
    let entries = || hgbuild("cache stats --json").words();
    let before = entries();
    assert!(!before.contains("\"entries\":0"), "{before}");
    let words = hgbuild("cache prune --max-size 5").words();
    assert!(words.contains("a number wants a unit"), "{words}");
    assert_eq!(entries(), before);
}

/// Names under `Commands:` in what a program says to `--help`.
fn commands(help: &str) -> Vec<String> {
    let (_, list) = help.split_once("\nCommands:\n").unwrap_or_default();
    let lines = list.lines().take_while(|line| line.starts_with("  "));
    let names = lines.filter(|line| !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// All subcommands of a program, as it lists them itself; first itself, without any.
fn all_commands(program: &Path, folder: &Path) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut at = 0;
    while let Some(command) = all.get(at).cloned() {
        let help = run(scrubbed(program, folder, folder).args(&command).arg("-h")).words();
        let below = commands(&help).into_iter();
        all.extend(below.map(|name| [&command[..], &[name]].concat()));
        at += 1;
    }
    all
}

#[test]
fn help_and_version_are_where_they_are_looked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let Programs {
        client,
        coordinator,
        worker,
        ..
    } = programs();
    for (program, count_min) in [(client, 11), (coordinator, 8), (worker, 3)] {
        let commands = all_commands(program, folder);
        assert!(commands.len() >= count_min, "{commands:?}");
        for command in commands {
            for (flag, said) in [
                ("-h", "Usage: "),
                ("--help", "Usage: "),
                ("-V", "hg"),
                ("--version", "hg"),
            ] {
                let outcome = run(scrubbed(program, folder, folder).args(&command).arg(flag));
                let words = outcome.words();
                assert!(
                    outcome.ok() && outcome.stderr.is_empty(),
                    "{command:?}: {words}"
                );
                assert!(outcome.stdout.starts_with(said.as_bytes()), "{words}");
            }
            let outcome = run(scrubbed(program, folder, folder)
                .args(&command)
                .arg("--hepl"));
            assert_eq!(outcome.code, Some(2));
            let words = outcome.words();
            assert!(words.contains("did you mean '--help'?"), "{words}");
            assert!(words.contains(" --help' for more."), "{words}");
        }
        let help = run(scrubbed(program, folder, folder).arg("--help")).words();
        for part in ["\nExit codes:\n", "\nEnvironment:\n", "\n  HG_LOG"] {
            assert!(help.contains(part), "{help}");
        }
    }
}

#[test]
fn a_command_that_was_meant_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut hgbuild = scrubbed(&programs().client, folder.path(), folder.path());
    let outcome = run(hgbuild.arg("statsu"));
    assert_eq!(outcome.code, Some(127));
    let words = outcome.words();
    assert!(words.contains("did you mean 'hgbuild status'?"), "{words}");
}

/// The names of variables that `text` has at the beginning of a cell or of a line.
fn variables(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().map(|line| line.trim_start_matches(['|', ' ']));
    let cells = lines.filter(|line| line.starts_with("HG_") || line.starts_with("`HG_"));
    let cells = cells.flat_map(|line| line.split(" |").next());
    let words = cells.flat_map(|cell| cell.split(['`', ',', ' ', ':', ';']));
    words.filter(|word| word.starts_with("HG_")).collect()
}

#[test]
fn page_and_help_tell_of_the_same_settings() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut hgbuild = scrubbed(&programs().client, folder.path(), folder.path());
    let help = run(hgbuild.arg("--help")).words();
    let (_, help) = help.split_once("Environment:").expect("a list");
    let page = include_str!("../../../docs/settings.md");
    let (_, settings) = page.split_once("| environment").expect("a table");
    let (settings, _) = settings.split_once("\n## ").expect("the daemons'");
    let told = variables(help);
    assert!(told.len() > 10, "{told:?}");
    assert_eq!(told, variables(settings));
}
