//! What is well formed: tasks from clients, hellos and results from workers.
//! Unaware of who sent them.

use std::sync::Arc;

use hg_proto::PROTOCOL_VERSION;
use hg_proto::compiler::shipment;
use hg_proto::v1::{self, Encoding};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits;
use hg_proto::wire::limits::*;
use hg_proto::wire::plain_path::{Collision, collision, is_plain};
use hg_proto::wire::taken_path::taken_by_others;
use hg_proto::wire::trace_id;
use prost::Message;

use crate::bounds::{
    EQUALS_MAX, QUEUE_MS_DEFAULT, QUEUE_MS_MAX, REPORTED_HITS_MAX, REPORTED_REASONS_MAX,
    TASK_MS_DEFAULT,
};
use crate::scheduling::jobs::Demand;
use crate::scheduling::predictor::{Profile, source_key};
use crate::scheduling::registry::WorkerSpec;

/// Bytes that a frame needs beside the task in it.
const DISPATCH_OVERHEAD_BYTES: usize = 64;
/// Bytes that a block of memory takes beside what is in it: a header, and what it is
/// rounded up by.
const BLOCK_OVERHEAD_BYTES: usize = 16;
/// Bytes that a task takes beside its words and paths: itself, its place in the queue,
/// and what its answers wait in.
const TASK_OVERHEAD_BYTES: usize = 2 << 10;
/// Bytes of a name that is listed.
const LABEL_BYTES_MAX: usize = 64;
/// Bytes of the line in which a compiler says its version.
const RELEASE_BYTES_MAX: usize = 160;

/// `text` for people: no control characters, none that turn the direction of what
/// stands around them (Unicode Standard Annex 9), at most `bytes_max` bytes.
pub fn label(text: &str, bytes_max: usize) -> String {
    let turns = |c| matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut out = String::new();
    for c in text.chars().filter(|c| !c.is_control() && !turns(*c)) {
        if out.len() + c.len_utf8() > bytes_max {
            break;
        }
        out.push(c);
    }
    out
}

fn ensure(good: bool, what: &str) -> Result<(), String> {
    if good { Ok(()) } else { Err(what.to_owned()) }
}

/// As [`ensure`], of one of many: words are made only for what is wrong.
fn ensure_of(good: bool, what: &str, why: impl std::fmt::Display) -> Result<(), String> {
    if good {
        Ok(())
    } else {
        Err(format!("{what}: {why}"))
    }
}

/// Milliseconds that `hits` of a client's cache can have saved, of the `saved_ms` that
/// it reports.
///
/// # Errors
/// No client has had so many hits since its last report.
pub fn cache_report(report: &v1::ReportCacheHitRequest) -> Result<u64, String> {
    let is_bounded = report.hits.max(report.misses) <= REPORTED_HITS_MAX;
    ensure(is_bounded, "more hits or misses than a report can have")?;
    let most_ms = report.hits.saturating_mul(COMPILE_MS_MAX.into());
    Ok(report.saved_ms.min(most_ms))
}

/// What a build says of itself.
///
/// # Errors
/// No build can have done that.
pub fn build_report(report: &v1::ReportBuildRequest) -> Result<(), String> {
    let compiles = [report.remote, report.local, report.cached];
    let is_bounded = compiles.iter().all(|count| *count <= REPORTED_HITS_MAX);
    ensure(is_bounded, "more compiles than a build can have")?;
    let few = report.reasons.len() <= REPORTED_REASONS_MAX;
    ensure(few, "more reasons than a build can have")?;
    for reason in &report.reasons {
        let is_bounded = reason.compiles <= REPORTED_HITS_MAX;
        ensure(
            is_bounded,
            "more compiles of a reason than a build can have",
        )?;
        let most_ms = reason.compiles.saturating_mul(COMPILE_MS_MAX.into());
        ensure(
            reason.lost_ms <= most_ms,
            "more time than compiles can take",
        )?;
    }
    Ok(())
}

/// A path inside a task's folder: relative, no "..", no NUL, no empty part. In the
/// tree form, one from the root, and plain.
fn check_path(path: &[u8], tree: bool, what: &str) -> Result<(), String> {
    ensure_of(!path.is_empty(), what, "empty")?;
    let is_long = path.len() > PATH_BYTES_MAX;
    ensure_of(
        !is_long,
        what,
        format_args!("longer than {PATH_BYTES_MAX} bytes"),
    )?;
    ensure_of(!path.contains(&0), what, "contains NUL")?;
    let mut names = path.split(|byte| *byte == b'/');
    ensure_of(
        names.all(|name| name.len() <= FILE_NAME_BYTES_MAX),
        what,
        format_args!("a name longer than {FILE_NAME_BYTES_MAX} bytes"),
    )?;
    if tree {
        ensure_of(is_plain(path), what, "not absolute and plain")?;
        let taken = taken_by_others(path).map(|why| format!("{what}: {why}"));
        return taken.map_or(Ok(()), Err);
    }
    let mut parts = path.split(|byte| *byte == b'/');
    let stays = parts.all(|part| !part.is_empty() && part != b"..");
    ensure_of(stays, what, "leaves the folder")
}

