//! docs/trouble.md: ten grids that are set up wrongly, each made with real processes, and what
//! is seen of them. The page has the very words; HG_TEST_WRITE=1 writes those that are new.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use hg_tests::command::{run, run_within, scrubbed};
use hg_tests::grid::{self, Grid};
use hg_tests::programs::programs;
use hg_tests::{in_path, skip};
use nix::unistd::geteuid;

/// What doctor says of these where nothing is wrong depends on the machine.
const HIDDEN: [&str; 5] = ["mdns", "cache", "version", "clock", "masquerade"];

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/trouble.md");
/// What one command may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A clock that is three days fast.
const FAST_CLOCK: &str = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <time.h>\n\
    int clock_gettime(clockid_t id, struct timespec *ts) {\n\
      int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, \"clock_gettime\");\n\
      int r = real(id, ts);\n\
      if (id == CLOCK_REALTIME) ts->tv_sec += 3 * 86400 + 60;\n\
      return r;\n}\n";

/// A grid, and the names that its addresses have on the page.
struct Setup {
    grid: Grid,
    /// Of a user, with a project in it.
    home: PathBuf,
    variables: Vec<(&'static str, String)>,
    /// What is on this machine, and stands on the page for it.
    names: Vec<(String, String)>,
}

impl Setup {
    /// A coordinator whose command `change`s, and a client with a token for it.
    fn new(change: impl FnOnce(&mut Command)) -> Setup {
        let folder = tempfile::Builder::new().prefix("hg-trouble-").tempdir();
        let folder = folder.expect("a temporary folder");
        let home = folder.path().canonicalize().expect("a path").join("alice");
        fs::create_dir_all(home.join("hello")).expect("a folder");
        fs::write(home.join("hello/Makefile"), "hello: hello.o\n").expect("a Makefile");
        let source = "int main(void) { return 0; }\n";
        fs::write(home.join("hello/hello.c"), source).expect("a source");
        let words = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let words = [&words[..], &["--audit", "0"]].concat();
        let coordinator = grid::coordinator_with(programs(), folder.path(), &words, change);
        let grid = Grid::around(programs(), folder, coordinator);
        let token = grid.token(&["--role", "client", "--name", "alice"]);
        let address = grid.far_address();
        let names = vec![(address.clone(), "build.lan:9000".to_owned())];
        Setup {
            grid,
            home,
            variables: vec![("HG_COORDINATOR", address), ("HG_TOKEN", token)],
            names,
        }
    }

    fn with_worker(mut self) -> Setup {
        self.grid.add_worker();
        self.grid.wait_for_workers(1);
        self
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.to_owned()));
    }

    /// `line` as a shell of the user has it, whose words a person sees, behind it. `before` is
    /// done by a shell that may mount.
    fn typed(&self, before: &str, line: &str) -> String {
        let project = self.home.join("hello");
        let mut command = match before.is_empty() {
            true => scrubbed("sh", &project, &self.home),
            false => {
                let mut command = scrubbed("unshare", &project, &self.home);
                command.args(["-m", "sh"]);
                command
            }
        };
        let program = programs().client.parent().expect("a folder").display();
        let script = format!("set -e; {before}\nset +e; PATH={program}:$PATH; {line} 2>&1");
        command
            .args(["-c", &script])
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            // One file must travel, though a core here is idle.
            .env("HG_LOCAL_SLOTS", "0")
            // Who else is on this network is not on the page.
            .env("HG_MDNS", "0");
        if !before.is_empty() {
            // What can't be written is the cache's folder, too.
            command.env_remove("HG_CACHE_MAX_SIZE");
        }
        let outcome = run_within(&mut command, PATIENCE);
        let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
        format!("$ {line}\n{}", self.named(&said))
    }

    /// `said`, as it is on the page.
    fn named(&self, said: &str) -> String {
        let mut said = said.to_owned();
        let home = self.home.display().to_string();
        let ask = |flag| {
            let outcome = run(Command::new("gcc").arg(flag));
            String::from_utf8_lossy(&outcome.stdout).trim().to_owned()
        };
        let gcc = in_path("gcc").map(|path| path.display().to_string());
        let names = [
            (home, "/home/alice".to_owned()),
            (ask("-dumpfullversion"), "12.2.0".to_owned()),
            (ask("-dumpmachine"), "x86_64-linux-gnu".to_owned()),
            (gcc.unwrap_or_default(), "/usr/bin/gcc".to_owned()),
        ];
        for (here, there) in self.names.iter().chain(&names) {
            said = said.replace(here, there);
        }
        let lines = said.lines().filter(|line| {
            let fine = line.strip_prefix("ok ").and_then(|it| it.split(' ').next());
            !fine.is_some_and(|subject| HIDDEN.contains(&subject))
        });
        lines.map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// A first build, and what doctor says.
    fn seen(&self, before: &str) -> String {
        for made in ["hello.o", "hello"] {
            let _ = fs::remove_file(self.home.join("hello").join(made));
        }
        let _ = fs::remove_dir_all(self.home.join(".hybridgrid"));
        fs::create_dir(self.home.join(".hybridgrid")).expect("a folder");
        let built = self.typed(before, "hgbuild make");
        built + &self.typed(before, "hgbuild doctor gcc")
    }
}

/// The page between `heading` and the next one, and the block of words in it.
fn section<'a>(page: &'a str, heading: &str) -> (&'a str, &'a str) {
    let mut sections = page.split("\n## ");
    let section = sections.find(|section| section.starts_with(&format!("{heading}\n")));
    let section = section.unwrap_or_else(|| panic!("docs/trouble.md: no '## {heading}'"));
    let block = section.split_once("```console\n");
    let block = block.and_then(|(_, rest)| rest.split_once("```"));
    (section, block.map_or("", |(block, _)| block))
}

