//! `hgbuild cache ...` and `hgbuild explain`, and the cache that nobody asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hg_tests::cache::{Stats, files, hgbuild, stats, tool};
use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::programs::programs;
use tempfile::TempDir;

/// Sources that are compiled in a cache of their own.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["home", "w"] {
            fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let bench = Bench { folder };
        bench.write("a.h", "#define A 1\n");
        bench.write("a.c", "#include \"a.h\"\nint f(void) { return A; }\n");
        bench
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("w")
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.work().join(name), text).expect("a file");
        // Old enough to be trusted at once.
        let mut touch = Command::new("touch");
        touch.args(["-d", "1 hour ago", name]);
        assert!(run(touch.current_dir(self.work())).ok());
    }

    fn hgbuild(&self, words: &[&str]) -> Outcome {
        run(&mut hgbuild(
            words,
            &self.work(),
            &self.home(),
            &self.cache(),
        ))
    }

    fn compile(&self) {
        let outcome = self.hgbuild(&["gcc", "-O2", "-c", "a.c"]);
        assert!(outcome.ok(), "{}", outcome.words());
    }

    fn tool(&self, words: &[&str]) -> Outcome {
        tool(words, &self.home(), &self.cache())
    }

    fn stats(&self) -> Stats {
        stats(&self.home(), &self.cache()).expect("stats")
    }

    /// As [`Bench::stats`], all there is set against all that was asked for.
    fn counts(&self) -> (u64, u64, u64, u64) {
        let stats = self.stats();
        let bypasses = stats.bypass.values().sum();
        (
            stats.direct_hit,
            stats.preprocessed_hit,
            stats.miss,
            bypasses,
        )
    }
}

#[test]
fn hits_misses_and_bypasses_are_counted() {
    let bench = Bench::new();
    for _ in 0..3 {
        bench.compile();
    }
    assert_eq!(bench.counts(), (2, 0, 1, 0));
    let stats = bench.stats();
    assert!(stats.error.is_empty(), "{stats:?}");
    assert!(stats.entries >= 1 && stats.size_bytes > 0, "{stats:?}");
    assert!(stats.bytes_written > 0 && stats.bytes_read > 0, "{stats:?}");
    assert_eq!(stats.size_bytes_max, 10 << 30);
    assert_eq!(stats.folder, bench.cache());
    let link = bench.hgbuild(&["gcc", "-E", "a.c"]);
    assert!(link.ok(), "{}", link.words());
    let (_, _, miss, bypass) = bench.counts();
    assert_eq!((miss, bypass), (1, 1));
}

#[test]
fn zero_forgets_the_counts_and_keeps_the_results() {
    let bench = Bench::new();
    bench.compile();
    let zero = bench.tool(&["zero"]);
    assert!(zero.ok(), "{}", zero.words());
    assert_eq!(bench.counts(), (0, 0, 0, 0));
    bench.compile();
    assert_eq!(bench.counts(), (1, 0, 0, 0));
}

#[test]
fn clear_forgets_the_results() {
    let bench = Bench::new();
    bench.compile();
    let clear = bench.tool(&["clear"]);
    assert!(clear.ok(), "{}", clear.words());
    let stats = bench.stats();
    assert_eq!((stats.entries, stats.size_bytes), (0, 0), "{stats:?}");
    bench.compile();
    assert_eq!(bench.stats().direct_hit, 0);
}

#[test]
fn prune_brings_it_down_to_a_size() {
    let bench = Bench::new();
    // Objects that can't be compressed to nothing.
    for number in 0..40_u32 {
        let numbers = (0..4000_u32).map(|at| {
            let mixed = (at + number * 4000).wrapping_mul(2_654_435_761);
            format!("{},", mixed ^ (mixed >> 15))
        });
        let text = format!("unsigned x[] = {{{}}};\n", numbers.collect::<String>());
        bench.write("x.c", &text);
        let outcome = bench.hgbuild(&["gcc", "-c", "x.c"]);
        assert!(outcome.ok(), "{}", outcome.words());
    }
    let full = bench.stats();
    assert!(full.size_bytes > 300_000, "{full:?}");
    let prune = bench.tool(&["prune", "--max-size", "200KiB"]);
    assert!(prune.ok(), "{}", prune.words());
    let stats = bench.stats();
    assert!(stats.size_bytes <= 200 << 10, "{stats:?}");
    assert!(stats.entries < full.entries, "{stats:?}");
    assert!(stats.entries > 0, "all of it is gone: {stats:?}");
    let there: u64 = files(&bench.cache()).iter().map(|(_, bytes)| bytes).sum();
    assert!(there <= 300 << 10, "{there} bytes are there");
}

