//! Every bound of the wire, with its unit. A peer that goes beyond one is at
//! fault and is dropped or refused; see `frame` and the coordinator's `validate`.

/// Bytes of one frame's message on the worker link.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes of one gRPC message, either way.
pub const GRPC_MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX;
/// Bytes of data in one chunk, so that many tasks share a link fairly.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;
/// Bytes of plain content of one input.
pub const INPUT_BYTES_MAX: u64 = 256 << 20;
/// Inputs of one task.
pub const INPUTS_MAX: usize = 16;
/// Inputs of one task in the tree form.
pub const TREE_INPUTS_MAX: usize = 4096;
/// Folders named by one task in the tree form.
pub const TREE_FOLDERS_MAX: usize = 256;
/// Bytes of plain content of all inputs of a task in the tree form together.
pub const TREE_BYTES_MAX: u64 = 128 << 20;
/// Files that one task may ask back.
pub const OUTPUTS_MAX: usize = 16;
/// Bytes of plain content of all outputs of a task together.
pub const OUTPUT_BYTES_MAX: u64 = 1 << 30;
/// Bytes of output in flight from a worker, per task, before it must wait for credit.
pub const OUTPUT_WINDOW_BYTES: u32 = 512 << 10;
/// Bytes of stdout, and of stderr, that travel.
pub const STDIO_BYTES_MAX: usize = 256 << 10;
/// Arguments of one task.
pub const ARGUMENTS_MAX: usize = 4096;
/// Bytes of all arguments of a task together.
pub const ARGUMENT_BYTES_MAX: usize = 256 << 10;
/// Bytes of one argument: what Linux takes (MAX_ARG_STRLEN, the NUL left out).
pub const ARGUMENT_LENGTH_MAX: usize = (128 << 10) - 1;
/// Bytes of a path inside a task's folder.
pub const PATH_BYTES_MAX: usize = 1024;
/// Bytes of one name in a path: what file systems take.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Variables in a task's environment.
pub const ENVIRONMENT_MAX: usize = 32;
/// Bytes of one variable, name and value.
pub const ENVIRONMENT_BYTES_MAX: usize = 4096;
/// Bytes of a name, a version, a triple, a label for people.
pub const NAME_BYTES_MAX: usize = 256;
/// Bytes of a source path shown to people.
pub const SOURCE_BYTES_MAX: usize = 4096;
/// Toolchains that one worker may offer.
pub const TOOLCHAINS_MAX: usize = 64;
/// Kinds of cores that a worker can have.
pub const CORE_KINDS_MAX: usize = 8;
/// Files, links and folders of one shipped toolchain.
pub const SHIPMENT_FILES_MAX: usize = 4096;
/// Bytes of plain content of all files of one shipped toolchain.
pub const SHIPMENT_BYTES_MAX: u64 = 1 << 30;
/// Slots that one worker may offer.
pub const SLOTS_MAX: u32 = 1024;
/// log2 of the zstd window that a decoder must be ready for: bounds its memory.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 20;
/// Milliseconds that a compile may take when its task says nothing.
pub const COMPILE_MS_DEFAULT: u32 = 600_000;
/// Milliseconds that a compile may take at most.
pub const COMPILE_MS_MAX: u32 = 3_600_000;
/// Milliseconds between two heartbeats of a worker.
pub const HEARTBEAT_MS: u32 = 1_000;
/// Milliseconds of silence after which a link is dead: longer than a small or
/// overloaded machine is ever away.
pub const HEARTBEAT_EXPIRY_MS: u32 = 8_000;
/// Milliseconds in which a new connection must have said who it is.
pub const HELLO_MS_MAX: u32 = 3_000;
/// Milliseconds between two messages on a SubmitTask stream.
pub const STILL_THERE_MS: u32 = 1_000;
