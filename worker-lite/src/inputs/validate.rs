//! Checks a task as it was received: it becomes an order that is safe to carry out, or is
//! refused. The worker trusts nobody: that the coordinator has checked too does not count.
//! Pure: no files, no processes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use hg_proto::options::args::{self, Dialect, Language};
use hg_proto::v1::{self, Encoding, failure::Code};
use hg_proto::wire::digest::Digest;
use hg_proto::wire::limits::{
    ARGUMENT_BYTES_MAX, ARGUMENT_LENGTH_MAX, ARGUMENTS_MAX, COMPILE_MS_DEFAULT, COMPILE_MS_MAX,
    ENVIRONMENT_BYTES_MAX, ENVIRONMENT_MAX, FILE_NAME_BYTES_MAX, INPUT_BYTES_MAX, INPUTS_MAX,
    OUTPUT_BYTES_MAX, OUTPUTS_MAX, PATH_BYTES_MAX, SHIPMENT_FILES_MAX, TREE_BYTES_MAX,
    TREE_FOLDERS_MAX, TREE_INPUTS_MAX,
};
use hg_proto::wire::plain_path::{Collision, collision};
use hg_proto::wire::taken_path::taken_by_others;

/// Names on one path: bounds how deep a task's tree is.
pub const PATH_DEPTH_MAX: usize = 64;

/// An input file of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Path relative to the working directory; in the tree form absolute.
    pub path: PathBuf,
    /// Digest of the decoded content.
    pub digest: Digest,
    /// Bytes of the decoded content.
    pub size: u64,
    /// Encoding in which the content travels.
    pub encoding: Encoding,
    /// Bytes of the encoded content.
    pub encoded_size: u64,
}

/// A task that has passed every check, in the worker's own types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Identity of the compiler.
    pub toolchain: Digest,
    /// The client takes that compiler for its own, which it is not: in the tree form,
    /// what its own would find around itself comes with the task.
    pub is_equal: bool,
    /// argv of the compiler, without the program's name.
    pub arguments: Vec<OsString>,
    /// The task is of the tree form: every path is absolute.
    pub tree: bool,
    /// Working directory relative to the task's folder; empty: the folder itself.
    pub working_directory: PathBuf,
    /// Input files: their paths are distinct, and none lies below another.
    pub inputs: Vec<Input>,
    /// Output files, relative to the working directory: distinct, and none is an input.
    pub outputs: Vec<PathBuf>,
    /// Tree form: folders that must exist, with or without files.
    pub folders: Vec<PathBuf>,
    /// Environment variables that may travel.
    pub environment: Vec<(OsString, OsString)>,
    /// Columns of the terminal that stderr is to be; `None`: a pipe.
    pub terminal: Option<u16>,
    /// Milliseconds from the compiler's start to its end.
    pub wall_ms_max: u32,
    /// Bytes of address space of each process; `None`: the worker's own bound.
    pub memory_bytes_max: Option<u64>,
    /// Bytes of all outputs together.
    pub output_bytes_max: u64,
    /// By which lines of logs about it are found, as [`hg_proto::wire::trace_id::mark`] has it.
    pub trace_id: Vec<u8>,
}

/// A failure with `code`, as it is sent to the coordinator.
pub fn failure(code: Code, detail: impl Into<String>) -> v1::Failure {
    v1::Failure {
        code: code.into(),
        detail: detail.into(),
        ..v1::Failure::default()
    }
}

fn refused(detail: impl Into<String>) -> v1::Failure {
    failure(Code::Refused, detail)
}

/// Tasks that a toolchain of this machine accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    /// How its command line is parsed.
    pub dialect: Dialect,
    /// Language that it compiles.
    pub language: Language,
    /// It accepts tasks of the tree form only; otherwise, only others.
    pub tree: bool,
}

