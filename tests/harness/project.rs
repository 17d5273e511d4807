//! A small C project made up for a test, in two copies: one for the plain
//! compiler and one for hgbuild.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use crate::command::{Outcome, run_within, scrubbed};
use crate::event::{self, Event};
use crate::folder::{Snapshot, compare, snapshot};
use crate::programs::programs;
use crate::running::PATIENCE;

const MAKEFILE: &str = "\
OBJECTS = $(patsubst %.c,%.o,$(sort $(wildcard *.c)))
all: $(OBJECTS)
%.o: %.c
\t@gcc -O1 -Wall -c -o $@ $<
";

/// See the top of the file.
pub struct Project {
    folder: TempDir,
    plaintext: AtomicBool,
}

impl Default for Project {
    fn default() -> Self {
        Self::new()
    }
}

impl Project {
    /// Without any source yet.
    ///
    /// # Panics
    /// There is no room for temporary files.
    pub fn new() -> Project {
        let folder = tempfile::Builder::new().prefix("hg-project-").tempdir();
        let project = Project {
            folder: folder.expect("a temporary folder"),
            plaintext: AtomicBool::new(false),
        };
        // Names of one length, so that paths of one length are compiled.
        for copy in project.copies() {
            fs::create_dir_all(&copy).expect("a folder");
            fs::write(copy.join("Makefile"), MAKEFILE).expect("a Makefile");
        }
        project
    }

    /// With `count` small sources, all different.
    pub fn of(count: usize) -> Project {
        let project = Project::new();
        for number in 0..count {
            project.add(&format!("f{number:02}.c"), &small(number));
        }
        project
    }

    /// One more source, or anything else.
    ///
    /// # Panics
    /// It can't be written.
    pub fn add(&self, name: &str, content: &str) {
        for copy in self.copies() {
            fs::write(copy.join(name), content).expect("a source");
        }
    }

    fn copies(&self) -> [PathBuf; 2] {
        [self.folder.path().join("plain"), self.there()]
    }

    /// The home folder of both builds; everything of theirs is in it.
    pub fn home(&self) -> &Path {
        self.folder.path()
    }

    /// Where hgbuild's copy is.
    pub fn there(&self) -> PathBuf {
        self.folder.path().join("there")
    }

    /// The grid is one without TLS from now on.
    pub fn in_plaintext(&self) {
        self.plaintext.store(true, Ordering::Relaxed);
    }

    /// `make WORDS` with the plain compiler.
    pub fn plain_make(&self, words: &[&str]) -> Command {
        self.plain("make", words)
    }

    /// `program WORDS` in the plain copy.
    pub fn plain(&self, program: &str, words: &[&str]) -> Command {
        let mut command = scrubbed(program, &self.copies()[0], self.home());
        command.args(words);
        command
    }

    /// `hgbuild WORDS` in its copy, with the grid at `address`, nothing compiled
    /// here that can travel, and an event log.
    pub fn hgbuild(&self, address: &str, words: &[&str]) -> Command {
        let mut command = scrubbed(&programs().client, &self.there(), self.home());
        command
            .args(words)
            .env("HG_COORDINATOR", address)
            .env("HG_LOCAL_SLOTS", "0")
            .env("HG_EVENT_LOG", self.log());
        if self.plaintext.load(Ordering::Relaxed) {
            command.env("HG_INSECURE", "1");
        }
        command
    }

    /// `hgbuild make WORDS`.
    pub fn hgbuild_make(&self, address: &str, words: &[&str]) -> Command {
        self.hgbuild(address, &[&["make"], words].concat())
    }

    fn log(&self) -> PathBuf {
        self.home().join("events.jsonl")
    }

    /// What hgbuild said of its compiles so far; links and the like left out.
    pub fn events(&self) -> Vec<Event> {
        let mut events = event::read(&self.log());
        events.retain(|event| !event.source.is_empty());
        events
    }

    /// A line for each compile: source, where, reason, worker.
    pub fn told(&self) -> String {
        let line = |e: &Event| format!("{} {} {} {}\n", e.source, e.place, e.reason, e.worker);
        self.events().iter().map(line).collect()
    }

    /// Runs both, and compares exit, stdout, stderr and every file.
    ///
    /// # Panics
    /// They differ.
    pub fn assert_same(&self, what: &str, plain: &mut Command, wrapped: &mut Command) {
        let plain = run_within(plain, PATIENCE);
        self.assert_same_as(what, &plain, run_within(wrapped, PATIENCE));
    }

    /// The same with a wrapped run that is over; `plain` is the plain one.
    ///
    /// # Panics
    /// They differ.
    pub fn assert_same_as(&self, what: &str, plain: &Outcome, wrapped: Outcome) {
        let [here, there] = self.files();
        let wrapped = wrapped.without_summary();
        let different = compare((&plain.sorted(), &here), (&wrapped.sorted(), &there));
        let told = self.told();
        assert!(
            different.is_empty(),
            "{what}:\n{}\n{told}",
            different.join("\n")
        );
    }

    /// What is in the two copies: plain, hgbuild's.
    ///
    /// # Panics
    /// They can't be read.
    pub fn files(&self) -> [Snapshot; 2] {
        self.copies()
            .map(|copy| snapshot(&copy).expect("the build's folder"))
    }

    /// Takes the results of hgbuild's builds away, and its event log.
    ///
    /// # Panics
    /// They can't be.
    pub fn clean(&self) {
        // Notes of a grid that was down must not outlive it.
        for path in [self.log(), self.home().join(".hybridgrid")] {
            let gone = match path.is_dir() {
                true => fs::remove_dir_all(&path),
                false => fs::remove_file(&path),
            };
            assert!(gone.is_ok() || !path.exists(), "{}", path.display());
        }
        self.clean_objects();
    }

    /// Takes the objects of both builds away.
    ///
    /// # Panics
    /// They can't be.
    pub fn clean_objects(&self) {
        for copy in self.copies() {
            for entry in fs::read_dir(copy).expect("the build's folder").flatten() {
                if entry.path().extension().is_some_and(|end| end == "o") {
                    fs::remove_file(entry.path()).expect("an object");
                }
            }
        }
    }
}

/// A source that takes a compiler some milliseconds.
pub fn small(number: usize) -> String {
    format!(
        "#include <stdio.h>\n\
         #define TIMES(x) ((x) * {number})\n\
         int f{number}(int x)\n{{\n\
         \tprintf(\"%d\\n\", TIMES(x));\n\
         \treturn TIMES(x + 1);\n}}\n"
    )
}

/// A source that takes a compiler about half a second, or two on a busy machine.
pub fn slow(number: usize) -> String {
    doubled(number, 11)
}

/// A source that keeps a compiler busy for half a minute and more: longer than a
/// test needs it, in less memory than would trouble the machine (about 250 MiB).
pub fn endless(number: usize) -> String {
    doubled(number, 17)
}

fn doubled(number: usize, times: usize) -> String {
    let mut source = String::new();
    for level in 1..=times {
        let below = level - 1;
        source += &format!("#define A{level} A{below} A{below}\n");
    }
    source += "#define A0 x = x * 3 + y / x; y ^= x;\n";
    source + &format!("int f{number}(int x, int y) {{ A{times} return x + {number}; }}\n")
}