fn check_toolchain(toolchain: &v1::Toolchain) -> Result<Digest, String> {
    ensure(
        toolchain.family() != v1::Family::Unspecified,
        "toolchain: unknown family",
    )?;
    ensure(
        toolchain.language() != v1::Language::Unspecified,
        "toolchain: unknown language",
    )?;
    ensure(
        toolchain.version.len() <= NAME_BYTES_MAX,
        "toolchain: version too long",
    )?;
    ensure(
        toolchain.target.len() <= NAME_BYTES_MAX,
        "toolchain: target too long",
    )?;
    Digest::try_from(&toolchain.digest[..]).map_err(|error| format!("toolchain: {error}"))
}

fn check_equals(toolchain: &v1::Toolchain) -> Result<Vec<Digest>, String> {
    let equals = &toolchain.equals;
    ensure(equals.len() <= EQUALS_MAX, "toolchain: too many equals")?;
    let digest = |bytes: &Vec<u8>| Digest::try_from(&bytes[..]);
    let digests: Result<Vec<Digest>, _> = equals.iter().map(digest).collect();
    digests.map_err(|error| format!("toolchain: equals: {error}"))
}

fn check_blob(digest: &[u8], size: u64, encoding: i32, encoded_size: u64) -> Result<(), String> {
    Digest::try_from(digest).map_err(|error| error.to_string())?;
    let fits = match Encoding::try_from(encoding) {
        Ok(Encoding::Identity) => encoded_size == size,
        // zstd never grows a content by more than this (ZSTD_COMPRESSBOUND).
        Ok(Encoding::Zstd) => encoded_size > 0 && encoded_size <= size + (size >> 8) + 1_024,
        Err(_) => return Err("unknown encoding".into()),
    };
    ensure(fits, "encoded size does not fit the size")
}

fn check_inputs(task: &v1::Task) -> Result<(), String> {
    let (count_max, bytes_max) = match (&task.shipment, task.tree) {
        (Some(_), _) => (SHIPMENT_FILES_MAX, SHIPMENT_BYTES_MAX),
        (None, true) => (TREE_INPUTS_MAX, TREE_BYTES_MAX),
        (None, false) => (INPUTS_MAX, u64::MAX),
    };
    ensure(task.inputs.len() <= count_max, "too many inputs")?;
    let mut bytes = 0u64;
    for input in &task.inputs {
        check_path(&input.path, task.tree, "input path")?;
        ensure(input.size <= INPUT_BYTES_MAX, "input too large")?;
        bytes += input.size;
        check_blob(
            &input.digest,
            input.size,
            input.encoding,
            input.encoded_size,
        )
        .map_err(|why| format!("input: {why}"))?;
    }
    ensure(bytes <= bytes_max, "inputs too large together")
}

/// A toolchain for a worker: well formed, its contents the inputs, and no compile.
fn check_shipment(task: &v1::Task) -> Result<(), String> {
    let Some(shipment) = &task.shipment else {
        return Ok(());
    };
    shipment::check(shipment)?;
    ensure(task.tree, "shipment: not in the tree form")?;
    let is_compile =
        !task.arguments.is_empty() || !task.outputs.is_empty() || !task.folders.is_empty();
    ensure(!is_compile, "shipment: a compile too")?;
    let inputs = task.inputs.iter();
    let inputs = inputs.map(|input| Some((Digest::try_from(&input.digest[..]).ok()?, input.size)));
    let contents = shipment::contents(shipment).into_iter().map(Some);
    ensure(
        inputs.eq(contents),
        "shipment: inputs that are not its contents",
    )
}

fn check_outputs(task: &v1::Task) -> Result<(), String> {
    ensure(task.outputs.len() <= OUTPUTS_MAX, "too many outputs")?;
    for output in &task.outputs {
        check_path(output, task.tree, "output path")?;
    }
    Ok(())
}

/// No file lies at the place of another one, below it, or in place of a folder.
fn check_folders(task: &v1::Task) -> Result<(), String> {
    let count_max = if task.tree { TREE_FOLDERS_MAX } else { 0 };
    ensure(task.folders.len() <= count_max, "too many folders")?;
    for folder in &task.folders {
        check_path(folder, true, "folder")?;
    }
    let inputs = task.inputs.iter().map(|input| &input.path[..]);
    let outputs = task.outputs.iter().map(|output| &output[..]);
    // Otherwise all other paths start from the working directory.
    let own = task.tree.then_some(&task.working_directory);
    let folders = task.folders.iter().chain(own);
    match collision(inputs.chain(outputs), folders.map(|folder| &folder[..])) {
        None => Ok(()),
        Some(Collision::Twice(_)) => Err("two files at one path".into()),
        Some(Collision::Below(_)) => Err("a file below a file".into()),
        Some(Collision::Folder(_)) => Err("a file in place of a folder".into()),
    }
}

