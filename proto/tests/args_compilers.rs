//! Holds the argument table against the real compilers: what may travel gives
//! the same object, the same dependency file and the same silence as a plain
//! compile. A compiler that is not installed is named and passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use hg_proto::options::args::{Compile, Dialect, Family, check_travelled, parse};
use hg_proto::options::row::{Permit, Role, Row, Shape};
use hg_proto::options::table::rows;

/// Compiles at a time.
const THREADS: usize = 2;
/// Options in one compile, as long as they get along.
const BATCH: usize = 40;

const C_SAMPLE: &str = r#"
#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "near.h"
#ifdef NAME
int named = NAME;
#endif
#ifdef __OPTIMIZE__
int optimized = 1;
#endif
static const char where[] = __FILE__;
static const int table[] = { 1, 2, 3, 5, 8, 13, 21, 34 };
const char *const lines[] = { __FILE__, NEAR_TEXT, "line " "two" };
enum colour { RED, GREEN, BLUE };
struct packed { char c; int i; long double d; enum colour e; };
static inline int twice(int x) { return NEAR_TWICE(x); }
__attribute__((noinline)) static int checked(int x) { assert(x > 3 && "big enough"); return x; }
double mean(const double *v, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += v[i];
  return n ? sum / n : 0;
}
int pick(enum colour c, unsigned shift) {
  char buffer[32];
  switch (c) {
  case RED: return table[shift % 8] << shift;
  case GREEN: memset(buffer, (int)shift, sizeof buffer); return buffer[shift % 32];
  case BLUE: return checked((int)shift) / (int)(shift + 1);
  }
  return near_length(where) + near_length(near_file()) + __LINE__;
}
void show(struct packed *p) { printf("%s %d %s\n", where, twice(p->i), __func__); }
int uninitialised(int x) { int y[4]; if (x) y[x & 3] = twice(x); return y[0] + y[x & 3]; }
"#;

const CXX_SAMPLE: &str = r#"
#include <exception>
#include <new>
#include <stddef.h>
#include <typeinfo>
#include "near.h"
#ifdef NAME
int named = NAME;
#endif
namespace { struct Hidden { virtual ~Hidden() {} virtual int v() const { return 7; } }; Hidden hidden; }
template <typename T, int N> struct Array {
  T item[N];
  T sum() const { T s = T(); for (int i = 0; i < N; i++) s += item[i]; return s; }
};
struct Base { virtual ~Base(); virtual const char *name() const; int kept; };
struct Derived : Base { const char *name() const { return __FILE__; } };
Base::~Base() {}
const char *Base::name() const { return NEAR_TEXT; }
struct Global { int *p; Global() : p(new int[NEAR_TWICE(2)]) {} ~Global() { delete[] p; } };
static Global global;
inline int counter() { static Array<int, 4> a = { { 1, 2, 3, 4 } }; return a.sum(); }
template <typename T> T largest(T a, T b) { return a > b ? a : b; }
#ifdef __cpp_exceptions
int guarded(int x) {
  try { if (x) throw x; return counter(); } catch (int y) { return y; }
}
#endif
#ifdef __GXX_RTTI
bool same(const Base &a, const Base &b) { return typeid(a) == typeid(b); }
#endif
long use(Base *b) { return largest(near_length(b->name()), counter()) + hidden.v() + near_length(near_file()) + __LINE__; }
double mean(const double *v, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += v[i];
  return n ? sum / n : 0;
}
"#;

const HEADER: &str = r#"#pragma once
#define NEAR_TWICE(x) ((x) * 2)
#define NEAR_TEXT __FILE__
static inline const char *near_file(void) { return __FILE__; }
static inline int near_length(const char *s) { int n = 0; while (s[n]) n++; return n; }
"#;

#[derive(Clone, Copy, Debug)]
struct Compiler {
    name: &'static str,
    dialect: Dialect,
    /// What the worker runs: it need not know which driver was typed.
    remote: &'static str,
    source: &'static str,
}

const fn compiler(
    name: &'static str,
    family: Family,
    cxx_driver: bool,
    remote: &'static str,
    source: &'static str,
) -> Compiler {
    Compiler {
        name,
        dialect: Dialect { family, cxx_driver },
        remote,
        source,
    }
}

