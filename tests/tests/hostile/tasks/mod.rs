//! Tasks that mean harm. Each is sent through a real coordinator to a real worker,
//! where the table of arguments refuses it; and each is run past the table, by the
//! worker's own code, where the sandbox alone must hold it. That each of them would
//! bite is proven too: in a bare folder it does.

mod blame;
mod ground;
mod loaded;
mod rows;

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hg_coord::commands::dial;
use hg_proto::compiler::packing::Packed;
use hg_proto::compiler::probe::{self, Probe};
use hg_proto::compiler::shipment;
use hg_proto::compiler::toolchain::{Family, Language};
use hg_proto::secure::token::Token;
use hg_proto::v1::{self, SubmitRequest, failure::Code, submit_request, submit_response};
use hg_proto::wire::digest::Digest;
use hg_tests::command::{run_within, scrubbed};
use hg_tests::daemon::Daemon;
use hg_tests::grid::Grid;
use hg_tests::programs::programs;
use hg_tests::running::{PATIENCE, until};
use hg_tests::{leftover, raw_tree, skip};
use hg_worker_lite::inputs::layout::{Layout, Tools};
use hg_worker_lite::inputs::tree::{Tree, Trees};
use hg_worker_lite::inputs::validate::{Input, Order};
use hg_worker_lite::sandbox::facade::{Isolation, Launch, ResourceLimits, Sandbox, TaskFolder};
use hg_worker_lite::sandbox::totals::Totals;
use nix::libc;
use nix::unistd::geteuid;
use tokio_stream::StreamExt;

use ground::{Ground, Row, limits};

const HARMLESS: &str = "int same(int x) { return x; }\n";
/// What one hostile compile may take before it is ended.
const WALL_MS_MAX: u32 = 10_000;
/// Who is known to run on until he is ended gets less.
const ENDLESS_MS_MAX: u32 = 2_000;

fn ground(what: &str) -> Option<Ground> {
    match Ground::new() {
        Ok(ground) => Some(ground),
        Err(why) => {
            skip(what, &why);
            None
        }
    }
}

fn sandbox(what: &str, ground: &Ground, level: Isolation) -> Option<(Sandbox, PathBuf)> {
    match ground.sandbox(level) {
        Ok(found) => Some(found),
        Err(why) => {
            skip(&format!("{what}: {}", level.name()), &why);
            None
        }
    }
}

/// What compilers need, by the driver's name.
fn compilers() -> HashMap<&'static str, (PathBuf, Vec<PathBuf>)> {
    let mut found = HashMap::new();
    for name in ["gcc", "g++", "clang", "clang-19"] {
        let driver = Path::new("/usr/bin").join(name);
        match probe::probe(&driver, None) {
            Ok(probe) => drop(found.insert(name, (driver, probe.files))),
            Err(error) => skip(name, &error.to_string()),
        }
    }
    found
}

/// Runs every row; what each of them got out.
fn strike(ground: &Ground, sandbox: &Sandbox, tasks: &Path) -> Vec<(Row, Vec<String>)> {
    let compilers = compilers();
    let mut results = Vec::new();
    for row in rows::rows(ground) {
        let Some((driver, files)) = compilers.get(row.driver) else {
            continue;
        };
        let folder = TaskFolder::create(tasks, "strike").expect("a folder");
        let source = row.source.as_deref().unwrap_or(HARMLESS);
        ground.arm(&folder, source);
        let language = if row.driver == "g++" { "c++" } else { "c" };
        let mut words: Vec<String> = ["-I.", "-x", language, "-c", "t.c", "-o", "t.o"]
            .map(str::to_owned)
            .to_vec();
        // Later options win.
        words.extend(row.arguments.iter().cloned());
        let ran = ground::run(sandbox, &folder, driver, files, &words, WALL_MS_MAX);
        let said: [&[u8]; 2] = match &ran {
            Ok(ran) => [&ran.stdout, &ran.stderr],
            Err(failure) => [failure.detail.as_bytes(), b""],
        };
        let breaches = ground.breaches(&folder, &said);
        results.push((row, breaches));
    }
    assert!(results.len() > 20, "no compilers");
    results
}

#[test]
fn in_a_bare_folder_every_attack_bites() {
    let Some(ground) = ground("attacks without walls") else {
        return;
    };
    let Some((sandbox, tasks)) = sandbox("attacks", &ground, Isolation::Folder) else {
        return;
    };
    let results = strike(&ground, &sandbox, &tasks);
    let harmless: Vec<String> = results
        .iter()
        .filter(|(row, breaches)| breaches.is_empty() && !row.toothless)
        .map(|(row, _)| row.title())
        .collect();
    assert!(harmless.is_empty(), "these prove nothing: {harmless:#?}");
}