fn check_arguments(task: &v1::Task) -> Result<(), String> {
    ensure(task.arguments.len() <= ARGUMENTS_MAX, "too many arguments")?;
    let bytes: usize = task.arguments.iter().map(Vec::len).sum();
    ensure(bytes <= ARGUMENT_BYTES_MAX, "arguments too long")?;
    let is_short = |argument: &Vec<u8>| argument.len() <= ARGUMENT_LENGTH_MAX;
    ensure(task.arguments.iter().all(is_short), "argument too long")?;
    ensure(
        !task.arguments.iter().any(|arg| arg.contains(&0)),
        "argument with NUL",
    )?;
    ensure(
        task.environment.len() <= ENVIRONMENT_MAX,
        "too many environment variables",
    )?;
    for variable in &task.environment {
        let (name, value) = (&variable.name, &variable.value);
        ensure(
            name.len() + value.len() <= ENVIRONMENT_BYTES_MAX,
            "environment variable too long",
        )?;
        let shaped = !name.is_empty() && !name.contains(&b'=');
        ensure(
            shaped && !name.contains(&0) && !value.contains(&0),
            "malformed environment variable",
        )?;
    }
    Ok(())
}

/// Checks a task against every bound of the wire and says what it asks of the
/// grid. `holder` is who sends it, by proof; `peer` stands for a client that does
/// not name itself.
///
/// # Errors
/// What is wrong, for the client's user.
pub fn task(task: &v1::Task, holder: &str, peer: &str) -> Result<Demand, String> {
    if !trace_id::are_well_formed(&task.trace_id, &task.parent_span_id) {
        return Err("trace_id has 16 bytes and parent_span_id 8, or none".into());
    }
    let toolchain = task.toolchain.as_ref().ok_or("toolchain: missing")?;
    ensure(
        toolchain.tree == task.tree,
        "toolchain: of the other form of a task",
    )?;
    let shipment = match &toolchain.shipment[..] {
        [] => None,
        digest => {
            let digest = Digest::try_from(digest);
            Some(digest.map_err(|error| format!("toolchain: shipment: {error}"))?)
        }
    };
    let equals = check_equals(toolchain)?;
    let wanted = v1::Toolchain {
        version: label(&toolchain.version, LABEL_BYTES_MAX),
        target: label(&toolchain.target, LABEL_BYTES_MAX),
        release: label(&toolchain.release, LABEL_BYTES_MAX),
        equals: Vec::new(),
        ..toolchain.clone()
    };
    let toolchain = check_toolchain(toolchain)?;
    check_arguments(task)?;
    check_shipment(task)?;
    if task.tree || !task.working_directory.is_empty() {
        check_path(&task.working_directory, task.tree, "working directory")?;
    }
    check_inputs(task)?;
    check_outputs(task)?;
    check_folders(task)?;
    let limits = task.limits.unwrap_or_default();
    ensure(
        limits.wall_ms_max <= COMPILE_MS_MAX,
        "limits: wall time too long",
    )?;
    ensure(
        limits.output_bytes_max <= OUTPUT_BYTES_MAX,
        "limits: too much output",
    )?;
    ensure(
        task.source.len() <= SOURCE_BYTES_MAX,
        "source: name too long",
    )?;
    ensure(task.client.len() <= NAME_BYTES_MAX, "client: name too long")?;
    ensure(
        task.encoded_len() + DISPATCH_OVERHEAD_BYTES <= limits::FRAME_BYTES_MAX,
        "task too large",
    )?;
    let compile_ms = match limits.wall_ms_max {
        0 => COMPILE_MS_DEFAULT,
        some => some,
    };
    let varies = varies(task, &wanted);
    Ok(Demand {
        holder: Arc::from(holder),
        client: Arc::from(if task.client.is_empty() {
            peer
        } else {
            &task.client
        }),
        toolchain,
        wanted: Arc::new(wanted),
        shipment,
        equals,
        same: None,
        varies,
        delivers: task.shipment.is_some(),
        bytes: held_bytes(task),
        queue_ms_max: match task.queue_ms_max {
            0 => QUEUE_MS_DEFAULT,
            some => u64::from(some).min(QUEUE_MS_MAX),
        },
        compile_ms_max: u64::from(compile_ms),
        task_ms_max: match task.task_ms_max {
            0 => TASK_MS_DEFAULT,
            some => u64::from(some).min(TASK_MS_DEFAULT),
        },
        profile: profile(task, &toolchain),
        client_speed: f64::from(task.client_speed_milli) / 1e3,
    })
}

/// Whether the compiler puts a number of its own choice into what it makes: gcc does for these
/// options, unless it is given one.
fn varies(task: &v1::Task, wanted: &v1::Toolchain) -> bool {
    const CHOOSE: [&[u8]; 4] = [b"-flto", b"--coverage", b"-ftest-coverage", b"-fprofile-"];
    let has = |start: &[u8]| task.arguments.iter().any(|word| word.starts_with(start));
    wanted.family() == v1::Family::Gcc && CHOOSE.into_iter().any(has) && !has(b"-frandom-seed=")
}

