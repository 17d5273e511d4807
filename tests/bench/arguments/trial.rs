//! One command line, run plainly and through the grid.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hg_tests::cache;
use hg_tests::command::{Outcome, run, run_on_terminal, scrubbed};
use hg_tests::event::{self, Event};
use hg_tests::folder::{Entry, Snapshot, compare, snapshot};
use hg_tests::grid::Grid;

use crate::arguments::lines::Line;

/// Columns of the terminal, where there is one.
const COLUMNS: u16 = 100;

/// Files that every line has.
const FILES: &[(&str, &str)] = &[
    (
        "a.h",
        "#ifndef A_H\n#define A_H\n#include <stddef.h>\n#define SQUARE(x) ((x) * (x))\nint add(int a, int b);\n#endif\n",
    ),
    (
        "a.c",
        "#include \"a.h\"\n#include <string.h>\nstatic int twice(int x) { return x + x; }\nint add(int a, int b) { int s = 0; for (int i = 0; i < a; i++) s += twice(i); return SQUARE(a) + b + s; }\nsize_t len(const char *s) { return strlen(s) + 1; }\n",
    ),
    (
        "a.cc",
        "#include \"a.h\"\n#include <cstring>\nnamespace n { template <class T> T twice(T x) { return x + x; } struct S { virtual ~S() {} int v = 1; }; }\nint add(int a, int b) { n::S s; return n::twice(a) + SQUARE(b) + s.v; }\n",
    ),
    (
        "m.c",
        "#include \"a.h\"\nint add(int a, int b) { return a > b ? a : b; }\nint main(void) { int s = 0; for (int i = 0; i < 100; i++) s = add(s, i); return s != 99; }\n",
    ),
    (
        "w.c",
        "int f(int a)\n{\n\tint unused;\n\tif (a = 1) return 2;\n\treturn \"text\" == 0;\n}\n",
    ),
    (
        "w.cc",
        "int f(int a, unsigned b)\n{\n\tint unused;\n\treturn a < b;\n}\n",
    ),
    (
        "e.c",
        "struct s { int a; };\nint f(struct s *s)\n{\n\treturn s->b + undeclared;\n}\n",
    ),
    ("inc/i.h", "#define I 41\n"),
    ("i.c", "#include <i.h>\nint i = I;\n"),
    ("sub/keep", ""),
];

/// One line, where it is run.
pub struct Trial<'a> {
    /// What is run.
    pub line: &'a Line,
    /// hgbuild.
    pub client: &'a Path,
    /// Where it may go.
    pub grid: &'a Grid,
    /// Holds the work folder, which has the same path in each run.
    pub folder: PathBuf,
    /// HOME.
    pub home: PathBuf,
}

/// What came of a line.
pub struct Finding {
    /// The plain compile left an object, bitcode or assembly.
    pub makes_object: bool,
    /// The plain runs agree in all but the files that [`Finding::unequal`] has.
    pub is_steady: bool,
    /// Files that the plain runs disagree in.
    pub unequal: Vec<PathBuf>,
    /// What the grid's runs differ in from the plain ones.
    pub differences: Vec<String>,
    /// `remote`, or why not.
    pub first: String,
    /// `cache`, or why not.
    pub second: String,
}