/// Compares what was seen with the page.
struct Pages {
    page: String,
    wrong: Vec<String>,
}

impl Pages {
    fn compare(&mut self, heading: &str, seen: &str) {
        let (_, block) = section(&self.page, heading);
        if block != seen {
            self.wrong.push(format!("## {heading}\n{seen}"));
            let block = format!("```console\n{block}```");
            let (whole, _) = section(&self.page, heading);
            let mended = whole.replace(&block, &format!("```console\n{seen}```"));
            self.page = self.page.replace(whole, &mended);
        }
    }
}

#[test]
fn what_is_seen_of_a_grid_that_is_set_up_wrongly_is_on_the_page() {
    let mut pages = Pages {
        page: fs::read_to_string(PAGE).expect("docs/trouble.md"),
        wrong: Vec::new(),
    };
    without_workers(&mut pages);
    with_a_worker(&mut pages);
    with_another_toolchain(&mut pages);
    with_a_fast_clock(&mut pages);
    if std::env::var_os("HG_TEST_WRITE").is_some() {
        fs::write(PAGE, &pages.page).expect("docs/trouble.md");
    }
    let wrong = pages.wrong.join("\n");
    assert!(wrong.is_empty(), "docs/trouble.md: seen was\n{wrong}");
}

fn without_workers(pages: &mut Pages) {
    let mut setup = Setup::new(|_| {});
    pages.compare("No worker", &setup.seen(""));

    let token = |setup: &Setup, words: &[&str]| {
        let words = [&["--role", "client"][..], words].concat();
        setup.grid.token(&words)
    };
    let revoked = token(&setup, &["--name", "bob"]);
    let mut revoke = scrubbed(&programs().coordinator, &setup.home, &setup.home);
    revoke.args(["revoke", "bob", "--state"]);
    assert!(run(revoke.arg(setup.grid.state())).ok());
    setup.set("HG_TOKEN", &revoked);
    pages.compare("The token was revoked", &setup.seen(""));

    let short = token(&setup, &["--name", "carol", "--expires", "1s"]);
    setup.set("HG_TOKEN", &short);
    let began = Instant::now();
    while !setup.typed("", "hgbuild status").contains("expired") {
        assert!(began.elapsed() < PATIENCE, "a second does not end");
    }
    pages.compare("The token has expired", &setup.seen(""));

    setup.set("HG_TOKEN", "");
    pages.compare("No token", &setup.seen(""));

    let token = token(&setup, &["--name", "dave"]);
    setup.set("HG_TOKEN", &token);
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let closed = closed.expect("a loopback port").to_string();
    setup
        .names
        .push((closed.clone(), "build.lan:9001".to_owned()));
    setup.set("HG_COORDINATOR", &closed);
    pages.compare("The address is wrong", &setup.seen(""));
}