/// Bytes of memory that a task takes while it waits, which is several times what it was
/// on the wire: each of its words and paths is a block of its own, with a pointer to it,
/// and what it was read from stays with its stream.
fn held_bytes(task: &v1::Task) -> usize {
    let block = |bytes: &Vec<u8>| bytes.capacity() + BLOCK_OVERHEAD_BYTES;
    let blocks = |all: &Vec<Vec<u8>>| {
        all.capacity() * size_of::<Vec<u8>>() + all.iter().map(block).sum::<usize>()
    };
    let inputs = task.inputs.iter();
    let inputs = inputs.map(|input| block(&input.path) + block(&input.digest));
    let variables = task.environment.iter();
    let variables = variables.map(|variable| block(&variable.name) + block(&variable.value));
    TASK_OVERHEAD_BYTES
        + task.encoded_len()
        + blocks(&task.arguments)
        + blocks(&task.outputs)
        + blocks(&task.folders)
        + task.inputs.capacity() * size_of::<v1::Input>()
        + inputs.sum::<usize>()
        + task.environment.capacity() * size_of::<v1::EnvironmentVariable>()
        + variables.sum::<usize>()
        + task.source.capacity()
        + task.working_directory.capacity()
        + task.shipment.as_ref().map_or(0, held_by_shipment)
}

fn held_by_shipment(shipment: &v1::Shipment) -> usize {
    let file = |file: &v1::ShippedFile| {
        // Its kind is a digest or a link, in a block of its own.
        size_of::<v1::ShippedFile>() + file.encoded_len() + 2 * BLOCK_OVERHEAD_BYTES
    };
    shipment.files.iter().map(file).sum()
}

/// What can be told of a compile's cost before it runs.
fn profile(task: &v1::Task, toolchain: &Digest) -> Profile {
    let language = task.toolchain.as_ref().map(v1::Toolchain::language);
    // In the tree form most headers are there already, and the source is first.
    let travels = if task.tree { 1 } else { task.inputs.len() };
    // What is brought is kept, not compiled.
    let all = if task.shipment.is_some() {
        0
    } else {
        usize::MAX
    };
    let sum = |count, bytes: fn(&v1::Input) -> u64| task.inputs.iter().take(count).map(bytes).sum();
    Profile {
        source: source_key(&task.source, toolchain, &task.arguments),
        cxx: language == Some(v1::Language::Cxx),
        input_bytes: sum(all, |input| input.size),
        travel_bytes: sum(travels.min(all), |input| input.encoded_size),
    }
}

/// Toolchains as they are listed: each once, with the word whether it takes tasks of
/// the tree form too.
fn listed(toolchains: Vec<v1::Toolchain>) -> Vec<v1::Toolchain> {
    let is_tree_form = |toolchain: &v1::Toolchain| toolchain.tree && toolchain.shipment.is_empty();
    let (tree_forms, mut listed): (Vec<_>, Vec<_>) = toolchains.into_iter().partition(is_tree_form);
    for toolchain in listed.iter_mut().filter(|toolchain| !toolchain.tree) {
        let own = toolchain.clone();
        let is_same = |other: &v1::Toolchain| {
            let other = v1::Toolchain {
                digest: own.digest.clone(),
                tree: false,
                ..other.clone()
            };
            other == own
        };
        let its = tree_forms.iter().filter(|other| is_same(other));
        toolchain.tree_digests = its.map(|other| other.digest.clone()).collect();
        toolchain.tree = !toolchain.tree_digests.is_empty();
    }
    listed
}

/// Checks a hello and makes of it what is kept.
///
/// # Errors
/// What is wrong, for the worker's operator.
pub fn hello(hello: v1::Hello, address: String) -> Result<WorkerSpec, String> {
    let version = hello.protocol_version;
    let spoken = version != 0 && version.abs_diff(PROTOCOL_VERSION) <= 1;
    ensure(
        spoken,
        &format!("protocol version {version}, here it is {PROTOCOL_VERSION}"),
    )?;
    let instance =
        <[u8; 16]>::try_from(&hello.instance[..]).map_err(|_| "instance: not 16 bytes")?;
    ensure(
        (1..=SLOTS_MAX).contains(&hello.slots),
        &format!("slots: not 1 to {SLOTS_MAX}"),
    )?;
    let (toolchains, mut digests) = offers(hello.toolchains)?;
    let shipping = match &hello.shipping[..] {
        [] => None,
        digest => Some(Digest::try_from(digest).map_err(|error| format!("shipping: {error}"))?),
    };
    digests.extend(shipping);
    digests.sort_unstable();
    digests.dedup();
    Ok(WorkerSpec {
        // Known to whoever let it in, and nothing that it says.
        holder: String::new(),
        instance,
        name: label(&hello.name, LABEL_BYTES_MAX),
        version: label(&hello.program_version, LABEL_BYTES_MAX),
        architecture: label(&hello.architecture, LABEL_BYTES_MAX),
        os: label(&hello.os, LABEL_BYTES_MAX),
        sandbox: label(&hello.sandbox, LABEL_BYTES_MAX),
        machine: machine(*hello.machine.unwrap_or_default()),
        address,
        cores: hello.cores,
        memory_bytes: hello.memory_bytes,
        slots: hello.slots,
        speed_milli: hello.speed_milli,
        toolchains,
        shipping,
        own_metrics: hello.own_metrics,
        digests,
    })
}

