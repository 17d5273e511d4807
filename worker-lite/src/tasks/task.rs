//! The life of one task, in a thread of its own: inputs to files, compile,
//! outputs to frames. Unaware of sockets and of the link's state.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use hg_proto::v1::{
    self, Begun, Chunk, Done, Encoding, Failed, Failure, FromWorker, Need, Output, TaskResult,
    failure::Code, from_worker::Kind,
};
use hg_proto::wire::frame;
use nix::libc;

use crate::inputs::blobs::{self, InputError, OutputError, Sink};
use crate::inputs::layout::Layout;
use crate::inputs::tree::{Tree, TreeError, Trees};
use crate::inputs::validate::{Input, Order, failure};
use crate::machine::vitals;
use crate::sandbox::facade::{self, Confines, Folder, Launch, Sandbox};
use crate::sandbox::totals::Totals;
use crate::tasks::compile::{self, CompileError, Ran};
use crate::tasks::control::{Control, NoCredit};
use crate::tasks::gate::Gate;
use crate::tasks::toolchains::Compiler;

/// How long output waits for credit before the link is taken for stuck.
const CREDIT_WAIT: Duration = Duration::from_secs(60);
/// Names of unexpected files that are reported.
const UNEXPECTED_MAX: usize = 16;
/// Assembly text and other passing files may be this many times as long as what
/// is wanted back.
const PASSING_FACTOR: u64 = 16;

/// What a task is given.
pub struct Setting {
    /// The checked task.
    pub order: Order,
    /// What compiles it.
    pub compiler: Compiler,
    /// As the coordinator numbers it.
    pub dispatch_id: u64,
    /// Where task folders lie.
    pub tasks: PathBuf,
    /// The name of this task's folder.
    pub name: String,
    /// Where what is known about compilers is kept.
    pub memo: PathBuf,
    /// Bytes of memory of the machine; bounds each process.
    pub memory_bytes: u64,
    /// Compiles at once, when the machine bears all of them.
    pub slots: u32,
    /// Bytes of memory that the worker may use; 0: nobody knows.
    pub worker_bytes: u64,
    /// The same for each slot.
    pub share_bytes: u64,
    /// How far below other programs the compiler runs, 0 to 19.
    pub nice: i32,
    /// Bytes of memory that the compile is thought to need; 0: nobody knows.
    pub expected_bytes: u64,
    /// Parts of inputs; closed when the task is cancelled.
    pub chunks: Receiver<Arc<Chunk>>,
    /// Whole frames to the coordinator.
    pub frames: Sender<Vec<u8>>,
    /// Sends one ahead of any output, or drops it where too many wait.
    pub ahead: Box<dyn Fn(Vec<u8>) + Send>,
    /// Shared with the link.
    pub control: Arc<Control>,
    /// Where it waits for a slot.
    pub gate: Arc<Gate>,
    /// What holds the compiler.
    pub sandbox: Arc<Sandbox>,
    /// What the tree form needs.
    pub trees: Option<Arc<Trees>>,
    /// Told how many contents are lacking, before the coordinator is asked for them.
    pub lacks: Box<dyn Fn(usize) + Send>,
}

/// How a task ended; its folder and its processes are gone.
#[derive(Debug)]
pub struct End {
    /// `Done` or `Failed`: the last that the coordinator hears of it.
    pub last: FromWorker,
    /// Wall time of the compiler in seconds, if it ended by itself.
    pub compile_s: Option<f64>,
    /// The failure's code; `None`: done.
    pub failed: Option<i32>,
    /// The compiler is missing or another one by now.
    pub compiler_gone: bool,
}

impl End {
    /// Of a task whose thread came upon a bug of ours.
    pub fn broken(dispatch_id: u64) -> Self {
        let failure = failure(Code::Worker, "a bug in the worker; its log says more");
        End {
            failed: Some(failure.code),
            last: FromWorker {
                kind: Some(Kind::Failed(Failed {
                    dispatch_id,
                    failure: Some(failure),
                })),
            },
            compile_s: None,
            compiler_gone: false,
        }
    }
}

