//! Runs sequences: plain compiler, hgbuild, hgbuild again, in one folder, with all
//! that a run has changed put back before the next.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hg_tests::cache::switch_on;
use hg_tests::command::{Outcome, run_within, scrubbed};
use hg_tests::event::{self, Event};
use hg_tests::folder::{Entry, Snapshot, compare, snapshot};
use hg_tests::programs::programs;
use hg_tests::{in_path, skip};
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::case::{Case, FILES, Step};

/// Cases at once.
const THREADS: usize = 3;
/// What one command may take.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(120);
/// The kernel stamps files by a clock that ticks this seldom.
const TICK_NS: i128 = 20_000_000;
/// mtime of [`Step::Old`], in seconds of the epoch.
const LONG_AGO_S: i64 = 1_000_000_000;

/// Runs all `cases` with all their compilers.
///
/// # Panics
/// One of them went wrong: all are named.
pub fn check(group: &str, cases: &[Case]) {
    let began = Instant::now();
    let scratch = tempfile::Builder::new().prefix("hg-cache-").tempdir();
    let scratch = scratch.expect("a temporary folder");
    let jobs: Vec<(&Case, &str)> = cases
        .iter()
        .flat_map(|case| case.compilers.iter().map(move |compiler| (case, *compiler)))
        .filter(|(case, compiler)| wanted(case) && is_here(case, compiler))
        .collect();
    let next = AtomicUsize::new(0);
    let hits = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some((case, compiler)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let folder = scratch
                        .path()
                        .join(format!("{}-{compiler}", case.name.replace([' ', '/'], "_")));
                    let sequence = Sequence::new(case, compiler, folder, scratch.path());
                    let found = sequence.play();
                    hits.fetch_add(sequence.hits.get(), Ordering::Relaxed);
                    let mut all = failures.lock().unwrap_or_else(PoisonError::into_inner);
                    all.extend(found);
                }
            });
        }
    });
    let failures = failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    eprintln!(
        "{group}: {} sequences, {} hits in {:?}",
        jobs.len(),
        hits.into_inner(),
        began.elapsed()
    );
    assert!(
        failures.is_empty(),
        "{group}: {} wrong\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// `HG_TEST_CASE=words`: only the cases with these words in their names. With
/// `HG_TEST_ONE_CACHE=1` all of a group share a cache: no case may get another's.
fn wanted(case: &Case) -> bool {
    std::env::var("HG_TEST_CASE").map_or(true, |words| case.name.contains(&words))
}

fn is_here(case: &Case, compiler: &str) -> bool {
    let mut programs: Vec<&str> = vec![compiler];
    case.programs().for_each(|program| programs.push(program));
    let missing = programs
        .into_iter()
        .find(|program| in_path(program).is_none());
    if let Some(program) = missing {
        skip(case.name, &format!("{program} not installed"));
    }
    missing.is_none()
}

/// All that a run shows.
struct Seen {
    outcome: Outcome,
    files: Snapshot,
    /// Files that it wrote with an mtime from before it began.
    stale: Vec<PathBuf>,
}

/// One case with one compiler.
struct Sequence<'a> {
    case: &'a Case,
    compiler: &'a str,
    /// Of this case; the work folder in it is the same in each run.
    folder: PathBuf,
    /// Of all cases: what is known of a compiler is found out once.
    home: PathBuf,
    cache: PathBuf,
    hits: Cell<usize>,
    /// Preparations that failed.
    trouble: RefCell<Vec<String>>,
}

impl<'a> Sequence<'a> {
    fn new(case: &'a Case, compiler: &'a str, folder: PathBuf, scratch: &Path) -> Self {
        // Cases that damage their cache keep it to themselves.
        let shared = std::env::var_os("HG_TEST_ONE_CACHE")
            .filter(|_| !case.steps.iter().any(Step::is_about_the_cache));
        Sequence {
            case,
            compiler,
            cache: match shared {
                Some(_) => scratch.join("cache"),
                None => folder.join("cache"),
            },
            folder,
            home: scratch.join("home"),
            hits: Cell::new(0),
            trouble: RefCell::default(),
        }
    }