#[test]
fn the_sandbox_alone_holds_every_attack() {
    let what = "attacks past the table";
    let Some(ground) = ground(what) else {
        return;
    };
    for level in [Isolation::Landlock, Isolation::Full] {
        let Some((sandbox, tasks)) = sandbox(what, &ground, level) else {
            continue;
        };
        let broken: Vec<_> = strike(&ground, &sandbox, &tasks)
            .into_iter()
            .filter(|(_, breaches)| !breaches.is_empty())
            .map(|(row, breaches)| (row.title(), breaches))
            .collect();
        assert!(broken.is_empty(), "{}: {broken:#?}", level.name());
    }
}

/// The hostile program itself as the compiler of a client's toolchain, in `contents`.
fn brought(ground: &Ground, contents: &Path) -> Tools {
    let driver = ground.program();
    let mut files = probe::libraries(&driver).expect("its libraries");
    files.push(driver.clone());
    let packed = Packed::of(
        &Probe {
            driver,
            family: Family::Gcc,
            version: "1".to_owned(),
            release: String::new(),
            target: "none".to_owned(),
            c: None,
            cxx: None,
            surroundings: Digest::of(b""),
            files,
        },
        Language::C,
    );
    let packed = packed.expect("a shipment");
    fs::create_dir(contents).expect("a folder");
    for (digest, source) in &packed.sources {
        let content = contents.join(digest.to_hex());
        fs::copy(source, &content).expect("a content");
        fs::set_permissions(&content, Permissions::from_mode(0o555)).expect("a mode");
    }
    Tools::Shipped {
        digest: packed.digest(),
        list: Arc::new(packed.shipment),
        contents: contents.to_path_buf(),
    }
}

#[test]
fn a_compiler_that_a_client_brought_is_held() {
    let what = "a client's compiler";
    let Some(ground) = ground(what) else {
        return;
    };
    let Some((sandbox, tasks)) = sandbox(what, &ground, Isolation::Full) else {
        return;
    };
    let contents = tasks.parent().expect("a folder").join("contents");
    let tools = brought(&ground, &contents);
    let folder = TaskFolder::create(&tasks, "brought").expect("a folder");
    let program = ground.program();
    let unleash = |what: &str, wall_ms_max| {
        let launch = Launch::new(&program, &tools, &folder, Path::new(""), limits());
        ground::run_launch(&sandbox, launch, &[what.to_owned()], wall_ms_max)
    };
    // It runs, and strikes as soon as it is loaded.
    let ran = unleash("", WALL_MS_MAX).expect("an end");
    assert_eq!(ran.status.code(), Some(7));
    for (what, wanted) in [("links", "0"), ("signals", "-1")] {
        let ran = unleash(what, WALL_MS_MAX).expect("an end");
        assert_eq!(
            String::from_utf8_lossy(&ran.stdout).trim(),
            wanted,
            "{what}"
        );
    }
    assert_eq!(ground.breaches(&folder, &[]), Vec::<String>::new());
    let bomb = unleash("fork", ENDLESS_MS_MAX);
    assert_eq!(bomb.expect_err("a bomb").code(), Code::Limit);
    assert_no_process(&ground);
    // What was kept is as it was.
    let Tools::Shipped { list, .. } = &tools else {
        panic!("{tools:?}");
    };
    for (digest, size) in shipment::contents(list) {
        let content = fs::read(contents.join(digest.to_hex())).expect("a content");
        assert_eq!((Digest::of(&content), content.len() as u64), (digest, size));
    }
}

#[test]
fn an_image_that_is_looked_into_is_held() {
    let what = "a look into an image";
    let Some(ground) = ground(what) else {
        return;
    };
    if sandbox(what, &ground, Isolation::Full).is_none() {
        return;
    }
    let place = tempfile::tempdir().expect("a folder");
    let root = place.path().canonicalize().expect("a path");
    let program = ground.program();
    let put = |from: &Path, to: &Path| {
        let to = root.join(to.strip_prefix("/").expect("a path"));
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(from, to).expect("a file");
    };
    for library in probe::libraries(&program).expect("its libraries") {
        put(&library, &library);
    }
    // It strikes as soon as it is loaded, and again as what it is asked for.
    put(&program, Path::new("/usr/bin/gcc"));
    // A way out, if it were taken.
    std::os::unix::fs::symlink(ground.outside(), root.join("dev")).expect("a link");
    let mut look = Command::new(&programs().worker);
    look.arg("--look-into").arg(&root).env("PATH", "/usr/bin");
    let said = look.output().expect("a look");
    let shown = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{said:?}");
    assert!(shown.contains("neither gcc nor clang"), "{shown}");
    assert!(!shows_canary(&said.stdout) && !shows_canary(&said.stderr));
    assert_eq!(ground.struck(), Vec::<String>::new());
    assert!(!root.join("usr/bin/own").exists());
    assert_no_process(&ground);
}

