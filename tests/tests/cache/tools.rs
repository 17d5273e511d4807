//! `hgbuild cache ...` and `hgbuild explain`, and the cache that nobody asked for.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use hg_tests::cache::{Stats, files, hgbuild, stats, tool};
use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::programs::programs;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
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

/// A cache in which a compile left something; what is told of it afterwards.
struct Told {
    /// `hgbuild explain`.
    explained: String,
    /// Of the last event.
    not_kept: String,
    stats: Stats,
}

/// Compiles with `words` so many `times` and asks about it.
fn told(bench: &Bench, words: &[&str], times: u32) -> Told {
    let log = bench.home().join("events.jsonl");
    for _ in 0..times {
        let mut command = hgbuild(words, &bench.work(), &bench.home(), &bench.cache());
        run(command.env("HG_EVENT_LOG", &log));
    }
    Told {
        explained: explained(bench, words),
        not_kept: hg_tests::event::read(&log)
            .pop()
            .map(|event| event.not_kept)
            .unwrap_or_default(),
        stats: bench.stats(),
    }
}

fn explained(bench: &Bench, words: &[&str]) -> String {
    let outcome = bench.hgbuild(&[&["explain", "--"], words].concat());
    assert!(outcome.ok(), "{}", outcome.words());
    String::from_utf8_lossy(&outcome.stdout).into_owned()
}

/// `told` names `fact`, wherever it is asked, under `code`.
fn assert_named(told: &Told, code: &str, fact: &str) {
    let Told {
        explained,
        not_kept,
        stats,
    } = told;
    assert!(explained.contains(fact), "{explained}");
    assert!(!explained.contains("no entry of"), "{explained}");
    assert!(not_kept.contains(fact), "{not_kept}");
    assert!(stats.bypass.get(code) > Some(&0), "{stats:?}");
}

#[test]
fn what_is_not_kept_is_told_with_the_fact_that_refuses_it() {
    let bench = Bench::new();
    bench.write("t.c", "const char *t = __TIME__;\n");
    let words = ["gcc", "-O2", "-c", "t.c"];
    assert_named(&told(&bench, &words, 1), "time-macro", "__TIME__");
    bench.write("t.c", "int t = ;\n");
    let failed = told(&bench, &words, 1);
    assert_named(&failed, "compile-failed", "compile-failed");
    bench.write("t.c", "int t;\n");
    let words = ["gcc", "-O2", "--coverage", "-c", "t.c"];
    let coverage = told(&bench, &words, 1);
    assert_eq!(coverage.not_kept, "", "that is why it is local");
    assert!(coverage.explained.contains("--coverage"));
    let words = ["clang", "-O2", "--sysroot=/", "-c", "t.c"];
    if hg_tests::in_path("clang").is_some() {
        assert_named(&told(&bench, &words, 1), "search-path", "--sysroot");
    }
    let words = ["gcc", "-O2", "-c", "t.c"];
    let kept = told(&bench, &words, 1);
    assert!(kept.explained.contains("direct-hit"), "{}", kept.explained);
    assert_eq!(kept.not_kept, "");
}

#[test]
fn a_question_behind_a_macro_is_named_where_the_text_does_not_do_either() {
    let bench = Bench::new();
    bench.write(
        "q.c",
        "#if HAS(<maybe.h>)\nint q = 1;\n#else\nint q = 2;\n#endif\n",
    );
    let has = "-DHAS(x)=__has_include(x)";
    // With debug information there is no text that stands for it.
    let refused = told(&bench, &["gcc", "-g", has, "-c", "q.c"], 3);
    assert_named(&refused, "computed-question", "debug-info");
    assert_eq!(refused.stats.miss, 0, "{:?}", refused.stats);
    let first = told(&bench, &["gcc", "-O2", has, "-c", "q.c"], 1);
    assert_eq!(first.stats.miss, 1, "its text comes next");
    assert!(first.explained.contains("computed-question: -D"));
    let kept = told(&bench, &["gcc", "-O2", has, "-c", "q.c"], 2);
    assert_eq!((kept.stats.miss, kept.stats.preprocessed_hit), (2, 1));
    assert!(kept.explained.contains("preprocessed-hit"));
}

#[test]
fn another_command_for_the_same_source_is_no_change() {
    let bench = Bench::new();
    let (plain, shared) = (
        ["gcc", "-O2", "-c", "a.c"],
        ["gcc", "-O2", "-fPIC", "-c", "a.c"],
    );
    bench.hgbuild(&plain);
    bench.hgbuild(&shared);
    bench.write("a.h", "#define A 2\n");
    let words = explained(&bench, &plain);
    assert!(words.contains("a.h has other content"), "{words}");
    assert!(!words.contains("-fPIC"), "{words}");
    let words = explained(&bench, &["gcc", "-O3", "-c", "a.c"]);
    assert!(words.contains("-O2 is now -O3") || words.contains("-fPIC is gone"));
}

