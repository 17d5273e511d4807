//! The task message of a compile that may travel.

use std::env;
use std::path::Path;

use hg_proto::compiler::probe::Probe;
use hg_proto::compiler::toolchain::Family;
use hg_proto::options::args::Reason;
use hg_proto::v1::{Encoding, Input, Task};
use hg_proto::wire::limits::GRPC_MESSAGE_BYTES_MAX;

use crate::config::Config;
use crate::grid::attempt::RUN_MS_MAX;
use crate::grid::own_speed;
use crate::inputs::preprocessed::Gathered;
use crate::inputs::tree::Tree;
use crate::invocation::plan::{Diagnostics, Plan};
use crate::local::trace_context;
use crate::os;

/// Bytes of a task's message; the rest is for what is around it.
const TASK_BYTES_MAX: usize = GRPC_MESSAGE_BYTES_MAX - (16 << 10);
fn reason(code: &'static str, detail: impl std::fmt::Display) -> Reason {
    Reason {
        code,
        detail: detail.to_string(),
    }
}

impl Plan {
    /// The task in the text form; `options` are about diagnostics.
    ///
    /// # Errors
    /// The source has a name that can't travel.
    pub fn task(
        &self,
        probe: &Probe,
        toolchain: hg_proto::v1::Toolchain,
        gathered: &Gathered,
        options: &[Vec<u8>],
        config: &Config,
    ) -> Result<Task, Reason> {
        let input = input_name(&self.compile.source)?;
        let output: &[u8] = match (self.compile.assembly, &input[..]) {
            (false, b"out.o") => b"out2.o",
            (false, _) => b"out.o",
            (true, b"out.s") => b"out2.s",
            (true, _) => b"out.s",
        };
        let mut arguments = self.compile.travel_args(self.dialect, &input, output);
        self.name_target(probe, &mut arguments);
        arguments.splice(0..0, options.iter().cloned());
        Ok(Task {
            toolchain: Some(toolchain),
            arguments,
            inputs: vec![Input {
                path: input,
                digest: gathered.digest.as_bytes().to_vec(),
                size: gathered.size,
                encoding: Encoding::Zstd.into(),
                encoded_size: gathered.encoded.len() as u64,
            }],
            outputs: vec![output.to_vec()],
            ..self.any_task(config)
        })
    }

    /// The task in the tree form.
    ///
    /// # Errors
    /// The task is too large for one message.
    pub fn tree_task(
        &self,
        toolchain: hg_proto::v1::Toolchain,
        tree: &Tree,
        diagnostics: &Diagnostics,
        config: &Config,
    ) -> Result<Task, Reason> {
        let Diagnostics {
            allowed,
            presentation,
        } = diagnostics;
        let mut environment = self.environment_there(*allowed);
        environment.extend(presentation.environment.iter().cloned());
        environment.sort_by(|a, b| a.name.cmp(&b.name));
        let task = Task {
            toolchain: Some(toolchain),
            arguments: [presentation.options.clone(), self.compile.tree_args()].concat(),
            environment,
            terminal: presentation.terminal,
            working_directory: tree.folder.clone(),
            inputs: tree.inputs.clone(),
            outputs: self.compile.tree_outputs(&tree.folder),
            tree: true,
            folders: tree.folders.clone(),
            ..self.any_task(config)
        };
        match prost::Message::encoded_len(&task) > TASK_BYTES_MAX {
            true => Err(reason("too-many-inputs", "for one message")),
            false => Ok(task),
        }
    }

    /// Says in `arguments` what clang compiles for here when nobody says it.
    pub fn name_target(&self, probe: &Probe, arguments: &mut Vec<Vec<u8>>) {
        let targeted = |arg: &Vec<u8>| arg.starts_with(b"--target=") || arg == b"-target";
        if self.dialect.family == Family::Clang && !arguments.iter().any(targeted) {
            arguments.insert(0, format!("--target={}", probe.target).into_bytes());
        }
    }

    fn any_task(&self, config: &Config) -> Task {
        let trace = trace_context::current();
        Task {
            environment: self.environment.clone(),
            source: String::from_utf8_lossy(&self.compile.source).into_owned(),
            client: client_name(),
            queue_ms_max: config.queue_ms_max,
            task_ms_max: RUN_MS_MAX as u32,
            client_speed_milli: own_speed::own_milli(config.run_folder().as_deref()),
            trace_id: trace.trace_id.to_vec(),
            parent_span_id: trace.parent_span_id.map_or(Vec::new(), |id| id.to_vec()),
            ..Task::default()
        }
    }
}

/// The client in whose name a task waits in the queue: tasks of one build share a turn, and
/// all that one user compiles on one machine without a build share another.
pub fn client_name() -> String {
    let build = env::var("HG_BUILD").ok();
    client_of(build.and_then(|build| build.parse().ok()))
}

/// The same for the build command whose process is `build`.
pub fn client_of(build: Option<u32>) -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let user = format!("{}@{}", nix::unistd::getuid(), host.to_string_lossy());
    match build {
        Some(build) => format!("{user}/{build}"),
        None => user,
    }
}

/// The name of the source in a worker's folder.
///
/// # Errors
/// Its name could be taken for an option.
pub fn input_name(source: &[u8]) -> Result<Vec<u8>, Reason> {
    let path = os::from_bytes(source.to_vec());
    let name = Path::new(&path).file_name();
    let name = name.map(os::bytes).unwrap_or_default();
    if name.is_empty() || name.starts_with(b"-") || name.starts_with(b"@") {
        return Err(reason("source-name", String::from_utf8_lossy(source)));
    }
    Ok(name.to_vec())
}