    /// What went wrong, a line each.
    fn play(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for folder in [self.work(), self.temporary(), self.home.clone()] {
            fs::create_dir_all(folder).expect("a folder");
        }
        for (name, text) in FILES.iter().chain(self.case.files) {
            write(&self.work().join(name), text);
        }
        let mut world = World {
            script: self.case.script,
            before: "",
            variables: BTreeMap::new(),
            last: None,
        };
        for (at, step) in self.case.steps.iter().enumerate() {
            let (name, compiler) = (self.case.name, self.compiler);
            let mut found = match self.edit(step, &mut world) {
                true => Vec::new(),
                false => self.build(step, &mut world),
            };
            found.append(&mut self.trouble.borrow_mut());
            lines.extend(found.iter().map(|line| {
                let script = world.script;
                format!("* {name} by {compiler}, step {at} {step:?}, {script:?}: {line}")
            }));
        }
        if lines.is_empty() {
            let _ = fs::remove_dir_all(&self.folder);
        }
        lines
    }

    fn work(&self) -> PathBuf {
        self.folder.join("w")
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join("t")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("events.jsonl")
    }

    /// `false`: the step is no edit.
    fn edit(&self, step: &Step, world: &mut World) -> bool {
        let at = |name: &str| self.work().join(name);
        match *step {
            Step::Write(name, text) => write(&at(name), text),
            Step::Stealth(name, text) => {
                let before = fs::metadata(at(name)).expect("a file to edit by stealth");
                write(&at(name), text);
                stamp(&at(name), before.mtime(), before.mtime_nsec());
            }
            Step::Replace(name, text) => replace(&at(name), text),
            Step::Old(name, text) => {
                replace(&at(name), text);
                stamp(&at(name), LONG_AGO_S, 0);
            }
            Step::Touch(name) => touch(&at(name)),
            Step::Remove(name) => remove(&at(name)),
            Step::Rename(from, to) => fs::rename(at(from), at(to)).expect("a rename"),
            Step::Link(says, name) => {
                if at(name).symlink_metadata().is_ok() {
                    fs::remove_file(at(name)).expect("an old link");
                }
                symlink(says, at(name)).expect("a link");
            }
            Step::Env(name, value) => {
                world.variables.insert(name, value);
            }
            Step::Unset(name) => {
                world.variables.remove(name);
            }
            Step::Run(script) => world.script = script,
            Step::Before(script) => world.before = script,
            Step::Sh(script) => self.prepare(script),
            _ => return false,
        }
        true
    }

    /// One plain run and two of hgbuild: how they differ, and where they ran.
    fn build(&self, step: &Step, world: &mut World) -> Vec<String> {
        let mut lines = Vec::new();
        let before = look(&self.work());
        let plain = self.once(None, world, &before);
        let outputs = outputs(&plain.0.files, &before);
        lines.extend(self.unfit(step, &plain, &outputs, world));
        let mut places = Vec::new();
        for number in ["first", "second"] {
            put_back(&self.work(), &before);
            let seen = self.once(Some(true), world, &before);
            lines.extend(self.different(step, number, &plain, seen.0));
            places.push(seen.1);
        }
        lines.extend(misplaced(step, &places));
        self.hits
            .set(self.hits.get() + places.iter().filter(|p| is_hit(p)).count());
        // Without an event log hgbuild may take another way.
        put_back(&self.work(), &before);
        let silent = self.once(Some(false), world, &before);
        lines.extend(self.different(step, "silent", &plain, silent.0));
        put_back(&self.work(), &before);
        world.last = Some((plain.0.outcome, outputs));
        lines
    }

    /// What is wrong with the plain run: the case would test nothing.
    fn unfit(
        &self,
        step: &Step,
        plain: &(Seen, Vec<Event>),
        outputs: &Snapshot,
        world: &World,
    ) -> Vec<String> {
        let outcome = &plain.0.outcome;
        let mut lines = Vec::new();
        match step {
            Step::Any | Step::NewAny | Step::Warned => {}
            Step::Fails if outcome.ok() => lines.push("the plain compiler succeeds".to_owned()),
            Step::Fails => {}
            _ if !outcome.ok() => lines.push(format!("the plain one: {}", outcome.words())),
            _ => {}
        }
        let is_new = matches!(step, Step::New | Step::NewBypass | Step::NewAny);
        let last = world.last.as_ref();
        if is_new && last.is_some_and(|last| last.0 == *outcome && last.1 == *outputs) {
            lines.push("the plain result is what it was before the edit".to_owned());
        }
        lines
    }

