//! Any task, hello or result: what the coordinator or the worker lets through has
//! only paths that stay in the task's folder, and labels that a terminal can bear.

#![no_main]

use std::path::{Component, Path};

use hg_coord::validate;
use hg_proto::args::Dialect;
use hg_proto::toolchain::Family;
use hg_proto::v1;
use hg_worker_lite::validate as worker;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fn stays(path: &Path) -> bool {
    let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    path.components().all(inside) && !path.as_os_str().as_encoded_bytes().contains(&0)
}

fn path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn task(task: v1::Task) {
    if validate::task(&task, "peer").is_ok() {
        let inputs = task.inputs.iter().map(|input| &input.path);
        for one in inputs.chain(&task.outputs) {
            assert!(stays(path(one)), "{one:?}");
        }
        assert!(stays(path(&task.working_directory)));
    }
    for family in [Family::Gcc, Family::Clang] {
        let dialect = Dialect {
            family,
            cxx_driver: false,
        };
        let Ok(order) = worker::validate(task.clone(), |_| Some(dialect)) else {
            continue;
        };
        assert!(stays(&order.working_directory));
        let inputs = order.inputs.iter().map(|input| &input.path);
        for one in inputs.chain(&order.outputs) {
            assert!(stays(one), "{one:?}");
        }
    }
}

fn hello(hello: v1::Hello) {
    if let Ok(spec) = validate::hello(hello, "address".into()) {
        let labels = [
            &spec.name,
            &spec.version,
            &spec.architecture,
            &spec.os,
            &spec.sandbox,
        ];
        assert!(
            labels
                .iter()
                .all(|label| label.len() <= 64 && !label.contains(char::is_control))
        );
        assert!(spec.slots > 0 && !spec.toolchains.is_empty() == !spec.digests.is_empty());
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 3 {
        0 => {
            if let Ok(decoded) = v1::Task::decode(bytes) {
                task(decoded);
            }
        }
        1 => {
            if let Ok(decoded) = v1::Hello::decode(bytes) {
                hello(decoded);
            }
        }
        _ => {
            if let Ok(answer) = v1::TaskResult::decode(bytes) {
                let asked = v1::Task {
                    outputs: vec![b"a.o".to_vec(), b"d/b.su".to_vec()],
                    ..v1::Task::default()
                };
                if validate::result(&asked, &answer, |_| Some(7)).is_ok() {
                    let known = |path: &[u8]| asked.outputs.iter().any(|one| one == path);
                    assert!(answer.outputs.iter().all(|output| known(&output.path)));
                }
            }
        }
    }
});
