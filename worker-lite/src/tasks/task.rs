//! One task from its first input to its last output, in a thread of its own: inputs to
//! files, compile, outputs to frames. Unaware of sockets and of the link's state.

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
use hg_proto::wire::blob::BlobError;
use hg_proto::wire::frame;
use nix::libc;

use crate::files::shipments::InUse;
use crate::inputs::blobs::{self, OutputError, Sink};
use crate::inputs::layout::Layout;
use crate::inputs::tree::{Tree, TreeError, Trees};
use crate::inputs::validate::{Input, Order, failure};
use crate::machine::vitals;
use crate::sandbox::facade::{self, Launch, ResourceLimits, Sandbox, TaskFolder};
use crate::sandbox::totals::Totals;
use crate::tasks::compile::{self, CompileError, CompilerOutput};
use crate::tasks::control::{Control, NoCredit};
use crate::tasks::gate::Gate;
use crate::tasks::toolchains::Compiler;

/// How long output waits for credit until the link is taken to be stuck.
const CREDIT_WAIT: Duration = Duration::from_secs(60);
/// Names of unexpected files that are reported at most.
const UNEXPECTED_MAX: usize = 16;
/// Assembly text and other temporary files may be this many times as long as the outputs.
const TEMPORARY_FACTOR: u64 = 16;

/// Everything that a task's thread works with.
pub struct TaskContext {
    /// The checked task.
    pub order: Order,
    /// Compiler that runs.
    pub compiler: Compiler,
    /// Keeps a client's toolchain here meanwhile.
    pub in_use: Option<InUse>,
    /// The coordinator's number of this attempt on this link.
    pub dispatch_id: u64,
    /// Folder of the task folders.
    pub tasks: PathBuf,
    /// Name of this task's folder.
    pub name: String,
    /// Folder of memos about compilers.
    pub memo: PathBuf,
    /// Bytes of memory of the machine; bounds each process.
    pub memory_bytes: u64,
    /// Slots that the worker offers when the machine can run all of them.
    pub slots: u32,
    /// Bytes of memory that the worker may use; 0: unknown.
    pub worker_bytes: u64,
    /// Bytes of memory that the worker has for each slot; 0: unknown.
    pub share_bytes: u64,
    /// Nice value of the compiler, 0 to 19.
    pub nice: i32,
    /// Bytes of memory that the compile is predicted to need; 0: unknown.
    pub expected_bytes: u64,
    /// Chunks of inputs; closed when the task is cancelled.
    pub chunks: Receiver<Arc<Chunk>>,
    /// Frames to the coordinator, in their order.
    pub frames: Sender<Vec<u8>>,
    /// Sends a frame ahead of all output, or drops it where too many wait.
    pub send_ahead: Box<dyn Fn(Vec<u8>) + Send>,
    /// Credit and cancellation, shared with the link.
    pub control: Arc<Control>,
    /// Gate at which the task waits for a slot.
    pub gate: Arc<Gate>,
    /// Sandbox of the compiler.
    pub sandbox: Arc<Sandbox>,
    /// Store and skeletons of the tree form; `None`: no such task is taken.
    pub trees: Option<Arc<Trees>>,
    /// Called with the number of contents that have to be received, before the coordinator is
    /// asked for them.
    pub on_inputs_missing: Box<dyn Fn(usize) + Send>,
}

/// How a task ended. Its folder is removed and its processes have ended.
#[derive(Debug)]
pub struct TaskEnd {
    /// `Done` or `Failed`: the task's last message to the coordinator.
    pub last: FromWorker,
    /// Wall time of the compiler in seconds, if it ended by itself.
    pub compile_s: Option<f64>,
    /// Code of the failure; `None`: the compile has a result.
    pub failed: Option<i32>,
    /// The compiler is missing or has changed.
    pub compiler_gone: bool,
}