/// The hostile program itself as the compiler, told `what` to do.
fn unleash(
    ground: &Ground,
    sandbox: &Sandbox,
    folder: &TaskFolder,
    what: &str,
    wall_ms_max: u32,
) -> Result<hg_worker_lite::tasks::compile::CompilerOutput, v1::Failure> {
    let program = ground.program();
    let mut files = probe::libraries(&program).expect("its libraries");
    files.push(program.clone());
    ground::run(
        sandbox,
        folder,
        &program,
        &files,
        &[what.to_owned()],
        wall_ms_max,
    )
}

#[test]
fn a_compiler_that_is_not_one_is_held() {
    let what = "a make-believe compiler";
    let Some(ground) = ground(what) else {
        return;
    };
    for level in [Isolation::Landlock, Isolation::Full] {
        let Some((sandbox, tasks)) = sandbox(what, &ground, level) else {
            continue;
        };
        let level_name = level.name();
        let folder = TaskFolder::create(&tasks, "unleashed").expect("a folder");
        let said = |what: &str| {
            let ran = unleash(&ground, &sandbox, &folder, what, WALL_MS_MAX);
            let ran = ran.unwrap_or_else(|failure| panic!("{level_name} {what}: {failure:?}"));
            (
                ran.status.code(),
                String::from_utf8_lossy(&ran.stdout).trim().to_owned(),
            )
        };
        // It runs, which the rest is worth nothing without.
        assert_eq!(said("").0, Some(7));
        assert_eq!(said("links"), (Some(0), "0".to_owned()), "{level_name}");
        assert_eq!(said("signals"), (Some(0), "-1".to_owned()), "{level_name}");
        let killed = unleash(&ground, &sandbox, &folder, "killed", WALL_MS_MAX);
        let killed = killed.expect("an end").status;
        let signal = std::os::unix::process::ExitStatusExt::signal(&killed);
        assert!(signal.is_some(), "{level_name}: {killed:?}");
        assert_eq!(ground.breaches(&folder, &[]), Vec::<String>::new());
        if level == Isolation::Full {
            assert_eq!(signal, Some(6));
            let (_, count) = said("count");
            let count: u32 = count.parse().expect("a number");
            assert!((1..=64).contains(&count), "{count} processes at once");
            // What leaves the session is ended with it.
            assert_eq!(said("session").0, Some(0));
            assert_no_process(&ground);
            let bomb = unleash(&ground, &sandbox, &folder, "fork", ENDLESS_MS_MAX);
            assert_eq!(bomb.expect_err("a bomb").code(), Code::Limit);
            assert_no_process(&ground);
        }
        match unleash(&ground, &sandbox, &folder, "deep", WALL_MS_MAX) {
            Ok(ran) => assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "3000"),
            // If it was looked at in time.
            Err(failure) => assert_eq!(failure.code(), Code::Limit, "{level_name}"),
        }
        let path = folder.path().to_path_buf();
        drop(folder);
        assert!(!path.exists(), "{level_name}: {} is left", path.display());
    }
}

/// `what` is done with so much in all, where a process and a file may have it.
fn unleash_within(
    ground: &Ground,
    (sandbox, tasks): &(Sandbox, PathBuf),
    what: &str,
    totals: Totals,
) -> Result<String, String> {
    let folder = TaskFolder::create(tasks, "greedy").expect("a folder");
    let program = ground.program();
    let mut files = probe::libraries(&program).expect("its libraries");
    files.push(program.clone());
    let tools = Tools::Own(files);
    let limits = ResourceLimits { totals, ..limits() };
    let launch = Launch::new(&program, &tools, &folder, Path::new(""), limits);
    let ran = ground::run_launch(sandbox, launch, &[what.to_owned()], 3 * WALL_MS_MAX);
    match ran {
        // Where nothing holds it, it has said what it found before.
        Ok(ran) => {
            let said = String::from_utf8_lossy(&ran.stdout);
            Ok(said.lines().last().unwrap_or_default().to_owned())
        }
        Err(failure) => {
            // More of it may be had elsewhere.
            let code = match what {
                "memory" | "headless" => Code::Memory,
                _ if totals.is_short_of_disk() => Code::Disk,
                _ => Code::Limit,
            };
            assert_eq!(failure.code(), code, "{what}: {failure:?}");
            let is_more = failure.memory_bytes > totals.memory_bytes_max;
            assert_eq!(is_more, code == Code::Memory, "{what}: {failure:?}");
            Err(failure.detail)
        }
    }
}

