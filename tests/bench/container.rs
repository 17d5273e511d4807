//! `bench container [ROUNDS] [podman]`: what compilers of container images cost. How long a worker
//! takes to look into an image, and what a compile takes: with this machine's gcc and no
//! sandbox, with the same gcc out of an image as a worker runs it, and by the engine's `exec` in a
//! container that is kept running.

use std::io::Write;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use hg_proto::compiler::probe;
use hg_tests::engine::Engine;
use hg_tests::{in_path, programs, skip};
use hg_worker_lite::images::catalogue::Images;
use hg_worker_lite::inputs::layout::Tools;
use hg_worker_lite::sandbox::facade::{Isolation, Sandbox};
use hg_worker_lite::tasks::toolchains::{Catalogue, Compiler};

use crate::sandbox::{Place, SOURCE, compile_once, median, order};

/// Compiles in each way when nothing is said.
const ROUNDS_DEFAULT: usize = 100;
/// What a compile may take more than the same without a sandbox.
const ADDED_MS_MAX: f64 = 50.0;
const LANGUAGE: &str = "cpp-output";

/// Measures in as many rounds as `words` say.
pub fn run(words: Vec<String>) -> ExitCode {
    let rounds = words.first().and_then(|word| word.parse().ok());
    let engine = match words.iter().any(|word| word == "podman") {
        true => Engine::of_podman(),
        false => Engine::get(),
    };
    match engine.and_then(|engine| measure(engine, rounds.unwrap_or(ROUNDS_DEFAULT))) {
        Ok(()) => {}
        Err(why) => skip("compilers of images", &why),
    }
    ExitCode::SUCCESS
}

fn measure(mut engine: Engine, rounds: usize) -> Result<(), String> {
    let image = format!("hg-bench:{}", std::process::id());
    let no_gcc = || "no gcc that could be in an image".to_owned();
    engine.image_of_gcc(&image).ok_or_else(no_gcc)?;
    let driver = in_path("gcc").ok_or_else(no_gcc)?;
    let probe = probe::probe(&driver, None).map_err(|error| error.to_string())?;
    if let Some(host) = &engine.host {
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var("DOCKER_HOST", host) };
    }
    let state = tempfile::tempdir().map_err(|error| error.to_string())?;
    let native = place(&state.path().join("folder"), Isolation::Folder)?;
    let full = place(&state.path().join("full"), Isolation::Full)?;
    let own = Tools::Own(probe.files);
    let worker = programs::build(true)?.worker;
    let compiler = look(state.path(), &image, &worker, &full)?;
    let container = Kept::start(&engine, &image)?;
    let mut times = [const { Vec::new() }; 3];
    let order = order();
    for round in 0..=rounds {
        let taken = [
            compile_once(&native, &driver, LANGUAGE, &own, &order).0,
            compile_once(&full, &compiler.driver, LANGUAGE, &compiler.tools, &order).0,
            container.compile()?,
        ];
        // The first one fills caches.
        if round > 0 {
            for (all, one) in times.iter_mut().zip(taken) {
                all.push(one);
            }
        }
    }
    let [native, contained, executed] = times.map(|all| median(&all));
    println!(
        "{} -c of a line, {rounds} times each, medians",
        driver.display()
    );
    println!("  without a sandbox  {native:7.2} ms");
    let exec = format!("{} exec", engine.program);
    for (name, ms) in [("out of an image", contained), (&exec, executed)] {
        let (added, ratio) = (ms - native, ms / native);
        let verdict = match added <= ADDED_MS_MAX {
            true => "yes",
            false => "NO",
        };
        println!(
            "  {name:<18} {ms:7.2} ms, {added:+6.2} ms, ratio {ratio:.3}; at most {ADDED_MS_MAX} ms: {verdict}"
        );
    }
    Ok(())
}

fn place(folder: &Path, level: Isolation) -> Result<Place, String> {
    let tasks = folder.join("tasks");
    std::fs::create_dir_all(&tasks).map_err(|error| error.to_string())?;
    let sandbox = Sandbox::proven(level, folder, &tasks)?;
    Ok(Place::of_text(level, sandbox, tasks))
}

/// The compiler for C of `image`, looked for twice: when it is new, and when it is known.
fn look(state: &Path, image: &str, worker: &Path, place: &Place) -> Result<Compiler, String> {
    let mut found = Catalogue::new();
    for what in ["new", "known"] {
        let began = Instant::now();
        let images = Images::open(state, vec![image.to_owned()], worker.to_path_buf())?;
        found.clear();
        images.offer(&mut found, &place.sandbox, &place.tasks, true);
        let seconds = began.elapsed().as_secs_f64();
        println!("a look into an image that is {what}, with trials: {seconds:.2} s");
    }
    let compiler = found
        .into_values()
        .find(|compiler| !compiler.toolchain.tree);
    compiler.ok_or_else(|| "nothing was found in the image".to_owned())
}

/// A container that is kept running.
struct Kept<'a> {
    engine: &'a Engine,
    name: String,
}

impl<'a> Kept<'a> {
    fn start(engine: &'a Engine, image: &str) -> Result<Self, String> {
        let name = format!("hg-bench-{}", std::process::id());
        let mut run = engine.command(&["run", "--detach", "--network", "none", "--read-only"]);
        run.args([
            "--tmpfs",
            "/tmp",
            "--name",
            &name,
            "--entrypoint",
            "/bin/sleep",
        ]);
        let ran = hg_tests::command::run(run.args([image, "100000"]));
        match ran.ok() {
            true => Ok(Kept { engine, name }),
            false => Err(ran.words()),
        }
    }

    /// One compile in it. Gives milliseconds.
    fn compile(&self) -> Result<f64, String> {
        let words = [
            "exec",
            "--interactive",
            &self.name,
            "/usr/bin/gcc",
            "-x",
            LANGUAGE,
        ];
        let began = Instant::now();
        let mut exec = self.engine.command(&words);
        exec.args(["-O2", "-c", "-", "-o", "/tmp/out"]);
        exec.stdin(Stdio::piped());
        let mut child = exec.spawn().map_err(|error| error.to_string())?;
        if let Some(mut stdin) = child.stdin.take() {
            let written = stdin.write_all(SOURCE.as_bytes());
            written.map_err(|error| error.to_string())?;
        }
        let status = child.wait().map_err(|error| error.to_string())?;
        match status.success() {
            true => Ok(began.elapsed().as_secs_f64() * 1e3),
            false => Err(format!("docker exec: {status}")),
        }
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        hg_tests::command::run(&mut self.engine.command(&["rm", "--force", &self.name]));
    }
}
