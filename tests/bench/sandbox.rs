//! `bench sandbox [ROUNDS]`: what the sandbox
//! costs a compile. The same compiler on the same file, through the worker's own
//! code, in each of its sandboxes in turn.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use hg_proto::compiler::probe;
use hg_proto::v1::Encoding;
use hg_proto::wire::digest::Digest;
use hg_tests::skip;
use hg_worker_lite::inputs::layout::{Layout, Tools};
use hg_worker_lite::inputs::tree::{Tree, Trees};
use hg_worker_lite::inputs::validate::{Input, Order};
use hg_worker_lite::sandbox::facade::{Isolation, Launch, ResourceLimits, Sandbox, TaskFolder};
use hg_worker_lite::sandbox::totals::Totals;
use hg_worker_lite::tasks::compile;
use hg_worker_lite::tasks::control::Control;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Compiles with each sandbox when nothing is said.
const ROUNDS_DEFAULT: usize = 200;
/// What a compile may lose to its sandbox.
const ADDED_MS_MAX: f64 = 5.0;
/// Inputs of a task in the tree form beside its source, and the folders they are in.
const HEADERS: usize = 150;
const HEADER_FOLDERS: usize = 20;
pub const SOURCE: &str = "int square(int x) { return x * x; }\n";

/// Measures in as many rounds as `words` say.
pub fn run(words: Vec<String>) -> ExitCode {
    let rounds = words.first().and_then(|word| word.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS_DEFAULT);
    let state = tempfile::tempdir().expect("a folder");
    let shared = Path::new("/dev/shm");
    let memory = tempfile::tempdir_in(shared).ok();
    let scratch = memory.as_ref().unwrap_or(&state).path().join("tasks");
    for (driver, language) in [
        ("gcc", "cpp-output"),
        ("clang", "cpp-output"),
        ("g++", "c++-cpp-output"),
    ] {
        let driver = Path::new("/usr/bin").join(driver);
        match probe::probe(&driver, None) {
            Ok(probe) => {
                let places = [state.path(), &scratch];
                measure(
                    &driver,
                    language,
                    &Tools::Own(probe.files.clone()),
                    places,
                    rounds,
                );
            }
            Err(error) => skip("sandbox", &error.to_string()),
        }
    }
    ExitCode::SUCCESS
}

/// Where compiles are measured.
pub struct Place {
    level: Isolation,
    /// What holds them.
    pub sandbox: Sandbox,
    /// Folder of their folders.
    pub tasks: PathBuf,
    /// For the tree form, in the full sandbox.
    trees: Option<Trees>,
    wall_ms: Vec<f64>,
    cpu_ms: Vec<f64>,
}

impl Place {
    /// For tasks of preprocessed text.
    pub fn of_text(level: Isolation, sandbox: Sandbox, tasks: PathBuf) -> Self {
        Place {
            level,
            sandbox,
            tasks,
            trees: None,
            wall_ms: Vec::new(),
            cpu_ms: Vec::new(),
        }
    }
}

fn measure(
    driver: &Path,
    language: &str,
    tools: &Tools,
    [state, scratch]: [&Path; 2],
    rounds: usize,
) {
    let mut places = Vec::new();
    let order = order();
    let levels = [Isolation::Folder, Isolation::Landlock, Isolation::Full];
    let levels = levels.map(|level| (level, false));
    for (level, tree_form) in levels.into_iter().chain([(Isolation::Full, true)]) {
        let name = if tree_form { "tree" } else { level.name() };
        let own = state.join(name);
        // Where a worker has them, if there is memory enough.
        let tasks = scratch.join(name);
        fs::create_dir_all(&own).expect("a folder");
        fs::create_dir_all(&tasks).expect("a folder");
        match Sandbox::proven(level, &own, &tasks) {
            Ok(sandbox) => places.push(Place {
                trees: tree_form.then(|| Trees::open(&own, 1 << 30, 2).expect("a store")),
                ..Place::of_text(level, sandbox, tasks)
            }),
            Err(why) => skip(level.name(), &why),
        }
    }
    for round in 0..=rounds {
        for place in &mut places {
            let (wall_ms, cpu_ms) = compile_once(place, driver, language, tools, &order);
            // The first one makes the root and fills the disk's cache.
            if round > 0 {
                place.wall_ms.push(wall_ms);
                place.cpu_ms.push(cpu_ms);
            }
        }
    }
    println!("\n{} -c of a line, {rounds} times each", driver.display());
    let Some(least) = places.iter().find(|place| place.level == Isolation::Folder) else {
        return;
    };
    let (wall, cpu) = (median(&least.wall_ms), median(&least.cpu_ms));
    for place in &places {
        let (own_wall, own_cpu) = (median(&place.wall_ms), median(&place.cpu_ms));
        let added = own_wall - wall;
        println!(
            "  {:<10} median {own_wall:6.2} ms, {added:+5.2} ms, ratio {:.3}; CPU {own_cpu:6.2} ms, {:+5.2} ms{}",
            match place.trees {
                Some(_) => "full, tree",
                None => place.level.name(),
            },
            own_wall / wall,
            own_cpu - cpu,
            match place.level {
                Isolation::Folder => String::new(),
                _ if place.trees.is_some() => format!("; with {HEADERS} headers"),
                _ if added <= ADDED_MS_MAX => format!("; at most {ADDED_MS_MAX} ms: yes"),
                _ => format!("; at most {ADDED_MS_MAX} ms: NO"),
            }
        );
    }
}