#[test]
fn a_compile_has_a_bound_as_a_whole() {
    let what = "greedy compiles";
    let Some(ground) = ground(what) else {
        return;
    };
    let bound = limits().totals;
    let no_memory_bound = Totals {
        memory_bytes_max: u64::MAX,
        ..bound
    };
    let no_file_bound = Totals {
        file_bytes_max: u64::MAX,
        ..bound
    };
    let disk_bound = Totals {
        memory_bytes_max: u64::MAX,
        file_bytes_max: u64::MAX,
        disk_bytes_max: bound.file_bytes_max,
    };
    let none = Totals {
        disk_bytes_max: u64::MAX,
        ..disk_bound
    };
    for level in [Isolation::Folder, Isolation::Landlock, Isolation::Full] {
        let Some(found) = sandbox(what, &ground, level) else {
            continue;
        };
        let at = level.name();
        let run = |what: &str, totals| unleash_within(&ground, &found, what, totals);
        // Each holds, and without the bound in question does not: so what bites is it.
        let of_memory = ("bytes of memory", "++++", no_file_bound, no_memory_bound);
        let of_files = ("files take", "500", no_memory_bound, no_file_bound);
        let of_disk = ("files take", "500", disk_bound, no_file_bound);
        let cases = [
            ("memory", of_memory),
            ("headless", of_memory),
            ("files", of_files),
            ("nameless", of_files),
            ("apart", of_files),
            ("mapped", of_files),
            ("files", of_disk),
        ];
        let mut free = Vec::new();
        for (what, (why, all, with, without)) in cases {
            match run(what, with) {
                Err(held) if held.contains(why) => {}
                // Whatever the bound is.
                Err(held) if held.contains("measured") && !geteuid().is_root() => continue,
                other => free.push((what, other)),
            }
            assert_eq!(run(what, without).as_deref(), Ok(all), "{at} {what}");
            assert_no_process(&ground);
        }
        match run("many", bound) {
            Err(held) if held.contains("more than") => {}
            other => free.push(("many", other)),
        }
        assert!(free.is_empty(), "{at}: nothing holds {free:?}");
        if level < Isolation::Full {
            continue;
        }
        // The kernel itself bounds what passes.
        let mib = run("passing", bound).expect("an end");
        let mib: u64 = mib.parse().expect("a number");
        assert!((64..=256).contains(&mib), "{mib} MiB");
        assert_eq!(run("passing", none).as_deref(), Ok("500"));
        let made = run("passing-many", bound).expect("an end");
        let made: u64 = made.parse().expect("a number");
        assert!((64..=4096).contains(&made), "{made} files");
    }
}

/// What is kept under each name is what the name says.
fn assert_kept(state: &Path, least: usize) {
    let young = std::fs::read_dir(state.join("blobs/young")).expect("a store");
    let mut count = 0;
    for file in young {
        let path = file.expect("a file").path();
        let content = std::fs::read(&path).expect("a file");
        assert!(path.ends_with(Digest::of(&content).to_hex()), "{path:?}");
        count += 1;
    }
    assert!(count >= least, "{count} contents");
}

/// A task of the tree form that has `inputs` and makes `outputs`, in the folder of the
/// first of these.
fn tree_order<'a>(inputs: impl Iterator<Item = (&'a str, &'a [u8])>, outputs: &[&str]) -> Order {
    let input = |(path, content): (&str, &[u8])| Input {
        path: path.into(),
        digest: Digest::of(content),
        size: content.len() as u64,
        encoding: v1::Encoding::Identity,
        encoded_size: content.len() as u64,
    };
    let folder = Path::new(outputs[0]).parent().expect("a folder");
    Order {
        toolchain: Digest::of(b"a compiler that is not one"),
        is_equal: false,
        arguments: Vec::new(),
        tree: true,
        working_directory: folder.to_path_buf(),
        inputs: inputs.map(input).collect(),
        outputs: outputs.iter().map(PathBuf::from).collect(),
        // Without any, gcc has nowhere to look for what it reads first.
        folders: vec!["/usr/include".into()],
        environment: Vec::new(),
        terminal: None,
        wall_ms_max: WALL_MS_MAX,
        memory_bytes_max: None,
        output_bytes_max: 1 << 20,
        trace_id: Vec::new(),
    }
}

/// Puts `contents` where `order` has its inputs; how many of them the store had not.
fn fill(tree: &mut Tree<'_>, order: &Order, contents: &[&[u8]]) -> usize {
    let lacking = tree.link_stored(order).expect("a store");
    for at in &lacking {
        let mut sink = tree.sink(order, *at).expect("a file");
        sink.push(contents[*at]).expect("its content");
        let file = sink.finish().expect("all of it");
        tree.store_received(order, *at, &file).expect("a store");
    }
    tree.place_copies(order).expect("copies");
    lacking.len()
}