/// What a worker says of its machine, for people.
fn machine(mut said: v1::Machine) -> v1::Machine {
    said.kernel_architecture = label(&said.kernel_architecture, LABEL_BYTES_MAX);
    said.emulator = label(&said.emulator, LABEL_BYTES_MAX);
    said.core_kinds.truncate(CORE_KINDS_MAX);
    said
}

/// Checks what a worker says that it compiles with: for listings, and the digests under
/// which it gets tasks.
///
/// # Errors
/// What is wrong, for the worker's operator.
pub fn offers(
    mut toolchains: Vec<v1::Toolchain>,
) -> Result<(Vec<v1::Toolchain>, Vec<Digest>), String> {
    ensure(toolchains.len() <= TOOLCHAINS_MAX, "too many toolchains")?;
    let mut digests = Vec::with_capacity(toolchains.len());
    for toolchain in &mut toolchains {
        digests.push(check_toolchain(toolchain)?);
        let is_own = toolchain.shipment.is_empty();
        ensure(
            is_own || toolchain.shipment == toolchain.digest,
            "toolchain: a shipment of another digest",
        )?;
        toolchain.version = label(&toolchain.version, LABEL_BYTES_MAX);
        toolchain.target = label(&toolchain.target, LABEL_BYTES_MAX);
        toolchain.release = label(&toolchain.release, RELEASE_BYTES_MAX);
        toolchain.image = label(&toolchain.image, RELEASE_BYTES_MAX);
        // For lists alone, and for tasks alone.
        toolchain.tree_digests.clear();
        toolchain.equals.clear();
    }
    digests.sort_unstable();
    digests.dedup();
    Ok((listed(toolchains), digests))
}