/// Checks `task`; `accepts` gives what the toolchain with a digest accepts, `None` if this
/// machine has no such toolchain.
///
/// # Errors
/// The failure to answer with: `REFUSED` or `NO_TOOLCHAIN`.
pub fn validate(
    task: v1::Task,
    accepts: impl Fn(&Digest) -> Option<Accepts>,
) -> Result<Order, v1::Failure> {
    let toolchain = task.toolchain.as_ref().map_or(&[][..], |t| &t.digest);
    let toolchain = Digest::try_from(toolchain)
        .map_err(|error| refused(format!("toolchain digest: {error}")))?;
    let tree = task.tree;
    let working_directory = match &task.working_directory[..] {
        [] if !tree => PathBuf::new(),
        bytes => path("working directory", bytes, tree)?,
    };
    let inputs = inputs(&task.inputs, tree)?;
    let folders = folders(&task.folders, tree)?;
    let outputs = outputs(&task.outputs, tree)?;
    let mut all: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    all.extend(tree.then_some(working_directory.as_path()));
    check_distinct(&inputs, &outputs, &all)?;
    let environment = environment(task.environment)?;
    check_arguments(&task.arguments)?;
    let shipment = task.toolchain.as_ref().map_or(&[][..], |t| &t.shipment);
    let shipment = Digest::try_from(shipment).ok();
    let equals = task.toolchain.as_ref().map_or(&[][..], |t| &t.equals);
    let equals = equals
        .iter()
        .filter_map(|digest| Digest::try_from(&digest[..]).ok());
    let equals: Vec<Digest> = equals.collect();
    // Its own, before one that a client brought, before one that is as good.
    let known = [Some(toolchain), shipment].into_iter().flatten();
    let known = known.chain(equals.iter().copied());
    let mut known = known.filter_map(|digest| Some((digest, accepts(&digest)?)));
    let (toolchain, accepts) = known.next().ok_or_else(|| {
        let hex = toolchain.to_hex();
        failure(Code::NoToolchain, format!("no toolchain {}", &hex[..16]))
    })?;
    if accepts.tree != tree {
        return Err(refused("toolchain digest: of the other form of a task"));
    }
    check_arguments_travel(
        &accepts,
        &task.arguments,
        &working_directory,
        &inputs,
        &outputs,
    )?;
    let limits = task.limits.unwrap_or_default();
    Ok(Order {
        toolchain,
        is_equal: equals.contains(&toolchain),
        arguments: task.arguments.into_iter().map(OsString::from_vec).collect(),
        tree,
        working_directory,
        inputs,
        outputs,
        folders,
        environment,
        // A terminal can't be wider than that.
        terminal: task
            .terminal
            .map(|terminal| terminal.columns.try_into().unwrap_or(u16::MAX)),
        wall_ms_max: match limits.wall_ms_max {
            0 => COMPILE_MS_DEFAULT,
            ms => ms.min(COMPILE_MS_MAX),
        },
        memory_bytes_max: (limits.memory_bytes_max > 0).then_some(limits.memory_bytes_max),
        output_bytes_max: match limits.output_bytes_max {
            0 => OUTPUT_BYTES_MAX,
            bytes => bytes.min(OUTPUT_BYTES_MAX),
        },
        trace_id: task.trace_id,
    })
}

/// Asks the table of compiler arguments, which has the last word on what may run here.
fn check_arguments_travel(
    accepts: &Accepts,
    arguments: &[Vec<u8>],
    folder: &Path,
    inputs: &[Input],
    outputs: &[PathBuf],
) -> Result<(), v1::Failure> {
    let outputs: Vec<&[u8]> = outputs.iter().map(|o| o.as_os_str().as_bytes()).collect();
    let checked = match accepts.tree {
        true => {
            let folder = folder.as_os_str().as_bytes();
            args::check_tree(
                accepts.dialect,
                accepts.language,
                arguments,
                folder,
                &outputs,
            )
        }
        false => {
            let inputs = inputs.iter().map(|i| i.path.as_os_str().as_bytes());
            let inputs: Vec<&[u8]> = inputs.collect();
            args::check_travelled(accepts.dialect, arguments, &inputs, &outputs)
        }
    };
    checked.map_err(|reason| refused(reason.to_string()))
}