#[test]
fn what_is_kept_for_all_no_compile_can_change() {
    let what = "headers of the tree form";
    let Some(ground) = ground(what) else {
        return;
    };
    let Some((sandbox, tasks)) = sandbox(what, &ground, Isolation::Full) else {
        return;
    };
    let state = tasks.parent().expect("a state");
    let trees = Trees::open(state, 1 << 20, 1).expect("a store");
    let contents = ["source", "beside", "inner", "system", "deep"];
    let paths = [
        "/w/in.c",
        "/w/a.h",
        "/w/inner/b.h",
        "/usr/include/c.h",
        "/w/x/y/d.h",
    ];
    let inputs = paths.into_iter().zip(contents.map(str::as_bytes));
    let order = tree_order(inputs, &["/w/out.o", "/w/x/out.d"]);
    let program = ground.program();
    let mut files = probe::libraries(&program).expect("its libraries");
    files.push(program.clone());
    let tools = Tools::Own(files);
    for round in 0..3 {
        let folder = TaskFolder::create(&tasks, "spoil").expect("a folder");
        let make = |layout: &Arc<Layout>| Tree::make(&trees, &order, layout, &folder.root());
        let tree = sandbox.with_tree_layout(&tools, make).expect("its files");
        let mut tree = tree.expect("a tree");
        let lacking = fill(&mut tree, &order, &contents.map(str::as_bytes));
        assert_eq!(lacking, if round == 0 { contents.len() } else { 0 });
        let spoil = |paths: &[&str]| {
            let mut launch = Launch::new(&program, &tools, &folder, Path::new("/w"), limits());
            launch.tree = Some(&tree);
            let words = ["spoil"].iter().chain(paths).map(|word| (*word).to_owned());
            let words: Vec<String> = words.collect();
            let ran = ground::run_launch(&sandbox, launch, &words, WALL_MS_MAX);
            let ran = ran.expect("an end");
            assert_eq!(ran.status.code(), Some(0), "{paths:?}: {ran:?}");
            let said = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
            said.parse::<u32>().expect("a number")
        };
        // It can do as it likes with copies, and they are its own.
        assert!(spoil(&paths[..2]) > 5);
        assert_kept(state, contents.len());
        assert_eq!(spoil(&paths[2..]), 0);
        assert_kept(state, contents.len());
        assert_eq!(ground.struck(), Vec::<String>::new());
    }
}

/// Nothing runs any more that was started from this ground.
fn assert_no_process(ground: &Ground) {
    let left = leftover::processes(&ground.outside());
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn what_never_ends_ends() {
    let what = "endless compiles";
    let Some(ground) = ground(what) else {
        return;
    };
    let Some((sandbox, tasks)) = sandbox(what, &ground, Isolation::Full) else {
        return;
    };
    let compilers = compilers();
    let templates = "template <int N> struct A { typename A<N + 1>::type x; };\nA<0> a;\n";
    let long = "__asm__(\".data\\n.fill 10737418240, 1, 7\\n\");\n";
    let cases: [(&str, &str, &[&str], &str); 4] = [
        (
            "/dev/zero as a header",
            "gcc",
            &["-include", "/dev/zero"],
            HARMLESS,
        ),
        (
            "endless templates",
            "g++",
            &["-ftemplate-depth=100000000"],
            templates,
        ),
        ("10 GiB of object", "gcc", &[], long),
        ("10 GiB of object, clang", "clang", &[], long),
    ];
    for (name, driver, more, source) in cases {
        let Some((driver, files)) = compilers.get(driver) else {
            continue;
        };
        let folder = TaskFolder::create(&tasks, "endless").expect("a folder");
        ground.arm(&folder, source);
        let language = if driver.ends_with("g++") { "c++" } else { "c" };
        let mut words: Vec<String> = ["-I.", "-x", language, "-c", "t.c", "-o", "t.o"]
            .map(str::to_owned)
            .to_vec();
        words.extend(more.iter().map(|word| (*word).to_owned()));
        let began = Instant::now();
        let ran = ground::run(&sandbox, &folder, driver, files, &words, WALL_MS_MAX);
        let good = ran.as_ref().is_ok_and(|ran| ran.status.success());
        assert!(!good, "{name}: it compiles");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(60), "{name}: {took:?}");
        assert_no_process(&ground);
        eprintln!(
            "{name}: {took:?}: {}",
            match ran {
                Ok(ran) => format!("{}", ran.status),
                Err(failure) => failure.detail,
            }
        );
    }
}

/// A grid with one worker, and its toolchains by family and language.
struct Target {
    grid: Grid,
    toolchains: Vec<v1::Toolchain>,
    token: Token,
}