/// Checks a result against its task and against the bytes that came for each
/// of the task's outputs (`None`: not all of it, or nothing).
///
/// # Errors
/// What the worker did wrong.
pub fn result(
    task: &v1::Task,
    result: &v1::TaskResult,
    received: impl Fn(usize) -> Option<u64>,
) -> Result<(), String> {
    ensure(
        result.stdout.len() <= STDIO_BYTES_MAX,
        "result: stdout too long",
    )?;
    ensure(
        result.stderr.len() <= STDIO_BYTES_MAX,
        "result: stderr too long",
    )?;
    let mut wanted = task.outputs.iter().enumerate();
    for output in &result.outputs {
        let Some((index, _)) = wanted.find(|(_, path)| **path == output.path) else {
            return Err("result: an output that was not asked for, or out of order".into());
        };
        check_blob(
            &output.digest,
            output.size,
            output.encoding,
            output.encoded_size,
        )
        .map_err(|why| format!("result: output {index}: {why}"))?;
        let came = received(index) == Some(output.encoded_size);
        ensure(
            came,
            &format!("result: output {index} is not what came before it"),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_of_hits_are_bounded() {
        let saved_ms = |hits, misses, saved_ms| {
            let client = String::new();
            cache_report(&v1::ReportCacheHitRequest {
                client,
                hits,
                saved_ms,
                misses,
            })
        };
        assert_eq!(saved_ms(2, 0, 100), Ok(100));
        assert_eq!(saved_ms(0, 5, u64::MAX), Ok(0));
        let most = REPORTED_HITS_MAX * u64::from(COMPILE_MS_MAX);
        assert_eq!(saved_ms(REPORTED_HITS_MAX, 0, u64::MAX), Ok(most));
        assert!(saved_ms(REPORTED_HITS_MAX + 1, 0, 0).is_err());
        assert!(saved_ms(0, REPORTED_HITS_MAX + 1, 0).is_err());
        assert!(saved_ms(1 << 63, 0, 0).is_err());
    }

    #[test]
    fn reports_of_builds_are_bounded() {
        let reason = |compiles, lost_ms| v1::LocalReason {
            reason: "queue".into(),
            compiles,
            lost_ms,
        };
        let with = |reasons| v1::ReportBuildRequest {
            local: 2,
            reasons,
            ..v1::ReportBuildRequest::default()
        };
        assert_eq!(build_report(&with(vec![reason(2, 900)])), Ok(()));
        assert!(build_report(&with(vec![reason(0, 1)])).is_err());
        assert!(build_report(&with(vec![reason(1 << 40, 1)])).is_err());
        assert!(build_report(&with(vec![reason(1, 1); REPORTED_REASONS_MAX + 1])).is_err());
        let many = v1::ReportBuildRequest {
            cached: 1 << 40,
            ..with(Vec::new())
        };
        assert!(build_report(&many).is_err());
    }

    fn digest() -> Vec<u8> {
        vec![7; 32]
    }

    fn toolchain() -> v1::Toolchain {
        v1::Toolchain {
            family: v1::Family::Gcc.into(),
            version: "12.2.0".into(),
            target: "x86_64-linux-gnu".into(),
            language: v1::Language::C.into(),
            digest: digest(),
            ..v1::Toolchain::default()
        }
    }

    fn input(path: &[u8]) -> v1::Input {
        v1::Input {
            path: path.to_vec(),
            digest: digest(),
            size: 10,
            encoding: Encoding::Identity.into(),
            encoded_size: 10,
        }
    }

    fn good() -> v1::Task {
        v1::Task {
            toolchain: Some(toolchain()),
            arguments: vec![b"-c".to_vec(), b"foo.c".to_vec()],
            inputs: vec![input(b"foo.c")],
            outputs: vec![b"foo.o".to_vec(), b"foo.su".to_vec()],
            ..v1::Task::default()
        }
    }

    #[test]
    fn a_good_task_passes_with_its_defaults() {
        let demand = task(&good(), "holder", "peer").unwrap();
        assert_eq!(&*demand.client, "peer");
        assert_eq!(demand.queue_ms_max, QUEUE_MS_DEFAULT);
        assert_eq!(demand.compile_ms_max, u64::from(COMPILE_MS_DEFAULT));
        // Paths start from the working directory, whose name one of them may have.
        let beside = v1::Task {
            working_directory: b"src".to_vec(),
            inputs: vec![input(b"src")],
            ..good()
        };
        assert!(task(&beside, "holder", "peer").is_ok());
        let named = v1::Task {
            client: "me".into(),
            queue_ms_max: u32::MAX,
            ..good()
        };
        let demand = task(&named, "holder", "peer").unwrap();
        assert_eq!((&*demand.client, demand.queue_ms_max), ("me", QUEUE_MS_MAX));
    }

    #[test]
    fn every_bound_of_a_task_is_checked() {
        type Spoil = (&'static str, fn(&mut v1::Task));
        let spoils: &[Spoil] = &[
            ("toolchain: missing", |t| t.toolchain = None),
            ("family", |t| t.toolchain.as_mut().unwrap().family = 9),
            ("language", |t| t.toolchain.as_mut().unwrap().language = 0),
            ("32 bytes", |t| {
                t.toolchain.as_mut().unwrap().digest = vec![1; 31]
            }),
            ("version too long", |t| {
                t.toolchain.as_mut().unwrap().version = "v".repeat(257)
            }),
            ("too many arguments", |t| {
                t.arguments = vec![Vec::new(); ARGUMENTS_MAX + 1]
            }),
            ("arguments too long", |t| {
                t.arguments = vec![vec![1; ARGUMENT_BYTES_MAX + 1]]
            }),
            ("argument too long", |t| {
                t.arguments.push(vec![1; ARGUMENT_LENGTH_MAX + 1])
            }),
            ("argument with NUL", |t| t.arguments.push(vec![0])),
            ("leaves the folder", |t| {
                t.working_directory = b"/etc".to_vec()
            }),
            ("too many inputs", |t| {
                t.inputs = vec![input(b"x"); INPUTS_MAX + 1]
            }),
            ("two files at one path", |t| t.inputs.push(input(b"foo.c"))),
            ("leaves the folder", |t| {
                t.inputs[0].path = b"a/../../b".to_vec()
            }),
            ("leaves the folder", |t| t.inputs[0].path = b"a//b".to_vec()),
            ("longer than", |t| {
                t.inputs[0].path = vec![b'a'; PATH_BYTES_MAX + 1]
            }),
            ("contains NUL", |t| t.inputs[0].path = b"a\0".to_vec()),
            ("a name longer than", |t| {
                t.inputs[0].path = [&b"a/"[..], &[b'b'; FILE_NAME_BYTES_MAX + 1]].concat()
            }),
            ("32 bytes", |t| t.inputs[0].digest.clear()),
            ("input too large", |t| {
                t.inputs[0].size = INPUT_BYTES_MAX + 1
            }),
            ("unknown encoding", |t| t.inputs[0].encoding = 5),
            ("encoded size", |t| t.inputs[0].encoded_size = 11),
            ("encoded size", |t| {
                t.inputs[0].encoding = Encoding::Zstd.into();
                t.inputs[0].encoded_size = 2_000;
            }),
            ("too many outputs", |t| {
                t.outputs = vec![b"o".to_vec(); OUTPUTS_MAX + 1]
            }),
            ("two files at one path", |t| {
                t.outputs.push(b"foo.o".to_vec())
            }),
            ("empty", |t| t.outputs[0].clear()),
            ("too many environment", |t| {
                t.environment = vec![Default::default(); 33]
            }),
            ("malformed", |t| t.environment = vec![Default::default()]),
            ("wall time", |t| {
                t.limits.get_or_insert_default().wall_ms_max = COMPILE_MS_MAX + 1
            }),
            ("too much output", |t| {
                t.limits.get_or_insert_default().output_bytes_max = u64::MAX
            }),
            ("source", |t| t.source = "s".repeat(SOURCE_BYTES_MAX + 1)),
            ("client", |t| t.client = "c".repeat(NAME_BYTES_MAX + 1)),
        ];
        for (what, spoil) in spoils {
            let mut spoiled = good();
            spoil(&mut spoiled);
            let error = task(&spoiled, "holder", "peer").expect_err(what);
            assert!(error.contains(what), "{what}: {error}");
        }
    }

    fn tree() -> v1::Task {
        v1::Task {
            toolchain: Some(v1::Toolchain {
                tree: true,
                ..toolchain()
            }),
            tree: true,
            working_directory: b"/w".to_vec(),
            inputs: vec![input(b"/w/foo.c"), input(b"/usr/include/stdio.h")],
            outputs: vec![b"/w/foo.o".to_vec()],
            folders: vec![b"/w/include".to_vec()],
            ..good()
        }
    }

    #[test]
    fn a_task_counts_as_what_it_takes_in_memory() {
        use prost::Message;
        let mut many = tree();
        let paths = (0..TREE_INPUTS_MAX).map(|n| format!("/w/{n}.h"));
        many.inputs = paths.map(|path| input(path.as_bytes())).collect();
        let arguments = (0..3000).map(|n| format!("-DA{n}").into_bytes());
        many.arguments.extend(arguments);
        // As it comes.
        let many = v1::Task::decode(&many.encode_to_vec()[..]).unwrap();
        let demand = task(&many, "holder", "peer").unwrap();
        let least = TREE_INPUTS_MAX * (size_of::<v1::Input>() + 32) + 3000 * size_of::<Vec<u8>>();
        assert!(demand.bytes > least, "{} of {least}", demand.bytes);
        assert!(demand.bytes > 2 * many.encoded_len(), "{}", demand.bytes);
    }

    #[test]
    fn a_task_of_the_tree_form_has_bounds_of_its_own() {
        let demand = task(&tree(), "holder", "peer").unwrap();
        // Of what travels the source alone is certain.
        let profile = demand.profile;
        assert_eq!((profile.input_bytes, profile.travel_bytes), (20, 10));
        let mut many = tree();
        let paths = (0..TREE_INPUTS_MAX).map(|n| format!("/usr/include/long/enough/{n}.h"));
        many.inputs = paths.map(|path| input(path.as_bytes())).collect();
        assert!(task(&many, "holder", "peer").is_ok());
        many.inputs[5].path = b"/usr/include/long".to_vec();
        assert!(
            task(&many, "holder", "peer")
                .unwrap_err()
                .contains("below a file")
        );
        type Spoil = (&'static str, fn(&mut v1::Task));
        let spoils: &[Spoil] = &[
            ("other form", |t| {
                t.toolchain.as_mut().unwrap().tree = false;
            }),
            ("other form", |t| t.tree = false),
            ("empty", |t| t.working_directory.clear()),
            ("not absolute and plain", |t| {
                t.working_directory = b"/".to_vec();
            }),
            ("not absolute and plain", |t| {
                t.inputs[0].path = b"foo.c".to_vec();
            }),
            ("not absolute and plain", |t| {
                t.outputs[0] = b"/w/../foo.o".to_vec();
            }),
            ("not absolute and plain", |t| {
                t.folders[0] = b"/w//x".to_vec();
            }),
            ("too many inputs", |t| {
                t.inputs = vec![input(b"/x"); TREE_INPUTS_MAX + 1];
            }),
            ("too large together", |t| {
                for input in &mut t.inputs {
                    input.size = TREE_BYTES_MAX / 2 + 1;
                    input.encoded_size = input.size;
                }
            }),
            ("too many folders", |t| {
                t.folders = vec![b"/x".to_vec(); TREE_FOLDERS_MAX + 1];
            }),
            ("two files at one path", |t| {
                t.inputs[0].path = t.inputs[1].path.clone()
            }),
            ("two files at one path", |t| {
                t.outputs[0] = b"/w/foo.c".to_vec();
            }),
            ("below a file", |t| t.outputs[0] = b"/w/foo.c/o".to_vec()),
            ("below a file", |t| t.outputs[0] = b"/usr/include".to_vec()),
            ("below a file", |t| t.inputs[0].path = b"/usr".to_vec()),
            ("in place of a folder", |t| {
                t.folders[0] = b"/w/foo.c/x".to_vec();
            }),
            ("in place of a folder", |t| {
                t.folders[0] = b"/w/foo.o".to_vec();
            }),
            ("in place of a folder", |t| {
                t.working_directory = b"/w/foo.c".to_vec();
            }),
        ];
        for (what, spoil) in spoils {
            let mut spoiled = tree();
            spoil(&mut spoiled);
            let error = task(&spoiled, "holder", "peer").expect_err(what);
            assert!(error.contains(what), "{what}: {error}");
        }
        let folders = v1::Task {
            folders: vec![b"x".to_vec()],
            ..good()
        };
        assert!(
            task(&folders, "holder", "peer")
                .unwrap_err()
                .contains("folders")
        );
        // One that no frame could carry.
        let long = format!("/{}", "d".repeat(200)).repeat(5);
        let paths = (0..TREE_INPUTS_MAX).map(|n| format!("{long}/{n}.h"));
        many.inputs = paths.map(|path| input(path.as_bytes())).collect();
        assert_eq!(task(&many, "holder", "peer").unwrap_err(), "task too large");
    }

    #[test]
    fn gccs_own_numbers_vary() {
        let of = |family: v1::Family, words: &str| {
            let task = v1::Task {
                arguments: words.split(' ').map(|word| word.into()).collect(),
                ..v1::Task::default()
            };
            let wanted = v1::Toolchain {
                family: family.into(),
                ..toolchain()
            };
            varies(&task, &wanted)
        };
        for words in [
            "-O2 -flto=auto -c a.c",
            "--coverage -c a.c",
            "-fprofile-arcs -c a.c",
        ] {
            assert!(of(v1::Family::Gcc, words), "{words}");
            assert!(!of(v1::Family::Clang, words), "{words}");
            let seeded = format!("{words} -frandom-seed=a.o");
            assert!(!of(v1::Family::Gcc, &seeded), "{seeded}");
        }
        assert!(!of(v1::Family::Gcc, "-O2 -g -c a.c"));
    }

    #[test]
    fn labels_are_short_and_printable() {
        assert_eq!(label("a\x1b[31m\nb\u{7f}", 100), "a[31mb");
        assert_eq!(label("äää", 5), "ää");
        assert_eq!(label("a\u{202e}b\u{2066}c\u{200f}", 100), "abc");
    }

    #[test]
    fn hellos_are_checked() {
        let good = v1::Hello {
            protocol_version: PROTOCOL_VERSION,
            name: "pi\n4".into(),
            instance: vec![1; 16],
            slots: 4,
            sandbox: "fu\x1bll".into(),
            toolchains: vec![toolchain(), toolchain()],
            ..v1::Hello::default()
        };
        let spec = hello(good.clone(), "a".into()).unwrap();
        assert_eq!((spec.name.as_str(), spec.digests.len()), ("pi4", 1));
        assert_eq!(spec.sandbox, "full");
        let in_place = v1::Toolchain {
            tree: true,
            digest: vec![8; 32],
            ..toolchain()
        };
        let cxx = v1::Toolchain {
            language: v1::Language::Cxx.into(),
            digest: vec![9; 32],
            ..toolchain()
        };
        let both = v1::Hello {
            toolchains: vec![toolchain(), in_place, cxx],
            ..good.clone()
        };
        let spec = hello(both, "a".into()).unwrap();
        let listed = spec.toolchains.iter().map(|t| (t.digest[0], t.tree));
        assert_eq!(listed.collect::<Vec<_>>(), [(7, true), (9, false)]);
        assert_eq!(spec.digests.len(), 3);
        let bad = [
            v1::Hello {
                protocol_version: 0,
                ..good.clone()
            },
            v1::Hello {
                protocol_version: PROTOCOL_VERSION + 2,
                ..good.clone()
            },
            v1::Hello {
                instance: vec![1; 15],
                ..good.clone()
            },
            v1::Hello {
                slots: 0,
                ..good.clone()
            },
            v1::Hello {
                slots: SLOTS_MAX + 1,
                ..good.clone()
            },
            v1::Hello {
                toolchains: vec![toolchain(); TOOLCHAINS_MAX + 1],
                ..good.clone()
            },
        ];
        for bad in bad {
            assert!(hello(bad.clone(), "a".into()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn results_must_match_what_came() {
        let output = |path: &[u8]| v1::Output {
            path: path.to_vec(),
            digest: digest(),
            size: 5,
            encoding: Encoding::Identity.into(),
            encoded_size: 5,
        };
        let with = |outputs| v1::TaskResult {
            outputs,
            ..v1::TaskResult::default()
        };
        let came = |_| Some(5);
        let both = with(vec![output(b"foo.o"), output(b"foo.su")]);
        assert_eq!(result(&good(), &both, came), Ok(()));
        assert_eq!(
            result(&good(), &with(vec![output(b"foo.su")]), came),
            Ok(())
        );
        assert!(result(&good(), &both, |_| Some(4)).is_err());
        assert!(result(&good(), &both, |_| None).is_err());
        let swapped = with(vec![output(b"foo.su"), output(b"foo.o")]);
        assert!(result(&good(), &swapped, came).is_err());
        assert!(result(&good(), &with(vec![output(b"bar.o")]), came).is_err());
        let chatty = v1::TaskResult {
            stderr: vec![0; STDIO_BYTES_MAX + 1],
            ..with(vec![])
        };
        assert!(result(&good(), &chatty, came).is_err());
    }
}