    fn different(
        &self,
        step: &Step,
        number: &str,
        plain: &(Seen, Vec<Event>),
        mut seen: Seen,
    ) -> Vec<String> {
        if matches!(step, Step::Warned) {
            seen.outcome.stderr = without_a_warning(&seen.outcome.stderr);
        }
        let plain = &plain.0;
        let mut lines = compare((&plain.outcome, &plain.files), (&seen.outcome, &seen.files));
        for path in seen.stale.iter().filter(|path| !plain.stale.contains(path)) {
            lines.push(format!("{}: older than its build", path.display()));
        }
        lines
            .iter()
            .map(|line| format!("{number} run: {line}"))
            .collect()
    }

    /// One run: `None` plain, else behind hgbuild with or without an event log.
    fn once(&self, log: Option<bool>, world: &World, before: &Snapshot) -> (Seen, Vec<Event>) {
        let prepared = (!world.before.is_empty()).then(|| {
            self.prepare(world.before);
            look(&self.work())
        });
        let before = prepared.as_ref().unwrap_or(before);
        let began = now_ns(&self.folder.join("clock"));
        let mut command = self.shell(log.is_some(), world.script);
        command.envs(&world.variables);
        // The log is what one run says.
        let _ = fs::remove_file(self.log());
        if log == Some(true) {
            command.env("HG_EVENT_LOG", self.log());
        }
        let mut outcome = run_within(&mut command, COMMAND_TIME_MAX);
        outcome.stdout = blurred(&outcome.stdout);
        outcome.stderr = blurred(&outcome.stderr);
        let mut files = look(&self.work());
        let stale = stale(&self.work(), before, &files, began);
        for name in self.case.unequal {
            if let Some(Entry::File { bytes, .. }) = files.get_mut(Path::new(name)) {
                bytes.clear();
            }
        }
        let left = look(&self.temporary());
        files.extend(
            left.into_iter()
                .map(|(path, entry)| (Path::new("TMPDIR").join(path), entry)),
        );
        let seen = Seen {
            outcome,
            files,
            stale,
        };
        (seen, event::read(&self.log()))
    }

    fn shell(&self, behind: bool, script: &str) -> Command {
        let prefix = match behind {
            true => format!("{} ", programs().client.display()),
            false => String::new(),
        };
        let compiler = self.compiler;
        let text = format!("cc='{prefix}{compiler}'; CX='{compiler}'; hg='{prefix}'\n{script}");
        let mut command = scrubbed("sh", &self.work(), &self.home);
        switch_on(&mut command, &self.cache);
        command.args(["-c", &text]).env("TMPDIR", self.temporary());
        command
    }

    fn prepare(&self, script: &str) {
        let mut command = self.shell(false, script);
        command.env("CACHE", &self.cache);
        let outcome = run_within(&mut command, COMMAND_TIME_MAX);
        if !outcome.ok() {
            let said = format!("{script:?}: {}", outcome.words());
            self.trouble.borrow_mut().push(said);
        }
    }
}

/// What steps have made of a case.
struct World {
    script: &'static str,
    before: &'static str,
    variables: BTreeMap<&'static str, &'static str>,
    /// How the last plain run ended, and its outputs.
    last: Option<(Outcome, Snapshot)>,
}

fn is_hit(events: &[Event]) -> bool {
    !events.is_empty() && events.iter().all(|event| event.place == "cache")
}

/// Where the two runs were, if that was not expected.
fn misplaced(step: &Step, places: &[Vec<Event>]) -> Vec<String> {
    let told = |events: &Vec<Event>| -> String {
        let words = events.iter().map(|e| format!("{} {}", e.place, e.reason));
        words.collect::<Vec<_>>().join(", ")
    };
    let [first, second] = places else {
        return vec!["not two runs".to_owned()];
    };
    let never = |events: &Vec<Event>| events.iter().all(|event| event.place != "cache");
    let fits = match step {
        Step::Hit | Step::New => is_hit(second),
        Step::First => is_hit(first) && is_hit(second),
        Step::Bypass | Step::NewBypass | Step::Fails => never(first) && never(second),
        _ => true,
    };
    match fits {
        true => Vec::new(),
        false => vec![format!("where: {}; then {}", told(first), told(second))],
    }
}