impl Target {
    fn new() -> Target {
        let grid = Grid::start(programs(), 1, 2);
        let workers = until(&grid.coordinator, "toolchains", || {
            let list = grid.get("/api/v1/workers").ok()?;
            list.contains("\"digest\"").then_some(list)
        });
        let workers: serde_json::Value = serde_json::from_str(&workers).expect("JSON");
        let sandbox = workers[0]["sandbox"].as_str().unwrap_or_default();
        assert!(
            ["full", "landlock", "folder"].contains(&sandbox),
            "{workers}"
        );
        if sandbox != "full" {
            skip("the full sandbox", &grid.workers[0].stderr());
        }
        let mut command = scrubbed(&programs().client, grid.folder(), grid.folder());
        command.arg("workers").env("HG_COORDINATOR", grid.address());
        let outcome = run_within(&mut command, PATIENCE);
        let table = String::from_utf8_lossy(&outcome.stdout).into_owned();
        assert!(
            table.contains("SANDBOX") && table.contains(sandbox),
            "{table}"
        );
        let toolchains = ["gcc", "clang"]
            .iter()
            .filter_map(|name| probe::probe(&Path::new("/usr/bin").join(name), None).ok())
            .flat_map(|probe| {
                [Language::C, Language::Cxx].map(|language| probe.toolchain(language))
            })
            .flatten()
            .collect();
        let token = grid.token(&["--role", "client"]);
        Target {
            token: Token::parse(&token).expect("a token"),
            grid,
            toolchains,
        }
    }

    /// Whether its worker takes tasks of the tree form.
    fn takes_trees(&self) -> bool {
        let workers = self.grid.get("/api/v1/workers").expect("its workers");
        let takes = workers.contains("\"tree\":true");
        assert_eq!(takes, workers.contains("\"sandbox\":\"full\""), "{workers}");
        takes
    }

    fn toolchain(&self, driver: &str) -> Option<v1::Toolchain> {
        let family = match driver {
            "clang" => v1::Family::Clang,
            _ => v1::Family::Gcc,
        };
        let language = match driver {
            "g++" => v1::Language::Cxx,
            _ => v1::Language::C,
        };
        let mut all = self.toolchains.iter();
        all.find(|one| one.family() == family && one.language() == language)
            .cloned()
    }

    /// A task as a good client makes it, of `source`.
    fn task(&self, driver: &str, source: &str) -> Option<v1::Task> {
        let mut arguments = match driver {
            "clang" => vec![],
            _ => vec!["-fpreprocessed", "-fdirectives-only"],
        };
        let language = if driver == "g++" { "c++" } else { "c" };
        arguments.extend(["-x", language, "-c", "t.c", "-o", "t.o"]);
        Some(v1::Task {
            toolchain: Some(self.toolchain(driver)?),
            arguments: arguments.into_iter().map(Into::into).collect(),
            inputs: vec![v1::Input {
                path: b"t.c".to_vec(),
                digest: Digest::of(source.as_bytes()).as_bytes().to_vec(),
                size: source.len() as u64,
                encoding: v1::Encoding::Identity.into(),
                encoded_size: source.len() as u64,
            }],
            outputs: vec![b"t.o".to_vec()],
            source: "t.c".into(),
            client: "hostile".into(),
            queue_ms_max: 30_000,
            ..v1::Task::default()
        })
    }

    /// The same in the tree form, in a folder that is on no machine.
    fn tree_task(&self, driver: &str, source: &str) -> Option<v1::Task> {
        let task = self.task(driver, source)?;
        let (name, language) = match driver {
            "clang" => ("clang", Language::C),
            "g++" => ("gcc", Language::Cxx),
            _ => ("gcc", Language::C),
        };
        let mut inputs = task.inputs.clone();
        inputs[0].path = b"/hostile/t.c".to_vec();
        let own = |word: &Vec<u8>| !word.starts_with(b"-f");
        Some(v1::Task {
            toolchain: raw_tree::toolchain(&Path::new("/usr/bin").join(name), language),
            arguments: task.arguments.iter().filter(|w| own(w)).cloned().collect(),
            inputs,
            outputs: vec![b"/hostile/t.o".to_vec()],
            // Without any, gcc has nowhere to look for what it reads first.
            folders: vec![b"/usr/include".to_vec()],
            working_directory: b"/hostile".to_vec(),
            tree: true,
            ..task
        })
    }

