//! What may go wrong around a cache: edits in the middle of a compile, crowds and
//! kills, damaged entries, full disks, a coordinator that never answers. The object
//! is right each time.
//!
//! `HG_CACHE_FULL=1` asks for the long form: 1,000 edits, 200 processes, each byte.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use hg_tests::cache::{files, hgbuild, stats, tool};
use hg_tests::command::{Outcome, run, scrubbed};
use hg_tests::event;
use hg_tests::folder::copy;
use hg_tests::programs::programs;
use hg_tests::running::Running;
use hg_tests::{in_path, skip};
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// Edits in the middle of a compile.
const RACES: usize = 60;
const RACES_FULL: usize = 1_000;
/// Processes at once.
const CROWD: usize = 60;
const CROWD_FULL: usize = 200;
/// One of so many is killed.
const KILLED_ONE_OF: u64 = 5;
/// Different sources of a crowd.
const CROWD_SOURCES: usize = 30;
/// What a crowd's cache may hold, in bytes.
const CROWD_BYTES_MAX: u64 = 2 << 20;
/// What a file takes of a disk is counted as a multiple of this, in bytes.
const BLOCK_BYTES: u64 = 4096;
/// Bytes of damaged files that are tried in the short form.
const FLIPS: usize = 500;

fn is_full() -> bool {
    std::env::var_os("HG_CACHE_FULL").is_some()
}

/// xorshift64: the same numbers each time.
struct Seed(u64);

impl Seed {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}

/// A folder to compile in, a home and a cache.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let folder = tempfile::Builder::new().prefix("hg-faults-").tempdir();
        let place = Place(folder.expect("a temporary folder"));
        for folder in [place.home(), place.work()] {
            fs::create_dir(folder).expect("a folder");
        }
        place
    }

    fn home(&self) -> PathBuf {
        self.0.path().join("home")
    }

    fn work(&self) -> PathBuf {
        self.0.path().join("w")
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("events.jsonl")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.work().join(name), text).expect("a file");
    }

    /// Behind hgbuild with the cache.
    fn cached(&self, words: &[&str]) -> Command {
        let mut command = hgbuild(words, &self.work(), &self.home(), &self.cache());
        command.env("HG_EVENT_LOG", self.log());
        command
    }

    fn plain(&self, words: &[&str]) -> Command {
        let mut command = scrubbed(words[0], &self.work(), &self.home());
        command.args(&words[1..]);
        command
    }

    /// What a command that succeeds leaves as `output`, which it makes.
    fn result(&self, what: &str, mut command: Command, output: &str) -> Vec<u8> {
        let output = self.work().join(output);
        // A file of an earlier run must not stand for this one's.
        let _ = fs::remove_file(&output);
        let outcome = run(&mut command);
        assert!(outcome.ok(), "{what}: {}", outcome.words());
        fs::read(&output).unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Hits so far.
    fn hits(&self) -> usize {
        let events = event::read(&self.log());
        events.iter().filter(|event| event.place == "cache").count()
    }
}

/// As many bytes that don't shrink as `words` times four.
fn noise(number: usize, words: usize) -> String {
    let mut seed = Seed(number as u64 * 7919 + 1);
    let numbers: String = (0..words)
        .map(|_| format!("{},", seed.below(1 << 32)))
        .collect();
    format!("unsigned x{number}[] = {{{numbers}}};\n")
}

/// The two headers of the race, by number.
fn raced_header(number: usize, value: usize) -> String {
    format!("#define V{number} {value}\nextern int declared{number}_{value};\n")
}

/// How a header is edited.
fn edit(place: &Place, number: usize, value: usize, how: u64) {
    let path = place.work().join(format!("v{number}.h"));
    let text = raced_header(number, value);
    if how == 0 {
        fs::write(path, text).expect("a header");
    } else {
        let fresh = place.work().join("fresh");
        fs::write(&fresh, text).expect("a header");
        if how == 2 {
            let old = fs::metadata(&path).and_then(|m| m.modified());
            let file = fs::File::options().append(true).open(&fresh);
            file.expect("a header")
                .set_modified(old.expect("an mtime"))
                .expect("an mtime");
        }
        fs::rename(&fresh, path).expect("a header replaced");
    }
}