/// A normalised path: relative without leading upwards, or in the tree form absolute.
fn path(what: &str, bytes: &[u8], tree: bool) -> Result<PathBuf, v1::Failure> {
    let refuse = |why: &str| {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(128)]).into_owned();
        Err(refused(format!("{what} {shown:?} {why}")))
    };
    if bytes.is_empty() {
        return refuse("is empty");
    }
    if bytes.len() > PATH_BYTES_MAX {
        return refuse("is too long");
    }
    if bytes.contains(&0) {
        return refuse("has a NUL in it");
    }
    let relative = match (bytes.strip_prefix(b"/"), tree) {
        (Some(rest), true) => rest,
        (None, false) => bytes,
        (Some(_), false) => return refuse("is absolute"),
        (None, true) => return refuse("is relative"),
    };
    let mut depth = 0;
    for component in relative.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => return refuse("is not in its shortest form"),
            b".." => return refuse("leads upwards"),
            name if name.len() > FILE_NAME_BYTES_MAX => {
                return refuse("has a name that is too long");
            }
            _ => depth += 1,
        }
    }
    if depth > PATH_DEPTH_MAX {
        return refuse("is too deep");
    }
    if let Some(why) = taken_by_others(bytes).filter(|_| tree) {
        return refuse(&format!("is {why}"));
    }
    Ok(PathBuf::from(OsStr::from_bytes(bytes)))
}

fn inputs(inputs: &[v1::Input], tree: bool) -> Result<Vec<Input>, v1::Failure> {
    let (count_max, bytes_max) = match tree {
        true => (TREE_INPUTS_MAX, TREE_BYTES_MAX),
        false => (INPUTS_MAX, u64::MAX),
    };
    if inputs.len() > count_max {
        return Err(refused(format!("{} inputs", inputs.len())));
    }
    let mut left = bytes_max;
    let mut checked: Vec<Input> = Vec::with_capacity(inputs.len());
    for input in inputs {
        let input = self::input(input, tree)?;
        left = left
            .checked_sub(input.size)
            .ok_or_else(|| refused(format!("inputs of more than {bytes_max} bytes")))?;
        checked.push(input);
    }
    Ok(checked)
}

/// The contents of a toolchain that a client brings: their paths say nothing.
///
/// # Errors
/// The failure to answer with.
pub fn shipped_inputs(inputs: &[v1::Input]) -> Result<Vec<Input>, v1::Failure> {
    if inputs.len() > SHIPMENT_FILES_MAX {
        return Err(refused(format!("{} inputs", inputs.len())));
    }
    inputs
        .iter()
        .map(|input| self::input(input, true))
        .collect()
}

fn folders(folders: &[Vec<u8>], tree: bool) -> Result<Vec<PathBuf>, v1::Failure> {
    if folders.len() > if tree { TREE_FOLDERS_MAX } else { 0 } {
        return Err(refused(format!("{} folders", folders.len())));
    }
    let folders = folders.iter().map(|bytes| path("folder", bytes, tree));
    folders.collect()
}

/// Refuses a file that lies below another one, two at one path, and one where a folder is
/// to be.
fn check_distinct(
    inputs: &[Input],
    outputs: &[PathBuf],
    folders: &[&Path],
) -> Result<(), v1::Failure> {
    fn bytes(path: &Path) -> &[u8] {
        path.as_os_str().as_bytes()
    }
    let files = inputs.iter().map(|input| input.path.as_path());
    let files = files.chain(outputs.iter().map(PathBuf::as_path));
    let (what, path) = match collision(files.map(bytes), folders.iter().map(|f| bytes(f))) {
        None => return Ok(()),
        Some(Collision::Twice(path) | Collision::Below(path)) => ("file", path),
        Some(Collision::Folder(path)) => ("folder", path),
    };
    let path = Path::new(OsStr::from_bytes(path));
    Err(refused(format!("{what} {path:?} collides")))
}

fn input(input: &v1::Input, tree: bool) -> Result<Input, v1::Failure> {
    let path = path("input", &input.path, tree)?;
    let digest = Digest::try_from(&input.digest[..])
        .map_err(|error| refused(format!("input {path:?}: {error}")))?;
    if input.size > INPUT_BYTES_MAX {
        return Err(refused(format!("input {path:?} of {} bytes", input.size)));
    }
    let encoding = Encoding::try_from(input.encoding)
        .map_err(|_| refused(format!("input {path:?}: unknown encoding")))?;
    let encoded_max = match encoding {
        Encoding::Identity => input.size,
        // zstd's worst case for incompressible content, and some more.
        Encoding::Zstd => input.size + (input.size >> 7) + 1024,
    };
    let exact = encoding == Encoding::Zstd || input.encoded_size == input.size;
    if input.encoded_size > encoded_max || !exact {
        return Err(refused(format!(
            "input {path:?}: {} bytes encode {}",
            input.encoded_size, input.size
        )));
    }
    Ok(Input {
        path,
        digest,
        size: input.size,
        encoding,
        encoded_size: input.encoded_size,
    })
}