impl Trial<'_> {
    /// Runs it four times. `None`: what goes before it can't be done here.
    pub fn run(&self) -> Option<Finding> {
        self.prepare()?;
        let plain = self.once(false);
        let again = self.once(false);
        let unequal: Vec<PathBuf> = plain
            .1
            .iter()
            .filter(|(path, entry)| again.1.get(*path).is_some_and(|other| other != *entry))
            .map(|(path, _)| path.clone())
            .collect();
        let same = |seen: &(Outcome, Snapshot, Vec<Event>)| {
            let blank = |files: &Snapshot| {
                let mut files = files.clone();
                for path in &unequal {
                    if let Some(Entry::File { bytes, .. }) = files.get_mut(path) {
                        bytes.clear();
                    }
                }
                files
            };
            compare((&plain.0, &blank(&plain.1)), (&seen.0, &blank(&seen.1)))
        };
        let is_steady = same(&again).is_empty();
        let first = self.once(true);
        let second = self.once(true);
        let mut differences = Vec::new();
        if is_steady {
            differences.extend(
                same(&first)
                    .into_iter()
                    .map(|line| format!("first: {line}")),
            );
            differences.extend(
                same(&second)
                    .into_iter()
                    .map(|line| format!("second: {line}")),
            );
        }
        let makes_object = plain.0.ok()
            && plain.1.keys().any(|path| {
                let end = path.extension().unwrap_or_default().to_string_lossy();
                let made = ["o", "bc", "ll", "s"].contains(&&*end);
                made && (end != "s" || !self.line.setup.contains("s.s"))
            });
        let finding = Finding {
            makes_object,
            is_steady,
            unequal,
            differences,
            first: place(&first.2, "remote"),
            second: place(&second.2, "cache"),
        };
        let _ = fs::remove_dir_all(&self.folder);
        Some(finding)
    }

    /// Makes the work folder with its files, and an empty one for temporary files.
    fn prepare(&self) -> Option<()> {
        let work = self.folder.join("w");
        for old in [&work, &self.folder.join("t")] {
            let _ = fs::remove_dir_all(old);
            fs::create_dir_all(old).expect("a folder");
        }
        fs::create_dir_all(&self.home).expect("a home");
        for (name, text) in FILES {
            let path = work.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&work)).expect("a folder");
            fs::write(path, text).expect("a source");
        }
        let mut setup = self.shell("", self.line.setup, &work);
        run(&mut setup).ok().then_some(())
    }

    fn once(&self, wrapped: bool) -> (Outcome, Snapshot, Vec<Event>) {
        let work = self.folder.join("w");
        let log = self.folder.join("events.jsonl");
        let _ = fs::remove_file(&log);
        self.prepare().expect("what went well before");
        let client = match wrapped {
            true => self.client.display().to_string(),
            false => String::new(),
        };
        let mut command = self.shell(&client, self.line.command, &work);
        if wrapped {
            cache::switch_on(&mut command, &self.folder.join("cache"));
            self.grid.lead(&mut command);
            command.env("HG_LOCAL_SLOTS", "0").env("HG_EVENT_LOG", &log);
        }
        let outcome = match self.line.on_terminal {
            true => run_on_terminal(&mut command, COLUMNS),
            false => run(&mut command),
        };
        let mut files = snapshot(&work).expect("the work folder");
        let left = snapshot(&self.folder.join("t")).expect("the temporary folder");
        files.extend(
            left.into_iter()
                .map(|(path, entry)| (Path::new("TMPDIR").join(path), entry)),
        );
        (outcome, files, event::read(&log))
    }

    fn shell(&self, client: &str, script: &str, work: &Path) -> Command {
        let compiler = self.line.compiler;
        let source = match compiler.contains("++") {
            true => "s.cc",
            false => "s.c",
        };
        let text = format!("cc='{client} {compiler}'; src_s={source}\n{script}");
        let mut command = scrubbed("sh", work, &self.home);
        command
            .args(["-c", &text])
            .env("TMPDIR", self.folder.join("t"));
        if self.line.on_terminal {
            command.env("TERM", "xterm-256color");
        }
        command
    }
}

/// `wanted`, or where else it was, and why.
fn place(events: &[Event], wanted: &str) -> String {
    let Some(event) = events.last() else {
        return "no event".into();
    };
    match event.place == wanted {
        true => wanted.into(),
        false if event.not_kept.is_empty() => format!("{}: {}", event.place, event.reason),
        false => {
            let (place, reason, kept) = (&event.place, &event.reason, &event.not_kept);
            format!("{place}: {reason} (not kept: {kept})")
        }
    }
}