/// Carries the task out. Everything but the last message has been given to
/// `frames` when this returns.
pub fn run(setting: &Setting) -> End {
    let mut compiler_gone = false;
    let result = carry_out(setting, &mut compiler_gone);
    let dispatch_id = setting.dispatch_id;
    let end = |kind, compile_s, failed| End {
        last: FromWorker { kind: Some(kind) },
        compile_s,
        failed,
        compiler_gone,
    };
    match result {
        Ok(result) => {
            let wall_us = result.usage.as_ref().map_or(0, |usage| usage.wall_us);
            let done = Kind::Done(Done {
                dispatch_id,
                result: Some(result),
            });
            end(done, Some(wall_us as f64 / 1e6), None)
        }
        Err(failure) => {
            // What a cancelled task fails of is the cancelling.
            let failure = setting.control.cancelled().unwrap_or(failure);
            let code = failure.code;
            let failed = Kind::Failed(Failed {
                dispatch_id,
                failure: Some(failure),
            });
            end(failed, None, Some(code))
        }
    }
}

fn carry_out(setting: &Setting, compiler_gone: &mut bool) -> Result<TaskResult, Failure> {
    let folder = Folder::create(&setting.tasks, &setting.name)
        .map_err(|error| ours(&format!("the task's folder: {error}")))?;
    let order = &setting.order;
    let directory = folder.root().join(&order.working_directory);
    let tree = match order.tree {
        true => Some(gather(setting, &folder, compiler_gone)?),
        false => {
            let mut files = prepare(order, &directory)?;
            send(setting, Kind::Need(need(setting, 0..order.inputs.len())))?;
            receive(setting, &mut files)?;
            None
        }
    };
    let available_bytes = vitals::memory_available_bytes;
    let slot = setting
        .gate
        .enter(&setting.control, setting.expected_bytes, available_bytes)?;
    check_compiler(setting, compiler_gone)?;
    send(setting, Kind::Begun(begun(setting)))?;
    let ran = compile(setting, &folder, tree.as_ref(), compiler_gone);
    let ended = Begun {
        ended: true,
        ..begun(setting)
    };
    report(setting, ended);
    // The next compile may run while this one's outputs leave.
    drop(slot);
    // An upgrade in between leaves what neither of the two would have made, or
    // nothing.
    check_compiler(setting, compiler_gone)?;
    let ran = ran?;
    let unexpected = match &tree {
        Some(tree) => unexpected_in_tree(order, &folder, tree),
        None => unexpected(order, &folder, &directory),
    }?;
    let outputs = send_outputs(setting, &folder, |path| match &tree {
        Some(tree) => tree.writable_of(path).unwrap_or_else(|| path.to_path_buf()),
        None => directory.join(path),
    })?;
    Ok(TaskResult {
        exit_code: exit_code(&ran),
        signal: signal(&ran),
        stdout: ran.stdout,
        stderr: ran.stderr,
        outputs,
        usage: Some(ran.usage),
        unexpected,
        truncated: ran.truncated,
        on_terminal: ran.on_terminal,
    })
}

fn check_compiler(setting: &Setting, gone: &mut bool) -> Result<(), Failure> {
    if setting.compiler.is_unchanged(&setting.memo) {
        return Ok(());
    }
    *gone = true;
    let driver = setting.compiler.driver.display();
    Err(ours(&format!("{driver} is missing or has changed")))
}

/// What went wrong with a task's files. What its names, numbers and sizes would bring
/// about anywhere is the task's fault; the rest may be this machine's.
fn trouble(what: &str, error: &io::Error) -> Failure {
    let code = match error.raw_os_error() {
        None if error.kind() == io::ErrorKind::InvalidData => Code::Refused,
        Some(
            libc::ENAMETOOLONG
            | libc::E2BIG
            | libc::ENOTDIR
            | libc::EISDIR
            | libc::EEXIST
            | libc::ELOOP
            | libc::EMLINK
            | libc::EILSEQ,
        ) => Code::Refused,
        _ => Code::Worker,
    };
    failure(code, format!("{what}: {error}"))
}

/// This machine's own trouble, which any other task would have had.
fn ours(what: &str) -> Failure {
    Failure {
        worker_at_fault: true,
        ..failure(Code::Worker, what)
    }
}

fn exit_code(ran: &Ran) -> i32 {
    // As shells say it, so that a signal is never taken for success.
    ran.status.code().unwrap_or_else(|| 128 + signal(ran))
}

fn signal(ran: &Ran) -> i32 {
    std::os::unix::process::ExitStatusExt::signal(&ran.status).unwrap_or(0)
}

fn send(setting: &Setting, kind: Kind) -> Result<(), Failure> {
    let frame = frame::encode(&FromWorker { kind: Some(kind) })
        .map_err(|error| failure(Code::Worker, error.to_string()))?;
    setting
        .frames
        .send_blocking(frame)
        .map_err(|_| failure(Code::Link, "the link is gone"))
}