impl TaskEnd {
    /// End of a task whose thread panicked.
    pub fn panicked(dispatch_id: u64) -> Self {
        let failure = failure(Code::Worker, "a bug in the worker; its log says more");
        TaskEnd {
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

/// Carries the task out. Every frame but that of the last message was given to the channel
/// when this returns.
pub fn run(context: &TaskContext) -> TaskEnd {
    let mut compiler_gone = false;
    let result = carry_out(context, &mut compiler_gone);
    let dispatch_id = context.dispatch_id;
    let end = |kind, compile_s, failed| TaskEnd {
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
            // Whatever a cancelled task fails of comes of the cancellation.
            let failure = context.control.cancelled().unwrap_or(failure);
            let code = failure.code;
            let failed = Kind::Failed(Failed {
                dispatch_id,
                failure: Some(failure),
            });
            end(failed, None, Some(code))
        }
    }
}

fn carry_out(context: &TaskContext, compiler_gone: &mut bool) -> Result<TaskResult, Failure> {
    let folder = TaskFolder::create(&context.tasks, &context.name)
        .map_err(|error| worker_failure(&format!("the task's folder: {error}")))?;
    let order = &context.order;
    let directory = folder.root().join(&order.working_directory);
    let tree = match order.tree {
        true => Some(make_tree(context, &folder, compiler_gone)?),
        false => {
            let mut files = create_inputs(order, &directory)?;
            send(
                context,
                Kind::Need(need_message(context, 0..order.inputs.len())),
            )?;
            receive_all(context, &mut files)?;
            None
        }
    };
    let available_bytes = vitals::memory_available_bytes;
    let slot = context
        .gate
        .enter(&context.control, context.expected_bytes, available_bytes)?;
    check_compiler(context, compiler_gone)?;
    send(context, Kind::Begun(progress(context)))?;
    let ran = compile(context, &folder, tree.as_ref(), compiler_gone);
    let ended = Begun {
        ended: true,
        ..progress(context)
    };
    report(context, ended);
    // The next compile may run while this one's outputs leave.
    drop(slot);
    // An upgrade in between may leave what neither of the two compilers would have made.
    check_compiler(context, compiler_gone)?;
    let output = ran?;
    let unexpected = match &tree {
        Some(tree) => unexpected_in_tree(order, &folder, tree),
        None => unexpected(order, &folder, &directory),
    }?;
    let outputs = send_outputs(context, &folder, |path| match &tree {
        Some(tree) => tree
            .writable_path(path)
            .unwrap_or_else(|| path.to_path_buf()),
        None => directory.join(path),
    })?;
    Ok(TaskResult {
        exit_code: exit_code(&output),
        signal: signal(&output),
        stdout: output.stdout,
        stderr: output.stderr,
        outputs,
        usage: Some(output.usage),
        unexpected,
        truncated: output.truncated,
        on_terminal: output.on_terminal,
        equal: match order.is_equal {
            true => order.toolchain.as_bytes().to_vec(),
            false => Vec::new(),
        },
    })
}

fn check_compiler(context: &TaskContext, gone: &mut bool) -> Result<(), Failure> {
    if context.compiler.is_unchanged(&context.memo) {
        return Ok(());
    }
    *gone = true;
    let driver = context.compiler.driver.display();
    Err(worker_failure(&format!(
        "{driver} is missing or has changed"
    )))
}

/// Failure of a file operation of a task. An error that its names, numbers and sizes would
/// bring about on any worker is the task's fault; the rest may be this machine's.
fn file_failure(what: &str, error: &io::Error) -> Failure {
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

/// Failure of this machine, which any other task would have met as well.
fn worker_failure(what: &str) -> Failure {
    Failure {
        worker_at_fault: true,
        ..failure(Code::Worker, what)
    }
}

fn exit_code(output: &CompilerOutput) -> i32 {
    // As shells do, so that a signal is never taken for success.
    output.status.code().unwrap_or_else(|| 128 + signal(output))
}

fn signal(output: &CompilerOutput) -> i32 {
    std::os::unix::process::ExitStatusExt::signal(&output.status).unwrap_or(0)
}

fn send(context: &TaskContext, kind: Kind) -> Result<(), Failure> {
    let frame = frame::encode(&FromWorker { kind: Some(kind) })
        .map_err(|error| failure(Code::Worker, error.to_string()))?;
    context
        .frames
        .send_blocking(frame)
        .map_err(|_| failure(Code::Link, "the link is gone"))
}

/// A report on the compiler of the task: that it runs, or more with what is set in it.
fn progress(context: &TaskContext) -> Begun {
    Begun {
        dispatch_id: context.dispatch_id,
        ..Begun::default()
    }
}

/// Sends a report on a compile that runs or has ended ahead of all output.
fn report(context: &TaskContext, begun: Begun) {
    let kind = Some(Kind::Begun(begun));
    if let Ok(frame) = frame::encode(&FromWorker { kind }) {
        // A link on which no frame fits any more stands still, and is ended for that.
        (context.send_ahead)(frame);
    }
}

fn need_message(context: &TaskContext, inputs: impl IntoIterator<Item = usize>) -> Need {
    let all = &context.order.inputs;
    let digest = |at: usize| all[at].digest.as_bytes().to_vec();
    Need {
        dispatch_id: context.dispatch_id,
        digests: inputs.into_iter().map(digest).collect(),
    }
}

/// Makes the tree of a task from the contents in the store, and from the others once they are
/// received.
fn make_tree<'a>(
    context: &'a TaskContext,
    folder: &TaskFolder,
    compiler_gone: &mut bool,
) -> Result<Tree<'a>, Failure> {
    let (order, compiler) = (&context.order, &context.compiler);
    let Some(trees) = context.trees.as_deref() else {
        return Err(failure(Code::Refused, "the tree form"));
    };
    let make = |layout: &Arc<Layout>| Tree::make(trees, order, layout, &folder.root());
    let made = context.sandbox.with_tree_layout(&compiler.tools, make);
    let made = made.map_err(|error| {
        *compiler_gone |= error.kind() == io::ErrorKind::NotFound;
        file_failure("the toolchain's files", &error)
    })?;
    let mut tree = made.map_err(|error| match error {
        TreeError::Refused(why) => failure(Code::Refused, why),
        TreeError::Io(error) => file_failure("the task's tree", &error),
    })?;
    let missing = tree.link_stored(order);
    let missing = missing.map_err(|error| file_failure("an input's file", &error))?;
    (context.on_inputs_missing)(missing.len());
    send(
        context,
        Kind::Need(need_message(context, missing.iter().copied())),
    )?;
    receive_missing(context, &mut tree, trees, missing)?;
    let complete = tree.place_copies(order);
    complete.map_err(|error| file_failure("an input's file", &error))?;
    Ok(tree)
}

/// Takes chunks until the contents of all inputs of `missing` are received. The coordinator
/// sends one after the other, so that one file is open at a time.
fn receive_missing(
    context: &TaskContext,
    tree: &mut Tree<'_>,
    trees: &Trees,
    missing: Vec<usize>,
) -> Result<(), Failure> {
    let order = &context.order;
    let mut missing: BTreeSet<usize> = missing.into_iter().collect();
    let mut open: Option<(usize, Sink<File>)> = None;
    while !missing.is_empty() {
        let chunk = next_chunk(context)?;
        let at = chunk.blob as usize;
        let io = |error: io::Error| {
            if error.kind() == io::ErrorKind::StorageFull {
                // Makes room for the next task.
                let _ = trees.store().evict_old();
                // Idle skeletons have links to what the store gave up.
                trees.drop_idle();
            }
            file_failure("an input's file", &error)
        };
        let wrong = |error: BlobError| match error {
            BlobError::NotAsAnnounced(why) => not_as_announced(context, at, &why),
            BlobError::Io(error) => io(error),
        };
        let mut sink = match open.take() {
            Some((opened, sink)) if opened == at => sink,
            None if tree
                .first_with_content_of(order, at)
                .is_some_and(|at| missing.contains(&at)) =>
            {
                tree.sink(order, at).map_err(io)?
            }
            _ => return Err(failure(Code::Input, format!("no input {at} is expected"))),
        };
        sink.push(&chunk.data).map_err(wrong)?;
        if chunk.last {
            let file = sink.finish().map_err(wrong)?;
            tree.store_received(order, at, &file).map_err(io)?;
            tree.first_with_content_of(order, at)
                .map(|at| missing.remove(&at));
        } else {
            open = Some((at, sink));
        }
    }
    Ok(())
}

/// Waits for the next chunk of an input.
fn next_chunk(context: &TaskContext) -> Result<Arc<Chunk>, Failure> {
    let chunk = context.chunks.recv_blocking();
    chunk.map_err(|_| failure(Code::Cancelled, "cancelled"))
}

fn not_as_announced(context: &TaskContext, at: usize, why: &str) -> Failure {
    let path = &context.order.inputs[at].path;
    failure(Code::Input, format!("input {path:?}: {why}"))
}

/// Makes the folders of inputs and outputs, and an empty file for each input.
fn create_inputs(order: &Order, directory: &Path) -> Result<Vec<Option<Sink<File>>>, Failure> {
    let parents = |path: &Path| match directory.join(path).parent() {
        Some(parent) => fs::create_dir_all(parent),
        None => Ok(()),
    };
    fs::create_dir_all(directory).map_err(|error| file_failure("the working folder", &error))?;
    for output in &order.outputs {
        parents(output).map_err(|error| file_failure("an output's folder", &error))?;
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
        .map(|input| sink(input).map_err(|error| file_failure("an input's file", &error)))
        .collect()
}

/// Takes chunks until every input is complete.
fn receive_all(context: &TaskContext, files: &mut [Option<Sink<File>>]) -> Result<(), Failure> {
    let mut left = files.len();
    while left > 0 {
        let chunk = next_chunk(context)?;
        let at = chunk.blob as usize;
        let wrong = |error: BlobError| match error {
            BlobError::NotAsAnnounced(why) => not_as_announced(context, at, &why),
            BlobError::Io(error) => file_failure("an input's file", &error),
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
    context: &TaskContext,
    folder: &TaskFolder,
    tree: Option<&Tree<'_>>,
    compiler_gone: &mut bool,
) -> Result<CompilerOutput, Failure> {
    let order = &context.order;
    let memory_bytes = match context.memory_bytes {
        0 => u64::MAX,
        bytes => bytes,
    };
    let memory_bytes_max = order
        .memory_bytes_max
        .map_or(memory_bytes, |max| max.min(memory_bytes));
    let file_bytes_max = order
        .output_bytes_max
        .saturating_mul(TEMPORARY_FACTOR)
        .min(hg_proto::wire::limits::OUTPUT_BYTES_MAX);
    let worker_bytes = match context.worker_bytes {
        0 => u64::MAX,
        bytes => bytes,
    };
    let mut totals = Totals::new(
        context.expected_bytes,
        context.share_bytes,
        worker_bytes,
        file_bytes_max,
    );
    totals.memory_bytes_max = totals.memory_bytes_max.min(memory_bytes_max);
    totals = totals.on_disk(vitals::disk_free_bytes(folder.path()), context.slots);
    let limits = ResourceLimits {
        memory_bytes_max,
        file_bytes_max: totals.file_bytes_here_max(),
        cpu_s_max: u64::from(order.wall_ms_max) / 1000 * 2 + 10,
        nice: context.nice,
        totals,
    };
    let compiler = &context.compiler;
    let launch = Launch {
        path_first: compiler.path_first.as_deref(),
        arguments: &order.arguments,
        environment: &order.environment,
        terminal: order.terminal,
        tree,
        ..Launch::new(
            &compiler.driver,
            &compiler.tools,
            folder,
            &order.working_directory,
            limits,
        )
    };
    let is_capped = order.memory_bytes_max.is_some_and(|max| max < memory_bytes);
    let sandbox = &context.sandbox;
    let on_progress = |cpu_us| {
        let begun = progress(context);
        report(context, Begun { cpu_us, ..begun });
    };
    let ran = compile::run(
        sandbox,
        &launch,
        order.wall_ms_max,
        is_capped,
        &context.control,
        &on_progress,
    );
    ran.map_err(|error| match error {
        CompileError::Spawn(error) => {
            // The files that it needs may be others by now, as after an upgrade.
            sandbox.forget_roots(&compiler.tools);
            *compiler_gone |= error.kind() == io::ErrorKind::NotFound;
            let driver = context.compiler.driver.display();
            file_failure(&format!("starting {driver}"), &error)
        }
        CompileError::Failed(failure) => failure,
    })
}

/// Files in the task's folder that are neither inputs nor outputs.
fn unexpected(
    order: &Order,
    folder: &TaskFolder,
    directory: &Path,
) -> Result<Vec<Vec<u8>>, Failure> {
    let known = |name: &Path| {
        order.outputs.iter().any(|output| output == name)
            || order.inputs.iter().any(|input| input.path == name)
    };
    let names = facade::unexpected(&folder.root(), directory, known, UNEXPECTED_MAX)
        .map_err(|error| file_failure("looking for what the compiler made", &error))?;
    Ok(names
        .into_iter()
        .map(|name| OsString::from(name).into_vec())
        .collect())
}

/// Files in the writable folders of a tree that are neither inputs nor outputs.
fn unexpected_in_tree(
    order: &Order,
    folder: &TaskFolder,
    tree: &Tree<'_>,
) -> Result<Vec<Vec<u8>>, Failure> {
    let root = folder.root();
    let known = |name: &Path| {
        let path = tree.path_in_root(name);
        order.outputs.contains(&path) || tree.is_copied(&path)
    };
    let names = facade::unexpected(&root, &root, known, UNEXPECTED_MAX)
        .map_err(|error| file_failure("looking for what the compiler made", &error))?;
    let names = names.iter().map(|name| tree.path_in_root(name));
    Ok(names.map(|name| OsString::from(name).into_vec()).collect())
}

/// Sends the outputs that the compiler made; `locate` gives the path of each on this machine.
fn send_outputs(
    context: &TaskContext,
    folder: &TaskFolder,
    locate: impl Fn(&Path) -> PathBuf,
) -> Result<Vec<Output>, Failure> {
    let mut left = context.order.output_bytes_max;
    let mut outputs = Vec::new();
    for (blob, path) in context.order.outputs.iter().enumerate() {
        let opened = open_output(&folder.root(), &locate(path))
            .map_err(|error| file_failure(&format!("output {path:?}"), &error))?;
        let Some((mut file, size)) = opened else {
            continue;
        };
        let part = |data: &[u8], last| send_part(context, blob as u32, data, last);
        let sent = blobs::send(&mut file, size, left, part).map_err(|error| match error {
            OutputError::Io(error) => file_failure(&format!("output {path:?}"), &error),
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

/// Opens a file that the compiler made at `path`, and gives its length; `None`: it made none.
/// No link is followed, by the last name or on the way, nor is a hard link to a file
/// elsewhere taken: the worker may read more than a compile may.
fn open_output(root: &Path, path: &Path) -> io::Result<Option<(File, u64)>> {
    let not_own = || {
        let why = "not a regular file of the task's own";
        io::Error::new(io::ErrorKind::InvalidData, why)
    };
    let inside = match path.parent().map(Path::canonicalize) {
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Some(parent) => parent?.starts_with(root),
        None => false,
    };
    if !inside {
        return Err(not_own());
    }
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(not_own()),
        Err(error) => return Err(error),
    };
    let stat = file.metadata()?;
    if !stat.is_file() || stat.nlink() != 1 {
        return Err(not_own());
    }
    Ok(Some((file, stat.len())))
}

/// Sends one part of an output, in as many chunks as credit makes of it.
fn send_part(context: &TaskContext, blob: u32, mut data: &[u8], last: bool) -> Result<(), Failure> {
    loop {
        let len = context
            .control
            .take_credit(data.len(), CREDIT_WAIT)
            .map_err(|error| match error {
                NoCredit::Cancelled => failure(Code::Cancelled, "cancelled"),
                NoCredit::TimedOut => failure(Code::Link, "no credit for output came"),
            })?;
        let (now, later) = data.split_at(len);
        data = later;
        let chunk = v1::Chunk {
            dispatch_id: context.dispatch_id,
            blob,
            data: now.to_vec(),
            last: last && data.is_empty(),
        };
        send(context, Kind::Chunk(chunk))?;
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