const COMPILERS: [Compiler; 4] = [
    compiler("gcc", Family::Gcc, false, "gcc", "src/sample.c"),
    compiler("g++", Family::Gcc, true, "gcc", "src/sample.cc"),
    compiler("clang", Family::Clang, false, "clang", "src/sample.c"),
    compiler("clang++", Family::Clang, true, "clang", "src/sample.cc"),
];

fn installed() -> Vec<Compiler> {
    let there = |c: &Compiler| {
        let mut version = Command::new(c.name);
        version
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let found = version.status().is_ok_and(|status| status.success());
        if !found {
            skip(&format!("{} is not installed", c.name));
        }
        found
    };
    COMPILERS.into_iter().filter(there).collect()
}

/// A folder with the samples in it, gone with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "args-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        for sub in ["src", "include", "out", "worker"] {
            fs::create_dir_all(path.join(sub)).unwrap();
        }
        fs::write(path.join("src/sample.c"), C_SAMPLE).unwrap();
        fs::write(path.join("src/sample.cc"), CXX_SAMPLE).unwrap();
        fs::write(path.join("include/near.h"), HEADER).unwrap();
        Folder(path)
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&self.0).unwrap().to_path_buf();
                    found.insert(name, fs::read(&path).unwrap());
                }
            }
        }
        found
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(name: &str, folder: &Path, args: &[Vec<u8>]) -> Output {
    use std::os::unix::ffi::OsStrExt;
    let args = args.iter().map(|arg| std::ffi::OsStr::from_bytes(arg));
    Command::new(name)
        .args(args)
        .current_dir(folder)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn silent(output: &Output) -> bool {
    output.status.success() && output.stderr.is_empty()
}

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split_whitespace()
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

/// Preprocesses and compiles as if the two were on different machines. The
/// object, or what was said instead.
fn split(
    compiler: Compiler,
    compile: &Compile,
    folder: &Folder,
    dependency_file: Option<&[u8]>,
) -> Result<Vec<u8>, String> {
    let preprocess = compile.preprocess_args(compiler.dialect, dependency_file);
    let text = run(compiler.name, &folder.0, &preprocess);
    if !silent(&text) {
        return Err(String::from_utf8_lossy(&text.stderr).into_owned());
    }
    let input = Path::new(compiler.source).file_name().unwrap();
    let worker = folder.0.join("worker");
    fs::write(worker.join(input), &text.stdout).unwrap();
    let input = input.as_encoded_bytes();
    let args = compile.travel_args(compiler.dialect, input, b"result.o");
    check_travelled(compiler.dialect, &args, &[input], &[b"result.o"])
        .unwrap_or_else(|reason| panic!("{reason}: the worker would refuse it"));
    let done = run(compiler.remote, &worker, &args);
    let made = fs::read(worker.join("result.o"));
    let left: BTreeSet<_> = fs::read_dir(&worker)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    fs::remove_dir_all(&worker).unwrap();
    fs::create_dir(&worker).unwrap();
    if !silent(&done) {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    assert_eq!(left.len(), 2, "the worker made {left:?}");
    Ok(made.unwrap())
}

/// Options under test, each one or two words.
type Batch = Vec<Vec<String>>;

#[derive(Default)]
struct Findings {
    compared: u32,
    rejected: u32,
    wrong: Vec<String>,
}

/// What `batch` does to the object, plain and split; where a compiler takes
/// offence at some of it, the rest goes on alone.
fn compare(compiler: Compiler, folder: &Folder, batch: Batch, findings: &mut Findings) {
    if batch.is_empty() {
        return;
    }
    let mut args = words("-O2 -Iinclude -c -o out/sample.o");
    args.push(compiler.source.into());
    args.extend(batch.iter().flatten().map(|word| word.clone().into_bytes()));
    let compile = match parse(compiler.dialect, &args) {
        Ok(compile) => compile,
        Err(reason) => return findings.wrong.push(format!("{batch:?}: {reason}")),
    };
    if let Err(reason) = &compile.travel {
        return findings.wrong.push(format!(
            "{} {batch:?} may not travel: {reason}",
            compiler.name
        ));
    }
    let plain = run(compiler.name, &folder.0, &args);
    if !silent(&plain) {
        return offended(compiler, folder, batch, &compile, &plain, findings);
    }
    let object = fs::read(folder.0.join("out/sample.o")).unwrap();
    let files = folder.files();
    if files.len() != 4 {
        let names: Vec<_> = files.keys().collect();
        if batch.len() == 1 {
            findings
                .wrong
                .push(format!("{} {batch:?} makes {names:?}", compiler.name));
        }
    } else {
        match split(compiler, &compile, folder, None) {
            Ok(other) if other == object => return findings.compared += batch.len() as u32,
            Ok(_) if batch.len() == 1 => {
                return findings
                    .wrong
                    .push(format!("{} {batch:?}: other object", compiler.name));
            }
            // The client compiles locally: right, but a lot of work for nothing.
            Err(said) if batch.len() == 1 => {
                return findings
                    .wrong
                    .push(format!("{} {batch:?}: {said}", compiler.name));
            }
            _ => {}
        }
    }
    halves(compiler, batch, findings);
}

fn halves(compiler: Compiler, mut batch: Batch, findings: &mut Findings) {
    if batch.len() == 1 {
        return;
    }
    let rest = batch.split_off(batch.len() / 2);
    // A fresh folder: what an option left behind is its own.
    compare(compiler, &Folder::new(), batch, findings);
    compare(compiler, &Folder::new(), rest, findings);
}

fn offended(
    compiler: Compiler,
    folder: &Folder,
    batch: Batch,
    compile: &Compile,
    plain: &Output,
    findings: &mut Findings,
) {
    let said = String::from_utf8_lossy(&plain.stderr);
    let travels = |option: &Vec<String>| role(compiler, option) != Some(Role::Preprocess);
    if batch.len() == 1 {
        // Silence elsewhere would lose what the compiler said here.
        if split(compiler, compile, folder, None).is_ok() {
            findings
                .wrong
                .push(format!("{} {batch:?} loses: {said}", compiler.name));
        }
        findings.rejected += 1;
        return;
    }
    // Quoted as it is, or at least the part before its value.
    let quoted = |option: &Vec<String>, exact: bool| {
        let word = option[0].trim_start_matches("-Wa,");
        let stem = word.split('=').next().unwrap_or(word);
        said.contains(&format!("'{word}'"))
            || !exact
                && (said.contains(&format!("'{stem}'")) || said.contains(&format!("'{stem}=")))
    };
    let exact = batch
        .iter()
        .any(|option| travels(option) && quoted(option, true));
    let (out, rest): (Batch, Batch) = batch
        .into_iter()
        .partition(|option| travels(option) && quoted(option, exact));
    if out.is_empty() {
        return halves(compiler, rest, findings);
    }
    findings.rejected += out.len() as u32;
    compare(compiler, folder, rest, findings);
}

fn role(compiler: Compiler, option: &[String]) -> Option<Role> {
    let (row, _) = hg_proto::options::table::find(compiler.dialect.family, option[0].as_bytes())?;
    Some(row.role)
}

fn travels(compiler: Compiler, row: &Row) -> bool {
    let stands = !matches!(
        row.role,
        Role::Source | Role::Stage | Role::Output | Role::Language | Role::Dependency
    );
    // clang warns of linker options: they stay here.
    let link = row.role == Role::Link && compiler.dialect.family == Family::Clang;
    let debug = row.role == Role::Debug && row.spelling == "-g";
    row.has(compiler.dialect.family) && row.travel == Permit::Yes && stands && !link && !debug
}

fn examples(row: &Row) -> Vec<Vec<String>> {
    let example = row.example();
    let negated = matches!(row.shape, Shape::Toggle | Shape::JoinedToggle)
        .then(|| vec![format!("{}no-{}", &example[0][..2], &example[0][2..])]);
    [Some(example), negated].into_iter().flatten().collect()
}

/// Options that hide each other: each alone.
const ALONE: &[&str] = &[
    "-O0",
    "-O1",
    "-O2",
    "-O3",
    "-Os",
    "-Og",
    "-Ofast",
    "-DNAME",
    "-DNAME=5 -UNAME",
    "-D NAME=__LINE__",
    "-fPIC",
    "-fpie",
    "-fno-pic",
    "-pg",
    "-fopenmp",
    "-pthread",
    "-finstrument-functions",
    "-fsanitize=undefined",
    "-fsanitize=thread",
    "-fsanitize=leak",
    "-fsanitize-coverage=trace-pc-guard",
    "-fsanitize=undefined -fsanitize-trap=undefined",
    "-ftrapv",
    "-fno-builtin",
    "-ffreestanding",
    "-fmacro-prefix-map=src=/mapped",
    "-ffile-prefix-map=include=/mapped",
    "-fdebug-prefix-map=src=x",
    "-include near.h",
    "-isystem include",
    "-iquote include",
    "-idirafter include",
    "-I include",
    "-std=gnu11",
    "-std=c99",
    "-ansi",
    "-std=c++17",
    "-std=gnu++20",
    "-std=c++98",
    "-march=x86-64-v3",
    "-mtune=haswell",
    "-m32",
    "-mno-sse",
    "-mavx2",
    "-masm=intel",
    "-fcf-protection=full",
    "-fpatchable-function-entry=4,2",
    "-ftrivial-auto-var-init=pattern",
    "-fstack-protector-strong -D_FORTIFY_SOURCE=2",
    "-fno-exceptions",
    "-fno-rtti",
    "-g -g0",
    "-ggdb3 -g0",
    "-fshort-enums -funsigned-char",
    "-Wall -Wextra -Wpedantic",
    "-Wp,-DNAME=7",
    "-Wp,-D_FORTIFY_SOURCE=2,-DNAME=8",
    "-frandom-seed=dir/x.o",
    "-fdiagnostics-color=always",
    "-fvisibility=hidden -fvisibility-inlines-hidden",
    "-fno-common -fdata-sections -ffunction-sections",
    "-fpack-struct=2",
    "-fno-plt -fno-semantic-interposition -fPIC",
    "-U__OPTIMIZE__",
    "-Ulinux",
    "-Wno-builtin-macro-redefined -D__FILE__=3",
    "-finput-charset-is-not-known",
];

fn batches(compiler: Compiler) -> Vec<Batch> {
    let mut like: [Batch; 3] = Default::default();
    let mut found = Vec::new();
    for row in rows().filter(|row| travels(compiler, row)) {
        for (at, option) in examples(&row).into_iter().enumerate() {
            match row.role {
                Role::Preprocess => found.push(vec![option]),
                // What the processor can do, and what the compiler makes of it.
                _ if row.spelling.starts_with("-m") => like[2].push(option),
                _ => like[at].push(option),
            }
        }
    }
    for batch in like {
        found.extend(batch.chunks(BATCH).map(<[_]>::to_vec));
    }
    found
}

fn alone(compiler: Compiler, folder: &Folder, option: &str, findings: &mut Findings) {
    let mut args = words("-Iinclude -c -o out/sample.o");
    args.extend(words(option));
    args.push(compiler.source.into());
    let Ok(compile) = parse(compiler.dialect, &args) else {
        return findings.rejected += 1;
    };
    if compile.travel.is_err() {
        return findings.rejected += 1;
    }
    let plain = run(compiler.name, &folder.0, &args);
    let made = split(compiler, &compile, folder, None);
    let object = fs::read(folder.0.join("out/sample.o"));
    match (silent(&plain), made) {
        (true, Ok(made)) if object.is_ok_and(|object| object == made) => findings.compared += 1,
        (true, Ok(_)) => findings
            .wrong
            .push(format!("{} {option}: other object", compiler.name)),
        (false, Ok(_)) => findings
            .wrong
            .push(format!("{} {option}: lost stderr", compiler.name)),
        (true, Err(said)) => eprintln!("{} {option}: local after all: {said}", compiler.name),
        (false, Err(_)) => findings.rejected += 1,
    }
}

enum Job {
    Batch(Compiler, Batch),
    Alone(Compiler, &'static str),
}

#[test]
fn what_travels_gives_the_same_object() {
    let compilers = installed();
    let mut jobs = Vec::new();
    for compiler in &compilers {
        jobs.extend(
            batches(*compiler)
                .into_iter()
                .map(|batch| Job::Batch(*compiler, batch)),
        );
        jobs.extend(ALONE.iter().map(|option| Job::Alone(*compiler, option)));
    }
    let jobs = Mutex::new(jobs);
    let all = Mutex::new(Findings::default());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut mine = Findings::default();
                loop {
                    let job = jobs.lock().unwrap().pop();
                    match job {
                        Some(Job::Batch(c, batch)) => compare(c, &Folder::new(), batch, &mut mine),
                        Some(Job::Alone(c, option)) => alone(c, &Folder::new(), option, &mut mine),
                        None => break,
                    }
                }
                let mut all = all.lock().unwrap();
                all.compared += mine.compared;
                all.rejected += mine.rejected;
                all.wrong.append(&mut mine.wrong);
            });
        }
    });
    let all = all.into_inner().unwrap();
    eprintln!(
        "{} options compared, {} not for this compiler",
        all.compared, all.rejected
    );
    assert!(all.wrong.is_empty(), "{}", all.wrong.join("\n"));
    assert!(
        compilers.is_empty() || all.compared > 300,
        "only {} compared",
        all.compared
    );
}