#[test]
fn a_header_edited_during_a_compile_never_gives_a_wrong_hit() {
    let races = if is_full() { RACES_FULL } else { RACES };
    let place = Place::new();
    place.write(
        "r.c",
        "#include \"v0.h\"\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\
         #include <math.h>\n#include \"v1.h\"\nint r0 = V0; int r1 = V1;\n\
         int main(void) { return printf(\"%d\", r0 + r1); }\n",
    );
    let mut seed = Seed(0x5eed);
    let mut values = [1000, 1000];
    for number in 0..2 {
        place.write(&format!("v{number}.h"), &raced_header(number, 1000));
    }
    let mut wrong = Vec::new();
    for round in 0..races {
        let compiler = ["gcc", "clang"][round % 2];
        let words = [compiler, "-O2", "-c", "r.c", "-o", "r.o"];
        // How long a compile takes that nothing is known of.
        let began = Instant::now();
        let first = place.result("a compile", place.cached(&words), "r.o");
        let time = began.elapsed();
        let plain = place.result("plain", place.plain(&words), "r.o");
        assert_eq!(first, plain, "round {round}, before the race");

        let number = seed.below(2) as usize;
        let (before, how) = (values[number], seed.below(3));
        // One more edit, so that the compile of the race is a miss, and then its own.
        values[number] = before + 1;
        edit(&place, number, values[number], 1);
        // Time enough for the header to be trusted.
        place.result("plain", place.plain(&words), "r.o");
        let moment = time.mul_f64(seed.below(1_400) as f64 / 1_000.0);
        let racer = Running::start(&mut place.cached(&words));
        spin(moment);
        values[number] = before + 2;
        edit(&place, number, values[number], how);
        // It may have seen either, or half of a header.
        racer.finish();

        for value in [before + 2, before + 1, before] {
            edit(&place, number, value, seed.below(3));
            let plain = place.result("plain", place.plain(&words), "r.o");
            for run in ["first", "second"] {
                if place.result("at rest", place.cached(&words), "r.o") != plain {
                    wrong.push(format!(
                        "round {round} by {compiler}: v{number}.h edited after {moment:?} \
                         (way {how}), then {value}: wrong in the {run} run"
                    ));
                }
            }
        }
        edit(&place, number, values[number], 1);
    }
    let hits = place.hits();
    assert!(
        wrong.is_empty(),
        "{} wrong\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(hits >= races, "{hits} hits in {races} races");
}

/// A folder of headers whose path leads elsewhere in the middle of a compile.
struct Swap {
    what: &'static str,
    options: &'static str,
    include: &'static str,
    /// Folders with a header each: the first is at its place, the second takes it.
    folders: [&'static str; 2],
    /// What is renamed, and what comes in its place.
    moved: [&'static str; 2],
}

const SWAPS: [Swap; 4] = [
    Swap {
        what: "a folder that the command names",
        options: "-Iinc",
        include: "v.h",
        folders: ["inc", "new"],
        moved: ["inc", "new"],
    },
    Swap {
        what: "a folder that only a directive names",
        options: "-I.",
        include: "inc/v.h",
        folders: ["inc", "new"],
        moved: ["inc", "new"],
    },
    Swap {
        what: "the folder above",
        options: "-I.",
        include: "up/inc/v.h",
        folders: ["up/inc", "new/inc"],
        moved: ["up", "new"],
    },
    Swap {
        what: "a folder behind a link",
        options: "-Ilink",
        include: "v.h",
        folders: ["up/inc", "new/inc"],
        moved: ["up", "new"],
    },
];

/// A source that uses its header early, and compiles for a while after.
fn long_compile(header: &str) -> String {
    let functions: String = (0..1_000)
        .map(|number| format!("int f{number}(int a) {{ return a * {number} + V; }}\n"))
        .collect();
    format!("#include <{header}>\n{functions}")
}

#[test]
fn folders_written_into_during_a_compile_are_no_obstacle() {
    let place = Place::new();
    let at = |name: &str| place.work().join(name);
    fs::create_dir_all(at("up/inc")).expect("a folder");
    place.write("up/inc/v.h", "#define V 1\n");
    place.write("up/inc/s.c", &long_compile("v.h"));
    let words = ["gcc", "-Iup/inc", "-c", "up/inc/s.c", "-o", "up/inc/s.o"];
    // Folders that are made in the same tick as the compile begins are in doubt.
    place.result("plain", place.plain(&words), "up/inc/s.o");
    fs::remove_file(at("up/inc/s.o")).expect("an object");
    let racer = Running::start(&mut place.cached(&words));
    // Until its own object is there, so that one write is in the compile's time.
    while !at("up/inc/s.o").exists() {
        for folder in [".", "up", "up/inc"] {
            let path = at(folder).join("written");
            fs::write(&path, "").expect("a file");
            fs::remove_file(path).expect("a file");
        }
    }
    racer.finish();
    place.result("again", place.cached(&words), "up/inc/s.o");
    assert_eq!(place.hits(), 1, "{:?}", event::read(&place.log()));
}

#[test]
fn a_folder_swapped_during_a_compile_never_gives_a_wrong_hit() {
    let mut wrong = Vec::new();
    let mut kept = 0;
    for swap in &SWAPS {
        for round in 0..3 {
            let place = Place::new();
            let at = |name: &str| place.work().join(name);
            for (value, folder) in swap.folders.iter().enumerate() {
                fs::create_dir_all(at(folder)).expect("a folder");
                place.write(&format!("{folder}/v.h"), &format!("#define V {value}\n"));
            }
            std::os::unix::fs::symlink("up/inc", at("link")).expect("a link");
            place.write("s.c", &long_compile(swap.include));
            let words = ["gcc", swap.options, "-c", "s.c", "-o", "s.o"];
            let began = Instant::now();
            place.result("plain", place.plain(&words), "s.o");
            let time = began.elapsed();

            let [old, new] = swap.moved;
            let racer = Running::start(&mut place.cached(&words));
            spin(time.mul_f64(0.4 + f64::from(round) * 0.2));
            let moved = fs::rename(at(old), at("old")).and_then(|()| fs::rename(at(new), at(old)));
            moved.expect("folders swapped");
            // All above it are written into, as objects are.
            for folder in [".", old, swap.folders[0]] {
                fs::write(at(folder).join("written"), "").expect("a file");
            }
            racer.finish();

            let plain = place.result("plain", place.plain(&words), "s.o");
            for run in ["first", "second"] {
                if place.result("at rest", place.cached(&words), "s.o") != plain {
                    wrong.push(format!("{}, round {round}, {run} run", swap.what));
                }
            }
            kept += usize::from(place.hits() > 0);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(kept > 0, "nothing was kept");
}

/// Any moment of a compile, the same in each run of the tests: nothing says when.
fn spin(moment: Duration) {
    let until = Instant::now() + moment;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

#[test]
fn a_crowd_with_kills_keeps_the_bound_and_the_objects_right() {
    let crowd = if is_full() { CROWD_FULL } else { CROWD };
    let place = Place::new();
    let bound = format!("{CROWD_BYTES_MAX}B");
    let mut plain = Vec::new();
    for number in 0..CROWD_SOURCES {
        let source = format!("s{number}.c");
        place.write(&source, &noise(number, 40_000));
        plain.push(place.result(
            "plain",
            place.plain(&["gcc", "-c", &source, "-o", "p.o"]),
            "p.o",
        ));
    }
    let mut seed = Seed(0xc40d);
    let mut running = Vec::new();
    for at in 0..crowd {
        let number = seed.below(CROWD_SOURCES as u64) as usize;
        let (source, output) = (format!("s{number}.c"), format!("o{at}.o"));
        let mut command = place.cached(&["gcc", "-c", &source, "-o", &output]);
        command.env("HG_CACHE_MAX_SIZE", &bound);
        let dies = seed.below(KILLED_ONE_OF) == 0;
        running.push((number, output, dies, Running::start(&mut command)));
    }
    for (_, _, dies, process) in &running {
        if *dies {
            spin(Duration::from_millis(seed.below(60)));
            process.signal_group(Signal::SIGKILL);
        }
    }
    for (number, output, dies, process) in running {
        let outcome = process.finish();
        if outcome.signal == Some(Signal::SIGKILL as i32) && dies {
            continue;
        }
        assert!(outcome.ok(), "{output}: {}", outcome.words());
        let object = fs::read(place.work().join(&output)).expect("an object");
        assert!(object == plain[number], "{output} of s{number}.c is wrong");
    }
    // Whoever was killed had no time to tidy up; the next ones do.
    for round in 0..2 {
        for (number, plain) in plain.iter().enumerate() {
            let source = format!("s{number}.c");
            let mut command = place.cached(&["gcc", "-c", &source, "-o", "o.o"]);
            command.env("HG_CACHE_MAX_SIZE", &bound);
            let object = place.result(&source, command, "o.o");
            assert!(object == *plain, "round {round}: {source} is wrong");
        }
    }
    assert_bound(&place);
    let verify = tool(&["verify"], &place.home(), &place.cache());
    assert!(verify.ok(), "{}", verify.words());
}

/// Within 5% of the bound, by its own account and by the disk's.
fn assert_bound(place: &Place) {
    let there = files(&place.cache());
    let bytes: u64 = there.iter().map(|(_, bytes)| bytes).sum();
    let bytes_max = CROWD_BYTES_MAX + CROWD_BYTES_MAX / 20;
    assert!(bytes <= bytes_max, "{bytes} bytes: {there:#?}");
    let stats = stats(&place.home(), &place.cache()).expect("stats");
    assert!(stats.size_bytes <= bytes_max, "{stats:?}");
    assert!(stats.evictions > 0 && stats.evicted_bytes > 0, "{stats:?}");
    // Its account of what is there: the files of entries, in whole blocks.
    let entries = there.iter().filter(|(path, _)| is_entry(path));
    let blocks = entries.map(|(_, bytes)| bytes.next_multiple_of(BLOCK_BYTES));
    let counted: u64 = blocks.sum();
    let apart = stats.size_bytes.abs_diff(counted);
    assert!(
        apart <= CROWD_BYTES_MAX / 20,
        "{counted} bytes, but {stats:?}"
    );
}

fn is_entry(path: &Path) -> bool {
    let kind = path.extension().and_then(|kind| kind.to_str());
    matches!(kind, Some("m" | "r" | "t"))
}

/// A cache with one small result in it, a copy of it, and what is right.
struct Small {
    place: Place,
    right: Vec<u8>,
}

const SMALL: [&str; 6] = ["gcc", "-O1", "-S", "s.c", "-o", "s.s"];

impl Small {
    fn new() -> Small {
        let place = Place::new();
        place.write("s.h", "#define S 1\n");
        place.write("s.c", "#include \"s.h\"\nint s(int a) { return a + S; }\n");
        let right = place.result("plain", place.plain(&SMALL), "s.s");
        // Files that were written a moment ago may not be trusted at once.
        for _ in 0..3 {
            let object = place.result("a compile", place.cached(&SMALL), "s.s");
            assert_eq!(object, right);
        }
        assert!(place.hits() > 0, "no hit to be damaged");
        copy(&place.cache(), &place.0.path().join("kept")).expect("a copy");
        Small { place, right }
    }

    /// The files of the cache, relative to its folder, with their content.
    fn entries(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let kept = self.place.0.path().join("kept");
        let content = |path: &Path| fs::read(path).expect("a file of the cache");
        files(&kept)
            .iter()
            .map(|(path, _)| {
                let name = path.strip_prefix(&kept).unwrap_or(path);
                (name.to_path_buf(), content(path))
            })
            .collect()
    }

    /// With `bytes` as the file `name` of the cache: what is wrong, and whether it
    /// was a hit.
    fn with(&self, name: &Path, bytes: &[u8], what: &str) -> (Option<String>, bool) {
        let cache = self.place.cache();
        fs::remove_dir_all(&cache).expect("the cache");
        copy(&self.place.0.path().join("kept"), &cache).expect("a copy");
        fs::write(cache.join(name), bytes).expect("damage");
        let _ = fs::remove_file(self.place.log());
        let output = self.place.work().join("s.s");
        let _ = fs::remove_file(&output);
        let outcome = run(&mut self.place.cached(&SMALL));
        let object = fs::read(&output).unwrap_or_default();
        let is_right = outcome.ok() && object == self.right && outcome.stdout.is_empty();
        let wrong = (!is_right).then(|| {
            let object = String::from_utf8_lossy(&object);
            format!("{} {what}: {}\n{object}", name.display(), outcome.words())
        });
        (wrong, self.place.hits() > 0)
    }

    /// Tries all, and says what went wrong.
    fn assert_all(&self, damages: Vec<(PathBuf, Vec<u8>, String)>) {
        let (count, mut hits, mut wrong) = (damages.len(), 0, Vec::new());
        for (name, bytes, what) in damages {
            let (found, is_hit) = self.with(&name, &bytes, &what);
            wrong.extend(found);
            hits += usize::from(is_hit);
        }
        eprintln!("{count} damages, {hits} of them hits all the same");
        assert!(
            wrong.is_empty(),
            "{} wrong\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        assert!(hits < count, "no damage was seen");
    }
}

#[test]
fn each_byte_of_an_entry_may_flip() {
    let small = Small::new();
    let entries = small.entries();
    let total: usize = entries.iter().map(|(_, bytes)| bytes.len()).sum();
    let step = if is_full() { 1 } else { total / FLIPS + 1 };
    let mut damages = Vec::new();
    for (name, bytes) in entries {
        for at in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            damages.push((name.clone(), flipped, format!("flipped at {at}")));
        }
    }
    small.assert_all(damages);
}

#[test]
fn an_entry_may_be_cut_short_or_go_on() {
    let small = Small::new();
    let mut damages = Vec::new();
    for (name, bytes) in small.entries() {
        for length in [0, 1, 8, bytes.len() / 2, bytes.len().saturating_sub(1)] {
            let cut = bytes[..length.min(bytes.len())].to_vec();
            damages.push((name.clone(), cut, format!("cut to {length}")));
        }
        let twice = [bytes.clone(), bytes.clone()].concat();
        damages.push((name.clone(), twice, "twice".to_owned()));
        let zeros = vec![0; bytes.len()];
        damages.push((name.clone(), zeros, "of zeros".to_owned()));
        let huge = vec![0xff; bytes.len()];
        damages.push((name, huge, "of ones".to_owned()));
    }
    small.assert_all(damages);
}

#[test]
fn one_entry_may_stand_in_anothers_place() {
    let small = Small::new();
    let other = [&SMALL[..2], &["-DOTHER"], &SMALL[2..]].concat();
    small.place.write("s.h", "#define S 77\n");
    for _ in 0..2 {
        small
            .place
            .result("a compile", small.place.cached(&other), "s.s");
    }
    let others = files(&small.place.cache());
    small.place.write("s.h", "#define S 1\n");
    let mut damages = Vec::new();
    for (name, bytes) in small.entries() {
        for (path, _) in &others {
            let theirs = fs::read(path).expect("a file of the cache");
            if theirs != bytes {
                damages.push((name.clone(), theirs, format!("is {}", path.display())));
            }
        }
    }
    small.assert_all(damages);
}

/// Runs `script` in sh with a file system at `$CACHE`, mounted with `options`.
fn in_a_mount(place: &Place, options: &str, script: &str) -> Option<Outcome> {
    fs::create_dir_all(place.cache()).expect("a folder");
    let mount = format!(
        "mount -t tmpfs -o mode=700,{options} tmpfs '{}'",
        place.cache().display()
    );
    // Without being root one may be it in a namespace.
    let unshare = ["-m", "-rm"].into_iter().find(|flags| {
        let mut command = scrubbed("unshare", &place.work(), &place.home());
        let outcome = run(command.args([flags, "sh", "-c", &mount]));
        outcome.ok()
    })?;
    let text = format!("{mount} || exit 99\n{script}");
    let mut command = scrubbed("unshare", &place.work(), &place.home());
    hg_tests::cache::switch_on(&mut command, &place.cache());
    command
        .args([unshare, "sh", "-c", &text])
        .env("HG", &programs().client);
    Some(run(&mut command))
}

#[test]
fn a_full_disk_costs_the_hit_and_nothing_else() {
    if !["unshare", "mount"]
        .iter()
        .all(|tool| in_path(tool).is_some())
    {
        skip("a full disk", "unshare or mount not installed");
        return;
    }
    for options in [
        "size=4k",
        "size=16k",
        "size=100k",
        "size=1m,nr_inodes=4",
        "size=1m,nr_inodes=40",
        "size=1m,ro",
    ] {
        let place = Place::new();
        let mut script = String::new();
        let mut plain = Vec::new();
        for number in 0..6 {
            let source = format!("s{number}.c");
            place.write(&source, &noise(number, 10_000));
            plain.push(place.result(
                "plain",
                place.plain(&["gcc", "-c", &source, "-o", "p.o"]),
                "p.o",
            ));
            for run in 0..2 {
                script += &format!("\"$HG\" gcc -c {source} -o o{number}-{run}.o || exit 1\n");
            }
        }
        let Some(outcome) = in_a_mount(&place, options, &script) else {
            skip("a full disk", "no mount namespace to be had");
            return;
        };
        assert!(outcome.ok(), "{options}: {}", outcome.words());
        assert!(outcome.stdout.is_empty(), "{options}: {}", outcome.words());
        // A warning a run, at most.
        let said = String::from_utf8_lossy(&outcome.stderr);
        assert!(
            said.lines().all(|line| line.starts_with("hgbuild: ")),
            "{options}: {said}"
        );
        assert!(said.lines().count() <= 12, "{options}: {said}");
        for (number, plain) in plain.iter().enumerate() {
            for run in 0..2 {
                let name = format!("o{number}-{run}.o");
                let object = fs::read(place.work().join(&name)).expect("an object");
                assert!(object == *plain, "{options}: {name} is wrong");
            }
        }
    }
}

/// Lines of hgbuild's own in a build that are no summary.
fn warnings(outcome: &Outcome) -> Vec<String> {
    let said = String::from_utf8_lossy(&outcome.stderr);
    let own = said.lines().filter(|line| line.starts_with("hgbuild: "));
    let words = ["not used", "nothing is kept", "masquerade"];
    own.filter(|line| words.iter().any(|word| line.contains(word)))
        .map(str::to_owned)
        .collect()
}

const EIGHT: &str =
    "\"$HG\" -- sh -c 'for n in 0 1 2 3 4 5 6 7; do gcc -c s$n.c & done; wait' || exit 1\n";

#[test]
fn a_build_warns_once_of_a_disk_that_takes_nothing() {
    if !["unshare", "mount"]
        .iter()
        .all(|tool| in_path(tool).is_some())
    {
        skip("a full disk", "unshare or mount not installed");
        return;
    }
    let place = Place::new();
    let sources = |salt: usize| {
        for number in 0..8 {
            place.write(&format!("s{number}.c"), &noise(number + salt, 10_000));
        }
    };
    sources(0);
    let Some(outcome) = in_a_mount(&place, "size=16k", EIGHT) else {
        skip("a full disk", "no mount namespace to be had");
        return;
    };
    assert!(outcome.ok(), "{}", outcome.words());
    assert_eq!(warnings(&outcome).len(), 1, "{}", outcome.words());
    // A home that can't be written any more.
    let cache = place.cache().display().to_string();
    let script = format!(
        "mkdir -p {cache}/home; export HOME={cache}/home; unset HG_CACHE_DIR\n{EIGHT}echo then >&2\n\
         mount -o remount,ro {cache} || exit 99\necho 'int y;' >>s0.c\n{EIGHT}"
    );
    sources(100);
    let outcome = in_a_mount(&place, "size=100m", &script).expect("a mount");
    assert!(outcome.ok(), "{}", outcome.words());
    let warned = warnings(&outcome);
    assert_eq!(warned.len(), 1, "{}", outcome.words());
    assert!(warned[0].contains("Read-only"), "{}", outcome.words());
}

#[test]
fn a_hit_asks_no_coordinator() {
    let place = Place::new();
    // Connections are taken by the kernel, and nobody ever answers.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    listener.set_nonblocking(true).expect("a listener");
    let address = listener.local_addr().expect("an address").to_string();
    place.write("h.c", "int h;\n");
    place.write("m.c", "int m;\n");
    let words = ["gcc", "-O2", "-c", "h.c", "-o", "h.o"];
    let right = place.result("plain", place.plain(&words), "h.o");
    for _ in 0..3 {
        place.result("a compile", place.cached(&words), "h.o");
    }
    let warm = place.hits();
    assert!(warm > 0, "nothing is in the cache");
    for _ in 0..3 {
        let mut command = place.cached(&words);
        command
            .env("HG_COORDINATOR", &address)
            .env("HG_INSECURE", "1")
            .env("HG_LOCAL_SLOTS", "0");
        assert!(place.result("a hit", command, "h.o") == right);
    }
    assert_eq!(place.hits(), warm + 3);
    let asked = listener.accept().map_err(|error| error.kind());
    assert_eq!(asked.err(), Some(ErrorKind::WouldBlock), "a hit connected");
    // Who misses asks: the listener can see it.
    let mut miss = place.cached(&["gcc", "-O2", "-c", "m.c", "-o", "m.o"]);
    miss.env("HG_COORDINATOR", &address)
        .env("HG_INSECURE", "1")
        .env("HG_LOCAL_SLOTS", "0");
    place.result("a miss", miss, "m.o");
    assert!(listener.accept().is_ok(), "a miss did not connect");
}

/// `script` in sh behind `umask`, with `$HG` and a cache in the home folder.
fn in_a_home(place: &Place, umask: &str, script: &str) -> Outcome {
    let mut command = scrubbed("sh", &place.work(), &place.home());
    let text = format!("umask {umask}; {script}");
    command
        .args(["-c", &text])
        .env("HG_CACHE_MAX_SIZE", "1GiB")
        .env("HG", &programs().client);
    let outcome = run(&mut command);
    assert!(outcome.ok(), "{script}: {}", outcome.words());
    outcome
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").mode() & 0o7777
}

/// All folders and files below `folder`, and itself; links are not followed.
fn all_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_path_buf()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        let meta = fs::symlink_metadata(&path).expect("a file");
        if meta.is_symlink() {
            found.retain(|other| *other != path);
            next -= 1;
        } else if meta.is_dir() {
            let entries = fs::read_dir(&path).expect("a folder");
            found.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    found
}

const BUILD: &str = "rm -f a.o b.o; \"$HG\" -- sh -c 'gcc -c a.c && gcc -g -MD -c b.c'";

#[test]
fn what_hgbuild_keeps_is_for_its_user_whatever_the_umask() {
    for umask in ["000", "002", "077"] {
        let place = Place::new();
        for name in ["a", "b"] {
            place.write(&format!("{name}.c"), "#include <stdio.h>\nint x;\n");
        }
        in_a_home(&place, umask, BUILD);
        in_a_home(&place, umask, BUILD);
        let kept = place.home().join(".hybridgrid");
        let found = all_below(&kept);
        assert!(found.len() > 12, "{umask}: {found:?}");
        for path in found {
            let right = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode(&path), right, "{umask}: {}", path.display());
        }
        // What the compiler makes is as it makes it.
        let plain = 0o666 & !u32::from_str_radix(umask, 8).expect("a umask");
        assert_eq!(mode(&place.work().join("a.o")), plain, "{umask}");
    }
}

/// What others can write to is named, is neither used nor written to, and costs no
/// compile.
#[test]
fn what_others_write_to_is_left_alone() {
    for (folder, bits) in [
        ("", 0o777),
        ("", 0o775),
        ("cache", 0o777),
        ("masquerade", 0o770),
    ] {
        let place = Place::new();
        for name in ["a", "b"] {
            place.write(&format!("{name}.c"), "int x;\n");
        }
        in_a_home(&place, "022", BUILD);
        let refused = match folder {
            "" => place.home().join(".hybridgrid"),
            inner => place.home().join(".hybridgrid").join(inner),
        };
        set_mode(&refused, bits);
        let before = all_below(&refused);
        place.write("a.c", "int y;\n");
        let outcome = in_a_home(&place, "022", BUILD);
        let words = outcome.words();
        let told = format!("chmod -R go-w {}", refused.display());
        assert_eq!(
            words.matches(&told).count(),
            1,
            "{folder} {bits:o}: {words}"
        );
        assert_eq!(all_below(&refused), before, "{folder} {bits:o}");
        // As told.
        in_a_home(&place, "022", &told);
        let outcome = in_a_home(&place, "022", BUILD);
        assert!(!outcome.words().contains("chmod"), "{}", outcome.words());
        let grew = all_below(&refused).len() > before.len();
        assert!(
            grew || folder == "masquerade",
            "{folder} {bits:o}: not used"
        );
    }
}

/// To ask a compiler what it is costs more than a hit saves.
#[test]
fn what_is_known_of_compilers_is_kept_beside_the_objects_where_the_home_is_refused() {
    let place = Place::new();
    let home = place.home().join(".hybridgrid");
    fs::create_dir(&home).expect("a folder");
    set_mode(&home, 0o777);
    let known = || -> Vec<(PathBuf, u64)> {
        let files = all_below(&place.cache()).into_iter();
        let files = files.filter(|path| path.is_file());
        let of_compilers = files.filter(|path| path.to_string_lossy().contains("/compilers/"));
        let memos = of_compilers.filter(|path| !path.to_string_lossy().contains("/."));
        memos
            .map(|path| (path.clone(), fs::metadata(path).expect("a file").ino()))
            .collect()
    };
    for text in ["int x;\n", "int y;\n", "int z;\n"] {
        let before = if place.cache().exists() {
            known()
        } else {
            Vec::new()
        };
        place.write("a.c", text);
        place.result("refused", place.cached(&["gcc", "-c", "a.c"]), "a.o");
        let after = known();
        assert_eq!(after.len(), 1, "{:?}", all_below(&place.cache()));
        assert!(before.is_empty() || before == after, "{before:?} {after:?}");
    }
    let left = all_below(&home);
    assert_eq!(left, [home], "something was written");
}

#[test]
fn root_leaves_the_home_of_another_user_alone() {
    if !nix::unistd::geteuid().is_root() {
        skip("another user's home", "not root");
        return;
    }
    let give = |path: &Path| {
        let nobody = Some(nix::unistd::Uid::from_raw(65_534));
        nix::unistd::chown(path, nobody, None).expect("another owner");
    };
    let place = Place::new();
    place.write("a.c", "int x;\n");
    give(&place.home());
    let compile = "\"$HG\" gcc -c a.c";
    let words = in_a_home(&place, "022", compile).words();
    assert!(words.contains("it is user 65534's"), "{words}");
    let left = all_below(&place.home());
    assert_eq!(left, [place.home()], "something was written");
    // Settings of another user would be a trouble if they were read.
    let theirs = place.home().join(".hybridgrid");
    fs::create_dir(&theirs).expect("a folder");
    fs::write(theirs.join("config.toml"), "nonsense").expect("settings");
    give(&theirs);
    let words = in_a_home(&place, "022", &format!("\"$HG\" -v {}", &compile[6..])).words();
    assert!(!words.contains("config.toml"), "{words}");
}

#[test]
fn a_cache_may_be_a_teams_if_it_says_so() {
    let place = Place::new();
    place.write("a.c", "int x;\n");
    fs::create_dir(place.cache()).expect("a folder");
    let compile = || {
        let mut command = place.cached(&["gcc", "-c", "a.c"]);
        command.env_remove("HG_CACHE_MAX_SIZE");
        let outcome = run(&mut command);
        assert!(outcome.ok(), "{}", outcome.words());
        outcome.words()
    };
    for (bits, told) in [
        (0o775, "chmod g+s"),
        (0o777, "chmod -R o-w"),
        (0o2777, "chmod -R o-w"),
    ] {
        set_mode(&place.cache(), bits);
        let words = compile();
        assert!(words.contains(told), "{bits:o}: {words}");
        assert_eq!(all_below(&place.cache()), [place.cache()], "{bits:o}");
    }
    set_mode(&place.cache(), 0o2770);
    let script = format!(
        "export HG_CACHE_DIR='{}'; for n in 1 2 3; do \"$HG\" gcc -c a.c; done",
        place.cache().display()
    );
    let words = in_a_home(&place, "002", &script).words();
    assert!(!words.contains("cache"), "{words}");
    let found = all_below(&place.cache());
    assert!(found.len() > 6, "{found:?}");
    for path in found {
        let right = if path.is_dir() { 0o770 } else { 0o660 };
        assert_eq!(mode(&path) & 0o777, right, "{}", path.display());
    }
}

/// Who owns a link may lead it elsewhere after it was looked at.
#[test]
fn a_cache_behind_the_link_of_another_user_is_left_alone() {
    if !nix::unistd::geteuid().is_root() {
        skip("another user's link", "not root");
        return;
    }
    let place = Place::new();
    place.write("a.c", "int x;\n");
    let real = place.work().join("real");
    fs::create_dir(&real).expect("a folder");
    set_mode(&real, 0o700);
    std::os::unix::fs::symlink(&real, place.cache()).expect("a link");
    let compile = || {
        let mut command = place.cached(&["gcc", "-c", "a.c"]);
        command.env_remove("HG_CACHE_MAX_SIZE");
        let outcome = run(&mut command);
        assert!(outcome.ok(), "{}", outcome.words());
        outcome.words()
    };
    std::os::unix::fs::lchown(place.cache(), Some(65_534), None).expect("another owner");
    let words = compile();
    assert!(words.contains("it is user 65534's"), "{words}");
    assert_eq!(
        all_below(&real),
        std::slice::from_ref(&real),
        "something was written"
    );
    std::os::unix::fs::lchown(place.cache(), Some(0), None).expect("our own");
    let words = compile();
    assert!(!words.contains("cache"), "{words}");
    assert!(all_below(&real).len() > 1, "not used");
}