/// The compiler runs.
fn begun(setting: &Setting) -> Begun {
    Begun {
        dispatch_id: setting.dispatch_id,
        ..Begun::default()
    }
}

/// Says ahead of any output how a compile gets on.
fn report(setting: &Setting, begun: Begun) {
    let kind = Some(Kind::Begun(begun));
    if let Ok(frame) = frame::encode(&FromWorker { kind }) {
        // Where nothing more fits the link stands still, which ends it.
        (setting.ahead)(frame);
    }
}

fn need(setting: &Setting, inputs: impl IntoIterator<Item = usize>) -> Need {
    let all = &setting.order.inputs;
    let digest = |at: usize| all[at].digest.as_bytes().to_vec();
    Need {
        dispatch_id: setting.dispatch_id,
        digests: inputs.into_iter().map(digest).collect(),
    }
}

/// Makes the tree of a task: of what is here, and of the rest once it came.
fn gather<'a>(
    setting: &'a Setting,
    folder: &Folder,
    compiler_gone: &mut bool,
) -> Result<Tree<'a>, Failure> {
    let (order, compiler) = (&setting.order, &setting.compiler);
    let Some(trees) = setting.trees.as_deref() else {
        return Err(failure(Code::Refused, "the tree form"));
    };
    let make = |layout: &Arc<Layout>| Tree::make(trees, order, layout, &folder.root());
    let made = setting.sandbox.in_place(&compiler.files, make);
    let made = made.map_err(|error| {
        *compiler_gone |= error.kind() == io::ErrorKind::NotFound;
        trouble("the toolchain's files", &error)
    })?;
    let mut tree = made.map_err(|error| match error {
        TreeError::Refused(why) => failure(Code::Refused, why),
        TreeError::Io(error) => trouble("the task's tree", &error),
    })?;
    let lacking = tree.take(order);
    let lacking = lacking.map_err(|error| trouble("an input's file", &error))?;
    (setting.lacks)(lacking.len());
    send(setting, Kind::Need(need(setting, lacking.iter().copied())))?;
    receive_lacking(setting, &mut tree, trees, lacking)?;
    let complete = tree.complete(order);
    complete.map_err(|error| trouble("an input's file", &error))?;
    Ok(tree)
}

/// Takes chunks until the contents of all inputs of `lacking` are there. They come
/// one after the other, so that one is open at a time.
fn receive_lacking(
    setting: &Setting,
    tree: &mut Tree<'_>,
    trees: &Trees,
    lacking: Vec<usize>,
) -> Result<(), Failure> {
    let order = &setting.order;
    let mut lacking: BTreeSet<usize> = lacking.into_iter().collect();
    let mut open: Option<(usize, Sink<File>)> = None;
    while !lacking.is_empty() {
        let chunk = chunk(setting)?;
        let at = chunk.blob as usize;
        let io = |error: io::Error| {
            if error.kind() == io::ErrorKind::StorageFull {
                // For the next one.
                let _ = trees.store().give_room();
                // They hold on to what the store gave up.
                trees.rest();
            }
            trouble("an input's file", &error)
        };
        let wrong = |error: InputError| match error {
            InputError::NotAsAnnounced(why) => not_as_announced(setting, at, &why),
            InputError::Io(error) => io(error),
        };
        let mut sink = match open.take() {
            Some((opened, sink)) if opened == at => sink,
            None if tree
                .first_of(order, at)
                .is_some_and(|at| lacking.contains(&at)) =>
            {
                tree.sink(order, at).map_err(io)?
            }
            _ => return Err(failure(Code::Input, format!("no input {at} is expected"))),
        };
        sink.push(&chunk.data).map_err(wrong)?;
        if chunk.last {
            let file = sink.finish().map_err(wrong)?;
            tree.came(order, at, &file).map_err(io)?;
            tree.first_of(order, at).map(|at| lacking.remove(&at));
        } else {
            open = Some((at, sink));
        }
    }
    Ok(())
}

/// The next part of an input.
fn chunk(setting: &Setting) -> Result<Arc<Chunk>, Failure> {
    let chunk = setting.chunks.recv_blocking();
    chunk.map_err(|_| failure(Code::Cancelled, "cancelled"))
}

fn not_as_announced(setting: &Setting, at: usize, why: &str) -> Failure {
    let path = &setting.order.inputs[at].path;
    failure(Code::Input, format!("input {path:?}: {why}"))
}