/// stderr without one line of hgbuild's own.
fn without_a_warning(stderr: &[u8]) -> Vec<u8> {
    let mut one = true;
    let mut kept = Vec::with_capacity(stderr.len());
    for line in stderr.split_inclusive(|byte| *byte == b'\n') {
        if one && line.starts_with(b"hgbuild: ") {
            one = false;
        } else {
            kept.extend_from_slice(line);
        }
    }
    kept
}

/// What a run has made or changed.
fn outputs(after: &Snapshot, before: &Snapshot) -> Snapshot {
    let mut outputs = after.clone();
    outputs.retain(|path, entry| before.get(path) != Some(entry));
    outputs
}

fn look(folder: &Path) -> Snapshot {
    snapshot(folder).expect("a folder of the case")
}

/// Takes away what a run has made and gives changed files their content again.
fn put_back(folder: &Path, before: &Snapshot) {
    let now = look(folder);
    for (path, entry) in now.iter().rev() {
        let same_kind = before.get(path).is_some_and(|old| {
            std::mem::discriminant(old) == std::mem::discriminant(entry)
                && !matches!(entry, Entry::Link(_) if old != entry)
        });
        if !same_kind {
            remove(&folder.join(path));
        }
    }
    for (path, entry) in before
        .iter()
        .filter(|(path, old)| now.get(*path) != Some(*old))
    {
        let path = folder.join(path);
        match entry {
            Entry::File { bytes, mode } => {
                let open = fs::Permissions::from_mode(0o600);
                let _ = fs::set_permissions(&path, open);
                fs::write(&path, bytes).expect("a file put back");
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("its mode");
            }
            Entry::Link(says) => symlink(says, &path).expect("a link put back"),
            Entry::Folder(mode) => {
                fs::create_dir_all(&path).expect("a folder put back");
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("its mode");
            }
            Entry::Other => {}
        }
    }
}

/// New or changed files whose mtime is before `began`.
fn stale(work: &Path, before: &Snapshot, after: &Snapshot, began: i128) -> Vec<PathBuf> {
    let changed = after.iter().filter(|(path, entry)| {
        matches!(entry, Entry::File { .. }) && before.get(*path) != Some(*entry)
    });
    changed
        .map(|(path, _)| path)
        .filter(|path| mtime_ns(&work.join(path)) < began - TICK_NS)
        .cloned()
        .collect()
}

fn mtime_ns(path: &Path) -> i128 {
    fs::symlink_metadata(path).map_or(i128::MAX, |m| {
        i128::from(m.mtime()) * 1_000_000_000 + i128::from(m.mtime_nsec())
    })
}

/// The clock by which files are stamped.
fn now_ns(file: &Path) -> i128 {
    fs::write(file, "").expect("a file to be stamped");
    mtime_ns(file)
}

fn write(path: &Path, text: &str) {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).expect("a folder");
    }
    fs::write(path, text).expect("a file");
}

fn replace(path: &Path, text: &str) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = path.with_file_name(format!(".new-{name}"));
    write(&fresh, text);
    fs::rename(&fresh, path).expect("a file replaced");
}

fn touch(path: &Path) {
    let now = TimeSpec::UTIME_NOW;
    utimensat(
        nix::fcntl::AT_FDCWD,
        path,
        &now,
        &now,
        UtimensatFlags::FollowSymlink,
    )
    .expect("a touch");
}

fn stamp(path: &Path, s: i64, ns: i64) {
    let time = TimeSpec::new(s, ns);
    utimensat(
        nix::fcntl::AT_FDCWD,
        path,
        &time,
        &time,
        UtimensatFlags::FollowSymlink,
    )
    .expect("an mtime");
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        _ => fs::remove_file(path),
    }
    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
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