/// Each asks for a dependency file in its own way.
const DEPENDENCIES: &[&str] = &[
    "-MD -c SRC -o out/sample.o",
    "-MMD -c SRC -o out/sample.o",
    "-MD -c SRC",
    "-MMD -MP -c SRC",
    "-MD -MF out/x.dep -c SRC -o out/sample.o",
    "-MMD -MFx.dep -c SRC",
    "-MD -MT target -c SRC",
    "-MD -MT a -MQ b$c -MP -MF deps -c SRC -o out/a.o",
    "-MD -S SRC",
    "-MD -S SRC -o out/b.s",
    "-MD -c SRC -o plain",
    "-MD -c SRC -o out/x.y.o",
    "-MD -c SRC -o out.d/../out/z.obj",
    "-MD -c SRC -oout/joined.o",
    "-Wp,-MD,out/wp.d -c SRC -o out/wp.o",
    "-Wp,-MMD,wp.d -c SRC",
    "-MMD -c SRC -o out/$dollar#.o",
    "-MD -MT a~b -c SRC",
    "-MD -c SRC -o ./.hidden",
    "-Wp,-MD,x.d -MT t -c SRC -o out/t.o",
    "-MD -c SRC -o out.x/plain",
    "-MP -MD -MF a.d -c SRC -o b.o",
];