/// Makes the folders of inputs and outputs, and the inputs' empty files.
fn prepare(order: &Order, directory: &Path) -> Result<Vec<Option<Sink<File>>>, Failure> {
    let parents = |path: &Path| match directory.join(path).parent() {
        Some(parent) => fs::create_dir_all(parent),
        None => Ok(()),
    };
    fs::create_dir_all(directory).map_err(|error| trouble("the working folder", &error))?;
    for output in &order.outputs {
        parents(output).map_err(|error| trouble("an output's folder", &error))?;
    }
    let sink = |input: &Input| {
        parents(&input.path)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(directory.join(&input.path))?;
        Sink::of(file, input).map(Some)
    };
    order
        .inputs
        .iter()
        .map(|input| sink(input).map_err(|error| trouble("an input's file", &error)))
        .collect()
}

/// Takes chunks until every input is whole.
fn receive(setting: &Setting, files: &mut [Option<Sink<File>>]) -> Result<(), Failure> {
    let mut left = files.len();
    while left > 0 {
        let chunk = chunk(setting)?;
        let at = chunk.blob as usize;
        let wrong = |error: InputError| match error {
            InputError::NotAsAnnounced(why) => not_as_announced(setting, at, &why),
            InputError::Io(error) => trouble("an input's file", &error),
        };
        let Some(sink) = files.get_mut(at).and_then(Option::as_mut) else {
            return Err(failure(Code::Input, format!("no input {at} is expected")));
        };
        sink.push(&chunk.data).map_err(wrong)?;
        if chunk.last
            && let Some(sink) = files[at].take()
        {
            sink.finish().map_err(wrong)?;
            left -= 1;
        }
    }
    Ok(())
}

fn compile(
    setting: &Setting,
    folder: &Folder,
    tree: Option<&Tree<'_>>,
    compiler_gone: &mut bool,
) -> Result<Ran, Failure> {
    let order = &setting.order;
    let memory_bytes = match setting.memory_bytes {
        0 => u64::MAX,
        bytes => bytes,
    };
    let memory_bytes_max = order
        .memory_bytes_max
        .map_or(memory_bytes, |max| max.min(memory_bytes));
    let file_bytes_max = order
        .output_bytes_max
        .saturating_mul(PASSING_FACTOR)
        .min(hg_proto::wire::limits::OUTPUT_BYTES_MAX);
    let worker_bytes = match setting.worker_bytes {
        0 => u64::MAX,
        bytes => bytes,
    };
    let mut totals = Totals::new(
        setting.expected_bytes,
        setting.share_bytes,
        worker_bytes,
        file_bytes_max,
    );
    totals.memory_bytes_max = totals.memory_bytes_max.min(memory_bytes_max);
    totals = totals.on_disk(vitals::disk_free_bytes(folder.path()), setting.slots);
    let confines = Confines {
        memory_bytes_max,
        file_bytes_max: totals.file_bytes_here_max(),
        cpu_s_max: u64::from(order.wall_ms_max) / 1000 * 2 + 10,
        nice: setting.nice,
        totals,
    };
    let compiler = &setting.compiler;
    let launch = Launch {
        path_first: compiler.path_first.as_deref(),
        arguments: &order.arguments,
        environment: &order.environment,
        terminal: order.terminal,
        tree,
        ..Launch::new(
            &compiler.driver,
            &compiler.files,
            folder,
            &order.working_directory,
            confines,
        )
    };
    let is_capped = order.memory_bytes_max.is_some_and(|max| max < memory_bytes);
    let sandbox = &setting.sandbox;
    let on_progress = |cpu_us| {
        let begun = begun(setting);
        report(setting, Begun { cpu_us, ..begun });
    };
    let ran = compile::run(
        sandbox,
        &launch,
        order.wall_ms_max,
        is_capped,
        &setting.control,
        &on_progress,
    );
    ran.map_err(|error| match error {
        CompileError::Spawn(error) => {
            // What its files were may be over, as after an upgrade.
            sandbox.forget(&compiler.files);
            *compiler_gone |= error.kind() == io::ErrorKind::NotFound;
            let driver = setting.compiler.driver.display();
            trouble(&format!("starting {driver}"), &error)
        }
        CompileError::Failed(failure) => failure,
    })
}

fn unexpected(order: &Order, folder: &Folder, directory: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let known = |name: &Path| {
        order.outputs.iter().any(|output| output == name)
            || order.inputs.iter().any(|input| input.path == name)
    };
    let names = facade::unexpected(&folder.root(), directory, known, UNEXPECTED_MAX)
        .map_err(|error| trouble("looking for what the compiler made", &error))?;
    Ok(names
        .into_iter()
        .map(|name| OsString::from(name).into_vec())
        .collect())
}

