//! What is typed wrong: exit code 2, words on stderr, and nothing done.

use hg_tests::command::{run, scrubbed};
use hg_tests::programs::programs;

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
        "join",
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