    /// Sends a task to its end: the result and the outputs' bytes, or the failure.
    fn submit(
        &self,
        task: v1::Task,
        source: &str,
    ) -> Result<(v1::TaskResult, Vec<u8>), v1::Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(async {
            let patience =
                tokio::time::timeout(Duration::from_secs(60), self.exchange(task, source));
            patience.await.expect("an answer in time")
        })
    }

    async fn exchange(
        &self,
        task: v1::Task,
        source: &str,
    ) -> Result<(v1::TaskResult, Vec<u8>), v1::Failure> {
        let client = dial::client(&self.grid.address(), Some(&self.token)).await;
        let mut client = client.expect("a connection");
        let (requests, stream) = tokio::sync::mpsc::channel(4);
        let send = |kind| SubmitRequest { kind: Some(kind) };
        let first = send(submit_request::Kind::Task(task));
        requests.send(first).await.expect("room for one");
        let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
        let answers = match client.submit_task(stream).await {
            Ok(answers) => answers,
            Err(status) => return Err(refusal(&status)),
        };
        let mut answers = answers.into_inner();
        let mut bytes = Vec::new();
        while let Some(answer) = answers.next().await {
            let answer = match answer {
                Ok(answer) => answer,
                Err(status) => return Err(refusal(&status)),
            };
            match answer.kind {
                Some(submit_response::Kind::Need(need)) => {
                    let chunk = v1::InputChunk {
                        attempt: need.attempt,
                        input: 0,
                        data: source.as_bytes().to_vec(),
                        last: true,
                    };
                    let chunk = send(submit_request::Kind::Chunk(chunk));
                    requests.send(chunk).await.expect("room for one");
                }
                Some(submit_response::Kind::Chunk(chunk)) => bytes.extend(chunk.data),
                Some(submit_response::Kind::Finished(finished)) => {
                    return Ok((finished.result.expect("a result"), bytes));
                }
                Some(submit_response::Kind::Failure(failure)) => return Err(failure),
                _ => {}
            }
        }
        panic!("no answer");
    }
}

/// The coordinator says no with a status.
fn refusal(status: &tonic::Status) -> v1::Failure {
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status}");
    v1::Failure {
        code: Code::Refused.into(),
        detail: status.message().to_owned(),
        ..v1::Failure::default()
    }
}

/// Every attack once more, in the tree form: there the table lets files be named
/// anywhere, and nothing must be there.
fn in_the_tree_form(ground: &Ground, target: &Target) {
    let good = target.tree_task("gcc", HARMLESS).expect("a gcc");
    let (result, object) = target.submit(good, HARMLESS).expect("a compile");
    assert!(result.exit_code == 0 && !object.is_empty(), "{result:?}");
    let (mut refused, mut held) = (0, 0);
    for row in rows::rows(ground) {
        let source = row.source.as_deref().unwrap_or(HARMLESS);
        let Some(mut task) = target.tree_task(row.driver, source) else {
            continue;
        };
        insert(&mut task, &row);
        let name = row.title();
        match target.submit(task, source) {
            Err(failure) => {
                let expected = row.in_text || failure.code() == Code::Refused;
                assert!(expected, "{name}: {failure:?}");
                refused += 1;
            }
            Ok((result, mut shown)) => {
                assert!(result.exit_code != 0 || row.in_text, "{name}: it compiles");
                assert!(result.unexpected.is_empty(), "{name}: {result:?}");
                shown.extend(result.stdout);
                shown.extend(result.stderr);
                assert!(!shows_canary(&shown), "{name}: it came out");
                held += 1;
            }
        }
        assert_eq!(ground.struck(), Vec::<String>::new(), "{name}");
    }
    assert!(refused > 20 && held > 5, "{refused} refused, {held} held");
}

fn shows_canary(shown: &[u8]) -> bool {
    let canary = ground::CANARY.as_bytes();
    shown.windows(canary.len()).any(|at| at == canary)
}

fn insert(task: &mut v1::Task, row: &Row) {
    let more: Vec<Vec<u8>> = row
        .arguments
        .iter()
        .map(|word| word.as_bytes().to_vec())
        .collect();
    task.arguments.splice(0..0, more);
}

#[test]
fn through_the_grid_every_attack_is_refused_or_held() {
    let Some(ground) = ground("attacks through the grid") else {
        return;
    };
    let target = Target::new();
    // A good task is compiled: the rest is worth nothing without.
    let good = target.task("gcc", HARMLESS).expect("a gcc");
    let (result, object) = target.submit(good, HARMLESS).expect("a compile");
    assert!(result.exit_code == 0 && !object.is_empty(), "{result:?}");
    for row in rows::rows(&ground) {
        let source = row.source.as_deref().unwrap_or(HARMLESS);
        let Some(mut task) = target.task(row.driver, source) else {
            continue;
        };
        insert(&mut task, &row);
        let name = row.title();
        match target.submit(task, source) {
            Err(failure) => {
                let expected = row.in_text || failure.code() == Code::Refused;
                assert!(expected, "{name}: {failure:?}");
            }
            Ok((result, mut shown)) => {
                assert!(row.in_text, "{name}: it was compiled");
                shown.extend(result.stdout);
                shown.extend(result.stderr);
                assert!(!shows_canary(&shown), "{name}: it came out");
            }
        }
        assert_eq!(ground.struck(), Vec::<String>::new(), "{name}");
    }
    places(&target);
    assert_eq!(ground.struck(), Vec::<String>::new());
    if target.takes_trees() {
        in_the_tree_form(&ground, &target);
    }
}