#[test]
fn verify_finds_a_damaged_entry() {
    let bench = Bench::new();
    bench.compile();
    let fine = bench.tool(&["verify"]);
    assert!(fine.ok(), "{}", fine.words());
    // What lies in the folder itself is no result.
    let (largest, _) = files(&bench.cache())
        .into_iter()
        .filter(|(path, _)| path.parent() != Some(&bench.cache()))
        .max_by_key(|(_, bytes)| *bytes)
        .expect("an entry");
    let mut bytes = fs::read(&largest).expect("an entry");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).expect("an entry");
    let damaged = bench.tool(&["verify"]);
    assert!(!damaged.ok(), "{}", damaged.words());
    bench.compile();
}

#[test]
fn explain_says_what_would_happen_and_does_nothing() {
    let bench = Bench::new();
    let explain = |words: &[&str]| {
        let words = [&["explain", "--"], words].concat();
        let outcome = bench.hgbuild(&words);
        assert!(outcome.ok(), "{}", outcome.words());
        outcome.stdout
    };
    let before = explain(&["gcc", "-O2", "-c", "a.c"]);
    assert!(!before.is_empty());
    assert!(!bench.work().join("a.o").exists());
    bench.compile();
    fs::remove_file(bench.work().join("a.o")).expect("the object");
    let after = explain(&["gcc", "-O2", "-c", "a.c"]);
    assert!(!bench.work().join("a.o").exists());
    assert_ne!(before, after, "{}", String::from_utf8_lossy(&after));
    let bypass = explain(&["gcc", "-O2", "-march=native", "--coverage", "-c", "a.c"]);
    assert_ne!(bypass, after);
}

#[test]
fn explain_names_the_header_that_changed() {
    let bench = Bench::new();
    bench.compile();
    bench.write("a.h", "#define A 2\n");
    let outcome = bench.hgbuild(&["explain", "--", "gcc", "-O2", "-c", "a.c"]);
    let words = String::from_utf8_lossy(&outcome.stdout);
    assert!(words.contains("a.h"), "{}", outcome.words());
}

/// How often `log` says `cache`.
fn hits(log: &Path) -> usize {
    let events = hg_tests::event::read(log);
    events.iter().filter(|event| event.place == "cache").count()
}

#[test]
fn there_is_a_cache_in_home_when_nothing_is_said() {
    let bench = Bench::new();
    let log = bench.home().join("events.jsonl");
    for _ in 0..2 {
        let mut command = scrubbed(&programs().client, &bench.work(), &bench.home());
        command
            .args(["gcc", "-O2", "-c", "a.c"])
            .env_remove("HG_CACHE_MAX_SIZE")
            .env("HG_EVENT_LOG", &log);
        let outcome = run(&mut command);
        assert!(outcome.ok(), "{}", outcome.words());
    }
    assert_eq!(hits(&log), 1);
    assert!(!files(&bench.home().join(".hybridgrid/cache")).is_empty());
}

#[test]
fn other_tests_get_no_cache() {
    let bench = Bench::new();
    let log = bench.home().join("events.jsonl");
    for _ in 0..2 {
        let mut command = scrubbed(&programs().client, &bench.work(), &bench.home());
        command
            .args(["gcc", "-O2", "-c", "a.c"])
            .env("HG_EVENT_LOG", &log);
        assert!(run(&mut command).ok());
    }
    assert_eq!(hits(&log), 0);
    assert!(files(&bench.home().join(".hybridgrid/cache")).is_empty());
}
