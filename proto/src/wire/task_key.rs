//! The name of what a task asks for: tasks of one key have the same result, whoever sends
//! them.

use prost::Message;

use crate::v1::{Input, Task, Toolchain};
use crate::wire::digest::{Digest, Hasher};

/// What all keys of this form begin with; another form gets another name.
const FORM: &[u8] = b"hybridgrid task 1\0";

/// The key of `task`: everything in it that a compiler could see, and nothing of who asks,
/// how long that one waits, and how the inputs travel.
pub fn of(task: &Task) -> Digest {
    let toolchain = task.toolchain.as_ref().map(|toolchain| Toolchain {
        family: toolchain.family,
        target: toolchain.target.clone(),
        language: toolchain.language,
        digest: toolchain.digest.clone(),
        tree: toolchain.tree,
        ..Toolchain::default()
    });
    let mut inputs: Vec<Input> = task.inputs.iter().map(seen).collect();
    inputs.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let mut folders = task.folders.clone();
    folders.sort_unstable();
    let seen = Task {
        toolchain,
        arguments: task.arguments.clone(),
        working_directory: task.working_directory.clone(),
        inputs,
        outputs: task.outputs.clone(),
        environment: task.environment.clone(),
        tree: task.tree,
        folders,
        terminal: task.terminal,
        shipment: task.shipment.clone(),
        ..Task::default()
    };
    let mut hasher = Hasher::new();
    hasher.update(FORM);
    hasher.update(&seen.encode_to_vec());
    hasher.finish()
}

/// An input as a compiler sees it.
fn seen(input: &Input) -> Input {
    Input {
        path: input.path.clone(),
        digest: input.digest.clone(),
        size: input.size,
        ..Input::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{EnvironmentVariable, Limits, Terminal};

    fn task() -> Task {
        let input = |path: &[u8], digest: u8| Input {
            path: path.to_vec(),
            digest: vec![digest; 32],
            size: 7,
            encoding: 1,
            encoded_size: 5,
        };
        Task {
            toolchain: Some(Toolchain {
                digest: vec![1; 32],
                language: 1,
                tree: true,
                ..Toolchain::default()
            }),
            arguments: vec![b"-c".to_vec(), b"a.c".to_vec()],
            working_directory: b"/w".to_vec(),
            inputs: vec![input(b"/w/a.c", 2), input(b"/w/a.h", 3)],
            outputs: vec![b"/w/a.o".to_vec()],
            folders: vec![b"/w/x".to_vec(), b"/w/y".to_vec()],
            tree: true,
            ..Task::default()
        }
    }

    #[test]
    fn who_asks_and_how_it_travels_makes_no_difference() {
        let same: [fn(&mut Task); 9] = [
            |task| task.source = "a.c".into(),
            |task| task.client = "1000@laptop".into(),
            |task| (task.queue_ms_max, task.task_ms_max) = (5, 6),
            |task| task.client_speed_milli = 900,
            |task| task.trace_id = vec![1; 16],
            |task| {
                task.limits = Some(Limits {
                    wall_ms_max: 1,
                    ..Limits::default()
                })
            },
            |task| (task.inputs[0].encoding, task.inputs[0].encoded_size) = (0, 7),
            |task| task.inputs.reverse(),
            |task| task.folders.reverse(),
        ];
        for (number, change) in same.into_iter().enumerate() {
            let mut other = task();
            change(&mut other);
            assert_eq!(of(&other), of(&task()), "{number}");
        }
    }

    #[test]
    fn what_a_compiler_could_see_makes_one() {
        let others: [fn(&mut Task); 11] = [
            |task| task.arguments.swap(0, 1),
            |task| task.arguments = vec![b"-ca.c".to_vec()],
            |task| task.working_directory = b"/v".to_vec(),
            |task| task.inputs[1].digest[0] = 9,
            |task| task.inputs[1].path = b"/w/b.h".to_vec(),
            |task| drop(task.inputs.pop()),
            |task| task.outputs[0] = b"/w/b.o".to_vec(),
            |task| drop(task.folders.pop()),
            |task| task.terminal = Some(Terminal { columns: 80 }),
            |task| {
                task.environment.push(EnvironmentVariable {
                    name: b"LANG".to_vec(),
                    value: b"C".to_vec(),
                })
            },
            |task| task.toolchain.get_or_insert_default().digest[0] = 9,
        ];
        let mut keys = vec![of(&task())];
        for change in others {
            let mut other = task();
            change(&mut other);
            keys.push(of(&other));
        }
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }
}
