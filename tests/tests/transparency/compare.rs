//! Runs cases and says how they differ.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hg_tests::command::{Outcome, run_within, scrubbed};
use hg_tests::event::{self, Event};
use hg_tests::folder::{Entry, Snapshot, compare, snapshot};
use hg_tests::programs::programs;
use hg_tests::{in_path, skip};

use crate::case::{Case, FILES};
use crate::shared::Shared;

/// Cases at once.
const THREADS: usize = 3;
/// Of one script, when the grid is late.
const TRIES: usize = 4;
/// What one script may take.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(240);

/// How hgbuild stands in front of the compiler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Not at all.
    Plain,
    /// With a grid.
    Grid,
    /// With no grid configured, and no event log: it becomes the compiler.
    Alone,
    /// With a coordinator that is not there.
    Dead,
}

/// Runs all `cases` with all their compilers.
///
/// # Panics
/// One of them differs: all are named.
pub fn check(group: &str, cases: &[Case]) {
    let shared = Shared::get();
    let began = Instant::now();
    let jobs: Vec<(&Case, &str)> = cases
        .iter()
        .flat_map(|case| case.compilers.iter().map(move |compiler| (case, *compiler)))
        .filter(|(case, compiler)| wanted(case) && is_here(case, compiler))
        .collect();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((case, compiler)) = jobs.get(at) else {
                        break;
                    };
                    let folder = shared.scratch().join(format!("{group}-{at:04}"));
                    let trial = Trial {
                        shared: &shared,
                        case,
                        compiler,
                        folder,
                    };
                    let found = trial.run();
                    let mut all = failures.lock().unwrap_or_else(PoisonError::into_inner);
                    all.extend(found);
                }
            });
        }
    });
    let failures = failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    eprintln!("{group}: {} cases in {:?}", jobs.len(), began.elapsed());
    assert!(
        failures.is_empty(),
        "{group}: {} differ\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// `HG_TEST_CASE=words`: only the cases with these words in their names.
fn wanted(case: &Case) -> bool {
    std::env::var("HG_TEST_CASE").map_or(true, |words| case.name.contains(&words))
}

/// Whether the programs that a case needs are installed.
fn is_here(case: &Case, compiler: &str) -> bool {
    let there = |program: &str| in_path(program).is_some();
    let tools = [
        "ccache", "make", "ninja", "cmake", "clang", "clang++", "g++",
    ];
    let words = || case.script.split([' ', ';', '/', '(', '=', '"']);
    let needed = tools
        .iter()
        .filter(|tool| words().any(|word| word == **tool));
    // gcc compiles C++ with what g++ comes with.
    let cxx = case.script.contains("c++")
        || words().any(|word| {
            [".cc", ".cpp", ".cxx", ".C"]
                .iter()
                .any(|end| word.ends_with(end))
        });
    let mut missing: Vec<&str> = needed
        .copied()
        .chain([compiler])
        .chain((cxx && compiler == "gcc").then_some("g++"))
        .filter(|tool| !there(tool))
        .collect();
    missing.dedup();
    if !missing.is_empty() {
        skip(
            &format!("{} by {compiler}", case.name),
            &format!("{} not installed", missing.join(", ")),
        );
    }
    missing.is_empty()
}

/// One case with one compiler.
struct Trial<'a> {
    shared: &'a Shared,
    case: &'a Case,
    compiler: &'a str,
    /// Holds the work folder, which has the same path in each run.
    folder: PathBuf,
}