#[test]
fn dependency_files_are_the_same() {
    for compiler in installed() {
        for spelling in DEPENDENCIES {
            let mut args = words(&spelling.replace("SRC", compiler.source));
            for byte in args.iter_mut().flatten().filter(|byte| **byte == b'~') {
                *byte = b' ';
            }
            args.push(b"-Iinclude".to_vec());
            let (here, there) = (Folder::new(), Folder::new());
            for folder in [&here, &there] {
                fs::create_dir(folder.0.join("out.d")).unwrap();
                fs::create_dir(folder.0.join("out.x")).unwrap();
            }
            let plain = run(compiler.name, &here.0, &args);
            assert!(silent(&plain), "{} {spelling}: {plain:?}", compiler.name);
            let compile = parse(compiler.dialect, &args).unwrap();
            compile.travel.clone().unwrap();
            let file = compile.dependency_path().unwrap();
            let object = split(compiler, &compile, &there, Some(&file)).unwrap();
            let output = String::from_utf8(compile.output_path()).unwrap();
            fs::write(there.0.join(output), object).unwrap();
            let (here, there) = (here.files(), there.files());
            let names =
                |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&here), names(&there), "{} {spelling}", compiler.name);
            for (name, content) in &here {
                let other = &there[name];
                let text = String::from_utf8_lossy;
                assert!(
                    content == other,
                    "{} {spelling}: {name:?}\n{}\n{}",
                    compiler.name,
                    text(content),
                    text(other)
                );
            }
        }
    }
}

/// Past the test runner, which keeps to itself what a passing test says.
fn skip(why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