/// The task of the tree form: the source, and headers as a program has them.
pub fn order() -> Order {
    let input = |path: String, content: String| Input {
        path: path.into(),
        digest: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        encoding: Encoding::Identity,
        encoded_size: content.len() as u64,
    };
    let header = |n: usize| {
        let folder = n % HEADER_FOLDERS;
        let path = format!("/usr/include/some/where/{folder}/header-{n}.h");
        input(path, content(n))
    };
    let headers = (1..=HEADERS).map(header);
    let source = input("/home/user/project/in".into(), content(0));
    Order {
        toolchain: Digest::of(b"this one"),
        is_equal: false,
        arguments: Vec::new(),
        tree: true,
        working_directory: "/home/user/project".into(),
        inputs: [source].into_iter().chain(headers).collect(),
        outputs: vec!["/home/user/project/out".into()],
        folders: Vec::new(),
        environment: Vec::new(),
        terminal: None,
        wall_ms_max: 60_000,
        memory_bytes_max: None,
        output_bytes_max: 1 << 30,
        trace_id: Vec::new(),
    }
}

fn content(n: usize) -> String {
    match n {
        0 => SOURCE.to_owned(),
        n => format!("/* {n} */").repeat(500),
    }
}

/// What a worker does before the compile.
fn grow<'a>(
    place: &Place,
    trees: &'a Trees,
    folder: &TaskFolder,
    tools: &Tools,
    order: &Order,
) -> Tree<'a> {
    let make = |layout: &Arc<Layout>| Tree::make(trees, order, layout, &folder.root());
    let tree = place
        .sandbox
        .with_tree_layout(tools, make)
        .expect("its files");
    let mut tree = tree.expect("a tree");
    for at in tree.link_stored(order).expect("a store") {
        let mut sink = tree.sink(order, at).expect("a file");
        sink.push(content(at).as_bytes()).expect("a content");
        let file = sink.finish().expect("all of it");
        tree.store_received(order, at, &file).expect("a store");
    }
    tree.place_copies(order).expect("copies");
    tree
}

/// Wall time and processor time of one compile, its folder and its end included.
pub fn compile_once(
    place: &Place,
    driver: &Path,
    language: &str,
    tools: &Tools,
    order: &Order,
) -> (f64, f64) {
    let arguments: Vec<OsString> = ["-x", language, "-O2", "-c", "in", "-o", "out"]
        .map(OsString::from)
        .to_vec();
    let cpu = cpu_ms();
    let began = Instant::now();
    let folder = TaskFolder::create(&place.tasks, "bench").expect("a folder");
    let trees = place.trees.as_ref();
    let tree = trees.map(|trees| grow(place, trees, &folder, tools, order));
    if tree.is_none() {
        fs::write(folder.root().join("in"), SOURCE).expect("a source");
    }
    let limits = ResourceLimits {
        memory_bytes_max: u64::MAX,
        file_bytes_max: 1 << 30,
        cpu_s_max: 60,
        nice: 0,
        totals: Totals::new(0, 0, u64::MAX, 1 << 30),
    };
    let directory = match tree {
        Some(_) => order.working_directory.as_path(),
        None => Path::new(""),
    };
    let mut launch = Launch::new(driver, tools, &folder, directory, limits);
    launch.arguments = &arguments;
    launch.tree = tree.as_ref();
    let control = Control::new(0).expect("descriptors");
    let ran = compile::run(&place.sandbox, &launch, 60_000, false, &control, &|_| {});
    let ran = ran.expect("a compile");
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let made = match &tree {
        Some(tree) => tree.writable_path(&order.outputs[0]),
        None => Some(folder.root().join("out")),
    };
    assert!(made.is_some_and(|made| made.is_file()));
    drop((folder, tree));
    (began.elapsed().as_secs_f64() * 1e3, cpu_ms() - cpu)
}

/// Of this process and all that it waited for.
fn cpu_ms() -> f64 {
    let used = |who| {
        let usage = getrusage(who).expect("our own usage");
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
    };
    (used(UsageWho::RUSAGE_SELF) + used(UsageWho::RUSAGE_CHILDREN)) as f64 / 1e3
}

/// The middle one of `of`.
pub fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