/// Paths that lead out, as input, output and working directory.
fn places(target: &Target) {
    let long = "a/".repeat(2000) + "a";
    for path in [
        "/etc/cron.d/x",
        "../x",
        "a/../../x",
        "./x",
        "a//x",
        "a\0b",
        "",
        &long,
    ] {
        type Aim = fn(&mut v1::Task, &str);
        let aims: [Aim; 3] = [
            |task, path| task.inputs[0].path = path.into(),
            |task, path| task.outputs[0] = path.into(),
            |task, path| task.working_directory = path.into(),
        ];
        for (number, aim) in aims.into_iter().enumerate() {
            // Empty is the task's folder itself.
            if number == 2 && path.is_empty() {
                continue;
            }
            let mut task = target.task("gcc", HARMLESS).expect("a gcc");
            aim(&mut task, path);
            let failure = target.submit(task, HARMLESS).expect_err("a refusal");
            assert_eq!(failure.code(), Code::Refused, "{path:?}: {failure:?}");
        }
    }
}

/// Refuses to a program what Docker's default profile refuses to it; `more`: and
/// these system calls.
fn refuse(command: &mut Command, more: &'static [libc::c_long]) {
    let op = |code: u32, k: u32, jt, jf| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let (load, equal, any_bit, end) = (0x20, 0x15, 0x45, 0x06);
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let mut program = vec![op(load, 0, 0, 0)];
    let calls = [libc::SYS_unshare, libc::SYS_mount, libc::SYS_setns];
    for call in calls.iter().chain(more) {
        program.push(op(equal, *call as u32, 0, 1));
        program.push(op(end, refused, 0, 0));
    }
    program.push(op(equal, libc::SYS_clone as u32, 0, 3));
    program.push(op(load, 16, 0, 0));
    program.push(op(any_bit, libc::CLONE_NEWUSER as u32, 0, 1));
    program.push(op(end, refused, 0, 0));
    program.push(op(end, libc::SECCOMP_RET_ALLOW, 0, 0));
    let install = move || {
        let filter = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_ptr().cast_mut(),
        };
        // SAFETY: plain system calls on memory that outlives them.
        let installed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, 2, &filter) == 0
        };
        match installed {
            true => Ok(()),
            false => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec, only system calls are made.
    unsafe { command.pre_exec(install) };
}

/// A worker that dials in vain, with `arguments`.
fn lonely_worker(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = scrubbed(&programs().worker, folder, folder);
    command
        .args(["serve", "--coordinator", "127.0.0.1:1"])
        .args(["--http", "127.0.0.1:0", "--state"])
        .arg(folder.join("state"))
        .args(arguments);
    command
}

#[test]
fn where_there_are_no_namespaces_it_says_what_it_lacks() {
    let landlock = hg_worker_lite::sandbox::landlock::version();
    if let Err(why) = &landlock {
        skip("Landlock", &why.to_string());
    }
    let cases: [(&[libc::c_long], &str, &[&str]); 2] = [
        (
            &[],
            if landlock.is_ok() {
                "landlock"
            } else {
                "folder"
            },
            &["not full: no namespaces", "a seccomp filter is in force"],
        ),
        // landlock_create_ruleset, on every machine.
        (
            &[444],
            "folder",
            &[
                "not full",
                "not landlock",
                "can read other files",
                "can connect",
            ],
        ),
    ];
    for (refused, level, words) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = lonely_worker(folder.path(), &[]);
        refuse(&mut command, refused);
        let worker = Daemon::start("worker", &mut command, folder.path().join("log"));
        let said = worker.stderr();
        let line = format!("warn: sandbox: {level}: ");
        assert!(said.contains(&line), "{said}");
        for words in words {
            assert!(said.contains(words), "{words}: {said}");
        }
        // It dials when it has tried its compilers. They work there: gcc too, which
        // needs a place for its own files.
        let dialled = || worker.stderr().contains("next attempt").then_some(());
        until(&worker, "a dial", dialled);
        let said = worker.stderr();
        assert!(!said.contains("not offered"), "{said}");
        drop(worker);
        let mut command = lonely_worker(folder.path(), &["--sandbox", "require"]);
        refuse(&mut command, refused);
        let outcome = run_within(&mut command, PATIENCE);
        assert_eq!(outcome.code, Some(2), "{}", outcome.words());
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert!(said.contains("--sandbox require: not full: "), "{said}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let outcome = run_within(
        &mut lonely_worker(folder.path(), &["--sandbox", "wishful"]),
        PATIENCE,
    );
    assert_eq!(outcome.code, Some(2), "{}", outcome.words());
}
