//! What `hgbuild` says in a terminal: `explain`, `config`, `doctor`.

use std::path::Path;
use std::process::Command;

use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use serde_json::Value;

use crate::shared::{build, write_sources};

/// `hgbuild WORDS` in `folder`, which is its home too.
pub fn hgbuild(folder: &Path, words: &[&str]) -> Command {
    let mut command = scrubbed(&programs().client, folder, folder);
    command.args(words);
    command
}

fn text(outcome: &Outcome) -> String {
    assert!(outcome.ok(), "{}", outcome.words());
    String::from_utf8_lossy(&outcome.stdout).into_owned()
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_slice(&outcome.stdout).unwrap_or_else(|_| panic!("{}", outcome.words()))
}

#[test]
fn explain_says_where_the_last_compile_of_a_source_went() {
    let grid = Grid::start(programs(), 1, 2);
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().canonicalize().expect("a path");
    write_sources(&folder);
    let unknown = run(&mut hgbuild(&folder, &["explain", "clock.c"]));
    assert_eq!(unknown.code, Some(1), "{}", unknown.words());
    assert!(unknown.words().contains("no compile of it is known"));

    build(&grid, &folder);
    // Without a grid, and from wherever it is asked.
    let clock = text(&run(&mut hgbuild(&folder, &["explain", "./clock.c"])));
    for words in [
        "time-macro: __TIME__",
        "leave the clock's macros out",
        "  where      local",
    ] {
        assert!(clock.contains(words), "{clock}");
    }
    assert!(
        clock.starts_with(&format!("{}/clock.c\n", folder.display())),
        "{clock}"
    );
    let source = folder.join("f0.c").display().to_string();
    let away = run(hgbuild(&folder, &["explain", &source, "--json"]).current_dir("/"));
    let away = json(&away);
    assert_eq!(away["where"], "remote", "{away}");
    assert_eq!(away["path"], source.as_str());
    assert_eq!(away["meaning"], "a worker compiled it");
    assert!(
        away["worker"].is_string() && away["remote_ms"].as_u64() > Some(0),
        "{away}"
    );
    // Compiled again, here: what is younger is told.
    std::fs::remove_file(folder.join("f0.o")).expect("an object");
    assert!(run(&mut hgbuild(&folder, &["make", "CC=gcc"])).ok());
    let here = json(&run(&mut hgbuild(&folder, &["explain", "--json", "f0.c"])));
    assert_eq!(here["where"], "local", "{here}");
    assert_eq!(here["reason"], "no-coordinator");
    assert_eq!(
        here["advice"],
        "join a grid: 'hgbuild join', or set HG_COORDINATOR"
    );
}

/// What `config` says of a setting: its value, and where that comes from.
fn setting(said: &Value, variable: &str) -> (String, String) {
    let settings = said["settings"].as_array().expect("settings");
    let mut settings = settings.iter().filter(|it| it["variable"] == variable);
    let found = settings
        .next()
        .unwrap_or_else(|| panic!("no {variable} in {said}"));
    let word = |name: &str| found[name].as_str().expect("words").to_owned();
    (word("value"), word("from"))
}

#[test]
fn config_says_where_each_setting_comes_from_and_which_are_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().canonicalize().expect("a path");
    let home = folder.join(".hybridgrid");
    std::fs::create_dir(&home).expect("a folder");
    let file = home.join("config.toml");
    std::fs::write(&file, "# mine\nship = false\ncc = \"gcc\"\n").expect("a file");
    let config = |words: &[&str]| {
        let mut command = hgbuild(&folder, words);
        command
            .env_remove("HG_SHIP")
            .env("HG_TOKEN", "hg-secret")
            .env("HG_CC", "clang");
        command
    };
    let outcome = run(config(&["--no-fallback", "config", "--json"]).env("HG_LOCAL_SLOTS", "2"));
    assert!(outcome.ok(), "{}", outcome.words());
    let said = json(&outcome);
    for (variable, value, from) in [
        ("HG_SHIP", "off", format!("{} line 2", file.display())),
        ("HG_CC", "clang", "environment HG_CC".into()),
        ("HG_FALLBACK", "off", "flag --no-fallback".into()),
        ("HG_LOCAL_SLOTS", "2", "environment HG_LOCAL_SLOTS".into()),
        ("HG_QUEUE_MS_MAX", "30000", "default".into()),
        (
            "HG_TOKEN",
            "there, and not shown",
            "environment HG_TOKEN".into(),
        ),
    ] {
        assert_eq!(setting(&said, variable), (value.to_owned(), from));
    }
    assert_eq!(said["troubles"].as_array().map(Vec::len), Some(0));

    std::fs::write(&file, "ship = false\nfalback = true\nlog = 3\n").expect("a file");
    let mut wrong = config(&["config"]);
    wrong
        .env("HG_QUEUE_MS_MAX", "soon")
        .env("HG_COORDINATR", "x:1");
    let outcome = run(&mut wrong);
    assert_eq!(outcome.code, Some(1), "{}", outcome.words());
    let said = outcome.words();
    for words in [
        "config.toml line 2: unknown setting \"falback\": did you mean fallback?",
        "config.toml line 3: log: ",
        "HG_QUEUE_MS_MAX=soon: not a number",
        "HG_COORDINATR is no setting of hgbuild: did you mean HG_COORDINATOR?",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains("hg-secret"), "{said}");
}

#[test]
fn doctor_looks_at_versions_clock_cache_and_path() {
    let grid = Grid::start(programs(), 1, 2);
    let folder = tempfile::tempdir().expect("a folder");
    let doctor = |path: Option<&Path>| {
        let mut command = hgbuild(folder.path(), &["doctor", "--json", "gcc"]);
        grid.lead(&mut command).env("HG_CACHE_MAX_SIZE", "5GiB");
        if let Some(path) = path {
            let own = std::env::var("PATH").expect("PATH");
            command.env("PATH", format!("{own}:{}", path.display()));
        }
        json(&run(&mut command))
    };
    let finding = |said: &Value, subject: &str| {
        let findings = said["findings"].as_array().expect("findings");
        let found = findings.iter().find(|it| it["subject"] == subject);
        let found = found.unwrap_or_else(|| panic!("no {subject} in {said}"));
        (
            found["good"] == true,
            found["found"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let said = doctor(None);
    for (subject, words) in [
        ("version", ", coordinator "),
        ("clock", "within a minute"),
        ("cache", " free, 5.0 GiB at most"),
        ("masquerade", "no folder of PATH"),
    ] {
        let (good, found) = finding(&said, subject);
        assert!(good && found.contains(words), "{subject}: {found}");
    }
    let masquerade = folder.path().join("masquerade");
    std::fs::create_dir(&masquerade).expect("a folder");
    std::os::unix::fs::symlink(&programs().client, masquerade.join("gcc")).expect("a link");
    let (good, found) = finding(&doctor(Some(&masquerade)), "masquerade");
    assert!(!good && found.contains("behind"), "{found}");
}