#[test]
fn what_was_removed_from_the_cache_is_told() {
    let bench = Bench::new();
    bench.compile();
    for (kind, words) in [("r", "the entry itself is gone"), ("m", "are gone")] {
        let mut entries = files(&bench.cache());
        entries.retain(|(path, _)| path.extension().is_some_and(|of| of == kind));
        assert!(!entries.is_empty(), "none of kind {kind}");
        for (path, _) in entries {
            fs::remove_file(path).expect("an entry");
        }
        let told = explained(&bench, &["gcc", "-O2", "-c", "a.c"]);
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn an_answer_is_shared_by_its_text_once() {
    let bench = Bench::new();
    let words = ["gcc", "-O2", "-c", "a.c"];
    let manifests = || {
        let mut found = files(&bench.cache());
        found.retain(|(path, _)| path.extension().is_some_and(|of| of == "m"));
        let inode = |path: &PathBuf| fs::metadata(path).expect("an entry").ino();
        let inodes = found.iter().map(|(path, _)| inode(path));
        inodes.collect::<Vec<_>>()
    };
    bench.compile();
    let mut seen = vec![manifests()];
    for _ in 0..3 {
        let mut command = hgbuild(&words, &bench.work(), &bench.home(), &bench.cache());
        assert!(run(command.env("HG_BASE_DIR", bench.work())).ok());
        seen.push(manifests());
    }
    assert_eq!(bench.stats().direct_hit, 3);
    assert_ne!(seen[0], seen[1], "not noted");
    assert_eq!((&seen[1], &seen[2]), (&seen[2], &seen[3]), "noted again");
    // So it is with one that was kept for the folder.
    let words = ["gcc", "-O1", "-c", "a.c"];
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut command = hgbuild(&words, &bench.work(), &bench.home(), &bench.cache());
        assert!(run(command.env("HG_BASE_DIR", bench.work())).ok());
        seen.push(manifests());
    }
    assert_eq!(seen[0], seen[1], "noted again");
}

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Looks until it finds something.
///
/// # Panics
/// It does not in time.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_answer_is_not_shared_by_a_text_that_changed_meanwhile() {
    let bench = Bench::new();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    for name in ["one", "two"] {
        fs::create_dir(bench.work().join(name)).expect("a checkout");
        bench.write(
            &format!("{name}/a.c"),
            "#include \"a.h\"\nint f(void) { return A; }\n",
        );
        bench.write(&format!("{name}/a.h"), "#define A 1\n");
    }
    let compile = |name: &str| {
        let folder = bench.work().join(name);
        let source = folder.join("a.c").to_string_lossy().into_owned();
        let words = ["gcc", "-O2", "-c", &source];
        hgbuild(&words, &folder, &bench.home(), &bench.cache())
    };
    let based = |name: &str| {
        let mut command = compile(name);
        command.env("HG_BASE_DIR", bench.work().join(name));
        command
    };
    assert!(run(&mut compile("one")).ok());
    let object = bench.work().join("one/a.o");
    fs::remove_file(&object).expect("the object");
    // Compilers that read pipes have all slots: the preprocessor has to wait.
    let mut compilers: Vec<Child> = Vec::new();
    let pipes: Vec<File> = (0..cores)
        .map(|number| {
            let name = format!("pipe{number}.c");
            let pipe = bench.work().join(&name);
            mkfifo(&pipe, Mode::S_IRWXU).expect("a pipe");
            let words = ["gcc", "-c", &name];
            let mut command = hgbuild(&words, &bench.work(), &bench.home(), &bench.cache());
            compilers.push(command.spawn().expect("a compiler"));
            let nonblock = OFlag::O_NONBLOCK.bits();
            until("nobody reads the pipe", || {
                let mut options = File::options();
                options.write(true).custom_flags(nonblock).open(&pipe).ok()
            })
        })
        .collect();
    let compile = based("one").spawn().expect("a compile");
    let opened = PathBuf::from(format!("/proc/{}/fd", compile.id()));
    until("it needs no slot", || {
        let mut opened = fs::read_dir(&opened).ok()?.flatten();
        // Whoever waits has the gate open all the while; a slot only while it looks.
        let is_gate = |path: PathBuf| path.ends_with("gate");
        opened.find(|fd| fs::read_link(fd.path()).is_ok_and(is_gate))
    });
    compilers.push(compile);
    assert!(object.exists(), "the answer comes first");
    for name in ["one", "two"] {
        bench.write(&format!("{name}/a.h"), "#define A 2\n");
    }
    drop(pipes);
    for mut compiler in compilers {
        assert!(compiler.wait().expect("its end").success());
    }
    assert!(run(&mut based("two")).ok());
    let shared = fs::read(bench.work().join("two/a.o")).expect("an object");
    let mut plain = scrubbed("gcc", &bench.work().join("two"), &bench.home());
    assert!(run(plain.args(["-O2", "-c", "a.c"])).ok());
    let plain = fs::read(bench.work().join("two/a.o")).expect("an object");
    assert!(shared == plain, "an object of the old header");
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