fn with_a_worker(pages: &mut Pages) {
    let setup = Setup::new(|_| {}).with_worker();
    if in_path("cmake").is_some() {
        let project = setup.home.join("hello");
        let text = "cmake_minimum_required(VERSION 3.10)\nproject(hello C)\n\
                    add_executable(hello hello.c)\n";
        fs::write(project.join("CMakeLists.txt"), text).expect("a file");
        let configured = setup.typed("", "cmake -S . -B out -DCMAKE_C_COMPILER=gcc");
        assert!(project.join("out/CMakeCache.txt").exists(), "{configured}");
        // What CMake itself says differs from one to the next.
        let quiet = "hgbuild cmake --build out >built";
        let built = setup.typed("", &format!("{quiet} 2>&1; grep '^hgbuild' built"));
        let built = built.split_once('\n').map_or("", |(_, rest)| rest);
        let seen = format!(
            "$ hgbuild cmake --build out\n...\n{built}{}",
            setup.typed("", "hgbuild doctor gcc | grep cmake")
        );
        pages.compare("A CMake tree without a launcher", &seen);
        fs::remove_dir_all(project.join("out")).expect("a folder");
    } else {
        skip("a CMake tree without a launcher", "no cmake");
    }
    if !geteuid().is_root() {
        return skip(
            "a full disk and a read-only home",
            "it takes root to mount one",
        );
    }
    // A disk of its own for the user's folder, with the project left where it was.
    let mount = "cd /; mount -t tmpfs -o size=256k,mode=700 tmpfs \"$HOME/.hybridgrid\"; \
                 cd - >/dev/null";
    let full = format!("{mount}; cat /dev/zero > \"$HOME/.hybridgrid/big\" 2>/dev/null || true");
    let read_only = format!("{mount}; mount -o remount,ro \"$HOME/.hybridgrid\"");
    for (heading, before) in [
        ("The disk is full", full),
        ("The home folder can't be written to", read_only),
    ] {
        pages.compare(heading, &without_table(&setup.seen(&before)));
        // As the page says.
        let compiled = setup.typed(&before, "hgbuild -v gcc -c hello.c");
        assert!(
            compiled.contains("remote on worker-1"),
            "{heading}: {compiled}"
        );
    }
}

/// What each worker makes of a compiler hangs on its sandbox.
fn without_table(seen: &str) -> String {
    let lines = seen.lines().take_while(|line| !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}

fn with_another_toolchain(pages: &mut Pages) {
    let Some(clang) = in_path("clang") else {
        return skip("a worker with another compiler", "no clang");
    };
    let mut setup = Setup::new(|_| {});
    let folder = setup.grid.folder().to_owned();
    fs::create_dir(folder.join("bin")).expect("a folder");
    std::os::unix::fs::symlink(clang, folder.join("bin/clang")).expect("a link");
    let address = setup.grid.address();
    let mut command = grid::worker(programs(), &folder, "worker-1", &address, 1);
    command
        .args(["--toolchains", "own"])
        .env("PATH", folder.join("bin"));
    let log = folder.join("worker-1.log");
    let worker = hg_tests::daemon::Daemon::start("worker-1", &mut command, log);
    setup.grid.workers.push(worker);
    setup.grid.wait_for_workers(1);
    // It is listed before it has looked at its compilers.
    let began = Instant::now();
    while !setup
        .grid
        .get("/api/v1/workers")
        .is_ok_and(|listed| listed.contains("clang"))
    {
        assert!(
            began.elapsed() < PATIENCE,
            "{}",
            setup.grid.workers[0].stderr()
        );
    }
    let version = run(Command::new("clang").arg("-dumpversion"));
    let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
    setup.names.push((version, "14.0.6".to_owned()));
    pages.compare("The workers have another compiler", &setup.seen(""));
}

fn with_a_fast_clock(pages: &mut Pages) {
    let place = tempfile::tempdir().expect("a temporary folder");
    let source = place.path().join("fast.c");
    let library = place.path().join("fast.so");
    fs::write(&source, FAST_CLOCK).expect("a source");
    let mut compile = Command::new("gcc");
    compile
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source);
    if !run(compile.arg("-ldl")).ok() {
        return skip("a clock that is off", "no shared library can be made");
    }
    let setup = Setup::new(|coordinator| {
        coordinator.env("LD_PRELOAD", &library);
    });
    let setup = setup.with_worker();
    pages.compare("A clock is off", &without_table(&setup.seen("")));
}

#[test]
fn a_build_with_its_own_number_of_jobs_is_warned_once_while_it_runs() {
    let setup = Setup::new(|_| {});
    // Its compiles begin when the words are there; then there is a build within this one.
    let makefile = "all: a.o b.o\n\thgbuild make -j2 inner\n\
        a.o b.o:\n\tuntil grep -q 'without the grid' said; do :; done; gcc -c -o $@ hello.c\n\
        inner:\n\tgcc -c -o c.o hello.c; hgbuild status >/dev/null\n";
    fs::write(setup.home.join("hello/Makefile"), makefile).expect("a Makefile");
    let seen = setup.typed("", "hgbuild make -j2 >out 2>said; cat said");
    let warned = seen.matches("hgbuild: without the grid: no worker is there\n");
    assert_eq!(warned.count(), 1, "{seen}");
    assert!(
        seen.contains("hgbuild: 2 compiled: 0 remote, 2 local"),
        "{seen}"
    );
}
