//! Any task, hello or result: what the coordinator or the worker lets through has
//! only paths that stay in the task's folder, fits its bounds, and has labels that a
//! terminal can bear. What hgbuild takes is the one output that it asked for.

#![no_main]

mod mended;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use hg_coord::scheduling::validate;
use hg_proto::compiler::toolchain::{Family, Language};
use hg_proto::options::args::Dialect;
use hg_proto::v1;
use hg_proto::wire::frame;
use hg_proto::wire::limits::{
    INPUTS_MAX, OUTPUT_BYTES_MAX, OUTPUTS_MAX, PATH_BYTES_MAX, TREE_INPUTS_MAX,
};
use hg_worker_lite::inputs::validate as worker;
use hgbuild::grid::attempt::{self, AllowedDiagnostics};
use libfuzzer_sys::fuzz_target;
use prost::Message;

const ROOT: &str = "/tasks/7";

/// Where `path` leads from the root, as text: the checkers' own way of looking at
/// components is not used.
fn led(path: &[u8]) -> PathBuf {
    let mut at = PathBuf::from(ROOT);
    for part in Path::new(ROOT).join(OsStr::from_bytes(path)).components() {
        match part {
            Component::RootDir | Component::Prefix(_) => at = PathBuf::from("/"),
            Component::CurDir => {}
            Component::ParentDir => {
                at.pop();
                // Even a way out and in again is none.
                assert!(at.starts_with(ROOT), "{path:?}");
            }
            Component::Normal(name) => at.push(name),
        }
    }
    at
}

fn stays(tree: bool, path: &[u8]) {
    assert!(path.len() <= PATH_BYTES_MAX && !path.contains(&0));
    if tree {
        // The same place whatever is there: nothing on the way can be a detour.
        let parts = path.split(|byte| *byte == b'/');
        let odd: [&[u8]; 3] = [b"", b".", b".."];
        assert!(parts.skip(1).all(|part| !odd.contains(&part)), "{path:?}");
        return assert!(path.starts_with(b"/"), "{path:?}");
    }
    assert!(led(path).starts_with(ROOT), "{path:?}");
}

/// Distinct files, none of them where another has a folder.
fn apart(paths: &[&Path]) {
    for (at, one) in paths.iter().enumerate() {
        let below = |other: &&Path| one.starts_with(other) || other.starts_with(one);
        assert!(!paths[at + 1..].iter().any(below), "{paths:?}");
        let one = led(one.as_os_str().as_bytes());
        assert!(one != Path::new(ROOT) && one != Path::new("/"));
    }
}

fn mended(mut task: v1::Task) -> v1::Task {
    let digest = vec![7; 32];
    task.toolchain = Some(v1::Toolchain {
        family: v1::Family::Gcc.into(),
        language: v1::Language::C.into(),
        digest: digest.clone(),
        tree: task.tree,
        ..v1::Toolchain::default()
    });
    mended::mend(&mut task, &digest);
    task
}

fn task(task: v1::Task) {
    if validate::task(&task, "holder", "peer").is_ok() {
        let inputs = task.inputs.iter().map(|input| &input.path);
        let paths = inputs.chain(&task.outputs).chain(&task.folders);
        paths.for_each(|path| stays(task.tree, path));
        stays(task.tree, &task.working_directory);
        // Whatever it is sent with.
        let mut sent = task.clone();
        sent.limits.get_or_insert_default().wall_ms_max = u32::MAX;
        let dispatch = v1::ToWorker {
            kind: Some(v1::to_worker::Kind::Dispatch(v1::Dispatch {
                dispatch_id: u64::MAX,
                task: Some(sent),
                memory_bytes_expected: u64::MAX,
            })),
        };
        assert!(frame::encode(&dispatch).is_ok());
    }
    for (family, cxx_driver) in [(Family::Gcc, false), (Family::Clang, true)] {
        let dialect = Dialect { family, cxx_driver };
        let accepts = worker::Accepts {
            dialect,
            language: Language::C,
            tree: task.tree,
        };
        let Ok(order) = worker::validate(task.clone(), |_| Some(accepts)) else {
            continue;
        };
        let stays = |path: &Path| stays(task.tree, path.as_os_str().as_bytes());
        stays(&order.working_directory);
        order.folders.iter().for_each(|path| stays(path));
        let inputs = order.inputs.iter().map(|input| input.path.as_path());
        let all: Vec<&Path> = inputs
            .chain(order.outputs.iter().map(PathBuf::as_path))
            .collect();
        all.iter().for_each(|path| stays(path));
        apart(&all);
        let inputs_max = if task.tree {
            TREE_INPUTS_MAX
        } else {
            INPUTS_MAX
        };
        assert!(order.inputs.len() <= inputs_max && order.outputs.len() <= OUTPUTS_MAX);
        assert!(order.output_bytes_max <= OUTPUT_BYTES_MAX && order.wall_ms_max > 0);
    }
}

fn is_plain(label: &str) -> bool {
    label.len() <= 64 && !label.contains(char::is_control)
}

fn hello(hello: v1::Hello) {
    let offered = hello.toolchains.len();
    let Ok(spec) = validate::hello(hello, "address".into()) else {
        return;
    };
    let labels = [
        &spec.name,
        &spec.version,
        &spec.architecture,
        &spec.os,
        &spec.sandbox,
    ];
    assert!(labels.iter().all(|label| is_plain(label)));
    let toolchains = &spec.toolchains;
    assert!(
        toolchains
            .iter()
            .all(|one| is_plain(&one.version) && is_plain(&one.target))
    );
    // The two forms of one are listed as one.
    assert!(spec.slots > 0 && spec.digests.len() <= offered && toolchains.len() <= offered);
}

/// A worker's answer, on its way through the coordinator to hgbuild.
fn result(answer: &v1::TaskResult) {
    let asked = v1::Task {
        outputs: vec![b"a.o".to_vec(), b"d/b.su".to_vec()],
        ..v1::Task::default()
    };
    let received = |index| Some(index as u64);
    if validate::result(&asked, answer, received).is_ok() {
        let names: Vec<&Vec<u8>> = answer.outputs.iter().map(|output| &output.path).collect();
        let known = |path| asked.outputs.iter().position(|one| one == path);
        let places: Vec<usize> = names.into_iter().filter_map(known).collect();
        assert_eq!(places.len(), answer.outputs.len());
        assert!(places.is_sorted_by(|one, next| one < next));
    }
    for says in [
        AllowedDiagnostics::Nothing,
        AllowedDiagnostics::OfText,
        AllowedDiagnostics::OfFiles,
        AllowedDiagnostics::OfFilesInUtf8,
    ] {
        for outputs in [&asked.outputs[..1], &asked.outputs] {
            if attempt::accept(answer, says, false, outputs).is_ok() {
                let names: Vec<&Vec<u8>> = answer.outputs.iter().map(|one| &one.path).collect();
                assert_eq!(names, outputs.iter().collect::<Vec<_>>());
                assert!(answer.exit_code == 0 && answer.signal == 0 && answer.stdout.is_empty());
                assert!(says != AllowedDiagnostics::Nothing || answer.stderr.is_empty());
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 4 {
        0 | 1 => {
            if let Ok(decoded) = v1::Task::decode(bytes) {
                task(match kind % 4 {
                    0 => decoded,
                    _ => mended(decoded),
                });
            }
        }
        2 => {
            if let Ok(decoded) = v1::Hello::decode(bytes) {
                hello(decoded);
            }
        }
        _ => {
            if let Ok(decoded) = v1::TaskResult::decode(bytes) {
                result(&decoded);
            }
        }
    }
});