fn unexpected_in_tree(
    order: &Order,
    folder: &Folder,
    tree: &Tree<'_>,
) -> Result<Vec<Vec<u8>>, Failure> {
    let root = folder.root();
    let known = |name: &Path| {
        let path = tree.path_of(name);
        order.outputs.contains(&path) || tree.is_copied(&path)
    };
    let names = facade::unexpected(&root, &root, known, UNEXPECTED_MAX)
        .map_err(|error| trouble("looking for what the compiler made", &error))?;
    let names = names.iter().map(|name| tree.path_of(name));
    Ok(names.map(|name| OsString::from(name).into_vec()).collect())
}

fn send_outputs(
    setting: &Setting,
    folder: &Folder,
    place: impl Fn(&Path) -> PathBuf,
) -> Result<Vec<Output>, Failure> {
    let mut left = setting.order.output_bytes_max;
    let mut outputs = Vec::new();
    for (blob, path) in setting.order.outputs.iter().enumerate() {
        let opened = open_output(&folder.root(), &place(path))
            .map_err(|error| trouble(&format!("output {path:?}"), &error))?;
        let Some((mut file, size)) = opened else {
            continue;
        };
        let part = |data: &[u8], last| send_part(setting, blob as u32, data, last);
        let sent = blobs::send(&mut file, size, left, part).map_err(|error| match error {
            OutputError::Io(error) => trouble(&format!("output {path:?}"), &error),
            OutputError::TooLong => failure(Code::Limit, "the outputs are too large"),
            OutputError::Send(failure) => failure,
        })?;
        left -= sent.size;
        outputs.push(Output {
            path: OsString::from(path).into_vec(),
            digest: sent.digest.as_bytes().to_vec(),
            size: sent.size,
            encoding: Encoding::Zstd.into(),
            encoded_size: sent.encoded_size,
        });
    }
    Ok(outputs)
}

/// A file that the compiler made, and its length; `None`: it made none there. No
/// link is followed, by the last name or on the way, nor is another name of a file
/// elsewhere taken: the worker may read more than a compile may.
fn open_output(root: &Path, path: &Path) -> io::Result<Option<(File, u64)>> {
    let strange = || {
        let why = "not a regular file of the task's own";
        io::Error::new(io::ErrorKind::InvalidData, why)
    };
    let inside = match path.parent().map(Path::canonicalize) {
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Some(parent) => parent?.starts_with(root),
        None => false,
    };
    if !inside {
        return Err(strange());
    }
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(strange()),
        Err(error) => return Err(error),
    };
    let stat = file.metadata()?;
    if !stat.is_file() || stat.nlink() != 1 {
        return Err(strange());
    }
    Ok(Some((file, stat.len())))
}

/// Sends one part, in as many chunks as the credit makes it.
fn send_part(setting: &Setting, blob: u32, mut data: &[u8], last: bool) -> Result<(), Failure> {
    loop {
        let len = setting
            .control
            .take_credit(data.len(), CREDIT_WAIT)
            .map_err(|error| match error {
                NoCredit::Cancelled => failure(Code::Cancelled, "cancelled"),
                NoCredit::TimedOut => failure(Code::Link, "no credit for output came"),
            })?;
        let (now, later) = data.split_at(len);
        data = later;
        let chunk = v1::Chunk {
            dispatch_id: setting.dispatch_id,
            blob,
            data: now.to_vec(),
            last: last && data.is_empty(),
        };
        send(setting, Kind::Chunk(chunk))?;
        if data.is_empty() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_regular_file_of_the_tasks_own_is_an_output() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().canonicalize().unwrap();
        let root = outside.join("root");
        fs::create_dir(&root).unwrap();
        fs::write(outside.join("secret"), "secret").unwrap();
        fs::write(root.join("good"), "object").unwrap();
        symlink(outside.join("secret"), root.join("link")).unwrap();
        symlink("good", root.join("link-inside")).unwrap();
        symlink(&outside, root.join("folder-link")).unwrap();
        fs::hard_link(outside.join("secret"), root.join("second-name")).unwrap();
        nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(root.join("folder")).unwrap();
        let open = |name: &str| open_output(&root, &root.join(name));
        assert_eq!(open("good").unwrap().unwrap().1, 6);
        assert!(open("none").unwrap().is_none());
        for name in [
            "link",
            "link-inside",
            "folder-link/secret",
            "second-name",
            "pipe",
            "folder",
        ] {
            assert!(open(name).is_err(), "{name}");
        }
    }
}