fn outputs(outputs: &[Vec<u8>], tree: bool) -> Result<Vec<PathBuf>, v1::Failure> {
    if outputs.len() > OUTPUTS_MAX {
        return Err(refused(format!("{} outputs", outputs.len())));
    }
    let outputs = outputs.iter().map(|bytes| path("output", bytes, tree));
    outputs.collect()
}

fn check_arguments(arguments: &[Vec<u8>]) -> Result<(), v1::Failure> {
    if arguments.len() > ARGUMENTS_MAX {
        return Err(refused(format!("{} arguments", arguments.len())));
    }
    let bytes: usize = arguments.iter().map(Vec::len).sum();
    if bytes > ARGUMENT_BYTES_MAX {
        return Err(refused(format!("{bytes} bytes of arguments")));
    }
    let is_long = |argument: &Vec<u8>| argument.len() > ARGUMENT_LENGTH_MAX;
    if arguments.iter().any(is_long) {
        return Err(refused("an argument is too long"));
    }
    if arguments.iter().any(|argument| argument.contains(&0)) {
        return Err(refused("an argument has a NUL in it"));
    }
    Ok(())
}

/// Variables that may travel. Others are left out rather than refused: a compile without
/// them is what the client asked the table for.
fn environment(
    variables: Vec<v1::EnvironmentVariable>,
) -> Result<Vec<(OsString, OsString)>, v1::Failure> {
    if variables.len() > ENVIRONMENT_MAX {
        return Err(refused(format!("{} variables", variables.len())));
    }
    let mut checked = Vec::new();
    for v1::EnvironmentVariable { name, value } in variables {
        if name.len() + value.len() > ENVIRONMENT_BYTES_MAX {
            return Err(refused("a variable is too long"));
        }
        if name.is_empty() || name.contains(&b'=') || name.contains(&0) || value.contains(&0) {
            return Err(refused("a variable is malformed"));
        }
        if args::environment_travels(&name) || args::shapes_words_on_terminal(&name) {
            checked.push((OsString::from_vec(name), OsString::from_vec(value)));
        }
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hg_proto::compiler::toolchain::Family;

    const GCC: Dialect = Dialect {
        family: Family::Gcc,
        cxx_driver: false,
    };
    const FLAT: Accepts = Accepts {
        dialect: GCC,
        language: Language::C,
        tree: false,
    };

    fn task() -> v1::Task {
        let arguments = "-fpreprocessed -fdirectives-only -x c -c in.c -o in.o";
        v1::Task {
            toolchain: Some(v1::Toolchain {
                digest: vec![7; 32],
                ..v1::Toolchain::default()
            }),
            arguments: arguments.split(' ').map(|word| word.into()).collect(),
            inputs: vec![input("in.c")],
            outputs: vec![b"in.o".to_vec()],
            ..v1::Task::default()
        }
    }

    fn input(path: &str) -> v1::Input {
        v1::Input {
            path: path.into(),
            digest: vec![1; 32],
            size: 10,
            encoding: Encoding::Zstd.into(),
            encoded_size: 20,
        }
    }

    /// Changes a good task and says how it is refused.
    fn refusal(change: impl FnOnce(&mut v1::Task)) -> String {
        let mut task = task();
        change(&mut task);
        let failure = validate(task, |_| Some(FLAT)).unwrap_err();
        assert_eq!(failure.code(), Code::Refused, "{}", failure.detail);
        failure.detail
    }

    #[test]
    fn a_good_task_is_an_order() {
        let order = validate(task(), |_| Some(FLAT)).unwrap();
        assert_eq!(order.inputs[0].path, PathBuf::from("in.c"));
        assert_eq!(order.wall_ms_max, COMPILE_MS_DEFAULT);
        assert_eq!(order.output_bytes_max, OUTPUT_BYTES_MAX);
        assert_eq!(order.memory_bytes_max, None);
    }

    #[test]
    fn an_unknown_toolchain_is_named() {
        let failure = validate(task(), |_| None).unwrap_err();
        assert_eq!(failure.code(), Code::NoToolchain);
        assert!(failure.detail.contains("0707070707070707"));
    }

    #[test]
    fn paths_stay_inside() {
        for (path, word) in [
            (&b""[..], "empty"),
            (b"/etc/passwd", "absolute"),
            (b"../x", "upwards"),
            (b"a/../../x", "upwards"),
            (b"a/..", "upwards"),
            (b"./x", "shortest"),
            (b"a//x", "shortest"),
            (b"a/", "shortest"),
            (b"a\0b", "NUL"),
            (&[b'a'; PATH_BYTES_MAX + 1], "is too long"),
            (&[b'a'; FILE_NAME_BYTES_MAX + 1], "a name that is too long"),
            (
                &b"a/".repeat(PATH_DEPTH_MAX + 1)[..2 * PATH_DEPTH_MAX + 1],
                "deep",
            ),
        ] {
            let as_input = refusal(|task| task.inputs[0].path = path.to_vec());
            assert!(as_input.contains(word), "{as_input}");
            let as_output = refusal(|task| task.outputs[0] = path.to_vec());
            assert!(as_output.contains(word), "{as_output}");
            if !path.is_empty() {
                let as_folder = refusal(|task| task.working_directory = path.to_vec());
                assert!(as_folder.contains(word), "{as_folder}");
            }
        }
    }

    const TREE: Accepts = Accepts { tree: true, ..FLAT };

    fn tree() -> v1::Task {
        v1::Task {
            arguments: "-g -c in.c -Iinclude".split(' ').map(Into::into).collect(),
            working_directory: b"/w".to_vec(),
            inputs: vec![input("/w/in.c"), input("/usr/include/stdio.h")],
            outputs: vec![b"/w/in.o".to_vec()],
            folders: vec![b"/w/include".to_vec()],
            tree: true,
            ..task()
        }
    }

    #[test]
    fn the_tree_form_has_absolute_paths_and_its_own_toolchains() {
        let order = validate(tree(), |_| Some(TREE)).unwrap();
        assert_eq!(order.working_directory, PathBuf::from("/w"));
        assert_eq!(order.folders, [PathBuf::from("/w/include")]);
        for (task, accepts) in [(tree(), FLAT), (task(), TREE)] {
            let failure = validate(task, |_| Some(accepts)).unwrap_err();
            assert_eq!(failure.code(), Code::Refused, "the other form");
        }
        let refusal = |change: &dyn Fn(&mut v1::Task)| {
            let mut task = tree();
            change(&mut task);
            let failure = validate(task, |_| Some(TREE)).unwrap_err();
            assert_eq!(failure.code(), Code::Refused, "{}", failure.detail);
            failure.detail
        };
        for (path, word) in [
            ("", "empty"),
            ("/", "shortest"),
            ("in.c", "relative"),
            ("/w/../x", "upwards"),
            ("/w//x", "shortest"),
            ("/w/x/", "shortest"),
            ("/w\0x", "NUL"),
        ] {
            for said in [
                refusal(&|task| task.inputs[0].path = path.into()),
                refusal(&|task| task.outputs[0] = path.into()),
                refusal(&|task| task.folders[0] = path.into()),
                refusal(&|task| task.working_directory = path.into()),
            ] {
                assert!(said.contains(word), "{path}: {said}");
            }
        }
        for (input, output, folder) in [
            ("/w/in.o", "/w/in.o", "/x"),
            ("/w/in.o/x", "/w/in.o", "/x"),
            ("/w/in.c", "/w/in.c/in.o", "/x"),
            ("/w/in.c", "/w/in.o", "/w/in.c"),
            ("/w/in.c", "/w/in.o", "/w/in.o/x"),
            ("/w", "/x/in.o", "/x"),
        ] {
            let said = refusal(&|task| {
                task.inputs[0].path = input.into();
                task.outputs[0] = output.into();
                task.folders[0] = folder.into();
            });
            assert!(said.contains("collides"), "{input} {output}: {said}");
        }
        refusal(&|task| task.inputs.push(self::input("/w/in.c")));
        refusal(&|task| task.folders = vec![b"/x".to_vec(); TREE_FOLDERS_MAX + 1]);
        refusal(&|task| task.inputs[0].size = TREE_BYTES_MAX - 9);
        refusal(&|task| task.arguments.push(b"-fplugin=x".to_vec()));
        refusal(&|task| task.arguments.push(b"-ofar/in.o".to_vec()));
        let many = (0..=TREE_INPUTS_MAX).map(|n| self::input(&format!("/{n}")));
        let many: Vec<_> = many.collect();
        refusal(&|task| task.inputs = many.clone());
        let mut most = tree();
        most.inputs.extend(many.into_iter().skip(3));
        assert_eq!(most.inputs.len(), TREE_INPUTS_MAX);
        assert!(validate(most, |_| Some(TREE)).is_ok());
        let mut flat = task();
        flat.folders.push(b"x".to_vec());
        assert!(validate(flat, |_| Some(FLAT)).is_err());
    }

    #[test]
    fn files_do_not_collide() {
        for (one, other) in [("a", "a"), ("a", "a/b"), ("a/b", "a")] {
            let inputs = refusal(|task| task.inputs = vec![input(one), input(other)]);
            assert!(inputs.contains("collide"), "{inputs}");
            let mixed = refusal(|task| {
                task.inputs = vec![input(one)];
                task.outputs = vec![other.into()];
            });
            assert!(mixed.contains("collides"), "{mixed}");
        }
    }

    #[test]
    fn counts_and_sizes_have_bounds() {
        let many: Vec<_> = (0..=INPUTS_MAX).map(|n| input(&n.to_string())).collect();
        assert!(refusal(|task| task.inputs = many).contains("17 inputs"));
        let many: Vec<_> = (0..=OUTPUTS_MAX).map(|n| n.to_string().into()).collect();
        assert!(refusal(|task| task.outputs = many).contains("17 outputs"));
        refusal(|task| task.arguments = vec![b"-O2".to_vec(); ARGUMENTS_MAX + 1]);
        refusal(|task| task.arguments[0] = vec![b'x'; ARGUMENT_BYTES_MAX + 1]);
        refusal(|task| task.arguments[0] = vec![b'x'; ARGUMENT_LENGTH_MAX + 1]);
        refusal(|task| task.arguments[0] = b"a\0b".to_vec());
        refusal(|task| task.inputs[0].size = INPUT_BYTES_MAX + 1);
        refusal(|task| task.inputs[0].encoded_size = 10 + 1024 + 1);
        refusal(|task| task.inputs[0].encoding = Encoding::Identity.into());
        refusal(|task| task.inputs[0].encoding = 9);
        refusal(|task| task.inputs[0].digest = vec![1; 31]);
        refusal(|task| task.toolchain = None);
        let variable = v1::EnvironmentVariable {
            name: b"LC_ALL".to_vec(),
            value: vec![b'x'; ENVIRONMENT_BYTES_MAX],
        };
        refusal(|task| task.environment = vec![variable]);
        let variable = v1::EnvironmentVariable::default();
        refusal(|task| task.environment = vec![variable; ENVIRONMENT_MAX + 1]);
    }

    #[test]
    fn limits_are_lowered_to_ours() {
        let mut task = task();
        task.limits = Some(v1::Limits {
            wall_ms_max: u32::MAX,
            memory_bytes_max: 5,
            output_bytes_max: u64::MAX,
        });
        let order = validate(task, |_| Some(FLAT)).unwrap();
        assert_eq!(order.wall_ms_max, COMPILE_MS_MAX);
        assert_eq!(order.memory_bytes_max, Some(5));
        assert_eq!(order.output_bytes_max, OUTPUT_BYTES_MAX);
    }

    #[test]
    fn arguments_are_the_tables_to_judge() {
        let refused = refusal(|task| task.arguments.insert(0, b"-fplugin=x".to_vec()));
        assert!(refused.contains("-fplugin=x"), "{refused}");
    }

    #[test]
    fn only_harmless_variables_are_set() {
        let mut task = task();
        for name in ["LC_ALL", "LD_PRELOAD", "PATH", "HG_TASK"] {
            task.environment.push(v1::EnvironmentVariable {
                name: name.into(),
                value: b"C".to_vec(),
            });
        }
        let order = validate(task, |_| Some(FLAT)).unwrap();
        assert_eq!(order.environment, [("LC_ALL".into(), "C".into())]);
    }
}