impl Trial<'_> {
    /// How the runs differ from the plain one.
    fn run(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let plain = self.once(Mode::Plain);
        for mode in self.modes() {
            let wrapped = self.with_a_grid_in_time(mode);
            let mut found = compare((&plain.0, &plain.1), (&wrapped.0, &wrapped.1));
            found.extend(self.misplaced(mode, &wrapped.2));
            lines.extend(found.iter().map(|line| {
                let (name, compiler) = (self.case.name, self.compiler);
                format!("* {name} by {compiler}, {mode:?}: {line}")
            }));
        }
        let _ = fs::remove_dir_all(&self.folder);
        lines
    }

    /// With several compilers each of the last two has its turn with every other one.
    fn modes(&self) -> Vec<Mode> {
        let compilers = self.case.compilers;
        let at = compilers.iter().position(|name| *name == self.compiler);
        match at {
            Some(at) if compilers.len() > 1 && at % 2 == 0 => vec![Mode::Grid, Mode::Alone],
            Some(_) if compilers.len() > 1 => vec![Mode::Grid, Mode::Dead],
            _ => vec![Mode::Grid, Mode::Alone, Mode::Dead],
        }
    }

    /// A machine with too much to do may keep the coordinator from answering in
    /// time: another try, without the memory of it.
    fn with_a_grid_in_time(&self, mode: Mode) -> (Outcome, Snapshot, Vec<Event>) {
        for _ in 1..TRIES {
            let seen = self.once(mode);
            if mode != Mode::Grid || !seen.2.iter().any(|e| place(e).starts_with("grid-")) {
                return seen;
            }
            let (name, compiler) = (self.case.name, self.compiler);
            eprintln!("{name} by {compiler}: the grid was late, once more");
            let memos = self.shared.scratch().join("home-Grid/.hybridgrid/run");
            for memo in fs::read_dir(memos).into_iter().flatten().flatten() {
                if memo.file_name().to_string_lossy().starts_with("memo-") {
                    // Another thread may have been here.
                    let _ = fs::remove_file(memo.path());
                }
            }
        }
        self.once(mode)
    }

    fn once(&self, mode: Mode) -> (Outcome, Snapshot, Vec<Event>) {
        self.prepare();
        let work = self.folder.join("w");
        let hgbuild = match mode {
            Mode::Plain => String::new(),
            _ => programs().client.display().to_string(),
        };
        let home = self.shared.scratch().join(format!("home-{mode:?}"));
        fs::create_dir_all(&home).expect("a home");
        let mut setup = self.shell("", self.case.setup, &work, &home);
        let ready = run_within(&mut setup, SCRIPT_TIME_MAX);
        assert!(ready.ok(), "{}: {}", self.case.name, ready.words());
        let log = self.folder.join("events.jsonl");
        let mut command = self.shell(&hgbuild, self.case.script, &work, &home);
        command.env("HG_LOCAL_SLOTS", "0");
        match mode {
            Mode::Plain | Mode::Alone => {}
            Mode::Grid => {
                command.env("HG_COORDINATOR", &self.shared.address);
                command.env("HG_EVENT_LOG", &log);
            }
            Mode::Dead => {
                command.env("HG_COORDINATOR", &self.shared.dead);
                command.env("HG_INSECURE", "1");
                command.env("HG_EVENT_LOG", &log);
            }
        }
        let mut outcome = run_within(&mut command, SCRIPT_TIME_MAX);
        outcome.stdout = blurred(&outcome.stdout);
        outcome.stderr = blurred(&outcome.stderr);
        if self.case.build {
            outcome.stderr = without_ours(&outcome.stderr);
        }
        let mut files = snapshot(&work).expect("the work folder");
        for name in self.case.unequal {
            if let Some(Entry::File { bytes, .. }) = files.get_mut(Path::new(name)) {
                bytes.clear();
            }
        }
        let left = snapshot(&self.folder.join("t")).expect("the temporary folder");
        files.extend(
            left.into_iter()
                .map(|(p, e)| (Path::new("TMPDIR").join(p), e)),
        );
        (outcome, files, event::read(&log))
    }

    /// The work folder with its files, and an empty one for temporary files.
    fn prepare(&self) {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                panic!("{}: {error}", self.folder.display())
            }
            _ => {}
        }
        let work = self.folder.join("w");
        fs::create_dir_all(self.folder.join("t")).expect("a temporary folder");
        for (name, text) in FILES.iter().chain(self.case.files) {
            let (name, text) = (self.named(name), self.named(text));
            let path = work.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&work)).expect("a folder");
            fs::write(path, text).expect("a source");
        }
    }

    fn shell(&self, hgbuild: &str, script: &str, work: &Path, home: &Path) -> Command {
        let script = self.named(script);
        let (compiler, src) = (
            self.compiler,
            match self.compiler.ends_with("++") {
                true => "a.cc",
                false => "a.c",
            },
        );
        let text = format!(
            "hg='{hgbuild}'; CX='{compiler}'; cc='{hgbuild} {compiler}'; src={src}\n{script}"
        );
        let mut command = scrubbed("sh", work, home);
        command
            .args(["-c", &text])
            .env("TMPDIR", self.folder.join("t"));
        command
    }

    /// `text` with `x.cc` for `x.c` where the compiler is for C++: clang++ has
    /// something to say about the other.
    fn named(&self, text: &str) -> String {
        if !self.compiler.ends_with("++") || self.case.keeps_names {
            return text.to_owned();
        }
        let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || "_.\"'".contains(c));
        let mut parts = text.split(".c");
        let mut renamed = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let source = word(renamed.chars().next_back())
                && !part.starts_with(|c: char| c.is_alphanumeric() || "_+.".contains(c));
            renamed.push_str(if source { ".cc" } else { ".c" });
            renamed.push_str(part);
        }
        renamed
    }

    /// What the events say that was not expected.
    fn misplaced(&self, mode: Mode, events: &[Event]) -> Vec<String> {
        let expected = self.case.expectation(self.compiler);
        let placed: Vec<&str> = events.iter().map(place).collect();
        match mode {
            Mode::Plain | Mode::Alone => Vec::new(),
            Mode::Dead if placed.contains(&"remote") => vec!["remote without a grid".into()],
            Mode::Dead => Vec::new(),
            Mode::Grid if expected == "*" => Vec::new(),
            Mode::Grid => {
                let words: Vec<&str> = expected.split_whitespace().collect();
                let fits = words.len() == placed.len()
                    && words
                        .iter()
                        .zip(&placed)
                        .all(|(w, p)| *w == "any" || w == p);
                let reasons: Vec<&str> = events.iter().map(|e| e.reason.as_str()).collect();
                match fits {
                    true => Vec::new(),
                    false => vec![format!("expected {words:?}, was {placed:?} {reasons:?}")],
                }
            }
        }
    }
}

/// `remote`, or the code of the reason.
fn place(event: &Event) -> &str {
    match event.place.as_str() {
        "local" => event.reason.split(':').next().unwrap_or_default(),
        other => other,
    }
}

/// Without what differs from one plain run to the next: names of temporary files.
fn blurred(text: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        kept.push(*first);
        rest = after;
        if kept.ends_with(b"/t/cc") {
            let name = rest
                .iter()
                .take(6)
                .take_while(|b| b.is_ascii_alphanumeric());
            rest = &rest[name.count()..];
        }
    }
    kept
}

/// hgbuild's own last words, which start with its name, are not the build's.
fn without_ours(stderr: &[u8]) -> Vec<u8> {
    let lines = stderr.split_inclusive(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.starts_with(b"hgbuild: "))
        .flatten()
        .copied()
        .collect()
}
